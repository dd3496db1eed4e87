"""Every partition has an owner who hears everything, however owners come, share, stop and die."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from chassis.jetstream import JetStream
from chassis.ports import Ambiguous, Away, NobodyThere
from chassis.reconcile import unpin_all
from contracts import subjects
from contracts.messages import Wake
from deploy.testing.embedded import NatsServer
from executor.patience import insist
from tests.integration.conftest import OpenPorts
from tests.integration.port_laws import LONG, Owner, until

EVERY = set(range(8))
ROOT = Path(__file__).parents[2]


class Other:
    """An owner in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.owned: list[int] = []
        self.arrived: list[tuple[int, str]] = []

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            match line.decode().split(maxsplit=2):
                case ["owned", number]:
                    self.owned.append(int(number))
                case ["arrived", number, body]:
                    self.arrived.append((int(number), body.strip()))

    def has_its_share(self) -> bool:
        return len(set(self.owned)) >= 4 and len(self.arrived) > 20

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def other_process(server: NatsServer, name: str, *, answers: str = "yes") -> AsyncIterator[Other]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("owner_process.py")),
        server.url,
        name,
        answers,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    other = Other(process)
    try:
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(other.listen())
            yield other
            listening.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        # Its pipe ends with it, not with the collector.
        process._transport.close()  # type: ignore[attr-defined]  # As a dead process would.


@asynccontextmanager
async def owner_here(ports: JetStream, *, answering: bool = True) -> AsyncIterator[Owner]:
    """Like another process: stands by, takes what it gets."""
    owner = Owner(ports.ownership(), answering=answering)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(owner.run())
        yield owner
        running.cancel()


async def called(ports: JetStream, number: int, body: bytes = b"[]") -> bytes:
    """Ask the partition's owner until somebody answers."""
    async with asyncio.timeout(LONG):
        while True:
            try:
                return await ports.signals.request(subjects.call(number), body, 0.5)
            except (NobodyThere, Ambiguous):
                await asyncio.sleep(0.02)


# --- Dying ------------------------------------------------------------------------------------


async def test_what_a_killed_owner_had_fetched_comes_to_the_next_one(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with other_process(streams, "dying", answers="no") as other, open_ports() as ports:
        await until(lambda: set(other.owned) == EVERY)
        sent = {(number % 8, f'["{number}"]') for number in range(40)}
        for number, body in sorted(sent):
            await ports.inbox.put(number, body.encode())
        await until(lambda: set(other.arrived) == sent)
        async with owner_here(ports) as owner:
            # Newer messages, which the new owner acknowledges, must not acknowledge what the dead one had.
            other.tell(signal.SIGKILL)
            for number in range(8):
                await ports.inbox.put(number, b'["newer"]')
            await until(lambda: {(a.partition, a.body.decode()) for a in owner.arrived} >= sent)
            await until(lambda: set(owner.owned) == EVERY)
            for number in range(8):
                assert await called(ports, number) == b"done:[]"


async def test_a_paused_owner_loses_its_partitions_and_learns_of_it(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with other_process(streams, "paused") as other, open_ports() as ports:
        await until(lambda: set(other.owned) == EVERY)
        other.tell(signal.SIGSTOP)
        async with owner_here(ports) as owner:
            await until(lambda: set(owner.owned) == EVERY)
            other.tell(signal.SIGCONT)
            # It is there again: they share, and no call is answered by two or by none.
            await until(lambda: len(ports.ownership().owned) == 4)
            other.arrived.clear()
            answers = {number: await called(ports, number, b"[1]") for number in range(8)}
            assert set(answers.values()) == {b"paused", b"done:[1]"}


async def test_when_the_server_is_killed_owners_own_again_and_nothing_is_lost(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with open_ports() as ports, open_ports() as others, owner_here(ports) as owner:
        await until(lambda: set(owner.owned) == EVERY)
        owner.answering = False
        for number in range(8):
            await others.inbox.put(number, b'["before"]')
        await until(lambda: len(owner.arrived) == 8)
        owner.answering = True
        owner.owned.clear()
        owner.arrived.clear()
        await streams.kill()
        await streams.start()
        await until(lambda: set(owner.owned) == EVERY)
        await until(lambda: {a.partition for a in owner.arrived if a.body == b'["before"]'} == EVERY)


# --- Sharing ----------------------------------------------------------------------------------


async def test_owners_share_fairly_as_they_come_and_go(open_ports: OpenPorts) -> None:
    async with open_ports() as first, open_ports() as second, open_ports() as asking, owner_here(first):
        await until(lambda: set(first.ownership().owned) == EVERY)
        async with owner_here(second):
            await until(lambda: shares(first, second) == [4, 4])
            assert {await called(asking, number) for number in range(8)} == {b"done:[]"}
            async with open_ports() as third, owner_here(third):
                await until(lambda: shares(first, second, third) == [2, 3, 3])
                await third.ownership().release()
            await until(lambda: shares(first, second) == [4, 4])
            await second.ownership().release()
        await until(lambda: set(first.ownership().owned) == EVERY)
        assert {await called(asking, number) for number in range(8)} == {b"done:[]"}


def shares(*ports: JetStream) -> list[int]:
    """How many each has, when together they have every partition once."""
    owned = [each.ownership().owned for each in ports]
    assert sum(map(len, owned)) <= 8 + 2  # Handing over takes a moment, never more.
    return sorted(map(len, owned)) if sorted(chain(*owned)) == sorted(EVERY) else []


async def test_a_released_owner_answers_what_had_arrived_and_hears_no_more(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as asking, asyncio.TaskGroup() as tasks:
        ownership = ports.ownership()
        await until(lambda: set(ownership.owned) == EVERY)
        await ports.connection.flush()
        calls = [
            tasks.create_task(asking.signals.request(subjects.call(number), b"[]", LONG))
            for number in range(8)
        ]
        await until(lambda: len(ownership._arrived) == 8 + 8)  # Nobody has read `arrivals` yet.
        await ownership.release()
        owner = Owner(ownership)
        await owner.run()  # Ends by itself.
        assert owner.ended
        assert [await call for call in calls] == [b"done:[]"] * 8
        assert ownership.owned == []


async def test_no_reply_subject_of_a_call_can_harm_its_owner(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as asking, owner_here(ports) as owner:
        await until(lambda: set(owner.owned) == EVERY)
        await ports.connection.flush()
        for reply in ("", "$JS.ACK.x", "$JS.ACK.INBOX.orch-1.a.b.c.d.e", "$JS.API.STREAM.DELETE.NOTHING"):
            asking.connection.publish(subjects.call(1), b"[]", reply=reply)
        await until(lambda: len(owner.arrived) + asking.connection.counts["forbidden"] == 4)
        assert all(arrival.direct for arrival in owner.arrived)
        assert asking.connection.counts["forbidden"] == 2  # The server lets nobody pretend a delivery.
        assert await called(asking, 1) == b"done:[]"


async def test_a_partition_that_is_unpinned_is_owned_again(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, owner_here(ports) as owner:
        await until(lambda: set(owner.owned) == EVERY)
        for turn in range(3):
            owner.owned.clear()
            await unpin_all(ports.connection)
            # The server says so with the next message, and nobody else owned it meanwhile.
            for number in range(8):
                await ports.inbox.put(number, b"[%d]" % turn)
            await until(lambda: set(owner.owned) == EVERY)
            async with asyncio.timeout(LONG):
                while [arrival.body for arrival in owner.arrived].count(b"[%d]" % turn) < 8:
                    await asyncio.sleep(0.01)
        assert await called(ports, 5) == b"done:[]"


async def test_stale_pins_do_not_keep_a_new_stack_waiting(streams: NatsServer, open_ports: OpenPorts) -> None:
    async with other_process(streams, "dead") as other, open_ports() as ports:
        await until(lambda: set(other.owned) == EVERY)
        other.tell(signal.SIGKILL)
        await other.process.wait()
        await unpin_all(ports.connection)
        async with owner_here(ports) as owner:
            await until(lambda: set(owner.owned) == EVERY)


async def test_nothing_is_lost_while_owners_come_and_go(streams: NatsServer, open_ports: OpenPorts) -> None:
    async with open_ports() as sending, open_ports() as steady:
        sent: list[str] = []
        ended = asyncio.Event()

        async def send() -> None:
            while not ended.is_set():
                body = f'["{len(sent)}"]'
                await sending.inbox.put(len(sent) % 8, body.encode())
                sent.append(body)

        async with owner_here(steady) as owner, asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            heard: set[str] = set()
            for name in ("one", "two"):
                async with other_process(streams, name) as other:
                    await until(other.has_its_share)
                    other.tell(signal.SIGKILL if name == "one" else signal.SIGSTOP)
                    await asyncio.sleep(0.3)
                    heard |= {body for _, body in other.arrived}
                # Killed in any case by now.
            ended.set()
            await until(lambda: heard | {a.body.decode() for a in owner.arrived} >= set(sent))
        assert len(sent) > 100


# --- Forgetting, tidying up -------------------------------------------------------------------


async def test_after_forget_nothing_of_the_old_generation_arrives(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as asking:
        ownership = ports.ownership()
        await until(lambda: set(ownership.owned) == EVERY)
        for number in range(8):
            await asking.inbox.put(number, b'["again"]')
        asking.signals.publish(subjects.call(1), b"lost")
        await until(lambda: len(ownership._arrived) == 8 + 8 + 1)
        await ownership.forget()
        assert [item for item in ownership._arrived if not isinstance(item, int)] == []
        async with owner_here(ports) as owner:
            await until(lambda: len(owner.arrived) == 8)
            assert {arrival.body for arrival in owner.arrived} == {b'["again"]'}
            assert sorted(owner.owned) == sorted(EVERY)  # Once each: only the new generation.


async def test_caught_up_waits_for_all_that_lay_there_and_says_when_it_cannot(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as others:
        for number in range(300):
            await others.inbox.put(4, b"[%d]" % number)
        async with owner_here(ports) as owner:
            await until(lambda: set(owner.owned) == EVERY)
            await ports.ownership().caught_up(4)
            await ports.ownership().caught_up(7)  # Nothing lies there but the poke.
            await until(lambda: len(owner.bodies(4)) == 300)
            await ports.ownership().release()
            await others.inbox.put(4, b"[1]")
            assert isinstance(await reason(ports.ownership().caught_up(4)), Away)


async def test_thousands_who_read_a_partition_on_ask_the_server_a_few_times(
    open_ports: OpenPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_ports() as ports, owner_here(ports) as owner:
        await until(lambda: set(owner.owned) == EVERY)
        asked, ask = 0, ports.connection.ask

        async def counting(questions: Sequence[Any], *more: Any) -> Any:
            nonlocal asked
            asked += len(questions)
            return await ask(questions, *more)

        monkeypatch.setattr(ports.connection, "ask", counting)
        held = ports.ownership()._partitions[4]
        await ports.inbox.put(4, b"[1]")
        await until(lambda: len(owner.bodies(4)) == 1)
        seen, held.seen = held.seen, 0  # As if it had not come yet.
        reading = [asyncio.create_task(ports.ownership().caught_up(4)) for _ in range(2_000)]
        await until(lambda: asked >= 3)
        assert not any(task.done() for task in reading)
        held.seen = seen
        async with asyncio.timeout(20):
            await asyncio.gather(*reading)
        assert asked < 500, "who waits does not ask for himself"


async def reason(work: Any) -> Exception | None:
    try:
        await work
    except Away as away:
        return away
    return None


async def test_what_is_acknowledged_is_purged_and_timers_stay(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, owner_here(ports) as owner:
        await until(lambda: set(owner.owned) == EVERY)
        due = datetime.now(UTC) + timedelta(hours=1)
        await ports.inbox.wake_at([(Wake(org="o", run="r", wait="w"), due)])
        for number in range(50):
            await ports.inbox.put(number % 8, b"[%d]" % number)
        await until(lambda: len(owner.arrived) == 50)

        async def left() -> dict[str, int]:
            answer = await ports.connection.api("STREAM.INFO.INBOX", {"subjects_filter": ">"})
            return dict(answer["state"].get("subjects") or {})

        async with asyncio.timeout(LONG):
            while set(await left()) != {subjects.timer("o", "r", "w")}:
                await asyncio.sleep(0.1)


async def test_two_thousand_wake_ups_at_one_instant_all_come(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, owner_here(ports) as owner:
        await until(lambda: set(owner.owned) == EVERY)
        due = datetime.now(UTC) + timedelta(seconds=2)
        for start in range(0, 2_000, 500):
            wakes = [
                (Wake(org="o", run=f"run-{number}", wait="w"), due) for number in range(start, start + 500)
            ]
            await insist(partial(ports.inbox.wake_at, wakes))  # A busy disk may take too long to acknowledge.
        await until(lambda: len({arrival.body for arrival in owner.arrived}) == 2_000)
