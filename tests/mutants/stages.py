"""Where mutants are played: the simulation's own storm, and stages that are rougher or stricter in one respect.

A stage that looks closer does so where its own faults leave no innocent explanation: every stage stays silent about the
unchanged code, and the crew checks that at every seed that has killed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from chassis.ids import run_id
from chassis.ports import Away
from chassis.testing.stores import MemoryLog
from chassis.testing.world import CALM, START, Rates
from contracts import runs, upcasts
from contracts.codec import Malformed, encode
from contracts.messages import Task, Wake
from contracts.plans import PlanEdge
from contracts.subjects import EFFECTS, RUNS, partition
from contracts.subjects import run as run_subject
from contracts.triggers import HeaderKey, Webhook
from executor.errors import Unreachable
from ingress.replies import Reply
from orchestrator import commits
from orchestrator.acceptance import EARLY
from projections.archiver import Archiver
from projections.figures import Figures
from tests.orchestrator.stories import control
from tests.promises.evidence import Evidence, History, Violation
from tests.simulation.archive import MemoryStreams
from tests.simulation.installation import ORG, Installation
from tests.simulation.outside import Behaviour
from tests.simulation.processes import Stop
from tests.simulation.schedule import STORM, lived, quiet
from tests.simulation.workflows import Delivery, Story, story

__all__ = ["STAGES", "Seen", "quiet"]

LATE: Final = timedelta(seconds=15)
"""By then a deadline that has passed is known where nothing goes wrong: five seconds until it counts, five per sweep."""


JUST_NOW: Final = 0.5


class Seen(Struct, frozen=True, kw_only=True):
    """What came of one schedule."""

    violations: Sequence[Violation]
    texts: Sequence[bytes]
    """Where a mistake of the mutant's own would show: violations, stored commits, reasons of dead letters."""


Stage = Callable[[int], Seen]
Judge = Callable[[Installation, Evidence], Sequence[Violation]]


def played(installation: Installation, judge: Judge | None = None) -> Seen:
    """Play an installation to its end."""
    try:
        schedule, evidence = lived(installation)
    except Malformed as malformed:
        return Seen(violations=[Violation("P10", f"a history cannot be read: {malformed}")], texts=())
    violations = list(schedule.violations)
    if judge is not None and not violations:
        violations += judge(installation, evidence)
    if not violations:
        return Seen(violations=(), texts=())
    texts = [str(violation).encode() for violation in violations]
    texts += [stored.body for stored in evidence.messages]
    texts += [repr(headers).encode() for _, _, headers in installation.dead.stored]
    return Seen(violations=violations, texts=texts)


def staged(
    made: Callable[[int, Story, Rates], Installation] = Installation,
    rates: Rates = STORM,
    told: Callable[[int], Story] = story,
    judge: Judge | None = None,
) -> Stage:
    """A stage with these faults, these stories and these surroundings."""
    return lambda seed: played(made(seed, told(seed), rates), judge)


# --- Closer looks -------------------------------------------------------------------------------


def wishes_are_obeyed(_installation: Installation, evidence: Evidence) -> list[Violation]:
    """Once somebody wants it to stop, a run begins no attempt and does not end well; no wait ends before it is due."""
    return [violation for history in evidence.histories() for violation in _stops_and_waits(history)]


def _stops_and_waits(history: History) -> list[Violation]:
    found: list[Violation] = []
    stops, due = False, dict[str, Any]()
    for commit in history.commits:
        for event in commit.events:
            match event:
                case runs.CancelRequested() | runs.RunStopping():
                    stops = True
                case runs.RunReopened():
                    stops = False
                case runs.AttemptScheduled() | runs.RunCompleted() if stops:
                    found.append(
                        Violation("P3", f"{type(event).__name__} although it shall stop", history.run)
                    )
                case runs.WaitOpened():
                    due[event.wait] = event.due
                case runs.WaitEnded() if commit.time < due[event.wait] - EARLY:
                    found.append(Violation("P3", f"{event.wait} ended before it was due", history.run))
    return found


def attempts_happen_once(_installation: Installation, evidence: Evidence) -> list[Violation]:
    """Without a fault nothing is attempted twice."""
    counts = Counter((effect.run, effect.step, effect.attempt) for effect in evidence.effects)
    return [
        Violation("P5", f"attempt {attempt} at {step} acted {count} times and nothing had gone wrong", run)
        for (run, step, attempt), count in counts.items()
        if count > 1
    ]


def deadlines_are_kept(_installation: Installation, evidence: Evidence) -> list[Violation]:
    """Without a fault a run whose deadline has passed is told so."""
    return [
        Violation("P3", f"{commit.time} and still at it, deadline {history.state.deadline}", history.run)
        for history in evidence.histories()
        for commit in history.commits[-1:]
        if history.state.deadline is not None and commit.time > history.state.deadline + LATE
    ]


# --- Surroundings -------------------------------------------------------------------------------


class Told(Installation):
    """Nobody is overtaken here, so an attempt whose task was acknowledged is not asked for again."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        self.asked_again: list[tuple[float, Task]] = []
        acknowledged = set[str]()
        emit, acknowledge, loop = self.tasks.emit, self.tasks.acknowledge, self.world.loop

        def emitting(pool: str, subject: str, body: bytes) -> None:
            if subject in acknowledged:
                self.asked_again.append((loop.time(), msgspec.json.decode(body, type=Task)))
            emit(pool, subject, body)

        def acknowledging(task: Any) -> None:
            acknowledged.add(task.subject)
            acknowledge(task)

        self.tasks.emit = emitting  # type: ignore[method-assign]  # In its place.
        self.tasks.acknowledge = acknowledging  # type: ignore[method-assign]  # In its place.


_ON_THE_WAY: Final = structs.replace(
    CALM,
    **{
        name: getattr(STORM, name)
        for name in (
            "refused",
            "timed_out",
            "done_but_timed_out",
            "delivered_twice",
            "ack_lost",
            "signal_lost",
        )
    },
    stale=0.05,
    stopped=0.002,
    poisoned=0.02,
)
"""What befalls messages, and nothing that befalls servers or clocks, whatever else the storm learns."""
NOBODY_OVERTAKEN: Final = structs.replace(_ON_THE_WAY, killed=0.01)


def told_once(installation: Installation, _evidence: Evidence) -> list[Violation]:
    """But for an outcome that is being recorded at that very moment."""
    assert isinstance(installation, Told)
    return [
        Violation("P5", f"attempt {task.attempt} at {task.step} was told, and is asked for again", task.run)
        for at, task in installation.asked_again
        if (over := over_since(installation, task)) is None or abs(over - at) > JUST_NOW
    ]


def over_since(installation: Installation, task: Task, *, also_stopping: bool = False) -> float | None:
    """When the history said that an attempt has ended, or that its run wants no more of it."""
    since: float | None = None
    for stored in installation.runs.ever[run_subject(task.org, task.run)]:
        for event in History(task.org, task.run, [stored]).events:
            ends = isinstance(event, _ENDS) and (event.step, event.attempt) == (task.step, task.attempt)
            if ends or (also_stopping and isinstance(event, runs.RunStopping)):
                since = stored.time - START.timestamp()
            elif also_stopping and isinstance(event, runs.RunReopened):
                since = None
    return since


_ENDS: Final = (runs.StepReported, runs.AttemptFailed, runs.AttemptDoubted, runs.AttemptCancelled)


class Unswept(Installation):
    """Nobody sweeps, and no task is lost on its way: everything must be asked for by whoever decided on it."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        lay, loop, random = self.tasks._lay, self.world.loop, self.world.random  # No fault on the way.

        def emit(_pool: str, subject: str, body: bytes) -> None:
            loop.call_in("", random.random() * 0.01, lay, subject, body)

        self.tasks.emit = emit  # type: ignore[method-assign, assignment]  # In its place.

    async def _sweeper(self, stop: Stop) -> None:
        await stop.wait()


NO_SERVERS_FAIL: Final = structs.replace(
    _ON_THE_WAY, killed=0.04, paused=0.006, unpinned=0.05, done_later=0.02
)


class Restarts(Installation):
    """Only servers fail here, and bring back tasks that were done: an attempt that is over is not begun again."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        self.begun_again: list[Violation] = []
        call, loop = self.outside.call, self.world.loop

        async def calling(task: Task, key: str, behaviour: Behaviour) -> str:
            over = over_since(self, task, also_stopping=True)
            if over is not None and over < loop.time() - JUST_NOW:
                self.begun_again.append(
                    Violation("P5", f"attempt {task.attempt} at {task.step} was over, and begins", task.run)
                )
            return await call(task, key, behaviour)

        self.outside.call = calling  # type: ignore[method-assign]  # In its place.


ONLY_RESTARTS: Final = structs.replace(CALM, restarted=0.6)


def over_is_over(installation: Installation, _evidence: Evidence) -> list[Violation]:
    assert isinstance(installation, Restarts)
    return installation.begun_again


class LostTasks(Installation):
    """Half of the tasks get lost on their way, until all is calm."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        self._loses = True
        emit, random = self.tasks.emit, self.world.random

        def emitting(pool: str, subject: str, body: bytes) -> None:
            if not self._loses or random.random() < 0.5:
                emit(pool, subject, body)

        self.tasks.emit = emitting  # type: ignore[method-assign]  # In its place.

    def calm(self) -> None:
        self._loses = False
        super().calm()


class LostWakes(Installation):
    """Half of the wake-ups are lost although they were stored, until all is calm."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        self._loses = True
        wake_at, world = self.inbox.wake_at, self.world

        async def waking(wakes: Sequence[tuple[Wake, datetime]]) -> None:
            if self._loses and world.random.random() < 0.5:
                await world.moment()
            else:
                await wake_at(wakes)

        self.inbox.wake_at = waking  # type: ignore[method-assign]  # In its place.

    def calm(self) -> None:
        self._loses = False
        super().calm()


class SlowInbox(Told):
    """What lies in INBOX comes late."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        deliver, loop, random = self.inbox._deliver, self.world.loop, self.world.random

        def delivering(number: int, letter: Any) -> None:
            loop.call_in("", random.random() * 2, deliver, number, letter)

        self.inbox._deliver = delivering  # type: ignore[method-assign]  # In its place.


class Apart(Installation):
    """Whoever sends what had been started before is told so."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        self.told_wrongly: list[Violation] = []
        post, loop = self.web.post, self.world.loop

        async def posting(token: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
            sent = loop.time()
            reply = await post(token, headers, body)
            if reply is not None and reply.status == 202:
                said = msgspec.json.decode(reply.body)
                for stored in self.runs.ever[run_subject(ORG, said["run"])][:1]:
                    if stored.time - START.timestamp() < sent and said["receipt"].encode() not in stored.body:
                        self.told_wrongly.append(Violation("P1", "202, but it had been started", said["run"]))
            return reply

        self.web.post = posting  # type: ignore[method-assign]  # In its place.


def told_apart(installation: Installation, _evidence: Evidence) -> list[Violation]:
    assert isinstance(installation, Apart)
    return installation.told_wrongly


class OldShapes(Installation):
    """An older release wrote outcomes in another shape, and goes on writing them."""

    def start(self) -> None:
        vars(commits)["encode"] = _written_long_ago
        upcasts.CURRENT["step.reported"] = 2  # type: ignore[index]  # Final, but for this stage.
        upcasts.UPCASTS["step.reported", 1] = _lifted  # type: ignore[index]  # Final, but for this stage.
        super().start()


def _written_long_ago(value: Any) -> bytes:
    written = msgspec.json.decode(encode(value))
    if isinstance(written, dict):
        for event in written["events"]:
            if event["type"] == "step.reported":
                event["result"] = event.pop("output")
    return encode(written)


def _lifted(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "result"} | {"output": event["result"]}


class Stubborn(Installation):
    """Some nodes do not stop when they are told to."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        call = self.outside.call

        async def calling(task: Task, key: str, behaviour: Behaviour) -> str:
            if behaviour != "vanish":
                return await call(task, key, behaviour)
            while True:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(500)
                    raise Unreachable("No answer came.", touched=True)

        self.outside.call = calling  # type: ignore[method-assign]  # In its place.


class Retiring(Installation):
    """Histories leave the log from the beginning, while their runs are tried again. Claims stay: a reopened run's are new."""

    def start(self) -> None:
        super().start()
        self.processes.start("archiver", self._archiver)

    async def _archiver(self, stop: Stop) -> None:
        archiver = Archiver(
            self.shelf,
            MemoryStreams(self.world, {RUNS: self.runs, EFFECTS: MemoryLog(self.world)}),
            self.runs,
            self.clock,
            Figures(),
            log_days=-1.0,
            archive_days="never",
        )
        async with asyncio.TaskGroup() as group:
            retiring = group.create_task(self._retire_now_and_then(archiver))
            await stop.wait()
            retiring.cancel()

    async def _retire_now_and_then(self, archiver: Archiver) -> None:
        while True:
            await asyncio.sleep(0.5)
            with suppress(Away):
                await archiver.round()


def sound(seed: int) -> Story:
    """Our own code raises on nothing: an outcome that it raises on is a dead letter, and the attempt is made again."""
    return structs.replace(story(seed), broken_code=False)


def keyed(seed: int) -> Story:
    """Whoever was not answered sends the same again: without a key a start that nobody was told of is nobody's but the
    sweeper's.
    """
    told = sound(seed)
    workflows = [
        structs.replace(drawn, webhook=structs.replace(drawn.webhook, dedupe=HeaderKey(header="x-key")))
        for drawn in told.workflows
    ]
    deliveries = [
        structs.replace(delivery, key=delivery.key or f"only-{number}")
        for number, delivery in enumerate(told.deliveries)
    ]
    return structs.replace(told, workflows=workflows, deliveries=deliveries)


def eager(seed: int) -> Story:
    """Much is cancelled, and much is tried again."""
    return structs.replace(sound(seed), cancels=0.3, retries=3)


def together(seed: int) -> Story:
    """Several runs of one partition begin at once."""
    told = sound(seed)
    drawn = structs.replace(
        told.workflows[0], webhook=Webhook(dedupe=HeaderKey(header="x-key")), stored=True, readable=True
    )
    names = (f"key-{number}" for number in range(1_000))
    beside = [key for key in names if partition(run_id(ORG, drawn.trigger, f"key:{key}")) == 0][:8]
    deliveries = [Delivery(trigger=drawn.trigger, key=key, at=1.0) for key in beside]
    return structs.replace(told, workflows=[drawn], deliveries=deliveries)


def large(seed: int) -> Story:
    """Every answer of the world is larger than a commit may hold."""
    return _scripted(sound(seed), ["big"])


def doubtful(seed: int) -> Story:
    """No call may be made twice, none is answered, and people decide again and again."""
    return _scripted(sound(seed), ["drop", "lose", "drop", "lose"], repeat="no", type="call.once")


def slow(seed: int) -> Story:
    """Every call takes its time, and much of it is cancelled."""
    return _scripted(eager(seed), ["slow"] * 4)


def _scripted(told: Story, script: Sequence[str], **changes: Any) -> Story:
    """The same story with this behaviour of the world at every call."""
    workflows = []
    for drawn in told.workflows:
        nodes = [
            structs.replace(node, config={"script": script}, **changes) if node.place == "executor" else node
            for node in drawn.plan.nodes
        ]
        workflows.append(structs.replace(drawn, plan=structs.replace(drawn.plan, nodes=tuple(nodes))))
    return structs.replace(told, workflows=workflows)


def hurried(seed: int) -> Story:
    """Every run has a second, and nobody retries."""
    told = sound(seed)
    workflows = [
        structs.replace(drawn, plan=structs.replace(drawn.plan, timeout_s=1.0)) for drawn in told.workflows
    ]
    return structs.replace(
        told, workflows=[_slow(drawn) for drawn in workflows], cancels=0, retries=0, retries_later=0
    )


def _slow(drawn: Any) -> Any:
    """The same workflow behind half a minute of pauses."""
    first = drawn.plan.nodes[0]
    pauses = [control(f"pause{n}", "delay", {"seconds": 3}, order=n) for n in range(10)]
    chain = [
        PlanEdge(source=f"pause{n}", port="main", target=f"pause{n + 1}" if n < 9 else first.id, into="main")
        for n in range(10)
    ]
    nodes = [*pauses, *(structs.replace(node, order=node.order + 10) for node in drawn.plan.nodes)]
    plan = structs.replace(drawn.plan, nodes=tuple(nodes), edges=(*chain, *drawn.plan.edges))
    return structs.replace(drawn, plan=plan)


STRANGE: Final = b'{"n":-0.0,"i":123456789012345678901234567890,"e":1e2,"s":"\\u00e9\\/","n":1.0}'


class Strange(Installation):
    """What is sent does not survive being read and written again."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        post = self.web.post

        async def posting(token: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
            return await post(token, headers, body if "x-hub-signature-256" in headers else STRANGE)

        self.web.post = posting  # type: ignore[method-assign]  # In its place.


STAGES: Final[Mapping[str, Stage]] = {
    "storm": staged(),
    "calm": staged(rates=CALM),
    "a closer look": staged(told=eager, judge=wishes_are_obeyed),
    "nothing goes wrong": staged(rates=CALM, told=sound, judge=attempts_happen_once),
    "in a hurry": staged(rates=CALM, told=hurried, judge=deadlines_are_kept),
    "told once": staged(Told, NOBODY_OVERTAKEN, eager, told_once),
    "unswept": staged(Unswept, NO_SERVERS_FAIL, keyed),
    "unswept, with clocks that jump": staged(
        Unswept, structs.replace(NO_SERVERS_FAIL, killed=0.01, clock_jumped=0.004), keyed
    ),
    "restarts": staged(Restarts, ONLY_RESTARTS, slow, judge=over_is_over),
    "stubborn nodes": staged(Stubborn, structs.replace(STORM, stopped=0.0)),
    "a slow inbox": staged(SlowInbox, NOBODY_OVERTAKEN, eager, told_once),
    "together": staged(rates=structs.replace(STORM, signal_lost=0.4, killed=0.02), told=together),
    "in doubt": staged(told=doubtful),
    "late stores": staged(rates=structs.replace(STORM, done_later=0.3, done_but_timed_out=0.1), told=sound),
    "lost tasks": staged(LostTasks),
    "lost wake-ups": staged(LostWakes),
    "standing still": staged(rates=structs.replace(STORM, paused=0.03), told=eager),
    "large answers": staged(told=large),
    "told apart": staged(Apart, judge=told_apart),
    "old shapes": staged(OldShapes),
    "early retirement": staged(Retiring, told=eager),
    "strange values": staged(Strange),
}
