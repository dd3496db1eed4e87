"""Moments as text by a pattern such as `dd.MM.yyyy HH:mm`, in both directions; the letters are those of Luxon.

Names are English. What is no letter stands for itself; letters that shall do so stand in '…'.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from chassis.expressions.zones import Unusable, zone

_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PIECE: Final = re.compile(
    r"'(?P<quoted>(?:[^']|'')*)'|(?P<letters>(?P<one>[A-Za-z])(?P=one)*)|(?P<plain>[^A-Za-z']+)"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST: Final = 200
"""Characters of a pattern."""


def _pieces(pattern: str) -> Iterator[tuple[str, bool]]:
    """What a pattern is made of: literal text, or (True) letters with a meaning."""
    if len(pattern) > LONGEST:
        raise Unusable(f"a pattern has at most {LONGEST} characters")
    at = 0
    while at < len(pattern):
        found = _PIECE.match(pattern, at)
        if found is None:
            raise Unusable("a pattern has an even number of `'`")
        at = found.end()
        if found["letters"] is not None:
            yield found["letters"], True
        elif found["quoted"] is not None:
            yield found["quoted"].replace("''", "'") or "'", False
        else:
            yield found["plain"], False


def _unknown(letters: str) -> Unusable:
    return Unusable(f"`{letters[:20]}` means nothing in a pattern; text stands in '…'")


# --- To text --------------------------------------------------------------------------------------


def format_date(moment: datetime, pattern: str, zone_name: str) -> str:
    """Raises `Unusable`."""
    try:
        local = moment.astimezone(zone(zone_name))
    except OverflowError:
        raise Unusable("the moment is outside of the years 1 to 9999 there") from None
    told: list[str] = []
    for piece, has_meaning in _pieces(pattern):
        if not has_meaning:
            told.append(piece)
        elif piece == "z":
            told.append(zone_name)
        elif piece in _WRITE:
            told.append(_WRITE[piece](local))
        else:
            raise _unknown(piece)
    return "".join(told)


def _offset(local: datetime, between: str) -> str:
    minutes = round((local.utcoffset() or timedelta()).total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}{between}{rest:02}"


def _hour(local: datetime) -> int:
    return local.hour % 12 or 12


_WRITE: Final[Mapping[str, Callable[[datetime], str]]] = {
    "yyyy": lambda local: f"{local.year:04}",
    "yy": lambda local: f"{local.year % 100:02}",
    "MMMM": lambda local: _MONTHS[local.month - 1],
    "MMM": lambda local: _MONTHS[local.month - 1][:3],
    "MM": lambda local: f"{local.month:02}",
    "M": lambda local: str(local.month),
    "dd": lambda local: f"{local.day:02}",
    "d": lambda local: str(local.day),
    "EEEE": lambda local: _DAYS[local.weekday()],
    "EEE": lambda local: _DAYS[local.weekday()][:3],
    "E": lambda local: str(local.isoweekday()),
    "HH": lambda local: f"{local.hour:02}",
    "H": lambda local: str(local.hour),
    "hh": lambda local: f"{_hour(local):02}",
    "h": lambda local: str(_hour(local)),
    "mm": lambda local: f"{local.minute:02}",
    "m": lambda local: str(local.minute),
    "ss": lambda local: f"{local.second:02}",
    "s": lambda local: str(local.second),
    "SSS": lambda local: f"{local.microsecond // 1000:03}",
    "a": lambda local: "AM" if local.hour < 12 else "PM",
    "ZZ": lambda local: _offset(local, ":"),
    "ZZZ": lambda local: _offset(local, ""),
    "kkkk": lambda local: f"{local.isocalendar().year:04}",
    "WW": lambda local: f"{local.isocalendar().week:02}",
    "ooo": lambda local: f"{local.timetuple().tm_yday:03}",
    "q": lambda local: str((local.month + 2) // 3),
    "X": lambda local: str((local - _EPOCH) // timedelta(seconds=1)),
}


# --- From text ------------------------------------------------------------------------------------


def parse_date(text: str, pattern: str, zone_name: str) -> datetime:
    """`zone_name`: where it is meant when the text does not say an offset itself. Raises `Unusable`."""
    found: dict[str, str] = {}
    at = 0
    for piece, has_meaning in _pieces(pattern):
        if has_meaning and piece not in _READ:
            known = piece in _WRITE or piece == "z"
            raise Unusable(f"`{piece}` cannot be read from a text") if known else _unknown(piece)
        if has_meaning:
            match = _READ[piece].match(text, at)
            found[piece] = match[0] if match else ""
            end = match.end() if match else -1
        else:
            end = at + len(piece) if text.startswith(piece, at) else -1
        if end < 0:
            raise Unusable(f"`{text[:100]}` is not written as `{pattern}`")
        at = end
    if at < len(text):
        raise Unusable(f"`{text[:100]}` goes on behind `{pattern}`")
    try:
        return _made(found, zone_name)
    except (ValueError, OverflowError) as error:
        raise Unusable(f"`{text[:100]}` is no moment: {error}") from None


def _named(names: tuple[str, ...], length: int | None = None) -> re.Pattern[str]:
    return re.compile("|".join(name[:length] for name in names), re.IGNORECASE)


_TWO: Final = re.compile("[0-9]{2}")
_ONE_OR_TWO: Final = re.compile("[0-9]{1,2}")
_READ: Final[Mapping[str, re.Pattern[str]]] = {
    "yyyy": re.compile("[0-9]{4}"),
    "MMMM": _named(_MONTHS),
    "MMM": _named(_MONTHS, 3),
    "EEEE": _named(_DAYS),
    "EEE": _named(_DAYS, 3),
    "SSS": re.compile("[0-9]{3}"),
    "a": re.compile("am|pm", re.IGNORECASE),
    "ZZ": re.compile("[+-][0-9]{2}:[0-9]{2}|Z"),
    "ZZZ": re.compile("[+-][0-9]{4}|Z"),
    "X": re.compile("-?[0-9]{1,12}"),
    **dict.fromkeys(("yy", "MM", "dd", "HH", "hh", "mm", "ss"), _TWO),
    **dict.fromkeys(("M", "d", "H", "h", "m", "s"), _ONE_OR_TWO),
}


def _made(found: Mapping[str, str], zone_name: str) -> datetime:
    if "X" in found:
        return _EPOCH + timedelta(seconds=int(found["X"]))
    wall = datetime(
        _year(found),
        _month(found),
        int(found.get("dd") or found.get("d") or 1),
        _hours(found),
        int(found.get("mm") or found.get("m") or 0),
        int(found.get("ss") or found.get("s") or 0),
        int(found.get("SSS", 0)) * 1000,
        tzinfo=_zone(found, zone_name),
    )
    day = found.get("EEEE") or found.get("EEE")
    if day is not None and not _DAYS[wall.weekday()].lower().startswith(day.lower()):
        raise ValueError(f"it is a {_DAYS[wall.weekday()]}")
    return wall.astimezone(UTC)


def _year(found: Mapping[str, str]) -> int:
    if "yyyy" in found:
        return int(found["yyyy"])
    if "yy" not in found:
        raise ValueError("it has no year")
    short = int(found["yy"])
    return short + (1900 if short >= 69 else 2000)  # As POSIX says.


def _month(found: Mapping[str, str]) -> int:
    name = found.get("MMMM") or found.get("MMM")
    if name is not None:
        return next(
            number for number, month in enumerate(_MONTHS, 1) if month.lower().startswith(name.lower())
        )
    return int(found.get("MM") or found.get("M") or 1)


def _hours(found: Mapping[str, str]) -> int:
    half = found.get("hh") or found.get("h")
    if half is None:
        return int(found.get("HH") or found.get("H") or 0)
    if "a" not in found or not 1 <= int(half) <= 12:
        raise ValueError("an hour from 1 to 12 needs `a` for AM or PM")
    return int(half) % 12 + (12 if found["a"].lower() == "pm" else 0)


def _zone(found: Mapping[str, str], zone_name: str) -> tzinfo:
    said = found.get("ZZ") or found.get("ZZZ")
    if said is None or said == "Z":
        return zone(said or zone_name)
    return zone(f"{said[:3]}:{said[-2:]}")
