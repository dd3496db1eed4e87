"""Three nats-servers that keep every stream in three copies; each can be killed, wiped and started again."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from chassis.testing.ports import free_port
from deploy import process
from deploy.process import Command
from deploy.servers.nats import ClusterNode, NatsOptions, configuration, nats_binary

REPLICAS: Final = 3
OPTIONS: Final = NatsOptions(max_file_store="20GB")
"""What streams with a bound reserve together; nothing is written for it."""
_STOP_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1
_ANSWER_SECONDS: Final = 2.0


class Place(Struct, frozen=True, kw_only=True):
    """Where a node listens, each a host with its port, and what its command line begins with."""

    client: str
    monitor: str
    route: str
    within: tuple[str, ...] = ()


class Node:
    """One nats-server. Its store outlives `kill` and `stop`, not `wipe`."""

    def __init__(self, name: str, place: Place, folder: Path, text: str) -> None:
        self.name = name
        self.url = f"nats://{place.client}"
        self.log = folder / "nats.log"
        self._monitor = f"http://{place.monitor}"
        self._within = place.within
        self._store = folder / "store"
        self._configuration = folder / "nats.conf"
        self._configuration.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        if self._process is None:
            argv = (*self._within, str(nats_binary()), "-c", str(self._configuration))
            env = {**os.environ, "GOMAXPROCS": "1"}
            self._process = process.spawn(Command(argv=argv, env=env, log=self.log))

    async def kill(self) -> None:
        """As a crash would end it."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def wipe(self) -> None:
        """Killed, and its disk replaced by an empty one."""
        await self.kill()
        shutil.rmtree(self._store)

    async def look(self, path: str) -> Any:
        """What its monitor says; None when it does not answer, or answers that something is wrong."""
        try:
            return msgspec.json.decode(await asyncio.to_thread(_get, self._monitor + path))
        except (OSError, msgspec.DecodeError):
            return None

    async def _end(self, number: int) -> None:
        running, self._process = self._process, None
        if running is None:
            return
        process.tell(running, number)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.ended(running)
        except TimeoutError:
            process.tell(running, signal.SIGKILL)
            await process.ended(running)


class Cluster:
    """All nodes. `start`, then `close` in a finally."""

    def __init__(self, folder: Path, places: Mapping[str, Place], options: NatsOptions = OPTIONS) -> None:
        self.folder = folder
        password = secrets.token_hex(16)
        self.nodes = {name: _node(name, places, folder / name, options, password) for name in places}

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes.values())

    async def start(self, within: float = 60.0) -> None:
        for node in self.nodes.values():
            node.start()
        async with asyncio.timeout(within):
            while not await self.healthy():
                await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        async with asyncio.TaskGroup() as group:
            for node in self.nodes.values():
                group.create_task(node.stop())

    async def healthy(self) -> bool:
        """Every node runs, and every copy that it has is as far as its leader."""
        said = [await node.look("/healthz") for node in self.nodes.values()]
        return all(each is not None and each.get("status") == "ok" for each in said)

    async def leader_of(self, stream: str) -> str:
        """The node that leads a stream, as those say that can be asked; empty when none does now."""
        for node in self.nodes.values():
            told = await node.look("/jsz?streams=true") if node.running else None
            for account in (told or {}).get("account_details") or ():
                for each in account.get("stream_detail") or ():
                    if each["name"] == stream and (each.get("cluster") or {}).get("leader"):
                        return str(each["cluster"]["leader"])
        return ""


def on_loopback(names: tuple[str, ...] = ("a", "b", "c")) -> dict[str, Place]:
    """Places on this machine, at ports that are nobody else's."""
    return {name: Place(client=_host(), monitor=_host(), route=_host()) for name in names}


def _host() -> str:
    return f"127.0.0.1:{free_port()}"


def _node(name: str, places: Mapping[str, Place], folder: Path, options: NatsOptions, password: str) -> Node:
    folder.mkdir(parents=True)
    place = places[name]
    peers = tuple(other.route for each, other in places.items() if each != name)
    text = configuration(
        client=place.client,
        monitor=place.monitor,
        store=folder / "store",
        options=options,
        node=ClusterNode(name=name, listen=place.route, peers=peers, password=password),
    )
    return Node(name, place, folder, text)


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()
