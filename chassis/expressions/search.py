"""Which part of an expression failed: the engine tells what went wrong, but not where."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chassis.expressions.bounds import cost
from chassis.expressions.costs import Size
from chassis.expressions.engine import Engine, run
from chassis.expressions.faults import Failed
from chassis.expressions.loops import rewritten
from chassis.expressions.tree import Call, Comprehension, Const, Expr, Ident, children, is_binding, walk

_PARTS: Final = 200
_NANOSECONDS: Final = 500_000


def culprit(root: Expr, values: Mapping[str, Any], engine: Engine) -> Expr:
    """The innermost part outside of loops that fails by itself; the whole when the search would take long."""
    if sum(1 for _ in walk(root)) > _PARTS:
        return root
    try:
        sizes = {name: _size(value) for name, value in values.items()}
    except TypeError:  # A shielded text: only the engine can read it.
        return root
    if cost(root, sizes).nanoseconds > _NANOSECONDS:
        return root
    return _Search(values, engine).within(root)


def _size(value: object) -> Size:
    raw = msgspec.json.encode(value)
    return Size(len(raw), raw.count(b"[") + raw.count(b"{") + raw.count(b","))


class _Search:
    def __init__(self, values: Mapping[str, Any], engine: Engine) -> None:
        self._values = values
        self._engine = engine

    def within(self, expr: Expr) -> Expr:
        """The culprit in an expression that fails."""
        for part in self._tried(expr):
            if self._fails(part):
                return self.within(part)
        return expr

    def _tried(self, expr: Expr) -> tuple[Expr, ...]:
        """The parts that the engine evaluates for sure, or evaluated this time."""
        match expr:
            case Call(function="_?_:_", args=(condition, then, otherwise)):
                return (condition, then if self._holds(condition) else otherwise)
            case Comprehension():
                return (expr.range, expr.start) if is_binding(expr) else (expr.range,)
            case _:
                return children(expr)

    def _fails(self, expr: Expr) -> bool:
        if isinstance(expr, Const | Ident):
            return False
        try:
            self._run(expr)
        except Failed:
            return True
        return False

    def _holds(self, condition: Expr) -> bool:
        try:
            return repr(self._run(condition)) == "true"
        except Failed:
            return False

    def _run(self, expr: Expr) -> Any:
        return run(self._engine.load(rewritten(expr)), self._values)
