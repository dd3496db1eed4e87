"""Limits a minute that several processes count together, in a real Redis; and by themselves when it is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis.asyncio

from chassis.rate_limit import IN_HAND, WINDOW_SECONDS, RateLimit, redis_client
from tests.executor.test_redis_command import redis_server


class Wall:
    """A clock that stands until it is put forward."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 23, 12, 0, 7, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()

    def passes(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with redis_server() as path:
        yield f"unix://{path}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis_client(url) as client:
        await client.flushall()
        yield client


@asynccontextmanager
async def counting(
    store: redis.asyncio.Redis, wall: Wall, processes: int = 2
) -> AsyncIterator[list[RateLimit]]:
    limits = [RateLimit(store, wall, prefix="t", processes=processes) for _ in range(processes)]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(limit.run()) for limit in limits]
        yield limits
        for task in running:
            task.cancel()


async def allowed(limits: list[RateLimit], times: int, per_minute: int, crowd: int = 25) -> int:
    """How many of so many requests were let in, some at once, one process after the other."""
    let_in = 0
    for number in range(0, times, crowd):
        asked = (
            limits[place % len(limits)].allow("key", per_minute) for place in range(number, number + crowd)
        )
        let_in += sum(await asyncio.gather(*asked))
    return let_in


async def commands(store: redis.asyncio.Redis) -> int:
    stats = await store.info("commandstats")
    return int(stats["cmdstat_incrby"]["calls"])


async def test_a_small_limit_is_kept_to_the_last_place(store: redis.asyncio.Redis) -> None:
    async with counting(store, Wall()) as limits:
        assert await allowed(limits, 700, per_minute=599) == 599
        assert await allowed(limits, 50, per_minute=599) == 0


async def test_of_a_large_limit_nobody_gets_more_and_few_places_are_lost(store: redis.asyncio.Redis) -> None:
    async with counting(store, Wall()) as limits:
        let_in = await allowed(limits, 5_200, per_minute=5_000)
    assert 5_000 - len(limits) * (5_000 // IN_HAND) <= let_in <= 5_000


async def test_places_in_hand_ask_nobody(store: redis.asyncio.Redis) -> None:
    async with counting(store, Wall(), processes=1) as limits:
        assert await allowed(limits, 1, per_minute=50_000, crowd=1) == 1
        before = await commands(store)
        assert await allowed(limits, 510, per_minute=50_000, crowd=1) == 510
        assert await commands(store) - before == 10  # 50 in hand each time, and the one who asked.


async def test_what_was_in_hand_ends_with_its_minute(store: redis.asyncio.Redis) -> None:
    wall = Wall()
    async with counting(store, wall) as limits:
        assert await allowed(limits, 100, per_minute=20_000) == 100
        wall.passes(WINDOW_SECONDS)
        assert await allowed(limits, 20_500, per_minute=20_000, crowd=100) <= 20_000


async def test_another_limit_counts_from_what_happened(store: redis.asyncio.Redis) -> None:
    async with counting(store, Wall(), processes=1) as limits:
        assert await allowed(limits, 10, per_minute=10_000, crowd=1) == 10
        assert (
            await allowed(limits, 30, per_minute=15, crowd=1) == 15 - 11
        )  # One of ten thousand's tens is in hand.


async def test_no_key_stays_for_ever(store: redis.asyncio.Redis) -> None:
    async with counting(store, Wall()) as limits:
        await allowed(limits, 30, per_minute=600)
    assert [0 < await store.ttl(key) <= 2 * WINDOW_SECONDS async for key in store.scan_iter()] == [True]


async def test_without_redis_each_keeps_to_its_share(tmp_path: Path) -> None:
    async with redis_client(f"unix://{tmp_path}/nobody.sock") as nowhere, counting(nowhere, Wall()) as limits:
        assert await allowed(limits, 100, per_minute=30) == 30
        assert sum(limit.fallbacks for limit in limits) == 100
