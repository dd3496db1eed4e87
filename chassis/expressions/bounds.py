"""How much an evaluation can cost at most, told from the tree and the sizes of its inputs before the engine starts.

The engine counts the rounds of its loops and nothing else: one round may compare two megabytes, and `[s].map(v, v + v)`
repeated doubles them. So time, memory and the result's size are bounded here; what is beyond runs in a process that may
be killed.

Theory. Every bound is a sum and product of sizes with factors that are not negative. In a loop over a value of size S
the sizes of the items add up to at most S, so for such a function f the rounds together cost at most
n·f(0) + f(S) - f(0): the body is looked at twice, with an empty item and with one as large as all together.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from chassis.expressions.costs import RULES, SCALAR, Size, formatting, matching, regexp
from chassis.expressions.faults import Flaw
from chassis.expressions.tree import (
    Call,
    Comprehension,
    Const,
    Expr,
    Ident,
    ListLiteral,
    MapLiteral,
    Select,
    Tree,
    appended,
    builds_list,
    children,
    is_binding,
    walk,
)
from contracts.limits import CEL_COMPREHENSIONS, CEL_SECONDS, MIB

NANOSECONDS: Final = CEL_SECONDS * 1e9
MEMORY: Final = 32 * MIB
PARTS: Final = 1_000
"""Operators, literals and names in one expression."""
DEPTH: Final = 200
NESTED_LOOPS: Final = 4


class Cost(Struct, frozen=True, kw_only=True):
    """What an evaluation takes at most."""

    nanoseconds: float
    memory: float


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


def cost(root: Expr, inputs: Mapping[str, Size]) -> Cost:
    """The bound for an evaluation with variables of these sizes, taking them in and giving the result included."""
    nanoseconds, memory, result = _visit(root, inputs)
    taken = sum(150 * size.parts + 0.2 * size.bytes for size in inputs.values())
    held = sum(100 * size.parts + size.bytes for size in inputs.values())
    given = 1_500 * result.parts + 0.5 * result.bytes
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
            items=len(parts),
        ),
    )


def _call(call: Call, sizes: Mapping[str, Size]) -> _Found:
    parts = children(call)
    found = [_visit(part, sizes) for part in parts]
    given = [one[2] for one in found]
    if call.function == "matches":
        nanoseconds, size = matching(parts[-1], given)
    elif call.function == "format":
        nanoseconds, size = formatting(call.target, given)
    elif call.function.startswith("regex."):
        nanoseconds, size = regexp(parts[1], given, replacing=call.function == "regex.replace")
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
    base_ns, base_memory = (600, 1_600) if builds else (150, 0)
    empty, whole = (
        _round(loop, {**sizes, loop.variable: item, loop.accumulator: SCALAR})
        for item in (Size(0, 0), Size(over.bytes, over.parts))
    )
    times = over.count
    nanoseconds = times * (empty[0] + base_ns) + whole[0] - empty[0]
    memory = times * (empty[1] + base_memory) + whole[1] - empty[1]
    if not builds:
        return nanoseconds, memory, SCALAR
    size = Size(
        times * (empty[2].bytes + 1) + whole[2].bytes - empty[2].bytes + 2,
        times * (empty[2].parts + 1) + whole[2].parts - empty[2].parts,
        items=times,
    )
    return nanoseconds, memory, size


def _round(loop: Comprehension, sizes: Mapping[str, Size]) -> _Found:
    condition_ns, condition_memory, _ = _visit(loop.condition, sizes)
    step_ns, step_memory, _ = _visit(loop.step, sizes)
    items = [_visit(item, sizes)[2] for item in appended(loop.step)]
    added = Size(sum(item.bytes for item in items), sum(item.parts for item in items))
    return condition_ns + step_ns, condition_memory + step_memory, added
