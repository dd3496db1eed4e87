"""The services' own shells on simulated stores: what their composition roots do, for a whole installation."""

import asyncio
import itertools
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from chassis.chains import Chains
from chassis.cursors import Cursors
from chassis.dispatch import Dispatch
from chassis.edge.trails import Trails
from chassis.egress import Egress
from chassis.expressions import Language
from chassis.links import Links
from chassis.past import SETTLED_SECONDS, Horizon, PastRuns
from chassis.pauses import PausesFollowed
from chassis.ports import Away
from chassis.secret import Secret
from chassis.telemetry import Tracer
from chassis.testing.lives import current
from chassis.testing.queues import MemoryOwnership
from chassis.testing.stores import MemoryLog
from chassis.testing.world import START
from contracts.subjects import DOMAIN, EFFECTS, RUNS
from executor.attempt import Means
from executor.effects import Effects
from executor.opening import Opening
from executor.relay import Relay
from executor.sandbox.sandbox import Sandbox
from executor.service import Executor
from ingress.accept import Door
from ingress.directory import Directory
from ingress.starts import Starts
from ingress.waiting import Waiting
from orchestrator.answers import Replies
from orchestrator.domain import Domain
from orchestrator.emission import Emission
from orchestrator.family import Family
from orchestrator.gatekeeping import Gatekeeper
from orchestrator.judge import Judge
from orchestrator.lanes import Lanes
from orchestrator.past import Past
from orchestrator.run import Graph
from orchestrator.schedules import Schedules
from orchestrator.segments import Bounds
from orchestrator.service import Orchestrator
from orchestrator.sources import Sources
from orchestrator.standing_for import StandingFor
from projections.archiver import ROUND_SECONDS, Archiver, Tombstones
from projections.figures import Figures, Progress
from projections.following import Following, WhileWanted
from projections.following import Means as Starting
from projections.intake import Intakes
from projections.origins import Origins
from projections.projector import Projector
from projections.run_tables import RunTables
from projections.subscriptions import Subscriptions
from projections.sweeper import Sweeper, look_at_schedule
from tests.simulation.archive import (
    MemoryStragglers,
    MemoryStreams,
)
from tests.simulation.clocks import MemoryOverdue
from tests.simulation.processes import Stop
from tests.simulation.stores import Stores
from tests.simulation.surroundings import FewHooks, Forgetful, Program, Unlimited

SLOTS: Final = 8
SENT_HOME_EVERY: Final = 3
"""Of the lives of executors so many are drained somewhere in their middle, and end by themselves."""
LINKS: Final = Links("https://hooks.example", Secret(b"k" * 32))


class Services(Stores):
    """What runs in each process."""

    async def _ingress(self, stop: Stop) -> None:
        directory = Directory(self.domain)
        dispatch = Dispatch(self.signals, self.inbox)
        hooks = FewHooks(self.hooks, self.clock)
        number = next(self._receipts)
        receipts = itertools.count(1)
        waiting = Waiting(self.signals, str(number))
        horizon = Horizon(self.marks, self.clock)
        starts = Starts(
            directory=directory,
            dispatch=dispatch,
            history=self.runs,
            trails=Trails(Chains(Secret(b"k" * 32), self.clock)),
            past=PastRuns(self.run_ids, horizon).of,
        )
        door = Door(
            directory=directory,
            starts=starts,
            blobs=self.blobs,
            hooks=hooks,
            keys=self.vault,
            limit=Unlimited(),  # type: ignore[arg-type]  # As much of it as a door uses.
            waiting=waiting,
            clock=self.clock,
            receipts=lambda: f"receipt-{number}-{next(receipts)}",
            disk_is_full=lambda: False,
            language=LANGUAGE,
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
        domain = Domain(self.domain)
        sources = Sources(
            log=self.runs,
            blobs=self.blobs,
            archive=self.archive,
            compile_plan=lambda plan: Program(Graph.of(plan), lambda: self.code_is_broken),
            past=Past(self.run_ids, horizon, self.clock),
            directory=domain,
        )
        dispatch = Dispatch(self.signals, self.inbox)
        schedules = Schedules(
            history=self.fires,
            domain=domain,
            sender=dispatch,
            inbox=self.inbox,
            dead_letters=self.dead,
            clock=self.clock,
            is_full=lambda: False,
            cursors=Cursors(self.marks),
        )
        lanes = Lanes(first=self.story.window)
        self.lanes.append(lanes)
        orchestrator = Orchestrator(
            history=self.runs,
            ownership=ownership,
            emission=Emission(
                tasks=self.tasks,
                inbox=self.inbox,
                signals=self.signals,
                ownership=ownership,
                clock=self.clock,
                lanes=lanes,
            ),
            sources=sources,
            judge=Judge(sources, bounds=Bounds(events=self.story.segment)),
            replies=Replies(self.signals),
            dead_letters=self.dead,
            clock=self.clock,
            schedules=schedules,
            memory=Forgetful(self.world, room=2),
            family=Family(dispatch),
            gates=Gatekeeper(
                history=self.gates,
                sender=dispatch,
                inbox=self.inbox,
                dead_letters=self.dead,
                ownership=ownership,
                clock=self.clock,
                standing_for=StandingFor(sources),
                limits_of=domain.limits_of,
            ),
        )
        # Small rooms: what is rare with large ones happens in every schedule.
        sources._plans._room = sources._values._room = 1
        async with asyncio.TaskGroup() as group:
            pauses = PausesFollowed(self.domain, orchestrator.holding.pause)
            beside = [group.create_task(horizon.run()), group.create_task(pauses.follow())]
            if self.story.clocks or self.story.related or self.story.gated:
                beside.append(group.create_task(dispatch.run()))
            if self.story.clocks:
                beside.append(group.create_task(schedules.run()))
            await pauses.complete.wait()
            serving = group.create_task(orchestrator.serve())
            await stop.wait()
            await ownership.release()
            await serving
            for task in beside:
                task.cancel()

    async def _executor(self, stop: Stop) -> None:
        number = next(self._receipts)
        name = f"executor:{number}"
        dispatch = Dispatch(self.signals, self.inbox)
        means = Means(
            actor=name,
            registry=self._registry,
            effects=Effects(self.effects, self.clock, name),
            runs=self.runs,
            opening=Opening(self.vault),
            links=LINKS,
            chains=Chains(Secret(b"k" * 32), self.clock),
            blobs=self.blobs,
            egress=EGRESS,
            relay=RELAY,
            sandbox=SANDBOX,
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
        if number % SENT_HOME_EVERY == 0:
            self.sent_home += 1
            self.world.loop.call_in(current(), 1.0 + number % 13, executor.drain)
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

    async def _clock_sweeper(self, stop: Stop) -> None:
        overdue = MemoryOverdue(self.world, self.domain, self.fires)
        dispatch = Dispatch(self.signals, self.inbox)
        sweeper = Sweeper(overdue, dispatch, self.clock, Figures(), look=look_at_schedule)
        async with asyncio.TaskGroup() as group:
            sweeping = group.create_task(sweeper.run())
            await stop.wait()
            sweeping.cancel()

    async def _starter(self, stop: Stop) -> None:
        subscriptions = Subscriptions(self.domain)
        dispatch = Dispatch(self.signals, self.inbox)
        means = Starting(
            subscriptions=subscriptions,
            origins=Origins(self.runs, self._first_archived),
            intakes=Intakes(dispatch, self.blobs, self.marks, subscriptions),
            sender=dispatch,
            blobs=self.blobs,
            letters=self.hooks,
            language=LANGUAGE,
            clock=self.clock,
            is_full=lambda: False,
            counts=defaultdict(int),
        )
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(subscriptions.follow()), group.create_task(dispatch.run())]
            for stream, log in ((RUNS, self.runs), (DOMAIN, self.domain)):
                following = Following(f"following {stream}", stream, means, self.followed[stream])
                progress = Progress(name=following.name, stream=stream)
                reader = WhileWanted(log, subscriptions, self.clock)
                projector = Projector(following, reader, log.epoch, self.clock, progress)
                running.append(group.create_task(projector.run()))
            await stop.wait()
            for task in running:
                task.cancel()

    async def _first_archived(self, org: str, run: str) -> bytes | None:
        return next(iter(await self.archive.commits(org, run)), None)

    async def _archiver(self, stop: Stop) -> None:
        # Claims stay here: in this haste they would leave before whoever was paused has noticed that its run ended.
        archiver = self._retention(MemoryLog(self.world), tombstones=None)
        async with asyncio.TaskGroup() as group:
            retiring = group.create_task(self._now_and_then(archiver))
            await stop.wait()
            retiring.cancel()

    async def _now_and_then(self, archiver: Archiver) -> None:
        while True:
            await asyncio.sleep((10 if self._is_calm else 0.5) + self.world.random.random())
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
            followed=self.followed[RUNS].position if self.story.follows else None,
        )


EGRESS: Final = Egress([])
RELAY: Final = Relay("127.0.0.1", 25, "a@b")
SANDBOX: Final = Sandbox(Path("/nonexistent"), at_once=1)
TRACER: Final = Tracer()
LANGUAGE: Final = Language()
