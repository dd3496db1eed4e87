"""What nodes said, over HTTP."""

from contracts.logs import LogLine, LogRecord
from tests.gateway.fakes import Office
from tests.gateway.stories import published, started


def said(office: Office, run: str, step: str, *texts: str, org: str = "org_default") -> None:
    lines = tuple(LogLine(time=1_790_000_000.5, text=text, fields={"n": 1}) for text in texts)
    office.logs.put(
        LogRecord(org=org, run=run, step=step, node="a", attempt=2, executor="executor:e", lines=lines)
    )


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
        "time": "2026-09-21T14:13:20.500000Z",
        "step": "b",
        "node": "a",
        "attempt": 2,
        "level": "info",
        "text": "four",
        "fields": {"n": 1},
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
