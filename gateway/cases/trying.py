"""Starts test runs: a part of a version, published or not, with pins where something else stands for a node.

A test run is a run like every other, with a plan of its own and marked from its first event. What is not pinned really acts,
which `outline` tells before it does.
"""

from typing import Final

from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.edge.problems import Problem, unavailable
from chassis.ids import receipt as new_receipt
from chassis.ports import Blobs
from chassis.sealing import in_body
from contracts.cases import Case, Given, Outline, Pins, Selection, Trial
from contracts.codec import encode
from contracts.limits import KIB, Marks
from contracts.payloads import Inline, Payload
from contracts.runs import Cause
from gateway.callers import Caller
from gateway.cases import values
from gateway.cases.outcomes import Outcome, outcome_of
from gateway.cases.resealing import Moved, Resealing
from gateway.cases.views import GivenTrigger, StartedTest, StartTest
from gateway.domain import Domain
from gateway.payloads import bytes_of, payload_of
from gateway.rejected import Rejected, absent
from gateway.runs.histories import Histories
from gateway.runs.store import Runs, Wanted, run_named
from gateway.sealing import Sealing, marks_in
from gateway.triggers.redelivery import Recorded, Redelivery
from gateway.workflows.compiling import Compiler, request_of
from gateway.workflows.rules import WORKFLOW

BESIDE_BYTES: Final = 4 * KIB
"""What may stand in a request beside a workflow of any size."""


class Drawn(Struct, frozen=True, kw_only=True):
    """A workflow as somebody drew it, and which version that is; 0: it is not saved."""

    version: int
    definition: bytes


class Planned(Struct, frozen=True, kw_only=True):
    plan: str
    version: int
    outline: Outline


class Wish(Struct, frozen=True, kw_only=True):
    """What a test run shall be."""

    workflow: str
    drawn: Drawn
    selection: Selection
    given: Given


class Trying:
    """Every wish for a test run."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        domain: Domain,
        compiler: Compiler,
        runs: Runs,
        histories: Histories,
        redelivery: Redelivery,
        resealing: Resealing,
        sealing: Sealing,
        blobs: Blobs,
        clock: Clock,
    ) -> None:
        self._domain, self._compiler, self._runs = domain, compiler, runs
        self._histories, self._redelivery, self._resealing = histories, redelivery, resealing
        self._sealing, self._blobs, self._clock = sealing, blobs, clock

    async def outline(self, caller: Caller, workflow_id: str, wanted: StartTest) -> Outline:
        """What the test would do. Nothing runs."""
        earlier = await self._earlier(caller, workflow_id, wanted)
        pins = {} if earlier is None else earlier.pins()
        wish = await self._wish(caller.org, workflow_id, wanted, pins)
        return (await self._planned(caller.org, wish, keep=False)).outline

    async def start(
        self, caller: Caller, workflow_id: str, wanted: StartTest, key: str | None, request: bytes
    ) -> StartedTest:
        """Start the test. The same key starts the same one."""
        earlier = await self._earlier(caller, workflow_id, wanted)
        receipt, source = new_receipt(), f"test:{workflow_id}"
        run = run_named(caller.org, source, receipt, key)
        moved = Moved({})
        if earlier is not None and wanted.from_run is not None:
            moved = await self._resealing.moved(earlier.pins(), caller.org, wanted.from_run, run)
        wish = await self._wish(caller.org, workflow_id, wanted, moved.pins)
        planned = await self._planned(caller.org, wish, keep=True)
        marks = marks_in(wish.drawn.definition)
        given, sealed_as = await self._trigger(caller, wanted, earlier, run, in_body(marks))
        return await self._want(
            caller,
            planned,
            Wanted(
                workflow_id=workflow_id,
                version=planned.version,
                plan=planned.plan,
                source=source,
                cause=Cause(kind="test"),
                input=given,
                mode="test",
                key=key,
                request=await self._sealing.request(caller.org, run, request, marks),
                receipt=receipt,
                sealed_as=sealed_as or moved.key_id,
            ),
        )

    async def start_case(
        self, caller: Caller, workflow_id: str, case: Case, label: str, version: int | None
    ) -> StartedTest:
        """Start what a case says; `label` is what the run remembers of it."""
        given = Given(pins=case.pins, recorded=case.recorded)
        drawn = await self.drawn(caller.org, workflow_id, version)
        wish = Wish(workflow=workflow_id, drawn=drawn, selection=case.selection, given=given)
        planned = await self._planned(caller.org, wish, keep=True)
        receipt, source = new_receipt(), f"test:{workflow_id}"
        run = run_named(caller.org, source, receipt, None)
        brought, sealed_as = await self._sealed(
            caller.org, run, case.trigger, in_body(marks_in(drawn.definition))
        )
        return await self._want(
            caller,
            planned,
            Wanted(
                workflow_id=workflow_id,
                version=planned.version,
                plan=planned.plan,
                source=source,
                cause=Cause(kind="test", id=label),
                input=brought,
                mode="test",
                receipt=receipt,
                sealed_as=sealed_as,
            ),
        )

    async def drawn(self, org: str, workflow_id: str, version: int | None) -> Drawn:
        """A saved version; the newest where none is named."""
        state = await self._domain.load(WORKFLOW, org, workflow_id)
        number = state.latest if version is None else version
        definition = state.definition(number)
        return Drawn(version=number, definition=await bytes_of(definition, self._blobs))

    async def _want(self, caller: Caller, planned: Planned, wanted: Wanted) -> StartedTest:
        started = await self._runs.want(caller, wanted)
        return StartedTest(
            run=started.run, receipt=started.receipt, status=started.status, outline=planned.outline
        )

    async def _wish(self, org: str, workflow_id: str, wanted: StartTest, recorded: Pins) -> Wish:
        if bytes(wanted.definition):
            if not (await self._domain.load(WORKFLOW, org, workflow_id)).exists:
                raise absent("workflow")
            drawn = Drawn(version=0, definition=bytes(wanted.definition))
        else:
            drawn = await self.drawn(org, workflow_id, wanted.version)
        given_input = bytes(wanted.input)
        given = Given(
            pins=await values.pins_of(wanted.pins, self._blobs),
            recorded=recorded,
            input=await payload_of(given_input, self._blobs) if given_input else None,
        )
        return Wish(workflow=workflow_id, drawn=drawn, selection=wanted.selection, given=given)

    async def _planned(self, org: str, wish: Wish, *, keep: bool) -> Planned:
        drawn, body = wish.drawn, encode(wish.given)
        beside: Payload = Inline(value=Raw(body))
        if len(body) > BESIDE_BYTES:
            beside = await self._blobs.put(body)
        trial = Trial(selection=wish.selection, given=beside)
        compiled = await self._compiler.compile(
            request_of(org, wish.workflow, drawn.version, drawn.definition, keep=keep, trial=trial)
        )
        if compiled.plan is not None and compiled.outline is None:
            # It would do all of it, whatever is pinned.
            raise unavailable("The orchestrator is of a release that knows no tests.")
        if compiled.plan is None or compiled.outline is None:
            fits = not any(fault.code.startswith("test.") for fault in compiled.faults)
            code = "invalid_workflow" if fits else "test.unfit"
            raise Problem(code, "The workflow has faults." if fits else "", faults=compiled.faults)
        return Planned(plan=compiled.plan, version=drawn.version, outline=compiled.outline)

    async def _earlier(self, caller: Caller, workflow_id: str, wanted: StartTest) -> Outcome | None:
        if wanted.from_run is None:
            return None
        return await self.recorded(caller, workflow_id, wanted.from_run)

    async def recorded(self, caller: Caller, workflow_id: str, run: str) -> Outcome:
        """What came of a run, for somebody who may read runs."""
        outcome = await self.outcome(caller.org, workflow_id, run)
        _check_scope(caller, "runs:read")
        return outcome

    async def outcome(self, org: str, workflow_id: str, run: str) -> Outcome:
        """What came of a run of the workflow. Raises `Rejected` when there is none."""
        outcome = await outcome_of(self._histories.pages(org, run))
        if outcome.started.workflow != workflow_id:
            raise Rejected("conflict", "The run is one of another workflow.")
        return outcome

    async def _trigger(
        self, caller: Caller, wanted: StartTest, earlier: Outcome | None, run: str, marks: Marks
    ) -> tuple[Payload, str]:
        """What the run is given, and the salt under which values of it are sealed. `marks`: of what somebody wrote."""
        if wanted.trigger is not None:
            return await self._written(caller.org, run, wanted.trigger, marks)
        if wanted.sample is not None:
            sample = wanted.sample
            recorded = await self._redelivery.recorded(caller.org, sample.trigger, sample.receipt)
            _check_scope(caller, "triggers:read")
            return await self._redelivery.resealed(recorded, caller.org, run)
        if earlier is not None and wanted.from_run is not None:
            recorded = Recorded(earlier.started.input, wanted.from_run, earlier.key_id)
            return await self._redelivery.resealed(recorded, caller.org, run)
        # A start node that runs alone has no other input than what starts the run.
        body = wanted.input if bytes(wanted.input) else Raw(b"null")
        given = GivenTrigger(body=body, received_at=self._clock.now().isoformat())
        return await self._written(caller.org, run, given, marks)

    async def _written(self, org: str, run: str, given: GivenTrigger, marks: Marks) -> tuple[Payload, str]:
        document, sealed_as = await self._sealing.sealed(org, run, encode(given), marks)
        return await payload_of(document, self._blobs), sealed_as

    async def _sealed(self, org: str, run: str, given: Payload, marks: Marks) -> tuple[Payload, str]:
        """The same of what was kept."""
        if not marks:
            return given, ""
        document, sealed_as = await self._sealing.sealed(org, run, await bytes_of(given, self._blobs), marks)
        return await payload_of(document, self._blobs), sealed_as


def _check_scope(caller: Caller, scope: str) -> None:
    """Whoever may test may not therefore read what runs and deliveries brought. Raises `Problem`."""
    if not caller.may(scope):
        raise Problem("forbidden", f"This asks for the scope {scope} as well.")
