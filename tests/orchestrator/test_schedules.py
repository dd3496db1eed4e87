"""What the shell around schedules promises: a planned time starts one run, whoever dies and whatever is away."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
import structlog
from msgspec import Raw
from structlog.testing import capture_logs

from chassis.cursors import Cursors
from chassis.dispatch import Dispatch
from chassis.ids import digest
from chassis.ports import Away, Proposal
from chassis.telemetry import Metrics
from chassis.testing.examples import domain_commit
from chassis.testing.stores import MemoryLog
from chassis.testing.world import START as BEGIN
from contracts.codec import decode_answers, decode_commit, decode_schedule_commit, encode, encode_bundle
from contracts.errors import Failure
from contracts.gates import OrgLimit
from contracts.messages import Answer, Message, ScheduleLook, StartRun
from contracts.occasions import Cursor
from contracts.runs import RunStarted
from contracts.schedules import (
    Cron,
    FirePlanned,
    FireRefused,
    Schedule,
    ScheduleEvent,
    ScheduleFired,
    ScheduleMissed,
)
from contracts.subjects import call, cursor, domain, partition
from contracts.subjects import schedule as schedule_subject
from contracts.triggers import Poll, PollCreated, ScheduleCreated, TriggerBound, TriggerDisabled
from contracts.workflows import OrgLimitsSet, OrgVarsSet
from orchestrator.__main__ import show_schedules
from orchestrator.domain import Domain
from orchestrator.schedules import PATIENCE, Schedules
from orchestrator.service import Orchestrator
from orchestrator.sources import Sources
from tests.orchestrator.rooms import Room
from tests.orchestrator.stories import drawn

EVERY_TEN = Schedule(when=Cron(expression="*/10 * * * * *"), body='{"n":7}')
LOOK = ScheduleLook(org="org", run="s1")


class Clockwork(Room):
    """An orchestrator that keeps schedules, with everything behind it in memory."""

    schedules: Schedules

    def __init__(self) -> None:
        super().__init__(drawn("a"))
        self.domain, self.fires = MemoryLog(self.world), MemoryLog(self.world)
        self.marks = MemoryLog(self.world)
        self.refuses: Failure | None = None
        self.away = 0
        self.full = False
        self.raises = 0
        self.trigger(ScheduleCreated(name="s", workflow="flow", schedule=EVERY_TEN))
        self.trigger(TriggerBound(version=3, plan=self.start.plan))
        self.commit("org", "org", OrgVarsSet(vars={"region": "eu"}))
        self.commit("org", "org", OrgLimitsSet(limits={"all-runs": OrgLimit(at_once=2)}))

    def trigger(self, *events: Any) -> None:
        self.commit("trigger", "s1", *events)

    def commit(self, aggregate: str, id_: str, *events: Any) -> None:
        subject = domain("org", aggregate, id_)
        commit = domain_commit(
            aggregate,
            id_,
            *events,
            org="org",
            version=len(self.domain.subjects().get(subject, ())) + 1,
            time=BEGIN + timedelta(seconds=self.world.loop.time()),
            actor="key:1",
        )
        self.domain.put(subject, encode(commit))

    async def send(self, message: Message) -> Answer:
        """The sender that schedules have: refuses or is away when the story says so."""
        if self.raises:
            self.raises -= 1
            raise RuntimeError("a defect of ours")
        if self.away:
            self.away -= 1
            raise Away("nobody takes it")
        if self.refuses is not None and isinstance(message, StartRun):
            return Answer(run=message.run, result="refused", error=self.refuses)
        return await self.dispatch.send(message)

    def shell(self, sources: Sources, **more: Any) -> Orchestrator:
        return super().shell(sources, schedules=self.schedules, **more)

    async def orchestrator(self) -> None:
        self.dispatch = Dispatch(self.signals, self.inbox)
        self.schedules = Schedules(
            history=self.fires,
            domain=Domain(self.domain),
            sender=self,
            inbox=self.inbox,
            dead_letters=self.dead,
            clock=self.clock,
            is_full=lambda: self.full,
            cursors=Cursors(self.marks),
        )
        async with asyncio.TaskGroup() as beside:
            beside.create_task(self.dispatch.run())
            beside.create_task(self.schedules.run())
            beside.create_task(super().orchestrator())

    async def look(self) -> Answer:
        body = encode_bundle([encode(LOOK)])
        return decode_answers(await self.signals.request(call(partition("s1")), body, 30))[0]

    @property
    def told(self) -> list[ScheduleEvent]:
        stored = self.fires.subjects().get(schedule_subject("org", "s1"), ())
        return [event for each in stored for event in decode_schedule_commit(each.body).events]

    @property
    def planned(self) -> list[int]:
        """The planned times that were fired, in seconds since the story began."""
        fires = [event for event in self.told if isinstance(event, ScheduleFired)]
        return [round((fire.planned - BEGIN).total_seconds()) for fire in fires]

    @property
    def started(self) -> list[RunStarted]:
        firsts = [decode_commit(stored[0].body).events[0] for stored in self.log.subjects().values()]
        return [first for first in firsts if isinstance(first, RunStarted)]


def room(story: Callable[[Clockwork], Coroutine[Any, Any, None]]) -> None:
    Clockwork().play(story)


def test_one_look_sets_a_chain_going_that_needs_no_other() -> None:
    @room
    async def story(room: Clockwork) -> None:
        assert (await room.look()).result == "accepted"
        await asyncio.sleep(35)
        assert room.planned == [10, 20, 30]
        assert len(room.started) == 3


def test_a_run_gets_the_body_the_planned_time_and_the_variables_of_the_org() -> None:
    @room
    async def story(room: Clockwork) -> None:
        await room.look()
        await asyncio.sleep(10)
        [started] = room.started
        assert b'"body":{"n":7}' in bytes(started.input.value)  # type: ignore[union-attr]  # It is small.
        assert b'"planned":"2026-' in bytes(started.input.value)  # type: ignore[union-attr]
        assert (started.trigger, started.version, started.cause.kind) == ("s1", 3, "schedule")
        assert started.org_vars == {"region": "eu"}
        assert started.org_limit == OrgLimit(at_once=2)
        assert started.dedupe == digest(f"schedule:{started.cause.id}".encode())


def test_a_poll_starts_runs_that_look_from_where_the_cursor_is() -> None:
    @room
    async def story(room: Clockwork) -> None:
        poll = Poll(schedule=EVERY_TEN, request={"url": "https://a.example"}, items="[]", key="entry")
        room.trigger(PollCreated(name="p", workflow="flow", on=poll, plan="cd" * 32))
        await room.look()
        await asyncio.sleep(11)
        moved = Cursor(planned=BEGIN, cursor=Raw(b'{"after":7}'))
        await room.marks.append([Proposal(cursor("org", "s1"), encode(moved), 0)])
        await asyncio.sleep(10)
        first, second = sorted(room.started, key=lambda started: started.cause.id)
        assert (first.plan, first.workflow, first.trigger) == ("cd" * 32, "s1", "s1"), (
            "nobody's but the trigger's"
        )
        assert b'"method":"POLL"' in bytes(first.input.value)  # type: ignore[union-attr]  # It is small.
        assert b'"cursor":null' in bytes(first.input.value)  # type: ignore[union-attr]
        assert b'"cursor":{"after":7}' in bytes(second.input.value)  # type: ignore[union-attr]


def test_many_looks_at_once_fire_nothing_twice() -> None:
    @room
    async def story(room: Clockwork) -> None:
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                for _ in range(6):
                    group.create_task(room.look())
            await asyncio.sleep(4)
        assert room.planned == sorted(set(room.planned))
        assert len(room.started) == len(room.planned)


def test_a_refused_start_is_told_and_the_next_planned_time_fires() -> None:
    @room
    async def story(room: Clockwork) -> None:
        room.refuses = Failure(code="poison", message="no")
        await room.look()
        await asyncio.sleep(11)
        room.refuses = None
        await asyncio.sleep(10)
        refused = [event for event in room.told if isinstance(event, FireRefused)]
        assert [event.error.code for event in refused] == ["poison"]
        assert room.planned == [10, 20]
        assert len(room.started) == 1


def test_what_could_not_be_started_while_nobody_took_it_is_started_later() -> None:
    @room
    async def story(room: Clockwork) -> None:
        await room.look()
        room.away = 6
        await asyncio.sleep(40)
        assert room.planned == [10, 20, 30, 40][: len(room.planned)]
        assert len(room.started) == len(room.planned) >= 3


def test_a_schedule_that_was_disabled_stops_at_its_next_look_at_the_latest() -> None:
    @room
    async def story(room: Clockwork) -> None:
        await room.look()
        await asyncio.sleep(12)
        room.trigger(TriggerDisabled())
        await asyncio.sleep(30)
        assert room.planned == [10]
        assert room.told[-1] == FirePlanned(revision=3)


def test_what_was_missed_is_an_event_a_line_in_the_log_and_a_figure_to_be_woken_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One that has spoken before keeps how it was set up then, and would not be heard here.
    monkeypatch.setattr("orchestrator.schedules.log", structlog.get_logger())
    metrics = Metrics("orchestrator")
    with capture_logs() as lines:

        @room
        async def story(room: Clockwork) -> None:
            await room.look()
            show_schedules(metrics, room.schedules)
            await asyncio.sleep(12)
            room.away = 1_000_000
            await asyncio.sleep(300)
            room.away = 0
            await asyncio.sleep(15)
            [told] = [event for event in room.told if isinstance(event, ScheduleMissed)]
            assert (told.policy, told.made_up) == ("once", 1)
            figure = (
                f'orchestrator_schedules_total{{kind="missed",service="orchestrator"}} {float(told.count)}'
            )
            assert figure in metrics.render().decode().splitlines()
            [line] = [line for line in lines if line["event"] == "schedule.missed"]
            assert (line["log_level"], line["org"], line["schedule"]) == ("warning", "org", "s1")
            assert (line["first"], line["last"], line["count"]) == (told.first, told.last, told.count)


def test_while_the_disk_is_full_nothing_starts_and_then_it_goes_on() -> None:
    @room
    async def story(room: Clockwork) -> None:
        await room.look()
        room.full = True
        await asyncio.sleep(25)
        assert room.planned == []
        room.full = False
        await asyncio.sleep(6)
        assert room.planned[:2] == [10, 20]


def test_a_defect_of_ours_buries_the_look_and_the_schedule_is_looked_at_again() -> None:
    @room
    async def story(room: Clockwork) -> None:
        await room.look()
        room.raises = PATIENCE
        await asyncio.sleep(60)
        assert [subject for subject, _, _ in room.dead.stored] == ["dlq.INBOX.org.s1"]
        await asyncio.sleep(300)
        assert len(room.planned) == len(room.started) > 0


def test_a_trigger_that_is_no_schedule_or_does_not_exist_is_nothing() -> None:
    @room
    async def story(room: Clockwork) -> None:
        body = encode_bundle([encode(ScheduleLook(org="org", run="s1-of-nobody"))])
        request = room.signals.request(call(partition("s1-of-nobody")), body, 30)
        assert decode_answers(await request)[0].result == "nothing"
        assert list(room.fires.subjects()) == []
