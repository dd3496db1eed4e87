"""Asks for what was held, as soon as its turn has come; and hands on what is another owner's to ask for.

Rules that hold here:
  * what was held may be over by now, or be another owner's: the log is asked before a task is sent, many runs at once;
  * what this process cannot do any more it says to whoever comes after it, as looks in INBOX;
  * whatever is lost of all this, a look at the run brings again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from chassis.clock import Clock
from chassis.pauses import Pauses
from chassis.ports import Away, Log, Ownership
from chassis.tasks import side_by_side
from contracts.limits import BUNDLE_MESSAGES, HELD_LANES
from contracts.pauses import HeldLane
from contracts.runs import AttemptScheduled
from contracts.subjects import partition
from contracts.subjects import run as run_subject
from orchestrator.emission import Emission
from orchestrator.lanes import Lanes, Ticket
from orchestrator.memory import Known
from orchestrator.sources import Sources

log = structlog.get_logger()

GATHER_SECONDS: Final = 0.02
"""Turns that come within this time are asked for together: what lies in TASKS lasts longer."""
LOOK_SECONDS: Final = 0.1
"""How often somebody looks how many tasks lie there, while something waits for room."""
NAP_SECONDS: Final = 1.0
PAUSE: Final = 0.2
AT_ONCE: Final = 256


class Holding:
    """One per orchestrator, beside its cycles."""

    def __init__(  # The composition root names every port once.
        self,
        *,
        emission: Emission,
        sources: Sources,
        remembered: Callable[[str], Known | None],
        history: Log,
        ownership: Ownership,
        clock: Clock,
    ) -> None:
        self._emission, self._sources, self._remembered = emission, sources, remembered
        self._history, self._ownership, self._clock = history, ownership, clock
        self._orphans: list[tuple[str, str]] = []
        """Runs of which something was held, and which are another owner's, or ours anew."""
        self._ended = asyncio.Event()
        self._stirred = asyncio.Event()
        self._looked_at = 0.0
        self._rests = True

    @property
    def lanes(self) -> Lanes:
        return self._emission.lanes

    def stir(self) -> None:
        """Something was held, or has ended: it may be somebody's turn."""
        if self.lanes.names and (self._rests or self.lanes.has_turns):
            self._stirred.set()

    def pause(self, org: str, pauses: Pauses) -> None:
        """All that is paused of an org from now on."""
        self.lanes.pause(org, frozenset(pauses))
        self.stir()

    def taken_over(self, number: int) -> None:
        """A partition is ours anew: others may have asked for what we held."""
        self._orphans += self.lanes.forget(number)
        if self._orphans:
            self._stirred.set()

    def end(self) -> None:
        """Ask for nothing any more: the partitions are another's."""
        self._ended.set()
        self._stirred.set()

    async def run(self) -> None:
        """Until `end`; then what is held is said to the next owner."""
        while True:
            await self._nap()
            if self._ended.is_set():
                break
            try:
                self._give_up_what_is_not_ours()
                await self._tell_owners()
                await self._look()
                await self._go_on()
            except Away as away:
                log.warning("held.waits", reason=str(away))
                await asyncio.sleep(PAUSE)
        await self._hand_on()

    async def _nap(self) -> None:
        """Until it may be somebody's turn, and while nothing is held, until something is. What was told meanwhile is asked for together."""
        self._rests = not self.lanes.names and not self._orphans
        nap = LOOK_SECONDS if self.lanes.crowded else NAP_SECONDS
        try:
            async with asyncio.timeout(None if self._rests else nap):
                await self._stirred.wait()
                self._stirred.clear()
                if not self._ended.is_set():
                    await asyncio.sleep(GATHER_SECONDS)
        except TimeoutError:
            return

    async def _look(self) -> None:
        """How many tasks lie unread says how many more there may be."""
        now = self._clock.seconds()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        for pool in self.lanes.crowded:
            lying = await self._emission.lying(pool.name, pool.org)
            pool.lies(lying.unread, lying.leased, self._clock.seconds())

    # --- Whose turn it is ---------------------------------------------------------------------------

    async def _go_on(self) -> None:
        while self.lanes.has_turns and not self._ended.is_set():
            by_run = defaultdict[tuple[str, str], list[Ticket]](list)
            for ticket in self.lanes.turns(AT_ONCE):
                by_run[ticket.wanted.org, ticket.wanted.run].append(ticket)
            try:
                known = await self._known(list(by_run))
                for run, tickets in by_run.items():
                    await self._ask(known.get(run), tickets)
            except BaseException:
                for tickets in by_run.values():
                    for ticket in tickets:
                        self.lanes.put_back(ticket)
                raise

    async def _ask(self, known: Known | None, tickets: list[Ticket]) -> None:
        """Send what is still wanted, whatever happened while we looked."""
        programs = await self._sources.fetched_programs(known.run.plan) if known is not None else None
        wanted: list[AttemptScheduled] = []
        while tickets:
            ticket = tickets.pop()
            attempt = _open(known, ticket)
            if attempt is None:
                self.lanes.over(ticket.wanted.run, ticket.wanted.key, self._clock.seconds())
            elif ticket.out:
                wanted.append(attempt)
        if known is not None:
            self._emission.ask(known, wanted, programs)

    async def _known(self, runs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Known]:
        """The runs as the log has them now: as we remember them, where nobody has added to that."""
        remembered = {run: known for run in runs if (known := self._remembered(run[1])) is not None}
        last = await self._history.last([run_subject(*run) for run in remembered]) if remembered else {}
        found = {
            run: known
            for run, known in remembered.items()
            if (stored := last.get(run_subject(*run))) is not None and stored.sequence == known.sequence
        }

        async def load(org: str, run: str) -> None:
            try:
                found[org, run] = await self._sources.load(org, run)
            except Away:
                raise
            except Exception as error:  # One history that nobody can read holds nobody else up.
                log.error("held.unreadable", org=org, run=run, exc_info=error)

        await side_by_side(load(*run) for run in runs if run not in found)
        return found

    # --- What is another's --------------------------------------------------------------------------

    def _give_up_what_is_not_ours(self) -> None:
        ours = set(self._ownership.owned)
        for number in self.lanes.partitions:
            if number not in ours:
                self._orphans += self.lanes.forget(number)

    async def _hand_on(self) -> None:
        for number in self.lanes.partitions:
            self._orphans += self.lanes.forget(number)
        try:
            await self._tell_owners()
        except Away as away:
            # Whoever sweeps finds them a little later.
            log.warning("held.not-handed-on", runs=len(self._orphans), reason=str(away))

    async def _tell_owners(self) -> None:
        """Have whoever owns their partitions look at them."""
        while self._orphans:
            number = partition(self._orphans[0][1])
            looks = [run for run in self._orphans if partition(run[1]) == number][:BUNDLE_MESSAGES]
            await self._emission.have_looked_at(number, looks)
            told = set(looks)
            self._orphans = [run for run in self._orphans if run not in told]

    # --- What is told of it -------------------------------------------------------------------------

    def told(self) -> list[HeldLane]:
        """Where something is held, those first that hold most."""
        lanes = sorted((lane for lane in self.lanes.lanes() if lane.held), key=lambda lane: -lane.held)
        return [
            HeldLane(
                org=lane.org,
                pool=lane.pool.name,
                waiting=lane.waiting + lane.unnamed,
                paused=len(lane.paused),
                out=lane.out,
            )
            for lane in lanes[:HELD_LANES]
        ]


def _open(known: Known | None, ticket: Ticket) -> AttemptScheduled | None:
    """The attempt, while somebody waits for it. A run that stops begins nothing more: its grace ends what is open."""
    if known is None or not known.run.acts:
        return None
    step, number = ticket.wanted.key
    attempt = known.run.attempts.get(step)
    return attempt if attempt is not None and attempt.attempt == number else None
