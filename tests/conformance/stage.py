"""Plays a case with the very functions that the orchestrator's shell calls: compiler, judge, and what expressions read.

Time is a number that the script moves; the object store is a dictionary; nothing runs beside anything else.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, cast

import msgspec
from msgspec import UNSET, Raw, Struct, structs

from chassis.expressions import Answer, Job, Language
from chassis.expressions.apart import answered
from chassis.ids import digest, run_id
from chassis.testing.stores import MemoryLog
from chassis.testing.world import World as SimulatedWorld
from contracts.cases import Given, Pin, Selection
from contracts.causes import behind
from contracts.codec import encode
from contracts.commits import Commit
from contracts.errors import Failure
from contracts.limits import INLINE_BYTES
from contracts.messages import Message, StartRun, Wake
from contracts.nodes import NodeSpec, Port
from contracts.payloads import Blob, Inline, Payload
from contracts.plans import Plan
from contracts.runs import Cause, RunEvent
from contracts.workflows import Fault
from executor.registry import registry
from orchestrator.answers import answer_for
from orchestrator.commits import ENGINE_VERSION
from orchestrator.compiler import compile_workflow, encoded
from orchestrator.evaluation import Compiled
from orchestrator.inputs import NotReady
from orchestrator.judge import Judge, Proposed, too_large
from orchestrator.letters import Envelope, Letter
from orchestrator.memory import Known
from orchestrator.narrowing import narrowed
from orchestrator.published import Published
from orchestrator.run import Graph, Run
from orchestrator.segments import Bounds
from orchestrator.sources import Sources
from tests.conformance import case as told
from tests.conformance.case import Case, Happening
from tests.conformance.sayings import said
from tests.orchestrator.stories import AsRecorded

ORG: Final = "org"
NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
LANGUAGE: Final = Language()


class Turn(Struct, frozen=True, kw_only=True):
    """What followed from one happening."""

    events: Sequence[RunEvent] = []
    refused: str | None = None
    answer: str = ""


class Played(Struct, frozen=True, kw_only=True):
    """A case after its last happening."""

    turns: Sequence[Turn]
    run: Run
    began: datetime
    commits: Sequence[Commit[RunEvent]]
    graph: Graph | None
    values: Mapping[str, bytes]
    answers: Mapping[str, Answer]


class Shelf:
    """An object store that can lose things."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, data: bytes, content_type: str = "application/json") -> Blob:
        self.kept[digest(data)] = data
        return Blob(sha256=digest(data), size=len(data), content_type=content_type)

    async def get(self, blob: Blob) -> bytes:
        return self.kept[blob.sha256]


class Directory:
    """The workflows that a case knows besides its own."""

    def __init__(self, case: Case) -> None:
        self.workflows = AsRecorded()
        for workflow, versions in case.workflows.items():
            plans = {version: digest(f"{workflow}/{version}".encode()) for version in versions}
            self.workflows[ORG, workflow] = Published(exists=True, latest=[0, *versions][-1], plans=plans)

    async def published(self, org: str, workflow: str) -> Published:
        return self.workflows[org, workflow]


class _Nobody:
    async def commits(self, _org: str, _run: str) -> list[bytes]:
        return []

    async def answer(self, job: Job) -> Answer:
        """What is to be evaluated apart is evaluated here: the answer is the same."""
        return answered(job, LANGUAGE)


def compiled(case: Case) -> Plan | list[Fault]:
    """The plan of its workflow, or of the part that is tried out, or the faults."""
    plan = _compiled(bytes(case.workflow), encode(case.node_types))
    if case.trial is None or isinstance(plan, list):
        return plan
    trial = case.trial
    made = narrowed(
        plan,
        Selection(part=trial.part, node=trial.node),
        Given(
            pins={name: _pin(pin) for name, pin in trial.pins.items()},
            recorded={name: _pin(pin) for name, pin in trial.recorded.items()},
            input=None if trial.input is UNSET else Inline(value=trial.input),
        ),
    )
    return made if isinstance(made, list) else made.plan


def _pin(pin: told.CasePin) -> Pin:
    error = None if pin.error is None else Failure(code=pin.error.code, message=pin.error.message)
    return Pin(
        output=Inline(value=pin.output), ports=pin.ports, error=error, skipped=pin.skipped, waited=pin.waited
    )


@cache
def _compiled(workflow: bytes, node_types: bytes) -> Plan | list[Fault]:
    kinds = msgspec.json.decode(node_types, type=list[told.CaseNodeType])
    specs = {**_announced(), **{kind.type: _spec(kind) for kind in kinds}}
    return compile_workflow(workflow, specs, org=ORG, workflow="flow", version=1, language=LANGUAGE)


@cache
def _announced() -> Mapping[str, NodeSpec]:
    return {spec.type: spec for spec in registry().announced}


def _spec(kind: told.CaseNodeType) -> NodeSpec:
    return NodeSpec(
        type=kind.type,
        title=kind.type,
        help="",
        icon="",
        category="",
        repeat=kind.repeat,
        outputs=tuple(Port(name=name, title=name) for name in kind.outputs),
        timeout_s=kind.timeout_s,
        config=kind.config,
    )


def play(case: Case, *, twice: bool = False) -> Played:
    """What the engine makes of a case. `twice`: everything that is said to it is said a second time at once."""
    playing = _Stage(case, twice=twice).played()
    try:
        playing.send(None)
    except StopIteration as done:
        played: Played = done.value
        return played
    raise AssertionError("Something on this stage waited for the world.")


class _Stage:
    def __init__(self, case: Case, *, twice: bool) -> None:
        plan = compiled(case)
        assert isinstance(plan, Plan), plan
        self._case = case
        self._twice = twice
        self._now = self._began = NOON
        self._shelf = Shelf()
        body, self._plan = encoded(plan)
        self._shelf.kept[self._plan] = body
        self._graph = Graph.of(plan)
        self._open_sources()
        self._release: str | None = None
        self._run = run_of(next(each for each in case.script if isinstance(each, told.Delivery)).key)
        self._runs: dict[str, Known] = {}
        self._commits: list[Commit[RunEvent]] = []

    def _open_sources(self) -> None:
        """Nothing is at hand yet; what is needed is fetched from the store."""
        nobody = _Nobody()
        self._sources = Sources(
            log=MemoryLog(SimulatedWorld(1)),
            blobs=self._shelf,
            archive=nobody,
            compile_plan=lambda plan: Compiled(plan, LANGUAGE),
            worker=nobody,
            directory=Directory(self._case),
        )

    async def played(self) -> Played:
        turns = [await self._turn(happening) for happening in self._case.script]
        return Played(
            turns=turns,
            run=self._state,
            began=self._began,
            commits=self._commits,
            graph=self._graph if self._plan in self._shelf.kept else None,
            values=self._shelf.kept,
            answers=dict(self._sources.answers),
        )

    async def _turn(self, happening: Happening) -> Turn:
        match happening:
            case told.Time():
                return await self._pass_time(happening)
            case told.Parking(reason=reason, needs_release=needs):
                return Turn(events=await self._park(reason, needs))
            case told.Delivery(stumbles=reason) if reason:
                return Turn(events=await self._park(reason, None, self._start(happening)))
            case told.Delivery():
                return await self._say(self._start(happening))
            case told.Upgrade(release=release):
                self._release = release
            case told.Loss(of=lost):
                self._lose(lost)
            case _:
                return await self._say(said(happening, self._state, self._kept))
        return Turn()

    # --- What is said -------------------------------------------------------------------------

    async def _say(self, message: Message) -> Turn:
        first = await self._hear(message)
        if not self._twice:
            return first
        again = await self._hear(message)
        return structs.replace(first, events=[*first.events, *again.events])

    async def _hear(self, message: Message) -> Turn:
        known = self._known(message.run)
        letter = Letter(message, cast("Envelope", None), 0)  # Nobody awaits an answer by wire.
        proposed = await self._decided(lambda: self._judge.judge(known, [letter], self._now), message.run)
        after = await self._committed(proposed)
        [verdict] = proposed.verdicts
        answer = answer_for(letter, after, 1, changed=verdict.changed, refused=verdict.refused)
        return Turn(
            events=list(proposed.events),
            refused=verdict.refused.code if verdict.refused else None,
            answer=answer.result,
        )

    @property
    def _judge(self) -> Judge:
        bounds = Bounds(events=self._case.segment)
        return Judge(self._sources, self._release or ENGINE_VERSION, bounds)

    async def _decided(self, judge: Callable[[], Proposed], run: str) -> Proposed:
        """Fetch what a decision needs until it has everything, as the shell does; then large values are put away."""
        while True:
            try:
                proposed = judge()
                break
            except NotReady as missing:
                await self._sources.fetch(missing, run)
        self._sources.release(run)
        return await self._judge.lightened(proposed, self._shelf) if too_large(proposed) else proposed

    def _known(self, run: str) -> Known:
        return self._runs.get(run) or Known(run=Run.new(ORG, run))

    @property
    def _state(self) -> Run:
        return self._known(self._run).run

    async def _committed(self, proposed: Proposed) -> Known:
        run = proposed.after.run.id
        after = structs.replace(proposed.after, sequence=proposed.after.version)
        self._runs[run] = after
        if proposed.sealed is not None and run == self._run:
            self._commits.append(proposed.sealed.commit)
        return after

    async def _park(
        self, reason: str, needs: str | None, start: StartRun | None = None
    ) -> Sequence[RunEvent]:
        known = self._known(self._run)
        letters = [Letter(start, cast("Envelope", None), 0)] if start else []
        proposed = await self._decided(
            lambda: self._judge.parked(known, letters, self._now, reason, needs), self._run
        )
        await self._committed(structs.replace(proposed, after=structs.replace(proposed.after, said_so=False)))
        return proposed.events

    def _lose(self, what: str) -> None:
        lost = [name for name in self._shelf.kept if (name == self._plan) == (what == "plan")]
        for name in lost:
            del self._shelf.kept[name]
        self._open_sources()

    # --- Time ---------------------------------------------------------------------------------

    async def _pass_time(self, time: told.Time) -> Turn:
        """The run is woken at the moment of each wait, once, in the order of the moments."""
        until, events, woken = self._now + timedelta(seconds=time.seconds), list[RunEvent](), set[str]()
        while not time.wakes_are_lost:
            waits = self._state.waits.values()
            due = [(at, wait.wait) for wait in waits if (at := wait.due) is not None and at <= until]
            due = [each for each in due if each[1] not in woken]
            if not due:
                break
            at, wait = min(due)
            woken.add(wait)
            self._now = max(self._now, at)
            turn = await self._say(Wake(org=ORG, run=self._run, wait=wait))
            events += turn.events
        self._now = until
        return Turn(events=events)

    # --- Deliveries and values --------------------------------------------------------------------

    def _start(self, delivery: told.Delivery) -> StartRun:
        run = run_of(delivery.key)
        if run == self._run and run not in self._runs:
            self._began = self._now
        trigger = b'{"body":%b,"headers":{},"query":{},"method":"POST"}' % bytes(self._case.input)
        return StartRun(
            org=ORG,
            run=run,
            plan=self._plan,
            workflow="flow",
            version=1,
            receipt=delivery.receipt,
            trigger="trigger-1",
            cause=self._cause(),
            input=Inline(value=Raw(trigger)),
            org_vars=self._case.org_vars,
            org_limit=self._case.org_limit,
            mode="live" if self._case.trial is None else "test",
        )

    def _cause(self) -> Cause:
        cause = Cause(kind="webhook", id="trigger-1")
        for number, workflow in enumerate(self._case.came_by):
            cause = behind(cause, "run", f"run-{number}", workflow)
        return cause

    def _kept(self, output: bytes) -> Payload:
        """As whoever brings a value does it: a large one lies in the store before anybody hears of it."""
        if len(output) <= INLINE_BYTES:
            return Inline(value=Raw(output))
        self._shelf.kept[digest(output)] = output
        return Blob(sha256=digest(output), size=len(output))


def run_of(key: str) -> str:
    """The run that a delivery with this dedupe key is about."""
    return run_id(ORG, "trigger-1", f"key:{key}")
