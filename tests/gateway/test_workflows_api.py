"""Workflows over HTTP: drawn, saved, checked, published, deleted."""

import sys
from typing import Any

import pytest

from chassis.ids import digest
from contracts.codec import decode_domain_commit
from contracts.limits import INLINE_BYTES
from contracts.triggers import TriggerBound, TriggerDeleted
from contracts.workflows import Fault, VersionDrafted, VersionPublished, WorkflowCreated, WorkflowDeleted
from gateway.domain import Cause, Place
from gateway.workflows import rules
from gateway.workflows.rules import WORKFLOW
from tests.gateway.fakes import Office
from tests.gateway.stories import ECHO, created, published, started, triggered


def events(office: Office, aggregate: str) -> list[Any]:
    """All that was recorded about one kind of thing, in order."""
    return [
        event
        for stored in office.domain_log.messages
        if stored.subject.split(".")[2] == aggregate
        for event in decode_domain_commit(stored.body, aggregate).events
    ]


async def test_a_workflow_and_its_first_version_are_one_commit_with_a_position(office: Office) -> None:
    reply = await office.api("POST", "/workflows", {"name": "orders", "definition": ECHO})
    assert (reply.status, reply.json["latest_version"]) == (201, 1)
    assert reply.headers["automateos-position"] == "DOMAIN:1-1"
    first, second = events(office, "workflow")
    assert (first, type(second)) == (WorkflowCreated(name="orders"), VersionDrafted)
    assert office.domain_log.messages[0].subject == f"evt.org_default.workflow.{reply.json['id']}"


async def test_a_version_is_given_back_as_it_was_saved(office: Office) -> None:
    definition = {
        **ECHO,
        "edges": [],
        "vars": {"rate": 1.10, "big": 2**53, "text": "ü \U0001f600", "deep": {"a": [None, True]}},
        "notes": "why",
    }
    workflow = await created(office)
    reply = await office.api("POST", f"/workflows/{workflow}/versions", {"definition": definition})
    assert (reply.status, reply.json) == (201, {"workflow": workflow, "version": 2})
    kept = (await office.api("GET", f"/workflows/{workflow}/versions/2")).json["definition"]
    del definition["edges"]  # What is as it is by default is left out.
    assert kept == definition


async def test_a_large_definition_lies_in_the_object_store(office: Office) -> None:
    definition = {**ECHO, "vars": {"text": "x" * INLINE_BYTES}}
    reply = await office.api("POST", "/workflows", {"name": "big", "definition": definition})
    (kept,) = office.blobs.kept.values()
    shown = await office.api("GET", f"/workflows/{reply.json['id']}/versions/1")
    assert shown.json["definition"] == definition
    assert len(kept) > INLINE_BYTES


async def test_a_definition_that_no_message_can_carry_is_refused(office: Office) -> None:
    definition = {**ECHO, "vars": {f"v{n}": "x" * 250_000 for n in range(4)}}
    reply = await office.api("POST", "/workflows", {"name": "big", "definition": definition})
    assert (reply.status, reply.json["code"]) == (413, "too_large")


async def test_versions_are_saved_while_no_orchestrator_is_there(office: Office) -> None:
    office.engine.away = True
    workflow = await created(office)
    reply = await office.api("POST", f"/workflows/{workflow}/versions/1/publish")
    assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "unavailable", "1")
    assert not [event for event in events(office, "workflow") if isinstance(event, VersionPublished)]
    validation = await office.api("POST", "/workflows/validate", {"definition": ECHO})
    assert validation.status == 503


async def test_publishing_compiles_what_was_saved_and_keeps_the_plan(office: Office) -> None:
    workflow = await created(office)
    reply = await office.api("POST", f"/workflows/{workflow}/versions/1/publish")
    (request,) = office.engine.compiled
    assert (request.org, request.workflow, request.version, request.keep) == (
        "org_default",
        workflow,
        1,
        True,
    )
    plan = digest(bytes(request.definition))
    assert reply.json == {"workflow": workflow, "version": 1, "plan": plan, "triggers": 0}
    assert events(office, "workflow")[-1] == VersionPublished(version=1, plan=plan)


async def test_publishing_twice_records_it_once(office: Office) -> None:
    workflow = await published(office)
    before = len(office.domain_log.messages)
    assert (await office.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    assert len(office.domain_log.messages) == before


async def test_a_workflow_with_faults_is_not_published_and_all_of_them_are_told(office: Office) -> None:
    workflow = await created(office)
    office.engine.faults = (
        Fault(code="workflow.cycle", pointer="/edges/0", message="The edges form a circle."),
        Fault(code="workflow.bad_expression", pointer="/nodes/0/config/value", message="?", position=3),
    )
    reply = await office.api("POST", f"/workflows/{workflow}/versions/1/publish")
    assert (reply.status, reply.json["code"]) == (422, "invalid_workflow")
    assert [fault["pointer"] for fault in reply.json["faults"]] == ["/edges/0", "/nodes/0/config/value"]
    validation = await office.api("POST", f"/workflows/{workflow}/versions/1/validate")
    assert (validation.status, validation.json["valid"]) == (200, False)
    assert len(validation.json["faults"]) == 2


async def test_validating_keeps_nothing_and_takes_any_shape(office: Office) -> None:
    reply = await office.api("POST", "/workflows/validate", {"definition": {"nodes": "none"}})
    assert reply.json == {"valid": True, "faults": []}
    (request,) = office.engine.compiled
    assert request.keep is False
    assert office.domain_log.messages == []


async def test_triggers_follow_what_is_published(office: Office) -> None:
    workflow = await created(office)
    first = await triggered(office, workflow)
    assert first["bound_version"] is None
    reply = await office.api("POST", f"/workflows/{workflow}/versions/1/publish")
    assert reply.json["triggers"] == 1
    assert events(office, "trigger")[-1] == TriggerBound(version=1, plan=reply.json["plan"])
    second = await triggered(office, workflow)
    assert second["bound_version"] == 1


async def test_a_trigger_that_a_dead_publisher_left_behind_is_bound_by_the_next_look(office: Office) -> None:
    workflow = await created(office)
    trigger = await triggered(office, workflow)
    command = rules.Publish(version=1, plan="a" * 64)
    cause = Cause(org="org_default", actor="key:dead", request="r")
    changed = await office.parts.domain.change(
        WORKFLOW, workflow, lambda state: rules.decide(state, command), cause
    )
    await office.directory.reached(changed.place.sequence)
    assert list(office.directory.unbound()) == [("org_default", workflow, trigger["id"])]
    await office.binding.repair()
    assert events(office, "trigger")[-1] == TriggerBound(version=1, plan="a" * 64)


async def test_of_two_who_publish_at_once_triggers_follow_the_one_who_came_last(office: Office) -> None:
    workflow = await created(office)
    await triggered(office, workflow)
    await office.api("POST", f"/workflows/{workflow}/versions", {"definition": {**ECHO, "notes": "2"}})
    original, raced = office.parts.domain.change, False

    async def change(aggregate: Any, id_: str, decide: Any, cause: Any) -> Any:
        """Before the first trigger is bound, somebody else publishes version 2 and is done."""
        nonlocal raced
        if aggregate.name == "trigger" and not raced:
            raced = True
            reply = await office.api("POST", f"/workflows/{workflow}/versions/2/publish")
            assert reply.status == 200
        return await original(aggregate, id_, decide, cause)

    office.parts.domain.change = change  # type: ignore[method-assign]  # In its place.
    await office.api("POST", f"/workflows/{workflow}/versions/1/publish")
    assert events(office, "trigger")[-1].version == 2


async def test_deleting_a_workflow_takes_its_triggers_with_it(office: Office) -> None:
    workflow = await published(office)
    await triggered(office, workflow)
    reply = await office.api("DELETE", f"/workflows/{workflow}")
    assert reply.status == 204
    assert isinstance(events(office, "trigger")[-1], TriggerDeleted)
    assert isinstance(events(office, "workflow")[-1], WorkflowDeleted)
    for method, path, body in (
        ("DELETE", f"/workflows/{workflow}", None),
        ("GET", f"/workflows/{workflow}/versions/1", None),
        ("POST", f"/workflows/{workflow}/versions", {"definition": ECHO}),
        ("POST", f"/workflows/{workflow}/versions/1/publish", None),
        ("POST", "/triggers", {"name": "x", "workflow": workflow}),
        ("POST", "/runs", {"workflow": workflow}),
    ):
        assert (await office.api(method, path, body)).status == 404


async def test_a_workflow_is_renamed(office: Office) -> None:
    workflow = await created(office)
    assert (await office.api("PUT", f"/workflows/{workflow}/name", {"name": "sales"})).status == 204
    assert office.directory.workflow("org_default", workflow) is not None


@pytest.mark.parametrize("version", ["0", "-1", "2", "x", "9" * 30, "9" * 5_000])
async def test_a_version_that_is_not_there_is_not_found(office: Office, version: str) -> None:
    workflow = await created(office)
    assert (await office.api("GET", f"/workflows/{workflow}/versions/{version}")).status == 404


HOSTILE = {
    "nodes": [
        {"id": "a", "type": "code.python", "config": {"source": "__import__('os').system('id')"}},
        {"id": "b", "type": "mcp.stdio", "config": {"command": ["sh", "-c", "id"], "__class__": "x"}},
        {"id": "c", "type": "http.request", "config": {"url": "{{ [1].map(x, x) }}", "$secret": "s"}},
    ],
    "edges": [{"source": "a", "target": "b"}, {"source": "b", "target": "a"}, {"source": "x", "target": "y"}],
}


async def test_an_import_is_inert(office: Office) -> None:
    """X3, X8: nothing of what comes in is run, opened, connected to, or started; it lies there."""
    await created(office)  # What is imported once by Python is imported.
    seen: list[str] = []
    watching = True

    def audit(event: str, _: Any) -> None:
        if watching and event.split(".", maxsplit=1)[0] in (
            "exec",
            "compile",
            "open",
            "socket",
            "subprocess",
            "os",
        ):
            seen.append(event)

    sys.addaudithook(audit)
    try:
        reply = await office.api("POST", "/workflows", {"name": "hostile", "definition": HOSTILE})
    finally:
        watching = False
    assert reply.status == 201
    assert seen == []
    assert [type(event) for event in events(office, "workflow")[-2:]] == [WorkflowCreated, VersionDrafted]
    assert events(office, "trigger") == []
    assert (office.engine.compiled, office.engine.heard, office.runs_log.messages) == ([], [], [])
    shown = await office.api("GET", f"/workflows/{reply.json['id']}/versions/1")
    assert shown.json["definition"] == HOSTILE


async def test_a_run_needs_a_published_version(office: Office) -> None:
    workflow = await created(office)
    reply = await office.api("POST", "/runs", {"workflow": workflow})
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    await office.api("POST", f"/workflows/{workflow}/versions/1/publish")
    assert await started(office, workflow)


async def test_the_same_org_reads_what_it_wrote_when_the_read_model_comes_that_far(office: Office) -> None:
    await created(office)
    assert office.places.written("org_default", "DOMAIN") == Place(1, 1)
    assert office.places.written("other", "DOMAIN") is None
