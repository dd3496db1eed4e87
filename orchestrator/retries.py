"""How long to wait before trying a step again, and when to give up."""

import hashlib
from typing import Final

from contracts.errors import Failure
from contracts.limits import RETRY_SECONDS
from contracts.workflows import Retry

_SPREAD: Final = 2**64


def jitter(run: str, step: str, attempt: int) -> float:
    """A number in [0, 1) that looks like chance and is not: the same run, step and attempt always give the same."""
    seed = hashlib.sha256(f"{run}\0{step}\0{attempt}".encode()).digest()
    return int.from_bytes(seed[:8], "big") / _SPREAD


def backoff(retry: Retry, tries: int, shift: float) -> float:
    """Seconds of pause after so many tries: growing by the factor up to the longest, a share of it varied by `shift`."""
    # A float overflows at some power; the longest pause is reached long before.
    grown = retry.first_pause_s * retry.factor ** min(tries - 1, 200)
    pause = min(grown, retry.longest_pause_s)
    # Whole milliseconds: the last bit of a power may differ between machines, and a recorded moment must not.
    return round(pause * (1 - retry.jitter + 2 * retry.jitter * shift), 3)


def pause_before_retry(
    retry: Retry, error: Failure, *, tries: int, shift: float, retry_after_s: float | None
) -> float | None:
    """Seconds until the next attempt; None when there is none.

    What the other side asked for (`Retry-After`) is honoured when it is longer, up to a day.
    """
    if not error.retryable or tries >= retry.attempts:
        return None
    return min(max(backoff(retry, tries, shift), retry_after_s or 0.0), RETRY_SECONDS)
