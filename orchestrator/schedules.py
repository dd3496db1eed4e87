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
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeAlias

import structlog
from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.crash import crash
from chassis.cursors import Cursors
from chassis.ids import digest
from chassis.ports import Away, Inbox, Letters, Log
from chassis.tasks import side_by_side
from chassis.together import Together
from contracts.codec import encode
from contracts.errors import Failure
from contracts.messages import Answer, Message, ScheduleLook, StartRun
from contracts.payloads import Inline
from contracts.runs import Cause
from contracts.schedules import (
    FireRefused,
    FireStarted,
    ScheduleEvent,
    ScheduleFired,
    ScheduleMissed,
    ScheduleState,
)
from contracts.subjects import INBOX, dead_letter
from contracts.workflows import OrgSays
from orchestrator.alarms import Alarms, Key
from orchestrator.book import Book, Known
from orchestrator.domain import Domain
from orchestrator.emission import ON_ITS_WAY
from orchestrator.fires import FIRES
from orchestrator.firing import decide, key_of, wanted_body
from orchestrator.timetable import Timetable

log = structlog.get_logger()

PATIENCE: Final = 5
"""How often our code may raise at a look before the look is a dead letter."""
PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
AFTER_POISON: Final = timedelta(minutes=5)
WHILE_FULL: Final = timedelta(seconds=5)
NEAR: Final = timedelta(seconds=60)
"""A planned time that is so near has an alarm."""
AFTER: Final = timedelta(seconds=1)
"""INBOX wakes us so long behind the alarm; it is moved on when the alarm was heard."""
AHEAD: Final = timedelta(seconds=30)
"""For what is not near INBOX wakes us so long before, so that there is an alarm when it comes."""
SPREAD_SECONDS: Final = 20
"""Not all at the same moment: at the full hour there are many."""
AT_ONCE: Final = 256
"""Schedules that are looked at side by side."""


class Sender(Protocol):
    """`chassis.dispatch.Dispatch`, or its like."""

    async def send(self, message: Message) -> Answer: ...


class Input(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What expressions see as `trigger` in a run that the clock started."""

    body: Raw
    headers: dict[str, str]
    query: dict[str, str]
    method: str
    content_type: str
    received_at: str
    planned: str
    """The planned time, as the wall of the schedule's zone shows it: the same whenever the run begins."""
    made_up: bool
    cursor: Raw | None = None
    """Of a run that looks for something: where the one before it has ended."""


Reply: TypeAlias = Callable[[Answer], None]


class _Letter(Struct, frozen=True, kw_only=True):
    """Why somebody should look: it was said, or our own alarm rang."""

    message: ScheduleLook | None = None
    reply: Reply = lambda _answer: None
    mark: int = 0
    """Of an alarm: where the schedule's newest commit lay when it was set."""

    def early_by(self, now: datetime) -> timedelta:
        due = self.message.due if self.message is not None else None
        return max(timedelta(), due - now) if due is not None else timedelta()


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
        cursors: Cursors | None = None,
    ) -> None:
        """`is_full`: whether the log's disk has no room for new runs. `lateness`: told of every fire, in seconds."""
        self._fires, self._domain, self._sender = Book(FIRES, history, clock), domain, sender
        self._inbox, self._dead_letters, self._clock = inbox, dead_letters, clock
        self._is_full, self._lateness, self._cursors = is_full, lateness, cursors
        self._wake_together = Together(self._wake_all, AT_ONCE)
        self._alarms = Alarms(clock, self._ring)
        self._waiting: dict[Key, list[_Letter]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._tasks: asyncio.TaskGroup | None = None
        self._released = False
        self.counts: dict[str, int] = defaultdict(int)

    async def run(self) -> None:
        """Look when an alarm rings, for ever. Without it INBOX wakes us, a moment later."""
        async with asyncio.TaskGroup() as self._tasks:
            await self._alarms.run()

    def look(self, message: ScheduleLook, answer: Reply, tasks: asyncio.TaskGroup) -> None:
        """Look at a schedule; one look of each is under way, and whatever comes meanwhile is another one after it."""
        self._take((message.org, message.run), _Letter(message=message, reply=answer), tasks)

    def _ring(self, key: Key, mark: int) -> None:
        if self._tasks is not None and not self._released:
            self.counts["alarms"] += 1
            self._take(key, _Letter(mark=mark), self._tasks)

    def _take(self, key: Key, letter: _Letter, tasks: asyncio.TaskGroup) -> None:
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(letter)
            return
        self._waiting[key] = [letter]
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
                async with self._room:
                    answer = await self._insist(org, schedule, letters)
                if answer is None:
                    return
                for letter in letters:
                    letter.reply(answer)
        finally:
            del self._waiting[key]

    async def _insist(self, org: str, schedule: str, letters: Sequence[_Letter]) -> Answer | None:
        """Until nothing is away that it needs. None: we are being stopped."""
        stumbles, pause = 0, PAUSE
        only_rang = all(letter.message is None for letter in letters)
        self.counts["looks"] += 1
        while True:
            try:
                if only_rang and not await self._is_ours(org, schedule, letters):
                    return Answer(run=schedule, result="nothing")
                only_rang = False
                changed = await self._go_on(org, schedule, letters)
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

    async def _go_on(self, org: str, schedule: str, letters: Sequence[_Letter]) -> bool:
        """Decide and start until nothing is due; then have us woken. Whether anything was decided."""
        timetable = await self._domain.timetable(org, schedule)
        known = await self._fires.load(org, schedule)
        changed = False
        while True:
            events = await self._following(org, schedule, known, timetable)
            if events is None:
                await self._wake(org, schedule, self._clock.now() + WHILE_FULL)
                return changed
            if not events:
                break
            changed = True
            appended = await self._fires.append(org, schedule, known, events)
            if appended is None:
                self.counts["conflicts"] += 1
                timetable = await self._domain.timetable(org, schedule)
                known = await self._fires.load(org, schedule)
            else:
                self._count(org, schedule, events)
                known = appended
        await self._arm(org, schedule, known, letters)
        return changed

    async def _is_ours(self, org: str, schedule: str, letters: Sequence[_Letter]) -> bool:
        """Whether nobody else has decided since our alarm was set: else it is theirs now."""
        newest = (await self._fires.load(org, schedule)).sequence
        return any(letter.mark == newest for letter in letters)

    async def _following(
        self, org: str, schedule: str, known: Known[ScheduleState], timetable: Timetable
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
        says = await self._domain.says(org)
        cursor = None
        if timetable.intake and self._cursors is not None:
            cursor = await self._cursors.of(org, schedule)
        told: dict[str, ScheduleEvent] = {}

        async def ask(fire: ScheduleFired) -> None:
            answer = await self._sender.send(
                _start_of(org, schedule, fire, _given(fire, timetable, cursor), says)
            )
            if answer.result == "refused":
                error = answer.error or Failure(code="conflict", message="The run was refused.")
                told[fire.run] = FireRefused(planned=fire.planned, run=fire.run, error=error)
            else:
                told[fire.run] = FireStarted(planned=fire.planned, run=fire.run)

        crash("schedule.before_start")
        await side_by_side(ask(fire) for fire in fires)
        crash("schedule.after_start")
        return [told[fire.run] for fire in fires]

    def _count(self, org: str, schedule: str, events: Sequence[ScheduleEvent]) -> None:
        told = log.bind(org=org, schedule=schedule)
        for event in events:
            match event:
                case ScheduleFired():
                    self.counts["made_up" if event.made_up else "fired"] += 1
                    if not event.made_up:
                        self._lateness(event.late_ms / 1000)
                case ScheduleMissed():
                    self.counts["missed"] += event.count
                    self.counts["skipped"] += event.count - event.made_up
                    told.warning("schedule.missed", first=event.first, last=event.last, count=event.count)
                case FireStarted():
                    self.counts["started"] += 1
                case FireRefused():
                    self.counts["refused"] += 1
                    told.warning("schedule.refused", run=event.run, code=event.error.code)
                case _:
                    self.counts["planned"] += 1

    # --- Wake-ups -------------------------------------------------------------------------------------

    async def _arm(
        self, org: str, schedule: str, known: Known[ScheduleState], letters: Sequence[_Letter]
    ) -> None:
        """Have us woken for what comes next. Raises `Away` when somebody decided behind our back: look again then."""
        due = known.state.next
        if due is None:
            self._alarms.drop((org, schedule))
            return
        if not await self._fires.is_newest(org, schedule, known):
            raise Away("another owner has decided meanwhile")
        now = self._clock.now()
        moment = due + AFTER if due - now <= NEAR else due - AHEAD + _spread(schedule)
        # By the server's clock the time had come: what is left of it by ours is counted from there on.
        early = max((letter.early_by(now) for letter in letters), default=timedelta())
        await self._wake(org, schedule, moment + (early + ON_ITS_WAY if early else timedelta()))
        crash("schedule.after_wake")
        if due - now <= NEAR:
            self._alarms.set((org, schedule), due, known.sequence)

    async def _wake(self, org: str, schedule: str, moment: datetime) -> None:
        await self._wake_together.ask((ScheduleLook(org=org, run=schedule, due=moment), moment))

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


def _given(fire: ScheduleFired, timetable: Timetable, cursor: Raw | None) -> Input:
    planned = fire.planned.isoformat()
    return Input(
        body=Raw(wanted_body(timetable.schedule).encode()),
        headers={},
        query={},
        method="POLL" if timetable.intake else "SCHEDULE",
        content_type="application/json",
        received_at=planned,
        planned=planned,
        made_up=fire.made_up,
        cursor=cursor,
    )


def _start_of(org: str, schedule: str, fire: ScheduleFired, given: Input, says: OrgSays) -> StartRun:
    return StartRun(
        org=org,
        run=fire.run,
        plan=fire.plan,
        workflow=fire.workflow,
        version=fire.version,
        receipt=fire.receipt,
        cause=Cause(kind="schedule", id=given.planned),
        input=Inline(value=Raw(encode(given))),
        trigger=schedule,
        org_vars=says.vars,
        org_limit=says.limit,
        dedupe=digest(key_of(fire.planned).encode()),
        actor=f"trigger:{schedule}",
    )


def _spread(schedule: str) -> timedelta:
    return timedelta(seconds=zlib.crc32(schedule.encode()) % SPREAD_SECONDS)
