"""How full the log's disk is: uploads stop first, then starts, so that what was accepted can end.

What was accepted keeps on writing: its configurations, its outputs, its end. So the last part of the quota is the
engine's alone: outputs too large for the log wait for room only when that is nearly gone too, and nothing is lost by it.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Struct

from chassis.ports import Away, Blobs, Full
from contracts.limits import DISK_STOPS_OUTPUTS, DISK_STOPS_STARTS, DISK_STOPS_UPLOADS
from contracts.payloads import Blob

_LOOK_SECONDS: Final = 2.0
_CLOSE_LOOK_SECONDS: Final = 0.2
_CLOSE_LOOK_FROM: Final = 0.6
_GROWTH: Final = 3
"""What a process says between two looks becomes so many times its size: input, configuration and output of a step."""
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

    @property
    def stops_outputs(self) -> bool:
        return self.used_share >= DISK_STOPS_OUTPUTS


class Disk:
    """Looks every two seconds while `run` runs, more often where it gets narrow. While nobody answers the last state stands.

    What this process has sent since the last look counts as used already: a burst between two looks is seen.
    """

    def __init__(self, api: Api, monitor_url: str = "", sent: Callable[[], int] = lambda: 0) -> None:
        """The account's own quota is asked of `api`, the server's of its monitor, when it has one.

        `sent`: how many bytes this process has sent so far.
        """
        self._api = api
        self._monitor_url = monitor_url
        self._sent = sent
        self._sent_before = 0
        self._quota = 0
        self._looked = DiskState()

    @property
    def state(self) -> DiskState:
        if not self._quota:
            return self._looked
        growth = _GROWTH * (self._sent() - self._sent_before) / self._quota
        return DiskState(used_share=self._looked.used_share + growth)

    async def run(self) -> None:
        while True:
            looked = await self.look()
            narrow = looked.used_share >= _CLOSE_LOOK_FROM
            await asyncio.sleep(_CLOSE_LOOK_SECONDS if narrow else _LOOK_SECONDS)

    async def look(self) -> DiskState:
        sent = self._sent()
        try:
            usages = await self._usages()
        except (Away, OSError, TimeoutError, ValueError, msgspec.MsgspecError) as error:
            log.warning("disk.unknown", reason=str(error))
            return self.state
        state = DiskState(used_share=max(usage.share for usage in usages))
        before, self._looked = self._looked, state
        if (state.stops_uploads, state.stops_starts) != (before.stops_uploads, before.stops_starts):
            log.warning("disk.state", used_share=round(state.used_share, 3), stops_starts=state.stops_starts)
        self._quota = min((usage.quota for usage in usages if usage.quota), default=0)
        self._sent_before = sent
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


class WhileRoom:
    """An object store that takes nothing while there is no room: `Full`, and whoever insists waits."""

    def __init__(self, blobs: Blobs, is_narrow: Callable[[], bool]) -> None:
        self._blobs, self._is_narrow = blobs, is_narrow

    async def put(self, data: bytes, content_type: str = "application/json") -> Blob:
        if self._is_narrow():
            raise Full("the log's disk is nearly full: no value is stored until there is room")
        return await self._blobs.put(data, content_type)

    async def get(self, blob: Blob) -> bytes:
        return await self._blobs.get(blob)


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
