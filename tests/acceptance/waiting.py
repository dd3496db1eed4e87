"""Waits until something has come true, and says what never did."""

import time
from collections.abc import Callable


def until(reached: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    """At most so long."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, what
        time.sleep(0.05)
