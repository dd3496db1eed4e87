"""A commit: the events appended together, hash-chained to the commit before.

`prev_hash` is the SHA-256 of the stored body bytes of the commit before it, never of re-encoded JSON. So a history is
tamper-evident, and stays so after a key was shredded. Headers are not part of it: they change at a restore.
"""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from msgspec import Meta, Raw, Struct

from contracts.limits import EVENTS_PER_COMMIT, Id, OrgId, Positive
from contracts.runs import Actor

E = TypeVar("E")

FIRST_HASH = ""
"""What `prev_hash` says in the first commit of a history."""


class Commit(Struct, Generic[E], frozen=True, kw_only=True):
    """One message of RUNS: what one decision added to one run."""

    id: Id
    org: OrgId
    run: Id
    version: Positive
    """1, 2, 3 … without a gap."""
    events: Annotated[tuple[E, ...], Meta(min_length=1, max_length=EVENTS_PER_COMMIT)]
    time: Annotated[datetime, Meta(tz=True)]
    actor: Actor
    causation_id: Annotated[str, Meta(max_length=128)]
    correlation_id: Annotated[str, Meta(max_length=128)]
    engine_version: Annotated[str, Meta(max_length=64)]
    key_id: Annotated[str, Meta(max_length=64)]
    prev_hash: Annotated[str, Meta(max_length=64)]


class DomainCommit(Struct, Generic[E], frozen=True, kw_only=True):
    """One message of DOMAIN: what one command changed in a workflow, a trigger, an org, a secret or a key."""

    id: Id
    org: OrgId
    aggregate: Annotated[str, Meta(pattern=r"^[a-z]{1,32}$")]
    aggregate_id: Id
    version: Positive
    events: Annotated[tuple[E, ...], Meta(min_length=1, max_length=100)]
    time: Annotated[datetime, Meta(tz=True)]
    actor: Actor
    causation_id: Annotated[str, Meta(max_length=128)]
    correlation_id: Annotated[str, Meta(max_length=128)]
    engine_version: Annotated[str, Meta(max_length=64)]
    key_id: Annotated[str, Meta(max_length=64)]
    prev_hash: Annotated[str, Meta(max_length=64)]


class Envelope(Struct, frozen=True, kw_only=True):
    """A commit whose events are still bytes: for readers that want only the frame, or an event from another release."""

    id: Id
    org: OrgId
    version: Positive
    events: tuple[Raw, ...]
    engine_version: str
    prev_hash: str
    run: str = ""
    aggregate: str = ""
    aggregate_id: str = ""
    key_id: str = ""
