"""What is acknowledged leaves TASKS, also after a nats-server that was killed, and nothing else leaves with it."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from chassis.jetstream import JetStream
from chassis.jetstream.connection import Connection
from chassis.jetstream.tasks import JetStreamTaskSource, purge_acknowledged
from chassis.ports import TaskDelivery
from contracts import subjects
from contracts.limits import LEASE_SECONDS
from deploy.testing.embedded import NatsServer
from tests.integration.conftest import OpenPorts
from tests.integration.port_laws import LONG, taken

POOLS = ("default", "gpu")
EACH = 24
TURNS = 5
PAST_THE_LEASE_SECONDS = 1.5
STATE_SECONDS = 2.5
"""By then nats-server has written down what was acknowledged; not yet that it has left."""


def task(pool: str, number: int) -> str:
    return subjects.task(pool, "org_laws", "run", f"step{number}", 1)


async def lying(ports: JetStream) -> set[str]:
    """The subjects of all tasks that are there, acknowledged or not."""
    answer = await ports.connection.api(f"STREAM.INFO.{subjects.TASKS}", {"subjects_filter": ">"})
    return set(answer["state"].get("subjects") or ())


async def emitted(ports: JetStream) -> set[str]:
    """Tasks of two pools in turn, so that their sequences are mixed."""
    wanted = set()
    for number in range(EACH):
        for pool in POOLS:
            subject = task(pool, number)
            ports.tasks.emit(pool, subject, subject.encode())
            wanted.add(subject)
    await until_it_lies_there(ports, wanted)
    return wanted


async def until_it_lies_there(ports: JetStream, wanted: set[str]) -> None:
    async with asyncio.timeout(LONG):
        while await lying(ports) != wanted:
            await asyncio.sleep(0.02)


async def killed(streams: NatsServer, ports: JetStream) -> None:
    await streams.kill()
    await streams.start()
    assert await ports.connection.until_up(LONG)


async def acknowledged(ports: JetStream, deliveries: Sequence[TaskDelivery]) -> None:
    """Return when the server has heard it."""
    for delivery in deliveries:
        delivery.done()
    await ports.connection.flush()


async def floor_of(ports: JetStream, pool: str) -> int:
    answer = await ports.connection.api(f"CONSUMER.INFO.{subjects.TASKS}.{subjects.pool_durable(pool)}")
    return int(answer["ack_floor"]["stream_seq"])


async def done_with(ports: JetStream, pool: str) -> None:
    """Acknowledge all that the pool has; also what the server forgot that we had acknowledged."""
    async with asyncio.timeout(LONG):
        while True:
            name = subjects.pool_durable(pool)
            told = await ports.connection.api(f"CONSUMER.INFO.{subjects.TASKS}.{name}")
            if not told["num_pending"] + told["num_ack_pending"]:
                return
            await acknowledged(ports, await taken(ports.source(pool), 1))


async def with_ghosts(streams: NatsServer, ports: JetStream, late: str, wanted: set[str]) -> set[str]:
    """Have all tasks of a pool acknowledged but one, and the server forget that they had left, not that they were done."""
    for _ in range(TURNS):
        await killed(streams, ports)  # The server keeps what it has read at its start.
        leased = await taken(ports.source("default"), EACH)
        over = [delivery for delivery in leased if delivery.body.decode() != late]
        await acknowledged(ports, over)
        await asyncio.sleep(STATE_SECONDS)
        await killed(streams, ports)
        if await lying(ports) == wanted and await floor_of(ports, "default"):
            return {delivery.body.decode() for delivery in over}
    raise AssertionError(f"nats-server forgot nothing in {TURNS} turns")


async def test_what_was_acknowledged_leaves_after_a_kill_and_nothing_else(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with open_ports() as ports:
        wanted, late = await emitted(ports), task("default", EACH // 2)
        await taken(ports.source("gpu"), 1, room=1)  # Begun and not done: it is as good as not begun.
        over = await with_ghosts(streams, ports, late, wanted)

        assert await purge_acknowledged(ports.connection, "gpu") == 0
        assert await purge_acknowledged(ports.connection, "default") == EACH // 2
        assert wanted - over <= await lying(ports)
        assert not {task("default", number) for number in range(EACH // 2)} & await lying(ports)

        await done_with(ports, "default")
        assert late not in await lying(ports)
        # Whoever takes tasks tidies up: when it begins, and now and then.
        rest = {task("gpu", number) for number in range(EACH)}
        assert {
            delivery.body.decode() for delivery in await taken(ports.source("gpu", "default"), EACH)
        } == rest
        assert await lying(ports) == rest


async def test_a_task_that_nobody_wants_is_taken_out_and_no_other_one(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        wanted = await emitted(ports)
        leased = await taken(ports.source("gpu"), 1, room=1)
        gone = {task("default", 1), task("default", 2), leased[0].body.decode()}
        await ports.tasks.forget(sorted(gone))
        assert await lying(ports) == wanted - gone
        await ports.tasks.forget(sorted(gone))
        assert await lying(ports) == wanted - gone


async def test_whoever_begins_puts_no_task_off_that_was_about_to_come_again(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        await emitted(ports)
        leased = await taken(ports.source("default"), EACH)
        await acknowledged(ports, leased[:1])
        await asyncio.sleep(LEASE_SECONDS + PAST_THE_LEASE_SECONDS)  # Whoever had the others has died.

        assert await purge_acknowledged(ports.connection, "default") == 0
        assert await there_at_once(ports, "default") == {each.body.decode() for each in leased[1:]}


async def there_at_once(ports: JetStream, pool: str) -> set[str]:
    """The tasks that nats-server gives to one who does not wait."""
    came: list[str] = []
    over = asyncio.Event()

    def heard(_subject: bytes, _reply: bytes, headers: bytes, body: bytes) -> None:
        if headers:
            over.set()  # There is nothing else.
        else:
            came.append(body.decode())

    inbox = f"{ports.connection.prefix}.at-once"
    sid = ports.connection.hear(inbox, heard)
    pull = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.TASKS}.{subjects.pool_durable(pool)}"
    ports.connection.publish(pull, b'{"batch":%d,"no_wait":true}' % (2 * EACH), reply=inbox)
    try:
        async with asyncio.timeout(LONG):
            await over.wait()
    finally:
        ports.connection.deafen(sid)
    return set(came)


class Restarted:
    """A connection that is lost, and there again, between the answer to one question and the next one."""

    def __init__(self) -> None:
        self.generation = 0
        self.asked: list[str] = []

    async def api(self, subject: str, _body: Any = None, _timeout: float = 0.0, **_: Any) -> dict[str, Any]:
        self.asked.append(subject)
        self.generation += 1
        return {"ack_floor": {"stream_seq": 500}, "message": {"seq": 1}, "purged": 499}


async def test_a_floor_told_by_a_server_that_was_killed_since_purges_nothing() -> None:
    connection = Restarted()
    assert await purge_acknowledged(cast("Connection", connection), "default") == 0
    assert connection.asked == ["CONSUMER.INFO.TASKS.exec-default", "STREAM.MSG.GET.TASKS"]


class Busy:
    """A connection whose server has heard what it is asked about the pool, and does not answer yet."""

    prefix = "_INBOX_busy"
    generation = 0

    def __init__(self) -> None:
        self.lost: list[Any] = []
        self.published: list[str] = []
        self.was_asked = asyncio.Event()

    async def api(self, subject: str, _body: Any = None, *_: Any, **__: Any) -> dict[str, Any]:
        if subject.startswith("CONSUMER.INFO"):
            self.was_asked.set()
            await asyncio.Event().wait()
        return {}

    def hear(self, _subject: str, _heard: Any) -> int:
        return 1

    def deafen(self, _sid: int) -> None:
        """Nothing is heard anyhow."""

    def publish(self, subject: str, _body: bytes, **_: Any) -> bool:
        self.published.append(subject)
        return True


async def test_tasks_are_asked_for_before_anybody_looks_what_to_tidy_up() -> None:
    """A server that has just been started answers late: tasks that wait there do not wait for that."""
    connection = Busy()
    arriving = JetStreamTaskSource(cast("Connection", connection), ["default"]).take(lambda: EACH)
    first = asyncio.ensure_future(anext(arriving))
    async with asyncio.timeout(LONG):
        await connection.was_asked.wait()
    assert connection.published == ["$JS.API.CONSUMER.MSG.NEXT.TASKS.exec-default"]
    first.cancel()
    await asyncio.wait((first,))
    await arriving.aclose()
