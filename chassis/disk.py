"""How full the log's disk is: uploads stop first, then starts, so that what was accepted can end."""

import asyncio
import json
from typing import Final, Protocol
from urllib.parse import urlsplit

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
            shares = [await self._of_the_account()]
            if self._monitor_url:
                shares.append(await self._of_the_server())
        except (Away, OSError, TimeoutError, ValueError) as error:
            log.warning("disk.unknown", reason=str(error))
            return self.state
        state = DiskState(used_share=max(shares))
        if (state.stops_uploads, state.stops_starts) != (self.state.stops_uploads, self.state.stops_starts):
            log.warning("disk.state", used_share=round(state.used_share, 3), stops_starts=state.stops_starts)
        self.state = state
        return state

    async def _of_the_account(self) -> float:
        answer = await self._api.api("INFO")
        limits = answer.get("limits")
        quota = limits.get("max_storage", 0) if isinstance(limits, dict) else 0
        return _share(answer.get("storage"), quota)

    async def _of_the_server(self) -> float:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = json.loads(await _get(self._monitor_url, "/jsz"))
        return _share(answer.get("storage"), answer.get("config", {}).get("max_storage", 0))


def _share(used: object, quota: object) -> float:
    known = isinstance(used, int) and isinstance(quota, int) and quota > 0
    return float(used) / float(quota) if known else 0.0  # type: ignore[arg-type]  # `known` says so.


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
