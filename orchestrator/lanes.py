"""Which attempts are asked for now and which are held: no org's crowd stands between a pool and another org.

An attempt that is scheduled stands in the log; whether its task lies in TASKS yet is decided here, and only here. For each
pool no more tasks are out than its window has room for; what is beyond it is held, by name alone, and asked for as outcomes
come in: the orgs by turns, inside an org by priority and then by age. Rules that hold here:
  * an org with less than its share of the window waits for nobody;
  * what is paused is held whatever room there is, and delays nobody else;
  * nothing in here is the truth: a name that was lost is found again by whoever looks at its run.
No I/O and no clock: told the time, and asking for nothing.
"""

from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush
from typing import Final, TypeAlias

from msgspec import Struct

from contracts.limits import HELD_NAMES, PARTITIONS, AttemptNumber, StepPath
from contracts.pauses import Paused
from contracts.pools import WORKERS
from contracts.subjects import partition

LEAST: Final = 8
FIRST: Final = 16
"""A window before anything is known of its pool: a few moments later it is what the pool can do."""
MOST: Final = 8_192
UNREAD_SECONDS: Final = 0.1
"""So long a task may lie in TASKS before an executor has room for it."""
UNREAD_LEAST: Final = 4
"""So many may always lie there: executors shall not have to wait for us."""
IDLE_SECONDS: Final = 10.0
"""After so long what was known of a pool is forgotten."""
_LATELY_SECONDS: Final = 1.0
_GONE: Final = 64
"""So many that are gone may stand among those that wait, and as many again as those are."""

Key: TypeAlias = tuple[StepPath, AttemptNumber]
Pause: TypeAlias = tuple[Paused, str]


class Wanted(Struct, frozen=True, kw_only=True):
    """An attempt that shall be made, and what its turn depends on."""

    org: str
    run: str
    key: Key
    pool: str
    workflow: str
    rank: int = 0
    """The lower, the sooner."""


class Ticket:
    """One attempt that was asked for, or that is held."""

    __slots__ = ("held", "lane", "order", "out", "wanted")

    def __init__(self, lane: "Lane", wanted: Wanted, order: int) -> None:
        self.lane, self.wanted, self.order = lane, wanted, order
        self.out = False
        """Its task was sent."""
        self.held = False

    def __lt__(self, other: "Ticket") -> bool:
        return (self.wanted.rank, self.order) < (other.wanted.rank, other.order)


class Lane:
    """What one org wants of one pool."""

    def __init__(self, pool: "Pool", org: str) -> None:
        self.pool, self.org = pool, org
        self.out = 0
        self.ready: list[Ticket] = []
        """Held for want of room: a heap. What is held no longer leaves it later."""
        self.waiting = 0
        """So many of those are held."""
        self.paused: dict[Ticket, None] = {}
        self.unnamed = 0
        """At least so many more are held, for whose names there was no room."""

    @property
    def held(self) -> int:
        return self.waiting + len(self.paused) + self.unnamed

    def hold(self, ticket: Ticket, *, paused: bool) -> None:
        ticket.held = True
        if paused:
            self.paused[ticket] = None
            return
        heappush(self.ready, ticket)
        self.waiting += 1
        self.pool.turns[self] = None

    def first(self) -> Ticket:
        """Whose turn it is, of those that wait for room."""
        ticket = heappop(self.ready)
        while not ticket.held:
            ticket = heappop(self.ready)
        ticket.held = False
        self.waiting -= 1
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """It is held no longer, and is not asked for."""
        ticket.held = False
        if ticket in self.paused:
            del self.paused[ticket]
            return
        self.waiting -= 1
        if not self.waiting:
            self.ready.clear()
            self.pool.turns.pop(self, None)
        elif len(self.ready) > 2 * self.waiting + _GONE:
            self.ready = [each for each in self.ready if each.held]
            heapify(self.ready)

    def sort(self, paused: Collection[Ticket], waiting: Collection[Ticket]) -> None:
        """What is paused, and what waits for room, is not what it was."""
        self.paused, self.ready, self.waiting = dict.fromkeys(paused), list(waiting), len(waiting)
        heapify(self.ready)
        if waiting:
            self.pool.turns[self] = None
        else:
            self.pool.turns.pop(self, None)


class Pool:
    """A pool's window, and the orgs that want something of it."""

    def __init__(self, name: str, org: str = "", first: int = FIRST) -> None:
        """`org`: whose alone it is; empty where orgs share it."""
        self.name, self.org, self.least = name, org, min(first, LEAST)
        self.window: float = first
        self.out = 0
        self.lanes: dict[str, Lane] = {}
        self.turns: dict[Lane, None] = {}
        """Lanes in which something waits for room, in the order of their turns."""
        self.ended = 0
        """Attempts that were over since somebody last looked how many tasks lie there."""
        self.looked_at = 0.0
        self.moved_at = 0.0

    @property
    def has_room(self) -> bool:
        return self.out < self.window

    @property
    def share(self) -> float:
        """What each org may have out, of those that want something."""
        return max(1.0, self.window / max(1, len(self.lanes)))

    def lies(self, unread: int, leased: int, now: float) -> None:
        """So many tasks lie in TASKS, whoever asked for them: the window is what is under way, and a little more."""
        since, ended = now - self.looked_at, self.ended
        self.looked_at, self.ended = now, 0
        if not 0 < since < _LATELY_SECONDS:
            return
        ours = min(1.0, self.out / max(1, unread + leased))
        wanted = max(UNREAD_LEAST, ended / since * UNREAD_SECONDS)
        if unread * ours > 2 * wanted:
            self.window = max(self.least, leased * ours + wanted)
        elif unread * ours < wanted and self.turns:
            room = self.out + 2 * (wanted - unread * ours)
            self.window = min(MOST, max(self.window, room))


class Lanes:
    """Every pool's."""

    def __init__(self, *, first: int = FIRST, room: int = HELD_NAMES) -> None:
        """`first`: every pool's window, before anything is known of it."""
        self.pools: dict[str, Pool] = {}
        """By name, and those of one org by both."""
        self.names = 0
        """Attempts that are held, by name."""
        self.held_ever = 0
        self._first, self._room = first, room
        self._pauses: dict[str, frozenset[Pause]] = {}
        self._tickets: list[dict[str, dict[Key, Ticket]]] = [{} for _ in range(PARTITIONS)]
        """By partition and run."""
        self._orders = 0

    # --- What is asked for ------------------------------------------------------------------------

    def admit(self, wanted: Wanted, now: float) -> bool:
        """Whether the attempt's task is to be sent now. If not it is held, and comes by `turns`."""
        ticket = self._find(wanted.run, wanted.key)
        if ticket is not None and ticket.held:
            return False
        if ticket is None:
            self._orders += 1
            ticket = Ticket(self._lane(wanted, now), wanted, self._orders)
        stops = self._stops(ticket.lane, wanted.workflow)
        if ticket.out and not stops:
            return True  # It was sent, and may have got lost.
        if stops or not self._has_room(ticket.lane):
            self._hold(ticket, paused=stops)
            return False
        self._send(ticket)
        return True

    def _find(self, run: str, key: Key) -> Ticket | None:
        tickets = self._tickets[partition(run)].get(run)
        return None if tickets is None else tickets.get(key)

    def _lane(self, wanted: Wanted, now: float) -> Lane:
        # Workers outside are one org's: nobody else waits for them.
        org = wanted.org if wanted.pool.startswith(WORKERS) else ""
        name = f"{wanted.pool} of {org}" if org else wanted.pool
        pool = self.pools.get(name)
        if pool is None:
            pool = self.pools[name] = Pool(wanted.pool, org, self._first)
        if not pool.out and now - pool.moved_at > IDLE_SECONDS:
            pool.window, pool.moved_at = self._first, now
        lane = pool.lanes.get(wanted.org)
        if lane is None:
            lane = pool.lanes[wanted.org] = Lane(pool, wanted.org)
        return lane

    def _has_room(self, lane: Lane) -> bool:
        return not lane.waiting and (lane.pool.has_room or lane.out < lane.pool.share)

    def _keep(self, ticket: Ticket) -> None:
        wanted = ticket.wanted
        self._tickets[partition(wanted.run)].setdefault(wanted.run, {})[wanted.key] = ticket

    def _send(self, ticket: Ticket) -> None:
        ticket.out = True
        ticket.lane.out += 1
        ticket.lane.pool.out += 1
        self._keep(ticket)

    def _hold(self, ticket: Ticket, *, paused: bool) -> None:
        lane = ticket.lane
        if self.names >= self._room:
            lane.unnamed += 1
            self._drop(ticket)
            return
        if lane.unnamed:
            lane.unnamed -= 1  # Somebody looked at its run: it has a name now.
        self._take_back(ticket)
        self._keep(ticket)
        self.names += 1
        self.held_ever += 1
        lane.hold(ticket, paused=paused)

    def _take_back(self, ticket: Ticket) -> None:
        if ticket.out:
            ticket.out = False
            ticket.lane.out -= 1
            ticket.lane.pool.out -= 1

    # --- Turns ------------------------------------------------------------------------------------

    @property
    def has_turns(self) -> bool:
        """Whether something that is held is to be asked for now."""
        return any(pool.turns and pool.has_room for pool in self.pools.values())

    @property
    def crowded(self) -> list[Pool]:
        """Pools for which something waits for room."""
        return [pool for pool in self.pools.values() if pool.turns]

    def turns(self, most: int) -> list[Ticket]:
        """Whose turn it is: one of each org, then again. Each counts as sent from here on."""
        found: list[Ticket] = []
        for pool in self.pools.values():
            while pool.turns and pool.has_room and len(found) < most:
                lane = next(iter(pool.turns))
                del pool.turns[lane]
                ticket = lane.first()
                if lane.waiting:
                    pool.turns[lane] = None
                self.names -= 1
                self._send(ticket)
                found.append(ticket)
        return found

    def put_back(self, ticket: Ticket) -> None:
        """It could not be sent: it is held again, in its old place."""
        if ticket.out:
            self._hold(ticket, paused=self._stops(ticket.lane, ticket.wanted.workflow))

    # --- What is over -----------------------------------------------------------------------------

    def over(self, run: str, key: Key, now: float) -> None:
        """An attempt has ended, or will never begin."""
        ticket = self._find(run, key)
        if ticket is None:
            return
        if ticket.out:
            ticket.lane.pool.ended += 1
            ticket.lane.pool.moved_at = now
        self._drop(ticket)

    def keep_only(self, run: str, open_: Collection[Key], now: float) -> None:
        """Of a run's attempts these are open, and no others."""
        tickets = self._tickets[partition(run)].get(run)
        if tickets is not None:
            for key in [key for key in tickets if key not in open_]:
                self.over(run, key, now)

    def forget(self, number: int) -> list[tuple[str, str]]:
        """A partition's runs are another owner's to ask for. Those of which something was held, as org and run."""
        runs, held = self._tickets[number], dict[tuple[str, str], None]()
        for tickets in list(runs.values()):
            for ticket in list(tickets.values()):
                if ticket.held:
                    held[ticket.wanted.org, ticket.wanted.run] = None
                self._drop(ticket)
        return list(held)

    @property
    def partitions(self) -> list[int]:
        """Those of which something is known."""
        return [number for number, runs in enumerate(self._tickets) if runs]

    def is_held(self, run: str, key: Key) -> bool:
        ticket = self._find(run, key)
        return ticket is not None and ticket.held

    def _drop(self, ticket: Ticket) -> None:
        lane, wanted = ticket.lane, ticket.wanted
        if ticket.held:
            self.names -= 1
            lane.leave(ticket)
        self._take_back(ticket)
        runs = self._tickets[partition(wanted.run)]
        tickets = runs.get(wanted.run)
        if tickets is not None and tickets.get(wanted.key) is ticket:
            del tickets[wanted.key]
            if not tickets:
                del runs[wanted.run]
        if not (lane.out or lane.waiting or lane.paused):
            lane.pool.lanes.pop(lane.org, None)

    # --- Pauses -----------------------------------------------------------------------------------

    def pause(self, org: str, pauses: frozenset[Pause]) -> None:
        """What of an org is paused from now on, all of it."""
        if pauses:
            self._pauses[org] = pauses
        else:
            self._pauses.pop(org, None)
        for pool in self.pools.values():
            if org in pool.lanes:
                self._sort(pool.lanes[org])

    def lanes(self) -> Iterator[Lane]:
        return (lane for pool in self.pools.values() for lane in pool.lanes.values())

    def _stops(self, lane: Lane, workflow: str) -> bool:
        pauses = self._pauses.get(lane.org) if self._pauses else None
        return pauses is not None and (
            ("org", lane.org) in pauses
            or ("workflow", workflow) in pauses
            or ("pool", lane.pool.name) in pauses
        )

    def _sort(self, lane: Lane) -> None:
        """Everything that is held is paused, or waits for room."""
        held = [ticket for ticket in (*lane.ready, *lane.paused) if ticket.held]
        paused = {ticket for ticket in held if self._stops(lane, ticket.wanted.workflow)}
        lane.sort(
            [ticket for ticket in held if ticket in paused],
            [ticket for ticket in held if ticket not in paused],
        )
