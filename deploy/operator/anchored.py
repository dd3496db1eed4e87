"""What the signed anchors say of the past, and whether the archive still says the same.

An anchor fixes the newest commit of every history that moved in its interval, and with it, by the chain of hashes, all that
came before in that history. Whoever rewrites one in every store still has to break a signature.
"""

import hashlib
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from chassis.jetstream.log import JetStreamLog
from chassis.ports import Stored
from chassis.postgres import Pool, connected
from contracts.codec import Malformed
from contracts.subjects import ANCHORS, anchor
from deploy.operator.reach import Stores
from projections.anchors import (
    AnchorBody,
    PostgresHeads,
    Stretch,
    decode_anchor,
    decode_body,
    is_authentic,
    newest_readable,
)
from projections.head_lists import SUBJECT as LIST
from projections.head_lists import Head, listed
from projections.merkle import leaf, root_of

LATE: Final = timedelta(minutes=25)
"""Two anchors and a half: longer than this nothing stays without one."""
_BEGUN: Final = "select min(time) from archive.commits where (epoch, sequence) > ($1, $2) and version > 0"
_FIRST: Final = timedelta(hours=1)
"""The first interval has no signed beginning; it is about as long as any."""


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is not as it was."""

    what: str
    history: str = ""
    """Org and run, or org, aggregate and id, with `/` between; empty: it is about the anchors themselves."""
    version: int | None = None
    interval: str = ""
    """Between which two anchors it lies."""


class Mark(Struct, frozen=True, kw_only=True):
    """One anchor as it is stored."""

    stored: Stored
    body: AnchorBody
    since: str
    """When the anchor before was made."""

    @property
    def begins(self) -> datetime:
        """What moved in the interval did so after this moment, as far as the signatures say."""
        return datetime.fromisoformat(self.since or self.body.time) - (timedelta() if self.since else _FIRST)

    @property
    def interval(self) -> str:
        n = self.body.number
        return f"{f'between anchor {n - 1} ({self.since})' if n > 1 else 'before the first anchor'}" + (
            f" and anchor {n} ({self.body.time})" if n > 1 else f" ({self.body.time})"
        )


class Chain(Struct, frozen=True, kw_only=True):
    """All anchors, the oldest first, and what is wrong with them."""

    marks: Sequence[Mark]
    findings: Sequence[Finding]

    def of_run(self, epoch: int, sequence: int) -> Mark | None:
        """The anchor in whose interval a commit of RUNS lies."""
        return _holding(self.marks, lambda mark: mark.body.runs, (epoch, sequence))

    def of_domain(self, epoch: int, sequence: int) -> Mark | None:
        return _holding(self.marks, lambda mark: mark.body.domain, (epoch, sequence))


def _holding(
    marks: Sequence[Mark], stretch_of: Callable[[Mark], Stretch], place: tuple[int, int]
) -> Mark | None:
    """The one in whose stretch a place lies. Each begins where the one before it ends, or in a later epoch."""

    def end(mark: Mark) -> tuple[int, int]:
        stretch = stretch_of(mark)
        return stretch.epoch, stretch.through

    index = bisect_left(marks, place, key=end)
    if index == len(marks):
        return None
    stretch = stretch_of(marks[index])
    return marks[index] if stretch.epoch == place[0] and stretch.after < place[1] else None


async def stored_anchors(stores: Stores) -> list[Stored]:
    """Every message that should be an anchor, in the order in which they came."""
    log = JetStreamLog(stores.log.connection, ANCHORS)
    found: list[Stored] = []
    for epoch in range(1, max(stores.log.log.epoch, 1) + 1):
        found += await log.history(anchor(epoch))
    return sorted(found, key=lambda stored: stored.sequence)


def chain(stored: Sequence[Stored], keys: Collection[bytes]) -> Chain:
    """Check signatures and order. `keys`: the public keys that may have signed."""
    marks: list[Mark] = []
    findings: list[Finding] = []
    before: Mark | None = None
    prev = ""
    for each in stored:
        try:
            signed = decode_anchor(each.body)
            body = decode_body(signed.body)
        except Malformed as malformed:
            findings.append(Finding(what=f"the anchor at {each.sequence} cannot be read: {malformed}"))
            continue
        mark = Mark(stored=each, body=body, since=before.body.time if before is not None else "")
        if not any(is_authentic(signed, key) and body.key == key.hex() for key in keys):
            findings.append(Finding(what=f"anchor {body.number} is not signed with the key that was given"))
            prev = hashlib.sha256(each.body).hexdigest()
            continue
        findings += [Finding(what=what) for what in _order(before, body, prev)]
        marks.append(mark)
        before, prev = mark, hashlib.sha256(each.body).hexdigest()
    return Chain(marks=marks, findings=findings)


def _order(before: Mark | None, body: AnchorBody, prev: str) -> list[str]:
    """What does not follow from the anchor before."""
    last = before.body.number if before is not None else 0
    if body.number != last + 1:
        return [f"anchor {body.number} follows anchor {last}: what was between them is gone"]
    told = []
    if body.prev != prev:
        told.append(f"anchor {body.number} does not name the anchor before it")
    if before is not None:
        for name in ("runs", "domain"):
            ours, theirs = getattr(body, name), getattr(before.body, name)
            begins = theirs.through if ours.epoch == theirs.epoch else 0
            if ours.epoch < theirs.epoch or ours.after != begins:
                told.append(f"anchor {body.number} does not begin where the anchor before it ends")
    return told


async def with_lists(
    stores: Stores, whole: Chain, asked: Sequence[Mark]
) -> AsyncIterator[tuple[Mark, Sequence[Head] | None]]:
    """Each of these anchors with its list of heads; None where the list is not what was signed."""
    wanted = list(asked)
    if not wanted:
        return
    earlier = [mark.stored.sequence for mark in whole.marks if mark.body.number < wanted[0].body.number]
    after = max(earlier, default=0)  # The parts of a list lie between two anchors.
    parts: dict[str, bytes] = {}
    reader = stores.log.reader(ANCHORS)
    async for batch in reader.read(after, 200):
        for stored in batch:
            if stored.subject == LIST:
                parts[hashlib.sha256(stored.body).hexdigest()] = stored.body
            elif stored.sequence == wanted[0].stored.sequence:
                mark = wanted.pop(0)
                yield mark, _proven(mark, parts)
                if not wanted:
                    return
                parts = {}
            else:
                parts = {}  # They belong to an anchor that nobody asked for.
        if not batch:
            return


def _proven(mark: Mark, parts: Mapping[str, bytes]) -> Sequence[Head] | None:
    return listed(mark.body.heads, parts.values())


async def compared(
    pool: Pool, mark: Mark, heads: Sequence[Head] | None, kept_from: datetime | None
) -> list[Finding]:
    """What the archive has in an anchor's interval, against what was signed.

    `kept_from`: what ended before this moment may have left the archive; None: nothing ever leaves it.
    """
    again = PostgresHeads(pool, rehash=True)
    now = [head async for head in again.of_runs(mark.body.runs)]
    now += [head async for head in again.of_domain(mark.body.domain)]
    if heads is None or _root(heads) != mark.body.root:
        if _root(now) == mark.body.root:
            return []  # The list is gone, and is not needed: nothing in the interval has changed.
        what = "something in this interval was changed, removed or put in; the list that says what is gone"
        return [Finding(what=what, interval=mark.interval)]
    found = [_difference(then, each, mark) for then, each in _pairs(heads, now) if then != each]
    may_be_gone = kept_from is not None and mark.begins < kept_from
    gone = await _dropped(pool, [each for each, head in found if head is None]) if may_be_gone else set()
    return [finding for finding, _ in found if finding.history not in gone]


def _root(heads: Sequence[Head]) -> str:
    return root_of(leaf(head.subject, head.version, head.hash) for head in heads).hex()


def _pairs(then: Sequence[Head], now: Sequence[Head]) -> list[tuple[Head | None, Head | None]]:
    """Both lists side by side, by history."""
    theirs, ours = {head.subject: head for head in then}, {head.subject: head for head in now}
    return [(theirs.get(each), ours.get(each)) for each in {**theirs, **ours}]


def _difference(then: Head | None, now: Head | None, mark: Mark) -> tuple[Finding, Head | None]:
    head = then or now
    if head is None:
        raise ValueError("a pair of nothing")
    name = history_of(head.subject)
    if then is None:
        what, version = f"version {head.version} was put in where the anchor saw nothing of it", head.version
    elif now is None:
        what, version = f"version {then.version} was anchored and is not in the archive", then.version
    elif then.version != now.version:
        what = f"the anchor saw version {then.version} there, and the archive ends with version {now.version}"
        version = min(then.version, now.version) + 1
    else:
        what, version = f"version {then.version} is not the commit that was anchored", then.version
    return Finding(what=what, history=name, version=version, interval=mark.interval), now


def history_of(subject: str) -> str:
    return subject.partition(".")[2].replace(".", "/")


_DROPPED: Final = """
select r.org, r.run from unnest($1::text[], $2::text[]) as asked(org, run)
join archive.run_ids r on r.org = asked.org and r.run = asked.run where r.dropped is not null
"""


async def _dropped(pool: Pool, missing: Sequence[Finding]) -> set[str]:
    """Those of the missing histories whose time in the archive was over."""
    names = [finding.history.split("/") for finding in missing]
    runs = [name for name in names if len(name) == 2]
    if not runs:
        return set()
    async with connected(pool) as connection:
        rows = await connection.fetch(_DROPPED, [org for org, _ in runs], [run for _, run in runs])
    return {f"{row['org']}/{row['run']}" for row in rows}


async def newest(stores: Stores) -> AnchorBody | None:
    """The newest anchor that can be read, as it says; nobody has checked it here."""
    log = JetStreamLog(stores.log.connection, ANCHORS)
    names = [anchor(epoch) for epoch in range(1, max(stores.log.log.epoch, 1) + 1)]
    stored = (await log.last(names)).values()
    last = max(stored, key=lambda each: each.sequence, default=None)
    if last is None:
        return None
    found = newest_readable([last]) or newest_readable(await stored_anchors(stores))
    return found[1] if found is not None else None


async def late(pool: Pool, last: AnchorBody | None, now: datetime) -> str | None:
    """What to say when something has been without an anchor for longer than it takes to make one."""
    place = (last.runs.epoch, last.runs.through) if last is not None else (0, 0)
    async with connected(pool) as connection:
        begun = await connection.fetchval(_BEGUN, *place)
    if begun is None or begun > now - LATE:
        return None
    which = f"anchor {last.number} ({last.time})" if last is not None else "no anchor at all"
    return f"nothing that came since {begun.isoformat()} is anchored; the newest is {which}"


def fingerprint(public: bytes) -> str:
    """A public key's short name."""
    return hashlib.sha256(public).hexdigest()
