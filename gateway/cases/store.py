"""The cases of workflows: kept in the workflow's own history, run on the installation, and judged."""

from collections.abc import Mapping
from typing import Final, get_args

import msgspec

from chassis.edge.problems import Complaint, Problem
from chassis.expressions import Language
from chassis.ports import Blobs
from contracts.cases import Case, CaseName, Ending, Expected, Selection
from contracts.codec import Decoder, encode
from contracts.payloads import Payload
from contracts.subjects import DOMAIN
from gateway.callers import Caller
from gateway.cases import values
from gateway.cases.judging import Judging, check_conditions
from gateway.cases.outcomes import Outcome
from gateway.cases.trying import Trying
from gateway.cases.views import (
    CaseList,
    CaseSummary,
    CaseView,
    GivenTrigger,
    KeepCase,
    KeptCase,
    RecordCase,
    StartedTest,
    Verdict,
)
from gateway.domain import Domain, cause_of
from gateway.payloads import bytes_of, payload_of
from gateway.places import Places
from gateway.rejected import Rejected
from gateway.workflows import rules
from gateway.workflows.rules import WORKFLOW, WorkflowState

_case: Final = Decoder[Case](Case)
_ENDINGS: Final[Mapping[str, Ending]] = {ending: ending for ending in get_args(Ending)}


class Cases:
    """Every change of a case, and every look at one. They are read from the log itself."""

    def __init__(  # The composition root names every part once.
        self, *, domain: Domain, trying: Trying, places: Places, blobs: Blobs, language: Language
    ) -> None:
        self._domain, self._trying, self._places = domain, trying, places
        self._blobs, self._language = blobs, language

    async def list(self, org: str, workflow_id: str) -> CaseList:
        state = await self._existing(org, workflow_id)
        return CaseList(
            items=[
                CaseSummary(name=name, revision=kept.revision, from_run=kept.run)
                for name, kept in sorted(state.cases.items())
            ]
        )

    async def get(self, org: str, workflow_id: str, name: str) -> CaseView:
        kept, case = await self._load(org, workflow_id, name)
        return CaseView(
            workflow=workflow_id,
            name=name,
            revision=kept.revision,
            from_run=kept.run,
            trigger=values.shown(case.trigger),
            selection=case.selection,
            pins=values.shown_pins(case.pins),
            recorded=values.shown_pins(case.recorded),
            expected=values.shown_expected(case.expected),
        )

    async def keep(self, caller: Caller, workflow_id: str, name: str, wanted: KeepCase) -> KeptCase:
        """Keep a case as it is written; of one that there is, what is not named stays."""
        _check_name(name)
        state = await self._existing(caller.org, workflow_id)
        before, run = Case(trigger=await values.trigger_of(GivenTrigger(), self._blobs)), None
        if name in state.cases:
            kept = state.cases[name]
            before, run = _case(await bytes_of(kept.case, self._blobs)), kept.run
        expected = before.expected
        if wanted.expected is not None:
            expected = await values.expected_of(wanted.expected, self._blobs)
        case = Case(
            trigger=before.trigger
            if wanted.trigger is None
            else await values.trigger_of(wanted.trigger, self._blobs),
            selection=before.selection if wanted.selection is None else wanted.selection,
            pins=before.pins if wanted.pins is None else await values.pins_of(wanted.pins, self._blobs),
            recorded=before.recorded,
            expected=expected,
        )
        return await self._keep(caller, workflow_id, name, case, run)

    async def record(self, caller: Caller, workflow_id: str, wanted: RecordCase) -> KeptCase:
        """Make a case of a run that has ended. Nothing sealed is kept, and nothing that says who sealed it."""
        outcome = await self._trying.recorded(caller, workflow_id, wanted.from_run)
        if not outcome.ended:
            raise Rejected("conflict", "The run has not ended, so nobody knows what to expect.")
        case = Case(
            trigger=await values.unsealed_trigger(outcome.started.input, self._blobs),
            selection=wanted.selection,
            recorded=await values.unsealed_pins(outcome.pins(), self._blobs),
            expected=await self._came(outcome, wanted),
        )
        return await self._keep(caller, workflow_id, wanted.name, case, wanted.from_run)

    async def remove(self, caller: Caller, workflow_id: str, name: str) -> None:
        await self._change(caller, workflow_id, rules.RemoveCase(name=name))

    async def start(self, caller: Caller, workflow_id: str, name: str, version: int | None) -> StartedTest:
        kept, case = await self._load(caller.org, workflow_id, name)
        named = f"{name}@{kept.revision}"
        return await self._trying.start_case(caller, workflow_id, case, named, version)

    async def verdict(self, org: str, workflow_id: str, name: str, run: str) -> Verdict:
        """What came of a run of the case, as it was kept when the run began."""
        kept, case = await self._load(org, workflow_id, name)
        outcome = await self._trying.outcome(org, workflow_id, run)
        started = outcome.started
        if started.mode != "test" or started.cause.id.rpartition("@")[0] != name:
            raise Rejected("conflict", "The run is none of this case.")
        if started.cause.id != f"{name}@{kept.revision}":
            raise Rejected("conflict", "The case was changed after the run began: run it again.")
        judging = Judging(outcome, self._language, self._blobs)
        differences = (
            tuple([each async for each in judging.differences(case.expected)]) if outcome.ended else ()
        )
        return Verdict(
            workflow=workflow_id,
            case=name,
            revision=kept.revision,
            run=run,
            version=started.version,
            state="running" if not outcome.ended else "failed" if differences else "passed",
            status=outcome.status,
            took_s=(outcome.last - outcome.began).total_seconds(),
            differences=differences,
        )

    async def _came(self, outcome: Outcome, wanted: RecordCase) -> Expected:
        """What came of the run is what is expected: its end, and what was decided in it. What acted is pinned anyway."""
        whole, tested = wanted.selection == Selection(), wanted.selection.node
        done = {name: step for name, step in outcome.steps.items() if step.status == "succeeded"}
        steps = {
            name: step.output
            for name, step in done.items()
            if name == tested or (whole and step.sent is None and not step.waited)
        }
        sent = {name: step.sent for name, step in outcome.steps.items() if whole and step.sent is not None}
        return Expected(
            status=_ENDINGS.get(outcome.status, "completed") if whole else "completed",
            output=await values.unsealed(outcome.output, self._blobs)
            if whole and outcome.status == "completed"
            else None,
            steps=await self._lasting(steps, wanted.from_run),
            sent=await self._lasting(sent, wanted.from_run),
            conditions=wanted.conditions,
        )

    async def _lasting(self, found: Mapping[str, Payload], run: str) -> dict[str, Payload]:
        """Without what is sealed, and without values that name the run: those are others in each run."""
        kept = {name: await values.unsealed(value, self._blobs) for name, value in found.items()}
        return {
            name: value for name, value in kept.items() if not await values.names(value, run, self._blobs)
        }

    async def _existing(self, org: str, workflow_id: str) -> WorkflowState:
        state = await self._domain.load(WORKFLOW, org, workflow_id)
        if not state.exists:
            raise Rejected("not_found", "There is no such workflow.")
        return state

    async def _load(self, org: str, workflow_id: str, name: str) -> tuple[rules.KeptCase, Case]:
        state = await self._domain.load(WORKFLOW, org, workflow_id)
        kept = state.case(name)
        return kept, _case(await bytes_of(kept.case, self._blobs))

    async def _keep(
        self, caller: Caller, workflow_id: str, name: str, case: Case, run: str | None
    ) -> KeptCase:
        check_conditions(case.expected.conditions, self._language)
        body = await payload_of(encode(values.checked_size(case)), self._blobs)
        state = await self._change(caller, workflow_id, rules.KeepCase(name=name, case=body, run=run))
        return KeptCase(workflow=workflow_id, name=name, revision=state.cases[name].revision)

    async def _change(self, caller: Caller, workflow_id: str, command: rules.Command) -> WorkflowState:
        changed = await self._domain.change(
            WORKFLOW, workflow_id, lambda state: rules.decide(state, command), cause_of(caller)
        )
        self._places.wrote(caller.org, DOMAIN, changed.place)
        return changed.state


def _check_name(name: str) -> None:
    try:
        msgspec.convert(name, CaseName)
    except msgspec.ValidationError:
        message = "A case's name has 1 to 64 lower-case letters, digits, dashes and underscores."
        raise Problem("malformed", errors=[Complaint(pointer="case_name", message=message)]) from None
