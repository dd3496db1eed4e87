"""What nodes said, over HTTP."""

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from chassis.ports import Stored
from contracts.limits import LOG_LINES, SSE_STREAMS_PER_KEY
from contracts.logs import LogLine, LogRecord, Missing
from gateway.logs import reading
from tests.gateway.fakes import Office
from tests.gateway.stories import published, started
from tests.gateway.test_live import Stream, watching


def said(office: Office, run: str, step: str, *texts: str, attempt: int = 2, **line: Any) -> None:
    lines = tuple(
        LogLine(**({"time": 1_790_000_000.5, "text": text, "fields": {"n": 1}} | line)) for text in texts
    )
    office.logs.put(
        LogRecord(
            org="org_default",
            run=run,
            step=step,
            node="a",
            attempt=attempt,
            executor="executor:e",
            lines=lines,
        )
    )


def texts_of(stream: Stream) -> list[str]:
    return [event.data["text"] for event in stream.events if event.kind == "line"]


async def test_the_lines_of_a_run_are_told_page_by_page_and_from_any_line_on(office: Office) -> None:
    run = await started(office, await published(office))
    said(office, run, "a", "one", "two", "three")
    said(office, "another", "a", "not this")
    said(office, run, "b", "four")
    said(office, run, "b", "five")
    texts, cursor = [], ""
    while True:
        page = (await office.api("GET", f"/runs/{run}/logs?limit=2{cursor}")).json
        texts.append([item["text"] for item in page["items"]])
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert texts == [["one", "two"], ["three", "four"], ["five"]]
    whole = (await office.api("GET", f"/runs/{run}/logs?step=b")).json
    assert [item["text"] for item in whole["items"]] == ["four", "five"]
    assert whole["items"][0] == {
        "id": "3-0",
        "run": run,
        "time": "2026-09-21T14:13:20.500000Z",
        "step": "b",
        "node": "a",
        "attempt": 2,
        "level": "info",
        "text": "four",
        "fields": {"n": 1},
        "missing": None,
    }
    rest = (await office.api("GET", f"/runs/{run}/logs?cursor=1-1")).json
    assert [item["text"] for item in rest["items"]] == ["three", "four", "five"]


async def test_the_lines_of_another_orgs_run_are_not_there(office: Office) -> None:
    """Promise 7."""
    key = await office.key_for("other")
    run = await started(office, await published(office))
    said(office, run, "a", "ours")
    assert (await office.api("GET", f"/runs/{run}/logs", key=key)).status == 404


async def test_a_cursor_that_is_none_and_a_message_that_cannot_be_read_do_no_harm(office: Office) -> None:
    run = await started(office, await published(office))
    said(office, run, "a", "one")
    office.logs.messages[0] = type(office.logs.messages[0])(office.logs.messages[0].subject, 1, b"\xff")
    said(office, run, "a", "two")
    reply = await office.api("GET", f"/runs/{run}/logs")
    assert [item["text"] for item in reply.json["items"]] == ["two"]
    for cursor in ("x", "1", "1-2-3", "9" * 30):
        assert (await office.api("GET", f"/runs/{run}/logs?cursor={cursor}")).status == 400
    office.logs.messages.append(Stored(office.logs.messages[0].subject, 3, b"\xff"))
    half = await office.api("GET", f"/runs/{run}/logs?contains=%ED%A0%80")
    assert half.status in (200, 400)


async def test_lines_are_found_by_attempt_level_and_text(office: Office) -> None:
    run = await started(office, await published(office))
    said(office, run, "a", "Eins", attempt=1, level="debug", fields={})
    said(
        office,
        run,
        "a",
        'zwei "Anf\u00fchrung" \n\0',
        attempt=1,
        level="warning",
        fields={"host": "API.example"},
    )
    said(office, run, "b", "drei", attempt=2, level="error", fields={"n": 12345})

    async def found(query: str) -> list[str]:
        page = (await office.api("GET", f"/runs/{run}/logs?{query}")).json
        return [item["text"][:4] for item in page["items"]]

    assert await found("attempt=1") == ["Eins", "zwei"]
    assert await found("level=warning") == ["zwei", "drei"]
    assert await found("level=debug") == ["Eins", "zwei", "drei"]
    assert await found("contains=EINS") == ["Eins"]
    assert await found("contains=" + quote('"Anf\u00fchrung')) == ["zwei"]
    assert await found(f"contains={quote(chr(0))}") == ["zwei"]
    assert await found("contains=api.EXAMPLE") == ["zwei"]
    assert await found("contains=234") == ["drei"]
    assert await found("contains=fields") == [], "not in what JSON puts around it"
    assert await found("level=error&contains=zwei") == []
    for query in ("level=fatal", "attempt=0", "attempt=x", "contains=", f"contains={'x' * 201}", "step="):
        assert (await office.api("GET", f"/runs/{run}/logs?{query}")).status in (400, 422), query


async def test_a_filter_looks_at_so_much_at_once_and_says_where_to_go_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOG_SCAN_BYTES", 2_000)
    monkeypatch.setattr(reading, "_AT_ONCE", 5)
    run = await started(office, await published(office))
    for number in range(100):
        said(office, run, "a", "needle" if number in (30, 99) else "hay")
    found, cursor, pages = [], "", 0
    while True:
        page = (await office.api("GET", f"/runs/{run}/logs?contains=needle{cursor}")).json
        found += [item["id"] for item in page["items"]]
        pages += 1
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == ["31-0", "100-0"]
    assert pages > 5
    assert office.parts.logs.looked_at > 100 * 100


async def test_what_is_missing_and_what_has_expired_is_told(office: Office) -> None:
    run = await started(office, await published(office))
    said(office, run, "a", "one")
    said(office, run, "a", "bound", level="warning", missing=Missing(why="attempt", lines=7, chars=99))
    page = (await office.api("GET", f"/runs/{run}/logs")).json
    assert page["expired_before"] is None
    assert page["items"][1]["missing"] == {"why": "attempt", "lines": 7, "chars": 99, "fields": 0}
    office.logs.expire(1, since=150.0)
    assert (await office.api("GET", f"/runs/{run}/logs")).json["expired_before"] is None, "the run is younger"
    office.logs.expire(1, since=300.0)
    page = (await office.api("GET", f"/runs/{run}/logs")).json
    assert [item["text"] for item in page["items"]] == ["bound"]
    assert page["expired_before"] == "1970-01-01T00:05:00Z"
    office.logs.run_began = None
    assert (await office.api("GET", f"/runs/{run}/logs")).json["expired_before"], "nobody knows: it may be"
    onward = (await office.api("GET", f"/runs/{run}/logs?cursor=2-0")).json
    assert onward["expired_before"] is None, "of what lies behind that line nothing is gone"


async def test_lines_are_told_live_those_that_are_there_first_each_once(office: Office) -> None:
    run = await started(office, await published(office))
    said(office, run, "a", *map(str, range(LOG_LINES)))
    said(office, run, "b", "1000")

    async def speak() -> None:
        for number in range(1_001, 1_101):
            said(office, run, "a", str(number))
            said(office, "another", "a", "not this")
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        group.create_task(speak())
        async with (
            watching(office, f"/runs/{run}/logs/live") as early,
            watching(office, f"/runs/{run}/logs/live") as late,
        ):
            for stream in (early, late):
                await stream.until(1_101)
                assert texts_of(stream) == list(map(str, range(1_101)))
                assert len(set(stream.ids)) == 1_101
    # From any line on, as a browser that comes back.
    for place in (0, 499, 1_000, 1_099):
        async with watching(office, f"/runs/{run}/logs/live", last_event_id=early.events[place].id) as back:
            await back.until(1_100 - place)
            assert texts_of(back) == list(map(str, range(place + 1, 1_101)))


async def test_a_live_stream_of_lines_filters_and_says_what_is_gone(office: Office) -> None:
    run = await started(office, await published(office))
    said(office, run, "a", "gone")
    said(office, run, "a", "quiet", level="debug")
    said(office, run, "a", "loud", level="error")
    office.logs.expire(1, since=300.0)
    async with watching(office, f"/runs/{run}/logs/live?level=warning") as stream:
        expired, line = await stream.until(2)
        assert (expired.kind, expired.data) == ("expired", {"before": "1970-01-01T00:05:00Z"})
        assert (line.kind, line.id, line.data["text"]) == ("line", "3-0", "loud")
    async with watching(office, f"/runs/{run}/logs/live", last_event_id="77-0") as stream:
        events = await stream.until(4)
        assert (events[0].kind, events[0].data) == ("reset", {"reason": "unknown"})
        assert texts_of(stream) == ["quiet", "loud"]
    refused = await office.api("GET", f"/runs/{run}/logs/live", last_event_id="1-1-1")
    assert refused.status == 400


async def test_streams_of_lines_count_with_the_others_and_end_with_their_key_the_log_and_the_service(
    office: Office,
) -> None:
    run = await started(office, await published(office))
    key = await office.key_for("org_default")
    key_id = key.split("_")[2]
    async with watching(office, f"/runs/{run}/logs/live", key) as stream:
        assert office.live.open[key_id] == 1
        await office.vault.revoke_key("org_default", key_id)
        assert (await stream.end()).data == {"reason": "unauthenticated"}
    assert not office.live.open
    office.live.open[office.key.split("_")[2]] = SSE_STREAMS_PER_KEY
    assert (await office.api("GET", f"/runs/{run}/logs/live")).status == 429
    office.live.open.clear()
    async with watching(office, f"/runs/{run}/logs/live") as stream:
        office.logs.away = True
        assert (await stream.end()).data == {"reason": "unavailable"}
    office.logs.away = False
    async with watching(office, f"/runs/{run}/logs/live") as stream:
        office.tail.close()
        assert (await stream.end()).data == {"reason": "closing"}


async def test_lines_of_another_orgs_run_are_not_told_live(office: Office) -> None:
    """Promise 7."""
    key = await office.key_for("other")
    run = await started(office, await published(office))
    assert (await office.api("GET", f"/runs/{run}/logs/live", key=key)).status == 404
    said(office, run, "a", "ours")
    assert (await office.api("GET", "/runs/nowhere/logs/live")).status == 404


async def test_a_reader_that_reads_nothing_is_cut_off(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.live.streams.STALLED_SECONDS", 0.05)
    run = await started(office, await published(office))
    async with watching(office, f"/runs/{run}/logs/live") as stream:
        stream.exchange.reads.clear()
        said(office, run, "a", "unread")
        async with asyncio.timeout(60):
            await stream.exchange.left.wait()
    assert stream.exchange.status == 0, "its connection was cut"
