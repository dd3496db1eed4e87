"""How `automateos runs logs` reads and shows lines."""

from typing import Any

from deploy.commands.logs import Pages, shown

LINE: dict[str, Any] = {
    "id": "1-0",
    "time": "2026-11-21T12:00:00.123456Z",
    "step": "call",
    "attempt": 2,
    "level": "info",
    "text": "answered",
    "fields": {},
    "missing": None,
}


def test_a_line_is_one_line_whatever_a_node_said() -> None:
    assert shown(LINE | {"fields": {"ms": 7}}) == "12:00:00.123  call#2  info     answered  ms=7"
    hostile = shown(LINE | {"text": "a\nb\r\x1b[2J\x07", "fields": {"x\n": "y\u202e\x9b"}})
    assert hostile.isprintable()
    cut = shown(LINE | {"missing": {"why": "line", "lines": 0, "chars": 11, "fields": 3}})
    assert cut.endswith("answered  (cut: 11 characters, 3 fields)")
    told = shown(LINE | {"missing": {"why": "attempt", "lines": 7, "chars": 9, "fields": 0}})
    assert told.endswith("answered"), "a marker is a sentence already"


class Client:
    """Gives the pages of a test, one after the other."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, **query: Any) -> Any:
        assert path == "/runs/r1/logs"
        self.asked.append(query)
        return self.pages.pop(0)


def page(*ids: str, following: str | None = None, expired: str | None = None) -> dict[str, Any]:
    return {"items": [LINE | {"id": each} for each in ids], "next": following, "expired_before": expired}


def test_each_look_goes_on_where_the_last_one_ended_also_behind_pages_that_found_nothing() -> None:
    client = Client(
        page("1-0", "1-1", following="5-9999", expired="2026-11-20T00:00:00Z"),
        page(following="9-9999"),
        page("10-0"),
        page(),
        page("11-0"),
    )
    pages = Pages(client, "r1", {"level": "info"})
    expired = []
    seen = []
    for each in pages.new():
        expired.append(pages.expired)
        seen += [line["id"] for line in each]
    assert expired == ["2026-11-20T00:00:00Z"] * 3
    assert list(pages.new()) == [[]]
    seen += [line["id"] for each in pages.new() for line in each]
    assert seen == ["1-0", "1-1", "10-0", "11-0"]
    assert [asked["cursor"] for asked in client.asked] == [None, "5-9999", "9-9999", "10-0", "10-0"]
    assert all(asked["level"] == "info" for asked in client.asked)
