"""The values of tests: taken from what people wrote or a run recorded, without what is sealed, and shown."""

from typing import Any, Final

import msgspec
from msgspec import Raw, structs

from chassis.edge.problems import Problem
from chassis.ports import Blobs
from chassis.seals import MARK, is_sealed, replaced
from contracts.cases import Case, Expected, Pin, Pins
from contracts.codec import encode
from contracts.limits import CASE_BYTES
from contracts.payloads import Blob, Inline, Payload
from gateway.cases.views import (
    GivenExpected,
    GivenPin,
    GivenTrigger,
    ShownExpected,
    ShownPin,
)
from gateway.payloads import bytes_of, payload_of

JSON: Final = "application/json"
LEFT_OUT: Final = "(sealed)"
"""Stands where a sealed value was."""


async def pin_of(given: GivenPin, blobs: Blobs) -> Pin:
    return Pin(
        output=await payload_of(bytes(given.output), blobs),
        ports=given.ports,
        error=given.error,
        skipped=given.skipped,
    )


async def pins_of(given: dict[str, GivenPin], blobs: Blobs) -> Pins:
    return {name: await pin_of(pin, blobs) for name, pin in given.items()}


async def trigger_of(given: GivenTrigger, blobs: Blobs) -> Payload:
    return await payload_of(encode(given), blobs)


async def expected_of(given: GivenExpected, blobs: Blobs) -> Expected:
    return Expected(
        status=given.status,
        output=await payload_of(bytes(given.output), blobs) if bytes(given.output) else None,
        steps={name: await payload_of(bytes(value), blobs) for name, value in given.steps.items()},
        sent={name: await payload_of(bytes(value), blobs) for name, value in given.sent.items()},
        conditions=given.conditions,
    )


async def may_be_sealed(payload: Payload, blobs: Blobs) -> bool:
    """Whether something in a value may be sealed, told from its text."""
    if isinstance(payload, Blob) and payload.content_type != JSON:
        return False
    data = await bytes_of(payload, blobs)
    return b"$sealed" in data or MARK.encode() in data or b"\\u" in data


async def unsealed(payload: Payload, blobs: Blobs) -> Payload:
    """The value without what is sealed in it: that could not be opened in another run, and is nobody's to keep."""
    if not await may_be_sealed(payload, blobs):
        return payload
    value = msgspec.json.decode(await bytes_of(payload, blobs))
    kept = _without(value)
    return payload if kept == value else await payload_of(encode(kept), blobs)


def _without(value: Any) -> Any:
    if is_sealed(value):
        return LEFT_OUT
    if isinstance(value, str):
        return replaced(value, lambda _blob: LEFT_OUT)
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item) for item in value]
    return value


async def unsealed_pins(pins: Pins, blobs: Blobs) -> Pins:
    return {
        name: structs.replace(pin, output=await unsealed(pin.output, blobs)) for name, pin in pins.items()
    }


async def unsealed_trigger(payload: Payload, blobs: Blobs) -> Payload:
    """What started a run, without what is sealed in it; so without the bytes as they came, where anything was."""
    kept = await unsealed(payload, blobs)
    if kept is payload:
        return payload
    document = msgspec.json.decode(await bytes_of(kept, blobs))
    if isinstance(document, dict):
        document.pop("raw", None)
    return await payload_of(encode(document), blobs)


async def names(payload: Payload, run: str, blobs: Blobs) -> bool:
    """Whether a value has a run's id in it."""
    if isinstance(payload, Blob) and payload.content_type != JSON:
        return False
    return run.encode() in await bytes_of(payload, blobs)


def shown(payload: Payload) -> Raw:
    """A value, or its reference when it lies apart."""
    return payload.value if isinstance(payload, Inline) else Raw(encode({"blob": payload}))


def shown_pins(pins: Pins) -> dict[str, ShownPin]:
    return {
        name: ShownPin(output=shown(pin.output), ports=pin.ports, error=pin.error, skipped=pin.skipped)
        for name, pin in pins.items()
    }


def shown_expected(expected: Expected) -> ShownExpected:
    return ShownExpected(
        status=expected.status,
        output=None if expected.output is None else shown(expected.output),
        any_output=expected.output is None,
        steps={name: shown(value) for name, value in expected.steps.items()},
        sent={name: shown(value) for name, value in expected.sent.items()},
        conditions=expected.conditions,
    )


def checked_size(case: Case) -> Case:
    """A case that is not too large. Raises `Problem`."""
    values = [case.trigger, *case.expected.steps.values(), *case.expected.sent.values()]
    values += [pin.output for pin in (*case.pins.values(), *case.recorded.values())]
    if case.expected.output is not None:
        values.append(case.expected.output)
    size = sum(value.size if isinstance(value, Blob) else len(bytes(value.value)) for value in values)
    if size > CASE_BYTES:
        raise Problem(
            "too_large", f"The values of a case have {CASE_BYTES} bytes at the most; these have {size}."
        )
    return case
