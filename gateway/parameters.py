"""Parameters that many routes share."""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from litestar.params import HeaderParameter, QueryParameter

from chassis.edge.problems import Complaint, Problem
from contracts.limits import IDEMPOTENCY_KEY_CHARS, PAGE_ROWS, SIGNALS_REMEMBERED

Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=PAGE_ROWS, description="Rows at the most.")]
Cursor: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=400, description="The `next` of the page before.")
]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="The same key starts the same run, for ever; with another body it is refused.",
    ),
]
SayingKey: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="What is said to a run under the same key counts once; with another body it is refused. "
        f"A run remembers its last {SIGNALS_REMEMBERED} keys.",
    ),
]
LastEventId: TypeAlias = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", description="Go on after this event.")
]


def checked_key(key: str | None) -> str | None:
    """An idempotency key of printable ASCII; None when there is none."""
    if key is None or (1 <= len(key) <= IDEMPOTENCY_KEY_CHARS and key.isascii() and key.isprintable()):
        return key
    raise Problem(
        "malformed",
        errors=[
            Complaint(
                pointer="Idempotency-Key", message=f"1 to {IDEMPOTENCY_KEY_CHARS} printable ASCII characters."
            )
        ],
    )


def moment(time: datetime | None, name: str) -> datetime | None:
    """A time of a query in UTC; None when there is none."""
    if time is None:
        return None
    try:
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except OverflowError:
        pass  # At the end of all times: refused like one without an offset.
    raise Problem(
        "malformed",
        errors=[Complaint(pointer=name, message="A time needs its offset, as in 2026-01-31T12:00:00Z.")],
    )


def number(text: str | None, name: str, most: int = 2**53 - 1) -> int | None:
    """A cursor that is a number."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= most):
        raise Problem("malformed", errors=[Complaint(pointer=name, message="Not a cursor of ours.")])
    return int(text)
