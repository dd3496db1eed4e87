"""One expression, compiled: what it reads, what it may cost, and its value in a context."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw, Struct

from chassis.expressions.bounds import Cost, cost
from chassis.expressions.budget import Budget, Room
from chassis.expressions.costs import Size
from chassis.expressions.engine import Engine, run
from chassis.expressions.faults import Failed, OutOfMemory
from chassis.expressions.jobs import NO_ANSWERS, Answers, Apart, Done, Job, Undone
from chassis.expressions.loops import rewritten
from chassis.expressions.references import Place, Reference, Resolved, spelled
from chassis.expressions.results import outline, plain
from chassis.expressions.search import culprit
from chassis.expressions.shield import Text, shielded
from chassis.expressions.values import MISSING, NUL, Context, Value, deeper_than, has_secret
from contracts.limits import CEL_VALUE_BYTES, JSON_DEPTH

_ABSENT: Final = re.compile(r'No value with name "@(\d+)" found in Activation')
_SHORT: Final = 1_000
_NO_SECRETS: Final = "the result has an object with `$secret`, which only a builder may write"
_Missing: TypeAlias = Callable[[Place], str]


class _Inputs(Struct, frozen=True):
    """The values of a program's variables, and in which larger value the lists and objects lie."""

    values: dict[str, Any]
    within: dict[str, Value]
    short: bool
    """Whether all are numbers and short texts."""


class Program:
    """A compiled expression. It evaluates on the spot what is surely cheap, and raises `Apart` for the rest."""

    def __init__(self, source: str, resolved: Resolved, positions: Mapping[int, int], engine: Engine) -> None:
        self.source = source
        self.references: tuple[Reference, ...] = resolved.references
        self._root = resolved.root
        self._positions = positions
        self._engine = engine
        self._shape = outline(resolved.root)
        self._variables = [(f"@{number}", one) for number, one in enumerate(resolved.references)]
        self._only = resolved.only
        self._loaded: Any = None
        self._costs: dict[tuple[int, int], Cost] = {}

    def evaluate(
        self, context: Context, answers: Answers = NO_ANSWERS, budget: Budget | None = None
    ) -> object:
        """The value. Raises `Failed`, or `Apart` when `answers` lacks what must be evaluated apart.

        `budget`: what several programs share; without one, this program has all of it.
        """
        budget = budget or Budget()
        if self._only is not None:
            return _looked_up(self._only, context, budget.room)
        inputs = self._inputs(context)
        if self._affordable(inputs, budget):
            return self._evaluated(_shielded(inputs), context.missing, budget.room)
        job = _job(self.source, inputs)
        match answers.get(job.name):
            case Done(value=value):
                budget.room.take(len(bytes(value)))
                return msgspec.json.decode(value)
            case Undone(message=message, offset=offset):
                raise Failed(message, offset)
            case None:
                raise Apart([job])

    def job(self, context: Context, budget: Budget | None = None) -> Job | None:
        """The evaluation apart that `evaluate` asks for in this context; None when it needs none."""
        if self._only is not None:
            return None
        inputs = self._inputs(context)
        return None if self._affordable(inputs, budget or Budget()) else _job(self.source, inputs)

    def answer(self, values: Raw) -> object:
        """The value from a job's values, whatever it costs. Raises `Failed`."""
        given = msgspec.json.decode(values)
        if NUL in bytes(values):
            given = {name: shielded(value) for name, value in given.items()}
        return self._evaluated(given, lambda place: f"`{spelled(place)}` is not there", Room())

    def bound(self, sizes: Mapping[str, Size]) -> Cost:
        """What an evaluation takes at most with variables (`@0`, `@1`, … as in `references`) of these sizes."""
        return cost(self._root, sizes)

    # --- Values in ---------------------------------------------------------------------------------

    def _inputs(self, context: Context) -> _Inputs:
        values: dict[str, Any] = {}
        within: dict[str, Value] = {}
        short = True
        for name, reference in self._variables:
            place = reference.place
            value = _has(context, place) if reference.tested else context.find(place)
            if value is MISSING:
                continue
            values[name] = value
            if isinstance(value, dict | list):
                short = False
                if (found := context.value(place)) is not None:
                    within[name] = found[0]
            elif isinstance(value, str) and len(value) > _SHORT:
                short = False
        return _Inputs(values, within, short)

    def _affordable(self, inputs: _Inputs, budget: Budget) -> bool:
        """Whether the bound lets us evaluate on the spot. Raises `Failed` for a value that is too large."""
        if inputs.short and budget.spend(self._cost(4 * _SHORT, 0)):
            return True
        sizes = {name: _roughly(value, inputs.within.get(name)) for name, value in inputs.values.items()}
        if not inputs.short and budget.spend(self._cost(*_most(sizes.values()))):
            return True
        exact = {
            name: _exactly(inputs.values[name]) if name in inputs.within else size
            for name, size in sizes.items()
        }
        return budget.spend(self.bound(exact))

    def _cost(self, size: float, parts: float) -> Cost:
        """The bound for any inputs of this size; asked for powers of two, and remembered."""
        key = (int(size).bit_length(), int(parts).bit_length())
        known = self._costs.get(key)
        if known is None:
            largest = Size(2.0 ** key[0], 2.0 ** key[1] if parts else 0)
            known = self._costs[key] = self.bound({name: largest for name, _ in self._variables})
        return known

    # --- Value out ---------------------------------------------------------------------------------

    def _evaluated(self, values: Mapping[str, Any], missing: _Missing, room: Room) -> object:
        if self._loaded is None:
            self._loaded = self._engine.load(rewritten(self._root))
        try:
            result = plain(run(self._loaded, values), self._shape, room)
        except OutOfMemory:
            raise
        except Failed as failed:
            raise self._explained(failed, values, missing) from None
        if isinstance(result, dict | list) and has_secret(result):
            raise Failed(_NO_SECRETS)
        return result

    def _explained(self, failed: Failed, values: Mapping[str, Any], missing: _Missing) -> Failed:
        """The failure with its place, and with the reference that is not there by its name."""
        if found := _ABSENT.fullmatch(failed.message):
            reference = self.references[int(found[1])]
            return Failed(missing(reference.place), reference.offset)
        part = culprit(self._root, values, self._engine)
        return Failed(failed.message, self._positions.get(part.id, 0))


def _looked_up(reference: Reference, context: Context, room: Room) -> object:
    """A reference and nothing else needs no engine: the value stays as it is, its order of names too."""
    value = context.find(reference.place)
    if value is MISSING:
        raise Failed(context.missing(reference.place), reference.offset)
    if isinstance(value, str):
        room.take(int(_roughly(value, None).bytes))
    elif isinstance(value, dict | list) and (found := context.value(reference.place)) is not None:
        room.take(len(msgspec.json.encode(value)) if reference.place[1:] else len(found[0].raw))
        traits = found[0].traits
        if traits.deep and deeper_than(value, JSON_DEPTH):
            raise Failed(f"the result is nested deeper than {JSON_DEPTH}", reference.offset)
        if traits.secret and has_secret(value):
            raise Failed(_NO_SECRETS, reference.offset)
    return value


def _has(context: Context, place: Place) -> object:
    """What `has()` gives; `MISSING` when the question itself fails. A step that was not run has nothing."""
    if place[0] == "steps" and len(place) == 3:
        return context.value(place) is not None
    around = context.find(place[:-1])
    return place[-1] in around if isinstance(around, dict) else MISSING


def _shielded(inputs: _Inputs) -> dict[str, Any]:
    for name, value in inputs.values.items():
        if isinstance(value, str):
            if "\0" in value:
                inputs.values[name] = Text(value)
        elif name in inputs.within and inputs.within[name].traits.nul:
            inputs.values[name] = shielded(value)
    return inputs.values


def _job(source: str, inputs: _Inputs) -> Job:
    return Job(source=source, values=Raw(msgspec.json.encode(inputs.values)))


def _roughly(value: object, within: Value | None) -> Size:
    """The size of a value, or of the larger one that it lies in. Raises `Failed` when the value is too large."""
    if isinstance(value, str):
        size = len(value) if value.isascii() else len(value.encode())
        if size > CEL_VALUE_BYTES:
            raise _too_large()
        return Size(size, text=True)
    if within is None:
        return Size(32, 0)
    if len(within.raw) > CEL_VALUE_BYTES:
        return _exactly(value)
    return Size(len(within.raw), within.traits.parts)


def _exactly(value: object) -> Size:
    raw = msgspec.json.encode(value)
    if len(raw) > CEL_VALUE_BYTES:
        raise _too_large()
    items = len(value) if isinstance(value, dict | list) else None
    return Size(len(raw), raw.count(b"[") + raw.count(b"{") + raw.count(b","), items=items)


def _most(sizes: Collection[Size]) -> tuple[float, float]:
    return max(size.bytes for size in sizes), max(size.parts for size in sizes)


def _too_large() -> Failed:
    return Failed(
        f"a value is larger than {CEL_VALUE_BYTES // 1024} KiB, which is what an expression may read"
    )
