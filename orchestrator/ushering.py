"""Tells runs what was decided at a gate, again and again until they know it; and asks those inside whether they are still there."""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import structlog
from msgspec import structs

from chassis.clock import Clock
from chassis.crash import crash
from chassis.ports import Away
from chassis.tasks import side_by_side
from contracts.gates import GateState, Holder, SlotRefusal
from contracts.messages import Answer, AskSlot, CancelRun, GateLook, GiveSlot, Look, RefuseSlot, Said
from orchestrator.at_gate import AtGate, Key, Reply
from orchestrator.family import Sender
from orchestrator.standing_for import StandingFor
from orchestrator.wishes import Decided

log = structlog.get_logger()

ASK_SECONDS: Final = 5.0
"""How often those inside of a full gate are asked whether they are still there, while somebody waits."""
ASKED_AT_ONCE: Final = 100
ANSWER_SECONDS: Final = 0.3
"""So long they have to answer before somebody is sent away because of them."""


class Usher:
    """Speaks for the gates of one keeper."""

    def __init__(
        self, sender: Sender, standing_for: StandingFor, clock: Clock, counts: dict[str, int]
    ) -> None:
        self._sender, self._standing_for, self._clock, self._counts = sender, standing_for, clock, counts

    async def say(
        self, key: Key, gate: AtGate, state: GateState, decided: Decided, asking: dict[str, AskSlot]
    ) -> float:
        """Tell who asked; those whom nobody could tell are told the next time. When to look again."""
        inside = {holder.run: holder for holder in state.holders}

        async def tell(run: str, message: Said) -> None:
            if await self._told(message) and gate.asking.get(run) == asking[run]:
                del gate.asking[run]
            crash("gate.after_say")

        # Nobody is sent away before those inside were asked: the word of one that has ended may have been lost.
        refused = [(run, self._refusal(key, asking[run])) for run in decided.refused if run in gate.doubted]
        refused += [
            (run, _replaced(key, run, asking[run].opening, "superseded", by))
            for run, by in decided.superseded.items()
        ]
        given: list[tuple[str, Said]] = [
            (run, await self._given(key, inside[run])) for run in decided.inside if run not in gate.telling
        ]
        self._counts["refused"] += len(refused)
        for run, message in (*given, *refused):
            self._beside(gate, run, partial(tell, run, message))
        self._tell_batches(key, gate, state)
        doubted = set(decided.refused) - gate.doubted
        gate.doubted = set(decided.refused)
        if decided.waiting:
            for run in decided.stop:
                self._beside(gate, run, partial(self._stop, key, inside[run]))
        since = self._clock.seconds() - gate.asked_at
        if doubted or ((decided.waiting or gate.is_unsettled) and since >= ASK_SECONDS):
            await self._ask_those_inside(key, gate, state.holders)
        return ANSWER_SECONDS if doubted else ASK_SECONDS

    def have_ask(
        self, org: str, gate: AtGate, runs: Sequence[str], looks: Sequence[tuple[GateLook, Reply]]
    ) -> None:
        """Have those ask of whom the owner before us knew that they are next: it may have died with that.

        Then answer these looks, which were for that.
        """
        recalls = tuple(run for run in runs if run not in gate.asking)
        gate.is_new, gate.recalls = False, recalls

        async def recall() -> None:
            await side_by_side(self._tell(Look(org=org, run=run)) for run in recalls)
            gate.answer_looks(looks)

        if recalls:
            gate.tasks.create_task(recall())
        else:
            gate.answer_looks(looks)

    def _beside(self, gate: AtGate, run: str, saying: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Say it while the gate goes on; to each run one thing at a time: what is not said now is said the next time."""
        if run in gate.telling:
            return
        gate.telling.add(run)

        async def say() -> None:
            try:
                await saying()
            finally:
                gate.telling.discard(run)
                if gate.is_idle:
                    gate.stirred.set()

        gate.tasks.create_task(say())

    async def _ask_those_inside(self, key: Key, gate: AtGate, holders: Sequence[Holder]) -> None:
        """Whether they are still there: one that has ended, and whose word was lost, says so again."""
        if not holders:
            return
        first = gate.next_asked % len(holders)
        asked = (*holders[first:], *holders[:first])[:ASKED_AT_ONCE]
        gate.next_asked, gate.asked_at = first + len(asked), self._clock.seconds()
        for holder in asked:
            if not holder.began and holder.run not in gate.telling:
                self._beside(gate, holder.run, partial(self._tell, await self._given(key, holder)))

    async def _given(self, key: Key, holder: Holder) -> GiveSlot:
        """That it is inside; and, if it stands for a batch, what has started that."""
        given = GiveSlot(org=key[0], run=holder.run, gate=key[1], opening=holder.opening)
        if not holder.members:
            return given
        return structs.replace(given, input=await self._standing_for.input(*key, holder.members))

    def _tell_batches(self, key: Key, gate: AtGate, state: GateState) -> None:
        """Tell whoever another run stands for, until all know it."""
        batches = [holder for holder in state.holders if holder.members]
        gate.is_unsettled = bool(batches)
        gate.told &= {member for holder in batches for member in holder.members}

        async def tell(run: str, by: str) -> None:
            answer = await self._answered(_replaced(key, run, 1, "gathered", by))
            if answer is not None and answer.run == run:  # INBOX may have it, which says nothing yet.
                gate.told.add(run)
                gate.asking.pop(run, None)
            if gate.told.issuperset(others[by]):
                gate.stirred.set()

        others = {holder.run: holder.members[1:] for holder in batches if holder.began}
        for leader, members in others.items():
            if not members:
                gate.stirred.set()
            for member in members:
                if member not in gate.told:
                    self._beside(gate, member, partial(tell, member, leader))

    async def _stop(self, key: Key, holder: Holder) -> None:
        """Have it stop; one that has ended, and whose word was lost, says so again when it hears that it is inside."""
        await self._tell(_cancelled(*key, holder))
        await self._tell(await self._given(key, holder))

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
            self._counts["unsaid"] += 1
            log.warning("gate.unsaid", run=message.run, reason=str(away))
            return None


def _replaced(key: Key, run: str, opening: int, why: SlotRefusal, by: str) -> RefuseSlot:
    """Another run goes on in its place."""
    return RefuseSlot(org=key[0], run=run, gate=key[1], opening=opening, why=why, by=by)


def _cancelled(org: str, gate: str, holder: Holder) -> CancelRun:
    return CancelRun(
        org=org,
        run=holder.run,
        actor=f"gate:{gate}",
        opening=holder.opening,
        reason="Another run wants to pass the gate, and it lets the newest in.",
    )
