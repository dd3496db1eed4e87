"""Whether what came of a run is what its case expects; every difference is told, with its place."""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
from msgspec import Raw

from chassis.edge.problems import Problem
from chassis.expressions import (
    MISSING,
    Apart,
    CompiledConfig,
    Context,
    ExpressionError,
    Language,
    Settled,
    compile_condition,
)
from chassis.pointers import escaped
from chassis.ports import Blobs
from contracts.cases import Condition, Expected
from contracts.codec import encode
from contracts.limits import JSON_DEPTH, KIB, PREFETCH_BYTES
from contracts.payloads import Blob, Payload
from contracts.workflows import Fault
from gateway.cases.outcomes import Outcome, StepOutcome
from gateway.cases.values import JSON, shown
from gateway.cases.views import Difference
from gateway.payloads import bytes_of

SHOWN_BYTES: Final = 2 * KIB
"""Of each value in a difference."""
_ABSENT: Final = object()


def compiled(source: str, number: int, language: Language) -> CompiledConfig:
    return compile_condition(source, language, node="case", field=f"/expected/conditions/{number}")


def check_conditions(conditions: tuple[Condition, ...], language: Language) -> None:
    """Raises `Problem` with every fault of every condition."""
    faults = [
        Fault(
            code="test.bad_condition",
            pointer=fault.field,
            message=fault.message,
            position=fault.position.offset,
        )
        for number, source in enumerate(conditions)
        for fault in compiled(source, number, language).faults
    ]
    if faults:
        raise Problem("test.bad_condition", faults=faults)


class Judging:
    """Looks at one run that has ended."""

    def __init__(self, outcome: Outcome, language: Language, blobs: Blobs) -> None:
        self._outcome, self._language, self._blobs = outcome, language, blobs

    async def differences(self, expected: Expected) -> AsyncIterator[Difference]:
        outcome = self._outcome
        if outcome.status != expected.status:
            yield self._ended_otherwise(expected)
        if expected.output is not None:
            async for each in self._compared("/output", None, expected.output, outcome.output):
                yield each
        for name, value in expected.steps.items():
            step = outcome.steps.get(name, StepOutcome())
            async for each in self._of_step(f"/steps/{name}", name, value, step.given()):
                yield each
        for name, value in expected.sent.items():
            step = outcome.steps.get(name, StepOutcome())
            async for each in self._of_step(f"/sent/{name}", name, value, step.sent):
                yield each
        async for each in self._refutations(expected):
            yield each

    async def _of_step(
        self, expectation: str, name: str, expected: Payload, got: Payload | None
    ) -> AsyncIterator[Difference]:
        if got is not None:
            async for each in self._compared(expectation, name, expected, got):
                yield each
            return
        status = self._outcome.steps.get(name, StepOutcome()).status
        yield Difference(
            expectation=expectation,
            message=f"{name} is {status}: there is nothing to compare.",
            step=name,
            expected=_clipped(shown(expected)),
        )

    async def _refutations(self, expected: Expected) -> AsyncIterator[Difference]:
        for number, source in enumerate(expected.conditions):
            message = await self._refuted(source, number)
            if message:
                yield Difference(
                    expectation=f"/conditions/{number}", message=f"{source}: {message}", got=Raw(b"false")
                )

    def _ended_otherwise(self, expected: Expected) -> Difference:
        outcome = self._outcome
        why = f": {outcome.error.message}" if outcome.error is not None else ""
        failed = next((name for name, step in outcome.steps.items() if step.error == outcome.error), None)
        return Difference(
            expectation="/status",
            message=f"The run {_ENDED[outcome.status]}{why or '.'}",
            step=failed if outcome.error is not None else None,
            expected=Raw(encode(expected.status)),
            got=Raw(encode(outcome.status)),
        )

    async def _compared(
        self, expectation: str, step: str | None, expected: Payload, got: Payload
    ) -> AsyncIterator[Difference]:
        if expected == got:
            return
        ours, theirs = await self._value(expected), await self._value(got)
        found = first_difference(ours, theirs)
        if found is None:
            return
        pointer, wanted, came = found
        whose = "The run's output" if step is None else f"The output of {step}"
        whose = f"What {step} is given" if expectation.startswith("/sent/") else whose
        yield Difference(
            expectation=expectation,
            message=f"{whose} is another one{f' at {pointer}' if pointer else ''}.",
            step=step,
            pointer=pointer,
            expected=_told(wanted),
            got=_told(came),
        )

    async def _value(self, payload: Payload) -> Any:
        if isinstance(payload, Blob) and payload.content_type != JSON:
            return msgspec.json.decode(shown(payload))
        return msgspec.json.decode(await bytes_of(payload, self._blobs))

    async def _refuted(self, source: str, number: int) -> str:
        """Why a condition does not hold; empty when it does."""
        condition = compiled(source, number, self._language)
        if condition.faults:
            return condition.faults[0].message
        try:
            value = condition.evaluate(await self._context(condition))
        except ExpressionError as error:
            return error.message
        except Apart:
            return "it may take too long to be judged."
        except _TooLarge:
            return f"it reads a value of more than {PREFETCH_BYTES} bytes."
        return "" if value is True else "it does not hold."

    async def _context(self, condition: CompiledConfig) -> Context:
        """What the condition reads, and nothing else."""
        outcome, reads = self._outcome, condition.reads
        steps = {name: outcome.steps[name] for name in reads.nodes if name in outcome.steps}
        return Context.from_roots(
            trigger=await self._json(outcome.started.input) if reads.trigger else MISSING,
            run={
                "status": outcome.status,
                "output": msgspec.json.decode(await self._json(outcome.output)),
                "error": msgspec.to_builtins(outcome.error),
            }
            if reads.run
            else MISSING,
            steps={
                name: Settled(
                    output=await self._json(step.output),
                    status=step.status,
                    error=msgspec.to_builtins(step.error),
                )
                for name, step in steps.items()
            },
        )

    async def _json(self, payload: Payload) -> Raw:
        if not isinstance(payload, Blob) or payload.content_type != JSON:
            return shown(payload)
        if payload.size > PREFETCH_BYTES:
            raise _TooLarge
        return Raw(await bytes_of(payload, self._blobs))


class _TooLarge(Exception):
    """A value is larger than a condition may read."""


_ENDED: Final = {"completed": "completed", "failed": "failed", "cancelled": "was cancelled"}


def first_difference(
    expected: Any, got: Any, pointer: str = "", depth: int = 0
) -> tuple[str, Any, Any] | None:
    """Where two values differ first, and what stands there. Numbers are equal whatever their notation."""
    if depth < JSON_DEPTH and isinstance(expected, dict) and isinstance(got, dict):
        pairs = [
            (escaped(key), expected.get(key, _ABSENT), got.get(key, _ABSENT))
            for key in sorted(expected.keys() | got.keys())
        ]
    elif depth < JSON_DEPTH and isinstance(expected, list) and isinstance(got, list):
        most = max(len(expected), len(got))
        pairs = [(str(number), _at(expected, number), _at(got, number)) for number in range(most)]
    elif expected is _ABSENT or got is _ABSENT or isinstance(expected, bool) is not isinstance(got, bool):
        return pointer, expected, got
    else:
        return None if expected == got else (pointer, expected, got)
    for part, ours, theirs in pairs:
        found = first_difference(ours, theirs, f"{pointer}/{part}", depth + 1)
        if found is not None:
            return found
    return None


def _at(values: list[Any], number: int) -> Any:
    return values[number] if number < len(values) else _ABSENT


def _told(value: Any) -> Raw | None:
    return None if value is _ABSENT else _clipped(Raw(encode(value)))


def _clipped(value: Raw) -> Raw:
    """A value as far as it can be shown: of a large one, the beginning of its text."""
    text = bytes(value)
    if len(text) <= SHOWN_BYTES:
        return value
    return Raw(encode(text[:SHOWN_BYTES].decode(errors="ignore") + " …"))
