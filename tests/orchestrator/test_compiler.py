"""What the compiler promises: a plan that holds all a run needs, or every fault at once with its place; never an exception."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from chassis.expressions import Language
from contracts.codec import Decoder
from contracts.limits import CEL_PER_WORKFLOW, EDGES, NODES, VARS, WORKFLOW_BYTES
from contracts.nodes import NodeSpec, Port
from contracts.plans import Plan
from contracts.workflows import Edge, Fault, Flow, Node, Retry, Workflow
from orchestrator.compiler import compile_workflow, encoded
from orchestrator.readiness import Graph

SAMPLES = sorted((Path(__file__).parent / "workflows").glob("*.json"))

ECHO = NodeSpec(
    type="echo",
    title="Echo",
    help="",
    icon="",
    category="",
    repeat="yes",
    pool="light",
    timeout_s=60,
    config={"type": "object", "properties": {"value": {}}, "additionalProperties": False},
)
CALL = NodeSpec(
    type="call",
    title="Call",
    help="",
    icon="",
    category="",
    config={
        "type": "object",
        "properties": {
            "url": {"type": "string"},
            "auth": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"$secret": {"type": "string"}},
                        "required": ["$secret"],
                    },
                    {"type": "null"},
                ],
                "x-secret": True,
            },
            "pattern": {"type": "string", "x-expression": "none"},
            "rows": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"if": {"type": "string", "x-expression": "condition"}},
                },
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    },
)
SPECS = {"echo": ECHO, "call": CALL}
LANGUAGE = Language()


def compiled(
    definition: bytes | Workflow | dict[str, Any], specs: dict[str, NodeSpec] = SPECS
) -> Plan | list[Fault]:
    data = json.dumps(definition).encode() if isinstance(definition, dict) else definition
    return compile_workflow(data, specs, org="org", workflow="flow", version=3, language=LANGUAGE)


def plan_of(definition: bytes | Workflow | dict[str, Any], specs: dict[str, NodeSpec] = SPECS) -> Plan:
    plan = compiled(definition, specs)
    assert isinstance(plan, Plan), plan
    return plan


def codes(
    definition: bytes | Workflow | dict[str, Any], specs: dict[str, NodeSpec] = SPECS
) -> list[tuple[str, str]]:
    faults = compiled(definition, specs)
    assert isinstance(faults, list)
    return [(fault.code, fault.pointer) for fault in faults]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_compiles_or_has_exactly_its_faults(sample: Path) -> None:
    told = json.loads(sample.read_text())
    if "faults" in told:
        assert codes(told["workflow"]) == [(fault["code"], fault["pointer"]) for fault in told["faults"]]
    else:
        assert [node.id for node in plan_of(told["workflow"]).nodes] == told["order"]


def sample(name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((Path(__file__).parent / "workflows" / f"{name}.json").read_text())
    return told["workflow"]  # type: ignore[no-any-return]  # A sample is an object.


# --- What a plan holds ------------------------------------------------------------------------


def test_a_note_is_in_no_plan_and_nothing_leads_to_it() -> None:
    note = {"id": "why", "type": "note", "config": {"text": "{{ steps.nobody.output }}"}}
    step = {"id": "a", "type": "echo"}
    assert [(node.id, node.order) for node in plan_of({"nodes": [note, step]}).nodes] == [("a", 0)]
    leads = {"nodes": [note, step], "edges": [{"source": "a", "target": "why"}]}
    assert codes(leads) == [("workflow.unknown_port", "/edges/0/into")]
    each = {"id": "each", "type": "map", "config": {"items": "{{ trigger.body }}"}}
    assert codes({"nodes": [each, note | {"inside": "each"}]}) == [("workflow.bad_inside", "/nodes/0")]
    assert codes({"nodes": [note | {"config": {}}]}) == [("workflow.bad_config", "/nodes/0/config/text")]


def test_a_plan_copies_what_decisions_need_from_the_node_type() -> None:
    node = plan_of(Workflow(nodes=(Node(id="a", type="echo"),))).nodes[0]
    assert (node.place, node.pool, node.repeat, node.timeout_s, node.retry) == (
        "executor",
        "light",
        "yes",
        60,
        Retry(),
    )
    assert (node.type_version, node.outputs, node.order) == (1, ("main",), 0)


def test_the_node_wins_over_its_type() -> None:
    patient = Retry(attempts=4)
    drawn = Node(id="a", type="echo", timeout_s=5, pool="heavy", retry=patient)
    node = plan_of(Workflow(nodes=(drawn,))).nodes[0]
    assert (node.timeout_s, node.pool, node.retry) == (5, "heavy", patient)


def test_marks_of_the_schema_travel_with_the_node() -> None:
    drawn = Node(id="a", type="call", config={"url": "https://example.com"})
    node = plan_of(Workflow(nodes=(drawn,))).nodes[0]
    assert (node.secrets, node.literal, node.conditions) == (("/auth",), ("/pattern",), ("/rows/*/if",))


def test_a_switch_has_the_ports_of_its_cases() -> None:
    route = plan_of(sample("switch")).nodes[0]
    assert route.outputs == ("default", "eu", "us")


def test_a_merge_of_any_does_not_wait() -> None:
    joins = {node.id: node.join for node in plan_of(sample("race")).nodes}
    assert joins == {"a": "all", "b": "all", "first": "any", "end": "all"}


def test_a_plan_says_what_its_expressions_read() -> None:
    reads = {node.id: node.reads for node in plan_of(sample("respond")).nodes}
    assert [(name, read.trigger, read.nodes) for name, read in reads.items()] == [
        ("keep", True, ()),
        ("name", True, ()),
        ("more", False, ("name",)),
        ("answer", False, ("more",)),
    ]


def test_a_type_is_taken_in_the_version_that_the_node_names() -> None:
    old = NodeSpec(type="echo", version=1, title="", help="", icon="", category="", config={})
    new = NodeSpec(type="echo", version=2, title="", help="", icon="", category="", config={})
    specs = {"echo": new, "echo@1": old}
    drawn = Workflow(nodes=(Node(id="a", type="echo", type_version=1), Node(id="b", type="echo")))
    assert [node.type_version for node in plan_of(drawn, specs).nodes] == [1, 2]


def test_no_executor_can_take_the_place_of_a_control_node() -> None:
    impostor = NodeSpec(type="if", title="", help="", icon="", category="", config={})
    drawn = Workflow(nodes=(Node(id="a", type="if", config={"condition": "true"}),))
    assert plan_of(drawn, {"if": impostor}).nodes[0].place == "orchestrator"


def test_the_same_workflow_has_the_same_hash_in_every_process() -> None:
    body, name = encoded(plan_of(sample("branches")))
    again, same = encoded(plan_of(sample("branches")))
    assert (body, name) == (again, same)
    assert Decoder[Plan](Plan)(body) == plan_of(sample("branches"))


def test_another_version_has_another_hash() -> None:
    data = json.dumps(sample("linear")).encode()
    plans = [compile_workflow(data, SPECS, org="org", workflow="flow", version=n) for n in (1, 2)]
    assert len({encoded(plan)[1] for plan in plans if isinstance(plan, Plan)}) == 2


# --- Faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed"),
        (b"null", "malformed"),
        (b"[]", "malformed"),
        (b'{"nodes"', "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"nodes":[],"notes":"\xff"}', "malformed"),
        (b'{"nodes":[],"notes":"\\ud800"}', "malformed"),
        (b"[" * 5_000, "malformed"),
        (b'{"a":' * 5_000, "malformed"),
        (b'{"nodes":[],"vars":{"a":' + b"[" * 70 + b"]" * 70 + b"}}", "malformed"),
        (b'{"nodes":[]}', "workflow.no_nodes"),
        (b"{}", "workflow.no_nodes"),
        (b" " * (WORKFLOW_BYTES + 1), "workflow.limit"),
        (b'{"nodes":[{"id":"a","type":"echo","timeout_s":1e400}]}', "malformed"),
        (b'{"nodes":[{"id":"a","type":"echo","config":{"value":1' + b"0" * 300 + b"}}]}", "malformed"),
        (b'{"nodes":[{"id":"a\\u0000","type":"echo"}]}', "malformed"),
    ],
)
def test_broken_bytes_are_one_fault(data: bytes, code: str) -> None:
    assert [fault for fault, _ in codes(data)] == [code]


def test_limits_are_told() -> None:
    nodes = [{"id": f"n{number}", "type": "echo"} for number in range(NODES + 1)]
    edges = [{"source": "n0", "target": "n1"}] * (EDGES + 1)
    assert codes({"nodes": nodes, "edges": edges}) == [
        ("workflow.limit", "/edges"),
        ("workflow.limit", "/nodes"),
    ]
    many = {f"v{number}": 1 for number in range(VARS + 1)}
    assert codes({"nodes": nodes[:1], "vars": many}) == [("workflow.limit", "/vars")]


def test_a_circle_names_its_nodes() -> None:
    faults = compiled(sample("bad_circle"))
    assert isinstance(faults, list)
    assert faults[0].message == "These nodes form a circle: a → b → c → a."


def test_an_expression_fault_names_its_position() -> None:
    faults = compiled(sample("bad_expressions"))
    assert isinstance(faults, list)
    assert all(fault.position is not None for fault in faults)


def test_faults_come_in_the_order_of_their_places() -> None:
    nodes = [{"id": f"n{number}", "type": "nope"} for number in range(12)]
    assert [pointer for _, pointer in codes({"nodes": nodes})] == [f"/nodes/{n}/type" for n in range(12)]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "https://example.com/elsewhere.json"},
        {"properties": {"value": {"pattern": "("}}},
        {"properties": 5},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
)
def test_a_node_type_with_a_broken_schema_is_a_fault_of_the_node(schema: dict[str, Any]) -> None:
    broken = NodeSpec(type="echo", title="", help="", icon="", category="", config=schema)
    drawn = {"nodes": [{"id": "a", "type": "echo", "config": {"value": "x"}}]}
    assert codes(drawn, {"echo": broken}) == [("workflow.bad_config", "/nodes/0/config")]


def test_a_template_may_stand_for_any_value_also_inside_alternatives() -> None:
    either = {"anyOf": [{"type": "object", "properties": {"n": {"type": "number"}}}, {"type": "null"}]}
    spec = NodeSpec(
        type="echo", title="", help="", icon="", category="", config={"properties": {"value": either}}
    )
    drawn = {"id": "a", "type": "echo", "config": {"value": {"n": "{{ vars.n }}"}}}
    assert plan_of({"nodes": [drawn]}, {"echo": spec}).nodes[0].config == drawn["config"]
    wrong = drawn | {"config": {"value": {"n": "5"}}}
    assert codes({"nodes": [wrong]}, {"echo": spec}) == [("workflow.bad_config", "/nodes/0/config/value/n")]


def test_a_workflow_in_memory_is_read_as_its_json_would_be() -> None:
    huge = Workflow(nodes=(Node(id="a", type="echo", config={"value": 10**30}),))
    assert [code for code, _ in codes(huge)] == ["malformed"]


def test_ports_can_be_named_by_a_plain_list() -> None:
    fork = NodeSpec(
        type="fork",
        title="",
        help="",
        icon="",
        category="",
        config={},
        outputs=(Port(name="rest", title="Rest"),),
        outputs_from="/ways",
    )
    drawn = Workflow(
        nodes=(Node(id="a", type="fork", config={"ways": ["left", "right"]}), Node(id="b", type="echo")),
        edges=(Edge(source="a", port="left", target="b"),),
    )
    assert plan_of(drawn, SPECS | {"fork": fork}).nodes[0].outputs == ("rest", "left", "right")


# --- Whatever is drawn ------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["a", "b", "c", "B", "", "if"])
texts = st.sampled_from(["{{ steps.a.output }}", "{{ 1 +", "{{ trigger.body.x }} y", "true", "a.b", "{{}}"])
configs = st.dictionaries(
    st.sampled_from(["condition", "value", "cases", "fields", "url", "auth", "seconds", "$secret", "mode"]),
    anything | texts,
    max_size=3,
)
nodes_like = st.fixed_dictionaries(
    {"id": names, "type": st.sampled_from(["if", "switch", "set", "echo", "call", "delay", "nope"])},
    optional={
        "config": configs | anything,
        "retry": anything,
        "timeout_s": anything,
        "pool": anything,
        "x": anything,
    },
)
edges_like = st.fixed_dictionaries(
    {"source": names, "target": names}, optional={"port": names | anything, "into": names | anything}
)
drawings = st.fixed_dictionaries(
    {"nodes": st.lists(nodes_like | anything, max_size=5)},
    optional={
        "edges": st.lists(edges_like | anything, max_size=6) | anything,
        "vars": anything,
        "timeout_s": anything,
        "flow": anything | st.fixed_dictionaries({}, optional={"priority": anything, "x": anything}),
    },
)


def test_how_runs_flow_stands_in_the_plan_where_the_workflow_says_it() -> None:
    nodes = [{"id": "a", "type": "echo"}]
    told, silent = compiled({"nodes": nodes, "flow": {"priority": 9}}), compiled({"nodes": nodes})
    assert isinstance(told, Plan)
    assert isinstance(silent, Plan)
    assert (told.flow, silent.flow) == (Flow(priority=9), None)
    assert b'"flow":' not in encoded(silent)[0]


@settings(max_examples=100, deadline=None)
@given(anything | drawings)
@example({"nodes": [{"id": "a", "type": "nope"}, {"id": "a", "type": "echo"}]})
def test_any_json_gives_a_plan_or_faults(drawn: Any) -> None:
    result = compiled(json.dumps(drawn).encode())
    if isinstance(result, Plan):
        body, _ = encoded(result)
        assert Decoder[Plan](Plan)(body) == result
    else:
        assert result
        assert all(fault.message and not fault.message.isspace() for fault in result)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_faults(data: bytes) -> None:
    assert isinstance(compiled(data), list)


def test_all_nodes_together_have_so_many_expressions_and_no_more() -> None:
    def full(more: int) -> dict[str, Any]:
        each = CEL_PER_WORKFLOW // 5
        counts = [each] * 4 + [each + more]
        nodes = [
            {"id": f"n{number}", "type": "echo", "config": {"value": ["{{ 1 }}"] * count}}
            for number, count in enumerate(counts)
        ]
        edges = [{"source": f"n{n}", "target": f"n{n + 1}"} for n in range(4)]
        return {"nodes": nodes, "edges": edges}

    plan_of(full(0))
    faults = compiled(full(1))
    assert isinstance(faults, list)
    assert [(fault.code, fault.pointer) for fault in faults] == [("workflow.limit", "/nodes")]
    assert f"{CEL_PER_WORKFLOW + 1}" in faults[0].message


# --- What is sensitive ------------------------------------------------------------------------


def test_marked_places_of_an_output_stand_in_the_plan() -> None:
    node = {"id": "a", "type": "echo", "sensitive": ["/card", "/orders/*/iban", ""]}
    plan = plan_of({"nodes": [node]})
    assert plan.nodes[0].sensitive == ("/card", "/orders/*/iban", "")
    outside = plan_of({"nodes": [{"id": "a", "type": "echo", "pool": "ext-lab", "sensitive": ["/card"]}]})
    assert outside.nodes[0].sensitive == ("/card",), "the gateway seals what a worker brings"
    assert (Graph.of(plan).seals, Graph.of(plan_of({"nodes": [{"id": "a", "type": "echo"}]})).seals) == (
        True,
        False,
    )


@pytest.mark.parametrize(
    ("node", "signals"),
    [
        (
            {
                "type": "wait.approval",
                "config": {"question": "?"},
                "sensitive": ["/fields", "/fields/a", "/comment"],
            },
            set(),
        ),
        ({"type": "wait.webhook", "sensitive": ["/body/card", "/query", ""]}, set()),
        ({"type": "wait.signal", "config": {"signal": "paid"}, "sensitive": ["/card"]}, {"paid"}),
        ({"type": "wait.signal", "config": {"signal": "paid"}}, set()),
    ],
)
def test_what_is_said_to_a_step_that_waits_can_be_marked(node: dict[str, Any], signals: set[str]) -> None:
    plan = plan_of({"nodes": [{"id": "a", **node}]})
    assert list(plan.nodes[0].sensitive) == node.get("sensitive", [])
    assert (Graph.of(plan).seals, Graph.of(plan).sealed_signals) == ("sensitive" in node, signals)


@pytest.mark.parametrize(
    ("said", "sealed"), [({}, ("/token",)), ({"sensitive": []}, ()), ({"sensitive": ["/a"]}, ("/a",))]
)
def test_a_type_may_name_what_is_sensitive_where_a_workflow_does_not_say(
    said: dict[str, Any], sealed: tuple[str, ...]
) -> None:
    secretive = {"echo": structs.replace(ECHO, sensitive=("/token",))}
    plan = plan_of({"nodes": [{"id": "a", "type": "echo", **said}]}, secretive)
    assert plan.nodes[0].sensitive == sealed


@pytest.mark.parametrize(
    ("node", "fault"),
    [
        ({"type": "echo", "sensitive": ["card"]}, ("malformed", "/nodes/0/sensitive/0")),
        ({"type": "echo", "sensitive": ["/a~2"]}, ("malformed", "/nodes/0/sensitive/0")),
        ({"type": "echo", "sensitive": "/card"}, ("malformed", "/nodes/0/sensitive")),
        ({"type": "echo", "sensitive": ["/a"] * 51}, ("malformed", "/nodes/0/sensitive")),
        ({"type": "noop", "sensitive": ["/card"]}, ("workflow.bad_config", "/nodes/0/sensitive")),
        *(
            (
                {"type": "wait.approval", "config": {"question": "?"}, "sensitive": ["/comment", mark]},
                ("workflow.bad_config", "/nodes/0/sensitive/1"),
            )
            for mark in ("", "/by", "/decision", "/*", "/comment/x", "/fieldsets")
        ),
    ],
)
def test_a_mark_that_cannot_be_kept_is_told_by_its_place(
    node: dict[str, Any], fault: tuple[str, str]
) -> None:
    assert codes({"nodes": [{"id": "a", **node}]}) == [fault]
