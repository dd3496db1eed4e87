"""What schedules have found, told once each without chance, so that it stays mended whatever seeds mean later."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec import structs

from chassis.chains import Chains
from chassis.egress import Egress
from chassis.ids import digest
from chassis.links import Links
from chassis.ports import Away
from chassis.secret import Secret
from chassis.telemetry import Tracer
from chassis.testing.examples import commit
from chassis.testing.stores import MemoryBlobs, MemoryLog
from chassis.testing.world import SimulatedClock, World
from contracts.codec import encode
from contracts.messages import Look, Outcome, StepBroken, StepInDoubt, StepLetGo, Task
from contracts.payloads import Blob
from contracts.runs import AttemptFailed, AttemptScheduled, RunEvent, RunStopping, WaitEnded, WaitOpened
from contracts.subjects import effect
from contracts.subjects import run as run_subject
from executor.attempt import Attempt, Means
from executor.effects import Effects
from executor.opening import Opening
from executor.registry import Registry
from executor.relay import Relay
from executor.sandbox.sandbox import Sandbox
from orchestrator.inputs import NotReady
from orchestrator.run import Graph
from orchestrator.sources import Sources
from projections.arrived import read
from projections.runs import Known, fold
from tests.orchestrator.rooms import Room, told
from tests.orchestrator.stories import (
    CANCEL,
    NOON,
    PATIENT,
    RETRY,
    TO,
    TRY_AGAIN,
    action,
    broken,
    control,
    done,
    doubted,
    drawn,
    scheduled,
    started,
    value,
    wake,
)
from tests.simulation.outside import Outside, nodes
from tests.simulation.surroundings import Fetched

T = TypeVar("T")

SUBJECT = run_subject("org", "run-1")


# --- Decisions ----------------------------------------------------------------------------------


def test_a_doubt_that_turns_out_to_be_a_failure_pauses_once_and_is_tried_again() -> None:
    story = (
        started(drawn("a", action("a", retry=PATIENT))).when(doubted("a")).when(broken("a", error=TRY_AGAIN))
    )
    story.then_kinds(AttemptFailed, WaitOpened)
    story.later(10).when(wake("retry:a:2")).then_kinds(WaitEnded, AttemptScheduled)


# --- The orchestrator's shell --------------------------------------------------------------------


def test_an_owner_that_was_overtaken_loses_no_outcome() -> None:
    @told(drawn("a>b"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        overtaken = room.service._memory.get("run-1")
        assert overtaken is not None
        await room.say(done("a"))
        room.service._memory.keep("run-1", overtaken)  # As if another owner had committed that.
        [answer] = await room.say(done("b"))
        assert answer.result == "accepted"
        assert room.events[-1] == "run.completed"


def test_an_owner_that_was_overtaken_looks_before_it_says_that_nothing_is_to_do() -> None:
    @told(drawn("a>b"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(CANCEL)
        await room.say(done("a"))
        ended = room.service._memory.get("run-1")
        assert ended is not None
        await room.say(RETRY)
        room.service._memory.keep("run-1", ended)
        room.tasks.tasks.clear()
        await room.say(Look(**TO))
        assert room.tasks.tasks, "what the other owner had scheduled is emitted again"


def test_a_read_that_times_out_ends_no_service() -> None:
    class Silent(MemoryBlobs):
        async def get(self, blob: Blob) -> bytes:
            raise Away("not now")

    async def fetch(world: World) -> None:
        log, missing = MemoryLog(world), frozenset({Blob(sha256="0" * 64, size=1)})
        sources = Sources(log=log, blobs=Silent(world), archive=None, compile_plan=None)  # type: ignore[arg-type]  # Neither is asked.
        with pytest.raises(Away):
            await sources.fetch(NotReady(values=missing))

    world = World(1)
    asked = world.loop.spawn("orchestrator", fetch(world))
    world.loop.run_until(asked.done, steps=1_000, seconds=60)
    asked.result()


def test_a_decision_that_needs_more_values_than_there_is_room_for_is_made() -> None:
    plan = drawn("a>c b>c", action("a"), action("b"), control("c", "merge"))

    class Programs:
        def __init__(self) -> None:
            self.graph = Graph.of(plan)

        def evaluator(self, values: Any, *_: object) -> Fetched:
            return Fetched(self.graph, values)

    @told(plan)
    async def story(room: Room) -> None:
        sources = room.service._sources
        sources._compile_plan = lambda _: Programs()
        sources._values._room = 1
        await room.say(room.start)
        await room.say(structs.replace(done("a"), output=value("x" * 70_000)))
        await room.say(structs.replace(done("b"), output=value("y" * 70_000)))
        assert room.events[-1] == "run.completed"


def test_a_plan_that_cannot_be_read_parks_its_run_and_a_duplicate_is_told_so_for_ever() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        strange = b'{"format":2,"nodes":{}}'
        room.blobs.kept[digest(strange)] = strange
        start = structs.replace(room.start, plan=digest(strange))
        [answer] = await room.say(start)
        assert (answer.result, room.events) == ("accepted", ["run.parked", "run.started"])
        await room.say(CANCEL)
        assert room.events[-1] == "run.failed"
        [again] = await room.say(structs.replace(start, receipt="receipt-2"))
        assert (again.result, again.receipt) == ("duplicate", "receipt-1")
        retired(room)
        [later] = await room.say(structs.replace(start, receipt="receipt-3"))
        assert (later.result, later.receipt) == ("duplicate", "receipt-1")


def test_a_run_that_has_ended_is_not_parked_by_poison_that_comes_late() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(done("a"))
        room.service._to_park["run-1"] = "code raised 5 times"
        [answer] = await room.say(Look(**TO))
        assert answer.result == "refused"
        assert room.events[-1] == "run.completed"


def retired(room: Room) -> None:
    """The history has left the log; its tombstone stays."""
    history = room.log.ever[SUBJECT]
    room.archive.kept = [stored.body for stored in history]
    room.log.purge(lambda subject: subject == SUBJECT, before=history[-1].sequence)
    room.service._memory.drop("run-1")


def test_a_duplicate_of_an_archived_run_gets_the_answer_that_was_recorded() -> None:
    @told(drawn("r>a", control("r", "respond", {"status": 201, "body": "hello"})))
    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(done("a"))
        retired(room)
        await room.say(structs.replace(room.start, receipt="later"))  # Now the tombstone is remembered.
        [again] = await room.say(structs.replace(room.start, receipt="months-later", reply="reply.test.1"))
        assert again.result == "duplicate"
        assert again.responded is not None
        assert again.responded.status == 201


def test_an_archived_run_is_tried_again_although_its_tombstone_is_remembered() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(room.start)
        await room.say(broken("a"))
        retired(room)
        await room.say(structs.replace(room.start, receipt="later"))  # The tombstone is enough for it.
        [answer] = await room.say(RETRY)
        assert answer.result == "accepted"
        assert room.events[-2:] == ["run.reopened", "attempt.scheduled"]


# --- The executor --------------------------------------------------------------------------------


def attempted(
    story: Callable[[Attempt], Awaitable[T]], script: str = "early", *, elsewhere: bool = True
) -> T:
    """What comes of an attempt that must not be repeated blindly; `elsewhere`: another executor has claimed it."""
    world = World(1)
    effects, runs, clock = MemoryLog(world), MemoryLog(world), SimulatedClock(world)
    task = Task(
        org="org",
        run="run-1",
        step="a",
        node="a",
        node_type="call.once",
        attempt=1,
        key="run-1/a",
        repeat="no",
        timeout_s=4,
        config=value({"script": [script]}),
        scheduled_at=0.0,
    )
    happened: tuple[RunEvent, ...] = (scheduled("a", node_type="call.once"), RunStopping(outcome="cancelled"))
    runs.put(SUBJECT, encode(commit(*happened, org="org", run="run-1", time=NOON)))
    if elsewhere:
        effects.put(effect("org", "run-1", "a", 1), b"another executor begins this call")

    async def attempt() -> T:
        means = Means(
            actor="executor:2",
            registry=Registry(nodes(Outside(world))),
            effects=Effects(effects, clock, "executor:2"),
            runs=runs,
            opening=Opening(None),  # type: ignore[arg-type]  # Nothing is sealed here.
            links=Links("", Secret(b"")),
            chains=Chains(Secret(b""), clock),
            blobs=MemoryBlobs(world),
            egress=Egress([]),
            relay=Relay("127.0.0.1", 25, "a@b"),
            sandbox=Sandbox(Path("/nonexistent"), at_once=1),
            clock=clock,
            tracer=Tracer(),
        )
        return await story(Attempt(task, means))

    asked = world.loop.spawn("executor", attempt())
    world.loop.run_until(asked.done, steps=10_000, seconds=60)
    world.loop.close()
    return asked.result()


def test_an_attempt_that_is_let_go_does_not_answer_for_another_executor() -> None:
    async def story(attempt: Attempt) -> Outcome | None:
        attempt.unwanted = True
        return await attempt.make(doubtful=False)

    outcome = attempted(story)
    assert isinstance(outcome, StepLetGo)
    assert outcome.effect == "possible", "whoever claimed it may have made the call"


def test_an_attempt_that_fails_before_its_call_does_not_answer_for_another_executor() -> None:
    assert isinstance(attempted(lambda attempt: attempt.make(doubtful=False)), StepInDoubt)


def test_an_attempt_that_is_given_up_does_not_answer_for_another_executor() -> None:
    assert isinstance(attempted(lambda attempt: attempt.given_up()), StepInDoubt)


def test_an_attempt_in_which_our_own_code_fails_does_not_answer_for_another_executor() -> None:
    defect = ValueError("a defect")
    assert isinstance(attempted(lambda attempt: attempt.crashed(defect)), StepInDoubt)
    assert isinstance(attempted(lambda attempt: attempt.crashed(defect), elsewhere=False), StepBroken)


def test_an_attempt_that_was_given_up_begins_no_call() -> None:
    async def story(attempt: Attempt) -> tuple[Outcome, Outcome | None]:
        async with asyncio.TaskGroup() as group:
            made = group.create_task(attempt.make(doubtful=False))
            await asyncio.sleep(5)
            told = await attempt.given_up()
        return told, made.result()

    told, brought = attempted(story, "deaf", elsewhere=False)
    assert isinstance(told, StepBroken), "the claim is ours, and no byte has left"
    assert isinstance(brought, StepInDoubt), "the node wanted to begin its call, and was stopped"


# --- The projections -----------------------------------------------------------------------------


def test_a_run_that_ends_again_at_the_very_moment_of_its_last_end_is_known_to_the_archive() -> None:
    @told(drawn("a"))
    async def story(room: Room) -> None:
        await room.say(structs.replace(room.start, plan="0" * 64))
        room.world.loop._now -= 1  # Its clock was set back: time stands still in the history.
        await room.say(RETRY)
        batch = [read(stored, 1) for stored in room.log.messages]
        first = fold(Known(), batch[:1])
        again = fold(Known(runs=first.runs, steps=first.steps), batch[1:])
        assert again.ended["org", "run-1"].version == 2
