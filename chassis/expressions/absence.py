"""Values that may be absent: `a.?b.orValue(c)` and `a.?b.hasValue()`, said as `has(a.b) ? a.b : c` and `has(a.b)`.

From the first `?` on every part of the way may be absent. A way begins with a name and goes on by fields and numbers, so that asking
whether something is there reads nothing that would not be read anyway.
"""

from typing import Final

from msgspec import Struct, structs

from chassis.expressions.tree import (
    Call,
    Const,
    Expr,
    Ident,
    Select,
    Tree,
    rebuilt,
    walk,
)

QUESTIONS: Final = frozenset({"_?._", "_[?_]"})
ANSWERS: Final = frozenset({"orValue", "hasValue"})
LONGEST: Final = 10
"""Parts of a way that may be absent."""


class _Part(Struct, frozen=True):
    key: str | int
    id: int
    may_be_absent: bool


class _Way(Struct, frozen=True):
    """How to get to a value: a name, and what comes behind it."""

    start: Ident
    parts: tuple[_Part, ...]
    first: int
    """The first part that may be absent."""


def spelled_out(tree: Tree) -> Tree:
    """The tree without questions. One that belongs to no way stays, and is no function that there is."""
    if not any(isinstance(part, Call) and part.function in QUESTIONS for part in walk(tree.root)):
        return tree
    spelling = _Spelling(tree)
    return Tree(root=spelling.expr(tree.root), positions=spelling.positions)


def _way(expr: Expr | None) -> _Way | None:
    parts: list[_Part] = []
    at = expr
    while True:
        match at:
            case Ident():
                break
            case Select(test_only=False):
                parts.append(_Part(at.field, at.id, may_be_absent=False))
                at = at.operand
            case Call(
                function="_?._" | "_[?_]" | "_[_]",
                args=(operand, Const(value=str() | int() as key, kind=3 | 6)),
            ) if isinstance(key, str) or key >= 0:
                parts.append(_Part(key, at.id, may_be_absent=at.function in QUESTIONS))
                at = operand
            case _:
                return None
    parts.reverse()
    first = next((number for number, part in enumerate(parts) if part.may_be_absent), None)
    if first is None or len(parts) - first > LONGEST:
        return None
    return _Way(at, tuple(parts), first)


class _Spelling:
    def __init__(self, tree: Tree) -> None:
        self.positions = dict(tree.positions)
        self._last_id = max(part.id for part in walk(tree.root))

    def expr(self, expr: Expr) -> Expr:
        way = _way(expr.target) if isinstance(expr, Call) and expr.function in ANSWERS else None
        match expr:
            case Call(function="orValue", args=(otherwise,)) if way is not None:
                there, value = self._is_there(way), self._value(way, len(way.parts))
                return structs.replace(
                    expr, function="_?_:_", target=None, args=(there, value, self.expr(otherwise))
                )
            case Call(function="hasValue", args=()) if way is not None:
                return self._is_there(way)
            case _:
                return rebuilt(expr, self.expr)

    def _is_there(self, way: _Way) -> Expr:
        asked = [self._asked(way, number) for number in range(way.first, len(way.parts))]
        whole = asked[0]
        for number, one in enumerate(asked[1:], way.first + 1):
            whole = Call(id=self._id(way.parts[number].id), function="_&&_", args=(whole, one))
        return whole

    def _asked(self, way: _Way, number: int) -> Expr:
        """Whether a part is there, when all before it is."""
        part, around = way.parts[number], self._value(way, number)
        if isinstance(part.key, str):
            return Select(id=self._id(part.id), operand=around, field=part.key, test_only=True)
        size = Call(id=self._id(part.id), function="size", args=(around,))
        place = Const(id=self._id(part.id), kind=3, value=part.key)
        return Call(id=self._id(part.id), function="_>_", args=(size, place))

    def _value(self, way: _Way, count: int) -> Expr:
        """What is there behind so many parts."""
        value: Expr = Ident(id=self._id(way.start.id), name=way.start.name)
        for part in way.parts[:count]:
            if isinstance(part.key, str):
                value = Select(id=self._id(part.id), operand=value, field=part.key)
            else:
                place = Const(id=self._id(part.id), kind=3, value=part.key)
                value = Call(id=self._id(part.id), function="_[_]", args=(value, place))
        return value

    def _id(self, like: int) -> int:
        """A new one, at the place of another."""
        self._last_id += 1
        if like in self.positions:
            self.positions[self._last_id] = self.positions[like]
        return self._last_id
