"""Asks the engine what a run's state was: the code that decides is the code that explains."""

from typing import Final, Protocol, runtime_checkable

import msgspec
from msgspec import Raw, Struct

from chassis.edge.problems import Problem, unavailable
from chassis.ports import Away, Blobs, Signals
from contracts.codec import Decoder, Malformed, encode
from contracts.messages import InspectRequest
from contracts.payloads import Payload
from contracts.subjects import INSPECT
from gateway.payloads import bytes_of

SECONDS: Final = 5.0

_NOTHING: Final = Raw(b"null")
_payload: Final = Decoder[Payload](Payload)


class Inspected(Struct, frozen=True, kw_only=True):
    """What the engine says about a run."""

    state: Raw
    waiting_for: Raw = Raw(b"[]")


class _Told(Struct, frozen=True, kw_only=True):
    state: Raw = _NOTHING
    """Raw and null make no union that msgspec would decode."""
    waiting_for: Raw = Raw(b"[]")
    unknown: str = ""
    needs_release: str = ""


@runtime_checkable
class Inspector(Protocol):
    async def inspect(self, org: str, run_id: str, at: int | None) -> Inspected: ...


class RemoteInspector:
    """The orchestrator, by request and reply."""

    def __init__(self, signals: Signals, blobs: Blobs) -> None:
        self._signals, self._blobs = signals, blobs

    async def inspect(self, org: str, run_id: str, at: int | None) -> Inspected:
        """Raises `Problem` when nobody answers, or when the run is told in a newer release's events."""
        try:
            question = encode(InspectRequest(org=org, run=run_id, at=at))
            answer = _payload(await self._signals.request(INSPECT, question, SECONDS))
            told = msgspec.json.decode(await bytes_of(answer, self._blobs), type=_Told)
        except Away:
            raise unavailable("No orchestrator answers, so no state can be told.") from None
        except (Malformed, msgspec.DecodeError) as error:
            raise unavailable("The orchestrator answers in another release's words.") from error
        if bytes(told.state) == bytes(_NOTHING):
            raise Problem("run.parked", f"{told.unknown} needs release ≥ {told.needs_release}.")
        return Inspected(state=told.state, waiting_for=told.waiting_for)
