"""Workflows with an org's own node types: judged by the imported form, planned with the request's template."""

from typing import Any

from contracts.apis import ApiCall, ApiImport, ApiParameter, ApiType, ApiTypes
from contracts.codec import encode
from contracts.nodes import NodeSpec
from contracts.payloads import Blob
from contracts.plans import Plan
from contracts.workflows import Fault
from orchestrator.compiler import compile_workflow
from orchestrator.imported import Imported

CALL = ApiCall(
    method="GET",
    path="/pets/{{ x }}/{id}",
    server="http://h",
    parameters=(ApiParameter(name="id", where="path", style="simple", required=True),),
)


def types(version: int, title: str = "Pet") -> ApiTypes:
    config = {
        "type": "object",
        "properties": {
            "path": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
            "auth": {"x-secret": True},
            "how": {"type": "string", "x-expression": "none"},
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    spec = NodeSpec(
        type="api.shop.pet", version=version, title=title, help="", icon="", category="", repeat="yes", config=config
    )  # fmt: skip
    return ApiTypes(title="Shop", types=(ApiType(spec=spec, call=CALL),))


def brought(version: int, *, newest: bool) -> tuple[ApiImport, ApiTypes]:
    stored = Blob(sha256="0" * 64, size=1)
    return ApiImport(name="shop", version=version, newest=newest, types=stored), types(version)


def compiled(config: Any, imported: Imported, **node: Any) -> Plan | list[Fault]:
    drawn = {"nodes": [{"id": "a", "type": "api.shop.pet", "config": config, **node}], "edges": []}
    plan = compile_workflow(encode(drawn), imported.specs, org="o", workflow="w", version=1)
    return plan if isinstance(plan, list) else imported.planned(plan)


def test_the_plan_has_the_template_beside_what_was_written() -> None:
    written = {"path": {"id": "{{ trigger.body.id }}"}, "auth": {"$secret": "s1"}, "how": "{{ no }}"}
    plan = compiled(written, Imported([brought(2, newest=True)]))
    assert isinstance(plan, Plan)
    [node] = plan.nodes
    assert (node.type, node.type_version, node.repeat) == ("api.shop.pet", 2, "yes")
    assert node.config["with"] == written
    assert node.config["call"]["path"] == "/pets/{{ x }}/{id}"
    assert node.literal == ("/call", "/with/how")
    assert node.secrets == ("/with/auth",)
    assert node.reads.trigger


def test_faults_stand_where_the_author_wrote() -> None:
    faults = compiled({"path": {"id": "x"}, "more": 1}, Imported([brought(1, newest=True)]))
    assert isinstance(faults, list)
    assert {fault.pointer for fault in faults} == {"/nodes/0/config/path/id", "/nodes/0/config/more"}


def test_a_node_without_a_version_means_the_newest_and_none_that_is_offered_no_more() -> None:
    both = Imported([brought(1, newest=False), brought(3, newest=True)])
    plan = compiled({"path": {"id": 1}}, both)
    assert isinstance(plan, Plan)
    assert plan.nodes[0].type_version == 3
    plan = compiled({"path": {"id": 1}}, both, type_version=1)
    assert isinstance(plan, Plan)
    assert plan.nodes[0].type_version == 1
    faults = compiled({"path": {"id": 1}}, Imported([brought(1, newest=False)]))
    assert isinstance(faults, list)
    assert [fault.code for fault in faults] == ["workflow.unknown_node_type"]


def test_a_plan_without_such_nodes_stays_as_it_is() -> None:
    drawn = {"nodes": [{"id": "a", "type": "delay", "config": {"seconds": 1}}], "edges": []}
    plan = compile_workflow(encode(drawn), {}, org="o", workflow="w", version=1)
    assert isinstance(plan, Plan)
    assert Imported().planned(plan) == plan
