"""What stands before the way out: our own addresses hear which run calls, and the run's log hears of each call.

Told is where to and what came of it, never what was sent or answered.
"""

import asyncio
from collections.abc import Callable, Container
from typing import Any
from urllib.parse import urlsplit

from msgspec import structs

from chassis.egress import Credential, EgressError, Opened, Request, Response
from executor.node import Outside


class Named:
    """The way out of one attempt, by which our own addresses know whose calls they are. Whatever a node says of that is not sent."""

    def __init__(self, egress: Outside, cause: Callable[[], str]) -> None:
        self._egress, self._cause = egress, cause

    async def request(self, request: Request) -> Response:
        return await self._egress.request(structs.replace(request, cause=self._cause))

    async def open_tcp(
        self,
        host: str,
        port: int,
        *,
        usual: Container[int],
        credential: Credential | None,
        timeout_s: float = 10.0,
    ) -> Opened:
        return await self._egress.open_tcp(
            host, port, usual=usual, credential=credential, timeout_s=timeout_s
        )


class Told:
    """The way out of one attempt. No path and no query are told: webhooks of some vendors carry their secret there."""

    def __init__(self, egress: Outside, tell: Callable[..., None]) -> None:
        self._egress, self._tell = egress, tell

    async def request(self, request: Request) -> Response:
        began = asyncio.get_running_loop().time()

        def tell(what: str, level: str, url: str, **fields: Any) -> None:
            took = round((asyncio.get_running_loop().time() - began) * 1000)
            host = _host(url)
            self._tell(
                f"{request.method} to {host}: {what}",
                level,
                method=request.method,
                host=host,
                ms=took,
                **fields,
            )

        try:
            response = await self._egress.request(request)
        except EgressError as error:
            tell("no answer", "warning", request.url, code=error.code)
            raise
        except asyncio.CancelledError:
            tell("stopped while it was under way", "warning", request.url)
            raise
        level = "info" if response.status < 400 else "warning"
        tell(str(response.status), level, response.url, status=response.status, bytes=len(response.body))
        return response

    async def open_tcp(
        self,
        host: str,
        port: int,
        *,
        usual: Container[int],
        credential: Credential | None,
        timeout_s: float = 10.0,
    ) -> Opened:
        began = asyncio.get_running_loop().time()
        try:
            opened = await self._egress.open_tcp(
                host, port, usual=usual, credential=credential, timeout_s=timeout_s
            )
        except EgressError as error:
            self._tell(f"{host}: no connection", "warning", host=host, port=port, code=error.code)
            raise
        took = round((asyncio.get_running_loop().time() - began) * 1000)
        self._tell(f"{host}: connected", host=host, port=port, ms=took)
        return opened


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "nowhere"
    except ValueError:
        return "nowhere"
