"""What the letters for one run change in it: facts and decisions, sealed into one commit. No I/O but for `lightened`.

When a decision needs what is not here yet (a plan, a stored value, an expression that is evaluated apart), `NotReady`
says what; nothing was decided then.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, cast

from msgspec import Struct, structs

from chassis.ports import Blobs
from contracts.errors import Failure
from contracts.limits import COMMIT_BYTES, EVENTS_PER_COMMIT, EVENTS_PER_TURN, INLINE_BYTES
from contracts.messages import Message, RetryRun, StartRun, UnparkRun
from contracts.payloads import Inline
from contracts.runs import RunEvent, RunParked
from orchestrator.commits import ENGINE_VERSION, Frame, Sealed, offload, seal
from orchestrator.consider import SYSTEM, Considered, actor_of, cause_of, consider, may_unpark
from orchestrator.inputs import NotReady
from orchestrator.letters import Letter, start_in
from orchestrator.memory import Known
from orchestrator.run import Evaluate, Refusal, Run, accept, evolve
from orchestrator.segments import Bounds, continued, further
from orchestrator.sources import Programs, Sources, UnreadablePlan

NO_PLAN: Final = cast("Evaluate", None)
"""A run whose plan is gone evaluates nothing: it stops."""


class Stumbled(Exception):
    """Our own code raised on a message."""

    def __init__(self, letter: Letter, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.letter = letter


class Verdict(Struct, frozen=True):
    """What came of one letter."""

    changed: bool
    refused: Failure | None = None


class Proposed(Struct, frozen=True, kw_only=True, eq=False):
    """What one cycle wants to append for one run. Without `sealed` there is nothing to append."""

    before: Known
    after: Known
    cause: Message | None = None
    events: Sequence[RunEvent] = ()
    letters: Sequence[Letter] = ()
    verdicts: Sequence[Verdict] = ()
    sealed: Sealed | None = None
    programs: Programs | None = None
    """What was decided by: it may have left the sources when the commit is there."""


class Judge:
    """Decides about letters with what the sources have at hand."""

    def __init__(self, sources: Sources, release: str = ENGINE_VERSION, bounds: Bounds | None = None) -> None:
        """`bounds`: how long a segment of a history may become."""
        self._sources = sources
        self._release = release
        self._bounds = bounds or Bounds()

    def judge(self, known: Known, letters: Sequence[Letter], now: datetime) -> Proposed:
        """As many letters of a run as one commit has room for, in the order in which they came: `Proposed.letters`.

        Raises `NotReady` or `Stumbled`.
        """
        at = _not_before(known, now)
        run, events, verdicts = known.run, list[RunEvent](), list[Verdict]()
        cause: Message | None = None
        for letter in letters:
            if len(events) >= EVENTS_PER_TURN:
                break
            considered = self._consider(known, run, letter, at)
            run = considered.run
            events += considered.events
            verdicts.append(Verdict(changed=bool(considered.events), refused=considered.refused))
            if events and cause is None:
                cause = letter.message
            if len(events) > EVENTS_PER_COMMIT:
                raise Stumbled(letter, OverflowError(f"{len(events)} events are more than a commit may hold"))
        letters = letters[: len(verdicts)]
        if cause is None:
            return Proposed(before=known, after=known, letters=letters, verdicts=verdicts)
        events = [*self._seam(known), *events]
        proposed = Proposed(
            before=known,
            after=structs.replace(known, run=run),
            cause=cause,
            events=events,
            letters=letters,
            verdicts=verdicts,
            programs=self._sources.at_hand(run.plan),
        )
        return _sealed(proposed, at)

    def parked(
        self, known: Known, letters: Sequence[Letter], now: datetime, reason: str, needs: str | None = None
    ) -> Proposed:
        """No code here goes on with the run: its history says so, and the letters are refused.

        A run that has not begun begins parked: its start was accepted, so it must not be lost.
        """
        at = _not_before(known, now)
        events: list[RunEvent] = [RunParked(reason=reason, needs_release=needs)]
        refused = Verdict(changed=False, refused=Failure(code="run.parked", message=reason))
        verdicts = [refused] * len(letters)
        start = start_in(letters) if not known.version else None
        if start is not None:
            place, message = start
            facts = accept(evolve(known.run, events[0], at), None, message, at)
            events += facts if not isinstance(facts, Refusal) else ()
            verdicts[place] = Verdict(changed=True)
        run = known.run
        for event in events:
            run = evolve(run, event, at)
        after = structs.replace(known, run=run, said_so=True)
        cause = start[1] if start is not None else None
        return _sealed(
            Proposed(
                before=known, after=after, cause=cause, events=events, letters=letters, verdicts=verdicts
            ),
            at,
        )

    async def lightened(self, proposed: Proposed, blobs: Blobs) -> Proposed:
        """The same with its large values in the object store."""
        events = await offload(proposed.events, blobs)
        if proposed.sealed is None:
            return proposed
        at = proposed.sealed.commit.time
        run = proposed.before.run
        for event in events:
            run = evolve(run, event, at)
        after = structs.replace(proposed.after, run=run)
        return _sealed(structs.replace(proposed, events=events, after=after), at)

    def _seam(self, known: Known) -> list[RunEvent]:
        """What the commit begins with when the segment is long enough. Only who knows the whole run can say it."""
        if not self._bounds.reached(known.segment) or known.archived:
            return []
        seam = continued(known.run, known.segment.number + 1, known.events)
        return [] if seam is None else [seam]

    def _consider(self, known: Known, run: Run, letter: Letter, at: datetime) -> Considered:
        message = letter.message
        try:
            taken_up = self._take_up(run, message, at)
            considered = self._with_plan(taken_up.run, message, at)
        except NotReady:
            raise
        except Exception as error:
            raise Stumbled(letter, error) from error
        return structs.replace(considered, events=(*taken_up.events, *considered.events))

    def _take_up(self, run: Run, message: Message, at: datetime) -> Considered:
        """A run that was parked for this release goes on, before anything else is said to it."""
        if run.parked is None or not may_unpark(run, self._release):
            return Considered(run=run)
        return self._with_plan(run, UnparkRun(org=message.org, run=message.run, actor=SYSTEM), at)

    def _programs(self, run: Run, message: Message) -> Programs | None:
        """What the run is decided by. Where nothing is decided, it goes without a plan that nobody here can read."""
        plan = message.plan if isinstance(message, StartRun) and not run.plan else run.plan
        try:
            return self._sources.programs(plan) if plan else None
        except UnreadablePlan:
            goes_on = run.phase == "queued" or (run.active and run.parked is None)
            if goes_on or isinstance(message, UnparkRun | RetryRun):
                raise
            return None

    def _with_plan(self, run: Run, message: Message, at: datetime) -> Considered:
        programs = self._programs(run, message)
        if programs is None:
            return consider(run, None, message, at, NO_PLAN)
        sources = self._sources
        evaluate = programs.evaluator(sources.values, sources.answers, sources.workflows(message.run))
        return consider(run, programs.graph, message, at, evaluate)


def too_large(proposed: Proposed) -> bool:
    """Whether some value of the commit belongs into the object store first."""
    if proposed.sealed is None or len(proposed.sealed.body) <= INLINE_BYTES:
        return False
    return len(proposed.sealed.body) > COMMIT_BYTES or any(
        isinstance(value := getattr(event, name), Inline) and len(value.value) > INLINE_BYTES
        for event in proposed.events
        for name in event.__struct_fields__
    )


def _not_before(known: Known, now: datetime) -> datetime:
    """Time never goes back within a history, whatever the machine's clock does."""
    return max(now, known.at) if known.at else now


def _sealed(proposed: Proposed, at: datetime) -> Proposed:
    before, cause = proposed.before, proposed.cause
    start = cause if isinstance(cause, StartRun) else None
    frame = Frame(
        org=before.run.org,
        run=before.run.id,
        version=before.version + 1,
        prev_hash=before.hash,
        time=at,
        actor=actor_of(cause) if cause else SYSTEM,
        causation_id=cause_of(cause) if cause else "parked",
        correlation_id=before.receipt or (start.receipt if start else ""),
        key_id=before.key_id or (start.key_id if start else ""),
    )
    sealed = seal(frame, proposed.events)
    after = structs.replace(
        proposed.after,
        version=frame.version,
        events=before.events + len(proposed.events),
        segment=further(before.segment, proposed.events, len(sealed.body)),
        hash=sealed.hash,
        receipt=frame.correlation_id,
        key_id=frame.key_id,
        trace=before.trace or (cause.trace if cause else ""),
        at=at,
    )
    return structs.replace(proposed, after=after, sealed=sealed)
