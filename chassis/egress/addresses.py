"""Which addresses a workflow may reach: the public ones, and what the instance's admin listed.

Rule that holds here: whatever is not known to be public is private. Names are not judged, only addresses are.
"""

import re
from collections.abc import Container, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

from msgspec import Struct

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

HTTP_PORTS: Final = frozenset({80, 443, *range(8000, 9000)})
MAIL_PORTS: Final = frozenset({25, 465, 587, 2525})
POSTGRES_PORTS: Final = frozenset({5432, 5433, 6432, 6543, 25060, 25061})
"""The database's own, and those of poolers and of common hosts."""
REDIS_PORTS: Final = frozenset({6379, 6380, 25061})

_PRIVATE_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT; some clouds' metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's platform address
            "169.254.0.0/16",  # link-local, metadata
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
# Everything else in IPv6 is not public: loopback, IPv4-mapped and -compatible, NAT64 (64:ff9b::/96), discard (100::/64),
# unique local (with fd00:ec2::254, Amazon's metadata), link-local, site-local, multicast.
_UNICAST_6: Final = IPv6Network("2000::/3")
_PRIVATE_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # Teredo, ORCHID, benchmarks
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "2620:4f:8000::/48",
            "3ffe::/16",
            "3fff::/20",  # documentation
        ),
    )
)
# A wide entry such as 0.0.0.0/0:3000 must not open these by accident: only an entry for the one address does.
_ONLY_ALONE: Final = tuple(
    map(
        ip_network, ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "fe80::/10", "fd00:ec2::/32")
    )
)


_ENTRY: Final = re.compile(
    r"(?:\[(?P<six>[^\[\]]+)\]|(?P<bare>[^\[\]]*:[^\[\]]*:[^\[\]]*)|(?P<four>[^:\[\]]+))(?::(?P<ports>[0-9*-]+))?"
)


class BadAllowList(ValueError):
    """The setting that lists allowed targets cannot be read."""


class AllowedTarget(Struct, frozen=True):
    """Addresses that the instance's admin lets workflows reach, on some ports or (None) on those of the web.

    Never without being named on those of databases: whoever opened a network for calls did not think of a Redis in it that
    asks nobody for a password.
    """

    cidr: Network
    ports: range | None = None

    def covers(self, address: Address, port: int) -> bool:
        if address.version != self.cidr.version or address not in self.cidr:
            return False
        if self.cidr.num_addresses > 1 and _in_any(address, _ONLY_ALONE):
            return False
        return port in (HTTP_PORTS if self.ports is None else self.ports)


def parse_allowed(text: str) -> tuple[AllowedTarget, ...]:
    """Read `10.0.0.0/8, 127.0.0.1/32:8080, [fd00::/8]:8000-8999, 192.168.0.0/16:*`. Without ports: those of the web."""
    return tuple(_target(entry) for entry in text.replace(",", " ").split())


def _target(entry: str) -> AllowedTarget:
    parts = _ENTRY.fullmatch(entry)
    try:
        if parts is None:
            raise ValueError("neither a network nor a network with ports")
        ports = _ports(parts["ports"]) if parts["ports"] else None
        return AllowedTarget(ip_network(parts["six"] or parts["bare"] or parts["four"]), ports)
    except ValueError as error:
        raise BadAllowList(f"{entry!r} is not a network with ports: {error}") from error


def _ports(text: str) -> range:
    if text == "*":
        return range(1, 65536)
    first, _, last = text.partition("-")
    ports = range(int(first), int(last or first) + 1)
    if not ports or ports[0] < 1 or ports[-1] > 65535:
        raise ValueError(f"no port is in {text!r}")
    return ports


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet at large."""
    if isinstance(address, IPv4Address):
        return not _in_any(address, _PRIVATE_4)
    return address in _UNICAST_6 and not _in_any(address, _PRIVATE_6)


def may_reach(text: str, port: int, usual: Container[int], allow: Sequence[AllowedTarget]) -> bool:
    """Whether workflows may connect to this address (as a resolver wrote it) and port."""
    if "%" in text:
        return False  # A scope id: link-local by its nature.
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if is_public(address) and port in usual:
        return True
    return any(target.covers(address, port) for target in allow)


def _in_any(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
