"""Whether the ports that the stack wants are free, asked before anything is started."""

import socket
from collections.abc import Iterable, Iterator

from msgspec import Struct

from chassis.settings import PREFIX
from deploy.refusals import Refused


class Wanted(Struct, frozen=True, kw_only=True):
    """A port and the setting that chooses it. 0: wherever a port is free."""

    setting: str
    host: str
    port: int

    @property
    def variable(self) -> str:
        return PREFIX + self.setting.upper()


def refuse_taken_ports(ports: Iterable[Wanted]) -> None:
    """Say which setting to change."""
    for reason in taken(ports):
        raise reason


def taken(ports: Iterable[Wanted]) -> Iterator[Refused]:
    """Why a stack with these ports would not start: one reason for each port."""
    seen: dict[int, Wanted] = {}
    for wanted in ports:
        twin = seen.setdefault(wanted.port, wanted)
        if wanted.port != 0 and twin is not wanted:
            yield Refused(
                f"{twin.variable} and {wanted.variable} are both {wanted.port}: give one of them another port."
            )
            continue
        try:
            _refuse_if_taken(wanted)
        except Refused as reason:
            yield reason


def _refuse_if_taken(wanted: Wanted) -> None:
    host, port = wanted.host, wanted.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise Refused(f"{PREFIX}HOST is {host!r}, which is no address here: {error.strerror}.") from error
    except PermissionError as error:
        raise Refused(
            f"Port {port} needs rights that this user lacks: set {wanted.variable} to one above 1023."
        ) from error
    except OSError as error:
        raise Refused(
            f"Port {port} on {host} is in use by another program: set {wanted.variable} to a free one "
            f"({error.strerror})."
        ) from error
