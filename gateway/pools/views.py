"""What the API tells about pools."""

from datetime import datetime

from msgspec import Struct


class ExecutorView(Struct, frozen=True, kw_only=True):
    """An executor in one pool, as it was when it was seen last."""

    id: str
    capacity: int
    """Attempts that it makes at once."""
    under_way: int
    labels: dict[str, str]
    draining: bool
    """It takes nothing more and leaves when it has ended what it has."""
    last_seen: datetime
    lost: bool
    """It was not heard for three seconds: what it had is with others by now, or in doubt."""


class ExecutorList(Struct, frozen=True, kw_only=True):
    items: list[ExecutorView]


class PoolView(Struct, frozen=True, kw_only=True):
    name: str
    paused: bool
    """What waits is held; what is under way goes on."""
    waiting: int
    """Tasks that nobody has taken yet."""
    under_way: int
    """Tasks that somebody has taken and not ended."""
    capacity: int
    """Of the executors that are there and do not drain."""
    executors: list[ExecutorView]
    """Of a pool of workers outside: none, they hold their tasks by lease."""
    last_asked: datetime | None
    """When a worker outside asked this gateway for work last; null for executors, and when none has since it started."""


class PoolList(Struct, frozen=True, kw_only=True):
    items: list[PoolView]
