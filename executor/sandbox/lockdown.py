"""What the process of a sandbox gives up before it runs anybody's code, in case the engine has a hole.

Rule that holds here: whatever is given up cannot be had back, and a kernel that lacks a means leaves the others standing.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Final

from contracts.limits import CODE_MEMORY_MIB, MIB

_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_NO_NEW_PRIVILEGES: Final = 38
_DIE_WITH_PARENT: Final = 1
# By the version of landlock: what it can forbid in the file system, on the network, and beyond the process' own domain.
_FILES: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_SINCE, _NETWORK = 4, 0b11
_SCOPES_SINCE, _SCOPES = 6, 0b11
_OWN_MEMORY: Final = 512 * MIB
"""What the engine and its compiled code take beside the guest."""
_PATIENT: Final = 1_000
"""The first process that the kernel ends when memory runs out."""


def lock_down() -> int:
    """Give everything up; returns the version of landlock that stands guard, 0 where the kernel has none."""
    version = _landlock()
    most = CODE_MEMORY_MIB * MIB + _OWN_MEMORY
    for name, bound in (("DATA", most), ("CORE", 0), ("FSIZE", 0), ("NOFILE", 0), ("MEMLOCK", 0)):
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is not None:
            resource.setrlimit(number, (bound, bound))
    return version


def yield_to_others() -> None:
    """Less processor than the executor when both want it, the first to go when memory ends, and no life after it."""
    os.nice(5)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    score = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text(str(_PATIENT))


def _landlock() -> int:
    """No file, no TCP, no signal to others, no abstract socket. An empty set of rules allows nothing."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = int(libc.syscall(_CREATE_RULESET, None, 0, _VERSION))
    if version < 1:
        return 0
    handled = struct.pack(
        "QQQ",
        (1 << _FILES[min(version, max(_FILES))]) - 1,
        _NETWORK if version >= _NETWORK_SINCE else 0,
        _SCOPES if version >= _SCOPES_SINCE else 0,
    )
    size = 24 if version >= _SCOPES_SINCE else 16 if version >= _NETWORK_SINCE else 8
    rules = int(libc.syscall(_CREATE_RULESET, ctypes.create_string_buffer(handled, 24), size, 0))
    if rules < 0 or libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(_RESTRICT_SELF, rules, 0):
        raise OSError(ctypes.get_errno(), "landlock")
    os.close(rules)
    return version
