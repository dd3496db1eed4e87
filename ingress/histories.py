"""What a run's history already says to a delivery that comes again, or waited too long."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from chassis.ports import Stored
from contracts.codec import Decoder, Malformed, Unknown, decode_commit
from contracts.messages import Responded
from contracts.runs import RunCancelled, RunCompleted, RunFailed, RunResponded


class _Correlation(Struct, frozen=True):
    correlation_id: str


_correlation: Final = Decoder[_Correlation](_Correlation)


def correlation_of(body: bytes) -> str:
    """The receipt that started the run this commit belongs to."""
    return _correlation(body).correlation_id


def responded_in(history: Sequence[Stored], run: str) -> Responded | None:
    """The recorded answer: the respond node's, else how the run ended; None while there is neither."""
    ended: Responded | None = None
    for place, stored in enumerate(history, 1):
        try:
            commit = decode_commit(stored.body)
        except (Malformed, Unknown):
            return None  # Parked, or from a newer release: there is no answer that we could read.
        if commit.version != place:
            return None  # The beginning has left the log, and the answer may have stood there.
        for event in commit.events:
            match event:
                case RunResponded():
                    return Responded(
                        run=run,
                        state="responded",
                        status=event.status,
                        headers=event.headers,
                        body=event.body,
                    )
                case RunCompleted():
                    ended = Responded(run=run, state="completed", body=event.output)
                case RunFailed():
                    ended = Responded(run=run, state="failed", status=500, error=event.error)
                case RunCancelled():
                    ended = Responded(run=run, state="cancelled", status=409)
                case _:
                    pass
    return ended
