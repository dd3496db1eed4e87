"""What each function costs at most, and how large what it gives can be, told from the sizes of its arguments.

The factors are nanoseconds and bytes, measured on a slow core and rounded up. They hold for what the engine does with
the worst values of that size, and every rule is a sum of products of sizes, so that `bounds` may add them up in loops.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from chassis.expressions.tree import ZONED, Const, Expr


class Size(Struct, frozen=True):
    """An upper bound of a value: its encoded bytes, and the items and members in it on all levels."""

    bytes: float
    parts: float = 0
    text: bool = False
    """Surely text (or a number), so that bytes are copied and compared at memory speed."""
    items: float | None = None
    """The items in it on the first level alone; None: not known, so all of its parts."""

    @property
    def count(self) -> float:
        return self.parts if self.items is None else self.items


SCALAR: Final = Size(32, text=True)
Rule: TypeAlias = Callable[[Sequence[Size]], tuple[float, Size]]
"""From the sizes of the arguments to nanoseconds and the size of what is given."""


def _bytes(sizes: Sequence[Size]) -> float:
    return sum(size.bytes for size in sizes)


def _parts(sizes: Sequence[Size]) -> float:
    return sum(size.parts for size in sizes)


def _count(sizes: Sequence[Size]) -> float:
    return sum(size.count for size in sizes)


def _quick(_sizes: Sequence[Size]) -> tuple[float, Size]:
    return 200, SCALAR


def _part_of_time(sizes: Sequence[Size]) -> tuple[float, Size]:
    """With a time zone, which Python looks at first."""
    return (10_000 + 2 * sizes[1].bytes if len(sizes) > 1 else 200), SCALAR


def _scan(per_byte: float) -> Rule:
    """Looks at every byte, gives a number or a truth."""

    def rule(sizes: Sequence[Size]) -> tuple[float, Size]:
        return 200 + per_byte * _bytes(sizes), SCALAR

    return rule


def _copy(per_byte: float, factor: float = 1) -> Rule:
    """Gives a text that is at most `factor` times as large as what it got."""

    def rule(sizes: Sequence[Size]) -> tuple[float, Size]:
        given = factor * _bytes(sizes) + 32
        return 200 + per_byte * given, Size(given, text=True)

    return rule


def _items(per_part: float) -> Rule:
    """Gives a list of what it got."""

    def rule(sizes: Sequence[Size]) -> tuple[float, Size]:
        given = Size(_bytes(sizes), _parts(sizes), items=_count(sizes))
        return 200 + per_part * given.count + 4 * given.bytes, given

    return rule


def _flat(sizes: Sequence[Size]) -> tuple[float, Size]:
    return 200 + 100 * sizes[0].parts, Size(sizes[0].bytes, sizes[0].parts)


def _same(sizes: Sequence[Size]) -> tuple[float, Size]:
    return 150, Size(_bytes(sizes), _parts(sizes), items=_count(sizes))


def _choice(sizes: Sequence[Size]) -> tuple[float, Size]:
    """One of two; their sum, because a greater of two would break the law of loops."""
    both = sizes[1:]
    return 100, Size(_bytes(both), _parts(both), text=all(size.text for size in both), items=_count(both))


def _element(sizes: Sequence[Size]) -> tuple[float, Size]:
    return 150 + _bytes(sizes[1:]), sizes[0]


def _plus(sizes: Sequence[Size]) -> tuple[float, Size]:
    text = any(size.text for size in sizes)
    given = Size(_bytes(sizes), _parts(sizes), text=text, items=_count(sizes))
    return 150 + (0.2 * given.bytes if text else 20 * given.count + 0.2 * given.bytes), given


def _equal(sizes: Sequence[Size]) -> tuple[float, Size]:
    if any(size.text for size in sizes):
        return 150 + 0.2 * _bytes(sizes), SCALAR
    return 150 + 100 * _parts(sizes) + 0.2 * _bytes(sizes), SCALAR


def _split(sizes: Sequence[Size]) -> tuple[float, Size]:
    whole = sizes[0].bytes
    return 200 + 100 * whole, Size(4 * whole + 2, whole + 1)


def _join(sizes: Sequence[Size]) -> tuple[float, Size]:
    between = sizes[1].bytes if len(sizes) > 1 else 0
    given = sizes[0].bytes + (sizes[0].count + 1) * between
    return 200 + 50 * sizes[0].count + 5 * given, Size(given, text=True)


def _replace(sizes: Sequence[Size]) -> tuple[float, Size]:
    given = sizes[0].bytes + (sizes[0].bytes + 1) * sizes[2].bytes
    return 200 + 40 * sizes[0].bytes + given, Size(given, text=True)


def formatting(pattern: Expr | None, sizes: Sequence[Size]) -> tuple[float, Size]:
    """A clause gives its argument; a number has 64 digits (`%b`), 400 (`%f`) or 1,400 (`%.1000f`)."""
    digits = 700 * sizes[0].bytes
    if isinstance(pattern, Const) and isinstance(pattern.value, str):
        each = 1_400 if "%." in pattern.value else 400 if "%f" in pattern.value else 64
        digits = sizes[0].bytes + each * pattern.value.count("%")
    given = digits + 8 * _bytes(sizes[1:])
    return 500 + 5 * given + 200 * _parts(sizes), Size(given, text=True)


def _pairs(sizes: Sequence[Size]) -> tuple[float, Size]:
    """Compares everything with everything."""
    one, other = sizes[0], sizes[-1]
    # Comparing one with all others looks at every part of theirs.
    compared = (one.count + 1) * (other.parts + 1) + (other.count + 1) * (one.parts + 1)
    return 200 + 60 * compared, Size(one.bytes, one.parts, items=one.count)


def _sets(sizes: Sequence[Size]) -> tuple[float, Size]:
    return 2 * _pairs(sizes)[0], SCALAR


_REPEATED: Final = re.compile(r"\{\d*,?(\d*)\}")


def _program(pattern: Expr, size: Size) -> float:
    program = 1_000 * size.bytes
    if isinstance(pattern, Const) and isinstance(pattern.value, str):
        program = 6.0 * len(pattern.value) + 1_000 * pattern.value.lower().count("\\p")
        for repeated in _REPEATED.finditer(pattern.value):
            program *= max(1, *(int(number) for number in re.findall(r"\d{1,4}", repeated[0])), 1)
    return program


def matching(pattern: Expr, sizes: Sequence[Size]) -> tuple[float, Size]:
    """RE2 takes time in proportion to text times program, and the square of the program to make it."""
    program = _program(pattern, sizes[-1])
    return 5_000 + program * program / 4 + 3 * program * sizes[0].bytes, SCALAR


def regexp(pattern: Expr, sizes: Sequence[Size], *, replacing: bool) -> tuple[float, Size]:
    """All matches: each may look at the whole text before it is sure of its end, but quickly after the first."""
    text, program = sizes[0].bytes, _program(pattern, sizes[1])
    nanoseconds = matching(pattern, sizes[:2])[0] + (3 + program / 8) * text * text
    if not replacing:
        return nanoseconds, Size(8 * text + 8, text + 1)
    # Between all letters, and each `\\1` in it gives the whole text at most, all matches together.
    given = text + (text + 1) * sizes[2].bytes + text * sizes[2].bytes / 2
    return nanoseconds + 3 * given, Size(given, text=True)


# --- Functions of our own, which Python runs ------------------------------------------------------


def _python(base: float, per_byte: float, factor: float = 0, extra: float = 32) -> Rule:
    """Gives a scalar, or a text that is at most `factor` times as large as what it got and `extra` bytes."""

    def rule(sizes: Sequence[Size]) -> tuple[float, Size]:
        whole = _bytes(sizes)
        return base + per_byte * whole, Size(factor * whole + extra, text=True)

    return rule


def _format_date(sizes: Sequence[Size]) -> tuple[float, Size]:
    """A letter gives a word at most, or the name of the zone."""
    pattern, zone = sizes[1].bytes, sizes[2].bytes if len(sizes) > 2 else 3
    return 15_000 + 500 * pattern + 2 * _bytes(sizes), Size(10 * pattern + pattern * zone + 32, text=True)


def _parse_json(sizes: Sequence[Size]) -> tuple[float, Size]:
    """`1e15` becomes a number of 18 digits."""
    whole = sizes[0].bytes
    return 5_000 + 400 * whole, Size(6 * whole + 2, whole)


def _to_json(sizes: Sequence[Size]) -> tuple[float, Size]:
    """`1e15` becomes a number of 18 digits; a control character becomes six, the first of which is escaped once more."""
    whole = sizes[0]
    return 10_000 + 8_000 * whole.parts + 20 * whole.bytes, Size(7 * whole.bytes + 32, text=True)


def _sum(sizes: Sequence[Size]) -> tuple[float, Size]:
    return 5_000 + 400 * sizes[0].parts + 2 * sizes[0].bytes, SCALAR


_QUICK: Final = [
    "!_",
    "-_",
    "_%_",
    "_&&_",
    "_||_",
    "@not_strictly_false",
    "type",
    "math.@max",
    "math.@min",
    "math.ceil",
    "math.floor",
    "math.round",
    "math.trunc",
    "math.abs",
    "math.sign",
    "math.isInf",
    "math.isNaN",
    "math.isFinite",
    "math.sqrt",
    "math.bitAnd",
    "math.bitOr",
    "math.bitXor",
    "math.bitNot",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "_*_",
    "_/_",
    "_-_",
    "bool",
]  # Forty quotation marks less.

RULES: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(_QUICK, _quick),
    **dict.fromkeys(ZONED, _part_of_time),
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_", "startsWith", "endsWith"), _scan(0.2)),
    **dict.fromkeys(("int", "uint", "double", "duration", "timestamp", "contains"), _scan(2)),
    **dict.fromkeys(("indexOf", "lastIndexOf"), _scan(5)),
    **dict.fromkeys(("lowerAscii", "upperAscii", "bytes", "string"), _copy(2)),
    **dict.fromkeys(("trim", "substring", "charAt"), _copy(4)),
    "strings.quote": _copy(6, 2),
    "base64.encode": _copy(2, 2),
    "base64.decode": _copy(2),
    "_+_": _plus,
    "_==_": _equal,
    "_!=_": _equal,
    "size": _scan(1),
    "@in": _equal,
    "_[_]": _element,
    "_?_:_": _choice,
    "dyn": _same,
    "split": _split,
    "join": _join,
    "replace": _replace,
    "reverse": _items(100),
    "slice": _items(50),
    "flatten": _flat,
    "sort": _items(500),
    "@sortByAssociatedKeys": _items(500),
    "distinct": _pairs,
    **dict.fromkeys(("add", "startOf", "diff"), _python(20_000, 2)),
    "formatDate": _format_date,
    "parseDate": _python(30_000, 700),
    **dict.fromkeys(("upper", "lower"), _python(5_000, 60, 3)),
    "urlEncode": _python(10_000, 300, 3),
    "htmlEscape": _python(5_000, 60, 6),
    "urlDecode": _python(10_000, 300, 1),
    **dict.fromkeys(("padStart", "padEnd"), _python(10_000, 60, 1, 4_032)),
    "parseJson": _parse_json,
    "toJson": _to_json,
    "math.sum": _sum,
    "sets.contains": _sets,
    "sets.intersects": _sets,
    "sets.equivalent": _sets,
}
"""Every function, operator and method that an expression may call, and its cost; what is not here does not exist."""
KNOWN: Final = frozenset({*RULES, "matches", "format", "regex.replace", "regex.extractAll"})
