"""What a seed draws before a schedule begins; what few seeds draw besides stands in `rarities`."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import structs

from contracts.cases import Given, Pin, Selection
from contracts.gates import Batch, Debounce, FlowLimit, Rate
from contracts.limits import NESTING
from contracts.nodes import Repeat
from contracts.plans import Plan, PlanEdge, PlanNode
from contracts.triggers import Github, HeaderKey, NoAuthentication, NoDedupe, Preset, Webhook
from contracts.workflows import Flow, Retry
from orchestrator.narrowing import Narrowed, narrowed
from tests.orchestrator.stories import REFUSED, control, value
from tests.simulation.clocks import clocks
from tests.simulation.outside import NODE_TYPES, Behaviour
from tests.simulation.rarities import rarer
from tests.simulation.told import Delivery, Drawn, Story

__all__ = ["SIGNALS", "Delivery", "Drawn", "Story", "calling", "story", "with_undos"]

ATTEMPT_SECONDS: Final = 4.0
WELL: Final[tuple[Behaviour, ...]] = ("ok", "ok", "ok", "ok", "slow")
BADLY: Final[tuple[Behaviour, ...]] = (
    "busy",
    "busy",
    "refuse",
    "early",
    "deaf",
    "hang",
    "vanish",
    "drop",
    "lose",
    "raise",
    "slow",
    "big",
)
HOW_MANY: Final = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)
"""Workflows of a story. One alone is the cheapest look at what a fault does, several are what steps on each other."""
SIGNALS: Final = ("paid", "shipped")
_OFTEN: Final = {
    "call": 48,
    "set": 8,
    "delay": 12,
    "filter": 10,
    "merge": 10,
    "signal": 10,
    "noop": 2,
    "stop": 2,
}
"""How often each kind of node is drawn where any may stand."""
PINNED: Final = 0.05
"""Of all workflows, those in which some nodes are pinned."""
REPEATS: Final[tuple[Repeat, ...]] = ("no", "no", "yes", "by-key")


def story(seed: int) -> Story:
    return rarer(seed, _often(seed))


def _often(seed: int) -> Story:
    crowds = random.Random(f"{seed}/crowds")
    chance = random.Random(f"{seed}/story")  # Independent of the chance of the schedule itself.
    broken = chance.random() < 0.04
    deeper = random.Random(f"{seed}/deeper")
    workflows = [
        _workflow(chance, deeper, number, broken=broken) for number in range(chance.choice(HOW_MANY))
    ]
    workflows = [_with_pins(seed, drawn) for drawn in workflows]
    related = _related(seed, workflows)
    deliveries: list[Delivery] = []
    burst = chance.random() * 2 if chance.random() < 0.3 else None
    for drawn in workflows:
        has_key = not isinstance(drawn.webhook.dedupe, NoDedupe)
        for number in range(chance.choice((1, 1, 1, 1, 2))):
            key = f"key-{number}" if has_key else ""
            at = chance.random() * 2 if burst is None else burst
            for copy in range(chance.choice((1, 1, 2, 3)) if has_key else 1):
                again = at + copy * chance.random() * chance.choice((0.02, 0.5, 3))
                deliveries.append(Delivery(trigger=drawn.trigger, key=key, at=again))
            if has_key and chance.random() < 0.12:
                deliveries.append(Delivery(trigger=drawn.trigger, key=key, at=0, late=True))
        if isinstance(drawn.webhook.authentication, Github) and chance.random() < 0.5:
            at = chance.random() * 3
            deliveries.append(Delivery(trigger=drawn.trigger, key="forged", at=at, forged=True))
    return Story(
        workflows=[
            _with_gates(
                seed,
                structs.replace(
                    drawn, plan=_with_questions(random.Random(f"{seed}/{drawn.trigger}"), drawn.plan)
                ),
                alone=not related,
            )
            for drawn in _undoing(seed, related or workflows)
        ],
        related=bool(related),
        gated=_is_gated(seed),
        deliveries=deliveries,
        cancels=chance.choice((0, 0, 0, 0.1, 0.3)),
        retries=chance.choice((0, 1, 2)),
        retries_later=chance.choice((0, 0, 0, 0, 0, 0, 0, 0, 1)),
        broken_code=broken,
        retires=chance.random() < 0.3,
        tombstones=chance.choice((None, None, None, None, None, 0, 1)),
        clocks=clocks(seed),
        window=crowds.choice((1, 2, 3, 16, 16, 16, 16, 16)),
        pauses=crowds.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 0.2, 0.5)),
        segment=random.Random(f"{seed}/segments").choice((2, 5, 12, 30, *[4_000] * 8)),
    )


def _workflow(chance: random.Random, deeper: random.Random, number: int, *, broken: bool) -> Drawn:
    dedupe = chance.choice(
        (HeaderKey(header="x-key"), HeaderKey(header="x-key"), Preset(preset="idempotency_key"), NoDedupe())
    )
    signed = Github(secret="signing") if chance.random() < 0.2 else NoAuthentication()
    responds = chance.random() < 0.25
    mode: dict[str, Any] = (
        {"mode": "respond", "respond_timeout_s": chance.choice((1.0, 5.0))} if responds else {}
    )
    drawing = _Drawing(chance, deeper)
    _shape(chance)(drawing)
    if responds and chance.random() < 0.7:
        drawing.put("respond", drawing.last)
    if broken:
        drawing.put("broken", drawing.last)
    return Drawn(
        trigger=f"trigger{number}",
        token=f"token-{number}-{'t' * 22}",
        webhook=Webhook(dedupe=dedupe, authentication=signed, **mode),
        plan=drawing.plan(f"flow{number}", chance.choice((None, None, None, 15.0))),
        stored=chance.random() > 0.03,
        readable=chance.random() > 0.02,
    )


def _with_pins(seed: int, drawn: Drawn) -> Drawn:
    """In a few schedules something else stands for some nodes, as where a workflow is tried out."""
    chance = random.Random(f"{seed}/{drawn.trigger}/pins")  # So that every other schedule keeps its story.
    if chance.random() > PINNED:
        return drawn
    pins = {node.id: _pin(chance, node) for node in drawn.plan.nodes if chance.random() < 0.4}
    recorded = {node.id: _pin(chance, node) for node in drawn.plan.nodes} if chance.random() < 0.3 else {}
    made = narrowed(drawn.plan, Selection(), Given(pins=pins, recorded=recorded))
    assert isinstance(made, Narrowed), made
    return structs.replace(drawn, plan=made.plan)


def _pin(chance: random.Random, node: PlanNode) -> Pin:
    what = chance.random()
    if what < 0.1:
        return Pin(skipped=True)
    if what < 0.25:
        return Pin(error=REFUSED)
    return Pin(output=value(chance.choice((None, 1, {"n": 2}))), ports=(chance.choice(node.outputs),))


RELATED: Final = 0.04
"""The share of stories in which workflows start each other."""
_CALLS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {},
    {"input": {"n": 1}},
    {"mode": "start"},
    {"timeout_seconds": 3},
    {"timeout_seconds": 0},
    {"mode": "start", "timeout_seconds": 3},
)


def _related(seed: int, workflows: Sequence[Drawn]) -> list[Drawn]:
    """The same workflows, some of whose calls are runs of one behind them; none: they have nothing to do with each other.

    Its chance is its own: what the other stories are does not hang on it.
    """
    chance = random.Random(f"{seed}/related")
    if chance.random() >= RELATED:
        return []
    deeper = random.Random(f"{seed}/deeper/related")
    found = [*workflows, _workflow(chance, deeper, len(workflows), broken=False)]
    for place in range(len(found) - 1):
        behind = [drawn.plan.workflow for drawn in found[place + 1 :]]
        found[place] = calling(chance, found[place], behind)
    return found


def calling(chance: random.Random, drawn: Drawn, behind: Sequence[str]) -> Drawn:
    """The same workflow, and some of its calls start a run."""
    nodes = list(drawn.plan.nodes)
    places = [place for place, node in enumerate(nodes) if node.place == "executor"]
    for place in chance.sample(places, min(len(places), chance.choice((1, 1, 2)))):
        node = nodes[place]
        workflow = "nowhere" if chance.random() < 0.05 else chance.choice(behind)
        nodes[place] = control(
            node.id,
            "workflow.run",
            {"workflow": workflow, **chance.choice(_CALLS)},
            order=node.order,
            inside=node.inside,
            retry=node.retry,
            on_error=node.on_error,
            compensate=node.compensate,
            undoes=node.undoes,
        )
    told = "nowhere" if chance.random() < 0.1 else chance.choice(behind)
    on_failure = told if chance.random() < 0.4 else None
    return structs.replace(drawn, plan=structs.replace(drawn.plan, nodes=tuple(nodes), on_failure=on_failure))


UNDOING: Final = 0.06
"""The share of stories in which some steps can be undone."""


def _undoing(seed: int, workflows: Sequence[Drawn]) -> Sequence[Drawn]:
    """The same workflows, some of whose calls have another one that undoes them. Its chance is its own."""
    chance = random.Random(f"{seed}/undoing")
    if chance.random() >= UNDOING:
        return workflows
    return [with_undos(chance, drawn, 0.5) for drawn in workflows]


def with_undos(chance: random.Random, drawn: Drawn, share: float) -> Drawn:
    """The same workflow; this share of what acts in it can be undone."""
    nodes = list(drawn.plan.nodes)
    for place, node in enumerate(drawn.plan.nodes):
        acts = node.pin is None and (node.place == "executor" or node.type == "workflow.run")
        if acts and chance.random() < share:
            undo = _call(chance, f"undo_{node.id}", len(nodes))
            nodes[place] = structs.replace(node, compensate=undo.id)
            nodes.append(structs.replace(undo, undoes=node.id, inside=node.inside, on_error="fail"))
    return structs.replace(drawn, plan=structs.replace(drawn.plan, nodes=tuple(nodes)))


GATED: Final = 0.08
"""Of all stories, those in which runs pass gates."""
_SHARED: Final = FlowLimit(name="shared", at_once=1, across="org")
_LIMITS: Final = (
    FlowLimit(name="one", at_once=1),
    FlowLimit(name="one", at_once=1),
    FlowLimit(name="two", at_once=2),
    FlowLimit(name="slowly", rate=Rate(count=1, seconds=2)),
    FlowLimit(name="both", at_once=2, rate=Rate(count=1, seconds=1)),
    FlowLimit(name="few", at_once=1, queue=1),
    FlowLimit(name="alone", at_once=1, when_full="skip"),
    FlowLimit(name="newest", at_once=1, when_full="cancel_oldest"),
)
_GATHERING: Final = (
    FlowLimit(name="burst", debounce=Debounce(seconds=1.5, at_most=5)),
    FlowLimit(name="quiet", debounce=Debounce(seconds=2)),
    FlowLimit(name="rows", batch=Batch(size=2, seconds=3)),
    FlowLimit(name="many", batch=Batch(size=10, seconds=4)),
)
GATHERS: Final = 0.4
"""Of all workflows behind gates, those whose starts are gathered."""


def _is_gated(seed: int) -> bool:
    return random.Random(f"{seed}/gated").random() < GATED


def _with_gates(seed: int, drawn: Drawn, *, alone: bool) -> Drawn:
    """The same workflow behind gates. `alone`: no run of it waits for another one, which may wait for what it has."""
    chance = random.Random(f"{seed}/{drawn.trigger}/gates")
    if not _is_gated(seed) or chance.random() < 0.3:
        return drawn
    limits = chance.sample(_LIMITS[1:], chance.choice((1, 1, 2)))
    if alone and chance.random() < 0.3:
        limits.append(_SHARED)
    if random.Random(f"{seed}/{drawn.trigger}/gathers").random() < GATHERS:
        limits.append(chance.choice(_GATHERING))
    return structs.replace(drawn, plan=structs.replace(drawn.plan, flow=Flow(limits=tuple(limits))))


class _Drawing:
    """A workflow being drawn, node by node, each behind some that are there already."""

    def __init__(self, chance: random.Random, deeper: random.Random) -> None:
        """`deeper`: decides alone what lies in a container that lies in another one."""
        self.chance, self._deeper = chance, deeper
        self._nodes: list[PlanNode] = []
        self._edges: dict[PlanEdge, None] = {}
        self._inside: list[str] = []

    @property
    def last(self) -> str:
        """The last node that lies in no container: an edge crosses no border."""
        return next(node.id for node in reversed(self._nodes) if not node.inside)

    def put(self, kind: str, *behind: str) -> str:
        """Add a node behind others, each named as `node` or `node.port`; gives its id."""
        name = f"n{len(self._nodes)}"
        made = _MAKE[kind](self.chance, name, len(self._nodes))
        self._nodes.append(structs.replace(made, inside=self._inside[-1]) if self._inside else made)
        for source in behind:
            node, _, port = source.partition(".")
            self._edges[PlanEdge(source=node, port=port or "main", target=name, into="main")] = None
        return name

    def put_inside(self, container: str, kind: str) -> str:
        self._inside.append(container)
        name = self.put(kind)
        self._inside.pop()
        return name

    def contain(self, kind: str, *behind: str) -> str:
        """Add a map or a loop with some nodes inside."""
        container = self.put(kind, *behind)
        self._inside.append(container)
        before = self.put(self.any())
        for _ in range(self.chance.choice((0, 0, 1, 1, 2))):
            if self._goes_deeper():
                before = self.contain(self.chance.choice(("map", "loop")), before)
            elif self.chance.random() < 0.3:
                before = self.put(self.any())
            else:
                port = ".error" if self.chance.random() < 0.1 else ""
                before = self.put(self.any(), f"{before}{port}")
        self._inside.pop()
        return container

    def _goes_deeper(self) -> bool:
        depth = len(self._inside)
        if depth == 1:
            return self.chance.random() < 0.15
        goes = depth < NESTING and self._deeper.random() < DEEPER
        if goes:  # So many steps at once as three default maps in each other nobody may have.
            self._nodes = [few_at_once(node) if node.id in self._inside else node for node in self._nodes]
        return goes

    def any(self) -> str:
        """An action, mostly."""
        return self.chance.choices(list(_OFTEN), weights=list(_OFTEN.values()))[0]

    def plan(self, workflow: str, timeout_s: float | None) -> Plan:
        return Plan(
            org="org",
            workflow=workflow,
            version=1,
            nodes=tuple(self._nodes),
            edges=tuple(self._edges),
            vars={},
            timeout_s=timeout_s,
        )


def few_at_once(node: PlanNode) -> PlanNode:
    return structs.replace(node, config={**node.config, "at_once": 2}) if node.type == "map" else node


def _call(chance: random.Random, name: str, order: int) -> PlanNode:
    repeat = chance.choice(REPEATS)
    goes_wrong = chance.random() < 0.4
    script = [chance.choice(BADLY if goes_wrong else WELL)]
    while goes_wrong and chance.random() < 0.4:
        script.append(chance.choice(BADLY))
    patient = Retry(attempts=chance.choice((2, 3)), first_pause_s=chance.choice((0, 0.5, 2.0)), factor=2)
    return PlanNode(
        id=name,
        type=NODE_TYPES[repeat],
        place="executor",
        repeat=repeat,
        retry=patient if chance.random() < 0.6 else Retry(),
        on_error="continue" if chance.random() < 0.1 else "fail",
        timeout_s=ATTEMPT_SECONDS,
        config={"script": script},
        order=order,
    )


def _control(
    kind: str, *configs: dict[str, Any], **more: Any
) -> Callable[[random.Random, str, int], PlanNode]:
    def make(chance: random.Random, name: str, order: int) -> PlanNode:
        config = chance.choice(configs)
        ports = {"outputs": ("default", "one", "two")} if kind == "switch" else {}
        return control(name, kind, config, order=order, **ports, **more)

    return make


_MAKE: Final[dict[str, Callable[[random.Random, str, int], PlanNode]]] = {
    "call": _call,
    "set": _control("set", {"fields": {"a": 1}}),
    "delay": _control("delay", {"seconds": 0}, {"seconds": 0.5}, {"seconds": 3}),
    "filter": _control("filter", {"condition": True}, {"condition": True}, {"condition": False}),
    "if": _control("if", {"condition": True}, {"condition": False}, {"condition": "neither"}),
    "switch": _control(
        "switch",
        {"cases": [{"name": "one", "when": True}, {"name": "two", "when": True}]},
        {"cases": [{"name": "one", "when": False}, {"name": "two", "when": True}]},
        {"cases": [{"name": "one", "when": False}, {"name": "two", "when": False}]},
    ),
    "merge": _control("merge", {"mode": "all"}, {"mode": "all", "output": "list"}),
    "signal": _control(
        "wait.signal",
        {"signal": "paid"},
        {"signal": "shipped"},
        {"signal": "paid", "timeout_seconds": 3},
        {"signal": "shipped", "timeout_seconds": 0},
    ),
    "stop": _control("stop", {"message": "No stock is left."}),
    "noop": _control("noop", {}),
    "merge_any": _control("merge", {"mode": "any"}, join="any"),
    "respond": _control("respond", {"body": "hello"}, {"status": 207, "body": {"a": [1]}}, {}),
    "broken": _control("set", {"fields": {}, "raises": True}),
    "map": _control(
        "map",
        {"items": []},
        {"items": [1], "at_once": 1},
        {"items": [1, 2, 3]},
        {"items": [1, 2, 3], "at_once": 2, "on_item_error": "continue"},
        {"items": [1, 2, 3, 4, 5], "at_once": 2, "batch_size": 2},
        {"items": ["x", {"y": None}], "on_item_error": "continue"},
    ),
    "long_map": _control("map", {"items": list(range(230)), "at_once": 200}),
    "loop": _control("loop", {"until": 1}, {"until": 2}, {"until": 3}, {"until": 4, "most_rounds": 2}),
}


_QUESTIONS: Final = (
    ("wait.webhook", {}),
    ("wait.webhook", {"timeout_seconds": 3}),
    ("wait.approval", {"question": "Well?"}),
    ("wait.approval", {"question": "Well?", "timeout_seconds": 3}),
    ("wait.approval", {"question": "Well?", "deciders": ["key:person"], "by_link": False}),
    ("wait.approval", {"question": "Well?", "escalate_after_seconds": 1, "timeout_seconds": 4}),
    (
        "wait.approval",
        {
            "question": "Well?",
            "deciders": ["key:boss"],
            "escalate_after_seconds": 2,
            "escalate_to": ["key:person"],
        },
    ),
)


def _with_questions(chance: random.Random, plan: Plan) -> Plan:
    """Some of what a run waits for is a person's decision or a call; by a chance of its own, so that the rest stays as it was drawn."""
    asked: dict[str, str] = {}
    nodes: list[PlanNode] = []
    for node in plan.nodes:
        if node.type not in ("wait.signal", "delay") or chance.random() < 0.6:
            nodes.append(node)
            continue
        kind, config = chance.choice(_QUESTIONS)
        asked[node.id] = (
            chance.choice(("approved", "approved", "rejected")) if kind == "wait.approval" else "main"
        )
        nodes.append(control(node.id, kind, dict(config), order=node.order, inside=node.inside))
    edges = tuple(
        structs.replace(edge, port=asked[edge.source])
        if edge.source in asked and edge.port == "main"
        else edge
        for edge in plan.edges
    )
    return structs.replace(plan, nodes=tuple(nodes), edges=edges)


def _line(drawing: _Drawing) -> None:
    before = drawing.put(drawing.any())
    for _ in range(drawing.chance.randint(0, 4)):
        before = drawing.put(drawing.any(), before)


def _diamond(drawing: _Drawing) -> None:
    start = drawing.put("call")
    sides = [drawing.put(drawing.any(), start) for _ in range(drawing.chance.choice((2, 2, 3)))]
    drawing.put(drawing.chance.choice(("call", "merge", "merge_any")), *sides)


def _branches(drawing: _Drawing) -> None:
    kind = drawing.chance.choice(("if", "switch"))
    fork, ports = drawing.put(kind), ["true", "false"] if kind == "if" else ["default", "one", "two"]
    sides = [drawing.put(drawing.any(), f"{fork}.{port}") for port in ports]
    drawing.put(drawing.chance.choice(("merge", "merge_any", "call")), *sides)


def _error_path(drawing: _Drawing) -> None:
    risky = drawing.put("call")
    mended = drawing.put(drawing.any(), f"{risky}.error")
    well = drawing.put(drawing.any(), risky)
    drawing.put("merge_any", mended, well)


def _anything(drawing: _Drawing) -> None:
    chance = drawing.chance
    names = [drawing.put("call")]
    for _ in range(chance.randint(1, 4)):
        behind = [
            name if chance.random() < 0.8 else f"{name}.error" for name in names if chance.random() < 0.5
        ]
        names.append(drawing.put(drawing.any(), *behind))


def _asking(drawing: _Drawing) -> None:
    before = [drawing.put("call")] if drawing.chance.random() < 0.5 else []
    asked = [drawing.put("signal", *before) for _ in range(drawing.chance.choice((1, 1, 2)))]
    sides = [drawing.put(drawing.any(), name) for name in asked]
    late = drawing.put(drawing.any(), f"{asked[0]}.timeout")
    drawing.put(drawing.chance.choice(("merge", "merge_any")), *sides, late)


SHAPES: Final = (
    _line,
    _line,
    _line,
    _diamond,
    _diamond,
    _branches,
    _error_path,
    _anything,
    _anything,
    _asking,
)


def _map(drawing: _Drawing) -> None:
    """Items side by side, behind or before something else."""
    chance = drawing.chance
    before = [drawing.put(drawing.any())] if chance.random() < 0.3 else []
    container = drawing.contain(chance.choice(("map", "map", "map", "loop")), *before)
    if chance.random() < 0.3:
        drawing.put(drawing.any(), f"{container}.error")
    if chance.random() < 0.5:
        drawing.put(drawing.any(), container)


def _long_map(drawing: _Drawing) -> None:
    """More items than one commit has room for, in several pages."""
    container = drawing.put("long_map")
    drawing.put_inside(container, "noop")
    drawing.put("call", container)


DEEPER: Final = 0.7
"""Of all places in a container inside of another one, those where there is a third."""
MAPPED: Final = 0.08
"""The share of workflows with a map or a loop."""
RARE: Final = 0.002
"""The share of workflows whose runs are as long as a hundred others."""


def _shape(chance: random.Random) -> Callable[[_Drawing], None]:
    drawn = chance.random()
    if drawn < RARE:
        return _long_map
    return _map if drawn < MAPPED else chance.choice(SHAPES)
