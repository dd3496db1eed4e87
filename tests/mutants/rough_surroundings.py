"""Installations that are rougher than the simulation's own in one respect, or that remember more of what happened."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final
from unittest.mock import patch

import msgspec

from chassis.ports import Away
from chassis.testing.stores import MemoryLog
from chassis.testing.world import START, Rates
from contracts import runs, upcasts
from contracts.codec import encode
from contracts.messages import Task, Wake
from contracts.subjects import EFFECTS, RUNS
from contracts.subjects import run as run_subject
from executor.errors import Unreachable
from ingress.replies import Reply
from orchestrator import commits
from projections.archiver import Archiver
from projections.figures import Figures
from tests.promises.evidence import History, Violation
from tests.simulation.archive import MemoryStreams
from tests.simulation.installation import ORG, Installation
from tests.simulation.outside import Behaviour
from tests.simulation.processes import Stop
from tests.simulation.workflows import Story

JUST_NOW: Final = 0.5
"""An outcome may be on its way into the log at that very moment."""


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


@contextmanager
def old_shapes() -> Iterator[None]:
    """An older release wrote outcomes in another shape, and goes on writing them."""
    with (
        patch.dict(vars(commits), encode=_written_long_ago),
        patch.dict(upcasts.CURRENT, {"step.reported": 2}),
        patch.dict(upcasts.UPCASTS, {("step.reported", 1): _lifted}),
    ):
        yield


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


STRANGE: Final = b'{"n":-0.0,"i":123456789012345678901234567890,"e":1e2,"s":"\\u00e9\\/","n":1.0}'


class Strange(Installation):
    """What is sent does not survive being read and written again."""

    def __init__(self, seed: int, story_: Story, rates: Rates) -> None:
        super().__init__(seed, story_, rates)
        post = self.web.post

        async def posting(token: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
            return await post(token, headers, body if "x-hub-signature-256" in headers else STRANGE)

        self.web.post = posting  # type: ignore[method-assign]  # In its place.
