"""Both sides of TASKS: asking for attempts, and taking them under a lease.

Whoever takes the tasks of a pool also removes what lies there acknowledged: TASKS is not synced, so a nats-server that
was killed may have forgotten that a task had left. Nobody is given it again, and it keeps the place of its subject.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

import structlog

from chassis.jetstream.connection import Connection
from chassis.jetstream.log import JetStreamLog
from chassis.jetstream.wire import status
from chassis.ports import Away, Lying, TaskDelivery
from contracts.streams import pool_consumer, worker_consumer
from contracts.subjects import TASKS

_EXPIRES_SECONDS: Final = 5.0
_HEARTBEAT_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 3.0
"""Not even a heartbeat: the pull died with whoever had it. In a cluster another node leads the consumer now."""
_FULL_SECONDS: Final = 0.05
_PAUSE_SECONDS: Final = 0.2
_PURGE_SECONDS: Final = 30.0
_PURGE_PATIENCE_SECONDS: Final = 1.0
"""Tasks that come meanwhile wait so long, and no longer: a lease is three seconds."""
_LOOK_SECONDS: Final = 1.0
_NO_CONSUMER: Final = 10014
_NO_MESSAGE: Final = 10037
_NANO: Final = 1_000_000_000

log = structlog.get_logger()


class JetStreamTasks:
    """Implements `Tasks`."""

    def __init__(self, connection: Connection, tasks: JetStreamLog) -> None:
        self._connection = connection
        self._tasks = tasks

    def emit(self, pool: str, subject: str, body: bytes) -> None:
        """Lost when the connection is down: whoever looks at the run emits it again."""
        self._connection.publish(subject, body)

    async def waiting(self, subjects: Sequence[str]) -> set[str]:
        return set(await self._tasks.last(subjects))

    async def forget(self, subjects: Sequence[str]) -> None:
        for subject in subjects:
            answer = await self._connection.api(f"STREAM.PURGE.{TASKS}", {"filter": subject})
            if "error" in answer:
                raise Away(f"{TASKS} cannot be purged: {answer['error'].get('description')}")

    async def lying(self, pool: str, org: str = "") -> Lying:
        """Of a pool that nobody has ever taken from, everything that is there is unread."""
        consumer = worker_consumer(org, pool) if org else pool_consumer(pool)
        told = await self._connection.api(f"CONSUMER.INFO.{TASKS}.{consumer.name}", timeout=_LOOK_SECONDS)
        if told.get("error", {}).get("err_code") == _NO_CONSUMER:
            request = {"subjects_filter": consumer.filter}
            there = await self._connection.api(f"STREAM.INFO.{TASKS}", request, _LOOK_SECONDS)
            return Lying(len(there.get("state", {}).get("subjects") or ()), 0)
        if "error" in told:
            raise Away(f"{consumer.name}: {told['error'].get('description')}")
        return Lying(int(told["num_pending"]), int(told["num_ack_pending"]))


class JetStreamDelivery:
    """Implements `TaskDelivery`. What is said while the connection is down is lost: the task comes again."""

    __slots__ = ("_freed", "_publish", "_reply", "body")

    def __init__(
        self, body: bytes, reply: str, publish: Callable[..., bool], freed: Callable[[], None]
    ) -> None:
        self.body = body
        self._reply = reply
        self._publish = publish
        self._freed = freed

    def working(self) -> None:
        self._publish(self._reply, b"+WPI")

    def done(self) -> None:
        self._publish(self._reply, b"+ACK")
        self._freed()

    def give_back(self, delay: float = 0.0) -> None:
        self._publish(self._reply, b'-NAK {"delay":%d}' % int(delay * _NANO) if delay else b"-NAK")
        self._freed()


class JetStreamTaskSource:
    """Implements `TaskSource` for some pools."""

    def __init__(self, connection: Connection, pools: Sequence[str]) -> None:
        self._connection = connection
        self._pools = pools

    @property
    def connected_since(self) -> float:
        return self._connection.connected_since

    async def take(self, room: Callable[[], int]) -> AsyncGenerator[Sequence[TaskDelivery], None]:
        """A pull is open all the time that there is room, so that a task never waits for a question."""
        came = asyncio.Event()
        feeds: list[_Feed] = []
        try:
            for pool in self._pools:
                await self._declare(pool)
                feeds.append(_Feed(self._connection, pool, came))
            while True:
                arrived = [delivery for feed in feeds for delivery in feed.taken()]
                if arrived:
                    yield arrived
                    continue
                for feed in feeds:
                    feed.forget_silent_pull()
                    await self._mend(feed)
                free = room() - sum(feed.wanted for feed in feeds)
                for feed in feeds:
                    if feed.wanted == 0 and free > 0:
                        free -= feed.pull(max(1, free // len(feeds)))
                for feed in feeds:
                    await self._purge_now_and_then(feed)
                await self._wait(came, full=free <= 0)
        finally:
            for feed in feeds:
                feed.close()

    async def _wait(self, came: asyncio.Event, *, full: bool) -> None:
        """Without room we look again soon: nobody says when an attempt ends that was never ours to acknowledge."""
        try:
            async with asyncio.timeout(_FULL_SECONDS if full else _SILENCE_SECONDS):
                await came.wait()
        except TimeoutError:
            return
        came.clear()

    async def _mend(self, feed: "_Feed") -> None:
        """The server restarts, or the consumer is gone."""
        if feed.broken:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self._connection.until_up(_EXPIRES_SECONDS)
            await self._declare(feed.pool)
            feed.broken = False

    async def _purge_now_and_then(self, feed: "_Feed") -> None:
        """Again and again: the next server that is killed may have forgotten this purge, too."""
        now = asyncio.get_running_loop().time()
        if now < feed.purge_at:
            return
        feed.purge_at = now + _PURGE_SECONDS
        try:
            purged = await purge_acknowledged(self._connection, feed.pool)
        except Away as away:
            log.warning("pool.not-purged", pool=feed.pool, reason=str(away))
        else:
            if purged:
                log.info("pool.purged", pool=feed.pool, tasks=purged)

    async def _declare(self, pool: str) -> None:
        """Make the pool's consumer when this is its first executor."""
        consumer = pool_consumer(pool)
        subject = f"CONSUMER.CREATE.{TASKS}.{consumer.name}.{consumer.filter}"
        request = {"stream_name": TASKS, "action": "create", "config": consumer.settings()}
        while True:
            try:
                answer = await self._connection.api(subject, request)
            except Away as away:
                log.warning("pool.waits", pool=pool, reason=str(away))
            else:
                if "error" not in answer or answer["error"].get("err_code") == _EXISTS:
                    return
                log.error("pool.not-declared", pool=pool, reason=answer["error"].get("description"))
            await asyncio.sleep(_PAUSE_SECONDS)


_EXISTS: Final = 10148
"""The consumer is there with other settings: the reconciler brings them up to date, or says why not."""


async def purge_acknowledged(connection: Connection, pool: str) -> int:
    """Remove the pool's tasks up to its own ack floor, and no other pool's: how many lay there. Raises `Away`.

    The floor counts only for the server that told it: one that was killed may number new tasks anew from below it.
    Nothing is removed where nothing lies there: a purge has nats-server forget which tasks it was about to give again, until
    their leases have run out once more.
    """
    consumer, generation = pool_consumer(pool), connection.generation
    told = await connection.api(f"CONSUMER.INFO.{TASKS}.{consumer.name}", timeout=_PURGE_PATIENCE_SECONDS)
    if "error" in told:
        raise Away(f"{consumer.name}: {told['error'].get('description')}")
    floor = int(told["ack_floor"]["stream_seq"])
    if not floor or not await _lies_there(connection, consumer.filter, floor):
        return 0
    if connection.generation != generation:
        return 0
    request = {"filter": consumer.filter, "seq": floor + 1}
    answer = await connection.api(f"STREAM.PURGE.{TASKS}", request, _PURGE_PATIENCE_SECONDS)
    if "error" in answer:
        raise Away(f"{TASKS} cannot be purged: {answer['error'].get('description')}")
    return int(answer["purged"])


async def _lies_there(connection: Connection, tasks: str, floor: int) -> bool:
    """Whether a task of these lies at the floor or below. Raises `Away`."""
    request = {"seq": 1, "next_by_subj": tasks}
    first = await connection.api(f"STREAM.MSG.GET.{TASKS}", request, _PURGE_PATIENCE_SECONDS)
    if first.get("error", {}).get("err_code") == _NO_MESSAGE:
        return False
    if "error" in first:
        raise Away(f"{TASKS} cannot be read: {first['error'].get('description')}")
    return int(first["message"]["seq"]) <= floor


class _Feed:
    """The open pull of one pool."""

    def __init__(self, connection: Connection, pool: str, came: asyncio.Event) -> None:
        self.pool = pool
        self.broken = False
        self._connection = connection
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{TASKS}.{pool_consumer(pool).name}"
        self._came = came
        self._taken: list[TaskDelivery] = []
        self._number = 0
        self._base = f"{connection.prefix}.t.{pool}"
        self._loop = asyncio.get_running_loop()
        self._heard_at = 0.0
        self.wanted = 0
        """What the open pull may still bring."""
        self.purge_at = 0.0
        """When the loop's clock says so, what lies there acknowledged is removed."""
        self._sid = connection.hear(f"{self._base}.*", self._heard)
        connection.lost.append(self._lost)

    def pull(self, batch: int) -> int:
        self._number += 1
        request = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (
            batch,
            int(_EXPIRES_SECONDS * _NANO),
            int(_HEARTBEAT_SECONDS * _NANO),
        )
        self._heard_at = self._loop.time()
        if self._connection.publish(self._subject, request, reply=f"{self._base}.{self._number}"):
            self.wanted = batch
        else:
            self._lost()
        return self.wanted

    def forget_silent_pull(self) -> None:
        """Whatever it still brings is taken all the same."""
        if self.wanted and self._loop.time() - self._heard_at > _SILENCE_SECONDS:
            log.warning("pool.silent", pool=self.pool)
            self.wanted = 0

    def taken(self) -> list[TaskDelivery]:
        taken, self._taken = self._taken, []
        return taken

    def close(self) -> None:
        self._connection.deafen(self._sid)
        self._connection.lost.remove(self._lost)
        for delivery in self._taken:
            delivery.give_back()

    def _lost(self) -> None:
        self.wanted = 0
        self.broken = True
        self._came.set()

    def _heard(self, subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        code = status(headers)
        self._heard_at = self._loop.time()
        if not code:
            self.wanted = max(0, self.wanted - 1)
            self._taken.append(
                JetStreamDelivery(body, reply.decode(), self._connection.publish, self._came.set)
            )
            self._came.set()
        elif code != "100" and subject.rpartition(b".")[2] == b"%d" % self._number:
            if code not in {"404", "408"}:
                log.warning("pool.pull-ended", pool=self.pool, status=code)
                self.broken = True
            self.wanted = 0
            self._came.set()
