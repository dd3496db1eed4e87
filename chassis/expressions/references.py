"""What an expression reads, and its tree made ready for evaluation.

Rule that holds here: a reference such as `trigger.body.total` is one variable. It is looked up in Python, so only the
values that an expression names are handed to the engine, and whatever is not there can be named in full.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final, Literal, TypeAlias

from msgspec import Struct, structs

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
    rebuilt,
    walk,
)

Root: TypeAlias = Literal["trigger", "steps", "run", "vars", "item", "index"]
ROOTS: Final[tuple[Root, ...]] = ("trigger", "steps", "run", "vars", "item", "index")
STEP_FIELDS: Final = ("output", "status", "error", "resume_url")
TYPES: Final = frozenset(
    {"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"}
)
NAMESPACES: Final = frozenset({"base64", "cel", "math", "regex", "sets", "strings"})

Place: TypeAlias = tuple[str | int, ...]
"""The way to a value: a root, then names of fields and indexes of lists."""


class Reference(Struct, frozen=True, kw_only=True):
    """A value that an expression reads, or (`tested`) asks whether it is there."""

    place: Place
    offset: int
    """Where the reference begins in the source."""
    tested: bool = False


def spelled(place: Place) -> str:
    """A place as people write it."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if number else part
        for number, part in enumerate(place)
    )


class Resolved(Struct, frozen=True, kw_only=True):
    """A tree in which every reference has become a variable `@0`, `@1`, …: the index of its reference."""

    root: Expr
    references: tuple[Reference, ...]
    functions: Mapping[str, int]
    """Every function, method and operator that is called, with the offset of its first call."""

    @property
    def only(self) -> Reference | None:
        """The reference, when there is nothing else in the expression."""
        if not isinstance(self.root, Ident) or not self.references or self.references[0].tested:
            return None
        return self.references[0]


def resolve(tree: Tree) -> Resolved | list[Flaw]:
    """Replace references by variables; or every reason why not."""
    resolving = _Resolving(tree)
    root = resolving.expr(tree.root, frozenset())
    if resolving.flaws:
        return sorted(resolving.flaws, key=lambda flaw: flaw.offset)
    return Resolved(root=root, references=tuple(resolving.references.values()), functions=resolving.functions)


class _Resolving:
    def __init__(self, tree: Tree) -> None:
        self._positions = tree.positions
        self.references: dict[tuple[Place, bool], Reference] = {}
        self.functions: dict[str, int] = {}
        self.flaws: list[Flaw] = []

    def expr(self, expr: Expr, local: frozenset[str]) -> Expr:
        if (found := _place(expr, local)) is not None:
            return self._variable(expr, found)
        match expr:
            case Const():
                return expr
            case Ident():
                if expr.name not in local and expr.name not in TYPES:
                    self._unknown(expr)
                return expr
            case Select() | ListLiteral():
                return rebuilt(expr, partial(self.expr, local=local))
            case Call():
                return self._call(expr, local)
            case MapLiteral():
                return self._map(expr, local)
            case Comprehension():
                return self._comprehension(expr, local)

    def _variable(self, expr: Expr, place: Place) -> Expr:
        tested = isinstance(expr, Select) and expr.test_only
        named = expr.operand if isinstance(expr, Select) and tested else expr
        start = min(self._offset(part) for part in walk(named))
        if place[0] == "steps" and (message := _misused(place)) is not None:
            self.flaws.append(Flaw(code="reference", message=message, offset=start))
            return expr
        reference = self.references.setdefault(
            (place, tested), Reference(place=place, offset=start, tested=tested)
        )
        number = list(self.references.values()).index(reference)
        return Ident(id=expr.id, name=f"@{number}")

    def _unknown(self, ident: Ident) -> None:
        message = f"`{ident.name}` is unknown; there are {', '.join(ROOTS)}"
        self.flaws.append(Flaw(code="reference", message=message, offset=self._offset(ident)))

    def _call(self, call: Call, local: frozenset[str]) -> Expr:
        target, name = call.target, call.function
        if isinstance(target, Ident) and target.name in NAMESPACES and target.name not in local:
            name, target = f"{target.name}.{name}", None
        self.functions.setdefault(name, self._offset(call))
        named = structs.replace(call, function=name, target=target)
        return rebuilt(named, partial(self.expr, local=local))

    def _map(self, literal: MapLiteral, local: frozenset[str]) -> Expr:
        if literal.message:
            message = f"`{literal.message}` cannot be built here; maps are written {{…}}"
            self.flaws.append(Flaw(code="reference", message=message, offset=self._offset(literal)))
        for entry in literal.entries:
            if isinstance(entry.key, Const) and isinstance(entry.key.value, bool):
                message = "a name in a map is a text or a whole number"
                self.flaws.append(Flaw(code="type", message=message, offset=self._offset(entry.key)))
        return rebuilt(literal, partial(self.expr, local=local))

    def _comprehension(self, loop: Comprehension, local: frozenset[str]) -> Expr:
        for name in (loop.variable, loop.accumulator):
            if name in ROOTS or name in TYPES or name in NAMESPACES:
                message = f"`{name}` has a meaning of its own; call the variable something else"
                self.flaws.append(Flaw(code="reference", message=message, offset=self._offset(loop)))
        inside = local | {loop.variable, loop.accumulator}
        return Comprehension(
            id=loop.id,
            variable=loop.variable,
            range=self.expr(loop.range, local),
            accumulator=loop.accumulator,
            start=self.expr(loop.start, local),
            condition=self.expr(loop.condition, inside),
            step=self.expr(loop.step, inside),
            result=self.expr(loop.result, local | {loop.accumulator}),
        )

    def _offset(self, expr: Expr) -> int:
        return self._positions.get(expr.id, 0)


def _place(expr: Expr, local: frozenset[str]) -> Place | None:
    """The place that an expression names; None when it is anything but a root with constant fields and indexes."""
    parts: list[str | int] = []
    at = expr
    while True:
        match at:
            case Ident():
                if at.name in local or at.name not in ROOTS:
                    return None
                return (at.name, *reversed(parts))
            case Select() if at is expr or not at.test_only:
                parts.append(at.field)
                at = at.operand
            case Call(function="_[_]", args=(operand, Const(value=str() | int() as index, kind=3 | 6))):
                parts.append(index)
                at = operand
            case _:
                return None


def _misused(place: Place) -> str | None:
    """What is wrong with a reference to a step."""
    if len(place) < 2 or not isinstance(place[1], str):
        return "`steps` needs the id of a node: `steps.<node>.output`"
    if len(place) < 3 or place[2] not in STEP_FIELDS:
        return f"`steps.{place[1]}` has {', '.join(STEP_FIELDS)}, nothing else"
    return None


class Scope(Struct, frozen=True, kw_only=True):
    """What the expressions of one node may refer to."""

    nodes: frozenset[str]
    """The nodes that come before it on every or some path."""
    known: frozenset[str] = frozenset()
    """All nodes of the workflow, for a better message."""
    item: bool = False
    """Whether the node is run once for each item of a list."""
    waits: frozenset[str] = frozenset()
    """The nodes that wait for an approval or a call, here or around: their addresses are known before they do."""


_OF_ITEMS: Final = frozenset({"item", "index"})


def beyond(references: tuple[Reference, ...], scope: Scope) -> Iterator[Flaw]:
    """The references that the scope does not allow."""
    for reference in references:
        root, *rest = reference.place
        if root in _OF_ITEMS and not scope.item:
            yield Flaw(
                code="reference",
                message=f"`{root}` is there only inside a map or a loop",
                offset=reference.offset,
            )
        if root == "steps" and rest[1] == "resume_url":
            if rest[0] not in scope.waits:
                message = f"`{rest[0]}` is no node in reach that waits for an approval or a call"
                yield Flaw(code="reference", message=message, offset=reference.offset)
        elif root == "steps" and rest[0] not in scope.nodes:
            node = rest[0]
            message = (
                f"`{node}` does not come before this node"
                if node in scope.known
                else f"there is no node `{node}`"
            )
            yield Flaw(code="reference", message=message, offset=reference.offset)


class Reads(Struct, frozen=True, kw_only=True):
    """What must be at hand before an evaluation."""

    nodes: frozenset[str] = frozenset()
    trigger: bool = False
    run: bool = False
    vars: bool = False
    item: bool = False

    def __or__(self, other: "Reads") -> "Reads":
        return Reads(
            nodes=self.nodes | other.nodes,
            trigger=self.trigger or other.trigger,
            run=self.run or other.run,
            vars=self.vars or other.vars,
            item=self.item or other.item,
        )


def reads(references: tuple[Reference, ...]) -> Reads:
    roots = {reference.place[0] for reference in references}
    return Reads(
        nodes=frozenset(str(reference.place[1]) for reference in references if reference.place[0] == "steps"),
        trigger="trigger" in roots,
        run="run" in roots,
        vars="vars" in roots,
        item=not roots.isdisjoint(_OF_ITEMS),
    )
