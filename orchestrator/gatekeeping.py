"""The shell around a gate: hear who asks and who leaves, load, decide, append, and only then say who may come in.

Rules that hold here:
  * who was let in stands in GATES before anybody hears of it; the expected sequence is the fence between two owners;
  * who asks is remembered and no more: the answer to a question is that it was heard. A run asks again when somebody looks at
    it; what a keeper knows it hands on when it is stopped, and a few of the next stand in GATES in case it is killed;
  * who waits for a rate is woken by INBOX, whoever has the gate then;
  * who stands for others has all that started them before any of those ends;
  * a lost word frees itself: while somebody waits at a full gate, those inside are asked whether they are still there;
  * whatever is said may be said twice.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeAlias

import structlog

from chassis.clock import Clock
from chassis.ports import Away, Inbox, Letters, Log, Ownership
from contracts.codec import encode, encode_bundle
from contracts.errors import Failure
from contracts.gates import ALL_RUNS, GateLimit, GateState, OrgLimits, bounded, everybodys
from contracts.limits import BUNDLE_MESSAGES, GATE_NAMES, HELD_LANES
from contracts.messages import (
    Answer,
    AskSlot,
    GateLook,
    ToGate,
)
from contracts.pauses import HeldAtGates
from contracts.subjects import INBOX, dead_letter, partition
from orchestrator.at_gate import AtGate, Key, Reply
from orchestrator.book import Book, Known
from orchestrator.family import Sender
from orchestrator.gates import awaited, decide, freed
from orchestrator.passing import gate_of_all_runs
from orchestrator.places import PLACES
from orchestrator.standing_for import StandingFor
from orchestrator.ushering import ASK_SECONDS, Usher
from orchestrator.wishes import Asking, Decided

log = structlog.get_logger()

PATIENCE: Final = 5
"""How often our code may raise at a gate before what was said to it is a dead letter."""
PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
BEHIND: Final = 0.005
"""A rate lets somebody in so little after its moment, so that it has surely come."""
AFTER: Final = timedelta(seconds=1)
"""INBOX wakes whoever has the gate then so long behind that moment."""


LimitsOf: TypeAlias = Callable[[str], Awaitable[OrgLimits]]


class Gatekeeper:
    """Keeps the gates of the partitions that this process owns."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        history: Log,
        sender: Sender,
        inbox: Inbox,
        dead_letters: Letters,
        ownership: Ownership,
        clock: Clock,
        standing_for: StandingFor,
        limits_of: LimitsOf,
    ) -> None:
        """`limits_of`: what an org says of the gates that its workflows share. Raises `Away`."""
        self._standing_for, self._limits_of = standing_for, limits_of
        self._book = Book(PLACES, history, clock)
        self._inbox, self._dead_letters = inbox, dead_letters
        self._ownership, self._clock = ownership, clock
        self._gates: dict[Key, AtGate] = {}
        self._released = False
        self.names = 0
        """How many runs are known to wait."""
        self._waiting: dict[str, int] = defaultdict(int)
        self.counts: dict[str, int] = defaultdict(int)
        self._usher = Usher(sender, standing_for, clock, self.counts)

    def hear(self, message: ToGate, answer: Reply, tasks: asyncio.TaskGroup) -> None:
        """Take what a run says; the answer comes when it is decided."""
        key = message.org, message.run
        gate = self._gates.get(key)
        if isinstance(message, AskSlot) and self.names >= GATE_NAMES:
            # It waits in its own history; somebody has it ask again.
            self.counts["forgotten"] += 1
            answer(Answer(run=message.run, result="accepted"))
            return
        if gate is None:
            gate = self._gates[key] = AtGate(tasks)
            tasks.create_task(self._keep(key, gate))
        if isinstance(message, GateLook):
            gate.looks.append((message, answer))
        else:
            gate.letters.append((message, answer))
        gate.stirred.set()

    def told(self) -> list[HeldAtGates]:
        """How many runs of each org wait, those first that have most."""
        most = sorted(self._waiting.items(), key=lambda each: -each[1])[:HELD_LANES]
        return [HeldAtGates(org=org, waiting=waiting) for org, waiting in most]

    def release(self) -> None:
        """Let nobody in any more: who waits is said to the next owner."""
        self._released = True
        for gate in self._gates.values():
            gate.stirred.set()

    # --- One gate ---------------------------------------------------------------------------------

    async def _keep(self, key: Key, gate: AtGate) -> None:
        """As long as somebody waits at it."""
        try:
            while not self._released:
                gate.stirred.clear()
                pause = await self._insist(key, gate)
                if gate.is_idle:
                    return
                if self._is_ours(key):
                    await self._nap(gate, pause)
                else:
                    await self._hand_on(key, gate)
                if gate.is_idle:
                    return
            await self._hand_on(key, gate)
        finally:
            del self._gates[key]
            self._count(key[0], gate, 0)

    def _is_ours(self, key: Key) -> bool:
        return partition(key[1]) in self._ownership.owned

    async def _nap(self, gate: AtGate, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await gate.stirred.wait()
        except TimeoutError:
            return

    async def _insist(self, key: Key, gate: AtGate) -> float:
        """Until nothing is away that it needs. After how many seconds it is time to look again."""
        stumbles, pause = 0, PAUSE
        while not self._released:
            try:
                return await self._go_on(key, gate)
            except Away as away:
                log.warning("gate.waits", org=key[0], gate=key[1], reason=str(away))
            except Exception as error:  # One gate that nobody can handle closes no other one.
                stumbles += 1
                self.counts["stumbled"] += 1
                log.error("gate.stumbled", org=key[0], gate=key[1], times=stumbles, exc_info=error)
                if stumbles >= PATIENCE:
                    await self._bury(gate, f"{type(error).__name__}: {error}")
                    return ASK_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return 0.0

    async def _go_on(self, key: Key, gate: AtGate) -> float:
        """Let in whoever may come in, and say so."""
        looks = list(gate.looks)
        known = await self._book.load(*key)
        next_before = known.state.next if gate.is_new else ()
        decided, state, asking, heard = await self._recorded(key, gate, known, keep_next=bool(next_before))
        await self._wake(key, gate, decided)
        gate.answer(heard)
        pause = await self._usher.say(key, gate, state, decided, asking)
        self._usher.have_ask(key[0], gate, next_before, looks)
        self._count(key[0], gate, len(decided.waiting))
        return min(pause, self._until(decided))

    def _count(self, org: str, gate: AtGate, waiting: int) -> None:
        """So many wait at this gate now."""
        more, gate.counted = waiting - gate.counted, waiting
        self.names += more
        self._waiting[org] += more
        if not self._waiting[org]:
            del self._waiting[org]

    async def _recorded(
        self, key: Key, gate: AtGate, known: Known[GateState], *, keep_next: bool
    ) -> tuple[Decided, GateState, dict[str, AskSlot], int]:
        """What is decided about all that was heard, once everything that follows from it stands in GATES; how many letters.

        `keep_next`: those who are next by the owner before us have not been told to ask yet.
        """
        while True:
            heard = gate.take_in()
            asking, left = dict(gate.asking), dict(gate.left)
            wishes = [_asking(message) for message in asking.values()]
            took = await self._took(key, known.state, left)
            # Who leaves, and then who comes in: two commits, so that each is decided by what is recorded.
            events, decided = freed(known.state, left, wishes, took, gate.told), Decided()
            if not events:
                limit = await self._limit(key, asking)
                decided = decide(known.state, limit, wishes, self._clock.now()) if limit else Decided()
                events = [*decided.events, *([] if keep_next else awaited(known.state, decided))]
            if not events:
                gate.settled(left)
                return decided, known.state, asking, heard
            appended = await self._book.append(*key, known, events)
            self.counts["commits" if appended is not None else "conflicts"] += 1
            known = appended or await self._book.load(*key)

    async def _limit(self, key: Key, asking: dict[str, AskSlot]) -> GateLimit | None:
        """What the plan of the run that came last says of the gate, so that a limit that is edited holds from the next run on.

        Where workflows share the gate their org may have said something else. Of that of all its runs the org alone says what
        it lets in, and when that is nothing any more: whoever waits. None: nobody asks.
        """
        if not asking:
            return None
        if key[1] == gate_of_all_runs(key[0]):
            return everybodys((await self._limits_of(key[0])).get(ALL_RUNS))
        newest = max(asking.values(), key=lambda message: (message.since, message.holder))
        if not newest.is_shared:
            return newest.wanted.bounds
        return bounded(newest.wanted.bounds, (await self._limits_of(key[0])).get(newest.wanted.name))

    async def _took(self, key: Key, state: GateState, left: dict[str, int]) -> list[str]:
        """Of those that stand for a batch and say that they have left: who has what started it."""
        leaving = [each for each in state.holders if each.members and not each.began and each.run in left]
        return [each.run for each in leaving if await self._standing_for.took(*key, each.run, each.members)]

    async def _wake(self, key: Key, gate: AtGate, decided: Decided) -> None:
        """Have whoever owns the gate then have those ask who are next, when the rate lets one in: it may not be us."""
        if decided.again is None:
            return
        due, now = decided.again + AFTER, self._clock.now()
        if gate.woken is None or not now < gate.woken <= due:
            await self._inbox.wake_at([(GateLook(org=key[0], run=key[1]), due)])
            gate.woken = due

    def _until(self, decided: Decided) -> float:
        if decided.again is None:
            return ASK_SECONDS
        return min(ASK_SECONDS, max(0.0, (decided.again - self._clock.now()).total_seconds()) + BEHIND)

    # --- What is another's ------------------------------------------------------------------------

    async def _hand_on(self, key: Key, gate: AtGate) -> None:
        """Say to the next owner who waits. What is not answered comes to it anyway."""
        asking = [encode(message) for message in gate.asking.values()]
        gate.asking.clear()
        try:
            for first in range(0, len(asking), BUNDLE_MESSAGES):
                bundle = encode_bundle(asking[first : first + BUNDLE_MESSAGES])
                await self._inbox.put(partition(key[1]), bundle)
        except Away as away:
            # Whoever sweeps has those runs ask again a little later.
            log.warning("gate.not-handed-on", gate=key[1], runs=len(asking), reason=str(away))

    async def _bury(self, gate: AtGate, reason: str) -> None:
        """Nobody here can handle what was said; a run that waits asks again when somebody looks at it."""
        letters: list[tuple[ToGate, Reply]] = [*gate.letters, *gate.looks]
        gate.letters, gate.looks = [], []
        gate.asking.clear()
        gate.left.clear()
        for message, answer in letters:
            await self._keep_letter(message, reason)
            error = Failure(code="poison", message=reason[:500])
            answer(Answer(run=message.run, result="refused", error=error))

    async def _keep_letter(self, message: ToGate, reason: str) -> None:
        """However long that takes: it is refused only when it is kept."""
        subject = dead_letter(INBOX, message.org, message.run)
        while True:
            try:
                await self._dead_letters.store(
                    subject, encode(message), {"reason": reason.replace("\n", " ")[:500]}
                )
            except Away as away:
                log.warning("gate.not-buried", subject=subject, reason=str(away))
                await asyncio.sleep(PAUSE)
            else:
                return


def _asking(message: AskSlot) -> Asking:
    return Asking(
        run=message.holder,
        opening=message.opening,
        since=message.since,
        rank=message.wanted.rank,
        size=message.size,
    )
