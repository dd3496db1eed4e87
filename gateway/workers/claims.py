"""“I begin this call now”, on behalf of a worker outside: the same ledger that executors write, and the same rule.

Rule that holds here: the first claim of an attempt wins. A worker's claim has the name that stands in its lease, so that
saying it again is no second one.
"""

from chassis.ports import Log, Proposal
from contracts.codec import Decoder, encode
from contracts.messages import EffectClaim
from contracts.subjects import effect
from gateway.workers.rules import Claimed, Held

_decode = Decoder[EffectClaim](EffectClaim)


class Claims:
    def __init__(self, ledger: Log) -> None:
        self._ledger = ledger

    async def claim(self, held: Held) -> bool:
        """Whether the call is this worker's to begin. Raises `Away` while the ledger is: nothing may begin."""
        claim = EffectClaim(
            org=held.org,
            run=held.run,
            step=held.step,
            attempt=held.attempt,
            executor=held.claim,
            at=held.given_at,
        )
        [sequence] = await self._ledger.append([Proposal(_subject(held), encode(claim), expected=0)])
        return sequence is not None or await self.whose(held) == "us"

    async def whose(self, held: Held) -> Claimed:
        """Who has begun the attempt's call, if anybody."""
        subject = _subject(held)
        last = (await self._ledger.last([subject])).get(subject)
        if last is None:
            return "nobody"
        return "us" if _decode(last.body).executor == held.claim else "another"


def _subject(held: Held) -> str:
    return effect(held.org, held.run, held.step, held.attempt)
