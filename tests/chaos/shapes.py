"""The workflows of a campaign. Every action is a call of the world, so that the world can say what happened."""

import itertools
from typing import Any, Final

from msgspec import Struct

CALL_SECONDS: Final = 1.5
"""How long a call waits for its answer: less than the world takes when it is late."""
_PATIENT: Final = {"attempts": 8, "first_pause_s": 0.4, "factor": 1.7, "longest_pause_s": 5}


class Shape(Struct, frozen=True, kw_only=True):
    """One workflow and how it is started."""

    name: str
    weight: int
    """Its share of the deliveries."""
    definition: dict[str, Any]
    responds: bool = False
    people: bool = False
    """Its runs may wait for somebody who decides, or are cancelled."""

    @property
    def webhook(self) -> dict[str, Any]:
        mode = {"mode": "respond", "respond_timeout_s": 20} if self.responds else {"mode": "accept"}
        return mode | {"per_minute": 1_000_000, "dedupe": {"by": "preset", "preset": "idempotency_key"}}


def shapes(world: str) -> tuple[Shape, ...]:
    """`world`: where it is reached."""
    return (
        Shape(
            name="straight", weight=44, definition=_row(*(_call(f"s{n}", world, "PUT") for n in (1, 2, 3)))
        ),
        Shape(name="fanout", weight=3, definition=_fanout(world)),
        Shape(name="retry", weight=12, definition=_row(_call("flaky", world, "KEYED", path="flaky"))),
        Shape(
            name="timer",
            weight=14,
            definition=_row(
                _call("before", world, "PUT"),
                {"id": "pause", "type": "delay", "config": {"seconds": "{{ trigger.body.seconds }}"}},
                _call("after", world, "KEYED"),
            ),
            people=True,
        ),
        Shape(
            name="doubt",
            weight=12,
            definition=_row(_call("once", world, "POST"), _call("then", world, "PUT")),
            people=True,
        ),
        Shape(name="respond", weight=15, definition=_respond(), responds=True),
        Shape(name="map", weight=3, definition=_map(world)),
        Shape(name="loop", weight=3, definition=_loop(world)),
    )


def _call(name: str, world: str, kind: str, path: str = "") -> dict[str, Any]:
    method = "POST" if kind in {"POST", "KEYED"} else "PUT"
    config: dict[str, Any] = {
        "method": method,
        "url": f"{world}/{path or kind.lower()}/{name}",
        "body": {"n": "{{ trigger.body.n }}"},
        "timeout_s": CALL_SECONDS,
    }
    if kind == "KEYED":
        config["honours_key"] = True
    # What must not be repeated blindly is not repeated at all: a person decides.
    retry = {} if kind == "POST" else {"retry": _PATIENT}
    return {"id": name, "type": "http.request", "config": config, "timeout_s": 20, **retry}


def _row(*nodes: dict[str, Any]) -> dict[str, Any]:
    edges = [{"source": one["id"], "target": next_["id"]} for one, next_ in itertools.pairwise(nodes)]
    return {"nodes": list(nodes), "edges": edges}


def _fanout(world: str) -> dict[str, Any]:
    start = {"id": "start", "type": "set", "config": {"fields": {"n": "{{ trigger.body.n }}"}}}
    join = {"id": "join", "type": "merge", "config": {"mode": "all"}}
    calls = [_call(f"f{number:02}", world, "PUT") for number in range(20)]
    edges = [{"source": "start", "target": call["id"]} for call in calls]
    edges += [{"source": call["id"], "target": "join"} for call in calls]
    return {"nodes": [start, *calls, join], "edges": edges}


def _map(world: str) -> dict[str, Any]:
    """Seven items, three at a time, each called twice in a row; what comes behind is called once."""
    each = {"id": "each", "type": "map", "config": {"items": list(range(7)), "at_once": 3}}
    inside = [_call(name, world, "PUT") | {"inside": "each"} for name in ("m1", "m2")]
    row, behind = _row(*inside), _call("behind", world, "KEYED")
    edges = [*row["edges"], {"source": "each", "target": "behind"}]
    return {"nodes": [each, *inside, behind], "edges": edges}


def _loop(world: str) -> dict[str, Any]:
    """Three rounds of one call."""
    again = {"id": "again", "type": "loop", "config": {"until": "index == 2"}}
    return {"nodes": [again, _call("round", world, "KEYED") | {"inside": "again"}]}


def _respond() -> dict[str, Any]:
    return _row(
        {"id": "pick", "type": "set", "config": {"fields": {"n": "{{ trigger.body.n }}", "ok": True}}},
        {"id": "answer", "type": "respond", "config": {"status": 200, "body": "{{ steps.pick.output }}"}},
    )
