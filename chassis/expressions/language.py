"""From sources to programs: parsed, bounded, resolved and checked; the last ones used are kept."""

from collections import OrderedDict
from typing import Final

from chassis.expressions.absence import ANSWERS, QUESTIONS, spelled_out
from chassis.expressions.bounds import too_complex
from chassis.expressions.costs import KNOWN
from chassis.expressions.engine import Engine, Refused
from chassis.expressions.faults import Flaw
from chassis.expressions.functions import MACROS
from chassis.expressions.program import Program
from chassis.expressions.references import Resolved, resolve
from chassis.expressions.wire import Malformed
from contracts.limits import CEL_SOURCE_BYTES

_KEPT: Final = 1_024
_ABSENT: Final = "`?` stands behind names, fields and numbers, at most ten from there on, and needs an end: `a.?b.orValue(c)` or `a.?b.hasValue()`"


class Language:
    """The engine with the programs that it made. One per process; not for several threads."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._loaded: Engine | None = None
        self._programs: OrderedDict[str, Program | tuple[Flaw, ...]] = OrderedDict()
        self._kept = kept

    @property
    def _engine(self) -> Engine:
        """Made when the first source comes: a process may never see one."""
        if self._loaded is None:
            self._loaded = Engine()
        return self._loaded

    def warm(self) -> "Language":
        """The same with its engine made, for whoever shall not wait for that."""
        self.program("true")
        return self

    def program(self, source: str) -> Program | tuple[Flaw, ...]:
        """The program of a source, or everything that is wrong with it."""
        known = self._programs.get(source)
        if known is not None:
            self._programs.move_to_end(source)
            return known
        made = self._made(source)
        self._programs[source] = made
        if len(self._programs) > self._kept:
            self._programs.popitem(last=False)
        return made

    def _made(self, source: str) -> Program | tuple[Flaw, ...]:
        if (flaw := _unfit(source)) is not None:
            return (flaw,)
        try:
            tree = spelled_out(self._engine.parse(source))
            if (flaw := too_complex(tree)) is not None:
                return (flaw,)
            resolved = resolve(tree)
            if isinstance(resolved, list):
                return tuple(resolved)
            if unknown := _unknown(resolved):
                return unknown
            self._engine.check(source)
        except Refused as refused:
            return refused.flaws
        except Malformed as error:
            return (Flaw(code="syntax", message=f"this syntax is not available here: {error}"),)
        return Program(source, resolved, tree.positions, self._engine)


def _unfit(source: str) -> Flaw | None:
    """What can be told without parsing."""
    if not source.strip():
        return Flaw(code="syntax", message="the expression is empty")
    try:
        size = len(source.encode())
    except UnicodeEncodeError as error:
        return Flaw(code="syntax", message="the text has half a character", offset=error.start)
    if size > CEL_SOURCE_BYTES:
        return Flaw(code="limit", message=f"the expression is longer than {CEL_SOURCE_BYTES} bytes")
    if (nul := source.find("\0")) >= 0:
        return Flaw(code="syntax", message="the text has a NUL character", offset=nul)
    return None


def _unknown(resolved: Resolved) -> tuple[Flaw, ...]:
    return tuple(
        Flaw(
            code="reference",
            message=_misused(name),
            offset=offset,
        )
        for name, offset in resolved.functions.items()
        if name not in KNOWN
    )


def _misused(name: str) -> str:
    if name in QUESTIONS | ANSWERS:
        return _ABSENT
    return (
        f"`{name}` is not used with so many or such arguments"
        if name in MACROS
        else f"there is no function `{name}`"
    )
