"""Each user at nats-server can do its work with the real adapters, and nothing else; outsiders see one org."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import nats
import nats.errors
import nkeys
import pytest

from chassis.access import (
    FIRST_ORG,
    SERVICES,
    SUPERVISOR,
    Access,
    access,
    accounts,
    document,
    outside_access,
    outsider,
    users,
)
from chassis.clock import SystemClock
from chassis.disk import Disk
from chassis.jetstream import JetStream, jetstream
from chassis.jetstream.alongside import alongside
from chassis.jetstream.connection import Connection, NotAllowed, connect
from chassis.jetstream.log import JetStreamLog
from chassis.jetstream.tasks import purge_acknowledged
from chassis.ports import Proposal, TaskDelivery
from chassis.reconcile import external_name, reconcile, unpin_all
from chassis.settings import Settings
from contracts import subjects
from contracts.messages import Wake
from contracts.nodes import NodeSpec
from contracts.streams import STREAMS
from deploy.testing.embedded import NatsServer

ORGS = (FIRST_ORG, "org_other")
LONG = 60.0
As: TypeAlias = Callable[[str], AbstractAsyncContextManager[JetStream]]
DOCS = Path(__file__).parents[2] / "docs/reference/nats-access.md"


class Secured:
    """A nats-server with the generated users, and their seeds."""

    def __init__(self, server: NatsServer, seeds: Path) -> None:
        self.server = server
        self.seeds = seeds

    def seed(self, name: str) -> str:
        return str(self.seeds / f"{name}.seed")

    def settings(self, name: str) -> Settings:
        return Settings(nats_url=self.server.url, nats_seed_file=self.seed(name))

    @asynccontextmanager
    async def ports(self, name: str) -> AsyncIterator[JetStream]:
        """As the service of this name works, with everything beside it."""
        async with (
            jetstream(self.settings(name), name, SystemClock()) as opened,
            alongside(opened.run()),
        ):
            yield opened

    @asynccontextmanager
    async def plain(self, name: str) -> AsyncIterator[Any]:
        """A plain nats-py client, as somebody else would write it."""
        client = await nats.connect(self.server.url, nkeys_seed=self.seed(name), error_cb=_heard)
        try:
            yield client
        finally:
            await client.close()


async def _heard(error: Exception) -> None:
    """What is refused is seen by what does not happen."""


@pytest.fixture
async def secured(start_nats: Callable[..., Awaitable[NatsServer]], tmp_path: Path) -> Secured:
    keys = {name: make_key(tmp_path / f"{name}.seed") for name in users(ORGS)}
    made = Secured(await start_nats(accounts=accounts(keys, ORGS)), tmp_path)
    async with connect(made.server.url, name=SUPERVISOR, seed_file=made.seed(SUPERVISOR)) as connection:
        await reconcile(connection, orgs=ORGS)
    return made


def make_key(path: Path) -> str:
    seed = nkeys.encode_seed(path.name.encode().ljust(32, b"-")[:32], nkeys.PREFIX_BYTE_USER)
    path.write_bytes(seed)
    return str(nkeys.from_seed(bytearray(seed)).public_key.decode())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not holds():
            await asyncio.sleep(0.01)


# --- Each can do its work ---------------------------------------------------------------------


async def test_every_service_does_its_work_under_its_own_user(secured: Secured) -> None:
    """The main path in small: nobody is refused anything on the way."""
    async with (
        secured.ports("ingress") as ingress,
        secured.ports("orchestrator") as orchestrator,
        secured.ports("executor") as executor,
        secured.ports("projections") as projections,
        secured.ports("gateway") as gateway,
    ):
        every = [ingress, orchestrator, executor, projections, gateway]
        async with alongside(answering(orchestrator)):
            await until(lambda: len(orchestrator.ownership().owned) == 8)
            await orchestrator.connection.flush()
            await gateway_changes(gateway)
            await ingress_accepts(ingress)
            await orchestrator_decides(orchestrator)
            await executor_attempts(executor)
            await projections_read(projections)
            await gateway_reads(gateway, orchestrator)
            await orchestrator.ownership().release()
        for ports in every:
            await ports.connection.flush()
            assert ports.connection.counts["forbidden"] == 0, ports.connection.name


async def answering(ports: JetStream) -> None:
    async for bunch in ports.ownership().arrivals():
        for arrival in bunch if not isinstance(bunch, int) else ():
            arrival.answer(b"[]answered")


async def gateway_changes(ports: JetStream) -> None:
    subject = subjects.domain(FIRST_ORG, "trigger", "t1")
    assert await ports.domain.append([Proposal(subject, b"{}", 0)]) == [1]
    assert len(await ports.domain.history(subject)) == 1
    assert (await ports.blobs.get(await ports.blobs.put(b"plan"))) == b"plan"
    await ports.inbox.put(4, b"[]")


async def ingress_accepts(ports: JetStream) -> None:
    assert await first_of(ports, subjects.DOMAIN) == b"{}"
    assert await ports.log.last([subjects.run(FIRST_ORG, "r1")]) == {}
    for number in range(8):
        answer = await ports.signals.request(subjects.call(number), b"[1]", LONG)
        assert answer == b"[]answered"
    await ports.inbox.put(3, b"[1]")
    blob = await ports.blobs.put(b"x" * 300_000)
    assert len(await ports.blobs.get(blob)) == 300_000
    await ports.letters.store(subjects.hook(FIRST_ORG, "t1"), b"{}")
    heard: list[bytes] = []

    def hear(_subject: str, body: bytes, _answer: object) -> None:
        heard.append(body)

    reply = subjects.reply("ingress", ports.connection.instance, "*")
    async with ports.signals.listen(reply, hear):
        await asyncio.sleep(0)
    await ports.disk.look()


async def orchestrator_decides(ports: JetStream) -> None:
    proposals = [Proposal(subjects.run(FIRST_ORG, f"r{number}"), b"{}", 0) for number in range(20)]
    assert await ports.log.append(proposals) == list(range(1, 21))
    assert len(await ports.log.history(proposals[0].subject)) == 1
    task = subjects.task("default", FIRST_ORG, "r1", "step", 1)
    ports.tasks.emit("default", task, b"{}")
    await ports.connection.flush()
    assert await ports.tasks.waiting([task]) == {task}
    await ports.inbox.wake_at([(Wake(org=FIRST_ORG, run="r1", wait="w"), datetime.now(UTC))])
    await ports.ownership().caught_up(3)
    ports.signals.publish(subjects.cancel(FIRST_ORG, "r1"), b"{}")
    ports.signals.publish(subjects.reply("ingress", "i", 1), b"{}")
    await ports.letters.store(subjects.dead_letter("INBOX", FIRST_ORG, "r1"), b"?")
    await ports.catalogue.announce(spec("control"))
    await ports.ownership()._purge_one(ports.ownership()._partitions[3])
    await ports.ownership().forget()
    await until(lambda: len(ports.ownership().owned) == 8)


async def executor_attempts(ports: JetStream) -> None:
    await ports.catalogue.announce(spec("echo"))
    async with ports.signals.listen(subjects.CANCEL_ALL, lambda _subject, _body, _answer: None):
        taken: list[TaskDelivery] = []
        async with aclosing(ports.source("default", "gpu").take(lambda: 4)) as bunches:
            async for bunch in bunches:
                taken += bunch
                break
        taken[0].working()
        taken[0].done()
    await ports.connection.flush()
    assert (
        await purge_acknowledged(ports.connection, "default") == 0
    )  # There is a floor, and nothing below it.
    claim = Proposal(subjects.effect(FIRST_ORG, "r1", "step", 1), b"{}", 0)
    assert await ports.effects.append([claim]) == [1]
    assert await ports.effects.append([claim]) == [1]
    assert len(await ports.effects.history(claim.subject)) == 1
    assert await ports.log.last([subjects.run(FIRST_ORG, "r1")]) != {}
    assert await ports.signals.request(subjects.call(1), b"[1]", LONG) == b"[]answered"
    await ports.inbox.put(1, b"[]")
    await ports.letters.store(f"log.{FIRST_ORG}.r1.step", b"line")
    await ports.letters.store(subjects.dead_letter("TASKS", FIRST_ORG, "r1"), b"?")


async def projections_read(ports: JetStream) -> None:
    for stream in (subjects.RUNS, subjects.DOMAIN, subjects.HOOKS, subjects.DLQ, subjects.LOGS):
        assert await first_of(ports, stream)
    anchors = JetStreamLog(ports.connection, subjects.ANCHORS)
    assert await anchors.append([Proposal(subjects.anchor(1), b"{}", 0)]) == [1]
    assert await ports.blobs.collect(everything, older_than=0.0) == 0
    assert await ports.blobs.collect(nothing, older_than=0.0) == 2
    for stream, subject in (
        (subjects.RUNS, subjects.run(FIRST_ORG, "r1")),
        (subjects.EFFECTS, f"effect.{FIRST_ORG}.r1.>"),
    ):
        answer = await ports.connection.api(f"STREAM.PURGE.{stream}", {"filter": subject, "keep": 1})
        assert answer.get("success")
    assert await ports.signals.request(subjects.call(2), b"[1]", LONG) == b"[]answered"
    await ports.inbox.put(2, b"[]")
    await ports.letters.store(subjects.dead_letter("RUNS", FIRST_ORG, "r1"), b"?")


async def everything(names: set[str]) -> set[str]:
    return names


async def nothing(_names: set[str]) -> set[str]:
    return set()


async def gateway_reads(ports: JetStream, orchestrator: JetStream) -> None:
    assert await first_of(ports, subjects.RUNS)
    assert await JetStreamLog(ports.connection, subjects.HOOKS).history(subjects.hook(FIRST_ORG, "t1"))
    assert set(await ports.catalogue.specs()) == {"control", "control@1", "echo", "echo@1"}
    async with aclosing(ports.catalogue.watch()) as seen:
        assert len(await anext(seen)) == 4

    def compile_(_subject: str, _body: bytes, answer: Callable[[bytes], None]) -> None:
        answer(b"plan")

    async with orchestrator.signals.listen(subjects.COMPILE, compile_, "orchestrators"):
        assert await ports.signals.request(subjects.COMPILE, b"{}", LONG) == b"plan"


async def first_of(ports: JetStream, stream: str) -> bytes:
    async with aclosing(ports.reader(stream).read(0)) as batches:
        return (await anext(batches))[0].body


def spec(name: str) -> NodeSpec:
    return NodeSpec(type=name, title=name, help=name, icon="box", category="test", config={})


async def test_the_supervisor_makes_frees_and_repairs(secured: Secured) -> None:
    async with secured.ports(SUPERVISOR) as ports:
        assert await reconcile(ports.connection, orgs=ORGS) == []
        await unpin_all(ports.connection)
        await ports.inbox.look(1, FIRST_ORG, "r1", b"{}")
        assert await ports.log.append([Proposal(subjects.run(FIRST_ORG, "back"), b"{}", 0)]) == [1]
        assert await first_of(ports, subjects.RUNS) == b"{}"
        assert await Disk(ports.connection).look()
        assert ports.connection.counts["forbidden"] == 0


# --- Nobody can do anything else --------------------------------------------------------------

FOREIGN = [
    ("ingress", subjects.run(FIRST_ORG, "forged")),
    ("ingress", subjects.domain(FIRST_ORG, "trigger", "forged")),
    ("ingress", subjects.task("default", FIRST_ORG, "r", "s", 1)),
    ("ingress", subjects.inbox(1, FIRST_ORG, "r")),
    ("orchestrator", subjects.domain(FIRST_ORG, "trigger", "forged")),
    ("orchestrator", subjects.effect(FIRST_ORG, "r", "s", 1)),
    ("orchestrator", subjects.anchor(1)),
    ("executor", subjects.run(FIRST_ORG, "forged")),
    ("executor", subjects.domain(FIRST_ORG, "trigger", "forged")),
    ("executor", subjects.task("default", FIRST_ORG, "r", "s", 1)),
    ("projections", subjects.run(FIRST_ORG, "forged")),
    ("projections", subjects.domain(FIRST_ORG, "trigger", "forged")),
    ("gateway", subjects.run(FIRST_ORG, "forged")),
    ("gateway", subjects.task("ext-mine", FIRST_ORG, "r", "s", 1)),
    ("gateway", "$JS.API.CONSUMER.CREATE.TASKS.thief"),
    ("gateway", "$JS.API.CONSUMER.DELETE.TASKS.exec-default"),
    ("gateway", subjects.here("default")),
    ("gateway", subjects.anchor(1)),
    ("supervisor", subjects.anchor(1)),
    *(
        (name, f"$JS.API.STREAM.{verb}.RUNS")
        for name in SERVICES
        for verb in ("DELETE", "UPDATE", "MSG.DELETE")
    ),
    *((name, "$JS.API.STREAM.CREATE.MINE") for name in SERVICES),
    *((name, "$JS.API.STREAM.PURGE.RUNS") for name in SERVICES if name != "projections"),
    *((name, f"$JS.API.CONSUMER.DELETE.RUNS.{external_name(FIRST_ORG)}") for name in SERVICES),
    *((name, "$JS.API.CONSUMER.CREATE.INBOX.thief.inbox.>") for name in SERVICES),
    *((name, "$JS.API.STREAM.SNAPSHOT.RUNS") for name in SERVICES),
    ("ingress", "$JS.API.CONSUMER.CREATE.RUNS.thief"),
    ("executor", "$JS.API.CONSUMER.CREATE.TASKS.thief"),
    ("executor", "$JS.API.CONSUMER.MSG.NEXT.INBOX.orch-1"),
    ("executor", "$JS.ACK.INBOX.orch-1.1.1.1.1.0"),
]


async def test_what_is_not_a_users_business_is_refused(secured: Secured) -> None:
    async with connect(secured.server.url, name=SUPERVISOR, seed_file=secured.seed(SUPERVISOR)) as supervisor:
        before = await stored(supervisor)
        for name in (*SERVICES, SUPERVISOR):
            async with connect(secured.server.url, name=name, seed_file=secured.seed(name)) as connection:
                foreign = [subject for user, subject in FOREIGN if user == name]
                for subject in foreign:
                    connection.publish(subject, b"{}", reply=f"{connection.prefix}.a.x")
                await connection.flush()
                async with asyncio.timeout(LONG):
                    while connection.counts["forbidden"] < len(foreign):
                        await asyncio.sleep(0.01)
        assert await stored(supervisor) == before


async def stored(connection: Connection) -> dict[str, tuple[int, int]]:
    """How much lies in every stream, and how many consumers it has."""
    return {
        stream.name: (information["state"]["messages"], information["state"]["consumer_count"])
        for stream in STREAMS
        if (information := await connection.api(f"STREAM.INFO.{stream.name}"))
    }


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("executor", "orch.1"),
        ("ingress", "run.>"),
        ("ingress", "_INBOX_gateway.>"),
        ("gateway", "_INBOX.>"),
        ("executor", "live.>"),
        ("projections", "svc.orchestrator.compile"),
        ("gateway", ">"),
        ("ingress", "$JS.EVENT.>"),
        ("supervisor", "$SYS.>"),
    ],
)
async def test_nobody_listens_to_what_is_said_to_others(secured: Secured, name: str, subject: str) -> None:
    with pytest.raises(NotAllowed, match="subscription"):
        async with connect(secured.server.url, name=name, seed_file=secured.seed(name)) as connection:
            connection.hear(subject, lambda _subject, _reply, _headers, _body: None)
            async with asyncio.timeout(LONG):
                await asyncio.Event().wait()


async def test_who_has_no_key_or_anothers_is_not_let_in(secured: Secured, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger.seed")
    for seed in ("", str(tmp_path / "stranger.seed")):
        with pytest.raises(NotAllowed):
            async with connect(secured.server.url, name="ingress", seed_file=seed):
                raise AssertionError("it was let in")


# --- Outsiders --------------------------------------------------------------------------------


@pytest.fixture
async def two_orgs(secured: Secured) -> Secured:
    """Runs of two orgs."""
    async with secured.ports("orchestrator") as ports:
        for number in range(5):
            await ports.log.append(
                [Proposal(subjects.run(org, f"r{number}"), org.encode(), 0) for org in ORGS]
            )
    return secured


async def test_an_outsider_reads_its_orgs_runs_with_plain_nats_py(two_orgs: Secured) -> None:
    async with two_orgs.plain(outsider(FIRST_ORG)) as client:
        pull = await client.jetstream().pull_subscribe_bind(external_name(FIRST_ORG), stream=subjects.RUNS)
        messages = await pull.fetch(5, timeout=LONG)
        assert {(message.subject.split(".")[1], message.data) for message in messages} == {
            (FIRST_ORG, FIRST_ORG.encode())
        }
        for message in messages:
            await message.ack()
        await client.flush()
        subject = subjects.run(FIRST_ORG, "r1")
        message = await client.jetstream().get_last_msg(subjects.RUNS, subject, direct=True)
        assert message.data == FIRST_ORG.encode()
    async with connect(two_orgs.server.url, name=SUPERVISOR, seed_file=two_orgs.seed(SUPERVISOR)) as ours:
        information = await ours.api(f"CONSUMER.INFO.RUNS.{external_name(FIRST_ORG)}")
        assert (information["num_ack_pending"], information["num_pending"]) == (0, 0)


async def test_an_outsider_hears_its_orgs_runs_live_and_no_others(two_orgs: Secured) -> None:
    async with two_orgs.plain(outsider(FIRST_ORG)) as client, two_orgs.ports("orchestrator") as ports:
        live = await client.subscribe(f"live.run.{FIRST_ORG}.*")
        others = await client.subscribe(f"live.run.{ORGS[1]}.*")
        await client.flush()
        await ports.log.append([Proposal(subjects.run(org, "live"), org.encode(), 0) for org in ORGS])
        message = await live.next_msg(timeout=LONG)
        assert (message.subject, message.data) == (f"live.run.{FIRST_ORG}.live", FIRST_ORG.encode())
        await client.flush()
        assert live.pending_msgs == others.pending_msgs == 0


async def test_an_outsider_reaches_nothing_of_anybody_else(two_orgs: Secured) -> None:
    other = ORGS[1]
    forbidden = [
        f"$JS.API.DIRECT.GET.RUNS.{subjects.run(other, 'r1')}",
        f"$JS.API.CONSUMER.MSG.NEXT.RUNS.{external_name(other)}",
        "$JS.API.DIRECT.GET.RUNS",
        "$JS.API.STREAM.MSG.GET.RUNS",
        "$JS.API.STREAM.INFO.RUNS",
        "$JS.API.STREAM.NAMES",
        "$JS.API.INFO",
        "$JS.API.CONSUMER.CREATE.RUNS.mine",
        "$JS.API.STREAM.DELETE.RUNS",
        subjects.run(FIRST_ORG, "forged"),
        subjects.bundle(1),
        subjects.call(1),
        "svc.orchestrator.compile",
        "live.run.org_default.forged",
    ]
    async with two_orgs.plain(outsider(FIRST_ORG)) as client:
        for subject in forbidden:
            with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError)):
                await client.request(subject, b"{}", timeout=0.2)


async def test_an_outsider_cannot_have_answers_sent_into_our_subjects(two_orgs: Secured) -> None:
    async with (
        two_orgs.plain(outsider(FIRST_ORG)) as client,
        connect(two_orgs.server.url, name=SUPERVISOR, seed_file=two_orgs.seed(SUPERVISOR)) as supervisor,
        two_orgs.ports("orchestrator") as orchestrator,
    ):
        before = await stored(supervisor)
        heard: list[bytes] = []

        def hear(_subject: bytes, _reply: bytes, _headers: bytes, body: bytes) -> None:
            heard.append(body)

        orchestrator.connection.hear(subjects.call(1), hear)
        await orchestrator.connection.flush()
        next_ = f"$JS.API.CONSUMER.MSG.NEXT.RUNS.{external_name(FIRST_ORG)}"
        for target in (subjects.bundle(1), subjects.run(FIRST_ORG, "forged"), subjects.call(1), "evt.a.b.c"):
            request = json.dumps({"batch": 1, "expires": 1_000_000_000}).encode()
            await client.publish(next_, request, reply=target)
            await client.publish(
                f"$JS.API.DIRECT.GET.RUNS.{subjects.run(FIRST_ORG, 'r1')}", b"", reply=target
            )
        await client.flush()
        await asyncio.sleep(0.3)
        await orchestrator.connection.flush()
        assert heard == []
        assert await stored(supervisor) == before


# --- The lists themselves ---------------------------------------------------------------------


def test_there_are_no_deny_rules_and_no_list_is_open() -> None:
    keys = {name: f"U{name}" for name in users(ORGS)}
    text = accounts(keys, ORGS)
    assert "deny" not in text
    assert text.count("publish: { allow: [") == text.count("subscribe: { allow: [") == len(users(ORGS))
    every: list[Access] = [*access().values(), *map(outside_access, ORGS)]
    for allowed in every:
        for subject in (*allowed.publishes, *allowed.hears):
            assert re.fullmatch(r"[A-Za-z$_][\w$.*>-]*", subject)
            assert not subject.startswith(("*", ">"))
    for name in SERVICES:
        assert not any(s in {"$JS.>", "$JS.API.>", "run.>", "_INBOX.>"} for s in access()[name].publishes)


def test_only_one_writes_a_history() -> None:
    def writers(subject: str) -> set[str]:
        return {
            name for name, allowed in access().items() if any(matches(s, subject) for s in allowed.publishes)
        }

    assert writers(subjects.run("o", "r")) == {"orchestrator", SUPERVISOR}
    assert writers(subjects.domain("o", "workflow", "w")) == {"gateway", SUPERVISOR}
    assert writers(subjects.task("p", "o", "r", "s", 1)) == {"orchestrator"}
    assert writers(subjects.effect("o", "r", "s", 1)) == {"executor", "gateway"}, "for workers outside"
    assert writers(subjects.anchor(1)) == {"projections"}
    assert writers(subjects.hook("o", "t")) == {"ingress", "projections"}, "records, and no history"
    assert writers("$JS.API.STREAM.PURGE.RUNS") == {"projections", SUPERVISOR}
    assert writers("$JS.API.STREAM.UPDATE.RUNS") == writers("$JS.API.STREAM.CREATE.X") == {SUPERVISOR}


def matches(pattern: str, subject: str) -> bool:
    wanted, words = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(words) >= len(wanted) and matches(
            ".".join(wanted[:-1]), ".".join(words[: len(wanted) - 1])
        )
    return len(wanted) == len(words) and all(w in ("*", s) for w, s in zip(wanted, words, strict=True))


def test_the_table_in_the_docs_is_the_one_that_the_server_gets() -> None:
    assert DOCS.read_text() == document()
