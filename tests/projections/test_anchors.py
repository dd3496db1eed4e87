"""What anchors promise: whoever changes a history that was anchored breaks a root or a signature."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, structs

from chassis.ports import Ambiguous, Away, Proposal, Stored
from chassis.sealing import SigningKey
from chassis.secret import Secret
from projections.anchors import Anchors, Head, Stretch, decode_anchor, decode_body, is_authentic
from projections.figures import Figures
from projections.merkle import EMPTY, Tree, leaf
from tests.projections.histories import NOON

KEY = SigningKey(Secret(b"k" * 32))


class Clock:
    def now(self) -> datetime:
        return NOON

    def seconds(self) -> float:
        return 0.0


class Heads:
    def __init__(self) -> None:
        self.epoch = 1
        self.runs: list[tuple[int, Head]] = []
        self.domain: list[tuple[int, Head]] = []

    async def reach(self) -> tuple[Stretch, Stretch]:
        return self._reach(self.runs), self._reach(self.domain)

    def _reach(self, heads: list[tuple[int, Head]]) -> Stretch:
        return Stretch(epoch=self.epoch, after=0, through=max((at for at, _ in heads), default=0))

    async def of_runs(self, stretch: Stretch) -> AsyncIterator[Head]:
        for at, head in self.runs:
            if stretch.after < at <= stretch.through:
                yield head

    async def of_domain(self, stretch: Stretch) -> AsyncIterator[Head]:
        for at, head in self.domain:
            if stretch.after < at <= stretch.through:
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
        raise NotImplementedError

    async def last(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return {stored.subject: stored for stored in self.stored if stored.subject in subjects}


def head(name: str, version: int = 1) -> Head:
    return Head(f"run.org.{name}", version, hashlib.sha256(name.encode()).digest())


async def test_each_anchor_covers_what_changed_and_names_the_one_before() -> None:
    heads, log = Heads(), AnchorLog()
    anchors = Anchors(heads, log, KEY, Clock(), Figures())
    assert await anchors.anchor() is None
    heads.runs += [(1, head("a")), (2, head("b"))]
    heads.domain.append((1, Head("evt.org.org.o", 1, b"h" * 32)))
    await anchors.anchor()
    assert await anchors.anchor() is None
    heads.runs.append((3, head("c")))
    await anchors.anchor()
    heads.epoch = 2
    await anchors.anchor()
    bodies = [decode_body(decode_anchor(stored.body).body) for stored in log.stored]
    assert [stored.subject for stored in log.stored] == ["anchor.1", "anchor.1", "anchor.2"]
    assert [(body.number, body.leaves) for body in bodies] == [(1, 3), (2, 1), (3, 4)]
    assert (bodies[1].runs.after, bodies[1].runs.through, bodies[1].domain.after) == (2, 3, 1)
    assert bodies[0].prev == ""
    for (before, _), (_, body) in pairwise(zip(log.stored, bodies, strict=True)):
        assert body.prev == hashlib.sha256(before.body).hexdigest()
    tree = Tree()
    tree.add(leaf("run.org.c", 1, head("c").hash))
    assert bodies[1].root == tree.root().hex()


async def test_an_anchor_is_authentic_until_one_byte_of_it_changes() -> None:
    heads, log = Heads(), AnchorLog()
    heads.runs.append((1, head("a")))
    await Anchors(heads, log, KEY, Clock(), Figures()).anchor()
    anchor = decode_anchor(log.stored[0].body)
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
    heads.runs.append((1, head("a")))
    log.raced = True
    with pytest.raises(Ambiguous) as raised:
        await Anchors(heads, log, KEY, Clock(), Figures()).anchor()
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


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_the_root_is_the_one_that_rfc_6962_defines(leaves: list[bytes]) -> None:
    tree = Tree()
    for each in leaves:
        tree.add(each)
    assert tree.root() == _by_definition(leaves)
