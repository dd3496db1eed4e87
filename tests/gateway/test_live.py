"""Events as they happen: in order, once, from any place in the past, to whoever may see them and keeps up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Raw, Struct, structs

from chassis.archive import Since
from chassis.edge.connections import ConnectionCap
from chassis.http import serving
from chassis.ports import Proposal
from contracts.codec import encode
from contracts.limits import SSE_BUFFER_BYTES, SSE_STREAMS_PER_KEY
from contracts.payloads import Inline
from contracts.runs import CancelRequested, RunFact, SignalReceived
from contracts.subjects import run as run_subject
from gateway.live.tail import Mark, Tail, Watcher, frame
from gateway.runs.histories import BEGINNING
from tests.gateway.fakes import Exchange, MemoryLog, Office, commit_of, scope_of
from tests.gateway.stories import published, started

ORG = "org_default"


class Event(Struct, frozen=True):
    id: str
    kind: str
    data: Any


def events_in(text: str) -> list[Event]:
    """What a browser makes of the stream."""
    found = []
    for part in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in part.split("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        if "event" in fields:
            found.append(Event(fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


class Stream:
    """One open stream, read as it grows."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    @property
    def events(self) -> list[Event]:
        return events_in(b"".join(self.exchange.parts).decode())

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events if event.id]

    async def until(self, count: int) -> list[Event]:
        """Returns when so many events have come."""
        async with asyncio.timeout(60):
            while len(self.events) < count:
                self.exchange.grew.clear()
                await self.exchange.grew.wait()
        return self.events

    async def end(self) -> Event:
        """The last event, when the other side has ended the stream."""
        async with asyncio.timeout(60):
            while not self.exchange.ended:
                self.exchange.grew.clear()
                await self.exchange.grew.wait()
        return self.events[-1]


@asynccontextmanager
async def watching(office: Office, path: str, key: str = "", **headers: str) -> AsyncIterator[Stream]:
    exchange = Exchange(b"")
    given = {"authorization": f"Bearer {key or office.key}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with asyncio.TaskGroup() as group:
        group.create_task(
            office.app(
                scope_of("GET", f"/api/v1{path}", given, exchange.cut), exchange.receive, exchange.send
            )
        )
        while not exchange.parts:
            exchange.grew.clear()
            await exchange.grew.wait()
        assert exchange.headers["content-type"] == "text/event-stream"
        try:
            yield Stream(exchange)
        finally:
            exchange.left.set()


async def extended(office: Office, run: str, *events: RunFact, org: str = ORG) -> None:
    """One more commit of a run."""
    subject = run_subject(org, run)
    before = await office.runs_log.history(subject)
    commit: Any = commit_of(org, run, events, version=len(before) + 1)  # type: ignore[arg-type]  # Facts are events.
    await office.runs_log.append([Proposal(subject, encode(commit), before[-1].sequence if before else 0)])


def wish(reason: str = "") -> CancelRequested:
    return CancelRequested(by="key:k1", reason=reason)


async def test_a_run_is_told_from_its_beginning_and_then_as_it_goes_on(office: Office) -> None:
    run = await started(office, await published(office))
    async with watching(office, f"/runs/{run}/live") as stream:
        await stream.until(1)
        await extended(office, run, wish("a"), wish("b"))
        events = await stream.until(3)
        assert [(event.id, event.kind) for event in events] == [
            ("1-1-0", "run.started"),
            ("1-2-0", "run.cancel-requested"),
            ("1-2-1", "run.cancel-requested"),
        ]
        assert events[2].data["run"] == run
        assert events[2].data["event"]["reason"] == "b"


async def test_a_signal_is_told_with_what_was_said_and_by_whom(office: Office) -> None:
    run = await started(office, await published(office))
    async with watching(office, f"/runs/{run}/live") as stream:
        await stream.until(1)
        body = Inline(value=Raw(b'{"sum": 5}'))
        await extended(
            office, run, SignalReceived(signal="paid", key="k", by="key:k1", body=body, step="ask")
        )
        event = (await stream.until(2))[-1]
    assert event.kind == "signal.received"
    told = event.data["event"]
    assert (told["signal"], told["by"], told["step"]) == ("paid", "key:k1", "ask")
    assert told["body"]["value"] == {"sum": 5}


async def test_only_the_run_that_was_asked_for_is_told(office: Office) -> None:
    workflow = await published(office)
    run, other = await started(office, workflow), await started(office, workflow)
    async with watching(office, f"/runs/{run}/live") as stream:
        await stream.until(1)
        await extended(office, other, wish())
        await extended(office, run, wish())
        assert {event.data["run"] for event in await stream.until(2)} == {run}


async def test_a_watcher_comes_back_with_the_last_id_it_saw_and_misses_nothing(office: Office) -> None:
    run = await started(office, await published(office))
    await extended(office, run, wish("a"), wish("b"))
    await extended(office, run, wish("c"))
    everything = ["1-1-0", "1-2-0", "1-2-1", "1-3-0"]
    for seen, last_id in enumerate(everything, 1):
        async with watching(office, f"/runs/{run}/live", last_event_id=last_id) as stream:
            await extended(office, run, wish("more"))
            everything.append(f"1-{len(office.runs_log.messages)}-0")
            await stream.until(len(everything) - seen)
            assert stream.ids == everything[seen:]
        if seen == 4:
            break


async def test_the_org_is_told_of_every_run_from_now_on(office: Office) -> None:
    workflow = await published(office)
    await started(office, workflow)
    async with watching(office, "/live") as stream:
        run = await started(office, workflow)
        (event,) = await stream.until(1)
        assert (event.kind, event.data["run"]) == ("run.started", run)


@pytest.mark.parametrize("remembered", [True, False], ids=["out of memory", "out of the log"])
async def test_the_org_goes_on_from_any_event_that_the_log_still_has(
    office: Office, remembered: bool
) -> None:
    for number in range(5):
        await extended(office, f"r{number}", wish("a"), wish("b"))
        await extended(office, f"x{number}", wish(), org="other")
    while office.tail.sequence < 10:
        await asyncio.sleep(0.001)
    if not remembered:
        office.tail._recent.clear()
    async with watching(office, "/live", last_event_id="1-3-0") as stream:
        await stream.until(7)
        await extended(office, "r9", wish())
        await stream.until(8)
        assert stream.ids == ["1-3-1", "1-5-0", "1-5-1", "1-7-0", "1-7-1", "1-9-0", "1-9-1", "1-11-0"]


async def test_what_happens_while_the_past_is_told_comes_once_and_in_order(office: Office) -> None:
    run = await started(office, await published(office))
    original = office.parts.histories.pages

    async def pages(org: str, run_id: str, since: Since = BEGINNING) -> Any:
        """Between the look at the history and its telling, more happens."""
        await extended(office, run, wish("before"))
        found = [page async for page in original(org, run_id, since)]
        await extended(office, run, wish("after"))
        for page in found:
            yield page

    office.live._histories.pages = pages  # type: ignore[method-assign]  # In its place.
    async with watching(office, f"/runs/{run}/live") as stream:
        await stream.until(5)
        await extended(office, run, wish("last"))
        await stream.until(6)
        assert stream.ids == [f"1-{number}-0" for number in range(1, 7)]


@pytest.mark.parametrize(("last_id", "reason"), [("2-1-0", "restored"), ("1-99-0", "unknown")])
async def test_an_id_of_another_time_of_the_log_starts_anew_and_says_so(
    office: Office, last_id: str, reason: str
) -> None:
    async with watching(office, "/live", last_event_id=last_id) as stream:
        await stream.until(1)
        await extended(office, "r1", wish())
        events = await stream.until(2)
        assert [event.kind for event in events] == ["reset", "run.cancel-requested"]
        assert events[0].data == {"reason": reason}


async def past(office: Office, count: int = 6) -> None:
    """Runs of which the log has only the newest two any more; nothing is remembered."""
    for number in range(1, count + 1):
        await extended(office, f"r{number}", wish("a"), wish("b"))
    while office.tail.sequence < count:
        await asyncio.sleep(0.001)
    office.archive.seen = list(office.tail._recent)
    office.tail._recent.clear()
    for index in range(count - 2):
        office.runs_log.messages[index] = structs.replace(
            office.runs_log.messages[index], subject="run.nobody.gone"
        )


async def test_what_has_left_the_log_is_told_out_of_the_archive(office: Office) -> None:
    await past(office)
    office.archive.seen.pop()  # It follows the log, so it may lack the newest.
    async with watching(office, "/live", last_event_id="1-2-0") as stream:
        await stream.until(9)
        await extended(office, "r9", wish())
        events = await stream.until(10)
        assert stream.ids == ["1-2-1", *(f"1-{n}-{i}" for n in (3, 4, 5, 6) for i in (0, 1)), "1-7-0"]
        assert "reset" not in {event.kind for event in events}


async def test_what_retention_took_is_said_before_what_is_still_there(office: Office) -> None:
    await past(office)
    del office.archive.seen[:4]
    office.archive.dropped_through = 4
    async with watching(office, "/live", last_event_id="1-2-0") as stream:
        events = await stream.until(5)
        assert (events[0].kind, events[0].data) == ("reset", {"reason": "retention"})
        assert stream.ids == ["1-5-0", "1-5-1", "1-6-0", "1-6-1"]


async def test_a_stream_that_needs_the_archive_ends_while_that_is_away(office: Office) -> None:
    """Never a gap that nobody is told of."""
    await past(office)
    office.archive.away = True
    async with watching(office, "/live", last_event_id="1-2-0") as stream:
        event = await stream.end()
        assert (event.kind, event.data, stream.ids) == ("end", {"reason": "unavailable"}, [])


@pytest.mark.parametrize(("last_id", "told"), [("", True), ("1-1-0", True), ("1-3-0", False)])
async def test_a_run_of_which_only_the_end_is_kept_says_so(office: Office, last_id: str, told: bool) -> None:
    run = await started(office, await published(office))
    await extended(office, run, wish("a"))
    await extended(office, run, wish("b"))
    del office.runs_log.messages[:2]
    async with watching(office, f"/runs/{run}/live", last_event_id=last_id) as stream:
        events = await stream.until(2 if told else 0)
        assert [event.data for event in events if event.kind == "reset"] == [{"reason": "retention"}] * told
        assert stream.ids == ["1-3-0"] * told


async def test_orgs_do_not_see_each_others_events(office: Office) -> None:
    """Promise 7."""
    key = await office.key_for("other")
    run = await started(office, await published(office))
    assert (await office.api("GET", f"/runs/{run}/live", key=key)).status == 404
    async with watching(office, "/live", key) as theirs, watching(office, "/live") as ours:
        await extended(office, run, wish("ours"))
        await ours.until(1)
        await extended(office, run, wish("theirs"), org="other")
        (event,) = await theirs.until(1)
        assert event.data["event"]["reason"] == "theirs"
        assert len(ours.events) == 1


@pytest.mark.parametrize("last_id", ["x", "1-2", "1-2-3-4", "-1-2-3", "1-" + "9" * 30 + "-0", "1-2-3 4"])
async def test_an_id_that_is_none_of_ours_is_malformed(office: Office, last_id: str) -> None:
    reply = await office.api("GET", "/live", last_event_id=last_id)
    assert (reply.status, reply.json["code"]) == (400, "malformed")


async def test_a_revoked_key_sees_nothing_more(office: Office) -> None:
    """W4."""
    issued = (await office.api("POST", "/keys", {"name": "x", "scopes": ["runs:read"]})).json
    async with watching(office, "/live", issued["key"]) as stream:
        await office.api("DELETE", f"/keys/{issued['id']}")
        event = await stream.end()
        assert (event.kind, event.data) == ("end", {"reason": "unauthenticated"})


async def test_streams_end_first_when_the_gateway_stops(office: Office) -> None:
    async with watching(office, "/live") as stream:
        office.tail.close()
        event = await stream.end()
        assert (event.kind, event.data) == ("end", {"reason": "closing"})
    assert (await office.api("GET", "/live")).status == 503


async def test_a_key_has_so_many_streams_and_gets_them_back(office: Office) -> None:
    """R8."""
    async with asyncio.TaskGroup() as group:
        exchanges = [Exchange(b"") for _ in range(SSE_STREAMS_PER_KEY)]
        scope = {"authorization": f"Bearer {office.key}"}
        for exchange in exchanges:
            given = scope_of("GET", "/api/v1/live", scope)
            group.create_task(office.app(given, exchange.receive, exchange.send))
        while sum(office.live.open.values()) < SSE_STREAMS_PER_KEY:
            await asyncio.sleep(0.001)
        reply = await office.api("GET", "/live")
        assert (reply.status, reply.json["code"]) == (429, "rate_limited")
        for exchange in exchanges:
            exchange.left.set()
    assert not office.live.open
    assert office.tail.watching == 0
    async with watching(office, "/live"):
        assert office.tail.watching == 1


async def grown(log: MemoryLog, count: int, reason: str = "") -> None:
    """So many runs more, all at once."""
    before = len(log.messages)
    await log.append(
        [
            Proposal(run_subject(ORG, f"r{n}"), encode(commit_of(ORG, f"r{n}", [wish(reason)])), 0)  # type: ignore[list-item]  # Facts are events.
            for n in range(before, before + count)
        ]
    )


@asynccontextmanager
async def following(log: MemoryLog) -> AsyncIterator[Tail]:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tail = Tail(log, log)
        running = group.create_task(tail.run())
        await tail.following.wait()
        yield tail
        running.cancel()


async def test_whoever_does_not_keep_up_is_let_go_and_holds_no_memory() -> None:
    log = MemoryLog()
    cuts: list[str] = []
    async with following(log) as tail:
        with (
            tail.watch(ORG, None, lambda: cuts.append("slow"), most=1_000) as slow,
            tail.watch(ORG, None, lambda: cuts.append("quick")) as quick,
        ):
            await grown(log, 20)
            while tail.sequence < 20:
                await asyncio.sleep(0.001)
            assert (slow.ended, tail.let_go, cuts) == ("slow", 1, ["slow"])
            assert await slow.take(0, 0.0) == b""
            assert [event.id for event in events_in((await quick.take(0, 0.0)).decode())] == [
                f"1-{sequence}-0" for sequence in range(1, 21)
            ]


async def test_what_is_being_sent_counts_as_unread(office: Office) -> None:
    """F18: at 1 MiB the connection is dropped, whatever its transport still waits for."""
    async with watching(office, "/live") as stream:
        stream.exchange.reads.clear()
        size = 0
        while office.tail.let_go == 0:
            assert size < SSE_BUFFER_BYTES
            await grown(office.runs_log, 1, "x" * 30_000)
            size += 30_000
            await asyncio.sleep(0.001)
        assert size > SSE_BUFFER_BYTES - 100_000
        assert stream.exchange.left.is_set()
    assert office.tail.watching == 0


async def test_whoever_reads_is_not_let_go_because_much_came_at_once(office: Office) -> None:
    async with watching(office, "/live") as stream:
        await grown(office.runs_log, 400, "x" * 9_000)
        async with asyncio.timeout(60):
            while b"id: 1-400-0" not in b"".join(stream.exchange.parts[-20:]):
                await asyncio.sleep(0.01)
        assert stream.ids == [f"1-{sequence}-0" for sequence in range(1, 401)]
        assert office.tail.let_go == 0


async def test_the_tail_remembers_the_newest_commits_within_a_bound() -> None:
    log = MemoryLog()
    tail = Tail(log, log, remember=2_000)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        running = group.create_task(tail.run())
        await tail.following.wait()
        for number in range(20):
            commit: Any = commit_of(ORG, f"r{number}", [wish()])
            await log.append([Proposal(run_subject(ORG, f"r{number}"), encode(commit), 0)])
        while tail.sequence < 20:
            await asyncio.sleep(0.001)
        running.cancel()
    assert sum(len(seen.kept.body) for seen in tail._recent) <= 2_000
    assert tail.since(Mark(1, 1, 0)) is None
    recent = tail.since(Mark(1, 20, 0))
    assert recent is not None
    assert [seen.kept.sequence for seen in recent] == [20]


async def test_a_commit_that_cannot_be_read_stops_nobodys_stream(office: Office) -> None:
    async with watching(office, "/live") as stream:
        await office.runs_log.append([Proposal(run_subject(ORG, "bad"), b"\xff{", 0)])
        await extended(office, "good", wish())
        (event,) = await stream.until(1)
        assert event.data["run"] == "good"


def test_nothing_in_an_event_can_end_its_frame() -> None:
    hostile = frame("x\n\nevent: forged", b'{"a":1}', "1-1-0")
    assert hostile == b'id: 1-1-0\nevent: unknown\ndata: {"a":1}\n\n'


async def test_line_breaks_in_values_stay_in_their_event(office: Office) -> None:
    async with watching(office, "/live") as stream:
        await extended(office, "r1", wish("a\n\nid: 9-9-9\nevent: forged\ndata: {}\n\n\r\r"))
        (event,) = await stream.until(1)
        assert event.data["event"]["reason"].startswith("a\n\nid: 9-9-9")


async def test_a_watcher_that_ended_stays_ended() -> None:
    watcher = Watcher(ORG, None, 100)
    watcher.end("gone")
    watcher.put(1, b"x")
    watcher.end("slow")
    assert (watcher.ended, await watcher.take(0, 0.0)) == ("gone", b"")


async def test_whoever_does_not_read_its_socket_is_cut_off_at_once_and_nobody_else(office: Office) -> None:
    """F18, on a real connection: not after the 30 s that a stalled answer may take."""
    cap = ConnectionCap(stall_seconds=3600)
    async with serving(office.app, "127.0.0.1", 0, cap=cap) as server, watching(office, "/live") as other:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(
            f"GET /api/v1/live HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {office.key}\r\n\r\n".encode()
        )
        assert b"200" in await reader.readline()
        async with asyncio.timeout(60):
            while office.tail.let_go == 0:
                await grown(office.runs_log, 8, "x" * 9_000)
                await asyncio.sleep(0.001)
            while cap.open:
                await asyncio.sleep(0.005)
        count = len(office.runs_log.messages)
        await grown(office.runs_log, 1)
        await other.until(count + 1)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1 << 40)
        writer.close()
