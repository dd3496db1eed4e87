"""Gates among real shells: who is let in, who waits, and what a lost word, a killed owner or a rate does to it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec import structs

from chassis.dispatch import Dispatch
from chassis.ids import derived, run_id
from chassis.testing.stores import MemoryLog
from contracts.codec import decode_gate_commit
from contracts.gates import (
    ALL_RUNS,
    FlowLimit,
    GateEvent,
    OrgLimit,
    OrgLimits,
    Rate,
    SlotFreed,
    SlotGranted,
    SlotsAwaited,
    WhenFull,
)
from contracts.messages import AskSlot, FreeSlot, GiveSlot, Look, RetryRun
from contracts.pauses import HeldAtGates
from contracts.plans import Plan
from contracts.subjects import partition
from contracts.workflows import Flow
from orchestrator.gatekeeping import Gatekeeper
from orchestrator.service import Orchestrator
from orchestrator.sources import Sources
from orchestrator.standing_for import StandingFor
from orchestrator.ushering import ASK_SECONDS
from tests.orchestrator.rooms import Talking
from tests.orchestrator.stories import CANCEL, broken, done, drawn

NAMES = [run_id("org", "test", str(number)) for number in range(8)]
"""They lie in different partitions."""


class Hall(Talking):
    """An orchestrator whose workflow has gates."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.gates = MemoryLog(self.world)
        self.limits: OrgLimits = {}

    async def limits_of(self, org: str) -> OrgLimits:
        return self.limits if org == "org" else {}

    def shell(self, sources: Sources, **more: Any) -> Orchestrator:
        self.keeper = Gatekeeper(
            history=self.gates,
            sender=self.dispatch,
            inbox=self.inbox,
            dead_letters=self.dead,
            ownership=self.ownership,
            clock=self.clock,
            standing_for=StandingFor(sources),
            limits_of=self.limits_of,
        )
        return super().shell(sources, gates=self.keeper, **more)

    async def begin(self, *names: str) -> None:
        for name in names:
            assert await self.tell(structs.replace(self.start, run=name)) == "accepted"

    async def end(self, name: str) -> None:
        await self.tell(structs.replace(done("a"), run=name))

    @property
    def inside(self) -> list[str]:
        return [name for name in NAMES if self.state(name).attempts]

    @property
    def recorded(self) -> list[GateEvent]:
        return [
            event
            for stored in self.gates.subjects().values()
            for each in stored
            for event in decode_gate_commit(each.body).events
        ]

    @property
    def granted(self) -> int:
        return sum(isinstance(event, SlotGranted) for event in self.recorded)


def hall(
    *limits: FlowLimit,
) -> Callable[[Callable[[Hall], Coroutine[Any, Any, None]]], None]:
    plan = structs.replace(drawn("a"), flow=Flow(limits=limits))
    return lambda story: Hall(plan).play(story)


ONE = FlowLimit(name="crm", at_once=1)


def test_one_is_inside_and_the_others_come_in_their_order_as_each_ends() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        for name in NAMES[:3]:
            assert room.inside == [name]
            await room.end(name)
        assert all(room.state(name).status == "completed" for name in NAMES[:3])
        kinds = [type(event) for event in room.recorded if not isinstance(event, SlotsAwaited)]
        assert kinds == [SlotGranted, SlotFreed] * 3
        assert room.keeper.names == 0


def test_as_many_are_inside_as_the_limit_says() -> None:
    @hall(FlowLimit(name="crm", at_once=2))
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:4])
        assert len(room.inside) == 2
        await room.end(room.inside[0])
        assert len(room.inside) == 2


def test_what_the_org_says_of_a_shared_gate_counts_for_those_who_wait_too() -> None:
    @hall(FlowLimit(name="crm", at_once=1, across="org"))
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:4])
        assert room.inside == NAMES[:1]
        room.limits = {"crm": OrgLimit(at_once=3), "other": OrgLimit(at_once=9)}
        await asyncio.sleep(ASK_SECONDS + 1)
        assert len(room.inside) == 3
        room.limits = {}
        await room.end(room.inside[0])
        assert len(room.inside) == 2, "lowered it sends nobody out, and lets nobody in"


def test_what_the_org_says_is_nothing_to_the_gate_of_one_workflow() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        room.limits = {"crm": OrgLimit(at_once=3)}
        await room.begin(*NAMES[:2])
        assert room.inside == NAMES[:1]


def everybodys(story: Callable[[Hall], Coroutine[Any, Any, None]], **said: Any) -> None:
    """Runs of a workflow without a limit, of an org that says so of all its runs."""
    room = Hall(drawn("a"))
    limit = OrgLimit(**said)
    room.limits, room.start = {ALL_RUNS: limit}, structs.replace(room.start, org_limit=limit)
    room.play(story)


def test_what_an_org_says_of_all_its_runs_counts_without_a_workflow_that_names_it() -> None:
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:4])
        assert room.inside == NAMES[:2]
        await room.end(NAMES[0])
        assert room.inside == NAMES[1:3]

    everybodys(story, at_once=2)


def test_what_an_org_says_of_all_its_runs_may_be_said_anew_and_taken_back() -> None:
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:6])
        assert room.inside == NAMES[:1]
        room.limits = {ALL_RUNS: OrgLimit(at_once=3)}
        await asyncio.sleep(ASK_SECONDS + 1)
        assert room.inside == NAMES[:3]
        room.limits = {}
        await asyncio.sleep(ASK_SECONDS + 1)
        assert room.inside == NAMES[:6], "nobody waits for what nobody says any more"
        room.limits = {ALL_RUNS: OrgLimit(at_once=1)}
        await room.begin(NAMES[6])
        await room.end(NAMES[0])
        assert NAMES[6] not in room.inside, "those who are inside count"

    everybodys(story, at_once=1)


def test_a_rate_of_all_runs_lets_in_one_after_the_other() -> None:
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        assert room.inside == NAMES[:1]
        await asyncio.sleep(10)
        assert room.inside == NAMES[:2]

    everybodys(story, rate=Rate(count=1, seconds=10))


def test_a_limit_of_all_runs_is_nothing_to_a_run_that_was_asked_for_before_it() -> None:
    async def story(room: Hall) -> None:
        room.start = structs.replace(room.start, org_limit=None)
        await room.begin(*NAMES[:3])
        assert room.inside == NAMES[:3]
        assert room.recorded == []

    everybodys(story, at_once=1)


def test_a_run_that_fails_or_is_cancelled_makes_room_too() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        await room.tell(structs.replace(broken("a"), run=NAMES[0]))
        assert room.inside == [NAMES[1]]
        await room.tell(structs.replace(CANCEL, run=NAMES[1]))
        await asyncio.sleep(5)  # It has its grace.
        assert room.inside == [NAMES[2]]


def test_a_run_that_is_cancelled_while_it_waits_is_not_let_in() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        await room.tell(structs.replace(CANCEL, run=NAMES[1]))
        await room.end(NAMES[0])
        assert room.inside == [NAMES[2]]
        granted = [event.run for event in room.recorded if isinstance(event, SlotGranted)]
        assert granted == [NAMES[0], NAMES[2]]


def test_a_word_of_leaving_that_got_lost_is_asked_for_while_somebody_waits() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:2])
        room.dispatch.lose = (FreeSlot,)
        await room.end(NAMES[0])
        assert room.inside == []
        room.dispatch.lose = ()
        await asyncio.sleep(ASK_SECONDS + 1)
        assert room.inside == [NAMES[1]]


def test_a_slot_whose_word_got_lost_is_given_when_the_run_is_looked_at() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        room.dispatch.lose = (AskSlot,)
        await room.begin(NAMES[0])
        assert room.inside == []
        room.dispatch.lose = ()
        await room.tell(Look(org="org", run=NAMES[0]))
        assert room.inside == [NAMES[0]]


def test_what_nobody_could_be_told_is_told_again() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        room.dispatch.lose = (GiveSlot,)
        await room.begin(NAMES[0])
        assert room.inside == []
        room.dispatch.lose = ()
        await asyncio.sleep(ASK_SECONDS + 1)
        assert room.inside == [NAMES[0]]
        assert room.granted == 1, "it was let in once"


def test_one_who_is_inside_is_asked_and_stays() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:2])
        await asyncio.sleep(4 * ASK_SECONDS)
        assert room.said(GiveSlot) >= 3
        assert room.inside == [NAMES[0]]
        assert room.granted == 1


def test_a_run_that_is_opened_again_waits_for_its_turn_anew() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:2])
        await room.tell(structs.replace(broken("a"), run=NAMES[0]))
        assert room.inside == [NAMES[1]]
        await room.tell(RetryRun(org="org", run=NAMES[0], actor="key:1"))
        assert room.inside == [NAMES[1]]
        await room.end(NAMES[1])
        assert room.inside == [NAMES[0]]


def test_a_late_word_of_an_earlier_opening_frees_nothing() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(NAMES[0])
        gate = room.state(NAMES[0]).slots[0].gate
        await room.tell(structs.replace(broken("a"), run=NAMES[0]))
        await room.tell(RetryRun(org="org", run=NAMES[0], actor="key:1"))
        await room.begin(NAMES[1])
        await room.tell(FreeSlot(org="org", run=gate, holder=NAMES[0], opening=1))
        assert room.inside == [NAMES[0]]


def test_where_nobody_may_wait_the_second_is_skipped() -> None:
    @hall(FlowLimit(name="crm", at_once=1, when_full="skip"))
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:2])
        await asyncio.sleep(1)
        assert [room.state(name).status for name in NAMES[:2]] == ["running", "cancelled"]


@pytest.mark.parametrize(("when_full", "seconds"), [("skip", 1), ("cancel_oldest", ASK_SECONDS + 1)])
def test_nobody_is_kept_out_by_a_run_that_has_ended_and_whose_word_of_leaving_was_lost(
    when_full: WhenFull, seconds: float
) -> None:
    @hall(FlowLimit(name="crm", at_once=1, when_full=when_full))
    async def story(room: Hall) -> None:
        await room.begin(NAMES[0])
        room.dispatch.lose = (FreeSlot,)
        await room.end(NAMES[0])
        room.dispatch.lose = ()
        await room.begin(NAMES[1])
        await asyncio.sleep(seconds)
        assert room.inside == [NAMES[1]]


def test_where_the_queue_is_full_the_last_fails() -> None:
    @hall(FlowLimit(name="crm", at_once=1, queue=1))
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        await asyncio.sleep(1)
        assert [room.state(name).status for name in NAMES[:3]] == ["running", "waiting", "failed"]


def test_the_oldest_makes_room_for_the_newest() -> None:
    @hall(FlowLimit(name="crm", at_once=1, when_full="cancel_oldest"))
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:2])
        await asyncio.sleep(5)
        assert room.state(NAMES[0]).status == "cancelled"
        assert room.inside == [NAMES[1]]


def test_a_run_that_lies_in_the_gates_own_partition_is_told_while_others_ask() -> None:
    @hall(FlowLimit(name="crm", at_once=100))
    async def story(room: Hall) -> None:
        place = partition(derived("gate", "org", room.start.workflow, "crm", ""))
        names = [name for n in range(999) if partition(name := run_id("org", "near", str(n))) == place][:6]
        async with asyncio.TaskGroup() as starts:
            for name in names:
                starts.create_task(Dispatch.send(room.dispatch, structs.replace(room.start, run=name)))
        await asyncio.sleep(1)
        assert all(room.state(name).attempts for name in names), "nobody waits until a call is given up"


def test_a_rate_lets_in_one_after_the_other_in_its_time() -> None:
    @hall(FlowLimit(name="calls", rate=Rate(count=1, seconds=10)))
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        assert room.inside == NAMES[:1]
        await asyncio.sleep(10)
        assert sorted(room.inside) == sorted(NAMES[:2])
        await asyncio.sleep(10)
        assert sorted(room.inside) == sorted(NAMES[:3])


def test_who_waits_for_a_rate_is_let_in_after_a_kill_when_its_time_comes() -> None:
    @hall(FlowLimit(name="calls", rate=Rate(count=1, seconds=30)))
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        room.world.loop.kill("orchestrator")
        await asyncio.sleep(3)
        room.world.loop.spawn("orchestrator", room.orchestrator())
        await asyncio.sleep(30)
        assert len(room.inside) == 2, "INBOX woke whoever has the gate now"
        await asyncio.sleep(30)
        assert len(room.inside) == 3


def test_who_waits_is_counted_for_its_org() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        assert room.keeper.told() == [HeldAtGates(org="org", waiting=2)]
        for name in NAMES[:3]:
            await room.end(name)
        assert room.keeper.told() == []


def test_a_rate_knows_nobody_who_is_inside() -> None:
    @hall(FlowLimit(name="calls", rate=Rate(count=5, seconds=1)))
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:3])
        stored = [each for found in room.gates.subjects().values() for each in found]
        assert decode_gate_commit(stored[-1].body).state.holders == ()


def test_the_next_owner_hears_from_the_one_before_who_waits() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:4])
        before = room.ownership
        room.world.loop.spawn("another", room.orchestrator())
        await asyncio.sleep(0.1)
        await before.release()
        await asyncio.sleep(3)
        for name in NAMES[:4]:
            assert room.inside == [name], "also the one of whom GATES does not say that it is next"
            await room.end(name)


def test_after_a_kill_whoever_was_next_is_asked_as_soon_as_a_place_is_free() -> None:
    @hall(ONE)
    async def story(room: Hall) -> None:
        await room.begin(*NAMES[:2])
        room.world.loop.kill("orchestrator")
        await asyncio.sleep(3)
        room.world.loop.spawn("orchestrator", room.orchestrator())
        await asyncio.sleep(3)
        await room.end(NAMES[0])
        await asyncio.sleep(1)
        assert room.inside == [NAMES[1]]
