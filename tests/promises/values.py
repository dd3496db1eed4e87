"""What values in histories say, as far as the evidence holds them: inline, or in the object store."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import StepPath
from contracts.payloads import Inline, Payload

UNKNOWN: Final = object()
"""What lies in a stored value that the evidence does not hold."""
Found: TypeAlias = Iterator[tuple[str, str]]
"""Promises that were not kept, and how."""


class Values:
    """Values, with those that are stored apart by their hash."""

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self._stored = stored

    def read(self, payload: Payload) -> Any:
        if isinstance(payload, Inline):
            return msgspec.json.decode(payload.value)
        stored = self._stored.get(payload.sha256)
        return msgspec.json.decode(stored) if stored is not None else UNKNOWN

    def same(self, value: Any, payload: Payload | Failure) -> bool:
        """Whether a value is this one, or stands for it. A value that was small when it was shown may lie apart."""
        if value is UNKNOWN or isinstance(payload, Failure):
            return True
        if isinstance(payload, Inline):
            return bool(msgspec.json.decode(payload.value) == value)
        reference = msgspec.json.decode(encode({"blob": payload}))
        return value == reference or hashlib.sha256(encode(value)).hexdigest() == payload.sha256

    def in_order(self, payload: Payload, came: Mapping[int, Payload | Failure], container: StepPath) -> Found:
        """The results of some items, and the errors of those that failed, as a map gives them."""
        told = self.read(payload)
        if told is UNKNOWN:
            return
        results = told.get("results", ())
        if len(results) != len(came):
            yield "P4", f"{len(results)} results of {container} for {len(came)} items"
            return
        for number, result in zip(sorted(came), results, strict=True):
            mine = came[number]
            if isinstance(mine, Failure) and result is not None:
                yield "P4", f"item {number} of {container} failed, and has a result"
            elif not isinstance(mine, Failure) and not self.same(result, mine):
                yield "P4", f"the result of item {number} of {container} is not what came of it"
        failed = [number for number in sorted(came) if isinstance(came[number], Failure)]
        if [error["index"] for error in told.get("errors", ())] != failed:
            yield "P4", f"the errors of {container} are not those of its items {failed}"
