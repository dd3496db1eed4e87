"""Memory that was given back by Python goes back to the machine, so that a burst does not mark a service for ever.

glibc gives back the end of its heap by itself, but not what is free before a survivor. Elsewhere (musl, macOS) there is
nothing to do.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Final

TRIM_SECONDS: Final = 30.0


def frugal() -> Callable[[], None]:
    """What gives back all that is free, when it is called; it takes milliseconds.

    When glibc maps a buffer apart is left to itself: a threshold set once costs its learning, and a page fault for most of
    the large buffers of a busy service.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        return _nothing
    return lambda: libc.malloc_trim(0)


def _nothing() -> None:
    """Whatever malloc this is, it does as it likes."""
