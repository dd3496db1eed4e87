"""Signed roots over the heads of all histories that changed: whoever rewrites one must break a signature.

An anchor says of both streams up to where it covers them, names the anchor before by the hash of its stored bytes, and is
signed with a key that no store holds.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import msgspec
import structlog
from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.ports import Ambiguous, Away, Log, Proposal
from chassis.postgres import Pool, connected
from chassis.sealing import SigningKey, verify
from contracts import subjects
from contracts.codec import Decoder, encode
from projections.figures import Figures
from projections.merkle import Tree, leaf

log = structlog.get_logger()

ANCHOR_SECONDS: Final = 600.0
FORMAT: Final = 1
_PREFETCH: Final = 5_000


class Stretch(Struct, frozen=True, kw_only=True):
    """A part of one stream: beyond `after`, up to and with `through`."""

    epoch: int
    after: int
    through: int


class AnchorBody(Struct, frozen=True, kw_only=True):
    """What is signed."""

    format: int
    number: int
    """1, 2, 3 … without a gap, through every epoch."""
    time: str
    runs: Stretch
    domain: Stretch
    leaves: int
    root: str
    """Over `merkle.leaf` of the newest commit of each history in the stretches: RUNS by org and run, then DOMAIN by org, aggregate and id."""
    prev: str
    """SHA-256 of the stored bytes of the anchor before; empty in the first."""
    key: str
    """The public key, in hex."""


class Anchor(Struct, frozen=True, kw_only=True):
    """One message of ANCHORS."""

    body: Raw
    """An `AnchorBody`. The signature is over these bytes as they stand."""
    signature: str


class Head(Struct, frozen=True):
    """The newest commit of one history."""

    subject: str
    version: int
    hash: bytes


class Heads(Protocol):
    """Knows which histories changed."""

    async def reach(self) -> tuple[Stretch, Stretch]:
        """Up to where the archive has RUNS and DOMAIN; `after` is 0."""
        ...

    def of_runs(self, stretch: Stretch) -> AsyncIterator[Head]:
        """The newest commits of the histories that changed in this stretch, by subject."""
        ...

    def of_domain(self, stretch: Stretch) -> AsyncIterator[Head]: ...


decode_anchor: Final = Decoder[Anchor](Anchor)
decode_body: Final = Decoder[AnchorBody](AnchorBody)


def is_authentic(anchor: Anchor, public: bytes) -> bool:
    """Whether the holder of the key signed exactly this anchor."""
    try:
        signature = base64.b64decode(anchor.signature, validate=True)
    except ValueError:
        return False
    return verify(public, bytes(anchor.body), signature)


class Anchors:
    """Appends anchors to ANCHORS."""

    def __init__(self, heads: Heads, anchors: Log, key: SigningKey, clock: Clock, figures: Figures) -> None:
        self._heads, self._log, self._key = heads, anchors, key
        self._clock, self._figures = clock, figures

    async def run(self) -> None:
        """One anchor every ten minutes, when something changed. A store that is away is tried again."""
        while True:
            await asyncio.sleep(ANCHOR_SECONDS)
            try:
                await self.anchor()
            except Away as away:
                self._figures.archiver_failures += 1
                log.warning("anchor.put-off", reason=str(away))

    async def anchor(self) -> Anchor | None:
        """Anchor what changed since the last one; None when nothing did. Safe to repeat after `Away`."""
        runs, domain = await self._heads.reach()
        expected, before, prev = await self._last(runs.epoch)
        if before is not None:
            runs, domain = _behind(before.runs, runs), _behind(before.domain, domain)
        tree = Tree()
        async for head in self._heads.of_runs(runs):
            tree.add(leaf(head.subject, head.version, head.hash))
        async for head in self._heads.of_domain(domain):
            tree.add(leaf(head.subject, head.version, head.hash))
        if tree.leaves == 0:
            return None
        body = AnchorBody(
            format=FORMAT,
            number=1 if before is None else before.number + 1,
            time=self._clock.now().isoformat(),
            runs=runs,
            domain=domain,
            leaves=tree.leaves,
            root=tree.root().hex(),
            prev=prev,
            key=self._key.public.hex(),
        )
        return await self._append(body, runs.epoch, expected)

    async def _last(self, epoch: int) -> tuple[int, AnchorBody | None, str]:
        """What the next append expects, the newest anchor, and the hash of its stored bytes."""
        expected = 0
        for number in range(max(epoch, 1), 0, -1):
            subject = subjects.anchor(number)
            stored = (await self._log.last([subject])).get(subject)
            if stored is None:
                continue
            if number == epoch:
                expected = stored.sequence
            body = decode_body(decode_anchor(stored.body).body)
            return expected, body, hashlib.sha256(stored.body).hexdigest()
        return expected, None, ""

    async def _append(self, body: AnchorBody, epoch: int, expected: int) -> Anchor:
        signed = encode(body)
        signature = base64.b64encode(self._key.sign(signed)).decode()
        anchor = Anchor(body=Raw(signed), signature=signature)
        proposal = Proposal(subject=subjects.anchor(epoch), body=encode(anchor), expected=expected)
        [sequence] = await self._log.append([proposal])
        if sequence is None:
            raise Ambiguous("another process anchors too")
        self._figures.anchors += 1
        return anchor


def _behind(before: Stretch, now: Stretch) -> Stretch:
    """The part that the last anchor did not cover; everything, when the log has a new epoch."""
    if before.epoch != now.epoch:
        return now
    return msgspec.structs.replace(now, after=before.through)


_REACH: Final = "select stream, epoch, sequence from read.positions where projection in ('runs', 'domain')"
_RUN_HEADS: Final = """
select distinct on (org collate "C", run collate "C") org, run, version, hash from archive.commits
where epoch = $1 and sequence > $2 and sequence <= $3 and version > 0
order by org collate "C", run collate "C", version desc
"""
_DOMAIN_HEADS: Final = """
select distinct on (org collate "C", aggregate, id collate "C") org, aggregate, id, version, hash
from archive.domain_commits where epoch = $1 and sequence > $2 and sequence <= $3
order by org collate "C", aggregate, id collate "C", version desc
"""


class PostgresHeads:
    """Heads as the archive has them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def reach(self) -> tuple[Stretch, Stretch]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_REACH)
        reached = {
            row["stream"]: Stretch(epoch=row["epoch"], after=0, through=row["sequence"]) for row in rows
        }
        nothing = Stretch(epoch=1, after=0, through=0)
        return reached.get(subjects.RUNS, nothing), reached.get(subjects.DOMAIN, nothing)

    async def of_runs(self, stretch: Stretch) -> AsyncIterator[Head]:
        async for org, run, version, digest in self._rows(_RUN_HEADS, stretch):
            yield Head(subjects.run(org, run), version, digest)

    async def of_domain(self, stretch: Stretch) -> AsyncIterator[Head]:
        async for org, aggregate, id_, version, digest in self._rows(_DOMAIN_HEADS, stretch):
            yield Head(subjects.domain(org, aggregate, id_), version, digest)

    async def _rows(self, sql: str, stretch: Stretch) -> AsyncIterator[tuple[Any, ...]]:
        async with connected(self._pool) as connection, connection.transaction(readonly=True):
            place = stretch.epoch, stretch.after, stretch.through
            async for row in connection.cursor(sql, *place, prefetch=_PREFETCH):
                yield tuple(row.values())
