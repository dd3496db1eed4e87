"""Time zones, from the package `tzdata` that the lock pins: the same answers on every machine, whatever it has installed.

Rule that holds here: nothing in expressions reads the machine's own zones, the engine's methods included. The engine takes
a name for a path, so that `/proc/self/fd/0` would make it wait for ever: no name reaches it that is not known here.
"""

import os
import re
from datetime import UTC, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

_PACKAGE: Final = find_spec("tzdata")
_FOLDER: Final = Path((_PACKAGE and _PACKAGE.origin) or "tzdata").parent / "zoneinfo"
"""Found without `importlib.resources`, which takes longer to import than all the rest of this."""
_OFFSET: Final = re.compile(r"([+-]?)([01][0-9]):([0-5][0-9])")


class Unusable(ValueError):
    """A function cannot do this; the message is told to the builder."""


def bind_engine() -> None:
    """The engine looks for zones where TZDIR says, else in the machine's own folder."""
    os.putenv("TZDIR", str(_FOLDER))


@cache  # There are as many as the package has.
def _names() -> frozenset[str]:
    return frozenset((_FOLDER.parent / "zones").read_text(encoding="ascii").split())


@lru_cache(maxsize=1_024)
def _loaded(name: str) -> ZoneInfo:
    with _FOLDER.joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def zone(name: str) -> tzinfo:
    """A zone by its name or as an offset, `+02:00`. Raises `Unusable`."""
    if name in ("UTC", "Z"):
        return UTC
    if offset := _OFFSET.fullmatch(name):
        span = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-span if offset[1] == "-" else span)
    if name not in _names():
        raise Unusable(f"there is no time zone `{name[:100]}`")
    return _loaded(name)


def known(name: str) -> str:
    """The same name, for the engine. Raises `Unusable`."""
    zone(name)
    return name
