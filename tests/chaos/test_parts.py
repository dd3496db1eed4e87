"""What a campaign is made of: a proxy with manners, a world with moods, faults from a deck, reports that add up."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from chassis.egress import Response
from chassis.ports import Stored
from contracts.codec import encode
from contracts.commits import FIRST_HASH, Commit
from contracts.errors import Failure
from contracts.runs import RunCompleted, RunEvent, RunFailed, RunParked, RunReopened
from executor.answers import body_of
from executor.outputs import pack
from tests.chaos.__main__ import AnotherCommand, Order, kept_rounds
from tests.chaos.answering import has_an_opinion
from tests.chaos.campaign import wrong
from tests.chaos.deck import DECK, drawn
from tests.chaos.drawing import CHAT, named, said
from tests.chaos.faults import PLACES, Crash
from tests.chaos.field import field
from tests.chaos.launch import told
from tests.chaos.load import Target, headers_of
from tests.chaos.odd_values import VALUES, read
from tests.chaos.people import final
from tests.chaos.proxy import FixedLink, Link, Manners
from tests.chaos.report import share, summed, versions
from tests.chaos.striker import Struck
from tests.chaos.verdict import left_in_order
from tests.chaos.wire import Answer, Wire
from tests.chaos.world import Talk, World, result_of

# --- The verdict --------------------------------------------------------------------------------


def stored(version: int, *events: RunEvent) -> Stored:
    subject = "run.org.one"
    commit = Commit[RunEvent](
        id=f"commit-{version}",
        org="org",
        run="one",
        version=version,
        events=events,
        time=datetime(2026, 11, 21, tzinfo=UTC),
        actor="system",
        causation_id="it",
        correlation_id="it",
        engine_version="0.1.0",
        key_id="",
        prev_hash=FIRST_HASH,
    )
    return Stored(subject=subject, sequence=version, body=encode(commit))


def test_a_history_leaves_up_to_an_end_of_its_run_and_what_a_reopening_brought_stays() -> None:
    failure = Failure(code="refused", message="No.")
    began, ended = stored(1, RunParked(reason="?")), stored(2, RunFailed(error=failure))
    again, done = stored(3, RunReopened(by="key:1", steps=("a",))), stored(4, RunCompleted())
    whole = [began, ended, again, done]
    assert left_in_order(whole, [began])
    assert left_in_order(whole, [began, ended, again])
    assert not left_in_order(whole, [began, ended])
    assert not left_in_order(whole, [ended])
    assert not left_in_order(whole, whole)
    assert not left_in_order([began, again], [began])


# --- The proxy ----------------------------------------------------------------------------------


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Link, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection by way of a link to somebody who says everything again."""

    async def say_again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(say_again, "127.0.0.1", 0) as server:
        link = FixedLink("x", 1, server.sockets[0].getsockname()[1])
        async with await asyncio.start_server(link.serve, "127.0.0.1", 0) as front:
            reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
            try:
                yield link, reader, writer
            finally:
                writer.transport.abort()
                link.reset()
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "manners",
    [
        Manners(link="x"),
        Manners(link="x", latency=0.02, jitter=0.01),
        Manners(link="x", slice=1),
        Manners(link="x", rate=64_000),
    ],
    ids=["well-behaved", "late", "byte by byte", "slow"],
)
async def test_bytes_come_whole_however_the_line_behaves(manners: Manners) -> None:
    async with echoing() as (link, reader, writer):
        link.told(manners)
        writer.write(b"hello" * 100)
        async with asyncio.timeout(10):
            assert await reader.readexactly(500) == b"hello" * 100


@pytest.mark.parametrize("manners", [Manners(link="x", hold=True), Manners(link="x", half="down")])
async def test_what_is_held_comes_when_the_line_is_well_again(manners: Manners) -> None:
    async with echoing() as (link, reader, writer):
        link.told(manners)
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.readexactly(4)
        link.told(Manners(link="x"))
        async with asyncio.timeout(10):
            assert await reader.readexactly(4) == b"late"


async def test_a_reset_ends_what_is_connected() -> None:
    async with echoing() as (link, reader, writer):
        writer.write(b"here")
        assert await reader.readexactly(4) == b"here"
        link.told(Manners(link="x", rst=True))
        async with asyncio.timeout(10):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)


async def test_a_cut_comes_in_the_middle_of_a_message() -> None:
    async with echoing() as (link, reader, writer):
        link.told(Manners(link="x", cut=10))
        writer.write(b"x" * 100)
        async with asyncio.timeout(10):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(100)


async def test_a_bit_flips_where_a_protocol_line_begins_and_nowhere_else() -> None:
    async with echoing() as (link, reader, writer):
        link.told(Manners(link="x", flip=1.0))
        writer.write(b"PING\r\n")
        async with asyncio.timeout(10):
            changed = await reader.readexactly(6)
        assert changed != b"PING\r\n"
        assert changed[1:] == b"ING\r\n"
        writer.write(b'{"body":1}')
        async with asyncio.timeout(10):
            assert await reader.readexactly(10) == b'{"body":1}'


# --- The world ----------------------------------------------------------------------------------


@asynccontextmanager
async def world_at(folder: Path) -> AsyncIterator[Wire]:
    world = World(folder / "world.jsonl", "seed")
    server = await asyncio.get_running_loop().create_server(lambda: Talk(world), "127.0.0.1", 0)
    wire = Wire(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield wire
    finally:
        wire.close()
        server.close()
        await asyncio.sleep(0.05)


async def test_a_key_that_the_world_honours_acts_once_and_is_answered_the_same(tmp_path: Path) -> None:
    async with world_at(tmp_path) as wire:
        answers = [
            await wire.ask("POST", "/keyed/x", b"{}", {"Idempotency-Key": "r/x"}, seconds=5) for _ in range(9)
        ]
    bodies = {answer.body for answer in answers if answer is not None and answer.status == 200}
    lines = [json.loads(line) for line in (tmp_path / "world.jsonl").read_text().splitlines()]
    assert len(bodies) == 1
    assert sum(line["acted"] for line in lines) == 1
    assert len(lines) == 9


async def test_the_world_fails_as_often_as_it_should_and_writes_down_what_it_did(tmp_path: Path) -> None:
    world = World(tmp_path / "world.jsonl", "seed")
    manners = Counter(world.called("PUT", "/put/s1", f"run{number}/s1")[0] for number in range(5_000))
    lines = [json.loads(line) for line in (tmp_path / "world.jsonl").read_text().splitlines()]
    assert Counter(line["did"] for line in lines) == manners
    assert all(60 < manners[mood] < 140 for mood in ("refuse", "late"))
    assert 25 < manners["garbage"] < 80
    assert all(line["acted"] == (line["did"] in {"ok", "late"}) for line in lines)


async def test_people_can_see_what_the_world_did_under_a_key(tmp_path: Path) -> None:
    async with world_at(tmp_path) as wire:
        nothing = await wire.ask("GET", "/seen/r%2Fs1", seconds=5)
        done = await wire.ask("PUT", "/put/s1", b"{}", {"Idempotency-Key": "r/s1"}, seconds=5)
        seen = await wire.ask("GET", "/seen/r%2Fs1", seconds=5)
    assert nothing is not None
    assert done is not None
    assert seen is not None
    assert nothing.json() == {"calls": 0, "answer": None}
    assert seen.json() == {"calls": 1, "answer": done.json()}
    assert result_of(done.body.decode())["body"] == done.json()


# --- Faults and reports -------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_faults_and_leaves_no_kind_out() -> None:
    one, two = (drawn(random.Random("7"), 200, (), clock=True) for _ in range(2))
    assert [fault.name for fault in one] == [fault.name for fault in two]
    assert {fault.kind for fault in one} == {kind for kind, _, _ in DECK}
    assert "F13" not in {fault.kind for fault in drawn(random.Random("7"), 200, (), clock=False)}
    assert {fault.kind for fault in drawn(random.Random("7"), 20, ("F2",), clock=False)} == {"F2"}


def test_a_service_is_told_the_proxies_and_armed_once(tmp_path: Path) -> None:
    (tmp_path / "links.json").write_text(json.dumps({"ingress": {"AUTOMATEOS_NATS_URL": "nats://proxy"}}))
    (tmp_path / "crash-ingress").write_text("accept.after_dispatch:3")
    environ = {"AUTOMATEOS_NATS_URL": "nats://real", "AUTOMATEOS_REDIS_URL": "unix:///r"}
    assert told(tmp_path, "ingress", environ) == {
        "AUTOMATEOS_NATS_URL": "nats://proxy",
        "AUTOMATEOS_CRASH": "accept.after_dispatch:3",
    }
    assert told(tmp_path, "ingress", environ) == {"AUTOMATEOS_NATS_URL": "nats://proxy"}
    assert json.loads((tmp_path / "real-ingress.json").read_text()) == environ


def test_rounds_add_up() -> None:
    zero = dict.fromkeys(
        (
            "lost",
            "duplicated",
            "stuck",
            "diverged",
            "chain_breaks",
            "rebuilt_differences",
            "violations",
            "purged",
            "forged",
            "badly_refused",
            "let_in",
        ),
        0,
    )
    one = zero | {
        "faults": 2, "runs": 10, "deliveries": 13, "commits": 30, "events": 90, "effects": 20, "ghosts": 0,
        "doubts": 1, "doubts_touched": 1, "by_kind": {"F1": 1, "F16": 1}, "moved_on_s": [1.0, 3.0],
        "moved_on_alone_s": [], "back_alone_s": [], "crashes": {"a": [1, 2]}, "peace_s": 2.0, "lasted_s": 10.0,
    }  # fmt: skip
    crashes = {"a": [0, 1], "b": [1, 1]}
    sums = summed(
        [one, one | {"by_kind": {"F2": 2}, "moved_on_s": [2.0], "peace_s": 5.0, "crashes": crashes}]
    )
    assert sums["crashes"] == {"a": [1, 3], "b": [1, 1]}
    assert (sums["faults"], sums["runs"], sums["by_kind"]) == (4, 20, {"F1": 1, "F2": 2, "F16": 1})
    assert (sums["moved_on_p50_s"], sums["moved_on_p99_s"], sums["moved_on_n"]) == (2.0, 3.0, 3)
    assert (sums["peace_max_s"], sums["bound_per_run"]) == (5.0, 3 / 20)
    assert "bound_per_run" not in summed([one | {"violations": 1}])
    assert share([], 0.5) is None


def test_whoever_died_alone_must_be_back_within_seconds_and_a_service_after_a_polite_stop() -> None:
    def died(back: float | None, *, alone: bool = True) -> Struck:
        said = {"victim": "ingress", "back_s": back}
        return Struck(kind="F1", name="kill -9 ingress", began=100.0, alone=alone, said=said)

    assert wrong([died(3.0), died(11.0, alone=False), died(None, alone=False)]) == []
    assert [each.promise for each in wrong([died(11.0), died(None)])] == ["P9", "P9"]
    lost = Struck(kind="F19", name="rolling restart", began=1.0, said={"wrong": "not back: gateway"})
    assert [each.what for each in wrong([lost])] == ["rolling restart: not back: gateway"]


def test_poison_beside_which_nobody_goes_on_is_found() -> None:
    def laid(commits: int, *, alone: bool = True) -> Struck:
        said = {"commits_beside": commits}
        return Struck(kind="F16", name="poison", began=1.0, ended=4.0, alone=alone, said=said)

    assert wrong([laid(200), laid(0, alone=False)]) == []
    assert [each.promise for each in wrong([laid(0)])] == ["P3"]


def test_a_service_dies_where_least_have_died() -> None:
    with field("crashes", retention_days="7") as played:
        places = {place for place, _ in PLACES if not place.startswith("archive")}
        chance = random.Random(3)
        for number in range(3 * len(places)):
            place, service = Crash(chance)._place(played)
            assert (place, service) in PLACES
            assert played.crashed[place] == 2 * (number // len(places))
            played.crashed[place] += 2
        assert set(played.crashed) == places


@pytest.mark.parametrize("text", VALUES, ids=lambda text: text[:20])
def test_what_the_world_oddly_answers_is_read_here_as_a_step_reads_it(text: str) -> None:
    answer = Response(
        status=200, headers=(("content-type", "application/json"),), body=text.encode(), url="", elapsed=0.0
    )
    packed = pack({"body": body_of(answer, "auto")}).body
    assert packed == encode({"body": read(text)}) or json.loads(packed) == json.loads(
        encode({"body": read(text)})
    )


def test_who_does_not_have_the_secret_never_signs_as_if_he_had() -> None:
    target = Target(shape="retry", weight=1, url="", trigger="t", workflow="w", people=False, secret="whsec")
    ours = headers_of(target, "1-0-7", b"{}")["X-Hub-Signature-256"]
    assert headers_of(target, "1-0-8", b"{}")["X-Hub-Signature-256"] == ours
    theirs = [
        headers_of(target, f"forged-{number}", b"{}", forged=True).get("X-Hub-Signature-256")
        for number in range(40)
    ]
    assert ours not in theirs
    assert {each is None for each in theirs} == {True, False}
    assert "X-Hub-Signature-256" not in headers_of(structs.replace(target, secret=""), "k", b"{}")


def test_a_campaign_is_gone_on_with_by_the_same_command_only(tmp_path: Path) -> None:
    order = Order(runs=100, faults=5, rate=60.0, rounds=2, seed="7", only=("F1", "F7"))
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"command": order.command, "rounds": [{"round": 0}]}))
    assert kept_rounds(report, order) == [{"round": 0}]
    for name, other in {"seed": "8", "runs": 99, "faults": 6, "only": ("F1",), "rounds": 3}.items():
        with pytest.raises(AnotherCommand, match="made by another command"):
            kept_rounds(report, structs.replace(order, **{name: other}))


def test_a_report_says_what_was_struck() -> None:
    said = versions()
    assert {"commit", "nats_server", "postgres", "redis", "libfaketime"} <= set(said)
    assert all(said.values())


def test_a_wish_is_told_again_until_an_answer_is_final() -> None:
    answers = {
        status: Answer(status=status, headers={}, body=b"") for status in (202, 200, 404, 409, 429, 503)
    }
    assert [status for status, answer in answers.items() if final(answer)] == [202, 200, 404, 409]
    assert not final(None)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b""),
        (429, b""),
        (202, b'{"status":"queued"}'),
        (202, b"<p>It is kept and will be heard.</p>"),
        (409, b'{"code":"wait.not_open"}'),
        (409, b"<h1>Nothing is asked yet</h1>"),
    ],
)
def test_an_answer_is_given_again_until_somebody_has_an_opinion_about_it(status: int, body: bytes) -> None:
    assert not has_an_opinion(Answer(status=status, headers={}, body=body), ())


def test_too_late_and_decided_otherwise_are_opinions() -> None:
    for status, body in ((200, b"Thank you."), (409, b"<h1>Well?</h1>"), (404, b"")):
        assert has_an_opinion(Answer(status=status, headers={}, body=body), ())
    assert not has_an_opinion(Answer(status=404, headers={}, body=b""), (404,))


def test_each_talk_has_keys_of_its_own_and_a_message_names_its_run() -> None:
    one, other = said(CHAT, "1-0-7", 7), said(CHAT, "1-0-8", 8)
    assert (one["id"], other["id"]) == ("1-0-7", "1-0-8")
    assert one["session"] != other["session"] == said(CHAT, "1-0-17", 17)["session"]
    assert named(CHAT, "1-0-7") == f"{one['session']}:1-0-7"
    assert named("straight", "1-0-7") == "1-0-7"
