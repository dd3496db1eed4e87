"""What may still be written while the log's disk fills up."""

import asyncio
from typing import Any

import pytest

from chassis.disk import Disk, WhileRoom
from chassis.ports import Full
from chassis.testing.stores import MemoryBlobs
from chassis.testing.world import World
from executor.outputs import keep, pack


class Account:
    """An account with a quota of a thousand bytes."""

    def __init__(self) -> None:
        self.used = 0
        self.asked = 0

    async def api(self, _subject: str) -> dict[str, Any]:
        self.asked += 1
        return {"storage": self.used, "limits": {"max_storage": 1_000}}


async def test_what_was_sent_since_the_last_look_counts_until_the_next() -> None:
    account, sent = Account(), 0
    disk = Disk(account, sent=lambda: sent)
    account.used = 700
    await disk.look()
    assert not disk.state.stops_uploads
    sent = 20
    assert disk.state.stops_uploads
    assert not disk.state.stops_starts
    sent = 60
    assert disk.state.stops_starts
    account.used = 710
    await disk.look()
    assert not disk.state.stops_uploads, "the server has counted it by now"


async def test_without_a_quota_nothing_is_counted() -> None:
    disk = Disk(Account(), sent=lambda: 10**9)
    assert disk.state.used_share == 0.0


def test_where_it_gets_narrow_it_is_looked_at_ten_times_as_often() -> None:
    world, account = World(1), Account()
    disk = Disk(account)

    async def story() -> None:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(disk.run())
            await asyncio.sleep(10)
            seldom, account.used, account.asked = account.asked, 650, 0
            await asyncio.sleep(12)
            assert seldom <= 6
            assert account.asked >= 45
            running.cancel()

    told = world.loop.spawn("story", story())
    world.loop.run_until(told.done, steps=100_000, seconds=60)
    told.result()
    world.loop.close()


def test_an_output_waits_for_room_and_is_not_lost() -> None:
    world = World(1)
    blobs = MemoryBlobs(world)
    narrow = True

    async def story() -> None:
        nonlocal narrow
        room = WhileRoom(blobs, lambda: narrow)
        with pytest.raises(Full):
            await room.put(b"x")
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(keep(pack("x" * 100_000), room))
            await asyncio.sleep(60)
            assert not keeping.done()
            narrow = False
        payload: Any = keeping.result()
        assert await room.get(payload) == b'"' + b"x" * 100_000 + b'"'

    told = world.loop.spawn("story", story())
    world.loop.run_until(told.done, steps=100_000, seconds=600)
    told.result()
    world.loop.close()
