"""From decisions to one commit: framed, chained to the one before, and small enough for one message."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from chassis.ids import commit_id, digest
from chassis.ports import Blobs, Proposal
from contracts.cloudevents import RUN_SEAM, headers_of, seam_place
from contracts.codec import encode
from contracts.commits import Commit
from contracts.limits import COMMIT_BYTES, INLINE_BYTES
from contracts.payloads import Inline
from contracts.runs import Actor, RunEvent
from contracts.subjects import run as run_subject

ENGINE_VERSION: Final = "0.1.0"


class Frame(Struct, frozen=True, kw_only=True):
    """What a commit says about itself besides its events."""

    org: str
    run: str
    version: int
    prev_hash: str
    time: datetime
    actor: Actor
    causation_id: str
    correlation_id: str
    key_id: str = ""


class Sealed(Struct, frozen=True, kw_only=True):
    """A commit ready to be appended, and the hash that the next one will name."""

    commit: Commit[RunEvent]
    body: bytes
    hash: str


def seal(frame: Frame, events: Sequence[RunEvent]) -> Sealed:
    """Encode once: the same bytes are stored, hashed and compared."""
    subject = run_subject(frame.org, frame.run)
    commit: Commit[RunEvent] = Commit(
        id=commit_id(subject, frame.version, frame.prev_hash, encode(events)),
        events=tuple(events),
        engine_version=ENGINE_VERSION,
        **msgspec.structs.asdict(frame),
    )
    body = encode(commit)
    return Sealed(commit=commit, body=body, hash=digest(body))


def proposal(sealed: Sealed, expected: int, trace: str, epoch: int = 0, seam: int = 0) -> Proposal:
    """What the log is asked to append. `seam`: the sequence in this epoch at which the commit's segment begins."""
    commit = sealed.commit
    headers = headers_of(commit, trace)
    if seam:
        headers[RUN_SEAM] = seam_place(epoch, seam)
    return Proposal(
        subject=run_subject(commit.org, commit.run),
        body=sealed.body,
        expected=expected,
        headers=headers,
    )


def too_large(body: bytes) -> bool:
    """Whether some value of the commit belongs into the object store first."""
    return len(body) > INLINE_BYTES


async def offload(events: Sequence[RunEvent], blobs: Blobs) -> list[RunEvent]:
    """Move every value over 64 KiB to the object store; then the largest that are left, until the commit fits."""
    lightened = list(events)
    while True:
        values = [
            (len(value.value), index, name)
            for index, event in enumerate(lightened)
            for name in event.__struct_fields__
            if isinstance(value := getattr(event, name), Inline)
        ]
        largest = max(values, default=None)
        if largest is None:
            return lightened
        size, index, name = largest
        if size <= INLINE_BYTES and sum(entry[0] for entry in values) <= COMMIT_BYTES // 2:
            return lightened
        event: Any = lightened[index]
        blob = await blobs.put(bytes(getattr(event, name).value))
        lightened[index] = msgspec.structs.replace(event, **{name: blob})
