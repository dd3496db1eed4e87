"""What decisions need from outside: histories, plans and stored values. Fetched before a decision, never during one."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import structlog
from msgspec import structs

from chassis.expressions.jobs import Answer, Answers, Job, Undone, Worker
from chassis.ports import Blobs, Log, Stored
from contracts.cloudevents import seam_in
from contracts.codec import Decoder, Malformed, Unknown, begins_segment, decode_commit, decode_envelope
from contracts.limits import PAGE_BYTES
from contracts.messages import StartRun
from contracts.payloads import Blob, Inline
from contracts.plans import Plan
from contracts.runs import TERMINAL, RunContinued
from contracts.subjects import run as run_subject
from orchestrator.inputs import NotReady
from orchestrator.memory import Known, fold
from orchestrator.past import Past
from orchestrator.published import Published, Workflows
from orchestrator.run import Evaluate, Graph, Run
from orchestrator.segments import restored

T = TypeVar("T")
log = structlog.get_logger()

PLANS_KEPT: Final = 256
VALUES_KEPT: Final = 64
ANSWERS_KEPT: Final = 256
PLAN_TYPE: Final = "application/vnd.automateos.plan+json"
_decode_plan: Final = Decoder[Plan](Plan)


class Archive(Protocol):
    """Where histories lie that have left the log."""

    async def commits(self, org: str, run: str) -> list[bytes]:
        """The stored bytes of every commit, oldest first. Raises `Away` when the archive cannot be asked."""
        ...


class Programs(Protocol):
    """A plan with its expressions compiled."""

    @property
    def graph(self) -> Graph: ...

    def evaluator(
        self, values: Mapping[str, bytes | None], answers: Answers, workflows: Workflows
    ) -> Evaluate:
        """Evaluates with these stored values, these answers to what was evaluated apart, and what is published."""
        ...


class Directory(Protocol):
    """Knows what is published."""

    async def published(self, org: str, workflow: str) -> Published:
        """As it is now. Raises `Away`."""
        ...


class NoWorker:
    """For plans whose expressions are all surely cheap, or that have none."""

    async def answer(self, job: Job) -> Answer:
        return Undone(message="expressions of this cost are not evaluated here")


class UnreadablePlan(Exception):
    """The plan is stored, but this release cannot read or compile it."""


class _Kept(Generic[T]):
    """The entries used last."""

    def __init__(self, room: int) -> None:
        self.entries: OrderedDict[str, T] = OrderedDict()
        self._room = room

    def keep(self, name: str, entry: T, held: Collection[str] = ()) -> None:
        """What is held stays, however little room there is."""
        self.entries[name] = entry
        if len(self.entries) > self._room:
            oldest = next((kept for kept in self.entries if kept not in held and kept != name), None)
            if oldest is not None:
                del self.entries[oldest]

    def get(self, name: str) -> T:
        self.entries.move_to_end(name)
        return self.entries[name]


class Sources:
    """Fetches, and keeps what never changes: plans and values by their hash."""

    def __init__(  # noqa: PLR0913  # Whatever a decision may need, from wherever it comes.
        self,
        *,
        log: Log,
        blobs: Blobs,
        archive: Archive,
        compile_plan: Callable[[Plan], Programs],
        worker: Worker | None = None,
        past: Past | None = None,
        directory: Directory | None = None,
    ) -> None:
        """`past`: asked before a run begins; None where no history leaves the log whole.

        `directory`: None where no workflow is known but a run's own.
        """
        self.blobs = blobs
        self._log = log
        self._archive = archive
        self._compile_plan = compile_plan
        self._past = past
        self._plans: _Kept[Programs | UnreadablePlan | None] = _Kept(PLANS_KEPT)
        self._values: _Kept[bytes | None] = _Kept(VALUES_KEPT)
        self._worker = worker or NoWorker()
        self._answers: _Kept[Answer] = _Kept(ANSWERS_KEPT)
        self._held: dict[str, set[str]] = defaultdict(set)
        self._turns: dict[str, asyncio.Lock] = {}
        """Of whoever gets a plan or a value just now."""
        self._directory = directory
        self._workflows: dict[str, dict[tuple[str, str], Published]] = {}

    async def load(self, org: str, run_id: str, *, whole: bool = False, wished: bool = False) -> Known:
        """The run as its history tells it. `whole`: also what only the archive has.

        `wished`: somebody wants something of a run that exists. Where the log has nothing of it, it has left whole.
        """
        history, seam = await self._from_the_log(org, run_id)
        known = fold(org, run_id, history, seam)
        if not history and (wished or (whole and self._past is not None and self._past.is_past(run_id))):
            return await self._load_gone(org, run_id, known)
        if not known.archived or not (whole or known.run.status not in TERMINAL):
            return known
        first = decode_envelope(history[0].body).version
        earlier = [
            Stored(subject=history[0].subject, sequence=0, body=body)
            for body in await self._archive.commits(org, run_id)
            if decode_envelope(body).version < first
        ]
        return structs.replace(fold(org, run_id, [*earlier, *history]), archive_asked=True)

    async def _from_the_log(self, org: str, run_id: str) -> tuple[list[Stored], Run | None]:
        """The newest segment and the state that it begins with; without one everything that the log has."""
        subject = run_subject(org, run_id)
        last = (await self._log.last([subject])).get(subject)
        if last is None:
            return [], None
        place = last.sequence if begins_segment(last.body) else seam_in(last.headers, self._log.epoch)
        history = await self._log.history(subject, max(0, place - 1))
        seam = await self.restored_at(org, run_id, history[0].body) if history else None
        if place and seam is None:
            # A hint that leads nowhere, or a state that this release cannot read: what is before it is not lost.
            history = await self._log.history(subject)
            seam = await self.restored_at(org, run_id, history[0].body) if history else None
        return history, seam

    async def restored_at(self, org: str, run_id: str, body: bytes) -> Run | None:
        """The state that a commit brings for its segment; None where it brings none, or none that can be read."""
        if not begins_segment(body):
            return None
        try:
            event = decode_commit(body).events[0]
        except (Malformed, Unknown):
            return None
        if not isinstance(event, RunContinued):
            return None
        try:
            state = (
                event.state.value if isinstance(event.state, Inline) else await self.blobs.get(event.state)
            )
        except KeyError:
            return None
        return restored(bytes(state), event, org, run_id)

    async def _load_gone(self, org: str, run_id: str, unknown: Known) -> Known:
        """What the archive has, to be gone on with at the beginning of an empty subject."""
        subject = run_subject(org, run_id)
        bodies = await self._archive.commits(org, run_id)
        known = fold(org, run_id, [Stored(subject=subject, sequence=0, body=body) for body in bodies])
        if not bodies and self._past is not None:
            known = await self._past.remembered(unknown)
        return structs.replace(known, archive_asked=True)

    def known(self, known: Known, start: StartRun, now: datetime) -> Known:
        """What is known of a run that somebody wants started. Raises `NotReady` when the archive must be asked."""
        return known if self._past is None else self._past.known(known, start, now)

    def programs(self, plan: str) -> Programs | None:
        """The compiled plan; None when no such plan is stored. Raises `NotReady` when nobody has looked yet.

        Raises `UnreadablePlan` where its run has to wait for another release.
        """
        if plan not in self._plans.entries:
            raise NotReady(plan=plan)
        found = self._plans.get(plan)
        if isinstance(found, UnreadablePlan):
            raise UnreadablePlan(str(found))
        return found

    def at_hand(self, plan: str) -> Programs | None:
        """The compiled plan, when it was fetched and can be read."""
        found = self._plans.entries.get(plan)
        return None if isinstance(found, UnreadablePlan) else found

    async def fetched_programs(self, plan: str) -> Programs | None:
        """The compiled plan after looking; None also when it cannot be read."""
        if plan not in self._plans.entries:
            await self.fetch(NotReady(plan=plan))
        return self.at_hand(plan)

    @property
    def values(self) -> Mapping[str, bytes | None]:
        """Stored values by hash, as far as they were fetched; None stands for one that is gone or too large."""
        return self._values.entries

    @property
    def answers(self) -> Answers:
        """What evaluations apart gave, by the names of their jobs."""
        return self._answers.entries

    def workflows(self, run: str) -> Workflows:
        """What is published of the workflows that a decision about this run has asked for."""
        return self._workflows.get(run, {})

    async def fetch(self, missing: NotReady, run: str = "") -> None:
        """Get what a decision needed. What was fetched for a run stays until `release`: it may need all of it at once."""
        held = self._held[run] if run else set[str]()
        if missing.past is not None and self._past is not None:
            await self._past.ask(*missing.past)
        if missing.workflow is not None:
            known = self._workflows.get(run, {})
            found = await self._directory.published(*missing.workflow) if self._directory else Published()
            self._workflows[run] = {**known, missing.workflow: found}
        if missing.plan:
            held.add(missing.plan)
            await self._once(missing.plan, self._plans, partial(self._plan, missing.plan))
        for job in missing.jobs:
            held.add(job.name)
            self._answers.keep(job.name, await self._worker.answer(job), self._all_held())
        for blob in sorted(missing.values, key=lambda blob: blob.sha256):
            held.add(blob.sha256)
            await self._once(blob.sha256, self._values, partial(self._value, blob))

    def release(self, run: str) -> None:
        """The run was decided. What is published may be another version the next time."""
        self._workflows.pop(run, None)
        for name in self._held.pop(run, ()):
            answer = self._answers.entries.get(name)
            if isinstance(answer, Undone) and answer.passing:
                del self._answers.entries[name]
        if self._past is not None:
            self._past.release(run)

    async def _once(self, name: str, kept: "_Kept[T]", get: Callable[[], Awaitable[T]]) -> None:
        """Thousands of runs may need one plan at the same moment: one of them gets it for all."""
        turn = self._turns.setdefault(name, asyncio.Lock())
        try:
            async with turn:
                if name not in kept.entries:
                    kept.keep(name, await get(), self._all_held())
        finally:
            if not turn.locked():
                self._turns.pop(name, None)

    def _all_held(self) -> set[str]:
        return set().union(*self._held.values())

    async def _plan(self, plan: str) -> Programs | UnreadablePlan | None:
        try:
            body = await self.blobs.get(Blob(sha256=plan, size=0, content_type=PLAN_TYPE))
        except KeyError:
            return None
        try:
            return self._compile_plan(_decode_plan(body))
        except Exception as error:  # One plan from another release, or a defect of ours, stops no other run.
            log.error("plan.unreadable", plan=plan, exc_info=error)
            return UnreadablePlan(f"Plan {plan} cannot be read: {type(error).__name__}: {error}"[:500])

    async def _value(self, blob: Blob) -> bytes | None:
        try:
            return await self.blobs.get(blob) if blob.size <= PAGE_BYTES else None
        except KeyError:
            return None
