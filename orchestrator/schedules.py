"""The shell around schedules: look, load, decide, append, start the runs, have us woken for what comes next.

Rules that hold here:
  * a look says when to look, the log says what to do: looks may come twice, late, early, or from anybody;
  * first the decision is in SCHEDULES, then its runs are asked for; whoever looks next asks for those that nobody knows
    to have started, and the same planned time gives the same run;
  * the expected sequence of the append is the fence against another owner;
  * a look is answered when the next wake-up is on disk, so that the chain goes on whoever dies: INBOX brings an unanswered
    look to the next owner, and the sweeper has any schedule looked at that is overdue;
  * nothing that befalls one schedule keeps another waiting, and nothing that befalls one fire the fire after it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog
from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ids import commit_id, digest
from chassis.ports import Away, Inbox, Letters, Log, Proposal, Stored
from chassis.tasks import side_by_side
from chassis.together import Together
from contracts.cloudevents import headers_of
from contracts.codec import decode_schedule_commit, encode
from contracts.commits import FIRST_HASH
from contracts.errors import Failure
from contracts.limits import BATCH_COMMITS
from contracts.messages import Answer, Message, ScheduleLook, StartRun
from contracts.payloads import Inline
from contracts.runs import Cause
from contracts.schedules import (
    FireRefused,
    FireStarted,
    ScheduleCommit,
    ScheduleEvent,
    ScheduleFired,
    ScheduleMissed,
    ScheduleState,
)
from contracts.subjects import INBOX, dead_letter
from contracts.subjects import schedule as schedule_subject
from orchestrator.commits import ENGINE_VERSION
from orchestrator.domain import Domain
from orchestrator.emission import ON_ITS_WAY
from orchestrator.firing import decide, evolve, key_of, wanted_body
from orchestrator.timetable import Timetable

log = structlog.get_logger()

PATIENCE: Final = 5
"""How often our code may raise at a look before the look is a dead letter."""
PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
AFTER_POISON: Final = timedelta(minutes=5)
WHILE_FULL: Final = timedelta(seconds=5)
AT_ONCE: Final = 256
"""Schedules that are looked at side by side."""


class Sender(Protocol):
    """`chassis.dispatch.Dispatch`, or its like."""

    async def send(self, message: Message) -> Answer: ...


class Input(Struct, frozen=True, kw_only=True):
    """What expressions see as `trigger` in a run that the clock started."""

    body: Raw
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    method: str = "SCHEDULE"
    content_type: str = "application/json"
    received_at: str
    planned: str
    """The planned time, as the wall of the schedule's zone shows it: the same whenever the run begins."""
    made_up: bool


class Known(Struct, frozen=True, kw_only=True):
    """A schedule as its newest commit tells it."""

    state: ScheduleState = ScheduleState()
    sequence: int = 0
    version: int = 0
    hash: str = FIRST_HASH


Reply = Callable[[Answer], None]


class Schedules:
    """Looks at the schedules of the partitions that this process owns."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        history: Log,
        domain: Domain,
        sender: Sender,
        inbox: Inbox,
        dead_letters: Letters,
        clock: Clock,
        is_full: Callable[[], bool],
        lateness: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """`is_full`: whether the log's disk has no room for new runs. `lateness`: told of every fire, in seconds."""
        self._log, self._domain, self._sender = history, domain, sender
        self._inbox, self._dead_letters, self._clock = inbox, dead_letters, clock
        self._is_full, self._lateness = is_full, lateness
        self._append_together = Together(self._log.append, BATCH_COMMITS)
        self._last_together = Together(self._last, AT_ONCE)
        self._wake_together = Together(self._wake_all, AT_ONCE)
        self._waiting: dict[tuple[str, str], list[tuple[ScheduleLook, Reply]]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._released = False
        self.counts: dict[str, int] = defaultdict(int)

    def look(self, message: ScheduleLook, answer: Reply, tasks: asyncio.TaskGroup) -> None:
        """Look at a schedule; one look of each is under way, and whatever comes meanwhile is another one after it."""
        key = message.org, message.run
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append((message, answer))
            return
        self._waiting[key] = [(message, answer)]
        tasks.create_task(self._attend(*key))

    def release(self) -> None:
        """Try nothing again from now on: what is unanswered comes to the next owner."""
        self._released = True

    # --- One look ---------------------------------------------------------------------------------

    async def _attend(self, org: str, schedule: str) -> None:
        key = org, schedule
        try:
            while letters := self._waiting[key]:
                self._waiting[key] = []
                woken = [message for message, _ in letters if message.due is not None]
                async with self._room:
                    answer = await self._insist(org, schedule, woken)
                if answer is None:
                    return
                for _, reply in letters:
                    reply(answer)
        finally:
            del self._waiting[key]

    async def _insist(self, org: str, schedule: str, woken: Sequence[ScheduleLook]) -> Answer | None:
        """Until nothing is away that it needs. None: we are being stopped."""
        stumbles, pause = 0, PAUSE
        self.counts["looks"] += 1
        while True:
            try:
                changed = await self._go_on(org, schedule, woken)
                return Answer(run=schedule, result="accepted" if changed else "nothing")
            except Away as away:
                log.warning("schedule.waits", org=org, schedule=schedule, reason=str(away))
            except Exception as error:  # One schedule that nobody can handle stops no other one.
                stumbles += 1
                self.counts["stumbled"] += 1
                log.error("schedule.stumbled", org=org, schedule=schedule, times=stumbles, exc_info=error)
                if stumbles >= PATIENCE:
                    return await self._bury(org, schedule, f"{type(error).__name__}: {error}")
            if self._released:
                return None
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _go_on(self, org: str, schedule: str, woken: Sequence[ScheduleLook]) -> bool:
        """Decide and start until nothing is due; then have us woken. Whether anything was decided."""
        timetable = await self._domain.timetable(org, schedule)
        known = await self._load(org, schedule)
        changed = False
        while True:
            events = await self._following(org, schedule, known, timetable)
            if events is None:
                await self._wake(org, schedule, self._clock.now() + WHILE_FULL)
                return changed
            if not events:
                break
            changed = True
            appended = await self._append(org, schedule, known, events)
            if appended is None:
                self.counts["conflicts"] += 1
                timetable = await self._domain.timetable(org, schedule)
                known = await self._load(org, schedule)
            else:
                known = appended
        await self._arm(org, schedule, known, woken)
        return changed

    async def _following(
        self, org: str, schedule: str, known: Known, timetable: Timetable
    ) -> Sequence[ScheduleEvent] | None:
        """What is to be recorded next. None: no run may start now, because the log's disk is nearly full."""
        if known.state.pending:
            return await self._start(org, schedule, known.state.pending, timetable)
        events = decide(org, schedule, known.state, timetable, self._clock.now())
        if self._is_full() and any(isinstance(event, ScheduleFired) for event in events):
            log.warning("schedule.held", org=org, schedule=schedule, reason="the log's disk is nearly full")
            self.counts["held"] += 1
            return None
        return events

    # --- Starting runs ------------------------------------------------------------------------------

    async def _start(
        self, org: str, schedule: str, fires: Sequence[ScheduleFired], timetable: Timetable
    ) -> list[ScheduleEvent]:
        """Ask for the runs; what became of each wish. Safe to repeat: the ids follow from the planned times."""
        org_vars = await self._domain.vars_of(org)
        told: dict[str, ScheduleEvent] = {}

        async def ask(fire: ScheduleFired) -> None:
            answer = await self._sender.send(_start_of(org, schedule, fire, timetable, org_vars))
            if answer.result == "refused":
                error = answer.error or Failure(code="conflict", message="The run was refused.")
                told[fire.run] = FireRefused(planned=fire.planned, run=fire.run, error=error)
            else:
                told[fire.run] = FireStarted(planned=fire.planned, run=fire.run)

        crash("schedule.before_start")
        await side_by_side(ask(fire) for fire in fires)
        crash("schedule.after_start")
        return [told[fire.run] for fire in fires]

    # --- The log --------------------------------------------------------------------------------------

    async def _load(self, org: str, schedule: str) -> Known:
        stored = await self._last_together.ask(schedule_subject(org, schedule))
        if stored is None:
            return Known()
        commit = decode_schedule_commit(stored.body)
        return Known(
            state=commit.state, sequence=stored.sequence, version=commit.version, hash=digest(stored.body)
        )

    async def _last(self, subjects: Sequence[str]) -> list[Stored | None]:
        found = await self._log.last(subjects)
        return [found.get(subject) for subject in subjects]

    async def _append(
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
        self._count(events)
        return Known(state=state, sequence=sequence, version=commit.version, hash=digest(body))

    def _count(self, events: Sequence[ScheduleEvent]) -> None:
        for event in events:
            match event:
                case ScheduleFired():
                    self.counts["made_up" if event.made_up else "fired"] += 1
                    if not event.made_up:
                        self._lateness(event.late_ms / 1000)
                case ScheduleMissed():
                    self.counts["missed"] += event.count
                    self.counts["skipped"] += event.count - event.made_up
                    log.warning("schedule.missed", first=event.first, last=event.last, count=event.count)
                case FireStarted():
                    self.counts["started"] += 1
                case FireRefused():
                    self.counts["refused"] += 1
                    log.warning("schedule.refused", run=event.run, code=event.error.code)
                case _:
                    self.counts["planned"] += 1

    # --- Wake-ups -------------------------------------------------------------------------------------

    async def _arm(self, org: str, schedule: str, known: Known, woken: Sequence[ScheduleLook]) -> None:
        """Have us woken for what comes next. Raises `Away` when somebody decided behind our back: look again then."""
        due = known.state.next
        if due is None:
            return
        last = await self._last_together.ask(schedule_subject(org, schedule))
        if (last.sequence if last is not None else 0) != known.sequence:
            raise Away("another owner has decided meanwhile")
        # By the server's clock the time had come: what is left by ours is counted from there on.
        early = any(message.due == due for message in woken)
        left = max(timedelta(), due - self._clock.now()) + ON_ITS_WAY if early else timedelta()
        await self._wake(org, schedule, due + left, due)
        crash("schedule.after_wake")

    async def _wake(self, org: str, schedule: str, moment: datetime, due: datetime | None = None) -> None:
        await self._wake_together.ask((ScheduleLook(org=org, run=schedule, due=due), moment))

    async def _wake_all(self, wakes: Sequence[tuple[ScheduleLook, datetime]]) -> Sequence[None]:
        await self._inbox.wake_at(wakes)
        return [None] * len(wakes)

    async def _bury(self, org: str, schedule: str, reason: str) -> Answer:
        """Nobody here can handle it now. It is looked at again later: the chain is never given up."""
        message = ScheduleLook(org=org, run=schedule)
        subject = dead_letter(INBOX, org, schedule)
        while True:
            try:
                await self._dead_letters.store(subject, encode(message), {"reason": reason[:500]})
                await self._wake(org, schedule, self._clock.now() + AFTER_POISON)
            except Away as away:
                log.warning("schedule.not-buried", schedule=schedule, reason=str(away))
                await asyncio.sleep(PAUSE)
            else:
                error = Failure(code="poison", message=reason[:500])
                return Answer(run=schedule, result="refused", error=error)


def _start_of(
    org: str, schedule: str, fire: ScheduleFired, timetable: Timetable, org_vars: dict[str, Any]
) -> StartRun:
    planned = fire.planned.isoformat()
    given = Input(
        body=Raw(wanted_body(timetable.schedule).encode()),
        received_at=planned,
        planned=planned,
        made_up=fire.made_up,
    )
    return StartRun(
        org=org,
        run=fire.run,
        plan=fire.plan,
        workflow=fire.workflow,
        version=fire.version,
        receipt=fire.receipt,
        cause=Cause(kind="schedule", id=planned),
        input=Inline(value=Raw(encode(given))),
        trigger=schedule,
        org_vars=org_vars,
        dedupe=digest(key_of(fire.planned).encode()),
        actor=f"trigger:{schedule}",
    )
