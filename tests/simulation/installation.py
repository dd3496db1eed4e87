"""A whole installation in one process: the services' own shells on simulated stores, one seed one schedule."""

import asyncio
import itertools
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from typing import Final

from chassis.dispatch import Dispatch
from chassis.egress import Egress
from chassis.expressions import Language
from chassis.ids import digest
from chassis.past import SETTLED_SECONDS, Horizon, PastRuns
from chassis.ports import Away
from chassis.telemetry import Tracer
from chassis.testing.past import MemoryRunIds
from chassis.testing.queues import MemoryInbox, MemoryOwnership, MemorySignals
from chassis.testing.stores import MemoryBlobs, MemoryLetters, MemoryLog
from chassis.testing.tasks import MemoryTasks
from chassis.testing.world import START, Fault, Rates, SimulatedClock, World
from contracts.codec import encode
from contracts.commits import DomainCommit
from contracts.subjects import EFFECTS, RUNS, domain
from contracts.triggers import TriggerBound, TriggerCreated, TriggerEvent
from executor.attempt import Means
from executor.effects import Effects
from executor.opening import Opening
from executor.registry import Registry
from executor.relay import Relay
from executor.service import Executor
from ingress.accept import Door
from ingress.directory import Directory
from ingress.waiting import Waiting
from orchestrator.answers import Replies
from orchestrator.emission import Emission
from orchestrator.judge import Judge
from orchestrator.past import Past
from orchestrator.run import Graph
from orchestrator.service import Orchestrator
from orchestrator.sources import Sources
from projections.archiver import ROUND_SECONDS, Archiver, Tombstones
from projections.figures import Figures, Progress
from projections.projector import Projector
from projections.run_tables import RunTables
from projections.sweeper import Sweeper
from tests.promises.evidence import Decoded, Entry
from tests.simulation.archive import (
    MemoryArchive,
    MemoryShelf,
    MemoryStragglers,
    MemoryStreams,
    past_runs,
)
from tests.simulation.clients import Web, deliver
from tests.simulation.models import MemoryModels
from tests.simulation.outside import Outside, nodes
from tests.simulation.people import Person
from tests.simulation.processes import HOUR, LONGEST_PAUSE, Processes, Stop
from tests.simulation.surroundings import FewHooks, Forgetful, Program, Unlimited, Vault
from tests.simulation.workflows import Drawn, Story

ORG: Final = "org"
SLOTS: Final = 8


class Installation:
    """Stores and processes of one simulated installation."""

    def __init__(self, seed: int, story: Story, rates: Rates, only: Collection[Fault] | None = None) -> None:
        self.story = story
        self.world = world = World(seed, rates, only)
        self.clock = SimulatedClock(world)
        self.domain = MemoryLog(world)
        self.runs = MemoryLog(world)
        self.effects = MemoryLog(world)
        self.signals = MemorySignals(world)
        self.inbox = MemoryInbox(world)
        self.tasks = MemoryTasks(world, self.clock)
        self.blobs = MemoryBlobs(world)
        self.dead = MemoryLetters(world)
        self.hooks = MemoryLetters(world)
        self.models = MemoryModels(world)
        self.archive = MemoryArchive(world, self.models.tables)
        self.shelf = MemoryShelf(world, self.models)
        self.run_ids = MemoryRunIds(world, lambda org: past_runs(self.models.tables, org))
        self.marks = MemoryLog(world)
        self.outside = Outside(world)
        self.web = Web(world)
        self.vault = Vault(world)
        self.processes = Processes(world, self.clock)
        self.decoded = Decoded()
        self.person = Person(
            world, story, self.runs.ever, self.outside, Dispatch(self.signals, self.inbox), self.decoded
        )
        self.ledger: list[Entry] = []
        self._is_calm = False
        self.poison = 0
        """Letters that nobody can read, laid into INBOX by the simulation."""
        self.code_is_broken = story.broken_code
        self.plans: dict[str, Drawn] = {}
        self._registry = Registry(nodes(self.outside))
        self._receipts = itertools.count(1)
        for drawn in story.workflows:
            self._publish(drawn)

    def _publish(self, drawn: Drawn) -> None:
        body = encode(drawn.plan) if drawn.readable else b'{"format":2,"nodes":{}}'
        plan = digest(body)
        self.plans[plan] = drawn
        if drawn.stored:
            self.blobs.kept[plan] = body
        events: tuple[TriggerEvent, ...] = (
            TriggerCreated(
                name=drawn.trigger,
                workflow=drawn.plan.workflow,
                webhook=drawn.webhook,
                token=digest(drawn.token.encode()),
                test_token=digest(f"test-{drawn.token}".encode()),
            ),
            TriggerBound(version=1, plan=plan),
        )
        commit = DomainCommit[TriggerEvent](
            id=drawn.trigger,
            org=ORG,
            aggregate="trigger",
            aggregate_id=drawn.trigger,
            version=1,
            events=events,
            time=START,
            actor="system",
            causation_id="",
            correlation_id="",
            engine_version="",
            key_id="",
            prev_hash="",
        )
        self.domain.put(domain(ORG, "trigger", drawn.trigger), encode(commit))

    # --- The schedule -------------------------------------------------------------------------

    def start(self) -> None:
        """Start every process, and those who use the installation."""
        for name, main in (
            ("i1", self._ingress),
            ("i2", self._ingress),
            ("o1", self._orchestrator),
            ("o2", self._orchestrator),
            ("e1", self._executor),
            ("e2", self._executor),
            ("projector", self._projector),
            ("sweeper", self._sweeper),
        ):
            self.processes.start(name, main)
        if self.story.retires:
            self.processes.start("archiver", self._archiver)
        loop = self.world.loop
        loop.spawn("person", self.person.run())
        self.clients = [
            loop.spawn(f"client{number}", self._client(number))
            for number, delivery in enumerate(self.story.deliveries)
            if not delivery.late
        ]
        loop.call_in("", 1.0, self._second)

    def calm(self) -> None:
        """No more faults, and people deal with what waits for them."""
        self.processes.calm()
        self._is_calm = True
        self.code_is_broken = False
        self.person.diligent = True

    @property
    def comes_back(self) -> bool:
        """Whether something is sent or wished for long after the end."""
        return self.story.retries_later > 0 or any(delivery.late for delivery in self.story.deliveries)

    @property
    def comes_back_after(self) -> float:
        """How many seconds later. Histories leave the log whole a day after their runs ended.

        Claims leave with the histories: not before everybody who was paused has noticed that the run ended.
        """
        return 3 * LONGEST_PAUSE if self.story.tombstones is None else SETTLED_SECONDS + 2 * HOUR

    def rest(self) -> None:
        """Everything is over. Whoever is not needed for a day is switched off."""
        if self.story.tombstones is not None:
            self.processes.halt()
            self.person.rest()

    def much_later(self) -> None:
        """Histories leave the log. Then old deliveries are sent again, and old runs tried again."""
        loop = self.world.loop
        if self.story.tombstones is not None:
            self.processes.resume(but=("e1", "e2"))  # Ten minutes of their heartbeats are most of a schedule.
        self.clients.append(loop.spawn("retirement", self._come_back()))

    async def _come_back(self) -> None:
        loop = self.world.loop
        if self.story.tombstones is None:
            self.clients.append(loop.spawn("archiving", self.retire()))
        else:
            await self.retire()
            self.processes.resume()
            self.person.goes_on()
        self.clients += [
            loop.spawn(f"client{number}", self._client(number))
            for number, delivery in enumerate(self.story.deliveries)
            if delivery.late
        ]
        self.person.tries_again(self.story.retries_later)

    def _second(self) -> None:
        """What befalls the servers themselves."""
        if self._is_calm:
            return
        match self.world.strikes("second"):
            case "restarted" | "power_cut" as kind:
                if kind == "power_cut":
                    self.processes.power_cut()
                    self.tasks.power_cut()
                    self.inbox.power_cut()
                    self.models.disk.power_cut()
                self.world.restart_servers(0.1 + 2 * self.world.measure().random())
            case "database_died":
                self.models.disk.power_cut()
            case "servers_clock_jumped":
                self.inbox.clock_jumped(self.world.measure().choice((-HOUR, HOUR)))
            case "unpinned":
                owned = sorted(self.inbox.owners)
                if owned:
                    self.inbox.unpin(self.world.measure().choice(owned))
            case "poisoned":
                self.poison += 1
                self.inbox.lay(self.world.measure().randrange(8), b'{"type":"run.unheard-of"}')
        self.world.loop.call_in("", 1.0, self._second)

    async def _client(self, number: int) -> None:
        delivery = self.story.deliveries[number]
        await asyncio.sleep(delivery.at)
        drawn = next(drawn for drawn in self.story.workflows if drawn.trigger == delivery.trigger)
        await deliver(self.web, drawn, delivery, self.ledger, self.world)

    # --- Processes ----------------------------------------------------------------------------

    async def _ingress(self, stop: Stop) -> None:
        directory = Directory(self.domain)
        dispatch = Dispatch(self.signals, self.inbox)
        hooks = FewHooks(self.hooks)
        number = next(self._receipts)
        receipts = itertools.count(1)
        waiting = Waiting(self.signals, str(number))
        horizon = Horizon(self.marks, self.clock)
        door = Door(
            directory=directory,
            dispatch=dispatch,
            history=self.runs,
            blobs=self.blobs,
            hooks=hooks,
            keys=self.vault,
            limit=Unlimited(),  # type: ignore[arg-type]  # As much of it as a door uses.
            waiting=waiting,
            clock=self.clock,
            receipts=lambda: f"receipt-{number}-{next(receipts)}",
            disk_is_full=lambda: False,
            language=LANGUAGE,
            past=PastRuns(self.run_ids, horizon).of,
        )
        mains = (directory.follow(), dispatch.run(), hooks.run(), horizon.run())
        async with waiting.listening(), asyncio.TaskGroup() as beside:
            running = [beside.create_task(main) for main in mains]
            async with asyncio.TaskGroup() as requests:
                close = self.web.open(door, requests)
                await stop.wait()
                close()
            await hooks.drained()
            for task in running:
                task.cancel()

    async def _orchestrator(self, stop: Stop) -> None:
        ownership = MemoryOwnership(self.world, self.inbox, self.signals)
        horizon = Horizon(self.marks, self.clock)
        sources = Sources(
            log=self.runs,
            blobs=self.blobs,
            archive=self.archive,
            compile_plan=lambda plan: Program(Graph.of(plan), lambda: self.code_is_broken),
            past=Past(self.run_ids, horizon, self.clock),
        )
        orchestrator = Orchestrator(
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
        )
        # Small rooms: what is rare with large ones happens in every schedule.
        orchestrator._memory = Forgetful(self.world, room=2)
        sources._plans._room = sources._values._room = 1
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(horizon.run())
            serving = group.create_task(orchestrator.serve())
            await stop.wait()
            await ownership.release()
            await serving
            looking.cancel()

    async def _executor(self, stop: Stop) -> None:
        name = f"executor:{next(self._receipts)}"
        dispatch = Dispatch(self.signals, self.inbox)
        means = Means(
            actor=name,
            registry=self._registry,
            effects=Effects(self.effects, self.clock, name),
            runs=self.runs,
            opening=Opening(self.vault),
            blobs=self.blobs,
            egress=EGRESS,
            relay=RELAY,
            clock=self.clock,
            tracer=TRACER,
        )
        executor = Executor(
            means=means,
            pools={"default": (self.tasks, SLOTS)},
            dispatch=dispatch,
            signals=self.signals,
            letters=self.dead,
        )
        async with asyncio.TaskGroup() as group:
            carrying = group.create_task(dispatch.run())
            await executor.serve(stop)
            carrying.cancel()

    async def _projector(self, stop: Stop) -> None:
        projection = RunTables(self.models, self.dead, Figures())
        progress = Progress(name=projection.name, stream=projection.stream)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(
                Projector(projection, self.runs, self.runs.epoch, self.clock, progress).run()
            )
            await stop.wait()
            task.cancel()

    async def _sweeper(self, stop: Stop) -> None:
        stragglers = MemoryStragglers(self.world, self.models.tables)
        sweeper = Sweeper(stragglers, Dispatch(self.signals, self.inbox), self.clock, Figures())
        async with asyncio.TaskGroup() as group:
            sweeping = group.create_task(sweeper.run())
            await stop.wait()
            sweeping.cancel()

    async def _archiver(self, stop: Stop) -> None:
        # Claims stay here: in this haste they would leave before whoever was paused has noticed that its run ended.
        archiver = self._retention(MemoryLog(self.world), tombstones=None)
        async with asyncio.TaskGroup() as group:
            retiring = group.create_task(self._now_and_then(archiver))
            await stop.wait()
            retiring.cancel()

    async def _now_and_then(self, archiver: Archiver) -> None:
        while True:
            await asyncio.sleep(0.5 + self.world.random.random())
            with suppress(Away):
                await archiver.round()

    async def retire(self) -> None:
        """Let every history that has ended leave the log, and its tombstone, too, when the story says so."""
        most = self.story.tombstones
        tombstones = None if most is None else Tombstones(marks=self.marks, most=most)
        archiver = self._retention(self.effects, tombstones)
        settled = START + timedelta(seconds=self.world.loop.time() - SETTLED_SECONDS)
        while not (self.shelf.all_purged and (most != 0 or self.shelf.all_forgotten(settled))):
            with suppress(Away):
                await archiver.round()
            if most is not None:
                await asyncio.sleep(ROUND_SECONDS)

    def _retention(self, claims: MemoryLog, tombstones: Tombstones | None) -> Archiver:
        return Archiver(
            self.shelf,
            MemoryStreams(self.world, {RUNS: self.runs, EFFECTS: claims}),
            self.runs,
            self.clock,
            Figures(),
            log_days=-1.0,  # Also what ended by a clock that was ahead.
            archive_days="never",
            tombstones=tombstones,
        )


EGRESS: Final = Egress([])
RELAY: Final = Relay("127.0.0.1", 25, "a@b")
TRACER: Final = Tracer()
LANGUAGE: Final = Language()
