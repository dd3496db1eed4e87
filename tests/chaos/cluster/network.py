"""Three network namespaces on one bridge, and ways to cut what connects them.

Everything lies in a network and mount namespace of this process, so the machine's own network sees nothing of it, and
when the last process in it ends, killed or not, the kernel removes it. A cut is a neighbour's entry that names a card
that nobody has: the frames leave and reach nobody, as behind a switch that drops them. A bad line is a process of ours
between a node and the bridge.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path
from typing import Final

HUB: Final = "hub"
"""Where the services, Postgres, Redis and the senders are."""
_NETWORK: Final = "10.77.0"
_HUB_HOST: Final = 1
_FIRST_HOST: Final = 11
_NOBODY: Final = "02:00:00:00:de:ad"
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWNET: Final = 0x40000000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_NAMES: Final = Path("/run/netns")
_SECONDS: Final = 10.0
_ROOT: Final = Path(__file__).parents[3]


class NotPermitted(Exception):
    """This machine, or this user, cannot make network namespaces; the message says why in one line."""


def enter_own_namespaces() -> None:
    """This process leaves the machine's network for one of its own. Before it starts any thread."""
    if shutil.which("ip") is None:
        raise NotPermitted("`ip` is missing: install the package iproute2.")
    if os.geteuid() != 0:
        raise NotPermitted("Network namespaces need root.")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS):
        raise NotPermitted(f"Network namespaces are not permitted here: {os.strerror(ctypes.get_errno())}.")
    _NAMES.mkdir(exist_ok=True)
    for what in (("none", "/", None, _MS_REC_PRIVATE), ("tmpfs", str(_NAMES), "tmpfs", 0)):
        source, target, kind, flags = what
        if libc.mount(source.encode(), target.encode(), kind and kind.encode(), flags, None):
            raise NotPermitted(f"{target} cannot be mounted: {os.strerror(ctypes.get_errno())}.")
    try:
        _ip("link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        raise NotPermitted(f"This network namespace cannot be used: {error.stderr.strip()}.") from error


class Network:
    """The hub and its nodes. `open` after `enter_own_namespaces`, `close` in a finally."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.nodes = tuple(nodes)
        self._bridge = f"aos{os.getpid()}"
        self._addresses = {HUB: f"{_NETWORK}.{_HUB_HOST}"} | {
            node: f"{_NETWORK}.{_FIRST_HOST + place}" for place, node in enumerate(self.nodes)
        }
        self._cut: set[tuple[str, str]] = set()
        self._unplugged: set[str] = set()
        self._lossy: dict[str, subprocess.Popen[bytes]] = {}

    def address(self, node: str) -> str:
        return self._addresses[node]

    def within(self, node: str) -> tuple[str, ...]:
        """What to put before a command line so that it runs in this node."""
        return ("ip", "netns", "exec", self._name(node))

    def open(self) -> None:
        try:
            _ip("link", "add", self._bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0")
            _ip("address", "add", f"{self.address(HUB)}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for node in self.nodes:
                self._add(node)
        except subprocess.CalledProcessError as error:
            raise NotPermitted(f"`{' '.join(error.cmd)}` fails: {error.stderr.strip()}.") from error

    def close(self) -> None:
        """Remove all of it; what is not there any more is no error."""
        for wire in self._lossy.values():
            wire.kill()
            wire.communicate()
        for node in self.nodes:
            _ip("netns", "delete", self._name(node), must=False)
        _ip("link", "delete", self._bridge, must=False)

    def _add(self, node: str) -> None:
        name, port = self._name(node), self._port(node)
        _ip("netns", "add", name)
        _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", port, "master", self._bridge, "up")
        _ip("-n", name, "address", "add", f"{self.address(node)}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")

    # --- Faults -------------------------------------------------------------------------------

    def cut(self, one: str, other: str) -> None:
        """Nothing comes through between these two, in either direction."""
        self.cut_way(one, other)
        self.cut_way(other, one)

    def cut_way(self, source: str, target: str) -> None:
        """What `source` sends does not reach `target`."""
        self._neighbour(source, "replace", self.address(target), "lladdr", _NOBODY, "nud", "permanent")
        self._cut.add((source, target))

    def isolate(self, node: str, *, hub: bool) -> None:
        """Cut a node off from every other one, and from the hub if so wanted."""
        for other in (*self.nodes, *((HUB,) if hub else ())):
            if other != node:
                self.cut(node, other)

    def unplug(self, node: str) -> None:
        """Pull the cable: the node has no carrier."""
        _ip("link", "set", self._port(node), "down")
        self._unplugged.add(node)

    def lose(self, node: str, share: float, seed: str) -> None:
        """Of what this node sends and is sent, such a share of the frames is lost."""
        port, inner, outer = self._port(node), f"{self._port(node)}i", f"{self._port(node)}o"
        _ip("link", "add", inner, "type", "veth", "peer", "name", outer)
        for card in (inner, outer):
            _ip("link", "set", card, "up")
        _ip("link", "set", port, "nomaster")
        _ip("link", "set", outer, "master", self._bridge)
        command = [sys.executable, "-m", "tests.chaos.cluster.lossy_wire", port, inner, str(share), seed]
        wire = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT)
        self._lossy[node] = wire
        assert wire.stdout is not None
        if not wire.stdout.readline():
            raise RuntimeError(f"the lossy wire of {node} ended with code {wire.wait()}")

    def _mend(self, node: str) -> None:
        wire = self._lossy.pop(node)
        wire.kill()
        wire.communicate()
        _ip("link", "delete", f"{self._port(node)}i")
        _ip("link", "set", self._port(node), "master", self._bridge)

    def heal(self) -> None:
        """Everything reaches everything again."""
        for node in tuple(self._lossy):
            self._mend(node)
        for node in self._unplugged:
            _ip("link", "set", self._port(node), "up")
        for source, target in self._cut:
            self._neighbour(source, "delete", self.address(target))
        self._cut.clear()
        self._unplugged.clear()

    def cut_ways(self) -> set[tuple[str, str]]:
        """Who does not reach whom at this moment, by what was cut and what was unplugged."""
        ends = (HUB, *self.nodes)
        return {way for way in permutations(ends, 2) if way in self._cut or self._unplugged & set(way)}

    def _neighbour(self, node: str, *what: str) -> None:
        where, card = ((), self._bridge) if node == HUB else (("-n", self._name(node)), "eth0")
        _ip(*where, "neighbour", *what[:2], "dev", card, *what[2:])

    def _name(self, node: str) -> str:
        return f"{self._bridge}-{node}"

    def _port(self, node: str) -> str:
        return f"{self._bridge}{node}"  # 15 characters at the most: a pid has seven, a node's name one or two, an end of a wire one.


def _ip(*arguments: str, must: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=must, capture_output=True, text=True, timeout=_SECONDS)
