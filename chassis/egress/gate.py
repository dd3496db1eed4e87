"""The gate through which every connection goes: look the name up once, judge every address, connect to a judged one."""

import asyncio
import socket
import ssl
from collections.abc import Container, Sequence
from ipaddress import ip_address

from msgspec import Struct

from chassis.egress.addresses import AllowedTarget, may_reach
from chassis.egress.errors import EgressError
from chassis.egress.lines import Stream
from chassis.egress.resolving import Resolve


class Opened(Struct, frozen=True, kw_only=True):
    """A TCP connection to a checked address. Whoever has it closes the socket."""

    host: str
    """The name, for TLS and for greetings."""
    address: str
    port: int
    socket: socket.socket


class Gate:
    """Opens connections. Everything that it raises says that nothing was touched."""

    def __init__(
        self, resolve: Resolve, allow: Sequence[AllowedTarget], *, resolve_s: float, connect_s: float
    ) -> None:
        self._resolve, self._allow = resolve, tuple(allow)
        self._resolve_s, self._connect_s = resolve_s, connect_s

    async def addresses(self, host: str, port: int, usual: Container[int]) -> Sequence[str]:
        """Every address of a host. One that may not be reached forbids them all: the next answer might begin with it."""
        found = (host,) if _is_address(host) else await self._look_up(host, port)
        for address in found:
            if not may_reach(address, port, usual, self._allow):
                raise EgressError("forbidden", touched=False, detail=f"{host} is {address}, port {port}")
        return found

    async def _look_up(self, name: str, port: int) -> Sequence[str]:
        try:
            async with asyncio.timeout(self._resolve_s):
                found = await self._resolve(name, port)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError.
            raise EgressError("unresolvable", touched=False, detail=f"{name}: {error}") from error
        if not found:
            raise EgressError("unresolvable", touched=False, detail=f"{name}: no address")
        return found

    async def open(self, host: str, port: int, usual: Container[int]) -> Opened:
        """A connection to the first address that answers."""
        refusals: list[str] = []
        for address in await self.addresses(host, port, usual):
            try:
                async with asyncio.timeout(self._connect_s):
                    connected = await _connect(address, port)
            except OSError as error:
                refusals.append(f"{address}: {error or type(error).__name__}")
            else:
                return Opened(host=host, address=address, port=port, socket=connected)
        raise EgressError("unreachable", touched=False, detail=f"{host} port {port}: {'; '.join(refusals)}")

    async def stream(self, opened: Opened, tls: ssl.SSLContext | None) -> Stream:
        """Make a stream of an open connection, encrypted and its certificate checked for the name if `tls` is given."""
        stream = Stream()
        name = opened.host if tls is not None else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                await loop.create_connection(
                    lambda: stream, sock=opened.socket, ssl=tls, server_hostname=name
                )
        except ssl.SSLCertVerificationError as error:
            raise EgressError(
                "certificate", touched=False, detail=f"{opened.host}: {error.verify_message}"
            ) from error
        except OSError as error:  # SSLError and TimeoutError are.
            raise EgressError("tls", touched=False, detail=f"{opened.host}: {error}") from error
        finally:
            if stream.unborn:
                opened.socket.close()
        return stream


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection
