"""Memory that was given back by Python goes back to the machine, so that a burst does not mark a service for ever.

glibc learns from the first large buffer to keep all later ones in its heap, where one small survivor keeps what lies before
it. Elsewhere (musl, macOS) there is nothing to do.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Final

TRIM_SECONDS: Final = 30.0
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 128 * 1024


def frugal() -> Callable[[], None]:
    """Keep large buffers apart from now on. Calling the result gives back what is free; it takes milliseconds."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        return _nothing
    libc.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
    libc.mallopt(_TRIM_THRESHOLD, _LARGE_BYTES)
    return lambda: libc.malloc_trim(0)


def _nothing() -> None:
    """Whatever malloc this is, it does as it likes."""
