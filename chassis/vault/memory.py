"""What the vault remembers between calls: sealed rows, so many and so long."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from chassis.clock import Clock

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """The newest values, bounded in number. Fresh ones spare a query; stale ones serve while Postgres is away."""

    def __init__(self, clock: Clock, most: int, fresh_s: float, stale_s: float) -> None:
        self._clock, self._most, self._fresh_s, self._stale_s = clock, most, fresh_s, stale_s
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self.loading: set[K] = set()

    def fresh(self, key: K) -> V | None:
        return self._younger(key, self._fresh_s)

    def stale(self, key: K) -> V | None:
        return self._younger(key, self._stale_s)

    def _younger(self, key: K, seconds: float) -> V | None:
        entry = self._entries.get(key)
        return entry[1] if entry is not None and self._clock.seconds() - entry[0] < seconds else None

    def keep(self, key: K, value: V) -> None:
        self._entries[key] = self._clock.seconds(), value
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        self._entries.pop(key, None)

    def forget_all(self, unwanted: Callable[[V], bool]) -> None:
        for key in [key for key, (_, value) in self._entries.items() if unwanted(value)]:
            del self._entries[key]
