"""Signed roots over the heads of all histories that changed: whoever rewrites one must break a signature.

An anchor says of both streams up to where it covers them, names the anchor before by the hash of its stored bytes, and is
signed with a key that no store holds. What came while nobody was there to anchor it is anchored soon after the start.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

import structlog
from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.ports import Ambiguous, Away, Log, Proposal, Stored
from chassis.postgres import Pool, connected
from chassis.sealing import SigningKey, verify
from contracts import subjects
from contracts.codec import Decoder, Malformed, encode
from projections.figures import Figures
from projections.head_lists import HEADS_PER_PART, Head, part
from projections.head_lists import SUBJECT as LIST
from projections.merkle import Tree, leaf

log = structlog.get_logger()

ANCHOR_SECONDS: Final = 600.0
START_SECONDS: Final = 10.0
"""So long after a start the first anchor is made: it covers what a crash left uncovered."""
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
    heads: tuple[str, ...] = ()
    """SHA-256 of each part of the list of all leaves' heads, in their order."""


class Anchor(Struct, frozen=True, kw_only=True):
    """One message of ANCHORS."""

    body: Raw
    """An `AnchorBody`. The signature is over these bytes as they stand."""
    signature: str


Place: TypeAlias = tuple[int, int]
"""Epoch and sequence."""


class Heads(Protocol):
    """Knows which histories changed."""

    async def reached(self) -> tuple[Place, Place]:
        """Up to where the archive follows RUNS and DOMAIN."""
        ...

    async def next_epoch(self, stream: str, beyond: Place, before: int) -> Place | None:
        """The last place of the first epoch, older than `before`, that has something beyond a place."""
        ...

    def of_runs(self, stretch: Stretch) -> AsyncIterator[Head]:
        """The newest commits of the histories that changed in this stretch, by subject."""
        ...

    def of_domain(self, stretch: Stretch) -> AsyncIterator[Head]: ...


decode_anchor: Final = Decoder[Anchor](Anchor)
decode_body: Final = Decoder[AnchorBody](AnchorBody)


def newest_readable(stored: Sequence[Stored]) -> tuple[Stored, AnchorBody] | None:
    """The newest of these messages that is an anchor. What cannot be read is passed by: whoever verifies is told of it."""
    for each in reversed(stored):
        try:
            return each, decode_body(decode_anchor(each.body).body)
        except Malformed:
            continue
    return None


def is_authentic(anchor: Anchor, public: bytes) -> bool:
    """Whether the holder of the key signed exactly this anchor."""
    try:
        signature = base64.b64decode(anchor.signature, validate=True)
    except ValueError:
        return False
    return verify(public, bytes(anchor.body), signature)


class Anchors:
    """Appends anchors to ANCHORS."""

    def __init__(  # noqa: PLR0913  # What it stands on, and its pace.
        self,
        heads: Heads,
        anchors: Log,
        key: SigningKey,
        clock: Clock,
        figures: Figures,
        *,
        seconds: float = ANCHOR_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._heads, self._log, self._key = heads, anchors, key
        self._clock, self._figures = clock, figures
        self._seconds, self._start_seconds = seconds, start_seconds

    async def run(self) -> None:
        """One anchor soon, then one every ten minutes, when something changed. A store that is away is tried again."""
        await asyncio.sleep(self._start_seconds)
        while True:
            try:
                await self.anchor()
            except Away as away:
                self._figures.archiver_failures += 1
                log.warning("anchor.put-off", reason=str(away))
            await asyncio.sleep(self._seconds)

    async def anchor(self) -> Anchor | None:
        """Anchor what changed since the last one; None when nothing did. Safe to repeat after `Away`."""
        newest: Anchor | None = None
        reached = await self._heads.reached()
        while True:
            expected, before, prev = await self._last(reached[0][0])
            runs = await self._stretch(subjects.RUNS, before.runs if before is not None else None, reached[0])
            domain = await self._stretch(
                subjects.DOMAIN, before.domain if before is not None else None, reached[1]
            )
            tree, parts = await self._listed(runs, domain)
            if tree.leaves == 0:
                return newest
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
                heads=tuple(parts),
            )
            newest = await self._append(body, reached[0][0], expected)
            if (runs.epoch, domain.epoch) == (reached[0][0], reached[1][0]):
                return newest

    async def _stretch(self, stream: str, before: Stretch | None, reached: Place) -> Stretch:
        """What the last anchor did not cover: the rest of an older epoch first, when the log was restored since."""
        epoch, sequence = reached
        beyond = (before.epoch, before.through) if before is not None else (0, 0)
        older = await self._heads.next_epoch(stream, beyond, epoch) if beyond[0] < epoch else None
        through_epoch, through = older or (epoch, sequence)
        after = beyond[1] if beyond[0] == through_epoch else 0
        return Stretch(epoch=through_epoch, after=after, through=through)

    async def _listed(self, runs: Stretch, domain: Stretch) -> tuple[Tree, list[str]]:
        """The tree over the heads in both stretches, and the hashes of the parts of their list, stored by now."""
        tree, parts = Tree(), list[str]()
        waiting: list[Head] = []
        for source in (self._heads.of_runs(runs), self._heads.of_domain(domain)):
            async for head in source:
                tree.add(leaf(head.subject, head.version, head.hash))
                waiting.append(head)
                if len(waiting) == HEADS_PER_PART:
                    parts.append(await self._store(waiting))
                    waiting = []
        if waiting:
            parts.append(await self._store(waiting))
        return tree, parts

    async def _store(self, heads: Sequence[Head]) -> str:
        body = part(heads)
        before = (await self._log.last([LIST])).get(LIST)
        if before is None or before.body != body:
            expected = before.sequence if before is not None else 0
            [sequence] = await self._log.append([Proposal(subject=LIST, body=body, expected=expected)])
            if sequence is None:
                raise Ambiguous("another process anchors too")
        return hashlib.sha256(body).hexdigest()

    async def _last(self, epoch: int) -> tuple[int, AnchorBody | None, str]:
        """What the next append expects, the newest anchor that can be read, and the hash of its stored bytes."""
        expected = 0
        for number in range(max(epoch, 1), 0, -1):
            subject = subjects.anchor(number)
            stored = (await self._log.last([subject])).get(subject)
            if stored is None:
                continue
            if number == epoch:
                expected = stored.sequence
            found = newest_readable([stored])
            if found is None:
                log.warning("anchor.unreadable", subject=subject, sequence=stored.sequence)
                found = newest_readable(await self._log.history(subject))
            if found is not None:
                return expected, found[1], hashlib.sha256(found[0].body).hexdigest()
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


_REACH: Final = "select stream, epoch, sequence from read.positions where projection in ('runs', 'domain')"
_NEXT_EPOCH: Final = {
    stream: f"""
select epoch, sequence from {table} where version > 0 and epoch = (
    select epoch from {table} where version > 0 and (epoch, sequence) > ($1, $2) and epoch < $3
    order by epoch, sequence limit 1
) order by epoch desc, sequence desc limit 1
"""  # noqa: S608  # Names of our own tables.
    for stream, table in ((subjects.RUNS, "archive.commits"), (subjects.DOMAIN, "archive.domain_commits"))
}
_RUN_HEADS: Final = """
select distinct on (org collate "C", run collate "C") org, run, version, {hash} from archive.commits
where epoch = $1 and sequence > $2 and sequence <= $3 and version > 0
order by org collate "C", run collate "C", version desc
"""
_DOMAIN_HEADS: Final = """
select distinct on (org collate "C", aggregate, id collate "C") org, aggregate, id, version, {hash}
from archive.domain_commits where epoch = $1 and sequence > $2 and sequence <= $3
order by org collate "C", aggregate, id collate "C", version desc
"""


class PostgresHeads:
    """Heads as the archive has them."""

    def __init__(self, pool: Pool, *, rehash: bool = False) -> None:
        """`rehash`: take the hash of the bytes that are there, not the one that was noted when they came."""
        self._pool = pool
        self._hash = "sha256(body)" if rehash else "hash"

    async def reached(self) -> tuple[Place, Place]:
        async with connected(self._pool) as connection:
            rows = await connection.fetch(_REACH)
        reached = {row["stream"]: (row["epoch"], row["sequence"]) for row in rows}
        return reached.get(subjects.RUNS, (1, 0)), reached.get(subjects.DOMAIN, (1, 0))

    async def next_epoch(self, stream: str, beyond: Place, before: int) -> Place | None:
        async with connected(self._pool) as connection:
            row = await connection.fetchrow(_NEXT_EPOCH[stream], *beyond, before)
        return (row["epoch"], row["sequence"]) if row is not None else None

    async def of_runs(self, stretch: Stretch) -> AsyncIterator[Head]:
        async for org, run, version, digest in self._rows(_RUN_HEADS.format(hash=self._hash), stretch):
            yield Head(subjects.run(org, run), version, digest)

    async def of_domain(self, stretch: Stretch) -> AsyncIterator[Head]:
        async for org, aggregate, id_, version, digest in self._rows(
            _DOMAIN_HEADS.format(hash=self._hash), stretch
        ):
            yield Head(subjects.domain(org, aggregate, id_), version, digest)

    async def _rows(self, sql: str, stretch: Stretch) -> AsyncIterator[tuple[Any, ...]]:
        async with connected(self._pool) as connection, connection.transaction(readonly=True):
            place = stretch.epoch, stretch.after, stretch.through
            async for row in connection.cursor(sql, *place, prefetch=_PREFETCH):
                yield tuple(row.values())
