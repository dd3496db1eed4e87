"""What a schedule has decided, as its newest commit tells it; and one commit more. What many ask at once is asked together."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ids import commit_id, digest
from chassis.ports import Log, Proposal, Stored
from chassis.together import Together
from contracts.cloudevents import headers_of
from contracts.codec import decode_schedule_commit, encode
from contracts.commits import FIRST_HASH
from contracts.limits import BATCH_COMMITS
from contracts.schedules import ScheduleCommit, ScheduleEvent, ScheduleState
from contracts.subjects import schedule as schedule_subject
from orchestrator.commits import ENGINE_VERSION
from orchestrator.firing import evolve

READ_AT_ONCE: Final = 256


class Known(Struct, frozen=True, kw_only=True):
    """A schedule as its newest commit tells it."""

    state: ScheduleState = ScheduleState()
    sequence: int = 0
    version: int = 0
    hash: str = FIRST_HASH


class Fires:
    """SCHEDULES."""

    def __init__(self, log: Log, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._append_together = Together(log.append, BATCH_COMMITS)
        self._last_together = Together(self._last, READ_AT_ONCE)

    async def load(self, org: str, schedule: str) -> Known:
        """Raises `Away`, or `Unknown` when a newer release has decided."""
        stored = await self._last_together.ask(schedule_subject(org, schedule))
        if stored is None:
            return Known()
        commit = decode_schedule_commit(stored.body)
        return Known(
            state=commit.state, sequence=stored.sequence, version=commit.version, hash=digest(stored.body)
        )

    async def is_newest(self, org: str, schedule: str, known: Known) -> bool:
        stored = await self._last_together.ask(schedule_subject(org, schedule))
        return (stored.sequence if stored is not None else 0) == known.sequence

    async def append(
        self, org: str, schedule: str, known: Known, events: Sequence[ScheduleEvent]
    ) -> Known | None:
        """What is known then; None when another owner was there first. Raises `Away` when nobody knows."""
        state = known.state
        for event in events:
            state = evolve(state, event)
        subject = schedule_subject(org, schedule)
        commit = ScheduleCommit(
            id=commit_id(subject, known.version + 1, known.hash, encode(events)),
            org=org,
            schedule=schedule,
            version=known.version + 1,
            events=tuple(events),
            state=state,
            time=self._clock.now(),
            actor="timer",
            engine_version=ENGINE_VERSION,
            prev_hash=known.hash,
        )
        body = encode(commit)
        crash("schedule.before_append")
        proposal = Proposal(subject, body, known.sequence, headers_of(commit))
        sequence = await self._append_together.ask(proposal)
        crash("schedule.after_append")
        if sequence is None:
            return None
        return Known(state=state, sequence=sequence, version=commit.version, hash=digest(body))

    async def _last(self, subjects: Sequence[str]) -> list[Stored | None]:
        found = await self._log.last(subjects)
        return [found.get(subject) for subject in subjects]
