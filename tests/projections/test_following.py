"""What starts runs when something happens: which events a trigger wants, what its runs are given, and what is told it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import structs

from chassis.expressions import Language
from chassis.ids import run_id
from chassis.ports import Away, Stored
from chassis.testing.examples import commit, domain_commit
from chassis.testing.stores import MemoryBlobs, MemoryLetters, MemoryLog
from chassis.testing.world import SimulatedClock, World
from contracts.causes import behind, goes_round, too_deep
from contracts.cloudevents import headers_of
from contracts.codec import Decoder, encode
from contracts.errors import Failure
from contracts.gates import ALL_RUNS, OrgLimit
from contracts.limits import CAUSES_ALIKE, CAUSES_DEEP
from contracts.messages import Answer, StartRun
from contracts.payloads import Blob, Inline
from contracts.runs import Cause, RunCancelled, RunCompleted, RunFailed, RunParked, RunStarted, StepFailed
from contracts.schedules import FirePlanned, FireStarted, ScheduleCommit, ScheduleMissed, ScheduleState
from contracts.subjects import DOMAIN, RUNS, SCHEDULES, domain, run
from contracts.subjects import schedule as schedule_subject
from contracts.triggers import (
    EventChanged,
    EventCreated,
    Happening,
    Hook,
    RunEnd,
    RunEndChanged,
    RunEndCreated,
    TriggerBound,
    TriggerDeleted,
    TriggerDisabled,
    TriggerEnabled,
)
from contracts.workflows import OrgLimitsSet, OrgVarsSet, VersionPublished
from projections.figures import Progress
from projections.following import Following, Means, WhileWanted
from projections.intake import Intakes
from projections.models import Moved, Position, Step
from projections.origins import Origins
from projections.projector import Projector
from projections.subscriptions import Subscriptions

PLAN = "ab" * 32
hook_of = Decoder[Hook](Hook)


class Room:
    """A follower of RUNS and DOMAIN with everything behind it in memory."""

    def __init__(self) -> None:
        self.world = World(1)
        self.clock = SimulatedClock(self.world)
        self.runs, self.domain, self.fires = (MemoryLog(self.world) for _ in range(3))
        self.marks = MemoryLog(self.world)
        self.blobs, self.letters = MemoryBlobs(self.world), MemoryLetters(self.world)
        self.starts: list[StartRun] = []
        self.answers: Callable[[StartRun], Answer] = lambda start: Answer(run=start.run, result="accepted")
        self.away = 0
        self.full = False
        self.behind = 0.0
        """Seconds by which the triggers are read later than they are written."""
        self.archived: dict[str, list[bytes]] = {}
        self.at = Position(epoch=1, sequence=0, generation="one")
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._versions: defaultdict[str, int] = defaultdict(int)

    # --- What happens -------------------------------------------------------------------------

    def trigger(self, *events: Any, id_: str = "t1", org: str = "org") -> None:
        self.recorded("trigger", id_, *events, org=org)

    def recorded(self, aggregate: str, id_: str, *events: Any, org: str = "org") -> None:
        subject = domain(org, aggregate, id_)
        self._versions[subject] += 1
        made = domain_commit(
            aggregate,
            id_,
            *events,
            org=org,
            version=self._versions[subject],
            time=self.clock.now(),
            actor="key:1",
        )
        self._put(self.domain, subject, encode(made), headers_of(made))

    def happened(self, name: str, *events: Any, org: str = "org") -> None:
        subject = run(org, name)
        self._versions[subject] += 1
        made = commit(*events, org=org, run=name, version=self._versions[subject], time=self.clock.now())
        self._put(self.runs, subject, encode(made), headers_of(made))

    def decided(self, schedule: str, *events: Any, org: str = "org") -> None:
        """What the clock's owner has recorded of a schedule."""
        subject = schedule_subject(org, schedule)
        self._versions[subject] += 1
        made = ScheduleCommit(
            id="c1",
            org=org,
            schedule=schedule,
            version=self._versions[subject],
            events=events,
            state=ScheduleState(),
            time=self.clock.now(),
            actor="timer",
            engine_version="0.1.0",
            prev_hash="",
        )
        self._put(self.fires, subject, encode(made), headers_of(made))

    def _put(self, log: MemoryLog, subject: str, body: bytes, headers: dict[str, str]) -> None:
        log.put(subject, body)
        last = log.messages[-1]
        log.messages[-1] = Stored(last.subject, last.sequence, last.body, headers, last.time)

    def ended(self, name: str, end: Any = None, cause: Cause | None = None, **more: Any) -> None:
        self.happened(name, started(cause=cause, **more))
        self.happened(name, end or RunCompleted(output=Inline(value=msgspec.Raw(b'{"n":1}'))))

    # --- What follows -------------------------------------------------------------------------

    async def position(self) -> Position:
        return self.at

    async def advance(self, step: Step) -> None:
        if step.before != self.at:
            raise Moved("elsewhere")
        self.at = step.after()

    async def send(self, message: StartRun) -> Answer:
        if self.away:
            self.away -= 1
            raise Away("nobody takes it")
        await asyncio.sleep(0)
        self.starts.append(message)
        return self.answers(message)

    async def first(self, _org: str, name: str) -> bytes | None:
        return next(iter(self.archived.get(name, [])), None)

    @property
    def told(self) -> list[Hook]:
        return [hook_of(body) for subject, body, _ in self.letters.stored if subject.startswith("hook.")]

    def given(self, place: int = 0) -> Any:
        payload = self.starts[place].input
        data = payload.value if isinstance(payload, Inline) else self.blobs.kept[payload.sha256]
        return msgspec.json.decode(data)

    async def until_read(self) -> None:
        """Until every event was looked at."""
        end = (len(self.runs.messages), len(self.domain.messages), len(self.fires.messages))
        async with asyncio.timeout(60):
            while self._behind(end):
                await asyncio.sleep(0.1)

    def _behind(self, end: tuple[int, int, int]) -> bool:
        read = (self.at.sequence, self.domain_at.at.sequence, self.fires_at.at.sequence)
        return any(have < wanted for have, wanted in zip(read, end, strict=True))

    def play(self, story: Callable[["Room"], Coroutine[Any, Any, None]]) -> None:
        told = self.world.loop.spawn("story", self._play(story))
        try:
            self.world.loop.run_until(told.done, steps=400_000, seconds=600)
            told.result()
        finally:
            self.world.loop.close()

    async def _play(self, story: Callable[["Room"], Coroutine[Any, Any, None]]) -> None:
        subscriptions = Subscriptions(Behind(self.domain, lambda: self.behind))
        means = Means(
            subscriptions=subscriptions,
            origins=Origins(self.runs, self.first),
            intakes=Intakes(self, self.blobs, self.marks, subscriptions),
            sender=self,
            blobs=self.blobs,
            letters=self.letters,
            language=LANGUAGE,
            clock=self.clock,
            is_full=lambda: self.full,
            counts=self.counts,
        )
        self.domain_at, self.fires_at = _Places(), _Places()
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(subscriptions.follow())]
            for stream, log, places in (
                (RUNS, self.runs, self),
                (DOMAIN, self.domain, self.domain_at),
                (SCHEDULES, self.fires, self.fires_at),
            ):
                following = Following("triggers", stream, means, places)
                progress = Progress(name="triggers", stream=stream)
                reader = WhileWanted(log, subscriptions, self.clock)
                projector = Projector(following, reader, 1, self.clock, progress)
                beside.append(group.create_task(projector.run()))
            await story(self)
            for task in beside:
                task.cancel()


class Behind:
    """A reader that is slow."""

    def __init__(self, log: MemoryLog, seconds: Callable[[], float]) -> None:
        self._log, self._seconds = log, seconds

    async def end(self) -> int:
        return await self._log.end()

    async def read(self, after: int, most: int = 2_000) -> AsyncIterator[Sequence[Stored]]:
        async for batch in self._log.read(after, most):
            await asyncio.sleep(self._seconds())
            yield batch


class _Places:
    def __init__(self) -> None:
        self.at = Position(epoch=1, sequence=0, generation="one")

    async def position(self) -> Position:
        return self.at

    async def advance(self, step: Step) -> None:
        self.at = step.after()


LANGUAGE = Language()


def started(
    workflow: str = "other", cause: Cause | None = None, trigger: str | None = None, **more: Any
) -> RunStarted:
    return RunStarted(
        plan=PLAN,
        workflow=workflow,
        version=2,
        receipt="r",
        cause=cause or Cause(kind="api"),
        input=Inline(value=msgspec.Raw(b"{}")),
        trigger=trigger,
        **more,
    )


def after(on: RunEnd | None = None) -> tuple[Any, ...]:
    made = RunEndCreated(name="t", workflow="flow", on=on or RunEnd())
    return made, TriggerBound(version=3, plan=PLAN)


def on_event(*types: str, **more: Any) -> tuple[Any, ...]:
    made = EventCreated(name="t", workflow="flow", on=Happening(types=types, **more))
    return made, TriggerBound(version=3, plan=PLAN)


ERROR = Failure(code="refused", message="no")


# --- The end of a run ---------------------------------------------------------------------------


def test_the_end_of_a_run_that_began_parked_is_followed_too() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        await asyncio.sleep(1)
        room.happened("r1", RunParked(reason="Its plan cannot be read."), started())
        room.happened("r1", RunFailed(error=ERROR))
        await room.until_read()
        assert [start.run for start in room.starts] == [run_id("org", "t1", "event:run.r1.2.0")]

    Room().play(story)


def test_the_end_of_a_run_starts_the_run_that_is_named_by_it() -> None:
    async def story(room: Room) -> None:
        limits = {"mail": OrgLimit(queue=1), ALL_RUNS: OrgLimit(at_once=2)}
        room.recorded("org", "org", OrgVarsSet(vars={"region": "eu"}), OrgLimitsSet(limits=limits))
        room.trigger(*after())
        await asyncio.sleep(1)
        room.ended("r1", trigger="hook1")
        await room.until_read()
        [start] = room.starts
        assert start.run == run_id("org", "t1", "event:run.r1.2.0")
        assert (start.workflow, start.version, start.plan, start.trigger) == ("flow", 3, PLAN, "t1")
        assert start.cause == Cause(kind="run", id="r1", depth=1, chain=("other",))
        assert (start.org_vars, start.actor) == ({"region": "eu"}, "trigger:t1")
        assert start.org_limit == OrgLimit(at_once=2)
        assert start.dedupe is not None, "the archive knows it for ever"
        given = room.given()
        assert given["method"] == "RUN_END"
        body = given["body"]
        assert (body["run"], body["workflow"], body["version"]) == ("r1", "other", 2)
        assert (body["outcome"], body["output"], body["trigger"]) == ("completed", {"n": 1}, "hook1")
        assert room.told == []

    Room().play(story)


@pytest.mark.parametrize(
    ("end", "outcome", "said"),
    [
        (RunFailed(error=ERROR, step="a"), "failed", ("error", {"code": "refused", "message": "no"})),
        (RunCancelled(reason="enough"), "cancelled", ("reason", "enough")),
    ],
)
def test_an_end_that_is_no_success_says_what_it_was(end: Any, outcome: str, said: tuple[str, Any]) -> None:
    async def story(room: Room) -> None:
        room.trigger(*after(RunEnd(outcomes=("failed", "cancelled"))))
        await asyncio.sleep(1)
        room.ended("r1", end)
        room.ended("r2")
        await room.until_read()
        assert [start.cause.id for start in room.starts] == ["r1"]
        body = room.given()["body"]
        assert (body["outcome"], body[said[0]]) == (outcome, said[1])

    Room().play(story)


def test_a_run_that_was_tried_again_ends_again() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        await asyncio.sleep(1)
        room.ended("r1", RunFailed(error=ERROR))
        room.happened("r1", RunCompleted())
        await room.until_read()
        assert len({start.run for start in room.starts}) == 2

    Room().play(story)


def test_unless_it_names_others_a_workflow_does_not_follow_its_own_runs() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        room.trigger(*after(RunEnd(workflows=("flow",))), id_="t2")
        await asyncio.sleep(1)
        room.ended("mine", workflow="flow")
        room.ended("other")
        await room.until_read()
        assert {(start.trigger, start.cause.id) for start in room.starts} == {("t1", "other"), ("t2", "mine")}

    Room().play(story)


def test_what_happens_in_a_test_starts_nothing() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        room.trigger(*on_event("run.completed", "run.started"), id_="t2")
        await asyncio.sleep(1)
        room.ended("r1", mode="test")
        await room.until_read()
        assert room.starts == []

    Room().play(story)


def test_another_orgs_runs_start_nothing() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        room.trigger(*on_event("run.completed"), id_="t2")
        await asyncio.sleep(1)
        room.happened("theirs", started(), org="other")
        room.happened("theirs", RunCompleted(), org="other")
        await room.until_read()
        assert room.starts == []

    Room().play(story)


def test_an_output_in_the_object_store_is_named_and_a_long_input_lies_there_itself() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        await asyncio.sleep(1)
        room.ended("r1", RunCompleted(output=Blob(sha256="cd" * 32, size=100_000)))
        long = encode("x" * 65_400)
        room.ended("r2", RunCompleted(output=Inline(value=msgspec.Raw(long))))
        await room.until_read()
        assert room.given(0)["body"]["output"] == {
            "blob": {"in": "blob", "sha256": "cd" * 32, "size": 100_000, "content_type": "application/json"}
        }
        assert isinstance(room.starts[1].input, Blob)
        assert len(room.given(1)["body"]["output"]) == 65_400

    Room().play(story)


def test_how_a_run_began_that_has_left_the_log_is_told_by_the_archive() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        await asyncio.sleep(1)
        room.archived["r1"] = [encode(commit(started(workflow="old"), org="org", run="r1"))]
        room.happened("r1", RunCompleted())
        room.happened("r2", RunCompleted())
        await room.until_read()
        assert [start.cause.id for start in room.starts] == ["r1"]
        assert room.given()["body"]["workflow"] == "old"
        assert room.counts["unreadable"] == 1

    Room().play(story)


# --- Events -------------------------------------------------------------------------------------


def test_an_event_of_a_run_starts_a_run_that_sees_it_as_the_log_has_it() -> None:
    async def story(room: Room) -> None:
        room.trigger(*on_event("step.failed"))
        await asyncio.sleep(1)
        cause = Cause(kind="webhook", depth=2)
        room.happened("r1", started(cause=cause), StepFailed(step="a", node="a", error=ERROR))
        await room.until_read()
        [start] = room.starts
        assert start.cause == Cause(kind="event", id="run.r1.1.1", depth=3, chain=("other",))
        body = room.given()["body"]
        assert (body["id"], body["type"]) == ("run.r1.1.1", "step.failed")
        assert (body["aggregate"], body["aggregate_id"], body["version"], body["place"]) == (
            "run",
            "r1",
            1,
            1,
        )
        assert body["event"]["error"] == {"code": "refused", "message": "no"}

    Room().play(story)


def test_what_people_change_starts_a_run_at_the_beginning_of_a_chain() -> None:
    async def story(room: Room) -> None:
        room.trigger(*on_event("workflow.version-published"))
        await asyncio.sleep(1)
        room.recorded("workflow", "w1", VersionPublished(version=1, plan=PLAN))
        await room.until_read()
        [start] = room.starts
        assert start.cause == Cause(kind="event", id="workflow.w1.1.0")
        assert room.given()["body"]["actor"] == "key:1"

    Room().play(story)


def missed(room: Room, count: int = 3) -> ScheduleMissed:
    now = room.clock.now()
    return ScheduleMissed(first=now, last=now, count=count, policy="skip")


def test_what_a_schedule_has_missed_starts_a_run_that_can_tell_people() -> None:
    async def story(room: Room) -> None:
        room.trigger(*on_event("schedule.missed"))
        await asyncio.sleep(1)
        room.decided("s1", FirePlanned(revision=1), missed(room))
        await room.until_read()
        [start] = room.starts
        assert start.run == run_id("org", "t1", "event:schedule.s1.1.1")
        assert start.cause == Cause(kind="event", id="schedule.s1.1.1"), "the clock stands at the beginning"
        body = room.given()["body"]
        assert (body["aggregate"], body["aggregate_id"], body["actor"]) == ("schedule", "s1", "timer")
        assert (body["type"], body["event"]["count"], body["event"]["policy"]) == (
            "schedule.missed",
            3,
            "skip",
        )

    Room().play(story)


def test_of_a_schedule_only_what_the_filter_lets_through_and_what_was_asked_for_starts_runs() -> None:
    async def story(room: Room) -> None:
        room.trigger(*on_event("schedule.missed", filter="trigger.body.event.count > 5"))
        await asyncio.sleep(1)
        now = room.clock.now()
        room.decided("s1", missed(room, 5), FireStarted(planned=now, run="r1"))
        room.decided("s1", missed(room, 6))
        room.decided("s2", missed(room, 7), org="other")
        await room.until_read()
        assert [start.cause.id for start in room.starts] == ["schedule.s1.2.0"]
        assert room.counts["unwanted"] == 1

    Room().play(story)


def test_what_was_missed_while_nobody_read_starts_its_run_once() -> None:
    async def story(room: Room) -> None:
        room.trigger(*on_event("schedule.missed"))
        await asyncio.sleep(1)
        room.away = 3
        room.decided("s1", missed(room))
        await room.until_read()
        room.fires_at.at = Position(epoch=1, sequence=0, generation="two")
        room.decided("s1", missed(room))
        await room.until_read()
        assert {start.run for start in room.starts} == {
            run_id("org", "t1", f"event:schedule.s1.{version}.0") for version in (1, 2)
        }

    Room().play(story)


def test_each_event_of_a_commit_and_each_trigger_has_its_own_run() -> None:
    async def story(room: Room) -> None:
        room.trigger(*on_event("step.failed"))
        room.trigger(*on_event("step.failed", "run.failed"), id_="t2")
        await asyncio.sleep(1)
        failed = [StepFailed(step=name, node=name, error=ERROR) for name in ("a", "b")]
        room.happened("r1", started(), *failed, RunFailed(error=ERROR))
        await room.until_read()
        assert len({start.run for start in room.starts}) == 5
        assert len({start.receipt for start in room.starts}) == 5

    Room().play(story)


# --- Filters ------------------------------------------------------------------------------------


def test_a_filter_decides_and_one_that_cannot_is_told_and_holds_up_nothing() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after(RunEnd(filter="trigger.body.workflow == 'a'")))
        room.trigger(*after(RunEnd(filter="trigger.body.error.code == 'refused'")), id_="t2")
        room.trigger(*after(RunEnd(filter="trigger.body.version")), id_="t3")
        await asyncio.sleep(1)
        room.ended("r1", workflow="a")
        room.ended("r2", RunFailed(error=ERROR), workflow="b")
        await room.until_read()
        assert {(start.trigger, start.cause.id) for start in room.starts} == {("t1", "r1"), ("t2", "r2")}
        told = {(hook.trigger, hook.reason.partition(":")[0]) for hook in room.told}
        assert told == {("t2", "run.r1.2.0"), ("t3", "run.r1.2.0"), ("t3", "run.r2.2.0")}
        assert all(hook.result == "refused" and "the filter:" in hook.reason for hook in room.told)
        assert room.counts["filter_failed"] == 3

    Room().play(story)


# --- From when to when --------------------------------------------------------------------------


def test_only_what_happens_while_it_is_enabled_and_published_is_followed() -> None:
    async def story(room: Room) -> None:
        room.ended("before")
        await asyncio.sleep(1)
        room.trigger(after()[0])
        await asyncio.sleep(1)
        room.ended("unpublished")
        await asyncio.sleep(1)
        room.trigger(after()[1])
        await asyncio.sleep(1)
        room.ended("first")
        await asyncio.sleep(1)
        await room.until_read()
        room.trigger(TriggerDisabled())
        await asyncio.sleep(1)
        room.ended("disabled")
        await asyncio.sleep(1)
        room.trigger(TriggerEnabled())
        await asyncio.sleep(1)
        room.ended("second")
        await room.until_read()
        room.trigger(TriggerDeleted())
        await asyncio.sleep(1)
        room.ended("gone")
        await room.until_read()
        assert [start.cause.id for start in room.starts] == ["first", "second"]

    Room().play(story)


def test_what_happened_before_an_edit_is_read_as_it_was_followed_then() -> None:
    async def story(room: Room) -> None:
        room.full = True  # Nothing is read on meanwhile.
        room.trigger(*after(RunEnd(filter="trigger.body.version == 2")))
        room.trigger(*on_event("run.completed"), id_="t2")
        await asyncio.sleep(1)
        room.ended("early")
        await asyncio.sleep(1)
        room.trigger(
            RunEndChanged(name="t", on=RunEnd(outcomes=("failed",))), TriggerBound(version=4, plan=PLAN)
        )
        room.trigger(EventChanged(name="t", on=Happening(types=("run.failed",))), id_="t2")
        await asyncio.sleep(1)
        room.ended("late")
        room.full = False
        await room.until_read()
        assert {(start.trigger, start.cause.id[:8]) for start in room.starts} == {
            ("t1", "early"),
            ("t2", "run.earl"),
        }
        assert {start.version for start in room.starts if start.trigger == "t1"} == {4}, (
            "what starts is of now"
        )

    Room().play(story)


def test_while_nobody_follows_anything_nothing_is_read_and_nothing_is_missed_later() -> None:
    async def story(room: Room) -> None:
        for number in range(20):
            room.ended(f"r{number}")
        await room.until_read()
        assert room.at.sequence == 40
        room.trigger(*after())
        room.ended("now")
        await room.until_read()
        assert [start.cause.id for start in room.starts] == ["now"]

    Room().play(story)


def test_whoever_made_a_trigger_can_be_sure_that_what_comes_next_is_seen_by_it() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after(RunEnd(workflows=("nobodys",))), id_="t0")
        await asyncio.sleep(2)  # Something is followed, so events are read as they come.
        room.behind = 1.0
        room.trigger(*after())
        room.ended("r1")
        await room.until_read()
        assert [start.cause.id for start in room.starts] == ["r1"]

    Room().play(story)


# --- Whatever is away ---------------------------------------------------------------------------


def test_nothing_is_passed_by_while_a_run_cannot_be_asked_for() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        await asyncio.sleep(1)
        room.away = 3
        room.ended("r1")
        room.ended("r2")
        await room.until_read()
        assert {start.cause.id for start in room.starts} == {"r1", "r2"}

    Room().play(story)


def test_a_refusal_that_may_pass_is_asked_again_and_one_that_stays_is_told() -> None:
    async def story(room: Room) -> None:
        busy = [True, True]

        def answers(start: StartRun) -> Answer:
            if start.cause.id == "r1":
                return Answer(run=start.run, result="refused", error=ERROR)
            error = Failure(code="unavailable", message="later", retryable=True)
            return (
                Answer(run=start.run, result="refused", error=error)
                if busy and busy.pop()
                else Answer(run=start.run, result="accepted")
            )

        room.answers = answers
        room.trigger(*after())
        await asyncio.sleep(1)
        room.ended("r1")
        room.ended("r2")
        await room.until_read()
        assert room.starts[-1].cause.id in ("r1", "r2")
        assert {hook.reason for hook in room.told} == {"run.r1.2.0: refused: no"}

    Room().play(story)


def test_while_the_disk_is_nearly_full_nothing_starts_and_nothing_is_lost() -> None:
    async def story(room: Room) -> None:
        room.full = True
        room.trigger(*after())
        await asyncio.sleep(1)
        room.ended("r1")
        await asyncio.sleep(5)
        assert room.starts == []
        room.full = False
        await room.until_read()
        assert [start.cause.id for start in room.starts] == ["r1"]

    Room().play(story)


def test_what_nobody_can_read_holds_up_nothing() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after())
        await asyncio.sleep(1)
        room.runs.put(run("org", "broken"), b"\xff{")
        room.domain.put(domain("org", "trigger", "t9"), b"{}")
        room.ended("r1")
        await room.until_read()
        assert [start.cause.id for start in room.starts] == ["r1"]

    Room().play(story)


# --- Loops --------------------------------------------------------------------------------------


def chained(room: Room, workflows: Sequence[str]) -> None:
    """Runs that have started each other; the last one ends."""
    cause = Cause(kind="api")
    for number, workflow in enumerate(workflows):
        room.happened(f"r{number}", started(workflow=workflow, cause=cause))
        cause = behind(cause, "run", f"r{number}")
    room.happened(f"r{len(workflows) - 1}", RunCompleted())


def test_a_workflow_that_starts_itself_too_often_is_stopped_and_the_loop_is_named() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after(RunEnd(workflows=("a",))))
        await asyncio.sleep(1)
        chained(room, ["flow", "a"] * CAUSES_ALIKE)
        await room.until_read()
        assert room.starts == []
        [hook] = room.told
        assert hook.reason.endswith("a loop: flow → a → flow → a → flow → a → flow")
        assert room.counts["loops"] == 1

    Room().play(story)


def test_a_loop_that_goes_by_an_address_of_ours_is_named_too() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after(RunEnd(workflows=("a",))))
        await asyncio.sleep(1)
        # "flow" calls the webhook of "a", whose end starts "flow".
        before, number = Cause(kind="api"), 0
        for workflow in ("flow", "a") * CAUSES_ALIKE:
            room.happened(f"r{number}", started(workflow=workflow, cause=before))
            by_us = workflow == "flow"
            before = behind(before, "run", f"r{number}", workflow)
            if by_us:
                before = structs.replace(before, kind="webhook", id=f"receipt-{number}", run=f"r{number}")
            number += 1
        room.happened(f"r{number - 1}", RunCompleted())
        await room.until_read()
        assert room.starts == []
        [hook] = room.told
        assert hook.reason.endswith("a loop: flow → a → flow → a → flow → a → flow")

    Room().play(story)


def test_a_long_chain_of_different_workflows_goes_on_to_its_bound() -> None:
    async def story(room: Room) -> None:
        room.trigger(*after(RunEnd(workflows=("last",))))
        await asyncio.sleep(1)
        chained(room, [*(f"w{number}" for number in range(CAUSES_DEEP - 1)), "last"])
        await room.until_read()
        assert [start.cause.depth for start in room.starts] == [CAUSES_DEEP]

    Room().play(story)


def test_one_more_is_one_too_many() -> None:
    assert not too_deep(Cause(kind="run", depth=CAUSES_DEEP))
    assert too_deep(behind(Cause(kind="run", depth=CAUSES_DEEP), "run", "r"))
    assert not goes_round(["a"] * CAUSES_ALIKE)
    assert goes_round(["a"] * (CAUSES_ALIKE + 1))
    assert not goes_round(["a"] * 9 + ["b"])
