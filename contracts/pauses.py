"""What somebody has paused, and what is held: attempts that are scheduled and not asked for yet."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.limits import HELD_LANES, Count, Id, OrgId, PoolName, SchemaVersion
from contracts.runs import Actor

Paused: TypeAlias = Literal["org", "workflow", "pool"]
"""`org`: everything of it. `workflow`: its runs. `pool`: what the org wants of it; what others want is theirs."""
PauseReason: TypeAlias = Annotated[str, Meta(max_length=500)]


class _PauseFact(Struct, frozen=True, kw_only=True, tag_field="type"):
    schema_version: SchemaVersion = 1


class PauseBegan(_PauseFact, frozen=True, kw_only=True, tag="pause.began"):
    """From now on no attempt of this is asked for. What is under way goes on; runs start, and wait."""

    what: Paused
    name: Id
    by: Actor
    since: datetime
    reason: PauseReason = ""


class PauseEnded(_PauseFact, frozen=True, kw_only=True, tag="pause.ended"):
    """What was held is asked for."""

    what: Paused
    name: Id
    by: Actor


PauseEvent: TypeAlias = PauseBegan | PauseEnded


class HeldLane(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one org wants of one pool, as far as one orchestrator decides about it."""

    org: OrgId
    pool: PoolName
    waiting: Count = 0
    """Held until the org's turn comes."""
    paused: Count = 0
    """Held because somebody paused it."""
    out: Count = 0
    """Asked for: in TASKS, or an executor's."""


class HeldAtGates(Struct, frozen=True, kw_only=True):
    """How many runs of an org wait at gates, as far as one orchestrator has those."""

    org: OrgId
    waiting: Count


class Held(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Said by each orchestrator now and then while it holds something, and once when it holds nothing any more."""

    instance: Id
    lanes: Annotated[tuple[HeldLane, ...], Meta(max_length=HELD_LANES)] = ()
    gates: Annotated[tuple[HeldAtGates, ...], Meta(max_length=HELD_LANES)] = ()
