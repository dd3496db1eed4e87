"""A gate: so many runs at a time, or so many in a time. What a run wants of one, and what became of those who asked."""

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct, structs

from contracts.limits import (
    BATCH_RUNS,
    CEL_SOURCE_BYTES,
    GATE_KEY_CHARS,
    GATE_NEXT,
    GATE_QUEUE,
    GATE_SECONDS,
    GATE_SLOTS,
    Actor,
    Count,
    Id,
    OrgId,
    Positive,
    SchemaVersion,
)

WhenFull: TypeAlias = Literal["queue", "skip", "cancel_oldest"]
"""`queue`: wait for one's turn. `skip`: be refused. `cancel_oldest`: whoever has been inside longest shall stop."""


SlotRefusal: TypeAlias = Literal["full", "skipped", "superseded", "gathered"]
"""`full`: so many wait already. `skipped`: whoever finds the gate closed shall not run. `superseded`: a newer one runs in
its place. `gathered`: what started it is in another run's batch."""


class Rate(Struct, frozen=True, kw_only=True):
    """So many in so many seconds, and as many at once after a quiet time."""

    count: Annotated[int, Meta(ge=1, le=GATE_SLOTS)]
    seconds: Annotated[float, Meta(gt=0, le=GATE_SECONDS)]


class Debounce(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of starts that follow one another closely the newest goes on, alone."""

    seconds: Annotated[float, Meta(gt=0, le=GATE_SECONDS)]
    """It begins when nothing came for so long,"""
    at_most: Annotated[float, Meta(gt=0, le=GATE_SECONDS)] | None = None
    """and at the latest so long after the first; None: however long they go on coming."""


class Batch(Struct, frozen=True, kw_only=True):
    """One run for many starts: its `trigger.body` is the list of theirs."""

    size: Annotated[int, Meta(ge=1, le=BATCH_RUNS)]
    """It begins when there are so many,"""
    seconds: Annotated[float, Meta(gt=0, le=GATE_SECONDS)]
    """or so long after the first."""


class GateLimit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a gate lets in. With both bounds both hold; one that gathers starts has no other."""

    at_once: Annotated[int, Meta(ge=1, le=GATE_SLOTS)] | None = None
    rate: Rate | None = None
    when_full: WhenFull = "queue"
    queue: Annotated[int, Meta(ge=0, le=GATE_QUEUE)] = GATE_QUEUE
    """So many may wait; who comes then is refused."""
    debounce: Debounce | None = None
    batch: Batch | None = None


LimitName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class FlowLimit(GateLimit, frozen=True, kw_only=True, omit_defaults=True):
    """A gate before a workflow, as its builder draws it."""

    name: LimitName
    across: Literal["workflow", "org"] = "workflow"
    """`org`: the workflows of the org that name it share the gate."""
    per: Annotated[str, Meta(max_length=CEL_SOURCE_BYTES)] = ""
    """A CEL expression: each value has a gate of its own. Empty: there is one."""


class OrgLimit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an org says of a gate that its workflows share: it counts instead of what they say. What it leaves out is theirs."""

    at_once: Annotated[int, Meta(ge=1, le=GATE_SLOTS)] | None = None
    """Of a gate that workflows share: for those that bound how many are inside."""
    rate: Rate | None = None
    queue: Annotated[int, Meta(ge=0, le=GATE_QUEUE)] | None = None


OrgLimits: TypeAlias = dict[LimitName, OrgLimit]
ALL_RUNS: Final = "all-runs"
"""By this name an org says what counts for each of its runs, whatever their workflows say. No workflow has a limit of it."""


def bounded(limit: GateLimit, said: OrgLimit | None) -> GateLimit:
    """The limit with what the org says of it. Where nobody stays inside, it does not say how many may."""
    if said is None:
        return limit
    return structs.replace(
        limit,
        at_once=limit.at_once and (said.at_once or limit.at_once),
        rate=said.rate or limit.rate,
        queue=limit.queue if said.queue is None else said.queue,
    )


def everybodys(said: OrgLimit | None) -> GateLimit:
    """What the gate of all runs of an org lets in. None: whoever comes."""
    said = said or OrgLimit()
    queue = GATE_QUEUE if said.queue is None else said.queue
    return GateLimit(at_once=said.at_once, rate=said.rate, queue=queue)


class SlotWanted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The gate that a run has to pass now, and by which limit."""

    gate: Id
    """Follows from the org, the limit's name and the key."""
    name: LimitName
    key: Annotated[str, Meta(max_length=GATE_KEY_CHARS)] = ""
    bounds: GateLimit
    rank: Count = 0
    """The lower, the sooner."""


class _GateFact(Struct, frozen=True, kw_only=True, tag_field="type"):
    schema_version: SchemaVersion = 1


class SlotGranted(_GateFact, frozen=True, kw_only=True, tag="slot.granted"):
    """A run is inside from now on."""

    run: Id
    opening: Positive = 1
    """Of the run: opened again it asks again."""
    grant: Positive
    """1, 2, 3 … over all grants of the gate."""
    level: float = 0.0
    """What is left of the rate then: whole runs that might follow at once, and a part of the next."""
    since: datetime | None = None
    """When it began to wait, where only the newest goes on."""
    members: Annotated[tuple[Id, ...], Meta(max_length=BATCH_RUNS)] = ()
    """The runs of its batch, for which it stands, itself first."""


class BatchBegan(_GateFact, frozen=True, kw_only=True, tag="batch.began"):
    """The run has all that started the others of its batch: they may end."""

    run: Id
    grant: Positive


class SlotFreed(_GateFact, frozen=True, kw_only=True, tag="slot.freed"):
    """A run is inside no longer."""

    run: Id
    grant: Positive
    why: Literal["said", "asked", "told", "gone"] = "said"
    """`said`: by its owner. `asked`: the run was opened again since, and wants a slot anew. `told`: all others of its batch
    know for whom they stand. `gone`: it has ended before it was let in, and the others of its batch wait on."""


class SlotsAwaited(_GateFact, frozen=True, kw_only=True, tag="slot.awaited"):
    """Who is next, as far as that was known. Only for the next owner, who has them ask again."""

    runs: Annotated[tuple[Id, ...], Meta(max_length=GATE_NEXT)]
    since: datetime | None = None
    """When the first of those came of which only the newest goes on."""


GateEvent: TypeAlias = SlotGranted | SlotFreed | SlotsAwaited | BatchBegan


class Holder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run that is inside."""

    run: Id
    opening: Positive = 1
    grant: Positive
    since: datetime
    members: tuple[Id, ...] = ()
    """The runs of its batch, itself first."""
    began: bool = False
    """It has what started them."""


class Newest(Struct, frozen=True, kw_only=True):
    """A run, and when it began to wait."""

    run: Id
    since: datetime


class GateState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A gate as its newest commit tells it. Of those who wait it knows a few: they ask again when nobody answers."""

    holders: tuple[Holder, ...] = ()
    """Whoever has been inside longest first."""
    grants: Count = 0
    level: float | None = None
    """What was left of the rate at `passed`; None: nobody has ever passed."""
    passed: datetime | None = None
    """When somebody was let in last."""
    next: tuple[Id, ...] = ()
    """A few of those who wait."""
    first: datetime | None = None
    """When the first of those came of which only the newest goes on."""
    newest: Newest | None = None
    """Who went on last of those: who came before it does not."""


class GateCommit(Struct, frozen=True, kw_only=True):
    """One message of GATES: who was let in and who has left, by one decision."""

    id: Id
    org: OrgId
    gate: Id
    version: Positive
    events: Annotated[tuple[GateEvent, ...], Meta(min_length=1, max_length=2 * GATE_SLOTS)]
    state: GateState
    """After these events."""
    time: Annotated[datetime, Meta(tz=True)]
    actor: Actor
    engine_version: Annotated[str, Meta(max_length=64)]
    prev_hash: Annotated[str, Meta(max_length=64)]
