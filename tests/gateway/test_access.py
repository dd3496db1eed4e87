"""Who gets in, and what they may do there: every route, every wrong key, every foreign id, every extra field."""

import json
import re
from typing import Any, ClassVar

import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from chassis.secluded import Secluded
from contracts.streams import worker_consumer
from contracts.triggers import Webhook
from gateway.app import framework
from gateway.permissions import API, PERMISSIONS, PUBLIC, SCOPES
from tests.gateway.fakes import Office, Reply
from tests.gateway.stories import ECHO, created, published, started, triggered

FOREIGN = "other"


def routes() -> set[tuple[str, str]]:
    """Every method and path that the app answers, asked of the framework itself."""
    app = framework("0.1.0")
    return {
        (str(method), route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if isinstance(handler, HTTPRouteHandler) and str(method) not in ("OPTIONS", "HEAD")
    }


API_DOCUMENT = json.dumps({"openapi": "3.1.0", "paths": {"/a": {"get": {"operationId": "a"}}}})
ASKING = sorted(route for route, scope in PERMISSIONS.items() if scope != PUBLIC)
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/workflows"): {"name": "x", "definition": ECHO},
    ("POST", "/workflows/validate"): {"definition": ECHO},
    ("PUT", "/workflows/{workflow_id}/name"): {"name": "x"},
    ("POST", "/workflows/{workflow_id}/versions"): {"definition": ECHO},
    ("POST", "/workflows/{workflow_id}/tests"): {},
    ("POST", "/workflows/{workflow_id}/tests/outline"): {},
    ("POST", "/workflows/{workflow_id}/cases"): {"name": "x", "from_run": "{run_id}"},
    ("PUT", "/workflows/{workflow_id}/cases/{case_name}"): {},
    ("POST", "/workflows/{workflow_id}/cases/{case_name}/runs"): {},
    ("POST", "/triggers"): {"name": "x", "workflow": "{workflow_id}"},
    ("PUT", "/triggers/{trigger_id}"): {"name": "x", "webhook": {}},
    ("POST", "/triggers/preview-schedule"): {"schedule": {"when": {"by": "cron", "expression": "@daily"}}},
    ("POST", "/triggers/{trigger_id}/rotate-secret"): {},
    ("POST", "/triggers/{trigger_id}/test"): {},
    ("POST", "/triggers/{trigger_id}/run-again"): {
        "name": "x",
        "since": "2026-01-01T00:00:00Z",
        "until": "2026-01-02T00:00:00Z",
    },
    ("POST", "/runs"): {"workflow": "{workflow_id}"},
    ("POST", "/runs/{run_id}/cancel"): {},
    ("POST", "/runs/{run_id}/retry"): {},
    ("POST", "/runs/{run_id}/resolve"): {"step": "a", "resolution": "retry"},
    ("POST", "/runs/{run_id}/signals"): {"signal": "paid"},
    ("POST", "/approvals/{run_id}/decide"): {"decision": "approved"},
    ("POST", "/apis"): {"name": "x", "document": API_DOCUMENT},
    ("POST", "/pauses/begin"): {"what": "workflow", "name": "{workflow_id}"},
    ("POST", "/pauses/end"): {"what": "workflow", "name": "{workflow_id}"},
    ("PUT", "/vars"): {"vars": {}},
    ("PUT", "/limits"): {"limits": {}},
    ("POST", "/secrets"): {"name": "x", "value": {"kind": "text", "text": "x"}},
    ("PUT", "/secrets/{secret_id}"): {"name": "x", "value": {"kind": "text", "text": "x"}},
    ("POST", "/secrets/{secret_id}/rotate"): {"value": {"kind": "text", "text": "x"}},
    ("POST", "/secrets/{secret_id}/test"): {},
    ("POST", "/keys"): {"name": "x", "scopes": ["runs:read"]},
    ("POST", "/pools/{pool}/drain"): {"labels": {"zone": "x"}},
    ("POST", "/pools/{pool}/tokens"): {"name": "x"},
    ("POST", "/worker/types"): {"specs": []},
    ("POST", "/worker/poll"): {"wait_s": 0},
    ("POST", "/worker/keep"): {"leases": ["x"]},
    ("POST", "/worker/begin"): {"lease": "x"},
    ("POST", "/worker/fetch"): {"lease": "x", "sha256": "0" * 64},
    ("POST", "/worker/report"): {"lease": "x", "report": {"kind": "gave_back"}},
}


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: ids.get(found[1], "x"), path)


async def call(office: Office, route: tuple[str, str], ids: dict[str, str], **more: Any) -> Reply:
    """The route with these ids in its address and in its body."""
    method, path = route
    body = BODIES.get((method, path.removeprefix(API)))
    if body is not None:
        body = json.loads(filled_body(json.dumps(body), ids))
    return await office.ask(method, filled(path, ids), body, **more)


def filled_body(text: str, ids: dict[str, str]) -> str:
    return re.sub(r"\{(\w+_id)\}", lambda found: ids[found[1]], text)


IDS = {
    "workflow_id": "w",
    "trigger_id": "t",
    "run_id": "r",
    "secret_id": "s",
    "key_id": "k",
    "receipt": "d",
    "version": "1",
    "node_type": "echo",
    "api_name": "a",
    "case_name": "c",
    "pool": "ext-a",
    "executor": "e",
}


def test_the_permission_table_covers_every_route_and_nothing_else() -> None:
    assert routes() == set(PERMISSIONS)


def test_every_write_of_the_api_has_a_body_in_this_test_or_takes_none() -> None:
    app = framework("0.1.0")
    taking = {
        (str(method), route.path_format.removeprefix(API))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if handler.parsed_data_field is not None
    }
    assert taking == set(BODIES)


@pytest.mark.parametrize("route", ASKING, ids=" ".join)
async def test_without_a_valid_key_nothing_answers(office: Office, route: tuple[str, str]) -> None:
    """A1: no, malformed, unknown, mangled, expired and revoked keys, and keys in the wrong place."""
    expired = await office.vault.issue_key(
        "org_default", "0" * 16, name="x", scopes=sorted(SCOPES), expires=office.clock.now()
    )
    revoked = await office.vault.issue_key("org_default", "1" * 16, name="x", scopes=sorted(SCOPES))
    await office.vault.revoke_key("org_default", "1" * 16)
    texts = [
        "",
        "x",
        "ao_live_x",
        office.key[:-1] + ("0" if office.key[-1] != "0" else "1"),
        office.key.upper(),
        office.key + " ",
        "\u00e9",
        expired.text.reveal_text(),
        revoked.text.reveal_text(),
        "a" * 8_000,
    ]
    for text in texts:
        reply = await call(office, route, IDS, key=text)
        assert (reply.status, reply.json["code"]) == (401, "unauthenticated"), text[:80]
        assert reply.headers["www-authenticate"] == "Bearer"
    basic = await office.ask(route[0], filled(route[1], IDS), authorization=f"Basic {office.key}")
    assert basic.status == 401
    in_query = await office.ask(route[0], f"{filled(route[1], IDS)}?key={office.key}", key="")
    assert in_query.status == 401


@pytest.mark.parametrize("route", ASKING, ids=" ".join)
async def test_a_key_opens_what_its_scopes_name_and_nothing_else(
    office: Office, route: tuple[str, str]
) -> None:
    """I2: the table, route by route. Without the scope nothing is read, so the body may be anything."""
    wanted = PERMISSIONS[route]
    lacking = await office.key_for("org_default", sorted(SCOPES - {wanted}))
    reply = await call(office, route, IDS, key=lacking)
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
    if route[1].endswith("/live"):
        return  # A stream does not end by itself.
    # Whoever issues keys can only give what they have.
    more = {"keys:write": ["runs:read"], "workers:serve": ["pool:ext-a"]}.get(wanted, [])
    having = await office.key_for("org_default", [wanted, *more])
    assert (await call(office, route, IDS, key=having)).status not in (401, 403, 500)


async def test_a_scope_that_no_release_knows_opens_nothing(office: Office) -> None:
    key = await office.key_for("org_default", ["*", "admin", "runs:*", ""])
    assert (await office.api("GET", "/vars", key=key)).status == 403


class Once(Secluded):
    """The real reader of documents, with the answers that it gave before: reading depends on the question alone.

    A process for each of some hundred equal documents was half of the time of these tests.
    """

    _answers: ClassVar[dict[bytes, bytes]] = {}

    async def answer(self, question: bytes) -> bytes:
        if question not in self._answers:
            self._answers[question] = await super().answer(question)
        return self._answers[question]


async def everything_of(office: Office, org: str) -> dict[str, str]:
    """One of everything, made by a key of this org."""
    office.apis._reader = Once("gateway.apis.reader", most=1 << 20)
    key = await office.key_for(org)
    workflow = await published(office, key=key)
    trigger = await triggered(office, workflow, key=key)
    secret = await office.api(
        "POST", "/secrets", {"name": "x", "value": {"kind": "text", "text": "v"}}, key=key
    )
    issued = await office.api("POST", "/keys", {"name": "x", "scopes": ["runs:read"]}, key=key)
    await office.api("PUT", f"/workflows/{workflow}/cases/c", {}, key=key)
    api = f"of_{org.replace('-', '_')[:20]}"
    await office.api("POST", "/apis", {"name": api, "document": API_DOCUMENT}, key=key)
    pool = f"ext-{org.replace('_', '-')[:20]}"
    office.durables.add(worker_consumer(org, pool))
    return {
        "pool": pool,
        "executor": "e",
        "workflow_id": workflow,
        "trigger_id": trigger["id"],
        "run_id": await started(office, workflow, key=key),
        "secret_id": secret.json["id"],
        "key_id": issued.json["id"],
        "receipt": "d",
        "version": "1",
        "node_type": f"api.{api}.a",
        "api_name": api,
        "case_name": "c",
    }


READ_MODELS = {
    ("GET", "/workflows/{workflow_id}"),
    ("GET", "/workflows/{workflow_id}/versions"),
    ("GET", "/workflows/{workflow_id}/ports"),
    ("GET", "/triggers/{trigger_id}"),
    ("GET", "/triggers/{trigger_id}/deliveries"),
    ("GET", "/triggers/{trigger_id}/samples"),
    ("POST", "/triggers/{trigger_id}/deliveries/{receipt}/redeliver"),
    ("GET", "/runs/{run_id}"),
    ("GET", "/runs/{run_id}/steps"),
    ("GET", "/runs/{run_id}/children"),
}
"""Answered from Postgres: tests/integration/test_gateway.py sweeps them."""


ITS_OWN_NAME = (("POST", f"{API}/pools/{{pool}}/tokens"),)
"""The name is the caller's to choose: each org has its own pools."""


def naming_something(route: tuple[str, str]) -> bool:
    if route in ITS_OWN_NAME:
        return False
    body = json.dumps(BODIES.get((route[0], route[1].removeprefix(API)), ""))
    return "{" in route[1] or "_id}" in body


@pytest.mark.parametrize("route", [each for each in ASKING if naming_something(each)], ids=" ".join)
async def test_ids_of_another_org_are_nowhere(office: Office, route: tuple[str, str]) -> None:
    """I1: with one of everything in two orgs, no route tells a foreign id from one that never was."""
    theirs = await everything_of(office, FOREIGN)
    await everything_of(office, "org_default")
    before = [stored.body for stored in (*office.domain_log.messages, *office.runs_log.messages)]
    foreign = await call(office, route, theirs)
    absent = await call(office, route, dict.fromkeys(IDS, "0" * 36) | {"version": "1", "node_type": "x"})
    expected = 503 if (route[0], route[1].removeprefix(API)) in READ_MODELS else 404
    if route[1].endswith("/redeliver"):
        expected = 404
    assert (foreign.status, absent.status) == (expected, expected)
    assert {**foreign.json, "trace_id": ""} == {**absent.json, "trace_id": ""}
    after = [stored.body for stored in (*office.domain_log.messages, *office.runs_log.messages)]
    assert after == before, "a foreign call changed something"


EXTRAS: dict[str, Any] = {
    "role": "admin",
    "org": FOREIGN,
    "org_id": FOREIGN,
    "owner": "me",
    "is_admin": True,
    "price": 0,
    "id": "x",
    "key_id": "x",
    "plan": "a" * 64,
    "actor": "system",
    "trace": "x",
    "created": "2026-01-01T00:00:00Z",
    "graph": {},
    "data": {},
    "__proto__": {},
    "constructor": None,
    "": 0,
}


@pytest.mark.parametrize("route", sorted(BODIES), ids=" ".join)
async def test_no_command_takes_a_field_that_it_does_not_have(office: Office, route: tuple[str, str]) -> None:
    """I5, A2."""
    own = await everything_of(office, "org_default")
    method, path = route
    body = json.loads(filled_body(json.dumps(BODIES[route]), own))
    for name, value in EXTRAS.items():
        reply = await office.api(method, filled(path, own), {**body, name: value})
        assert (reply.status, reply.json["code"]) == (400, "malformed"), name
        assert reply.json["errors"][0]["pointer"] == f"/{name}"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/workflows", {"name": "x", "definition": {**ECHO, "org": FOREIGN}}, "/definition/org"),
        (
            "/workflows",
            {"name": "x", "definition": {"nodes": [{"id": "a", "type": "echo", "place": "executor"}]}},
            "/definition/nodes/0/place",
        ),
        (
            "/triggers",
            {"name": "x", "workflow": "w", "webhook": {"authentication": {"scheme": "none", "secret": "s"}}},
            "/webhook/authentication/secret",
        ),
        (
            "/secrets",
            {"name": "x", "value": {"kind": "text", "text": "v", "user": "u"}},
            "/value/user",
        ),
    ],
)
async def test_no_part_of_a_command_takes_one_either(
    office: Office, path: str, body: Any, pointer: str
) -> None:
    reply = await office.api("POST", path, body)
    assert (reply.status, reply.json["errors"][0]["pointer"]) == (400, pointer)


@pytest.mark.parametrize(
    "name", ["*", ">", "a.b", "a*", "..", "%2e", "a b", "\u00e9", "a" * 65, "$JS", "a\n"]
)
async def test_nothing_in_an_address_becomes_a_wildcard_of_a_subject(office: Office, name: str) -> None:
    await created(office)
    for path in (f"/workflows/{name}/versions/1", f"/runs/{name}/events", f"/triggers/{name}/enable"):
        method = "POST" if path.endswith("enable") else "GET"
        reply = await office.api(method, path)
        assert (reply.status, reply.json["code"]) == (404, "not_found")


async def test_metrics_are_for_this_machine_and_for_keys_that_may_read_them(office: Office) -> None:
    assert (await office.ask("GET", "/metrics", key="")).status == 401
    assert (await office.ask("GET", "/metrics")).status == 200
    lacking = await office.key_for("org_default", ["runs:read"])
    assert (await office.ask("GET", "/metrics", key=lacking)).status == 403


async def test_public_pages_ask_for_no_key_and_hide_no_way_to_others(office: Office) -> None:
    for path in ("/healthz", "/readyz", "/docs", "/docs/style.css", "/docs/openapi.json"):
        assert (await office.ask("GET", path, key="")).status == 200
    for path in ("/docs/../api/v1/vars", "/docs//api/v1/vars", "/healthz/x", "//api/v1/vars", "/API/v1/vars"):
        assert (await office.ask("GET", path, key="")).status in (401, 404)


def test_webhook_settings_have_no_field_that_a_stranger_could_abuse() -> None:
    assert set(Webhook.__struct_fields__).isdisjoint(EXTRAS)
