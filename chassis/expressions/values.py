"""The values that expressions read: decoded once, when the first expression asks, and only as far as it asks.

Whole numbers beyond 64 bits become floating-point numbers here, as in every engine with 64-bit numbers; nothing else
about a value changes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from chassis.expressions.faults import Failed
from chassis.expressions.references import Place, spelled
from contracts.limits import JSON_DEPTH

INT64: Final = range(-(2**63), 2**63)
SECRET: Final = "$secret"  # noqa: S105  # The name of a field, not a secret.


NUL: Final = b"\\u0000"
"""How JSON writes the character that ends a text in C."""


class Missing:
    """The answer of a look-up that found nothing; there is one, `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()

_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode
_DIGITS: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
_HUGE: Final = b"0" * 19
_BEFORE_NUMBERS: Final = b"[:, \t\n\r"
"""Where no text but a number may begin; a text with long digits in it, as many keys are, is told apart by it."""


class Value:
    """A JSON value: given as JSON text (`Raw` or `bytes`) or as Python objects that JSON can hold."""

    __slots__ = ("_decoded", "_given", "_raw", "_traits")

    def __init__(self, given: object) -> None:
        self._given = given
        self._raw: bytes | None = None
        self._decoded: object = MISSING
        self._traits: _Traits | None = None

    @property
    def raw(self) -> bytes:
        """The value as JSON text. Raises `Failed` when JSON cannot hold it."""
        if self._raw is None:
            given = self._given
            try:
                self._raw = bytes(given) if isinstance(given, Raw | bytes) else _encode(given)
            except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
                raise Failed(f"the value cannot be JSON: {error}") from error
        return self._raw

    @property
    def decoded(self) -> object:
        """The value as Python objects. Raises `Failed` when it is no JSON."""
        if self._decoded is MISSING:
            try:
                decoded = _decode(self.raw)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise Failed(f"the value is no JSON: {error}") from error
            self._decoded = _narrowed(decoded) if _has_huge_number(self.raw) else decoded
        return self._decoded

    @property
    def traits(self) -> "_Traits":
        """What must be known of a list or an object before it is handed on; scalars are looked at themselves."""
        if self._traits is None:
            self._traits = _traits(self.raw, self.decoded)
        return self._traits


class _Traits(Struct, frozen=True, kw_only=True):
    deep: bool
    """Nested deeper than a result may be."""
    nul: bool
    """May have a NUL character in some text or name."""
    secret: bool
    """Has an object that looks like a reference to a secret."""
    parts: int
    """At most so many items and members are in it, on all levels."""


def _traits(raw: bytes, decoded: object) -> _Traits:
    """Cheap tests of the text tell that nothing is special; only when they cannot, the value is walked."""
    escaped = b"\\u" in raw
    openings = raw.count(b"[") + raw.count(b"{")
    return _Traits(
        deep=openings > JSON_DEPTH and deeper_than(decoded, JSON_DEPTH),
        nul=escaped and NUL in raw,
        secret=(escaped or SECRET.encode() in raw) and has_secret(decoded),
        parts=openings + raw.count(b","),
    )


def inside(value: object) -> Iterator[Any]:
    """The lists and objects in a value, itself first."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            yield one
            waiting.extend(one)


def has_secret(value: object) -> bool:
    return any(isinstance(one, dict) and SECRET in one for one in inside(value))


def deeper_than(value: object, limit: int) -> bool:
    layer = [value]
    for _ in range(limit):
        layer = [
            part
            for one in layer
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
        if not layer:
            return False
    return any(isinstance(one, dict | list) for one in layer)


def _has_huge_number(raw: bytes) -> bool:
    """Whether a number may be beyond 64 bits."""
    digits = raw.translate(_DIGITS)
    at = digits.find(_HUGE)
    while at >= 0:
        begins = at - 1 if raw[at - 1 : at] == b"-" else at
        if raw[begins - 1 : begins] in _BEFORE_NUMBERS:  # Nothing is before the first.
            return True
        at = digits.find(_HUGE, at + len(_HUGE))
    return False


def _narrowed(value: Any) -> Any:
    """The value with whole numbers beyond 64 bits as floating-point numbers."""
    if isinstance(value, dict):
        return {name: _narrowed(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_narrowed(part) for part in value]
    if isinstance(value, int) and value not in INT64:
        try:
            return float(value)
        except OverflowError:
            raise Failed("a number is too large") from None
    return value


class Settled(Struct, frozen=True, kw_only=True):
    """What a step left behind, for the expressions of those that come after it."""

    output: object = MISSING
    status: str | None = None
    error: object = None
    resume_url: object = MISSING


class Context:
    """The values of one moment in a run. Immutable: what is added makes another one that shares what is decoded."""

    __slots__ = ("_roots", "_steps")

    def __init__(self, roots: Mapping[str, Value], steps: Mapping[str, Mapping[str, Value]]) -> None:
        self._roots = roots
        self._steps = steps

    @classmethod
    def from_roots(
        cls,
        *,
        trigger: object = MISSING,
        run: object = MISSING,
        vars: object = MISSING,  # noqa: A002  # The name that expressions use.
        item: object = MISSING,
        index: object = MISSING,
        steps: Mapping[str, Settled] | None = None,
    ) -> "Context":
        """`Raw` and `bytes` are taken as JSON text, a `Value` as it is, everything else as Python objects."""
        given = {"trigger": trigger, "run": run, "vars": vars, "item": item, "index": index}
        return cls(
            {name: _value(one) for name, one in given.items() if one is not MISSING},
            {name: _fields(settled) for name, settled in (steps or {}).items()},
        )

    def with_step(
        self, name: str, output: object, *, status: str | None = "succeeded", error: object = None
    ) -> "Context":
        settled = Settled(output=output, status=status, error=error)
        return Context(self._roots, {**self._steps, name: _fields(settled)})

    def with_item(self, item: object) -> "Context":
        return Context({**self._roots, "item": _value(item)}, self._steps)

    def value(self, place: Place) -> tuple[Value, Place] | None:
        """The value in which a place lies, and the rest of the way; None when there is no such root."""
        if place[0] == "steps":
            fields = self._steps.get(str(place[1]), {})
            found = fields.get(str(place[2]))
            return None if found is None else (found, place[3:])
        root = self._roots.get(str(place[0]))
        return None if root is None else (root, place[1:])

    def find(self, place: Place) -> object:
        """The value at a place, or `MISSING`."""
        found = self.value(place)
        return MISSING if found is None else follow(found[0].decoded, found[1])

    def missing(self, place: Place) -> str:
        """Why there is nothing at a place, in words."""
        found = self.value(place)
        if found is None:
            return f"`{spelled(place[:3] if place[0] == 'steps' else place[:1])}` is not there"
        value, rest = found
        before = len(place) - len(rest)
        for number in range(len(rest)):
            here = follow(value.decoded, rest[:number])
            if follow(here, rest[number : number + 1]) is MISSING:
                name = spelled(place[: before + number])
                return _why(name, here, rest[number], spelled(place[: before + number + 1]))
        return f"`{spelled(place)}` is not there"


def _value(given: object) -> Value:
    return given if isinstance(given, Value) else Value(given)


def _fields(settled: Settled) -> dict[str, Value]:
    fields = {
        "output": settled.output,
        "status": settled.status or MISSING,
        "error": settled.error,
        "resume_url": settled.resume_url,
    }
    return {name: _value(one) for name, one in fields.items() if one is not MISSING}


def follow(value: object, rest: Place) -> object:
    """Go on from a value; `MISSING` where the way ends."""
    for part in rest:
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
            value = value[part]
        else:
            return MISSING
    return value


def _why(name: str, value: object, part: str | int, wanted: str) -> str:
    if isinstance(part, int) and isinstance(value, list):
        return f"`{name}` has {len(value)} items, so there is no `{wanted}`"
    if isinstance(value, dict):
        return f"`{wanted}` is not there"
    return f"`{name}` is {kind(value)}, so there is no `{wanted}`"


def kind(value: object) -> str:
    """What a value is, in words."""
    names: dict[type, str] = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")
