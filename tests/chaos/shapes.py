"""The workflows of a campaign that somebody starts by sending something."""

from collections.abc import Sequence
from typing import Any

from tests.chaos import asking, kin
from tests.chaos.drawing import CHAT, FORM, Shape, call, forked, row


def shapes(world: str) -> Sequence[Shape]:
    """Those that need nothing but the world. `world`: where it is reached."""
    return (
        Shape(name="straight", weight=44, definition=row(*(call(f"s{n}", world, "PUT") for n in (1, 2, 3)))),
        Shape(name="fanout", weight=3, definition=_fanout(world)),
        Shape(
            name="retry",
            weight=12,
            definition=row(call("flaky", world, "KEYED", path="flaky")),
            signed=True,
        ),
        Shape(
            name="timer",
            weight=14,
            definition=row(
                call("before", world, "PUT"),
                {"id": "pause", "type": "delay", "config": {"seconds": "{{ trigger.body.seconds }}"}},
                call("after", world, "KEYED"),
            ),
            people=True,
        ),
        Shape(
            name="doubt",
            weight=12,
            definition=row(call("once", world, "POST"), call("then", world, "PUT")),
            people=True,
        ),
        Shape(name="respond", weight=15, definition=_respond(), responds=True),
        Shape(name="map", weight=3, definition=_map(world)),
        Shape(name="loop", weight=3, definition=_loop(world)),
        Shape(name=FORM, weight=3, definition=row(call("filled", world, "PUT")), form=True),
        Shape(name="approval", weight=4, definition=asking.approval(world), people=True),
        Shape(name="signal", weight=4, definition=asking.signal(world), people=True),
        Shape(name="callback", weight=4, definition=asking.callback(world), people=True),
        Shape(name="letter", weight=4, definition=asking.letter(world)),
        Shape(name="odd", weight=3, definition=_odd(world)),
        Shape(name="undo", weight=5, definition=_undoing(world), people=True),
        Shape(name="gated", weight=3, definition=_gated(world)),
        Shape(name="burst", weight=5, definition=_burst(world), people=True),
        Shape(name="batch", weight=5, definition=_batch(world), people=True),
        Shape(name=CHAT, weight=4, definition=_chat(world), chat=True),
    )


def shapes_with(world: str, child: str) -> Sequence[Shape]:
    """Those that need others: a workflow that they start, or a worker outside."""
    return (
        Shape(name="family", weight=5, definition=kin.family(world, child), people=True),
        Shape(name="outside", weight=3, definition=kin.outside(world), people=True),
    )


def _fanout(world: str) -> dict[str, Any]:
    start = {"id": "start", "type": "set", "config": {"fields": {"n": "{{ trigger.body.n }}"}}}
    join = {"id": "join", "type": "merge", "config": {"mode": "all"}}
    calls = [call(f"f{number:02}", world, "PUT") for number in range(20)]
    edges = [{"source": "start", "target": each["id"]} for each in calls]
    edges += [{"source": each["id"], "target": "join"} for each in calls]
    return {"nodes": [start, *calls, join], "edges": edges}


def _map(world: str) -> dict[str, Any]:
    """Seven items, three at a time, each called twice in a row; what comes behind is called once."""
    each = {"id": "each", "type": "map", "config": {"items": list(range(7)), "at_once": 3}}
    inside = [call(name, world, "PUT") | {"inside": "each"} for name in ("m1", "m2")]
    within, behind = row(*inside), call("behind", world, "KEYED")
    edges = [*within["edges"], {"source": "each", "target": "behind"}]
    return {"nodes": [each, *inside, behind], "edges": edges}


def _loop(world: str) -> dict[str, Any]:
    """Three rounds of one call."""
    again = {"id": "again", "type": "loop", "config": {"until": "index == 2"}}
    return {"nodes": [again, call("round", world, "KEYED") | {"inside": "again"}]}


def _odd(world: str) -> dict[str, Any]:
    """The world answers something that has broken others; it is kept, looked at, and sent on."""
    kept = {"id": "kept", "type": "set", "config": {"fields": {"odd": "{{ steps.ask.output.body }}"}}}
    return row(
        call("ask", world, "PUT", path="odd"),
        kept,
        call("then", world, "KEYED", odd="{{ steps.kept.output.odd }}"),
    )


def _gated(world: str) -> dict[str, Any]:
    """One at a time of those that leave the same rest."""
    pause = {"id": "pause", "type": "delay", "config": {"seconds": 0.2}}
    drawn = row(call("inside", world, "PUT"), pause, call("out", world, "KEYED"))
    return drawn | {"flow": {"limits": [{"name": "till", "at_once": 1, "per": "trigger.body.n % 3"}]}}


def _burst(world: str) -> dict[str, Any]:
    """Of those that follow one another closely the newest goes on, the even and the odd by themselves."""
    limit = {"name": "burst", "per": "trigger.body.n % 2", "debounce": {"seconds": 2, "at_most": 8}}
    return row(call("newest", world, "KEYED")) | {"flow": {"limits": [limit]}}


def _batch(world: str) -> dict[str, Any]:
    """One run for up to five, the even and the odd by themselves."""
    limit = {"name": "rows", "per": "trigger.body.n % 2", "batch": {"size": 5, "seconds": 4}}
    rows = call("rows", world, "KEYED", n="{{ trigger.body.map(row, row.n) }}")
    return row(rows) | {"flow": {"limits": [limit]}}


def _chat(world: str) -> dict[str, Any]:
    """Whoever talks is told who he is, and what the world has made of it."""
    body = {"to": "{{ trigger.body.session }}", "said": "{{ steps.think.output.body.effect }}"}
    answer = {"id": "answer", "type": "respond", "config": {"status": 200, "body": body}}
    return row(call("think", world, "KEYED", said="{{ trigger.body.message }}"), answer)


def _undoing(world: str) -> dict[str, Any]:
    """Two calls that are undone by two others: every third run stops itself, and people cancel some of those that pause."""
    undos = [call("unbook", world, "KEYED"), call("leave", world, "PUT")]
    drawn = forked(
        call("book", world, "PUT") | {"compensate": "unbook"},
        call("stay", world, "KEYED") | {"compensate": "leave"},
        {"id": "check", "type": "if", "config": {"condition": "trigger.body.n % 3 == 0"}},
        {"id": "stop", "type": "stop", "config": {"message": "Not every third."}},
        {"id": "pause", "type": "delay", "config": {"seconds": 1.5}},
        ways="book>stay stay>check check.true>stop check.false>pause",
    )
    return drawn | {"nodes": [*drawn["nodes"], *undos]}


def _respond() -> dict[str, Any]:
    return row(
        {"id": "pick", "type": "set", "config": {"fields": {"n": "{{ trigger.body.n }}", "ok": True}}},
        {"id": "answer", "type": "respond", "config": {"status": 200, "body": "{{ steps.pick.output }}"}},
    )
