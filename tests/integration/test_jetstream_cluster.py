"""The ports keep their laws on three nats-servers, and go on when one of them is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from chassis.clock import SystemClock
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.alongside import alongside
from chassis.jetstream.connection import connect
from chassis.jetstream.inbox import store
from chassis.jetstream.questions import Question
from chassis.jetstream.reads import not_alone
from chassis.ports import Ambiguous, Away, Proposal
from chassis.reconcile import drift, reconcile
from chassis.settings import Settings
from contracts import subjects
from contracts.payloads import Blob
from contracts.streams import STREAMS
from deploy.testing.cluster import REPLICAS, Cluster, on_loopback
from tests.integration import port_laws
from tests.integration.conftest import OpenPorts


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three nodes in which every stream is made, in three copies."""
    cluster = Cluster(tmp_path, on_loopback())
    try:
        await cluster.start()
        async with connect(cluster.url, name="reconciler") as connection:
            await reconcile(connection, replicas=REPLICAS)
        yield cluster
    finally:
        await cluster.close()


@asynccontextmanager
async def ports_on(cluster: Cluster) -> AsyncIterator[JetStream]:
    settings = Settings(nats_url=cluster.url, replicas=REPLICAS)
    async with (
        jetstream(settings, "tests", SystemClock()) as opened,
        alongside(opened.run()),
    ):
        yield opened


async def test_every_declared_stream_has_three_copies_and_nothing_drifts(cluster: Cluster) -> None:
    async with connect(cluster.url, name="tests") as connection:
        for stream in STREAMS:
            information = await connection.api(f"STREAM.INFO.{stream.name}")
            assert information["config"]["num_replicas"] == REPLICAS
            assert information["config"]["compression"] == "none"
            assert len(information["cluster"]["replicas"]) == REPLICAS - 1
        assert await drift(connection, replicas=REPLICAS) == []
        assert await reconcile(connection, replicas=REPLICAS) == []


async def test_the_ports_keep_their_laws_in_a_cluster(cluster: Cluster) -> None:
    async with ports_on(cluster) as ports:
        for number, law in enumerate(port_laws.LOG_LAWS):
            await law(ports.log, f"log{number}")
        for number, reading in enumerate(port_laws.READER_LAWS):
            await reading(ports.log, ports.reader(subjects.RUNS), f"read{number}")


async def test_what_was_acknowledged_is_there_when_the_leader_is_killed(cluster: Cluster) -> None:
    async with ports_on(cluster) as ports:
        subject = subjects.run("org_a", "run")
        [first] = await ports.log.append([Proposal(subject, b"1", 0)])
        assert first is not None
        await cluster.nodes[await cluster.leader_of(subjects.RUNS)].kill()
        second = await _until_stored(ports, Proposal(subject, b"2", first))
        assert [stored.body for stored in await ports.log.history(subject)] == [b"1", b"2"]
        assert second > first


async def test_without_a_majority_nothing_is_accepted_and_nothing_is_said_to_be_stored(
    cluster: Cluster,
) -> None:
    async with ports_on(cluster) as ports:
        blob = await ports.blobs.put(b"x" * 100_000)
        leader = await cluster.leader_of(subjects.RUNS)
        for name in cluster.nodes:
            if name != leader:
                await cluster.nodes[name].kill()
        # The leader that is left answers that nothing is there; the others may know better.
        with pytest.raises(Ambiguous):
            await ports.log.append([Proposal(subjects.run("org_a", "run"), b"1", 0)])
        with pytest.raises(Away):
            await not_alone(ports.connection, subjects.RUNS)
        for node in cluster.nodes.values():
            node.start()
        await cluster.start()
        assert await _until_stored(ports, Proposal(subjects.run("org_a", "run"), b"1", 0))
        assert await _until_read(ports, blob) == b"x" * 100_000


async def test_what_is_sent_again_while_it_waits_for_its_majority_is_stored_once(cluster: Cluster) -> None:
    async with ports_on(cluster) as ports:
        subject = subjects.hook("org_a", "trigger")
        impatient: list[Question] = [(subject, b"{}", b"NATS/1.0\r\nNats-Msg-Id: one\r\n\r\n")] * 20
        [sequence] = set(await store(ports.connection, impatient))
        information = await ports.connection.api(f"STREAM.INFO.{subjects.HOOKS}")
        assert information["state"]["last_seq"] == sequence


async def test_a_pull_that_got_lost_on_its_way_is_made_again(
    open_ports: OpenPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut between two nodes swallows pulls, and the word that they are over."""
    async with open_ports() as ports:
        said, lost = ports.connection.publish, []

        def publish(subject: str, body: bytes, headers: bytes = b"", reply: str = "") -> bool:
            if "CONSUMER.MSG.NEXT" in subject and not lost:
                lost.append(subject)
                return True
            return said(subject, body, headers, reply)

        monkeypatch.setattr(ports.connection, "publish", publish)
        ports.tasks.emit("default", subjects.task("default", "org_a", "run", "step", 1), b"{}")
        async with (
            asyncio.timeout(port_laws.LONG),
            aclosing(ports.source("default").take(lambda: 10)) as took,
        ):
            [delivery] = await anext(took)
        assert delivery.body == b"{}"
        assert lost


async def _until_read(ports: JetStream, blob: Blob) -> bytes:
    while True:
        try:
            return await ports.blobs.get(blob)
        except Away:
            await asyncio.sleep(0.1)  # No leader yet.


async def _until_stored(ports: JetStream, proposal: Proposal) -> int:
    while True:
        try:
            [sequence] = await ports.log.append([proposal])
        except Away:
            await asyncio.sleep(0.1)
            continue
        assert sequence is not None
        return sequence
