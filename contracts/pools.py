"""What executors tell of themselves again and again, so that somebody can see which pool has whom."""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from contracts.limits import POOL_LABELS, Count, Id, PoolName

LabelName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
LabelText: TypeAlias = Annotated[str, Meta(max_length=64)]
Labels: TypeAlias = Annotated[dict[LabelName, LabelText], Meta(max_length=POOL_LABELS)]

SomeLabels: TypeAlias = Annotated[dict[LabelName, LabelText], Meta(min_length=1, max_length=POOL_LABELS)]

WORKERS: str = "ext-"
"""How the names of pools begin whose tasks go to workers outside. No executor takes them."""


class ExecutorHere(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One executor's share in one pool at this moment. Said by core NATS, stored nowhere."""

    executor: Id
    pool: PoolName
    capacity: Count
    under_way: Count
    draining: bool = False
    """It takes nothing more, ends what it has, and leaves."""
    labels: Labels = {}


class DrainExecutor(Struct, frozen=True, kw_only=True):
    """Take nothing more, end what you have, and leave."""

    executor: Id


class DrainLabelled(Struct, frozen=True, kw_only=True):
    """What everybody of a pool says who is to take nothing more, end what he has, and leave."""

    labels: SomeLabels


def labels_in(text: str) -> Labels:
    """Labels as a person writes them: `zone=a,gpu=l4`. Raises `msgspec.ValidationError` on what are none."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    return msgspec.convert({name.strip(): value.strip() for name, _, value in pairs}, Labels)
