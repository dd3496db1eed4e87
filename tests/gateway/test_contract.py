"""The API's document: committed, drawn from the code, and true."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.contract import text
from gateway.permissions import API, PERMISSIONS
from tests.gateway.fakes import Office
from tests.gateway.stories import ECHO, published, started, triggered

COMMITTED = Path(__file__).parents[2] / "docs" / "api" / "openapi.yaml"


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load(text())


def test_the_committed_document_is_the_codes() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == text(), "run `python -m gateway.contract`"


def test_every_route_of_the_api_is_told_with_its_scope(document: Any) -> None:
    told = {
        (method.upper(), path): operation["x-scope"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert told == {route: scope for route, scope in PERMISSIONS.items() if route[1].startswith(API)}


def test_every_operation_has_an_id_of_its_own_and_words(document: Any) -> None:
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)
    assert all(each["summary"] and each["description"].endswith(".") for each in operations)


def test_every_reference_leads_somewhere(document: Any) -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_what_a_command_is_made_of_takes_no_other_field(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for name in (
        "CreateWorkflow",
        "Workflow",
        "Node",
        "Edge",
        "Webhook",
        "Github",
        "StoreSecret",
        "BearerSecret",
    ):
        assert schemas[name]["additionalProperties"] is False, name


def test_a_secrets_value_is_told_as_something_that_is_only_written(document: Any) -> None:
    token = document["components"]["schemas"]["BearerSecret"]["properties"]["token"]
    assert token == {"type": "string", "writeOnly": True, "format": "password"}


async def test_what_the_api_answers_is_what_the_document_says(office: Office, document: Any) -> None:
    """Z1 in small: real answers against their schemas."""
    workflow = await published(office)
    run = await started(office, workflow)
    trigger = (await triggered(office, workflow))["id"]
    asked: list[tuple[str, str, str, Any]] = [
        ("POST", "/workflows", "/workflows", {"name": "x", "definition": ECHO}),
        ("GET", "/workflows/{workflow_id}/versions/{version}", f"/workflows/{workflow}/versions/1", None),
        ("POST", "/triggers", "/triggers", {"name": "x", "workflow": workflow}),
        ("POST", "/triggers/{trigger_id}/rotate-token", f"/triggers/{trigger}/rotate-token", None),
        ("POST", "/runs", "/runs", {"workflow": workflow}),
        ("GET", "/runs/{run_id}/events", f"/runs/{run}/events", None),
        ("GET", "/runs/{run_id}/state", f"/runs/{run}/state", None),
        ("GET", "/runs/{run_id}/waiting", f"/runs/{run}/waiting", None),
        ("POST", "/runs/{run_id}/cancel", f"/runs/{run}/cancel", {}),
        ("GET", "/node-types", "/node-types", None),
        ("PUT", "/vars", "/vars", {"vars": {"a": 1}}),
        ("PUT", "/limits", "/limits", {"limits": {"mail": {"at_once": 5}}}),
        ("POST", "/secrets", "/secrets", {"name": "x", "value": {"kind": "text", "text": "v"}}),
        ("GET", "/secrets", "/secrets", None),
        ("POST", "/keys", "/keys", {"name": "x", "scopes": ["runs:read"]}),
        ("GET", "/keys", "/keys", None),
        ("POST", "/keys", "/keys", {"name": "x", "scopes": []}),
        ("GET", "/runs", "/runs", None),
    ]
    for method, template, path, body in asked:
        reply = await office.api(method, path, body)
        responses = document["paths"][API + template][method.lower()]["responses"]
        told = responses.get(str(reply.status), responses["default"])
        media = told["content"][reply.headers["content-type"]]["schema"]
        schema = {**media, "components": document["components"]}
        Draft202012Validator(schema).validate(reply.json)


async def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script(office: Office) -> None:
    page = (await office.ask("GET", "/docs", key="")).body.decode()
    for marker in ("http://", "https://", "<script", "style=", "onclick", "<img"):
        assert marker not in page
    for route in PERMISSIONS:
        if route[1].startswith(API):
            assert route[1] in page


async def test_the_document_is_served_as_it_is_committed(office: Office) -> None:
    served = await office.ask("GET", "/docs/openapi.yaml", key="")
    assert served.body.decode() == COMMITTED.read_text(encoding="utf-8")
    as_json = await office.ask("GET", "/docs/openapi.json", key="")
    assert json.loads(as_json.body) == yaml.safe_load(served.body)
