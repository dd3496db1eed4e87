"""Numbers as JSON has them: 100 and 100.0 are the same there, so `trigger.body.total * 1.19` takes both.

Standard CEL refuses to mix whole and floating-point numbers. Here they mix and give floating-point numbers.
"""

from collections.abc import Callable, Mapping
from math import inf, nan
from typing import Any, Final

from chassis.expressions import cel

MIXED: Final = ("_+_", "_-_", "_*_", "_/_")
ORDERED: Final = ("_<_", "_<=_", "_>_", "_>=_")


def overload(name: str, result: Any, *takes: Any, does: Callable[..., Any] | None = None) -> Any:
    spelled = "_".join(one.name().lower() for one in takes)
    implementation = {} if does is None else {"impl": does}
    return cel.Overload(f"@{name}_{spelled}", return_type=result, parameters=list(takes), **implementation)


def _divided(one: float, other: float) -> float:
    if other:
        return one / other
    return nan if not one or one != one else inf * one  # noqa: PLR0124  # Only NaN differs from itself.


_OPERATIONS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "_+_": lambda one, other: one + other,
    "_-_": lambda one, other: one - other,
    "_*_": lambda one, other: one * other,
    "_/_": _divided,
}


def mixed_arithmetic() -> list[Any]:
    return [
        cel.FunctionDecl(
            name,
            [
                overload(name, cel.Type.DOUBLE, cel.Type.INT, cel.Type.DOUBLE, does=operation),
                overload(name, cel.Type.DOUBLE, cel.Type.DOUBLE, cel.Type.INT, does=operation),
            ],
        )
        for name, operation in _OPERATIONS.items()
    ]


def arithmetic_types() -> list[Any]:
    """The standard types of the four operations and the mixed ones, for the checker alone."""
    time, span = cel.Type.TIMESTAMP, cel.Type.DURATION
    more = {
        "_+_": [
            (cel.Type.STRING, cel.Type.STRING, cel.Type.STRING),
            (cel.Type.BYTES, cel.Type.BYTES, cel.Type.BYTES),
            (cel.Type.LIST, cel.Type.LIST, cel.Type.LIST),
            (time, time, span),
            (time, span, time),
            (span, span, span),
        ],
        "_-_": [(span, time, time), (time, time, span), (span, span, span)],
    }
    numbers = [
        (cel.Type.INT, cel.Type.INT, cel.Type.INT),
        (cel.Type.UINT, cel.Type.UINT, cel.Type.UINT),
        (cel.Type.DOUBLE, cel.Type.DOUBLE, cel.Type.DOUBLE),
        (cel.Type.DOUBLE, cel.Type.INT, cel.Type.DOUBLE),
        (cel.Type.DOUBLE, cel.Type.DOUBLE, cel.Type.INT),
    ]
    return [
        cel.FunctionDecl(name, [overload(name, *types) for types in (*numbers, *more.get(name, ()))])
        for name in MIXED
    ]


def order_types() -> list[Any]:
    numbers = (cel.Type.INT, cel.Type.UINT, cel.Type.DOUBLE)
    same = [
        (one, one)
        for one in (cel.Type.BOOL, cel.Type.STRING, cel.Type.BYTES, cel.Type.TIMESTAMP, cel.Type.DURATION)
    ]
    pairs = [*same, *((one, other) for one in numbers for other in numbers)]
    return [
        cel.FunctionDecl(name, [overload(name, cel.Type.BOOL, *pair) for pair in pairs]) for name in ORDERED
    ]
