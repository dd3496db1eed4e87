"""A whole installation in one process: the services' own shells on simulated stores, one seed one schedule."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from msgspec import Raw, Struct, structs

from chassis.dispatch import QUEUED, Dispatch
from chassis.egress import Egress
from chassis.ids import run_id
from chassis.ports import Ambiguous, Away
from chassis.telemetry import Tracer
from chassis.testing.queues import MemoryInbox, MemoryOwnership, MemorySignals, MemoryTasks
from chassis.testing.stores import MemoryBlobs, MemoryLetters, MemoryLog
from chassis.testing.world import START, Rates, SimulatedClock, World
from contracts.codec import encode
from contracts.messages import Look, StartRun
from contracts.nodes import NodeSpec
from contracts.payloads import Inline
from contracts.plans import Plan
from contracts.runs import TERMINAL, Cause
from contracts.subjects import partition
from executor.attempt import Means
from executor.effects import Effects
from executor.node import Context, Result
from executor.opening import Opening
from executor.registry import Registry, installed
from executor.relay import Relay
from executor.service import Executor
from orchestrator.answers import Replies
from orchestrator.emission import Emission
from orchestrator.judge import Judge
from orchestrator.memory import fold
from orchestrator.run import Graph
from orchestrator.service import Orchestrator
from orchestrator.sources import PLAN_TYPE, Programs, Sources
from tests.orchestrator.stories import AsWritten

ORG = "org"


class Call(Struct, frozen=True, kw_only=True):
    """The configuration of a call to the world."""

    name: str = "call"


class Outside:
    """The world: it does what it is asked, and sometimes does not say so."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.calls: list[tuple[str, str]] = []
        """Every effect that happened: idempotency key and what was asked."""

    async def call(self, key: str, name: str) -> str:
        def act() -> str:
            self.calls.append((key, name))
            return f"{name} done"

        return await self._world.operation(act)


class CallNode:
    """Calls the world by way of the effect ledger."""

    config = Call

    def __init__(self, outside: Outside, repeat: str) -> None:
        self.spec = NodeSpec(
            type="call.once" if repeat == "no" else "call.again",
            title="Call",
            help="",
            icon="x",
            category="x",
            repeat=repeat,  # type: ignore[arg-type]
            config={"type": "object"},
        )
        self._outside = outside

    async def run(self, config: Call, context: Context) -> Result:
        async with context.effect():
            try:
                answer = await self._outside.call(context.key, config.name)
            except Ambiguous as unheard:
                raise TimeoutError from unheard
        return Result(output=answer)


class Literal(Struct, frozen=True):
    """A plan whose configurations are what they say."""

    graph: Graph

    def evaluator(self, _values: Mapping[str, bytes | None]) -> AsWritten:
        return AsWritten(self.graph)


class NoArchive:
    async def commits(self, _org: str, _run: str) -> list[bytes]:
        return []


class NoSecrets:
    async def open(self, _org: str, _secret: str) -> Any:
        raise KeyError


class Until:
    """Nobody asks a simulated service to stop."""

    async def wait(self) -> None:
        await asyncio.Event().wait()


class Installation:
    """Stores and processes of one simulated installation."""

    def __init__(self, seed: int, plans: Mapping[str, Plan], rates: Rates) -> None:
        self.world = world = World(seed)
        self.clock = SimulatedClock(world)
        self.runs = MemoryLog(world)
        self.effects = MemoryLog(world)
        self.signals = MemorySignals(world)
        self.inbox = MemoryInbox(world)
        self.tasks = MemoryTasks(world)
        self.blobs = MemoryBlobs(world)
        self.dead = MemoryLetters(world)
        self.outside = Outside(world)
        self.accepted: dict[str, str] = {}
        """Run → receipt of the delivery that was told 202."""
        self.counts: Counter[str] = Counter()
        self._executors = 0
        self._plans = {}
        for name, plan in plans.items():
            body = encode(plan)
            from chassis.ids import digest

            self._plans[name] = digest(body)
            self.blobs.kept[self._plans[name]] = body
        world.rates = rates

    # --- Processes ----------------------------------------------------------------------------

    def start(self) -> None:
        self.processes = {
            "server": self.inbox.run,
            "o1": self.orchestrator,
            "o2": self.orchestrator,
            "e1": self.executor,
            "e2": self.executor,
            "sweeper": self.sweeper,
        }
        for name, main in self.processes.items():
            self.world.loop.spawn(name, main())
        self.world.loop.before_step = self._misfortune

    def _misfortune(self, process: str) -> None:
        world = self.world
        if process == "server" or process.startswith("client"):
            return
        if world.happens(world.rates.killed):
            world.kills += 1
            world.loop.kill(process)
            world.loop.call_in("", 0.1 + world.random.random(), self._restart, process)
        elif world.happens(world.rates.paused):
            world.loop.pause(process, world.random.random() * 4)

    def _restart(self, process: str) -> None:
        self.tasks.since[process] = self.world.loop.time()
        self.world.loop.spawn(process, self.processes[process]())

    async def orchestrator(self) -> None:
        ownership = MemoryOwnership(self.world, self.inbox, self.signals)
        sources = Sources(
            log=self.runs,
            blobs=self.blobs,
            archive=NoArchive(),
            compile_plan=lambda plan: Literal(Graph.of(plan)),
        )
        await Orchestrator(
            history=self.runs,
            ownership=ownership,
            emission=Emission(
                tasks=self.tasks,
                inbox=self.inbox,
                signals=self.signals,
                ownership=ownership,
                clock=self.clock,
            ),
            sources=sources,
            judge=Judge(sources),
            replies=Replies(self.signals),
            dead_letters=self.dead,
            clock=self.clock,
        ).serve()

    async def executor(self) -> None:
        self._executors += 1
        name = f"executor:{self._executors}"
        nodes = [CallNode(self.outside, "no"), CallNode(self.outside, "yes")]
        dispatch = Dispatch(self.signals, self.inbox)
        means = Means(
            actor=name,
            registry=Registry({node.spec.type: installed(node) for node in nodes}),  # type: ignore[arg-type]
            effects=Effects(self.effects, self.clock, name),
            runs=self.runs,
            opening=Opening(NoSecrets()),
            blobs=self.blobs,
            egress=Egress([]),
            relay=Relay("127.0.0.1", 25, "a@b"),
            clock=self.clock,
            tracer=Tracer(),
        )
        executor = Executor(
            means=means,
            pools={"default": (self.tasks, 8)},
            dispatch=dispatch,
            signals=self.signals,
            letters=self.dead,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(dispatch.run())
            group.create_task(executor.serve(Until()))

    async def sweeper(self) -> None:
        """Looks at every run that has been still for a while (projections find them in Postgres)."""
        while True:
            await asyncio.sleep(3 + self.world.random.random())
            for subject, history in self.runs.subjects().items():
                if self.world.loop.time() - history[-1].time < 5:
                    continue
                _, org, run = subject.split(".")
                if fold(org, run, history).run.status in TERMINAL:
                    continue
                try:
                    await self.inbox.look(partition(run), org, run, encode(Look(org=org, run=run)))
                except Away:
                    self.counts["looks_lost"] += 1

    async def client(self, plan: str, key: str, *, receipt: str) -> None:
        """Sends one delivery until it is told that it was accepted."""
        dispatch = Dispatch(self.signals, self.inbox)
        run = run_id(ORG, "trigger", f"key:{key}")
        start = StartRun(
            org=ORG,
            run=run,
            plan=self._plans[plan],
            workflow="flow",
            version=1,
            receipt=receipt,
            cause=Cause(kind="webhook", id=receipt),
            input=Inline(value=Raw(b'{"body":{"n":1}}')),
            trigger="trigger",
        )
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(dispatch.run())
            while True:
                try:
                    answer = await dispatch.send(start)
                    break
                except Away:
                    await asyncio.sleep(0.2)
            self.counts["queued" if answer is QUEUED else answer.result] += 1
            self.accepted[run] = receipt
            carrying.cancel()


def hold(plan: Plan) -> Plan:
    """The same plan with actions that call the world."""
    return structs.replace(
        plan,
        nodes=tuple(
            structs.replace(node, type="call.again", repeat="yes", config={"name": node.id})
            if node.type == "echo"
            else node
            for node in plan.nodes
        ),
    )


__all__ = ["START", "PLAN_TYPE", "Installation", "Programs", "hold"]
