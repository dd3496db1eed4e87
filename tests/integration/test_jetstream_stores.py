"""Tasks, blobs, the catalogue and the disk: what their own parts of JetStream promise beyond the laws of the ports."""

import asyncio
import random
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from chassis.clock import Clock
from chassis.disk import Disk
from chassis.jetstream import JetStream
from chassis.jetstream.blobs import CHUNK_BYTES, STREAM
from chassis.jetstream.connection import connect
from chassis.ports import Away, TaskDelivery
from contracts import subjects
from contracts.limits import BLOB_BYTES
from contracts.nodes import NodeSpec
from deploy.testing.embedded import NatsServer
from executor.patience import insist
from tests.integration.conftest import OpenPorts, StartNats, make_streams, ports_of
from tests.integration.port_laws import LONG, gone, task, there, until

# --- Tasks ------------------------------------------------------------------------------------


async def test_executors_of_a_pool_share_its_tasks_and_each_pool_has_its_own(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as first, open_ports() as second:
        mine = [task("run", number) for number in range(40)]
        other = subjects.task("gpu", "org_laws", "run", "other", 1)
        taken: dict[str, list[bytes]] = {"first": [], "second": [], "gpu": []}
        async with asyncio.TaskGroup() as tasks:
            working = [
                tasks.create_task(work(source, taken[name], room=3))
                for name, source in (
                    ("first", first.source("default")),
                    ("second", second.source("default")),
                    ("gpu", second.source("gpu")),
                )
            ]
            for number, subject in enumerate(mine):
                ports.tasks.emit("default", subject, b"%d" % number)
            ports.tasks.emit("gpu", other, b"gpu")
            await until(lambda: sum(map(len, taken.values())) >= 41)
            await gone(ports.tasks, [*mine, other])
            for each in working:
                each.cancel()
        assert taken["gpu"] == [b"gpu"]
        assert sorted(map(int, taken["first"] + taken["second"])) == list(range(40))
        assert taken["first"]
        assert taken["second"]


async def work(source: Any, taken: list[bytes], room: int) -> None:
    held: list[TaskDelivery] = []

    def free() -> int:
        return room - len(held)

    async for bunch in source.take(free):
        held += bunch
        assert len(held) <= room
        await asyncio.sleep(0.005)
        while held:
            taken.append(held[-1].body)
            held.pop().done()


async def test_a_lease_that_is_kept_alive_is_not_given_to_another(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as other:
        subject = task("run", 1)
        ports.tasks.emit("default", subject, b"long")
        async with aclosing(ports.source("default").take(lambda: 1)) as bunches:
            [delivery] = await anext(bunches)
        taken: list[bytes] = []
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work(other.source("default"), taken, room=5))
            for _ in range(9):  # Half a second longer than the lease.
                await asyncio.sleep(0.4)
                delivery.working()
            assert taken == []
            delivery.give_back(delay=0.2)
            await until(lambda: taken == [b"long"])
            working.cancel()


async def test_tasks_go_on_after_a_restart_of_the_server_and_a_lost_consumer(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with open_ports() as ports, open_ports() as executor:
        taken: list[bytes] = []
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work(executor.source("default"), taken, room=5))
            for turn in range(3):
                await until(lambda: ports.connection.up)
                subject = task(f"run{turn}", turn)
                async with asyncio.timeout(LONG):
                    while b"%d" % turn not in taken:
                        ports.tasks.emit("default", subject, b"%d" % turn)
                        await asyncio.sleep(0.05)
                if turn == 0:
                    await streams.kill()
                    await streams.start()
                elif turn == 1:
                    answer = await ports.connection.api("CONSUMER.DELETE.TASKS.exec-default")
                    assert answer["success"]
            working.cancel()


async def test_what_was_taken_and_not_handed_on_goes_back_when_the_executor_stops(
    open_ports: OpenPorts,
) -> None:
    async with open_ports() as ports:
        wanted = [task("run", number) for number in range(10)]
        for subject in wanted:
            ports.tasks.emit("default", subject, b"x")
        await there(ports.tasks, wanted)
        handed: list[TaskDelivery] = []
        async with aclosing(ports.source("default").take(lambda: 10)) as bunches:
            handed += await anext(bunches)
        for delivery in handed:
            delivery.give_back()
        again: list[bytes] = []
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work(ports.source("default"), again, room=10))
            await until(lambda: len(again) >= 10)
            working.cancel()
        await gone(ports.tasks, wanted)


# --- Blobs ------------------------------------------------------------------------------------


async def objects(ports: JetStream) -> int:
    """Messages in the bucket: chunks and descriptions."""
    return int((await ports.connection.api(f"STREAM.INFO.{STREAM}"))["state"]["messages"])


async def test_the_same_bytes_are_stored_once_also_by_many_at_once(open_ports: OpenPorts) -> None:
    data = bytes(range(256)) * 4_000
    chunks = -(-len(data) // CHUNK_BYTES)
    async with open_ports() as ports, open_ports() as others:
        async with asyncio.TaskGroup() as tasks:
            puts = [tasks.create_task(insist(partial(each.blobs.put, data))) for each in (ports, others) * 4]
        [blob] = {put.result() for put in puts}
        assert await others.blobs.get(blob) == data
        await insist(partial(ports.blobs.put, data))
        assert await ports.blobs.collect(everything, older_than=0.0) == 0  # Orphans of who came second go.
        assert await objects(ports) == chunks + 1
        assert await others.blobs.get(blob) == data


async def test_other_clients_read_our_objects(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        data = bytes(range(256)) * 4_000
        blob = await insist(partial(ports.blobs.put, data))
        bucket = await ports.connection.client.jetstream().object_store(subjects.BLOBS_BUCKET)
        found = await bucket.get(blob.sha256)
        assert found.data == data
        assert found.info.size == len(data)


async def test_the_largest_value_is_stored_and_a_larger_one_refused(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        data = b"\xab" * BLOB_BYTES
        blob = await insist(partial(ports.blobs.put, data, "application/octet-stream"))
        assert await ports.blobs.get(blob) == data
        with pytest.raises(ValueError, match="more than one value may have"):
            await ports.blobs.put(data + b"x")


async def test_bytes_that_changed_on_disk_are_never_given_out(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        blob = await ports.blobs.put(b"true")
        found = await ports.connection.api(f"STREAM.INFO.{STREAM}", {"subjects_filter": "$O.BLOBS.C.>"})
        [chunk] = found["state"]["subjects"]
        await ports.connection.api(f"STREAM.PURGE.{STREAM}", {"filter": chunk})
        await ports.letters.store(chunk, b"fake")
        with pytest.raises(KeyError):
            await ports.blobs.get(blob)


async def test_only_old_objects_that_nobody_names_are_collected(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        kept, dropped = await ports.blobs.put(b"kept"), await ports.blobs.put(b"dropped")

        async def keep(names: set[str]) -> set[str]:
            return names & {kept.sha256}

        assert await ports.blobs.collect(keep, older_than=3600) == 0
        assert await ports.blobs.get(dropped) == b"dropped"
        assert await ports.blobs.collect(keep, older_than=0.0) == 1
        with pytest.raises(KeyError):
            await ports.blobs.get(dropped)
        assert await ports.blobs.get(kept) == b"kept"
        assert await objects(ports) == 2
        # And what is gone can come back.
        assert await ports.blobs.get(await ports.blobs.put(b"dropped")) == b"dropped"


async def test_an_object_that_is_stored_again_meanwhile_is_not_collected(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as others:
        blob = await ports.blobs.put(b"again")
        others.blobs._clock = Late(others.blobs._clock)

        async def keep(_names: set[str]) -> set[str]:
            assert await others.blobs.put(b"again") == blob  # Just as the collector has decided.
            return set()

        assert await ports.blobs.collect(keep, older_than=0.0) == 0
        assert await ports.blobs.get(blob) == b"again"


class Late:
    """A clock two hours ahead: what was stored just now is old."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now() + timedelta(hours=2)

    def seconds(self) -> float:
        return self._clock.seconds()


async def test_chunks_whose_writer_died_are_collected(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        kept = await ports.blobs.put(b"whole")
        for number in range(3):
            await ports.letters.store("$O.BLOBS.C.orphan", b"chunk %d" % number)
        assert await ports.blobs.collect(everything, older_than=3600) == 0
        assert await objects(ports) == 5
        assert await ports.blobs.collect(everything, older_than=0.0) == 0
        assert await objects(ports) == 2
        assert await ports.blobs.get(kept) == b"whole"


async def everything(names: set[str]) -> set[str]:
    return names


async def test_an_upload_in_which_the_server_dies_is_whole_or_not_there(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    data = bytes(range(256)) * 40_000
    async with open_ports() as ports:
        for _ in range(3):
            async with asyncio.TaskGroup() as tasks:
                putting = tasks.create_task(put(ports, data))
                await asyncio.sleep(0.02)
                await streams.kill()
                await streams.start()
            await until(lambda: ports.connection.up)
            if putting.result() is not None:
                assert await ports.blobs.get(putting.result()) == data
        blob = await insist(partial(ports.blobs.put, data))
        assert await ports.blobs.get(blob) == data


async def put(ports: JetStream, data: bytes) -> Any:
    try:
        return await ports.blobs.put(data)
    except Away:
        return None


# --- Catalogue --------------------------------------------------------------------------------


def spec(name: str, version: int = 1, title: str = "A node") -> NodeSpec:
    return NodeSpec(type=name, version=version, title=title, help="", icon="box", category="x", config={})


async def test_the_catalogue_has_the_newest_version_of_each_type_and_every_version(
    open_ports: OpenPorts,
) -> None:
    async with open_ports() as ports, open_ports() as others:
        for each in (spec("http.request", 2), spec("http.request"), spec("echo")):
            await ports.catalogue.announce(each)
        found = await others.catalogue.specs()
        assert {name: each.version for name, each in found.items()} == {
            "http.request": 2,
            "http.request@1": 1,
            "http.request@2": 2,
            "echo": 1,
            "echo@1": 1,
        }


async def test_announcing_again_stores_nothing_and_a_change_replaces(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        await ports.catalogue.announce(spec("echo"))
        end = await ports.reader("KV_NODES").end()
        await ports.catalogue.announce(spec("echo"))
        assert await ports.reader("KV_NODES").end() == end
        await ports.catalogue.announce(spec("echo", title="Echo"))
        assert (await ports.catalogue.specs())["echo"].title == "Echo"


async def test_who_watches_sees_every_change_and_no_poison_stops_it(open_ports: OpenPorts) -> None:
    async with open_ports() as ports, open_ports() as others:
        await ports.letters.store("$KV.NODES.bad.1", b'{"type":"from a newer release"')
        async with asyncio.timeout(LONG), aclosing(others.catalogue.watch()) as seen:
            assert await anext(seen) == {}
            await ports.catalogue.announce(spec("echo"))
            assert set(await anext(seen)) == {"echo", "echo@1"}
            await ports.catalogue.announce(spec("echo", 2))
            assert (await anext(seen))["echo"].version == 2
        assert set(await ports.catalogue.specs()) == {"echo", "echo@1", "echo@2"}


# --- Disk -------------------------------------------------------------------------------------


async def test_uploads_stop_before_starts_and_both_begin_again(start_nats: StartNats) -> None:
    server = await start_nats(max_file_store="8MB")
    await make_streams(server)
    async with ports_of(server) as ports:
        disk = Disk(ports.connection, server.monitor_url)
        assert await disk.quota() == 8 * 1024 * 1024
        seen: list[tuple[bool, bool]] = []
        for number in range(200):
            state = await disk.look()
            if (state.stops_uploads, state.stops_starts) not in seen:
                seen.append((state.stops_uploads, state.stops_starts))
            if state.stops_starts:
                break
            # Of its own, so that s2 cannot make it smaller.
            await ports.letters.store(subjects.domain("o", "workflow", f"w{number}"), noise(number))
        assert seen == [(False, False), (True, False), (True, True)]
        await until(lambda: ports.disk.state.stops_starts)  # The one that looks by itself sees it too.
        await ports.connection.api("STREAM.PURGE.DOMAIN", {"filter": ">"})
        await until(lambda: not ports.disk.state.stops_uploads)


def noise(number: int) -> bytes:
    return random.Random(number).randbytes(200_000)


async def test_the_accounts_own_quota_counts_too(start_nats: StartNats) -> None:
    accounts = (
        "accounts { APP { jetstream: { max_file: 1MB, max_mem: 1MB }, "
        "users: [ { user: u, password: p } ] } }\nno_auth_user: u"
    )
    server = await start_nats(accounts=accounts)

    async with connect(server.url, name="tests") as connection:
        made = await connection.api(
            "STREAM.CREATE.S", {"name": "S", "subjects": ["s"], "storage": "file", "num_replicas": 1}
        )
        assert "error" not in made
        disk = Disk(connection)
        assert await disk.quota() == 1_048_576
        assert await connection.ask([("s", noise(1) * 4, b"")]) != [None]
        assert 0.7 < (await disk.look()).used_share < 0.85
        assert disk.state.stops_uploads
        assert not disk.state.stops_starts


async def test_without_an_answer_the_last_state_stands() -> None:
    class Silent:
        async def api(self, _subject: str) -> dict[str, object]:
            raise Away("nobody")

    class Odd:
        async def api(self, _subject: str) -> dict[str, object]:
            return {"storage": "many", "limits": None}

    for api in (Silent(), Odd()):
        disk = Disk(api)
        disk._looked = msgspec.structs.replace(disk.state, used_share=0.9)
        assert (await disk.look()).stops_starts
