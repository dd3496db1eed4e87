"""The recorded scenes: one for each thing that a workflow can do, with expressions, waits, people and misfortunes."""

import json
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw

from chassis.ids import derived
from contracts.codec import encode
from contracts.errors import Failure
from contracts.gates import ALL_RUNS, OrgLimit, Rate, SlotRefusal
from contracts.messages import GiveSlot, Message, RefuseSlot, SendSignal, StepInDoubt
from contracts.payloads import Inline
from orchestrator.standing_for import BatchInput
from tests.histories.stage import Scene
from tests.orchestrator.stories import (
    CANCEL,
    LOOK,
    RETRY,
    START,
    TO,
    TRY_AGAIN,
    broken,
    called,
    child_over,
    child_started,
    decide_on,
    done,
    let_go,
    resolve,
    signal,
)

_PATIENT: Final = {"attempts": 3, "first_pause_s": 1, "factor": 2, "jitter": 0.2}
HOSTILE: Final = (
    r'{"nul":"\u0000","minus":-0.0,"big":123456789012345678901234567890,"tiny":1e-400,'
    r'"deep":[[[[[[[[[[[[[[[[{"a":[]}]]]]]]]]]]]]]]]],"text":"\u202eab\r\n{{ trigger.body }}","e":1.0e2}'
)
"""What JSON allows and what many a reader trips over."""


def node(name: str, kind: str = "echo", config: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "config": config or {}, **more}


def flow(arrows: str, *nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A workflow from arrows such as `a>b b.error>c`. Nodes that are not given are echoes."""
    edges, given = [], {each["id"]: each for each in nodes}
    for arrow in arrows.split():
        left, _, target = arrow.partition(">")
        source, _, port = left.partition(".")
        for name in filter(None, (source, target)):
            given.setdefault(name, node(name))
        if target:
            edges.append({"source": source, "target": target, "port": port or "main"})
    return {"nodes": list(given.values()), "edges": edges, **more}


def get(name: str, **more: Any) -> dict[str, Any]:
    """A call that must not be repeated blindly."""
    config = {"method": "POST", "url": "https://example.com/{{ trigger.body.id }}"}
    return node(name, "http.request", config, **more)


def unsure(step: str, attempt: int = 1) -> StepInDoubt:
    error = Failure(code="unreachable", message="No answer came.")
    return StepInDoubt(**TO, step=step, attempt=attempt, executor="executor:1", error=error)


def _raw(text: str) -> Inline:
    return Inline(value=Raw(text.encode()))


def _hostile_done(step: str) -> Message:
    reported = done(step)
    return type(reported)(
        **TO, step=step, attempt=1, executor="executor:1", output=_raw(HOSTILE), ports=("main",)
    )


_LINEAR: Final = flow(
    "a>b b>c",
    node("a", config={"value": "{{ trigger.body }}"}),
    node("b", config={"value": "{{ steps.a.output.id + 1 }} of {{ run.id }}"}),
    node("c", config={"value": {"all": ["{{ steps.b.output }}", "{{ vars.place }}"]}}),
    vars={"place": "Berlin"},
)
_IF: Final = flow(
    "check.true>big check.false>small big>last small>last",
    node("check", "if", {"condition": "trigger.body.amount > 100"}),
)
_SWITCH: Final = flow(
    "route.eu>berlin route.us>boston route.default>elsewhere",
    node(
        "route",
        "switch",
        {
            "cases": [
                {"name": "eu", "when": "trigger.body.region == 'eu'"},
                {"name": "us", "when": "trigger.body.region.startsWith('us')"},
            ]
        },
    ),
)
_RESPOND: Final = flow(
    "keep>name name>more more>answer",
    node("keep", "filter", {"condition": "trigger.body.event == 'push'"}),
    node(
        "name",
        "set",
        {"fields": {"greeting": "Hello {{ trigger.body.name }}", "count": "{{ size(trigger.body.items) }}"}},
    ),
    node("more", "set", {"fields": {"next": "{{ steps.name.output.count + 1 }}"}, "keep_input": True}),
    node(
        "answer",
        "respond",
        {"status": 201, "headers": {"X-Kind": "greeting"}, "body": "{{ steps.more.output }}"},
    ),
)
_ERROR_PATH: Final = flow(
    "call>next call.error>mend",
    node("call", retry=_PATIENT),
    node("mend", config={"value": "{{ steps.call.error.message }}"}),
)
_MERGES: Final = flow(
    "a>all b>all c>first d>first all>pair first>pair",
    node("all", "merge", {"mode": "all", "output": "list"}),
    node("first", "merge", {"mode": "any"}),
    node("pair", "merge", {"mode": "all", "output": "object"}),
)
_DELAYS: Final = flow(
    "now>pause pause>until until>after",
    node("now", "set", {"fields": {"wait": "{{ trigger.body.seconds }}"}}),
    node("pause", "delay", {"seconds": "{{ steps.now.output.wait }}"}),
    node("until", "delay", {"until": "2026-01-01T00:00:00Z"}),
    node("after", "set", {"fields": {"done": True}}),
)
_ASKS: Final = flow(
    "call>ask ask>take ask.timeout>remind",
    node("ask", "wait.signal", {"signal": "paid", "timeout_seconds": "{{ trigger.body.seconds }}"}),
    node("take", config={"value": "{{ steps.ask.output.sum }} by {{ steps.call.output }}"}),
    node("remind", config={"value": "{{ steps.ask.output }}"}),
)
_ASKS_TWICE: Final = flow(
    "one>two",
    node("one", "wait.signal", {"signal": "paid"}),
    node("two", "wait.signal", {"signal": "paid"}),
    node("three", "wait.signal", {"signal": "shipped"}),
)
_STOPS: Final = flow(
    "stock.true>sell stock.false>none",
    node("stock", "if", {"condition": "trigger.body.stock > 0"}),
    node("none", "stop", {"message": "No {{ trigger.body.of }} is left."}),
)
_CALL: Final = flow("call>after", get("call"))
_TWO_CALLS: Final = flow("one>join two>join", get("one"), get("two"), node("join", "merge"))


_EACH: Final = flow(
    "first>each call>next each>last",
    node("first"),
    node("each", "map", {"items": "{{ trigger.body.rows }}"}),
    node("call", config={"value": "{{ item.n }} {{ index }} {{ steps.first.output }}"}, inside="each"),
    node("next", "set", {"fields": {"got": "{{ steps.call.output }}"}}, inside="each"),
    node("last", config={"value": "{{ steps.each.output.results }}"}),
)
_ROWS: Final = '{"rows":[{"n":"a"},{"n":"b"},{"n":"c"}]}'


def _each(arrows: str, config: dict[str, Any], *more: dict[str, Any], **of_it: Any) -> dict[str, Any]:
    """A map over three, an action inside of it, and what else is given."""
    inside = get("call", inside="each", retry=_PATIENT)
    return flow(arrows, node("each", "map", {"items": [1, 2, 3], **config}, **of_it), inside, *more)


def _inside(container: str, *nodes: dict[str, Any]) -> Sequence[dict[str, Any]]:
    return [{**each, "inside": container} for each in nodes]


_GOES_ON: Final = _each("each>after", {"on_item_error": "continue", "at_once": 2}, node("after"))
_MENDED: Final = _each(
    "each>after each.error>mend",
    {"at_once": 2},
    node("mend", config={"value": "{{ steps.each.error.code }}"}),
)
_WAITING: Final = flow(
    "call>ask",
    node("each", "map", {"items": ["a", "b"], "on_item_error": "continue"}),
    *_inside(
        "each",
        get("call"),
        node("ask", "wait.signal", {"signal": "paid", "timeout_seconds": 60}),
        node("nap", "delay", {"seconds": "{{ 30 * (index + 1) }}"}),
        node("other"),
    ),
)
_ENDS: Final = flow(
    "big.true>yes big.false>no",
    node("each", "map", {"items": "{{ trigger.body }}", "batch_size": 2, "on_item_error": "continue"}),
    *_inside(
        "each",
        node("big", "if", {"condition": "item[1] > 10"}),
        node("yes", "set", {"fields": {"rows": "{{ item }}", "place": "{{ index }}"}}),
        node("no", "stop", {"message": "{{ string(item[1]) }} is too little."}),
    ),
)
_ORDERS: Final = flow(
    "head>lines lines.error>mend",
    node("each", "map", {"items": "{{ trigger.body.orders }}", "on_item_error": "continue"}),
    *_inside("each", node("head", "set", {"fields": {"of": "{{ item.of }}"}}), node("mend")),
    node("lines", "map", {"items": "{{ item.lines }}"}, inside="each"),
    *_inside("lines", node("call", config={"value": "{{ item }} for {{ steps.head.output.of }}"})),
)
_ORDERED: Final = '{"orders":[{"of":"Ada","lines":["tea","milk"]},{"of":"Bo","lines":[]},{"of":"Cy"}]}'
_NESTED: Final = flow(
    "",
    node("each", "map", {"items": [1, 2], "at_once": 1, "on_item_error": "continue"}),
    node("again", "loop", {"until": "item.results[0] == 3", "most_rounds": 2}, inside="each"),
    node("deep", "map", {"items": ["{{ index }}", 0], "at_once": 2}, inside="again"),
    *_inside("deep", node("call", config={"value": "{{ item }}"})),
)
_PAGES: Final = flow(
    "again>after again.error>mend",
    node("again", "loop", {"until": "!has(item.next)", "most_rounds": 3}),
    node("page", config={"value": "{{ item.next }} {{ index }}"}, inside="again", retry=_PATIENT),
    node("after", config={"value": "{{ steps.again.output }}"}),
    node("mend", config={"value": "{{ steps.again.error.code }}"}),
)
_COUNTS: Final = flow(
    "",
    node("again", "loop", {"until": "item.n >= trigger.body.most", "most_rounds": 5}),
    node("add", "set", {"fields": {"n": "{{ item.n + 1 }}"}}, inside="again"),
)
_LIGHT: Final = flow(
    "no>b b>c c>d d>e e>f f>g g>h",
    node("a", "loop", {"until": "index == 41"}),
    *_inside("a", node("no", "filter", {"condition": "false"}), *(node(name, "noop") for name in "bcdefgh")),
)
_LARGE: Final = flow(
    "each>after",
    node("each", "map", {"items": "{{ trigger.body }}", "batch_size": 40}),
    node(
        "call", config={"value": "{{ size(item) }} at {{ index }}, {{ size(item[0]) }} long"}, inside="each"
    ),
    node("after", config={"value": "{{ steps.each.output.results[1] }}"}),
)
_IN_SPITE: Final = flow(
    "each>after",
    node("each", "map", {"items": [1, 2]}, on_error="continue"),
    node("call", on_error="continue", inside="each"),
    node("must", inside="each"),
    node("after", config={"value": "{{ steps.each.error.code }}"}),
)
_PATIENT_ROW: Final = flow(
    "a>b b>ask ask>c c>d",
    node("b", retry=_PATIENT),
    node("ask", "wait.signal", {"signal": "paid"}),
    node("d", config={"value": "{{ steps.ask.output.sum }}"}),
)
_JOINED: Final = flow(
    "a>rows b>rows a>all b>all a>places b>places",
    node("rows", "merge", {"output": "append"}),
    node("all", "merge", {"output": "by_key", "key": "id"}),
    node("places", "merge", {"output": "by_position"}),
)

_DECIDES: Final = flow(
    "ask.approved>pay ask.rejected>tell ask.timeout>remind",
    node(
        "ask",
        "wait.approval",
        {
            "question": "Pay {{ trigger.body.sum }} to {{ steps.ask.resume_url }}?",
            "form": {"type": "object", "properties": {"sum": {"type": "number"}}},
            "deciders": ["key:person", "member:bob"],
            "escalate_after_seconds": 30,
            "escalate_to": ["key:boss"],
            "timeout_seconds": "{{ trigger.body.seconds }}",
        },
    ),
    node("pay", config={"value": "{{ steps.ask.output.fields.sum }} by {{ steps.ask.output.by }}"}),
    node("tell", "set", {"fields": {"why": "{{ steps.ask.output.comment }}"}}),
    node("remind", "set", {"fields": {"late": "{{ steps.ask.output.at }}"}}),
)
_ASKED_EACH: Final = flow(
    "",
    node("each", "map", {"items": "{{ trigger.body }}"}),
    node("ask", "wait.approval", {"question": "Pay {{ item }}?"}, inside="each"),
)
_CALLED: Final = flow(
    "order>back back>take back.timeout>remind",
    node("order", config={"value": "{{ steps.back.resume_url }}"}),
    node("back", "wait.webhook", {"timeout_seconds": 60, "body": {"thanks": "{{ trigger.body }}"}}),
    node("take", "set", {"fields": {"got": "{{ steps.back.output.id }}"}}),
    node("remind", "noop"),
)


def _said(*messages: Message | float) -> Sequence[Message | float]:
    return messages


_CALLS: Final = flow(
    "call>after call.error>mend forget>after none>after",
    node(
        "call",
        "workflow.run",
        {"workflow": "billing", "input": {"n": "{{ trigger.body.n }}"}, "timeout_seconds": 30},
        retry={"attempts": 2, "first_pause_s": 1, "jitter": 0},
    ),
    node("forget", "workflow.run", {"workflow": "billing", "version": 1, "mode": "start"}),
    node("none", "workflow.run", {"workflow": "nowhere"}, on_error="continue"),
    node("after", config={"value": "{{ steps.call.output }}"}),
    node("mend", "noop"),
)
"""Runs of other workflows: one that counts, one that does not, and one that cannot be."""

_TRIP: Final = flow(
    "flight>hotel hotel>bill",
    node("flight", config={"value": "{{ trigger.body.to }}"}, compensate="unfly"),
    node("hotel", compensate="leave"),
    node("unfly", config={"value": "{{ steps.flight.output }}"}),
    node("leave", config={"value": "{{ steps.hotel.output.room }} {{ trigger.body.to }}"}, retry=_PATIENT),
)
_ROOMS: Final = flow(
    "each>bill",
    node("each", "map", {"items": "{{ trigger.body.rows }}"}),
    node("book", inside="each", compensate="free"),
    node("free", config={"value": "{{ item.n }} {{ steps.book.output }}"}, inside="each"),
)
_TAKEN_BACK: Final = flow(
    "order>bill",
    node("order", compensate="back"),
    node(
        "back",
        "workflow.run",
        {"workflow": "billing", "input": {"of": "{{ steps.order.output }}"}, "timeout_seconds": 30},
        retry=_PATIENT,
    ),
)
_BOOKED: Final[Sequence[Message]] = (done("flight", output="LH 1"), done("hotel", output={"room": 7}))


_GATED: Final = flow(
    "a", flow={"limits": [{"name": "crm", "at_once": 1, "per": "trigger.body.of"}]}, timeout_s=60
)
_TWO_GATES: Final = flow(
    "ask>a",
    node("ask", "wait.signal", {"signal": "paid"}),
    flow={
        "priority": 9,
        "limits": [
            {"name": "all", "across": "org", "rate": {"count": 3, "seconds": 60}, "queue": 5},
            {"name": "mine", "at_once": 2},
        ],
    },
)


def _gate(name: str, key: str = "", owner: str = START.workflow) -> str:
    return derived("gate", TO["org"], owner, name, key)


_HURRIED: Final = flow(
    "a",
    flow={
        "priority": "trigger.body.of",
        "limits": [{"name": "crm", "at_once": 1, "per": "string(trigger.body.of)"}],
    },
)
_EVERYBODYS: Final = _gate(ALL_RUNS, owner=ALL_RUNS)
_CRM, _MINE, _ALL = _gate("crm", "ada"), _gate("mine"), _gate("all", owner="")


def let_in(gate: str, opening: int = 1) -> GiveSlot:
    return GiveSlot(**TO, gate=gate, opening=opening)


def turned_away(gate: str, why: SlotRefusal, by: str | None = None) -> RefuseSlot:
    return RefuseSlot(**TO, gate=gate, opening=1, why=why, by=by)


def stands_for(gate: str, *bodies: Any) -> GiveSlot:
    batch = BatchInput(body=[Raw(encode(body)) for body in bodies], runs=["run-1", "run-2"])
    return GiveSlot(**TO, gate=gate, opening=1, input=Inline(value=Raw(encode(batch))))


_GATHERS: Final = flow(
    "a>b",
    node("a", config={"value": "{{ trigger.body }}"}),
    flow={
        "limits": [
            {"name": "rows", "batch": {"size": 3, "seconds": 10}},
            {"name": "crm", "at_once": 1},
        ]
    },
)
_SETTLES: Final = flow("a", flow={"limits": [{"name": "burst", "debounce": {"seconds": 5}}]})
_ROWS_GATE, _BURST = _gate("rows"), _gate("burst")


SCENES: Final[Sequence[Scene]] = (
    Scene(name="three in a row", workflow=_LINEAR, body='{"id":41}', said=_said(done("a", output={"id": 41}), done("b", output="42"), done("c"))),
    Scene(name="a large value travels apart", workflow=_LINEAR, body='{"id":1}', said=_said(done("a", output={"id": 1, "x": "y" * 70_000}), done("b"), done("c"))),
    Scene(name="the org's variables", workflow=flow("a", node("a", "set", {"fields": {"v": "{{ vars.place }} {{ vars.more }}"}}), vars={"place": "Berlin"}), org_vars={"place": "Rome", "more": [1, None]}),
    Scene(name="the branch that holds", workflow=_IF, body='{"amount":101}', said=_said(done("big"), done("last"))),
    Scene(name="the branch that does not", workflow=_IF, body='{"amount":-0.5}', said=_said(done("small"), done("last"))),
    Scene(name="a condition about nothing", workflow=_IF, body="{}"),
    Scene(name="the first case", workflow=_SWITCH, body='{"region":"eu"}', said=_said(done("berlin"))),
    Scene(name="the second case", workflow=_SWITCH, body='{"region":"us-east"}', said=_said(done("boston"))),
    Scene(name="no case", workflow=_SWITCH, body='{"region":""}', said=_said(done("elsewhere"))),
    Scene(name="an answer", workflow=_RESPOND, body='{"event":"push","name":"Ada","items":[1,2]}'),
    Scene(name="an answer with everything odd in it", workflow=_RESPOND, body='{"event":"push","name":"\\u202e\\u0001é","items":[]}'),
    Scene(name="filtered away", workflow=_RESPOND, body='{"event":"ping"}'),
    Scene(name="hostile values", workflow=flow("a>b b>c", node("b", "set", {"fields": {"in": "{{ steps.a.output.deep }}"}}), node("c", "respond", {})), body=HOSTILE, said=_said(_hostile_done("a"))),
    Scene(name="the error path", workflow=_ERROR_PATH, said=_said(broken("call", 1, TRY_AGAIN), 2, broken("call", 2, TRY_AGAIN, 5.0), 7, broken("call", 3), done("mend"))),
    Scene(name="well at the second attempt", workflow=_ERROR_PATH, said=_said(broken("call", 1, TRY_AGAIN), 2, done("call", 2), done("next"))),
    Scene(name="nobody handles it", workflow=flow("a>b", node("a", retry=_PATIENT)), said=_said(broken("a"))),
    Scene(name="tried again after it failed", workflow=flow("a>b a>c b>d c>d"), said=_said(done("a"), done("b"), broken("c"), RETRY, done("c", 2), done("d"))),
    Scene(name="all joins", workflow=_MERGES, said=_said(done("a", output=1), done("d", output="d"), done("b", output=[2]), done("c"))),
    Scene(name="a join behind what failed", workflow=flow("a>m b>m a.error>e", node("m", "merge", {"mode": "all"})), said=_said(done("b"), broken("a"), done("e"))),
    Scene(name="delays", workflow=_DELAYS, body='{"seconds":90.5}', said=_said(95)),
    Scene(name="a delay that is cancelled", workflow=_DELAYS, body='{"seconds":3600}', said=_said(5, CANCEL)),
    Scene(name="in doubt, and it was done", workflow=_CALL, body='{"id":7}', said=_said(unsure("call"), resolve("call", "done", {"status": 200}), done("after"))),
    Scene(name="in doubt, and again", workflow=_CALL, body='{"id":"a/b"}', said=_said(unsure("call"), resolve("call", "retry"), done("call", 2), done("after"))),
    Scene(name="in doubt, and given up", workflow=_CALL, body='{"id":7}', said=_said(unsure("call"), resolve("call", "failed"))),
    Scene(name="a late outcome ends the doubt", workflow=_CALL, body='{"id":7}', said=_said(unsure("call"), done("call"), done("after"))),
    Scene(name="two doubts", workflow=_TWO_CALLS, body='{"id":7}', said=_said(unsure("one"), unsure("two"), resolve("two", "done"), resolve("one", "done"))),
    Scene(name="cancelled while it calls", workflow=_TWO_CALLS, body='{"id":7}', said=_said(CANCEL, let_go("one", 1, "possible"), let_go("two", 1, "none"))),
    Scene(name="cancelled, and it was done nevertheless", workflow=_CALL, body='{"id":7}', said=_said(CANCEL, done("call"))),
    Scene(name="cancelled, and nobody lets go", workflow=_CALL, body='{"id":7}', said=_said(CANCEL, 30)),
    Scene(name="no time left", workflow=flow("a>b", timeout_s=20), said=_said(done("a"), 25, LOOK, let_go("b"))),
    Scene(name="no time left, and then more", workflow=flow("a>b", timeout_s=20), said=_said(25, LOOK, 10, RETRY, done("a", 2), done("b"))),
    Scene(name="an expression that fails", workflow=flow("a>b", node("a", config={"value": "{{ trigger.body.missing.field }}"})), body='{"id":1}'),
    Scene(name="an expression that fails, handled", workflow=flow("a>b a.error>c", node("a", config={"value": "{{ 1 / trigger.body.zero }}"})), body='{"zero":0}', said=_said(done("c"))),
    Scene(name="a plan that is lost", workflow=_LINEAR, body='{"id":1}', plan_is_lost=True),
    Scene(name="a signal that was waited for", workflow=_ASKS, body='{"seconds":60}', said=_said(done("call", output="Ada"), signal("shipped", "a"), signal("paid", "b", {"sum": 5}), 90, done("take"))),
    Scene(name="a signal before anything waits", workflow=_ASKS, body='{"seconds":0}', said=_said(signal("paid", "a", {"sum": 1}), signal("paid", "a", {"sum": 1}), done("call"), done("take"))),
    Scene(name="a signal that does not come in time", workflow=_ASKS, body='{"seconds":2.5}', said=_said(done("call", output={"n": 1}), 5, signal("paid", "late"), done("remind"))),
    Scene(name="a time to wait that is none", workflow=_ASKS, body='{"seconds":"soon"}', said=_said(done("call"))),
    Scene(name="a large signal", workflow=_ASKS, body='{"seconds":9}', said=_said(done("call", output=1), signal("paid", "a", {"sum": 7, "x": "y" * 70_000}), done("take"))),
    Scene(name="a hostile signal", workflow=_ASKS, body='{"seconds":9}', said=_said(done("call"), SendSignal(**TO, actor="key:1", signal="paid", key="\u202e\u0000", body=_raw(HOSTILE)))),
    Scene(name="signals for several who wait", workflow=_ASKS_TWICE, said=_said(signal("paid", "a", 1), signal("shipped", "b"), signal("paid", "a", 1), signal("paid", "c", [2]))),
    Scene(name="cancelled while it waits for a signal, and waiting again", workflow=_ASKS_TWICE, said=_said(signal("paid", "a"), CANCEL, RETRY, signal("shipped", "b"), signal("paid", "c", 3))),
    Scene(name="stopped on purpose", workflow=_STOPS, body='{"stock":0,"of":"tea"}'),
    Scene(name="not stopped", workflow=_STOPS, body='{"stock":1,"of":"tea"}', said=_said(done("sell"))),
    Scene(name="stopped on purpose, and handled", workflow=flow("no.error>mend", node("no", "stop", {"message": "No."}), node("mend", config={"value": "{{ steps.no.error.code }}"})), said=_said(done("mend"))),
    Scene(name="nothing is done", workflow=flow("a>idle idle>b", node("idle", "noop"), node("b", "set", {"fields": {"in": "{{ steps.idle.output.n }}"}})), said=_said(done("a", output={"n": 1}))),
    Scene(name="each item once", workflow=_EACH, body=_ROWS, said=_said(done("first", output="F"), done("each[2].call", output=3), done("each[0].call", output={"a": 1}), done("each[1].call"), done("last"))),
    Scene(name="a list with nothing in it", workflow=_EACH, body='{"rows":[]}', said=_said(done("first"), done("last"))),
    Scene(name="items that are no list", workflow=_EACH, body='{"rows":7}', said=_said(done("first"))),
    Scene(name="one item fails, and the run goes on with it", workflow=_each("each>after", {"at_once": 2}, node("after")), body='{"id":7}', said=_said(done("each[0].call", output="a"), broken("each[1].call"), let_go("each[2].call", 1, "none"), RETRY, done("each[1].call", 2, "b"), done("each[2].call", 2, "c"), done("after"))),
    Scene(name="on without the items that failed", workflow=_GOES_ON, body='{"id":7}', said=_said(broken("each[0].call", 1, TRY_AGAIN), broken("each[1].call"), 3, done("each[0].call", 2, "a"), broken("each[2].call"), done("after"))),
    Scene(name="the error path of a map", workflow=_MENDED, body='{"id":7}', said=_said(broken("each[1].call"), broken("each[0].call", 1, TRY_AGAIN), done("mend"))),
    Scene(name="in doubt in an item of a map with an error path", workflow=_MENDED, body='{"id":7}', said=_said(unsure("each[0].call"), broken("each[1].call"), resolve("each[0].call", "retry"), done("mend"))),
    Scene(name="what waits in items", workflow=_WAITING, body='{"id":7}', said=_said(done("each[0].call"), done("each[1].call"), signal("paid", "a", 1), 35, done("each[0].other"), broken("each[1].other"))),
    Scene(name="in doubt in an item that failed", workflow=_WAITING, body='{"id":7}', said=_said(unsure("each[0].call"), broken("each[0].other"), done("each[1].call"), done("each[1].other"), signal("paid", "a"), 65, resolve("each[0].call", "done", 9))),
    Scene(name="batches with several ends", workflow=_ENDS, body="[1,2,3,40,5]"),
    Scene(name="a map in a map", workflow=_ORDERS, body=_ORDERED, said=_said(broken("each[0].lines[1].call"), done("each[0].lines[0].call"), done("each[0].mend", output="mended"), done("each[2].mend"))),
    Scene(name="three deep", workflow=_NESTED, said=_said(done("each[0].again[0].deep[1].call"), done("each[0].again[0].deep[0].call", output=3), done("each[1].again[0].deep[0].call"), broken("each[1].again[0].deep[1].call"))),
    Scene(name="cancelled among items, and opened again", workflow=_GOES_ON, body='{"id":7}', said=_said(broken("each[0].call"), CANCEL, let_go("each[1].call", 1, "possible"), let_go("each[2].call", 1, "none"), RETRY, resolve("each[1].call", "done", "b"), done("each[2].call", 2, "c"), done("after"))),
    Scene(name="no time left for items", workflow=_EACH | {"timeout_s": 20}, body=_ROWS, said=_said(done("first"), done("each[1].call"), 25, LOOK, let_go("each[0].call"), let_go("each[2].call"))),
    Scene(name="large items and large results", workflow=_LARGE, body=json.dumps(["x" * 1_000] * 80), said=_said(done("each[1].call", output=[4]), done("each[0].call", output="y" * 70_000), done("after"))),
    Scene(name="page by page", workflow=_PAGES, body='{"next":"a"}', said=_said(done("again[0].page", output={"next": "b"}), broken("again[1].page", 1, TRY_AGAIN), 2, done("again[1].page", 2, {"rows": []}), done("after"))),
    Scene(name="too many pages", workflow=_PAGES, body='{"next":"a"}', said=_said(done("again[0].page", output={"next": "b"}), done("again[1].page", output={"next": "c"}), done("again[2].page", output={"next": "d"}), done("mend"))),
    Scene(name="a page that fails", workflow=_PAGES, body='{"next":"a"}', said=_said(broken("again[0].page"), done("mend"))),
    Scene(name="counted in a loop", workflow=_COUNTS, body='{"n":0,"most":3}'),
    Scene(name="counted too far", workflow=_COUNTS, body='{"n":0,"most":30}', said=_said(RETRY)),
    Scene(name="a loop's condition that fails", workflow=_COUNTS, body='{"n":0}', said=_said(RETRY)),
    Scene(name="a loop takes turns", workflow=_LIGHT, said=_said(1)),
    Scene(name="in several segments", workflow=_PATIENT_ROW, segment=4, body='{"id":1}', said=_said(done("a", output={"n": 1}), broken("b", 1, TRY_AGAIN), 2, done("b", 2), signal("paid", "k", {"sum": 3}), broken("c"), RETRY, done("c", 2), done("d"))),
    Scene(name="items in several segments", workflow=_GOES_ON, segment=6, body='{"id":7}', said=_said(broken("each[0].call", 1, TRY_AGAIN), broken("each[1].call"), 3, done("each[0].call", 2, "a"), done("each[2].call", output={"big": "z" * 3_000}), done("after"))),
    Scene(name="stopped in another segment", workflow=_TWO_CALLS, segment=3, body='{"id":7}', said=_said(unsure("one"), CANCEL, let_go("two", 1, "possible"), RETRY, resolve("one", "done", 1), resolve("two", "retry"), done("two", 2))),
    Scene(name="on in spite of failures", workflow=_IN_SPITE, said=_said(broken("each[0].call"), done("each[0].must"), broken("each[1].must"), done("each[1].call"), done("after"))),
    Scene(name="runs that are started, waited for, tried again and forgotten", workflow=_CALLS, body='{"n":7}', said=_said(child_over("call", "1", "failed", error=TRY_AGAIN), 2, child_over("call", "1"), child_over("call", "2", output={"sum": 5}), child_started("forget", "1"), done("after"))),
    Scene(name="a run that is started and cancelled with its parent", workflow=_CALLS, body='{"n":7}', said=_said(child_started("forget", "1"), CANCEL, child_over("call", "1", "cancelled"), RETRY, 31, child_over("call", "2"), done("after"))),
    Scene(name="a run that does not stop in time", workflow=flow("call", node("call", "workflow.run", {"workflow": "billing"})), said=_said(CANCEL, 7)),
    Scene(name="a person approves", workflow=_DECIDES, body='{"sum":5,"seconds":60}', said=_said(decide_on("ask", fields={"sum": 4}, comment="Well."), decide_on("ask", "rejected"), done("pay"))),
    Scene(name="a person rejects", workflow=_DECIDES, body='{"sum":5,"seconds":60}', said=_said(decide_on("ask", by="key:stranger"), decide_on("ask", "rejected", "member:bob", comment="\u202e No."))),
    Scene(name="others decide after a while", workflow=_DECIDES, body='{"sum":5,"seconds":60}', said=_said(decide_on("ask", by="key:boss"), 35, decide_on("ask", by="key:boss"), done("pay"))),
    Scene(name="nobody decides", workflow=_DECIDES, body='{"sum":5,"seconds":60}', said=_said(65, decide_on("ask"))),
    Scene(name="a question that cannot be asked", workflow=_DECIDES, body='{"sum":5,"seconds":20}'),
    Scene(name="cancelled while people are asked, and asked again", workflow=_DECIDES, body='{"sum":5,"seconds":60}', said=_said(CANCEL, RETRY, decide_on("ask"), done("pay"))),
    Scene(name="called", workflow=_CALLED, body='{"id":7}', said=_said(called("back", {"id": 1}), done("order"), called("back", {"id": 2}), called("back", {"id": 3}))),
    Scene(name="not called in time", workflow=_CALLED, body='{"id":7}', said=_said(done("order"), 65, called("back"))),
    Scene(name="a large call", workflow=_CALLED, body='{"id":7}', said=_said(done("order"), called("back", {"id": 2, "x": "y" * 70_000}))),
    Scene(name="each item is asked about", workflow=_ASKED_EACH, body="[1,2]", said=_said(decide_on("each[1].ask"), decide_on("each[0].ask", "rejected"))),
    Scene(name="failed twice, and told twice", workflow={**flow("a"), "on_failure": "billing"}, said=_said(broken("a"), RETRY, broken("a", 2))),
    Scene(name="failed, and nobody to tell", workflow={**flow("a"), "on_failure": "nowhere"}, said=_said(broken("a"))),
    Scene(name="lists joined", workflow=_JOINED, said=_said(done("a", output=[{"id": 1, "of": "tea"}, {"id": 2}]), done("b", output=[{"id": 2.0, "n": 5}, {"id": "1"}]))),
    Scene(name="undone when it fails", workflow=_TRIP, body='{"to":"Rome"}', said=_said(*_BOOKED, broken("bill"), broken("leave", 1, TRY_AGAIN), 2, done("leave", 2), done("unfly"), RETRY)),
    Scene(name="undone when it is cancelled", workflow={**_TRIP, "on_failure": "billing"}, body='{"to":"Rome"}', said=_said(done("flight", output="x" * 70_000), CANCEL, done("hotel", output={"room": 1}), done("leave"), broken("unfly"))),
    Scene(name="undone but for one, and told", workflow={**_TRIP, "on_failure": "billing"}, body='{"to":"Rome"}', said=_said(done("flight"), done("hotel"), broken("bill"), unsure("unfly"), resolve("unfly", "failed"))),
    Scene(name="items undone", workflow=_ROOMS, segment=5, body=_ROWS, said=_said(done("each[1].book", output=1), done("each[0].book", output=0), done("each[2].book", output=2), broken("bill"), done("each[2].free"), unsure("each[0].free"), resolve("each[0].free", "done"), done("each[1].free"))),
    Scene(name="let in at a gate", workflow=_GATED, body='{"of":"ada"}', said=_said(LOOK, let_in(_gate("crm", "bob")), let_in(_CRM), let_in(_CRM), done("a"))),
    Scene(name="two gates, and again when it is opened again", workflow=_TWO_GATES, said=_said(signal("paid", "k", 1), let_in(_ALL), let_in(_MINE), let_in(_ALL), broken("a"), RETRY, let_in(_MINE), let_in(_MINE, 2), let_in(_ALL, 2), done("a", 2))),
    Scene(name="too many wait, and room later", workflow=_GATED, body='{"of":"ada"}', said=_said(turned_away(_CRM, "full"), RETRY, let_in(_CRM, 2), done("a"))),
    Scene(name="among all runs, and again when it is opened again", workflow=_TWO_GATES, org_limit=OrgLimit(at_once=2), segment=4, said=_said(let_in(_MINE), let_in(_EVERYBODYS), let_in(_MINE), let_in(_ALL), signal("paid", "k"), broken("a"), RETRY, let_in(_EVERYBODYS, 2), let_in(_MINE, 2), let_in(_ALL, 2), done("a", 2))),
    Scene(name="no place among all runs", workflow=flow("a"), org_limit=OrgLimit(rate=Rate(count=1, seconds=1), queue=0), said=_said(turned_away(_EVERYBODYS, "full"))),
    Scene(name="a priority of its own", workflow=_HURRIED, body='{"of":7}', said=_said(let_in(_gate("crm", "7")), done("a"))),
    Scene(name="a priority that cannot be told", workflow={**_HURRIED, "on_failure": "billing"}, body='{"of":"ada"}', said=_said(RETRY)),
    Scene(name="skipped at a gate", workflow={**_GATED, "on_failure": "billing"}, body='{"of":"ada"}', said=_said(turned_away(_CRM, "skipped"), let_in(_CRM))),
    Scene(name="cancelled at a gate", workflow=_GATED, body='{"of":"ada"}', said=_said(CANCEL, let_in(_CRM))),
    Scene(name="no time left at a gate", workflow=_GATED, body='{"of":"ada"}', said=_said(65, LOOK)),
    Scene(name="a key that cannot be told", workflow=_GATED, body="7"),
    Scene(name="a key that is no key", workflow=_GATED, body='{"of":[1]}'),
    Scene(name="a long key", workflow=_GATED, body=json.dumps({"of": "\u202e" * 300})),
    Scene(name="in several segments from a gate on", workflow=_TWO_GATES, segment=3, said=_said(let_in(_MINE), let_in(_ALL), signal("paid", "k"), done("a"))),
    Scene(name="stands for a batch, and does when it is opened again", workflow=_GATHERS, body="1", said=_said(let_in(_ROWS_GATE), stands_for(_ROWS_GATE, 1, {"n": 2}), let_in(_gate("crm")), done("a"), broken("b"), RETRY, let_in(_gate("crm"), 2), done("b", 2))),
    Scene(name="stands for a large batch", workflow=_GATHERS, segment=3, body="1", said=_said(stands_for(_ROWS_GATE, "x" * 40_000, "y" * 40_000), let_in(_gate("crm")), done("a"), done("b"))),
    Scene(name="another run stands for it", workflow=_GATHERS, body="1", said=_said(turned_away(_ROWS_GATE, "gathered", "run-9"), stands_for(_ROWS_GATE, 1))),
    Scene(name="superseded, and wanted all the same", workflow=_SETTLES, body="1", said=_said(turned_away(_BURST, "superseded", "run-9"), RETRY, done("a"))),
    Scene(name="the newest of its burst", workflow=_SETTLES, body="1", said=_said(let_in(_BURST), done("a"))),
    Scene(name="undone by a run", workflow=_TAKEN_BACK, segment=5, said=_said(done("order", output=5), broken("bill"), child_over("back", "1", "failed", error=TRY_AGAIN), 2, child_over("back", "2"))),
)  # fmt: skip
