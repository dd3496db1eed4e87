"""How often something may happen per minute, counted in Redis for all processes together.

Many requests of one key that wait at once are one command: a round is under way at a time and takes what queued up. Of a
large limit it counts some places besides, which then are given away without a question. While Redis is away each process
counts by itself, against its share of the limit.
"""

import asyncio
from collections import defaultdict
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError

from chassis.clock import Clock

WINDOW_SECONDS: Final = 60
IN_HAND: Final = 1_000
"""A process may have a thousandth of a limit in hand, counted and not given away: so much less may happen in a minute."""
_ANSWER_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 1.0


class RateLimit:
    """Fixed windows of one minute. `run` must be running while `allow` is awaited."""

    def __init__(
        self, store: "redis.asyncio.Redis", clock: Clock, *, prefix: str, processes: int = 1
    ) -> None:
        self._store = store
        self._clock = clock
        self._prefix = prefix
        self._processes = processes
        self._waiting: dict[str, list[tuple[int, asyncio.Future[bool]]]] = defaultdict(list)
        self._wake = asyncio.Event()
        self._in_hand: dict[tuple[str, int], int] = {}
        """Places in the window at hand, by key and limit."""
        self._in_hand_window = 0
        self._local: dict[str, int] = {}
        self._local_window = 0
        self._away_until = 0.0
        self.fallbacks = 0
        """Decisions made without Redis."""

    async def allow(self, key: str, per_minute: int) -> bool:
        """Whether one more may happen now."""
        if self._takes_one_in_hand(key, per_minute):
            return True
        if self._clock.seconds() < self._away_until:
            return self._by_ourselves(key, per_minute)
        allowed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[key].append((per_minute, allowed))
        self._wake.set()
        return await allowed

    def seconds_left(self) -> int:
        """Until the window ends: what `Retry-After` says."""
        return WINDOW_SECONDS - int(self._clock.now().timestamp()) % WINDOW_SECONDS

    async def run(self) -> None:
        """Count for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._waiting:
                waiting, self._waiting = self._waiting, defaultdict(list)
                await self._round(waiting)

    async def _round(self, waiting: dict[str, list[tuple[int, asyncio.Future[bool]]]]) -> None:
        window = self._window()
        try:
            # No transaction: what the first command finds or makes outlives the second by far.
            async with asyncio.timeout(_ANSWER_SECONDS), self._store.pipeline(transaction=False) as commands:
                for key, callers in waiting.items():
                    name = f"{self._prefix}:{key}:{window}"
                    commands.set(name, 0, ex=2 * WINDOW_SECONDS, nx=True)
                    commands.incrby(name, len(callers) + _besides(callers))
                counts = (await commands.execute())[1::2]
        except (RedisError, OSError, TimeoutError):
            self._away_until = self._clock.seconds() + _PAUSE_SECONDS
            for key, callers in waiting.items():
                for per_minute, allowed in callers:
                    _tell(allowed, answer=self._by_ourselves(key, per_minute))
            return
        for (key, callers), count in zip(waiting.items(), counts, strict=True):
            last = count - _besides(callers)
            for place, (per_minute, allowed) in enumerate(callers, last - len(callers) + 1):
                _tell(allowed, answer=place <= per_minute)
            self._keep_in_hand(key, callers[0][0], window, last, count)

    def _keep_in_hand(self, key: str, per_minute: int, window: int, last: int, count: int) -> None:
        if window != self._in_hand_window:
            self._in_hand, self._in_hand_window = {}, window
        besides = min(count, per_minute) - last
        if besides > 0:
            self._in_hand[key, per_minute] = self._in_hand.get((key, per_minute), 0) + besides

    def _takes_one_in_hand(self, key: str, per_minute: int) -> bool:
        left = self._in_hand.get((key, per_minute), 0)
        if not left or self._in_hand_window != self._window():
            return False
        self._in_hand[key, per_minute] = left - 1
        return True

    def _window(self) -> int:
        return int(self._clock.now().timestamp()) // WINDOW_SECONDS

    def _by_ourselves(self, key: str, per_minute: int) -> bool:
        self.fallbacks += 1
        window = self._window()
        if window != self._local_window:
            self._local, self._local_window = {}, window
        self._local[key] = self._local.get(key, 0) + 1
        return self._local[key] <= max(1, per_minute // self._processes)


def _besides(callers: list[tuple[int, asyncio.Future[bool]]]) -> int:
    return callers[0][0] // IN_HAND


def _tell(allowed: "asyncio.Future[bool]", *, answer: bool) -> None:
    if not allowed.done():
        allowed.set_result(answer)


def redis_client(url: str) -> "redis.asyncio.Redis":
    """A client whose pool waits for a free connection instead of raising."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=8,
        timeout=1,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
    )
    return redis.asyncio.Redis.from_pool(pool)
