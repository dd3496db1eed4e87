"""Our own addresses, as those know them who call them from inside: there, and nowhere else, it is said which run asks."""

from collections.abc import Iterable
from typing import Final

from chassis.egress.urls import BadUrl, Target, parse_url

_HERE: Final = "127.0.0.1"
_CLIMBS: Final = b"%2e"
"""A dot that some servers read as one: what has it in its path may lead out of ours."""


class OwnAddresses:
    """Under which the installation is reached."""

    def __init__(self, urls: Iterable[str] = ()) -> None:
        """Raises `BadUrl`."""
        self._paths: dict[tuple[str, str, int], list[bytes]] = {}
        for url in urls:
            target = parse_url(url)
            path = target.path.partition(b"?")[0].rstrip(b"/")
            self._paths.setdefault(_place(target), []).append(path)

    def has(self, target: Target) -> bool:
        paths = self._paths.get(_place(target))
        return paths is not None and any(_under(path, target.path) for path in paths)


def addresses(text: str) -> list[str]:
    """A list as settings have it. Raises `BadUrl`, as reading the addresses does."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    for url in found:
        if parse_url(url).path.partition(b"?")[1]:
            raise BadUrl("An address of ours has no query.")
    return found


def _place(target: Target) -> tuple[str, str, int]:
    """All names by which a machine calls itself are one."""
    host = target.host
    here = host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")
    return target.scheme, _HERE if here else host, target.port


def _under(base: bytes, path: bytes) -> bool:
    if not base:
        return True
    path = path.partition(b"?")[0]
    return (path == base or path.startswith(base + b"/")) and _CLIMBS not in path.lower()
