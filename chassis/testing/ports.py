"""Ports for the servers of tests: free when they are given, and nobody else's while this process lives.

A port that is found free and let go again may be lost before its server binds it: to another test process, or to any
connection that goes out meanwhile. So these come from below the ports that a system gives to outgoing connections by
itself, and each stays locked, in a file that all test processes of this user share, until the process that got it ends.
"""

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from pathlib import Path
from typing import Final

FIRST: Final = 20_000
END: Final = 32_000
"""Linux gives the ports from 32768 to outgoing connections, others those from 49152."""
_COUNT: Final = END - FIRST
_APART: Final = 97


class Ports:
    """The ports that one process has. It holds their locks until it ends: there is nothing to give back."""

    def __init__(self, file: Path, begin: int) -> None:
        # One descriptor for ever: closing any descriptor of this file would give back every lock of the process.
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        self._numbers = itertools.count(begin)

    def free(self) -> int:
        """Another port at each call, until there are no more; then those again that nobody listens on."""
        for number in itertools.islice(self._numbers, _COUNT):
            port = FIRST + number % _COUNT
            if self._is_ours(port) and _is_unbound(port):
                return port
        raise RuntimeError(f"every port from {FIRST} to {END - 1} is taken")

    def _is_ours(self, port: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except (BlockingIOError, PermissionError):
            return False
        return True


def _is_unbound(port: int) -> bool:
    """On no address of this machine."""
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


@functools.cache
def _of_this_process() -> Ports:
    file = Path(tempfile.gettempdir()) / f"automateos-test-ports-{os.getuid()}"
    return Ports(file, begin=os.getpid() * _APART)


def free_port() -> int:
    """A port of 127.0.0.1 that is this process' own."""
    return _of_this_process().free()
