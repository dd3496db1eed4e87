"""A whole installation in one process: the services' own shells on simulated stores, one seed one schedule."""

import asyncio

from chassis.past import SETTLED_SECONDS
from tests.simulation.clients import deliver
from tests.simulation.processes import HOUR, LONGEST_PAUSE
from tests.simulation.services import Services
from tests.simulation.stores import ORG

__all__ = ["ORG", "Installation"]


class Installation(Services):
    """Stores and processes of one simulated installation, and what befalls them."""

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
        if self.story.clocks:
            self.processes.start("clock-sweeper", self._clock_sweeper)
        if self.story.follows:
            self.processes.start("starter", self._starter)
        if self.story.retires:
            self.processes.start("archiver", self._archiver)
        loop, story = self.world.loop, self.story
        for name, acts, somebody in (
            ("person", True, self.person),
            ("keeper", story.clocks, self.keeper),
            ("editor", story.followers, self.editor),
            ("pauser", story.pauses, self.pauser),
            ("warden", story.limits, self.warden),
        ):
            if acts:
                loop.spawn(name, somebody.run())
        for drawn in self.story.workflows:
            if drawn.newer is not None:
                loop.call_in("", drawn.newer.at, self.publish_newer, drawn, drawn.newer)
        self.clients = [
            loop.spawn(f"client{number}", self._client(number))
            for number, delivery in enumerate(self.story.deliveries)
            if not delivery.late
        ]
        if self.story.again:
            self.clients.append(loop.spawn("historian", self.historian.run()))
        loop.call_in("", 1.0, self._second)

    def calm(self) -> None:
        """No more faults, and people deal with what waits for them."""
        self.processes.calm()
        self._is_calm = True
        self.code_is_broken = False
        self.person.diligent = True
        self.keeper.end()
        self.editor.end()
        self.pauser.end()
        self.warden.end()
        self.historian.end()

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
                    self._followers_power_cut()
                self.world.restart_servers(0.1 + 2 * self.world.measure().random())
            case "database_died":
                self.models.disk.power_cut()
                self._followers_power_cut()
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

    def _followers_power_cut(self) -> None:
        for places in self.followed.values() if self.story.follows else ():
            places.disk.power_cut()

    async def _client(self, number: int) -> None:
        delivery = self.story.deliveries[number]
        await asyncio.sleep(delivery.at)
        drawn = next(
            each
            for each in self.story.workflows
            if (each.org, each.trigger) == (delivery.org, delivery.trigger)
        )
        await deliver(self.web, drawn, delivery, self.ledger, self.world)
