"""The syntax tree of an expression, as the engine parses it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

ZONED: Final = frozenset(
    {
        "getFullYear",
        "getMonth",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    }
)
"""Methods of the engine whose one argument is a time zone."""

Scalar: TypeAlias = bool | int | float | str | bytes | None


class Const(msgspec.Struct, frozen=True, kw_only=True):
    """A literal. `kind` is the wire's field number: null 1, bool 2, int 3, uint 4, double 5, string 6, bytes 7."""

    id: int
    kind: int
    value: Scalar


class Ident(msgspec.Struct, frozen=True, kw_only=True):
    """A name: a root, a comprehension's variable, or a type."""

    id: int
    name: str


class Select(msgspec.Struct, frozen=True, kw_only=True):
    """`operand.field`, or `has(operand.field)` when it only tests."""

    id: int
    operand: "Expr"
    field: str
    test_only: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A function, method or operator; operators are called `_+_`, `_[_]`, `_?_:_` and so on."""

    id: int
    function: str
    target: "Expr | None" = None
    args: "tuple[Expr, ...]" = ()


class ListLiteral(msgspec.Struct, frozen=True, kw_only=True):
    """`[a, b]`."""

    id: int
    elements: "tuple[Expr, ...]" = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """`key: value` in a map literal."""

    id: int
    key: "Expr"
    value: "Expr"


class MapLiteral(msgspec.Struct, frozen=True, kw_only=True):
    """`{key: value}`; with `message`, a protobuf message, which no expression may build."""

    id: int
    message: str = ""
    entries: tuple[Entry, ...] = ()


class Comprehension(msgspec.Struct, frozen=True, kw_only=True):
    """What `map`, `filter`, `all`, `exists`, `exists_one` and `cel.bind` expand to: a bounded loop."""

    id: int
    variable: str
    range: "Expr"
    accumulator: str
    start: "Expr"
    condition: "Expr"
    step: "Expr"
    result: "Expr"


Expr: TypeAlias = Const | Ident | Select | Call | ListLiteral | MapLiteral | Comprehension


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed expression and where each of its parts stands in the source (offsets in characters)."""

    root: Expr
    positions: Mapping[int, int]


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct parts of an expression, in the order of the source where there is one."""
    match expr:
        case Select():
            return (expr.operand,)
        case Call():
            return (expr.target, *expr.args) if expr.target is not None else expr.args
        case ListLiteral():
            return expr.elements
        case MapLiteral():
            return tuple(part for entry in expr.entries for part in (entry.key, entry.value))
        case Comprehension():
            return (expr.range, expr.start, expr.condition, expr.step, expr.result)
        case Const() | Ident():
            return ()


def rebuilt(expr: Expr, made: Callable[[Expr], Expr]) -> Expr:
    """The same expression of other direct parts: what is made of each."""
    replace = msgspec.structs.replace
    match expr:
        case Const() | Ident():
            return expr
        case Select():
            return replace(expr, operand=made(expr.operand))
        case Call():
            target = None if expr.target is None else made(expr.target)
            return replace(expr, target=target, args=tuple(made(arg) for arg in expr.args))
        case ListLiteral():
            return replace(expr, elements=tuple(made(one) for one in expr.elements))
        case MapLiteral():
            entries = (replace(one, key=made(one.key), value=made(one.value)) for one in expr.entries)
            return replace(expr, entries=tuple(entries))
        case Comprehension():
            return replace(
                expr,
                range=made(expr.range),
                start=made(expr.start),
                condition=made(expr.condition),
                step=made(expr.step),
                result=made(expr.result),
            )


def walk(expr: Expr) -> Iterator[Expr]:
    """Every part of an expression, itself first; iterative, so depth cannot overflow the stack."""
    waiting = [expr]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(reversed(children(one)))


def is_binding(loop: Comprehension) -> bool:
    """`cel.bind` is written as a loop over nothing."""
    return isinstance(loop.range, ListLiteral) and not loop.range.elements


def builds_list(loop: Comprehension) -> bool:
    """Whether a loop gathers items: `map` and `filter`."""
    return isinstance(loop.start, ListLiteral) and not loop.start.elements and not is_binding(loop)


def appended(step: Expr) -> tuple[Expr, ...]:
    """The items that one round adds."""
    match step:
        case Call(function="_?_:_", args=(_, added, _)):
            return appended(added)
        case Call(function="_+_", args=(_, ListLiteral(elements=elements))):
            return elements
        case _:
            return ()
