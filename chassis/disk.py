"""How full the log's disk is: uploads stop first, then starts, so that what was accepted can end."""

import asyncio
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Struct

from chassis.ports import Away
from contracts.limits import DISK_STOPS_STARTS, DISK_STOPS_UPLOADS

_LOOK_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 2.0
_ANSWER_BYTES: Final = 1_000_000

log = structlog.get_logger()


class Api(Protocol):
    """Asks JetStream's API."""

    async def api(self, subject: str) -> dict[str, object]: ...


class DiskState(Struct, frozen=True, kw_only=True):
    """What may still be written."""

    used_share: float = 0.0
    """Of the quota; 0 when there is none."""

    @property
    def stops_uploads(self) -> bool:
        return self.used_share >= DISK_STOPS_UPLOADS

    @property
    def stops_starts(self) -> bool:
        return self.used_share >= DISK_STOPS_STARTS


class Disk:
    """Looks every two seconds while `run` runs. While nobody answers the last state stands."""

    def __init__(self, api: Api, monitor_url: str = "") -> None:
        """The account's own quota is asked of `api`, the server's of its monitor, when it has one."""
        self._api = api
        self._monitor_url = monitor_url
        self.state = DiskState()

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> DiskState:
        try:
            usages = await self._usages()
        except (Away, OSError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            log.warning("disk.unknown", reason=str(error))
            return self.state
        state = DiskState(used_share=max(usage.share for usage in usages))
        if (state.stops_uploads, state.stops_starts) != (self.state.stops_uploads, self.state.stops_starts):
            log.warning("disk.state", used_share=round(state.used_share, 3), stops_starts=state.stops_starts)
        self.state = state
        return state

    async def quota(self) -> int:
        """The bytes that the log may use; 0 when nobody says. Raises `Away`, or what the monitor's address raises."""
        return min((usage.quota for usage in await self._usages() if usage.quota), default=0)

    async def _usages(self) -> "list[_Usage]":
        usages = [_account_usage(await self._api.api("INFO"))]
        if self._monitor_url:
            async with asyncio.timeout(_ANSWER_SECONDS):
                usages.append(_server_usage(await _get(self._monitor_url, "/jsz")))
        return usages


class _Usage(Struct, frozen=True):
    used: int
    quota: int

    @property
    def share(self) -> float:
        return self.used / self.quota if self.quota else 0.0


class _Limits(Struct, frozen=True):
    max_storage: int = 0


class _Account(Struct, frozen=True):
    storage: int = 0
    limits: _Limits = _Limits()


class _Server(Struct, frozen=True):
    storage: int = 0
    config: _Limits = _Limits()


def _account_usage(answer: object) -> _Usage:
    account = msgspec.convert(answer, _Account)
    return _Usage(account.storage, max(0, account.limits.max_storage))


def _server_usage(answer: bytes) -> _Usage:
    server = msgspec.json.decode(answer, type=_Server)
    return _Usage(server.storage, max(0, server.config.max_storage))


async def _get(url: str, path: str) -> bytes:
    """One plain request to nats-server's monitor, which listens on this machine or on the private network."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        # HTTP/1.0: the answer ends with the connection.
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        answer = await reader.read(_ANSWER_BYTES)
        while not reader.at_eof() and len(answer) < _ANSWER_BYTES:
            answer += await reader.read(_ANSWER_BYTES)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0] + b" ":
        raise ValueError(f"the monitor answers {head[:40]!r}")
    return body
