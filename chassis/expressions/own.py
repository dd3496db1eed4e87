"""Functions of our own, beside the engine's: dates on a calendar, texts in all alphabets, sums, JSON in a text.

Rule that holds here: what a function is given is as large as its data, so each is linear in it, and its row in `costs`
says how large what it gives can be.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from chassis.expressions import cel
from chassis.expressions.arithmetic import overload
from chassis.expressions.faults import Failed
from chassis.expressions.moments import add, diff, start_of
from chassis.expressions.patterns import format_date, parse_date
from chassis.expressions.results import in_json
from chassis.expressions.shield import shielded
from chassis.expressions.values import INT64, Value
from chassis.expressions.zones import Unusable, zone
from contracts.codec import depth_exceeds
from contracts.limits import JSON_DEPTH

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
PADDED: Final = 1_000
"""Characters to which a text is filled up."""


def own_functions() -> list[Any]:
    """The declarations, for the checker and for runs."""
    text, whole, moment = cel.Type.STRING, cel.Type.INT, cel.Type.TIMESTAMP
    return [
        _zoned("add", moment, moment, whole, text, does=_added),
        _zoned("startOf", moment, moment, text, does=_begun),
        _zoned("diff", whole, moment, moment, text, does=_diff),
        _zoned("formatDate", _any_text(), moment, text, does=_formatted),
        _zoned("parseDate", moment, text, text, does=_parsed),
        _method("upper", _any_text(), text, does=lambda given: shielded(given.upper())),
        _method("lower", _any_text(), text, does=lambda given: shielded(given.lower())),
        _method("htmlEscape", _any_text(), text, does=lambda given: shielded(escape(given))),
        _method("urlEncode", text, text, does=lambda given: quote(given, safe="")),
        _method("urlDecode", _any_text(), text, does=_url_decoded),
        _method("parseJson", cel.Type.DYN, text, does=_json_read),
        cel.FunctionDecl(
            "toJson", [_overload("toJson", _any_text(), one, does=_json_written) for one in _json_kinds()]
        ),
        _padding("padStart", lambda given, fill: fill + given),
        _padding("padEnd", lambda given, fill: given + fill),
        cel.FunctionDecl("math.sum", [overload("math.sum", cel.Type.DYN, cel.Type.LIST, does=_sum)]),
    ]


def _any_text() -> Any:
    """A text that may have a NUL: it goes back as a message, which the engine does not take for `STRING`."""
    return cel.Type.DYN


def _json_kinds() -> list[Any]:
    """All kinds of values but types: the engine does not take every kind for `DYN`."""
    kind = cel.Type
    return [
        *(kind.BOOL, kind.BYTES, kind.DOUBLE, kind.DURATION, kind.INT, kind.LIST),
        *(kind.MAP, kind.NULL, kind.STRING, kind.TIMESTAMP, kind.UINT),
    ]


def _method(name: str, result: Any, *takes: Any, does: Callable[..., Any]) -> Any:
    return cel.FunctionDecl(name, [_overload(name, result, *takes, does=does)])


def _overload(name: str, result: Any, *takes: Any, does: Callable[..., Any]) -> Any:
    spelled = "_".join(one.name().rpartition(".")[2].lower() for one in takes)
    return cel.Overload(
        f"@{name}_{spelled}", return_type=result, parameters=list(takes), is_member=True, impl=does
    )


def _zoned(name: str, result: Any, *takes: Any, does: Callable[..., Any]) -> Any:
    """A method whose last argument is a time zone, which may be left out: then it is UTC."""

    def in_utc(*given: Any) -> Any:
        return does(*given, "UTC")

    overloads = [
        _overload(name, result, *takes, cel.Type.STRING, does=does),
        _overload(name, result, *takes, does=in_utc),
    ]
    return cel.FunctionDecl(name, overloads)


def _padding(name: str, joined: Callable[[str, str], str]) -> Any:
    def padded(given: str, length: int, letter: str = " ") -> Any:
        if len(letter) != 1:
            raise Unusable(f"`{name}` fills up with one character")
        if length > PADDED:
            raise Unusable(f"`{name}` fills up to {PADDED:,} characters at most")
        return shielded(joined(given, letter * (length - len(given))))

    text, whole = cel.Type.STRING, cel.Type.INT
    overloads = [
        _overload(name, _any_text(), text, whole, text, does=padded),
        _overload(name, _any_text(), text, whole, does=padded),
    ]
    return cel.FunctionDecl(name, overloads)


def _added(moment: datetime, count: int, unit: str, name: str) -> datetime:
    return _told(add(moment, count, unit, zone(name)))


def _begun(moment: datetime, unit: str, name: str) -> datetime:
    return _told(start_of(moment, unit, zone(name)))


def _parsed(given: str, pattern: str, name: str) -> datetime:
    return _told(parse_date(given, pattern, name))


def _told(moment: datetime) -> datetime:
    """The engine takes its own earliest moment for one before all time."""
    if moment == _EARLIEST:
        raise Unusable("the moment is too early")
    return moment


def _diff(later: datetime, earlier: datetime, unit: str, name: str) -> int:
    return diff(later, earlier, unit, zone(name))


def _formatted(moment: datetime, pattern: str, name: str) -> Any:
    return shielded(format_date(moment, pattern, name))


def _url_decoded(given: str) -> Any:
    try:
        return shielded(unquote(given, errors="strict"))
    except UnicodeDecodeError:
        raise Unusable("what is encoded there is not UTF-8") from None


def _json_read(given: str) -> Any:
    raw = given.encode()
    if depth_exceeds(raw, JSON_DEPTH):
        raise Unusable(f"the JSON is nested deeper than {JSON_DEPTH}")
    try:
        return shielded(Value(raw).decoded)
    except Failed as failed:
        raise Unusable(failed.message) from None


def _json_written(given: Any) -> Any:
    try:
        return shielded(msgspec.json.encode(in_json(given)).decode())
    except Failed as failed:
        raise Unusable(failed.message) from None


def _sum(numbers: list[Any]) -> int | float:
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise Unusable("`math.sum` takes numbers only")
    if any(isinstance(number, float) for number in numbers):
        return math.fsum(numbers)
    total: int = sum(numbers)
    if total not in INT64:
        raise Unusable("the whole number does not fit into 64 bits")
    return total
