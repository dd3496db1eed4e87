"""The engine: Google's CEL in C++, with its traps closed.

Rules that hold here, each with its test:
* A null never leaves the engine by `value()` or `plain_value()`: each one takes a reference from Python's `None` that
  nobody gave, and after some 5,000 the interpreter dies.
* Text with a NUL goes in as a protobuf `StringValue`, because a plain `str` ends at the NUL.
* An error comes back as a value; its type is looked at before anything else.
* The engine's maps have no order of their own. Loops over one go by sorted names, and results are sorted too, except
  where the source or the input says an order.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from math import isfinite, nan
from typing import Any, Final

from cel_expr_python import cel
from msgspec import Struct

from contracts.limits import JSON_DEPTH
from orchestrator.expressions.budget import Room
from orchestrator.expressions.faults import Failed, Flaw, OutOfMemory
from orchestrator.expressions.references import ROOTS
from orchestrator.expressions.tree import Const, Expr, ListLiteral, MapLiteral, Tree, read, write

_T: Final = cel.Type
_EXTENSIONS: Final = ("bindings", "encoders", "lists", "math", "sets", "strings")
_MIXED: Final = ("_+_", "_-_", "_*_", "_/_")
_ORDERED: Final = ("_<_", "_<=_", "_>_", "_>=_")
IN_ORDER: Final = "@in_order"
"""Sorts a list of a map's names. Only trees made here can call it: no source can spell it."""


_NO_MEMORY: Final = "the expression takes more memory than it may"


class Refused(Exception):
    """The engine does not take a source."""

    def __init__(self, flaws: Sequence[Flaw]) -> None:
        super().__init__(flaws[0].message)
        self.flaws = tuple(flaws)


class Engine:
    """Parses, checks and runs. One per process; not for several threads."""

    def __init__(self) -> None:
        self._checks = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(_environment(exclude=(*_MIXED, *_ORDERED))),
            variables=dict.fromkeys(ROOTS, _T.DYN),
            functions=[*_arithmetic_types(), *_order_types()],
        )
        self._runs = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(_environment()),
            functions=[*_mixed_arithmetic(), _in_order()],
        )

    def parse(self, source: str) -> Tree:
        """The tree of a source. Raises `Refused`."""
        return read(self._compiled(source, unchecked=True).serialize())

    def check(self, source: str) -> None:
        """Look for operators and functions that cannot take what they are given. Raises `Refused`."""
        self._compiled(source, unchecked=False)

    def _compiled(self, source: str, *, unchecked: bool) -> Any:
        try:
            return self._checks.compile(source, disable_check=unchecked)
        except (RuntimeError, ValueError, LookupError) as error:
            raise Refused(_flaws(str(error), source)) from error

    def load(self, root: Expr) -> Any:
        """A program from a resolved tree."""
        return self._runs.deserialize(write(root))


def _environment(exclude: Sequence[str] = ()) -> str:
    lines = ["name: expressions", "extensions:", *(f"- name: {name}" for name in _EXTENSIONS)]
    if exclude:
        lines += ["stdlib:", "  exclude_functions:", *(f'  - name: "{name}"' for name in exclude)]
    return "\n".join(lines) + "\n"


# --- Arithmetic of whole and floating-point numbers together ---------------------------------------------------------
# JSON does not tell 100 from 100.0, so neither may `trigger.body.total * 1.19`.


def _overload(name: str, result: Any, *takes: Any, does: Callable[..., Any] | None = None) -> Any:
    spelled = "_".join(one.name().lower() for one in takes)
    implementation = {} if does is None else {"impl": does}
    return cel.Overload(f"@{name}_{spelled}", return_type=result, parameters=list(takes), **implementation)


def _divided(one: float, other: float) -> float:
    if other:
        return one / other
    return nan if not one or one != one else float("inf") * one  # noqa: PLR0124  # Only NaN differs from itself.


_OPERATIONS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "_+_": lambda one, other: one + other,
    "_-_": lambda one, other: one - other,
    "_*_": lambda one, other: one * other,
    "_/_": _divided,
}


def _mixed_arithmetic() -> list[Any]:
    return [
        cel.FunctionDecl(
            name,
            [
                _overload(name, _T.DOUBLE, _T.INT, _T.DOUBLE, does=operation),
                _overload(name, _T.DOUBLE, _T.DOUBLE, _T.INT, does=operation),
            ],
        )
        for name, operation in _OPERATIONS.items()
    ]


def _arithmetic_types() -> list[Any]:
    """The standard types of the four operations and the mixed ones, for the checker alone."""
    time, span = _T.TIMESTAMP, _T.DURATION
    more = {
        "_+_": [
            (_T.STRING, _T.STRING, _T.STRING),
            (_T.BYTES, _T.BYTES, _T.BYTES),
            (_T.LIST, _T.LIST, _T.LIST),
            (time, time, span),
            (time, span, time),
            (span, span, span),
        ],
        "_-_": [(span, time, time), (time, time, span), (span, span, span)],
    }
    numbers = [
        (_T.INT, _T.INT, _T.INT),
        (_T.UINT, _T.UINT, _T.UINT),
        (_T.DOUBLE, _T.DOUBLE, _T.DOUBLE),
        (_T.DOUBLE, _T.INT, _T.DOUBLE),
        (_T.DOUBLE, _T.DOUBLE, _T.INT),
    ]
    return [
        cel.FunctionDecl(name, [_overload(name, *types) for types in (*numbers, *more.get(name, ()))])
        for name in _MIXED
    ]


def _order_types() -> list[Any]:
    numbers = (_T.INT, _T.UINT, _T.DOUBLE)
    same = [(one, one) for one in (_T.BOOL, _T.STRING, _T.BYTES, _T.TIMESTAMP, _T.DURATION)]
    pairs = [*same, *((one, other) for one in numbers for other in numbers)]
    return [cel.FunctionDecl(name, [_overload(name, _T.BOOL, *pair) for pair in pairs]) for name in _ORDERED]


def _in_order() -> Any:
    def in_order(names: list[Any]) -> list[Any]:
        return sorted(names, key=lambda name: (type(name).__name__, name))

    return cel.FunctionDecl(IN_ORDER, [_overload(IN_ORDER, _T.LIST, _T.LIST, does=in_order)])


# --- Into the engine -----------------------------------------------------------------------------------------------


class _StringValue:
    full_name = "google.protobuf.StringValue"


class Text:
    """A text with a NUL in it, in the shape of the protobuf message that the engine takes for a text."""

    __slots__ = ("_wire",)
    DESCRIPTOR = _StringValue

    def __init__(self, text: str) -> None:
        body = text.encode()
        length, rest = bytearray(), len(body)
        while rest > 0x7F:
            length.append(rest & 0x7F | 0x80)
            rest >>= 7
        length.append(rest)
        self._wire = b"\x0a" + bytes(length) + body

    def SerializePartialToString(self) -> bytes:  # noqa: N802  # The engine asks for it by this name.
        return self._wire


def shielded(value: Any) -> Any:
    """The value with every text that holds a NUL as `Text`."""
    if isinstance(value, str):
        return Text(value) if "\0" in value else value
    if isinstance(value, dict):
        return {shielded(name): shielded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [shielded(part) for part in value]
    return value


# --- Out of the engine ---------------------------------------------------------------------------------------------

_NULL: Final = "NULL"
_LISTS: Final = ("LIST", "MAP")


class Outline(Struct, frozen=True, kw_only=True):
    """The order of names that a source says for the maps in its result."""

    names: tuple[str, ...] = ()
    members: Mapping[str, "Outline"] = {}
    item: "Outline | None" = None


UNKNOWN: Final = Outline()


def outline(expr: Expr) -> Outline:
    """What a source says about the order of its result: only literals say anything."""
    match expr:
        case MapLiteral():
            entries = [(_name(entry.key), entry.value) for entry in expr.entries]
            members = {name: outline(value) for name, value in entries if name is not None}
            return Outline(names=tuple(members), members=members)
        case ListLiteral(elements=(only,)):
            return Outline(item=outline(only))
        case _:
            return UNKNOWN


def _name(key: Expr) -> str | None:
    return key.value if isinstance(key, Const) and isinstance(key.value, str) else None


def run(program: Any, values: Mapping[str, Any]) -> Any:
    """The engine's result. Raises `Failed` when it is an error."""
    try:
        result = program.eval(data=values)
    except MemoryError as error:
        raise OutOfMemory(_NO_MEMORY) from error
    except (RuntimeError, ValueError, LookupError) as error:
        raise Failed(_sentence(str(error))) from error
    if result.type().name() == "ERROR":
        raise Failed(_sentence(result.value()))
    return result


def plain(result: Any, shape: Outline, room: Room) -> Any:
    """The engine's result as JSON can hold it. Raises `Failed` for what JSON cannot hold and for what is too large."""
    return _plain(result, shape, room, 0)


def _plain(result: Any, shape: Outline, room: Room, depth: int) -> Any:
    name = result.type().name()
    room.take(2)
    if name == _NULL:
        return None
    value = result.value()
    if name.startswith(_LISTS):
        if depth == JSON_DEPTH:
            raise Failed(f"the result is nested deeper than {JSON_DEPTH}")
        room.take(2 * len(value))
        if isinstance(value, list):
            item = shape.item or UNKNOWN
            return [_plain(one, item, room, depth + 1) for one in value]
        return _object(value, shape, room, depth)
    return _scalar(name, value, room)


def _object(value: dict[Any, Any], shape: Outline, room: Room, depth: int) -> dict[str, Any]:
    named = {_key(key): one for key, one in value.items()}
    if len(named) < len(value):
        raise Failed("two names of the object become the same text")
    order = [name for name in shape.names if name in named]
    order += sorted(named.keys() - shape.members.keys())
    room.take(sum(map(len, order)))
    return {name: _plain(named[name], shape.members.get(name, UNKNOWN), room, depth + 1) for name in order}


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def _scalar(name: str, value: Any, room: Room) -> Any:
    match name:
        case "STRING":
            room.take(len(value) if value.isascii() else len(value.encode()))
            return value
        case "INT" | "BOOL":
            return value
        case "UINT":
            if value >= 2**63:
                raise Failed("the result is a whole number beyond 64 bits")
            return value
        case "DOUBLE":
            if not isfinite(value):
                raise Failed("the result is no finite number")
            return value
        case "BYTES":
            room.take(len(value) * 4 // 3)
            return base64.b64encode(value).decode()
        case "TIMESTAMP":
            return _moment(value)
        case "DURATION":
            return _span(value)
        case _:
            raise Failed(f"the result is a {name.lower()}, which JSON cannot hold")


def _moment(value: datetime) -> str:
    """RFC 3339 in UTC, with as many digits of the second as it has."""
    return value.isoformat().replace("+00:00", "Z")


def _span(value: timedelta) -> str:
    """Seconds and an `s`, as `duration()` reads them."""
    micros = value // timedelta(microseconds=1)
    sign = "-" if micros < 0 else ""
    whole, part = divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}{f'.{part:06}'.rstrip('0') if part else ''}s"


# --- What the engine says, in words for builders ---------------------------------------------------------------------

_MISTAKE: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_CODE: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_KINDS: Final = {
    "int64": "a whole number",
    "int": "a whole number",
    "uint64": "an unsigned number",
    "uint": "an unsigned number",
    "double": "a number",
    "string": "a text",
    "bytes": "bytes",
    "bool": "true or false",
    "null_type": "null",
    "null": "null",
    "list": "a list",
    "map": "an object",
    "dyn": "anything",
}
_OPERATOR: Final = re.compile(r"_?([^_\w@]+|in)_?")


def _flaws(said: str, source: str) -> list[Flaw]:
    found = [
        Flaw(code=_kind_of(message), message=_compile_sentence(message), offset=_offset(source, line, column))
        for line, column, message in ((int(one[1]), int(one[2]), one[3]) for one in _MISTAKE.finditer(said))
    ]
    if not found:
        message = "the expression is nested too deep" if "recursion" in said else _CODE.sub("", said)
        found = [Flaw(code="limit" if "recursion" in said else "syntax", message=message)]
    return sorted(dict.fromkeys(found), key=lambda flaw: flaw.offset)


def _kind_of(message: str) -> Any:
    if "recursion depth" in message:
        return "limit"
    return "type" if message.startswith("found no matching") else "syntax"


def _offset(source: str, line: int, column: int) -> int:
    lines = source.split("\n")
    if line > len(lines):
        return 0
    return min(sum(len(one) + 1 for one in lines[: line - 1]) + column - 1, len(source))


_OVERLOAD: Final = re.compile(r"found no matching overload for '(.+?)' applied to '(.*?)\((.*)\)'")
_NO_OVERLOAD: Final = re.compile(r"No matching overloads found : (\S+?)\((.*)\)")


def _compile_sentence(message: str) -> str:
    if "recursion depth" in message:
        return "the expression is nested too deep, or too many terms stand in one chain"
    if found := _OVERLOAD.match(message):
        return _cannot_take(found[1], ", ".join(filter(None, (found[2].rstrip("."), found[3]))))
    message = message.removeprefix("Syntax error: ")
    if found := re.match(r"(?:mismatched|extraneous) input '(.*?)' expecting", message):
        return (
            "the expression ends too early" if found[1] == "<EOF>" else f"`{found[1]}` does not belong here"
        )
    if found := re.match(r"token recognition error at: '(.*)'", message, re.DOTALL):
        return f"`{found[1][:20]}` cannot be read"
    return message


def _cannot_take(function: str, types: str) -> str:
    operator = _OPERATOR.fullmatch(function)
    shown = operator[1] if operator else {"_?_:_": "? :", "_[_]": "[ ]", "@in": "in"}.get(function, function)
    kinds = [_KINDS.get(one.split("(")[0], one) for one in re.split(r", (?![^(]*\))", types)]
    return f"`{shown}` cannot take {' and '.join(kinds)}"


def _sentence(said: str) -> str:
    said = _CODE.sub("", _CODE.sub("", said))
    if found := _NO_OVERLOAD.match(said):
        return _cannot_take(found[1], found[2])
    if found := re.match(r'Key not found in map : "?(.*?)"?$', said):
        return f"`{found[1]}` is not there"
    for known, sentence in _SENTENCES.items():
        if known in said:
            return sentence
    return said


_SENTENCES: Final = {
    "divide by zero": "division by zero",
    "modulus by zero": "division by zero",
    "Iteration budget exceeded": "the loops take more than 10,000 rounds",
    "Applying SELECT to non-message type": "only an object has fields",
    "integer overflow": "the whole number does not fit into 64 bits",
}
