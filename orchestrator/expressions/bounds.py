"""How much an evaluation can cost at most, told from the tree and the sizes of its inputs before the engine starts.

The engine counts the rounds of its loops and nothing else: one round may compare two megabytes, and `[s].map(v, v + v)`
repeated doubles them. So time, memory and the result's size are bounded here; what is beyond runs in a process that may
be killed.

Theory. Every bound is a sum and product of sizes with factors that are not negative. In a loop over a value of size S
the sizes of the items add up to at most S, so for such a function f the rounds together cost at most
n·f(0) + f(S) - f(0): the body is looked at twice, with an empty item and with one as large as all together.
The factors are nanoseconds and bytes, measured on a slow core and rounded up.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from contracts.limits import CEL_COMPREHENSIONS, CEL_SECONDS, MIB
from orchestrator.expressions.faults import Flaw
from orchestrator.expressions.tree import (
    Call,
    Comprehension,
    Const,
    Expr,
    Ident,
    ListLiteral,
    MapLiteral,
    Select,
    Tree,
    children,
    walk,
)

NANOSECONDS: Final = CEL_SECONDS * 1e9
MEMORY: Final = 32 * MIB
PARTS: Final = 1_000
"""Operators, literals and names in one expression."""
DEPTH: Final = 200
NESTED_LOOPS: Final = 4
ITERATIONS: Final = 10_000
"""What the engine allows in one evaluation, all loops together."""


class Size(Struct, frozen=True):
    """An upper bound of a value: its encoded bytes, and the items and members in it on all levels."""

    bytes: float
    parts: float = 0
    text: bool = False
    """Surely text (or a number), so that bytes are copied and compared at memory speed."""


class Cost(Struct, frozen=True, kw_only=True):
    """What an evaluation takes at most."""

    nanoseconds: float
    memory: float


SCALAR: Final = Size(32, text=True)
Rule: TypeAlias = Callable[[Sequence[Size]], tuple[float, Size]]
"""From the sizes of the arguments to nanoseconds and the size of what is given."""


def too_complex(tree: Tree) -> Flaw | None:
    """Whether an expression has more in it than one may have."""
    loops = [part for part in walk(tree.root) if isinstance(part, Comprehension) and not is_binding(part)]
    depth, nested = _depths(tree.root)
    if sum(1 for _ in walk(tree.root)) > PARTS:
        message = f"the expression has more than {PARTS} parts"
    elif depth > DEPTH:
        message = "the expression is nested too deep"
    elif len(loops) > CEL_COMPREHENSIONS:
        message = f"the expression has more than {CEL_COMPREHENSIONS} loops (map, filter, all, exists, …)"
    elif nested > NESTED_LOOPS:
        message = f"loops stand in loops more than {NESTED_LOOPS} deep"
    else:
        return None
    return Flaw(code="limit", message=message)


def _depths(root: Expr) -> tuple[int, int]:
    """How deep the tree is, and how many loops are around its innermost part."""
    deepest = most = 0
    waiting: list[tuple[Expr, int, int]] = [(root, 1, 0)]
    while waiting:
        expr, depth, loops = waiting.pop()
        deepest, most = max(deepest, depth), max(most, loops)
        if isinstance(expr, Comprehension):
            around = (expr.range, expr.start, expr.result)
            waiting.extend((part, depth + 1, loops) for part in around)
            inner = loops if is_binding(expr) else loops + 1
            waiting.extend((part, depth + 1, inner) for part in (expr.condition, expr.step))
        else:
            waiting.extend((part, depth + 1, loops) for part in children(expr))
    return deepest, most


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


def cost(root: Expr, inputs: Mapping[str, Size]) -> Cost:
    """The bound for an evaluation with variables of these sizes, taking them in and giving the result included."""
    nanoseconds, memory, result = _visit(root, inputs)
    taken = sum(150 * size.parts + 0.2 * size.bytes for size in inputs.values())
    held = sum(100 * size.parts + size.bytes for size in inputs.values())
    given = 1_000 * result.parts + 0.5 * result.bytes
    return Cost(
        nanoseconds=2_000 + taken + nanoseconds + given,
        memory=held + memory + 200 * result.parts + 2 * result.bytes,
    )


_Found: TypeAlias = tuple[float, float, Size]
"""Nanoseconds, bytes allocated, and the size of the value."""


def _visit(expr: Expr, sizes: Mapping[str, Size]) -> _Found:
    match expr:
        case Const():
            return 50, 0, _literal(expr)
        case Ident():
            return 50, 0, sizes.get(expr.name, SCALAR)
        case Select():
            nanoseconds, memory, size = _visit(expr.operand, sizes)
            return nanoseconds + 150, memory, SCALAR if expr.test_only else size
        case Call():
            return _call(expr, sizes)
        case ListLiteral():
            return _gathered(expr.elements, sizes)
        case MapLiteral():
            return _gathered(children(expr), sizes)
        case Comprehension():
            return _loop(expr, sizes)


def _literal(const: Const) -> Size:
    if isinstance(const.value, str):
        return Size(4.0 * len(const.value) + 2, text=True)
    if isinstance(const.value, bytes):
        return Size(4.0 * len(const.value) + 2, text=True)
    return SCALAR


def _gathered(parts: Sequence[Expr], sizes: Mapping[str, Size]) -> _Found:
    found = [_visit(part, sizes) for part in parts]
    return (
        sum(one[0] for one in found) + 150 * len(parts) + 100,
        sum(one[1] for one in found) + 64 * len(parts) + 64,
        Size(
            2 + sum(one[2].bytes + 1 for one in found),
            sum(one[2].parts + 1 for one in found),
        ),
    )


def _call(call: Call, sizes: Mapping[str, Size]) -> _Found:
    parts = children(call)
    found = [_visit(part, sizes) for part in parts]
    given = [one[2] for one in found]
    if call.function == "matches":
        nanoseconds, size = _matches(parts[-1], given)
    elif call.function == "format":
        nanoseconds, size = _format(call.target, given)
    else:
        nanoseconds, size = RULES[call.function](given)
    memory = 0 if size is SCALAR else size.bytes + 32 * size.parts
    return (
        sum(one[0] for one in found) + nanoseconds,
        sum(one[1] for one in found) + memory,
        size,
    )


def _loop(loop: Comprehension, sizes: Mapping[str, Size]) -> _Found:
    range_ns, range_memory, over = _visit(loop.range, sizes)
    start_ns, start_memory, start = _visit(loop.start, sizes)
    if is_binding(loop):
        rounds_ns, rounds_memory, gathered = 0.0, 0.0, start
    else:
        rounds_ns, rounds_memory, gathered = _rounds(loop, over, sizes)
    result_ns, result_memory, result = _visit(loop.result, {**sizes, loop.accumulator: gathered})
    return (
        range_ns + start_ns + rounds_ns + result_ns + 300,
        range_memory + start_memory + rounds_memory + result_memory,
        result,
    )


def _rounds(loop: Comprehension, over: Size, sizes: Mapping[str, Size]) -> _Found:
    """All rounds together, by the law at the top of this page."""
    builds = builds_list(loop)
    base_ns, base_memory = (1_000, 1_200) if builds else (150, 0)
    empty, whole = (
        _round(loop, {**sizes, loop.variable: item, loop.accumulator: SCALAR})
        for item in (Size(0, 0), Size(over.bytes, over.parts))
    )
    times = over.parts + 1
    nanoseconds = times * (empty[0] + base_ns) + whole[0] - empty[0]
    memory = times * (empty[1] + base_memory) + whole[1] - empty[1]
    if not builds:
        return nanoseconds, memory, SCALAR
    size = Size(
        times * (empty[2].bytes + 1) + whole[2].bytes - empty[2].bytes + 2,
        times * (empty[2].parts + 1) + whole[2].parts - empty[2].parts,
    )
    return nanoseconds, memory, size


def _round(loop: Comprehension, sizes: Mapping[str, Size]) -> _Found:
    condition_ns, condition_memory, _ = _visit(loop.condition, sizes)
    step_ns, step_memory, _ = _visit(loop.step, sizes)
    items = [_visit(item, sizes)[2] for item in appended(loop.step)]
    added = Size(sum(item.bytes for item in items), sum(item.parts for item in items))
    return condition_ns + step_ns, condition_memory + step_memory, added


# --- What functions cost -------------------------------------------------------------------------------------------


def _bytes(sizes: Sequence[Size]) -> float:
    return sum(size.bytes for size in sizes)


def _parts(sizes: Sequence[Size]) -> float:
    return sum(size.parts for size in sizes)


def _quick(_sizes: Sequence[Size]) -> tuple[float, Size]:
    return 200, SCALAR


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
        return 200 + per_part * _parts(sizes) + 4 * _bytes(sizes), Size(_bytes(sizes), _parts(sizes))

    return rule


def _same(sizes: Sequence[Size]) -> tuple[float, Size]:
    return 150, Size(_bytes(sizes), _parts(sizes))


def _choice(sizes: Sequence[Size]) -> tuple[float, Size]:
    """One of two; their sum, because a greater of two would break the law of loops."""
    both = sizes[1:]
    return 100, Size(_bytes(both), _parts(both), text=all(size.text for size in both))


def _element(sizes: Sequence[Size]) -> tuple[float, Size]:
    return 150 + _bytes(sizes[1:]), sizes[0]


def _plus(sizes: Sequence[Size]) -> tuple[float, Size]:
    text = any(size.text for size in sizes)
    given = Size(_bytes(sizes), _parts(sizes), text=text)
    return 150 + (0.2 * given.bytes if text else 20 * given.parts + 0.2 * given.bytes), given


def _equal(sizes: Sequence[Size]) -> tuple[float, Size]:
    if any(size.text for size in sizes):
        return 150 + 0.2 * _bytes(sizes), SCALAR
    return 150 + 100 * _parts(sizes) + 0.2 * _bytes(sizes), SCALAR


def _split(sizes: Sequence[Size]) -> tuple[float, Size]:
    whole = sizes[0].bytes
    return 200 + 100 * whole, Size(4 * whole + 2, whole + 1)


def _join(sizes: Sequence[Size]) -> tuple[float, Size]:
    between = sizes[1].bytes if len(sizes) > 1 else 0
    given = sizes[0].bytes + (sizes[0].parts + 1) * between
    return 200 + 50 * sizes[0].parts + 5 * given, Size(given, text=True)


def _replace(sizes: Sequence[Size]) -> tuple[float, Size]:
    given = sizes[0].bytes + (sizes[0].bytes + 1) * sizes[2].bytes
    return 200 + 40 * sizes[0].bytes + given, Size(given, text=True)


def _format(pattern: Expr | None, sizes: Sequence[Size]) -> tuple[float, Size]:
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
    return 200 + 100 * (one.parts + 1) * (other.parts + 1), Size(one.bytes, one.parts)


def _sets(sizes: Sequence[Size]) -> tuple[float, Size]:
    return 2 * _pairs(sizes)[0], SCALAR


_REPEATED: Final = re.compile(r"\{\d*,?(\d*)\}")


def _matches(pattern: Expr, sizes: Sequence[Size]) -> tuple[float, Size]:
    """RE2 takes time in proportion to text times program, and the square of the program to make it."""
    program = 1_000 * sizes[-1].bytes
    if isinstance(pattern, Const) and isinstance(pattern.value, str):
        program = 6.0 * len(pattern.value) + 1_000 * pattern.value.lower().count("\\p")
        for repeated in _REPEATED.finditer(pattern.value):
            program *= max(1, *(int(number) for number in re.findall(r"\d{1,4}", repeated[0])), 1)
    return 5_000 + program * program / 4 + 3 * program * sizes[0].bytes, SCALAR


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
    "_*_",
    "_/_",
    "_-_",
    "bool",
]  # Forty quotation marks less.

RULES: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(_QUICK, _quick),
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
    "flatten": _items(100),
    "sort": _items(500),
    "@sortByAssociatedKeys": _items(500),
    "distinct": _pairs,
    "sets.contains": _sets,
    "sets.intersects": _sets,
    "sets.equivalent": _sets,
}
"""Every function, operator and method that an expression may call, and its cost; what is not here does not exist."""
KNOWN: Final = frozenset({*RULES, "matches", "format"})
