"""An orchestrator with everything behind it in memory: the rooms in which tests of the shell play their stories."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Self

from msgspec import structs

from chassis.dispatch import Dispatch
from chassis.ids import digest
from chassis.ports import Away
from chassis.telemetry import Tracer
from chassis.testing.queues import MemoryInbox, MemoryOwnership, MemorySignals
from chassis.testing.stores import MemoryBlobs, MemoryLetters, MemoryLog
from chassis.testing.tasks import MemoryTasks
from chassis.testing.world import SimulatedClock, World
from contracts.codec import decode_answers, decode_commit, encode, encode_bundle
from contracts.messages import Answer, Message
from contracts.plans import Plan
from contracts.subjects import call, partition
from contracts.subjects import run as run_subject
from orchestrator.answers import Replies
from orchestrator.emission import Emission
from orchestrator.family import Family
from orchestrator.history import state_at
from orchestrator.judge import Judge
from orchestrator.lanes import FIRST, Lanes
from orchestrator.run import Graph, Run
from orchestrator.segments import Bounds
from orchestrator.service import Orchestrator
from orchestrator.sources import Sources
from tests.orchestrator.stories import START, AsWritten
from tests.simulation.surroundings import Program


class Defect(AsWritten):
    """A release with a defect: it raises when it evaluates the node `bad`."""

    def config(self, run: Any, path: Any, node: Any) -> Any:
        if node.id == "bad":
            raise RuntimeError("a defect of ours")
        return super().config(run, path, node)


class Programs:
    def __init__(self, plan: Plan) -> None:
        self.graph = Graph.of(plan)

    def evaluator(self, *_: Any) -> AsWritten:
        return Defect(self.graph)


class NoArchive:
    def __init__(self) -> None:
        self.kept: list[bytes] = []

    async def commits(self, _org: str, _run: str) -> list[bytes]:
        return self.kept


class Room:
    """One plan, and an orchestrator that may be killed and spawned again. Kinds of rooms give it more."""

    service: Orchestrator
    """The one that was spawned last."""
    ownership: MemoryOwnership

    def __init__(self, plan: Plan, seed: int = 1) -> None:
        self.world = World(seed)
        self.log = MemoryLog(self.world)
        self.signals = MemorySignals(self.world)
        self.inbox = MemoryInbox(self.world)
        self.tasks = MemoryTasks(self.world)
        self.blobs = MemoryBlobs(self.world)
        self.dead = MemoryLetters(self.world)
        self.archive = NoArchive()
        self.clock = SimulatedClock(self.world)
        self.tracer: Tracer | None = None
        self.bounds = Bounds()
        self.window = FIRST
        """So many tasks of a pool may be out before anything is known of it."""
        body = encode(plan)
        self.blobs.kept[digest(body)] = body
        self.start = structs.replace(START, plan=digest(body))

    def sources(self, **more: Any) -> Sources:
        given = {"compile_plan": Programs} | more
        return Sources(log=self.log, blobs=self.blobs, archive=self.archive, **given)

    def shell(self, sources: Sources, **more: Any) -> Orchestrator:
        return Orchestrator(
            history=self.log,
            ownership=self.ownership,
            emission=Emission(
                tasks=self.tasks,
                inbox=self.inbox,
                signals=self.signals,
                ownership=self.ownership,
                clock=self.clock,
                lanes=Lanes(first=self.window),
            ),
            sources=sources,
            judge=Judge(sources, bounds=self.bounds),
            replies=Replies(self.signals),
            dead_letters=self.dead,
            clock=self.clock,
            tracer=self.tracer,
            **more,
        )

    async def orchestrator(self) -> None:
        self.ownership = MemoryOwnership(self.world, self.inbox, self.signals)
        self.service = self.shell(self.sources())
        await self.service.serve()

    def play(
        self,
        story: Callable[[Self], Coroutine[Any, Any, None]],
        *,
        steps: int = 200_000,
        seconds: float = 600,
    ) -> None:
        loop = self.world.loop
        loop.spawn("orchestrator", self.orchestrator())
        told = loop.spawn("story", self._told(story))
        try:
            loop.run_until(told.done, steps=steps, seconds=seconds)
            told.result()
        finally:
            loop.close()

    async def _told(self, story: Callable[[Self], Coroutine[Any, Any, None]]) -> None:
        await asyncio.sleep(1)  # Until every partition has its owner.
        await story(self)

    async def say(self, *messages: Message) -> list[Answer]:
        body = encode_bundle([encode(message) for message in messages])
        answers = decode_answers(await self.signals.request(call(partition("run-1")), body, 30))
        await asyncio.sleep(0.5)  # Until what was emitted has arrived.
        return answers

    @property
    def events(self) -> list[str]:
        history = self.log.subjects().get(run_subject("org", "run-1"), ())
        return [
            str(type(event).__struct_config__.tag)
            for stored in history
            for event in decode_commit(stored.body).events
        ]

    def state(self, run: str = "run-1") -> Run:
        stored = self.log.subjects().get(run_subject("org", run), ())
        return state_at("org", run, [decode_commit(each.body) for each in stored])


def told(plan: Plan) -> Callable[[Callable[[Room], Coroutine[Any, Any, None]]], None]:
    return lambda story: Room(plan).play(story)


class Overheard(Dispatch):
    """Hears what runs say to each other; some of it may get lost."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.said: list[Message] = []
        self.lose: tuple[type, ...] = ()

    async def send(self, message: Any) -> Any:
        self.said.append(message)
        if isinstance(message, self.lose):
            raise Away("lost on the way")
        return await super().send(message)


class Talking(Room):
    """A room whose runs speak to each other, with everybody listening."""

    dispatch: Overheard

    def sources(self, **more: Any) -> Sources:
        return super().sources(compile_plan=lambda plan: Program(Graph.of(plan), lambda: False), **more)

    def shell(self, sources: Sources, **more: Any) -> Orchestrator:
        return super().shell(sources, family=Family(self.dispatch), **more)

    async def orchestrator(self) -> None:
        self.dispatch = dispatch = Overheard(self.signals, self.inbox)
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(dispatch.run())
            await super().orchestrator()
            carrying.cancel()

    async def tell(self, message: Message) -> str:
        answer = await Dispatch.send(self.dispatch, message)
        await asyncio.sleep(0.5)
        return answer.result

    def said(self, kind: type) -> int:
        return sum(isinstance(message, kind) for message in self.dispatch.said)
