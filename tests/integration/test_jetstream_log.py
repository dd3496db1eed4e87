"""The log never loses what it acknowledged and never doubles what it was given, whatever dies in between."""

import asyncio
import json
import sys
from collections import Counter
from functools import partial
from typing import Any

import pytest

from chassis.jetstream.log import JetStreamLog
from chassis.jetstream.reader import WentBackwards
from chassis.jetstream.wire import EPOCH
from chassis.ports import Ambiguous, Away, Full, Proposal
from contracts import subjects
from deploy.testing.embedded import NatsServer
from tests.integration.conftest import OpenPorts, StartNats, make_streams, ports_of
from tests.integration.port_laws import LONG, ORG, commit, until
from tests.integration.proxies import proxy_to

# --- kill -9 in the middle --------------------------------------------------------------------


class Writer:
    """Adds commits to runs that others add to as well, and remembers what it was told."""

    def __init__(self, name: str, log: JetStreamLog, runs: list[str]) -> None:
        self.name = name
        self.log = log
        self.runs = [subjects.run(ORG, run) for run in runs]
        self.told: dict[tuple[str, int], bytes] = {}
        self.counts: Counter[str] = Counter()
        self.round = 0

    async def step(self) -> None:
        newest = await self.log.last(self.runs)
        proposals = [self._next(run, newest.get(run)) for run in self.runs]
        self.round += 1
        for proposal, sequence in zip(proposals, await self.log.append(proposals), strict=True):
            if sequence is None:
                self.counts["lost races"] += 1
            else:
                self.told[proposal.subject, sequence] = proposal.body
                self.counts["appended"] += 1

    def _next(self, run: str, before: Any) -> Proposal:
        version = json.loads(before.body)["version"] + 1 if before else 1
        body = json.dumps({"version": version, "by": self.name, "round": self.round}).encode()
        return Proposal(run, body, before.sequence if before else 0)

    async def work(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                await self.step()
            except Ambiguous:
                self.counts["ambiguous"] += 1
            except Away:
                self.counts["away"] += 1
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("per_append", [1, 24], ids=["single commits", "atomic batches"])
async def test_sixteen_writers_lose_and_double_nothing_when_the_server_is_killed(
    streams: NatsServer, open_ports: OpenPorts, per_append: int
) -> None:
    async with open_ports() as first, open_ports() as second, open_ports() as reading:
        runs = [f"run-{number}" for number in range(8 * per_append)]
        writers = [
            Writer(
                f"w{number}",
                (first, second)[number % 2].log,
                runs[number % 8 * per_append : (number % 8 + 1) * per_append],
            )
            for number in range(16)
        ]
        ended = asyncio.Event()
        seen: list[Any] = []
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(collected(reading.reader(subjects.RUNS), seen))
            working = [tasks.create_task(writer.work(ended)) for writer in writers]
            for kill in range(1, 4):
                enough = 40 * kill
                await until(partial(appended, writers, enough))
                await streams.kill()
                await streams.start()
            enough = 160
            await until(partial(appended, writers, enough))
            ended.set()
            await asyncio.wait(working)
            end = 0
            while not end or (seen[-1].sequence if seen else 0) < end:
                end = await first.log.end()
                await asyncio.sleep(0.05)
            reader.cancel()
        for writer in writers:
            for (run, sequence), body in writer.told.items():
                [stored] = [s for s in seen if s.sequence == sequence]
                assert (stored.subject, stored.body) == (run, body)
        for run in {stored.subject for stored in seen}:
            versions = [json.loads(stored.body)["version"] for stored in seen if stored.subject == run]
            assert versions == list(range(1, len(versions) + 1))
            bodies = [stored.body for stored in seen if stored.subject == run]
            assert len(set(bodies)) == len(bodies)
            assert [s.body for s in await first.log.history(run)] == bodies
        assert sum(writer.counts["lost races"] for writer in writers) > 0


def appended(writers: list[Writer], enough: int) -> bool:
    return all(writer.counts["appended"] >= enough for writer in writers)


async def collected(reader: Any, seen: list[Any]) -> None:
    async for batch in reader.read(0):
        seen += batch


# --- Ambiguity --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 30])
async def test_what_was_stored_without_an_answer_is_found_and_not_doubled(
    streams: NatsServer, open_ports: OpenPorts, count: int
) -> None:
    proposals = [commit(f"run-{number}", b"once") for number in range(count)]
    async with proxy_to(streams.url) as proxy, open_ports(url=proxy.url) as ports:
        await ports.log.append([commit("before")])
        proxy.swallowing = True
        async with asyncio.TaskGroup() as tasks:
            appending = tasks.create_task(ports.log.append(proposals))
            await asyncio.sleep(0.3)
            proxy.swallowing = False
            proxy.cut()
        sequences = appending.result()
        assert sequences == list(range(2, 2 + count))
        assert await ports.log.end() == 1 + count
        assert ports.connection.counts["lost"] >= 1


async def test_who_cannot_find_out_is_told_so(streams: NatsServer, open_ports: OpenPorts) -> None:
    async with proxy_to(streams.url) as proxy, open_ports(url=proxy.url) as ports:
        await ports.log.append([commit("before")])
        proxy.swallowing = True
        async with asyncio.TaskGroup() as tasks:
            appending = tasks.create_task(failure(ports.log.append([commit("unclear")])))
            await asyncio.sleep(0.3)
            await streams.kill()
        assert isinstance(appending.result(), Ambiguous)
        await streams.start()


async def test_who_is_not_connected_has_stored_nothing(streams: NatsServer, open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        await streams.kill()
        await until(lambda: not ports.connection.up)
        reason = await failure(ports.log.append([commit("nothing")]))
        assert isinstance(reason, Away)
        assert not isinstance(reason, Ambiguous)
        reason = await failure(ports.inbox.put(1, b"[]"))
        assert isinstance(reason, Away)
        assert not isinstance(reason, Ambiguous)
        await streams.start()
        await until(lambda: ports.connection.up)
        assert await ports.log.history(subjects.run(ORG, "nothing")) == []


async def failure(work: Any) -> Exception | None:
    try:
        await work
    except Away as away:
        return away
    return None


async def test_a_short_absence_of_the_server_is_not_even_noticed(
    streams: NatsServer, open_ports: OpenPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules[JetStreamLog.__module__], "_AWAY_SECONDS", LONG
    )  # However long its start takes here.
    async with open_ports() as ports:
        await streams.kill()
        async with asyncio.TaskGroup() as tasks:
            appending = tasks.create_task(ports.log.append([commit("patience")]))
            await streams.start()
        assert appending.result() == [1]


# --- A full disk ------------------------------------------------------------------------------


async def test_a_full_log_says_so_and_has_stored_nothing(start_nats: StartNats) -> None:
    server = await start_nats(max_file_store="4MB")
    await make_streams(server)
    async with ports_of(server) as ports:
        stored = 0
        reason: Exception | None = None
        for number in range(200):
            try:
                await ports.log.append([commit(f"run-{number}", bytes(range(256)) * 200)])
            except Full as full:
                reason = full
                break
            stored += 1
        assert isinstance(reason, Full)
        assert await ports.log.end() == stored
        many = [commit(f"more-{number}", bytes(range(256)) * 900) for number in range(20)]
        with pytest.raises(Away) as told:
            await ports.log.append(many)
        assert isinstance(told.value, (Full, Ambiguous))
        with pytest.raises(Full):
            await ports.letters.store(subjects.dead_letter("RUNS", ORG, "r"), bytes(range(256)) * 900)
        state = await ports.disk.look()
        assert state.used_share > 0.5
        # What ends gives room again, without a restart.
        await ports.connection.api(f"STREAM.PURGE.{subjects.RUNS}", {"filter": "run.>"})
        assert await ports.log.append([commit("room")]) != [None]


# --- Epochs, long histories, many subjects ----------------------------------------------------


async def test_the_epoch_is_the_streams_and_is_read_again_after_a_reconnect(
    streams: NatsServer, open_ports: OpenPorts
) -> None:
    async with open_ports() as ports:
        assert ports.log.epoch == ports.domain.epoch == 1
        config = (await ports.connection.api("STREAM.INFO.RUNS"))["config"]
        config["metadata"][EPOCH] = "7"
        assert "error" not in await ports.connection.api("STREAM.UPDATE.RUNS", config)
        await streams.kill()
        await streams.start()
        await until(lambda: ports.connection.up and ports.connection.generation > 0)
        await ports.log.append([commit("anything")])
        assert ports.log.epoch == 7


async def test_a_history_longer_than_a_page_is_whole_and_in_order(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        expected = 0
        for version in range(1_203):
            [sequence] = await ports.log.append([commit("long", b"%d" % version, expected)])
            assert sequence is not None
            expected = sequence
            if version % 3 == 0:
                await ports.log.append([commit(f"other-{version}")])
        history = await ports.log.history(subjects.run(ORG, "long"))
        assert [stored.body for stored in history] == [b"%d" % version for version in range(1_203)]
        later = await ports.log.history(subjects.run(ORG, "long"), after=history[600].sequence)
        assert later == history[601:]


async def test_the_last_messages_of_very_many_subjects_come_in_one_answer(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        places = [f"run-{number}" for number in range(2_500)]
        for start in range(0, 2_500, 250):
            await ports.log.append([commit(place, place.encode()) for place in places[start : start + 250]])
        wanted = [subjects.run(ORG, place) for place in places]
        found = await ports.log.last([*wanted, subjects.run(ORG, "nobody")])
        assert {subject: stored.body for subject, stored in found.items()} == {
            subjects.run(ORG, place): place.encode() for place in places
        }


async def test_a_tombstone_keeps_refusing_and_is_no_repeat(open_ports: OpenPorts) -> None:
    async with open_ports() as ports:
        [first] = await ports.log.append([commit("ended", b"start")])
        assert first is not None
        await ports.log.append([commit("ended", b"end", first, Run_Ended="1")])
        subject = subjects.run(ORG, "ended")
        await ports.connection.api("STREAM.PURGE.RUNS", {"filter": subject, "keep": 1})
        assert await ports.log.append([commit("ended", b"start")]) == [None]
        [tombstone] = await ports.log.history(subject)
        assert tombstone.headers == {"Run-Ended": "1"}


# --- Reading on -------------------------------------------------------------------------------


async def test_a_stream_that_ends_before_what_was_read_is_refused(
    open_ports: OpenPorts,
) -> None:
    async with open_ports() as ports:
        await ports.log.append([commit("one"), commit("two")])
        with pytest.raises(WentBackwards, match="ends at 2, and 3 was read"):
            async for _ in ports.reader(subjects.RUNS).read(3):
                pass


async def test_a_reader_whose_consumer_vanishes_makes_another_and_skips_nothing(
    open_ports: OpenPorts,
) -> None:
    async with open_ports() as ports, open_ports() as others:
        seen: list[Any] = []
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(collected(others.reader(subjects.RUNS), seen))
            for number in range(5):
                await ports.log.append([commit(f"run-{number}-{part}") for part in range(20)])
                end = await ports.log.end()
                assert end == 20 * (number + 1)
                async with asyncio.timeout(LONG * 2):
                    while len(seen) < end:
                        await asyncio.sleep(0.01)
                names = (await ports.connection.api("CONSUMER.NAMES.RUNS"))["consumers"] or []
                for name in names:
                    await ports.connection.api(f"CONSUMER.DELETE.RUNS.{name}")
            reading.cancel()
        assert [stored.sequence for stored in seen] == list(range(1, 101))
