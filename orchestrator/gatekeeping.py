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
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import structlog
from msgspec import structs

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ports import Away, Inbox, Letters, Log, Ownership
from chassis.tasks import side_by_side
from contracts.codec import encode, encode_bundle
from contracts.errors import Failure
from contracts.gates import GateState, Holder, SlotRefusal
from contracts.limits import BUNDLE_MESSAGES, GATE_NAMES, HELD_LANES
from contracts.messages import (
    Answer,
    AskSlot,
    CancelRun,
    GateLook,
    GiveSlot,
    Look,
    RefuseSlot,
    Said,
    ToGate,
)
from contracts.pauses import HeldAtGates
from contracts.subjects import INBOX, dead_letter, partition
from orchestrator.at_gate import AtGate, Reply
from orchestrator.family import Sender
from orchestrator.gatebook import GateBook, Known
from orchestrator.gates import awaited, decide, freed
from orchestrator.standing_for import StandingFor
from orchestrator.wishes import Asking, Decided

log = structlog.get_logger()

Key: TypeAlias = tuple[str, str]
"""An org and a gate of it."""

PATIENCE: Final = 5
"""How often our code may raise at a gate before what was said to it is a dead letter."""
PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
ASK_SECONDS: Final = 5.0
"""How often those inside of a full gate are asked whether they are still there, while somebody waits."""
ASKED_AT_ONCE: Final = 100
ANSWER_SECONDS: Final = 0.3
"""So long they have to answer before somebody is sent away because of them."""
BEHIND: Final = 0.005
"""A rate lets somebody in so little after its moment, so that it has surely come."""
AFTER: Final = timedelta(seconds=1)
"""INBOX wakes whoever has the gate then so long behind that moment."""


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
    ) -> None:
        self._standing_for = standing_for
        self._book = GateBook(history, clock)
        self._sender, self._inbox, self._dead_letters = sender, inbox, dead_letters
        self._ownership, self._clock = ownership, clock
        self._gates: dict[Key, AtGate] = {}
        self._released = False
        self.names = 0
        """How many runs are known to wait."""
        self._waiting: dict[str, int] = defaultdict(int)
        self.counts: dict[str, int] = defaultdict(int)

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
            gate = self._gates[key] = AtGate()
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
        looks = len(gate.looks)
        known = await self._book.load(*key)
        next_before = known.state.next if gate.is_new else ()
        decided, state, asking, heard = await self._recorded(key, gate, known, keep_next=bool(next_before))
        await self._wake(key, gate, decided)
        gate.answer(heard)
        pause = await self._say(key, gate, state, decided, asking)
        await self._have_ask(key[0], gate, next_before)
        gate.answer_looks(looks)
        self._count(key[0], gate, len(gate.asking))
        return min(pause, self._until(decided))

    def _count(self, org: str, gate: AtGate, waiting: int) -> None:
        """So many wait at this gate now."""
        more, gate.counted = waiting - gate.counted, waiting
        self.names += more
        self._waiting[org] += more
        if not self._waiting[org]:
            del self._waiting[org]

    async def _recorded(
        self, key: Key, gate: AtGate, known: Known, *, keep_next: bool
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
                decided = _decided(known.state, asking, wishes, self._clock.now())
                events = [*decided.events, *([] if keep_next else awaited(known.state, decided))]
            if not events:
                gate.settled(left)
                return decided, known.state, asking, heard
            appended = await self._book.append(*key, known, events)
            self.counts["commits" if appended is not None else "conflicts"] += 1
            known = appended or await self._book.load(*key)

    async def _took(self, key: Key, state: GateState, left: dict[str, int]) -> list[str]:
        """Of those that stand for a batch and say that they have left: who has what started it."""
        leaving = [each.run for each in state.holders if each.members and not each.began and each.run in left]
        return [run for run in leaving if await self._standing_for.took(key[0], key[1], run)]

    async def _wake(self, key: Key, gate: AtGate, decided: Decided) -> None:
        """Have whoever owns the gate then have those ask who are next, when the rate lets one in: it may not be us."""
        if decided.again is None:
            return
        due, now = decided.again + AFTER, self._clock.now()
        if gate.woken is None or not now < gate.woken <= due:
            await self._inbox.wake_at([(GateLook(org=key[0], run=key[1]), due)])
            gate.woken = due

    async def _have_ask(self, org: str, gate: AtGate, runs: Sequence[str]) -> None:
        """Have those ask of whom the owner before us knew that they are next: it may have died with that."""
        gate.is_new, gate.recalls = False, tuple(run for run in runs if run not in gate.asking)
        await side_by_side(self._tell(Look(org=org, run=run)) for run in gate.recalls)

    def _until(self, decided: Decided) -> float:
        if decided.again is None:
            return ASK_SECONDS
        return min(ASK_SECONDS, max(0.0, (decided.again - self._clock.now()).total_seconds()) + BEHIND)

    # --- What is said -----------------------------------------------------------------------------

    async def _say(
        self, key: Key, gate: AtGate, state: GateState, decided: Decided, asking: dict[str, AskSlot]
    ) -> float:
        """Tell who asked; those whom nobody could tell are told the next time. When to look again."""
        org, name = key
        inside = {holder.run: holder for holder in state.holders}

        async def tell(run: str, message: Said) -> None:
            if await self._told(message) and gate.asking.get(run) == asking[run]:
                del gate.asking[run]

        # Nobody is sent away before those inside were asked: the word of one that has ended may have been lost.
        refused = [(run, self._refusal(key, asking[run])) for run in decided.refused if run in gate.doubted]
        refused += [
            (run, _replaced(key, run, asking[run].opening, "superseded", by))
            for run, by in decided.superseded.items()
        ]
        given: list[tuple[str, Said]] = [(run, await self._given(key, inside[run])) for run in decided.inside]
        self.counts["refused"] += len(refused)
        await side_by_side(tell(run, message) for run, message in (*given, *refused))
        await self._tell_batches(key, gate, state)
        crash("gate.after_say")
        doubted = set(decided.refused) - gate.doubted
        gate.doubted = set(decided.refused)
        if decided.waiting:
            await side_by_side(self._tell(_stop(org, name, inside[run])) for run in decided.stop)
        since = self._clock.seconds() - gate.asked_at
        if doubted or ((decided.waiting or gate.is_unsettled) and since >= ASK_SECONDS):
            await self._ask_those_inside(key, gate, state.holders)
        return ANSWER_SECONDS if doubted else ASK_SECONDS

    async def _ask_those_inside(self, key: Key, gate: AtGate, holders: Sequence[Holder]) -> None:
        """Whether they are still there: one that has ended, and whose word was lost, says so again."""
        if not holders:
            return
        first = gate.next_asked % len(holders)
        asked = (*holders[first:], *holders[:first])[:ASKED_AT_ONCE]
        gate.next_asked, gate.asked_at = first + len(asked), self._clock.seconds()
        await side_by_side(
            [self._tell(await self._given(key, holder)) for holder in asked if not holder.began]
        )

    async def _given(self, key: Key, holder: Holder) -> GiveSlot:
        """That it is inside; and, if it stands for a batch, what has started that."""
        given = GiveSlot(org=key[0], run=holder.run, gate=key[1], opening=holder.opening)
        if not holder.members:
            return given
        return structs.replace(given, input=await self._standing_for.input(key[0], holder.members))

    async def _tell_batches(self, key: Key, gate: AtGate, state: GateState) -> None:
        """Tell whoever another run stands for, until all know it."""
        batches = [holder for holder in state.holders if holder.members]
        gate.is_unsettled = bool(batches)
        gate.told &= {member for holder in batches for member in holder.members}

        async def tell(run: str, by: str) -> None:
            answer = await self._answered(_replaced(key, run, 1, "gathered", by))
            if answer is not None and answer.run == run:  # INBOX may have it, which says nothing yet.
                gate.told.add(run)
                gate.asking.pop(run, None)

        await side_by_side(
            tell(member, holder.run)
            for holder in batches
            if holder.began
            for member in holder.members[1:]
            if member not in gate.told
        )
        if any(holder.began and gate.told.issuperset(holder.members[1:]) for holder in batches):
            gate.stirred.set()

    def _refusal(self, key: Key, asked: AskSlot) -> RefuseSlot:
        skips = asked.wanted.bounds.when_full == "skip"
        return RefuseSlot(
            org=key[0],
            run=asked.holder,
            trace=asked.trace,
            gate=key[1],
            opening=asked.opening,
            why="skipped" if skips else "full",
        )

    async def _tell(self, message: Said) -> None:
        await self._told(message)

    async def _told(self, message: Said) -> bool:
        """Whether somebody took it. If not it is said again later."""
        return await self._answered(message) is not None

    async def _answered(self, message: Said) -> Answer | None:
        try:
            return await self._sender.send(message)
        except Away as away:
            self.counts["unsaid"] += 1
            log.warning("gate.unsaid", run=message.run, reason=str(away))
            return None

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


def _decided(
    state: GateState, asking: dict[str, AskSlot], wishes: Sequence[Asking], now: datetime
) -> Decided:
    """By what the plan of the run that came last says of the gate: so a limit that is edited holds from the next run on."""
    if not asking:
        return Decided()
    newest = max(asking.values(), key=lambda message: (message.since, message.holder))
    return decide(state, newest.wanted.bounds, wishes, now)


def _replaced(key: Key, run: str, opening: int, why: SlotRefusal, by: str) -> RefuseSlot:
    """Another run goes on in its place."""
    return RefuseSlot(org=key[0], run=run, gate=key[1], opening=opening, why=why, by=by)


def _stop(org: str, gate: str, holder: Holder) -> CancelRun:
    return CancelRun(
        org=org,
        run=holder.run,
        actor=f"gate:{gate}",
        opening=holder.opening,
        reason="Another run wants to pass the gate, and it lets the newest in.",
    )
