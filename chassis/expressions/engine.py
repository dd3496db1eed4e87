"""The engine: Google's CEL in C++, with its traps closed.

Rules that hold here, each with its test:
* The engine hands out `None` without taking a reference to it. Each null in a result would cost one, and after some
  5,000 the interpreter would die; so they are paid back.
* Text with a NUL goes in as a protobuf `StringValue`, because a plain `str` ends at the NUL.
* An error comes back as a value; its type is looked at before anything else.
* The engine takes the name of a time zone for a path and opens it, so only names that we know reach it.
* The engine's maps have no order of their own. Loops over one go by sorted names, and results are sorted too, except
  where the source or the input says an order.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from chassis.expressions import cel
from chassis.expressions.arithmetic import (
    MIXED,
    ORDERED,
    arithmetic_types,
    mixed_arithmetic,
    order_types,
    overload,
)
from chassis.expressions.faults import Failed, Flaw, OutOfMemory
from chassis.expressions.own import own_functions
from chassis.expressions.references import ROOTS
from chassis.expressions.shield import shielded
from chassis.expressions.tree import Expr, Tree
from chassis.expressions.wire import read, write
from chassis.expressions.wording import flaws, sentence
from chassis.expressions.zones import bind_engine, known

_EXTENSIONS: Final = ("bindings", "encoders", "lists", "math", "optional", "regex", "sets", "strings")
"""`optional` because `regex` wants it; none of its own functions is known to `costs`, so none exists here."""
IN_ORDER: Final = "@in_order"
"""Sorts a list of a map's names. Only trees made here can call it: no source can spell it."""
ZONE: Final = "@zone"
"""Gives the name of a time zone that is known, and fails for any other. Only trees made here can call it."""
CHOICE: Final = "_?_:_"
_NO_MEMORY: Final = "the expression takes more memory than it may"


class Refused(Exception):
    """The engine does not take a source."""

    def __init__(self, flaws: Sequence[Flaw]) -> None:
        super().__init__(flaws[0].message)
        self.flaws = tuple(flaws)


class Engine:
    """Parses, checks and runs. One per process; not for several threads."""

    def __init__(self) -> None:
        bind_engine()
        own = own_functions()
        self._checks = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(_environment(exclude=(*MIXED, *ORDERED, CHOICE))),
            variables=dict.fromkeys(ROOTS, cel.Type.DYN),
            functions=[*arithmetic_types(), *order_types(), _choice_type(), *own],
        )
        self._runs = cel.NewEnv(
            config=cel.NewEnvConfigFromYaml(_environment()),
            functions=[*mixed_arithmetic(), _in_order(), _zone(), *own],
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
            raise Refused(flaws(str(error), source)) from error

    def load(self, root: Expr) -> Any:
        """A program from a resolved tree."""
        return self._runs.deserialize(write(root))


def _environment(exclude: Sequence[str] = ()) -> str:
    lines = ["name: expressions", "extensions:", *(f"- name: {name}" for name in _EXTENSIONS)]
    if exclude:
        lines += ["stdlib:", "  exclude_functions:", *(f'  - name: "{name}"' for name in exclude)]
    return "\n".join(lines) + "\n"


def _choice_type() -> Any:
    """Standard CEL wants one type on both sides, so it refuses `paid ? total : null`."""
    return cel.FunctionDecl(
        CHOICE, [overload(CHOICE, cel.Type.DYN, cel.Type.BOOL, cel.Type.DYN, cel.Type.DYN)]
    )


def _in_order() -> Any:
    def in_order(names: list[Any]) -> Any:
        return shielded(sorted(names, key=lambda name: (type(name).__name__, name)))

    return cel.FunctionDecl(IN_ORDER, [overload(IN_ORDER, cel.Type.LIST, cel.Type.LIST, does=in_order)])


def _zone() -> Any:
    return cel.FunctionDecl(ZONE, [overload(ZONE, cel.Type.STRING, cel.Type.STRING, does=known)])


def run(program: Any, values: Mapping[str, Any]) -> Any:
    """The engine's result. Raises `Failed` when it is an error."""
    try:
        result = program.eval(data=values)
    except MemoryError as error:
        raise OutOfMemory(_NO_MEMORY) from error
    except (RuntimeError, ValueError, LookupError) as error:
        raise Failed(sentence(str(error))) from error
    if result.type().name() == "ERROR":
        raise Failed(sentence(result.value()))
    return result
