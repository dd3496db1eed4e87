"""Head and body of an answer in one write, on a transport that keeps what it is given."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from chassis.edge.one_piece import OnePiece
from tests.chassis.test_edge_guard import wires


class Kept(asyncio.Transport):
    """What it was asked to do, in this order."""

    def __init__(self) -> None:
        super().__init__()
        self.did: list[tuple[str, bytes]] = []

    def write(self, data: Any) -> None:
        self.did.append(("write", bytes(data)))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.did.append(("write", b"".join(list_of_data)))

    def close(self) -> None:
        self.did.append(("close", b""))

    def abort(self) -> None:
        self.did.append(("abort", b""))


@pytest.fixture
async def kept() -> Kept:
    return Kept()


def over(kept: Kept) -> OnePiece:
    return OnePiece(kept, asyncio.get_running_loop())


async def test_a_head_and_its_body_leave_together(kept: Kept) -> None:
    transport = over(kept)
    transport.write(b"head ")
    transport.write(b"body")
    assert kept.did == [("write", b"head body")]
    await asyncio.sleep(0)
    assert kept.did == [("write", b"head body")]


async def test_what_comes_alone_leaves_when_the_loop_has_its_turn(kept: Kept) -> None:
    transport = over(kept)
    transport.write(b"head")
    assert kept.did == []
    await asyncio.sleep(0)
    assert kept.did == [("write", b"head")]
    transport.write(b"an event")
    await asyncio.sleep(0)
    assert kept.did[1:] == [("write", b"an event")]


async def test_nothing_is_held_back_from_a_long_answer_but_its_last_piece(kept: Kept) -> None:
    transport = over(kept)
    for piece in (b"1", b"2", b"3"):
        transport.write(piece)
    assert kept.did == [("write", b"12")]
    await asyncio.sleep(0)
    assert kept.did == [("write", b"12"), ("write", b"3")]


async def test_who_closes_has_said_everything_before(kept: Kept) -> None:
    transport = over(kept)
    transport.write(b"last words")
    transport.close()
    assert kept.did == [("write", b"last words"), ("close", b"")]
    await asyncio.sleep(0)
    assert len(kept.did) == 2


async def test_who_aborts_says_nothing_more(kept: Kept) -> None:
    transport = over(kept)
    transport.write(b"half of it")
    transport.abort()
    await asyncio.sleep(0)
    assert kept.did == [("abort", b"")]


async def test_an_answer_comes_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    write = OnePiece.write

    def seen(self: OnePiece, data: Any) -> None:
        before = self._held
        write(self, data)
        if before:
            pieces.append(bytes(before) + bytes(data))

    monkeypatch.setattr(OnePiece, "write", seen)
    async with wires() as opened:
        wire = await opened()
        status, _, body = await wire.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (status, len(pieces)) == (200, 1)
    assert pieces[0].startswith(b"HTTP/1.1 200")
    assert pieces[0].endswith(body)
