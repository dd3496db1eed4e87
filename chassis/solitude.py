"""The inside of a process that is killed when it takes too much: bounds itself, is asked, answers, ends."""

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

SECONDS: Final = 10.0
SPENT: Final = 3
"""How it ends when its memory did; 1 is a mistake in our own code."""
_PAGE: Final = resource.getpagesize()


def serve(answered: Callable[[bytes], bytes], *, memory: int) -> None:
    """Its own bounds hold also when whoever would kill it is gone. `memory`: on top of what it takes anyway."""
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * _PAGE if statm.exists() else memory
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (round(SECONDS), round(SECONDS)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = answered(sys.stdin.buffer.read())
    except MemoryError:
        sys.exit(SPENT)
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
