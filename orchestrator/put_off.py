"""Says what had to be put off and why: thousands of runs may wait for one server that is away, and one line tells it."""

from collections import Counter
from typing import Final

import structlog

from chassis.clock import Clock

log = structlog.get_logger()

_EVERY_SECONDS: Final = 1.0
_MOST_REASONS: Final = 100


class PutOff:
    """Tells the first of each kind and reason at once, and then one of them every second, with how many others there were."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}
        self._others: Counter[tuple[str, str]] = Counter()

    def tell(self, event: str, run: str, reason: Exception) -> None:
        kind, now = (event, str(reason)), self._clock.seconds()
        if now - self._told.get(kind, float("-inf")) < _EVERY_SECONDS:
            self._others[kind] += 1
            return
        if len(self._told) >= _MOST_REASONS:
            self._told.clear()
            self._others.clear()
        self._told[kind] = now
        log.warning(event, run=run, reason=kind[1], others=self._others.pop(kind, 0))
