"""What is known of pools, and what may be done to them.

Where a pool's tasks wait, and whether they are held, JetStream knows: a pool is a durable on TASKS, and a held one is a
paused durable. Nothing of it is written down a second time.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from chassis.edge.problems import unavailable
from chassis.ports import Signals
from contracts.codec import encode
from contracts.pools import WORKERS, DrainExecutor, Labels
from contracts.streams import pool_consumer
from contracts.subjects import TASKS, drain, task_filter
from gateway.pools.views import ExecutorView, PoolView
from gateway.pools.watch import Seen, Watch
from gateway.rejected import absent

DRAIN_SECONDS: Final = 2.0
"""How long we wait until an executor says that it drains."""
_FOR_GOOD: Final = "2200-01-01T00:00:00Z"
_PAGES: Final = 40


class Api(Protocol):
    """Asks JetStream's API; errors that are final stand in the answer as `error`."""

    async def api(self, subject: str, body: Any = None) -> dict[str, Any]: ...


class _Config(Struct, frozen=True):
    filter_subject: str = ""


class Durable(Struct, frozen=True):
    """As much of a consumer as tells about a pool."""

    name: str
    config: _Config = _Config()
    num_pending: int = 0
    num_ack_pending: int = 0
    paused: bool = False

    @property
    def pool(self) -> str:
        return self.config.filter_subject.split(".")[1] if "." in self.config.filter_subject else ""


class _Durables(Struct, frozen=True):
    total: int = 0
    consumers: list[Durable] = []


class Pools:
    def __init__(
        self, api: Api, watch: Watch, signals: Signals, asked_at: Mapping[tuple[str, str], float]
    ) -> None:
        """`asked_at`: when a worker of each org and pool asked for work last."""
        self._api, self._watch, self._signals, self._asked_at = api, watch, signals, asked_at

    async def list(self, org: str) -> list[PoolView]:
        """Everybody's pools, and those of the org's workers."""
        durables = {each.pool: each for each in await self._durables() if belongs(each, org)}
        names = sorted(durables.keys() | self._watch.pools())
        return [self._view(org, name, durables.get(name)) for name in names]

    async def get(self, org: str, name: str) -> PoolView:
        durable = await self._durable(org, name)
        if durable is None and not self._watch.of(name):
            raise absent("pool")
        return self._view(org, name, durable)

    async def pause(self, org: str, name: str) -> PoolView:
        """Hold what waits, until somebody lets it go on. Safe to repeat."""
        return await self._held(org, name, {"pause_until": _FOR_GOOD})

    async def resume(self, org: str, name: str) -> PoolView:
        return await self._held(org, name, {})

    async def drain(self, name: str, executor: str) -> ExecutorView:
        """Have one executor take nothing more; it leaves when it has ended what it has."""
        found = self._watch.find(name, executor)
        if found is None:
            raise absent("executor")
        [drained] = await self._drain([found])
        return drained

    async def drain_labelled(self, name: str, labels: Labels) -> Sequence[ExecutorView]:
        """The same of everybody in a pool who says all of this of himself, in whatever pools he is besides."""
        found = self._watch.labelled(name, labels)
        if not found:
            raise absent("executor")
        return await self._drain(found)

    async def _drain(self, found: Sequence[Seen]) -> Sequence[ExecutorView]:
        """Tell all of them, then wait for all. Safe to repeat."""
        for seen in found:
            executor = seen.said.executor
            self._signals.publish(drain(executor), encode(DrainExecutor(executor=executor)))
        async with asyncio.TaskGroup() as group:
            waits = [
                group.create_task(
                    self._watch.until_draining(each.said.pool, each.said.executor, DRAIN_SECONDS)
                )
                for each in found
            ]
        told = [wait.result() for wait in waits]
        drained = [self._executor(seen) for seen in told if seen is not None]
        if len(drained) < len(found):
            silent = ", ".join(
                each.said.executor for each, seen in zip(found, told, strict=True) if seen is None
            )
            raise unavailable(f"Not everybody has said that he drains. Ask again. Silent: {silent}")
        return drained

    async def _held(self, org: str, name: str, request: dict[str, str]) -> PoolView:
        durable = await self._durable(org, name)
        if durable is None:
            raise absent("pool")
        answer = await self._api.api(f"CONSUMER.PAUSE.{TASKS}.{durable.name}", request)
        if "error" in answer:
            raise absent("pool")
        return self._view(org, name, msgspec.structs.replace(durable, paused=bool(answer.get("paused"))))

    async def _durable(self, org: str, name: str) -> Durable | None:
        found = (each for each in await self._durables() if each.pool == name and belongs(each, org))
        return next(found, None)

    async def _durables(self) -> Iterable[Durable]:
        found: dict[str, Durable] = {}
        for _ in range(_PAGES):
            answer = await self._api.api(f"CONSUMER.LIST.{TASKS}", {"offset": len(found)})
            page = msgspec.convert(answer, _Durables)
            found |= {each.name: each for each in page.consumers}
            if not page.consumers or len(found) >= page.total:
                break
        return found.values()

    def _view(self, org: str, name: str, durable: Durable | None) -> PoolView:
        seen = self._watch.of(name)
        here = [each.said for each in seen if not self._watch.is_lost(each)]
        asked_at = self._asked_at.get((org, name))
        return PoolView(
            name=name,
            paused=durable is not None and durable.paused,
            waiting=durable.num_pending if durable else 0,
            under_way=durable.num_ack_pending if durable else 0,
            capacity=sum(said.capacity for said in here if not said.draining),
            executors=sorted(map(self._executor, seen), key=lambda each: each.id),
            last_asked=None if asked_at is None else datetime.fromtimestamp(asked_at, UTC),
        )

    def _executor(self, seen: Seen) -> ExecutorView:
        said = seen.said
        return ExecutorView(
            id=said.executor,
            capacity=said.capacity,
            under_way=said.under_way,
            labels=said.labels,
            draining=said.draining,
            last_seen=datetime.fromtimestamp(seen.at, UTC),
            lost=self._watch.is_lost(seen),
        )


def belongs(durable: Durable, org: str) -> bool:
    """Whether an org may see this pool: everybody's, or that of its own workers."""
    if durable.pool.startswith(WORKERS):
        return durable.config.filter_subject.split(".")[2] == org
    return (durable.name, durable.config.filter_subject) == (
        pool_consumer(durable.pool).name,
        task_filter(durable.pool),
    )
