"""Waits until something has come true, and says what never did."""

import time
from collections.abc import Callable


def until(reached: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    """At most so long. Who waits long looks less often: a key may ask ten times a second."""
    began = time.monotonic()
    while not _is_so(reached):
        lasted = time.monotonic() - began
        assert lasted < seconds, what
        time.sleep(0.05 if lasted < 5 else 0.3)


def _is_so(reached: Callable[[], bool]) -> bool:
    """What was accepted may be nowhere yet: whoever asks comes again."""
    try:
        return reached()
    except RuntimeError as refused:
        if ": 404 " not in str(refused):
            raise
        return False
