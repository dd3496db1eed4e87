"""What anchors promise: whoever changes a history that was anchored breaks a root or a signature."""

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs

from chassis.ports import Ambiguous, Away, Proposal, Stored
from chassis.sealing import SigningKey
from chassis.secret import Secret
from chassis.testing.clock import HandClock
from contracts.codec import Malformed
from contracts.subjects import RUNS
from contracts.subjects import anchor as anchor_subject
from projections.anchors import (
    ANCHOR_SECONDS,
    START_SECONDS,
    Anchors,
    Stretch,
    decode_anchor,
    decode_body,
    is_authentic,
)
from projections.figures import Figures
from projections.head_lists import HEADS_PER_PART, Head, heads_in, listed
from projections.head_lists import SUBJECT as LIST
from projections.merkle import EMPTY, Tree, leaf, path, root_by, root_of
from tests.projections.histories import NOON

KEY = SigningKey(Secret(b"k" * 32))


class Heads:
    def __init__(self) -> None:
        self.epoch = 1
        self.runs: list[tuple[tuple[int, int], Head]] = []
        self.domain: list[tuple[tuple[int, int], Head]] = []

    async def reached(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return self._end(self.runs, self.epoch), self._end(self.domain, self.epoch)

    async def next_epoch(self, stream: str, beyond: tuple[int, int], before: int) -> tuple[int, int] | None:
        heads = self.runs if stream == RUNS else self.domain
        found = [at[0] for at, _ in heads if at > beyond and at[0] < before]
        return self._end(heads, min(found)) if found else None

    def _end(self, heads: list[tuple[tuple[int, int], Head]], epoch: int) -> tuple[int, int]:
        return max((at for at, _ in heads if at[0] == epoch), default=(epoch, 0))

    async def of_runs(self, stretch: Stretch) -> AsyncIterator[Head]:
        for at, head in self.runs:
            if (stretch.epoch, stretch.after) < at <= (stretch.epoch, stretch.through):
                yield head

    async def of_domain(self, stretch: Stretch) -> AsyncIterator[Head]:
        for at, head in self.domain:
            if (stretch.epoch, stretch.after) < at <= (stretch.epoch, stretch.through):
                yield head


class AnchorLog:
    def __init__(self) -> None:
        self.epoch = 1
        self.stored: list[Stored] = []
        self.raced = False

    async def append(self, proposals: Sequence[Proposal]) -> list[int | None]:
        [proposal] = proposals
        before = (await self.last([proposal.subject])).get(proposal.subject)
        if self.raced or proposal.expected != (before.sequence if before else 0):
            return [None]
        self.stored.append(
            Stored(subject=proposal.subject, sequence=len(self.stored) + 1, body=proposal.body)
        )
        return [len(self.stored)]

    async def history(self, subject: str, after: int = 0) -> list[Stored]:
        return [stored for stored in self.stored if stored.subject == subject and stored.sequence > after]

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return {stored.subject: stored for stored in self.stored if stored.subject in subjects}


def head(name: str, version: int = 1) -> Head:
    return Head(f"run.org.{name}", version, hashlib.sha256(name.encode()).digest())


def anchors_in(log: AnchorLog) -> list[Stored]:
    return [stored for stored in log.stored if stored.subject != LIST]


async def test_each_anchor_covers_what_changed_and_names_the_one_before() -> None:
    heads, log = Heads(), AnchorLog()
    anchors = Anchors(heads, log, KEY, HandClock(NOON), Figures())
    assert await anchors.anchor() is None
    heads.runs += [((1, 1), head("a")), ((1, 2), head("b"))]
    heads.domain.append(((1, 1), Head("evt.org.org.o", 1, b"h" * 32)))
    await anchors.anchor()
    assert await anchors.anchor() is None
    heads.runs.append(((1, 3), head("c")))
    await anchors.anchor()
    stored = anchors_in(log)
    bodies = [decode_body(decode_anchor(each.body).body) for each in stored]
    assert [each.subject for each in stored] == ["anchor.1", "anchor.1"]
    assert [(body.number, body.leaves) for body in bodies] == [(1, 3), (2, 1)]
    assert (bodies[1].runs.after, bodies[1].runs.through, bodies[1].domain.after) == (2, 3, 1)
    assert bodies[0].prev == ""
    for (before, _), (_, body) in pairwise(zip(stored, bodies, strict=True)):
        assert body.prev == hashlib.sha256(before.body).hexdigest()
    assert bodies[1].root == root_of([leaf("run.org.c", 1, head("c").hash)]).hex()


async def test_a_restored_log_leaves_nothing_of_its_older_epochs_without_an_anchor() -> None:
    heads, log = Heads(), AnchorLog()
    anchors = Anchors(heads, log, KEY, HandClock(NOON), Figures())
    heads.runs.append(((1, 5), head("a")))
    await anchors.anchor()
    heads.runs += [((1, 7), head("late")), ((2, 3), head("between")), ((4, 1), head("now"))]
    heads.epoch = 4
    await anchors.anchor()
    bodies = [decode_body(decode_anchor(each.body).body) for each in anchors_in(log)]
    covered = [(body.runs.epoch, body.runs.after, body.runs.through, body.leaves) for body in bodies]
    assert covered == [(1, 0, 5, 1), (1, 5, 7, 1), (2, 0, 3, 1), (4, 0, 1, 1)]
    assert [each.subject for each in anchors_in(log)] == ["anchor.1", "anchor.4", "anchor.4", "anchor.4"]
    assert await anchors.anchor() is None


async def test_the_heads_of_an_anchor_are_written_out_in_parts_that_it_names() -> None:
    heads, log = Heads(), AnchorLog()
    heads.runs = [((1, number), head(f"r{number:05}")) for number in range(1, 2 * HEADS_PER_PART + 2)]
    await Anchors(heads, log, KEY, HandClock(NOON), Figures()).anchor()
    [anchor] = anchors_in(log)
    body = decode_body(decode_anchor(anchor.body).body)
    parts = [stored.body for stored in log.stored if stored.subject == LIST]
    found = listed(body.heads, reversed(parts))
    assert found is not None
    assert len(parts) == len(body.heads) == 3
    assert found == [each for _, each in heads.runs]
    assert body.root == root_of(leaf(each.subject, each.version, each.hash) for each in found).hex()
    assert listed(body.heads, parts[1:]) is None
    assert listed(body.heads, [parts[0][:-1], *parts[1:]]) is None


@pytest.mark.parametrize(
    "body", [b"", b"x", zlib.compress(b"x"), zlib.compress(b"[]")[:-1], zlib.compress(bytes(50_000_000))]
)
def test_a_part_that_is_none_is_refused_whatever_it_unpacks_to(body: bytes) -> None:
    with pytest.raises(Malformed):
        heads_in(body)


async def test_the_first_anchor_comes_soon_and_then_one_at_each_turn() -> None:
    heads, log = Heads(), AnchorLog()
    anchors = Anchors(heads, log, KEY, HandClock(NOON), Figures(), seconds=0.02, start_seconds=0.01)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(anchors.run())
        for number in range(1, 4):
            heads.runs.append(((1, number), head(f"r{number}")))
            async with asyncio.timeout(60):
                while len(anchors_in(log)) < number:
                    await asyncio.sleep(0.005)
        running.cancel()
    assert START_SECONDS < 60 < ANCHOR_SECONDS == 600


@pytest.mark.parametrize("before", [0, 2])
async def test_what_cannot_be_read_as_an_anchor_stops_nobody_from_anchoring(before: int) -> None:
    heads, log = Heads(), AnchorLog()
    anchors = Anchors(heads, log, KEY, HandClock(NOON), Figures())
    for number in range(1, before + 1):
        heads.runs.append(((1, number), head(f"r{number}")))
        await anchors.anchor()
    known = anchors_in(log)
    log.stored.append(Stored(subject=anchor_subject(1), sequence=len(log.stored) + 1, body=b"\x00 poison"))
    heads.runs.append(((1, before + 1), head("after")))
    await anchors.anchor()
    body = decode_body(decode_anchor(log.stored[-1].body).body)
    assert (body.number, body.runs.after, body.runs.through) == (before + 1, before, before + 1)
    assert body.prev == (hashlib.sha256(known[-1].body).hexdigest() if known else "")


async def test_an_anchor_is_authentic_until_one_byte_of_it_changes() -> None:
    heads, log = Heads(), AnchorLog()
    heads.runs.append(((1, 1), head("a")))
    await Anchors(heads, log, KEY, HandClock(NOON), Figures()).anchor()
    anchor = decode_anchor(anchors_in(log)[0].body)
    assert is_authentic(anchor, KEY.public)
    assert not is_authentic(anchor, SigningKey(Secret(b"x" * 32)).public)
    body = bytes(anchor.body)
    for place in range(0, len(body), 7):
        forged = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        assert not is_authentic(structs.replace(anchor, body=Raw(forged)), KEY.public)
    assert not is_authentic(structs.replace(anchor, signature="not base64!"), KEY.public)
    assert msgspec.json.decode(body)["key"] == KEY.public.hex()


async def test_two_that_anchor_at_once_do_not_fork_the_chain() -> None:
    heads, log = Heads(), AnchorLog()
    heads.runs.append(((1, 1), head("a")))
    log.raced = True
    with pytest.raises(Ambiguous) as raised:
        await Anchors(heads, log, KEY, HandClock(NOON), Figures()).anchor()
    assert isinstance(raised.value, Away)
    assert log.stored == []


def _by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word."""
    if not leaves:
        return EMPTY
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = _by_definition(leaves[:split]), _by_definition(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70), st.data())
def test_every_leaf_leads_to_the_root_by_its_path_and_by_no_other(
    leaves: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    beside, root = path(leaves, index), root_of(leaves)
    assert root_by(leaves[index], index, len(leaves), beside) == root
    assert root_by(b"x" * 32, index, len(leaves), beside) != root
    assert root_by(leaves[index], index, len(leaves), [*beside, root]) != root
    assert root_by(leaves[index], len(leaves), len(leaves), beside) is None
    if beside:
        assert root_by(leaves[index], index, len(leaves), beside[1:]) != root
        place = data.draw(st.integers(0, len(beside) - 1))
        assert (
            root_by(leaves[index], index, len(leaves), [*beside[:place], bytes(32), *beside[place + 1 :]])
            != root
        )


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_the_root_is_the_one_that_rfc_6962_defines(leaves: list[bytes]) -> None:
    tree = Tree()
    for each in leaves:
        tree.add(each)
    assert tree.root() == _by_definition(leaves)
