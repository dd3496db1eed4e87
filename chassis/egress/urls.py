"""Reads a URL once: what is judged here is, byte for byte, what is connected to and sent."""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import httpx2
from msgspec import Struct

_MOST: Final = 16 * 1024
_USUAL: Final = 512
_PORTS: Final = {"http": 80, "https": 443}
_HOSTILE: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*", re.ASCII)
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)


class BadUrl(ValueError):
    """Not a URL that a request may go to; the text says why."""


class Target(Struct, frozen=True, kw_only=True):
    """Where a request goes."""

    scheme: str
    host: str
    """A name in lower case and ASCII, or an address in its normal form; IPv6 without brackets."""
    port: int
    path: bytes
    """Path and query as they are sent."""

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path.decode('ascii')}"


def parse_url(text: str, base: Target | None = None) -> Target:
    """Read a URL, or with `base` a redirect's Location. Raises `BadUrl`."""
    return _known(text) if base is None and len(text) <= _USUAL else _parsed(text, base)


@lru_cache(512)
def _known(text: str) -> Target:
    """Steps call the same addresses again and again."""
    return _parsed(text, None)


def _parsed(text: str, base: Target | None) -> Target:
    text = text.strip(" ")
    if len(text) > _MOST:
        raise BadUrl("The URL is too long.")
    if _HOSTILE.search(text):
        raise BadUrl("The URL has a control character or a backslash in it.")
    try:
        url = httpx2.URL(text) if base is None else httpx2.URL(base.url).join(text)
    except (httpx2.InvalidURL, ValueError) as error:
        raise BadUrl("The URL cannot be read.") from error
    if url.scheme not in _PORTS:
        raise BadUrl("Only http and https URLs can be called.")
    if url.userinfo:
        raise BadUrl("The URL has a user name in it; use a credential.")
    port = url.port if url.port is not None else _PORTS[url.scheme]
    if not 1 <= port <= 65535:
        raise BadUrl("The URL's port is not a port.")
    return Target(
        scheme=url.scheme, host=normal_host(url.raw_host.decode("ascii")), port=port, path=url.raw_path
    )


def normal_host(text: str) -> str:
    """A host in the one form in which hosts are compared. Raises `BadUrl`."""
    host = text.lower().removesuffix(".")
    try:
        if ":" in host:
            return str(IPv6Address(host)) if "%" not in host else _refuse()
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            # Octal, hex and short forms mean other addresses to other readers.
            return str(IPv4Address(host))
    except AddressValueError:
        return _refuse()
    return host if len(host) <= 253 and _NAME.fullmatch(host) else _refuse()


def _refuse() -> str:
    raise BadUrl("The URL's host is not a host name or an address.")
