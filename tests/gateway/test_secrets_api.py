"""Secrets and API keys over HTTP: in, never out."""

from datetime import timedelta
from typing import Any

import pytest

from chassis.egress import Egress, parse_allowed
from chassis.http import Receive, Scope, Send, lifespan, send_whole, serving
from chassis.vault import api_key_hash
from contracts.codec import decode_domain_commit
from contracts.workflows import KeyIssued, KeyRevoked, SecretDeleted, SecretStored
from gateway.permissions import SCOPES
from tests.gateway.fakes import Office

CANARY = "CANARY-1f0a"
VALUES: list[dict[str, str]] = [
    {"kind": "header", "name": "x-api-key", "value": CANARY},
    {"kind": "basic", "user": "me", "password": CANARY},
    {"kind": "bearer", "token": CANARY},
    {"kind": "api_key_query", "name": "key", "value": CANARY},
    {"kind": "hmac", "key": CANARY},
    {"kind": "smtp", "user": "me", "password": CANARY},
    {"kind": "text", "text": CANARY},
]


def recorded(office: Office, aggregate: str) -> list[Any]:
    return [
        event
        for stored in office.domain_log.messages
        if stored.subject.split(".")[2] == aggregate
        for event in decode_domain_commit(stored.body, aggregate).events
    ]


async def stored(office: Office, **more: Any) -> Any:
    body = {"name": "github", "value": VALUES[2], "allowed_hosts": ["API.github.com."], **more}
    return await office.api("POST", "/secrets", body)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value["kind"])
async def test_a_value_goes_in_and_no_answer_or_event_ever_holds_it(
    office: Office, value: dict[str, str]
) -> None:
    reply = await stored(office, value=value)
    assert (reply.status, reply.json["kind"]) == (201, value["kind"])
    secret = reply.json["id"]
    answers = [
        reply,
        await office.api("GET", "/secrets"),
        await office.api("GET", f"/secrets/{secret}"),
        await office.api("POST", f"/secrets/{secret}/test", {}),
        await office.api("PUT", f"/secrets/{secret}", {"name": "x", "value": value}),
        await office.api("POST", f"/secrets/{secret}/rotate", {"value": value}),
        await office.api("POST", "/secrets", {"name": "y", "value": {**value, "kind": "none"}}),
        await office.api("POST", "/secrets", {"name": "y", "value": value, "allowed_hosts": [CANARY * 9]}),
        await office.api("POST", "/secrets", {"name": ["y"], "value": value}),
    ]
    everything = b"".join(each.body for each in answers)
    everything += b"".join(message.body for message in office.domain_log.messages)
    assert CANARY.encode() not in everything.replace((CANARY * 9).encode(), b"")


async def test_the_log_knows_name_kind_and_hosts(office: Office) -> None:
    reply = await stored(office)
    assert reply.json["allowed_hosts"] == ["api.github.com"]
    await office.api("DELETE", f"/secrets/{reply.json['id']}")
    assert recorded(office, "secret") == [
        SecretStored(name="github", kind="bearer", allowed_hosts=("api.github.com",)),
        SecretDeleted(),
    ]


async def test_a_name_is_taken_once(office: Office) -> None:
    await stored(office)
    reply = await stored(office)
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert len(recorded(office, "secret")) == 1


@pytest.mark.parametrize("host", ["*", "*.*", "a b", "http://x", "x/y", ""])
async def test_a_host_is_a_name_and_not_wider(office: Office, host: str) -> None:
    reply = await stored(office, allowed_hosts=[host])
    assert (reply.status, reply.json["errors"][0]["pointer"]) == (400, "/allowed_hosts")


async def test_a_rotation_keeps_name_and_hosts_and_the_old_value_for_a_while(office: Office) -> None:
    secret = (await stored(office)).json["id"]
    reply = await office.api("POST", f"/secrets/{secret}/rotate", {"value": VALUES[2], "keep_previous_s": 5})
    assert (reply.json["name"], reply.json["allowed_hosts"]) == ("github", ["api.github.com"])
    assert reply.json["previous_until"] == "2026-11-21T12:00:05Z"
    assert reply.json["revision"] == 2


async def test_what_is_deleted_is_gone(office: Office) -> None:
    secret = (await stored(office)).json["id"]
    assert (await office.api("DELETE", f"/secrets/{secret}")).status == 204
    for method, path, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/test", {}),
        ("POST", "/rotate", {"value": VALUES[2]}),
        ("PUT", "", {"name": "x", "value": VALUES[2]}),
    ):
        assert (await office.api(method, f"/secrets/{secret}{path}", body)).status == 404


class Listener:
    """A server that remembers what it was sent."""

    def __init__(self) -> None:
        self.authorization: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        self.authorization += [value.decode() for name, value in scope["headers"] if name == b"authorization"]
        await send_whole(send, 418, b"text/plain", b"what only the other side knows")


async def test_a_secret_is_tried_at_one_of_its_hosts_and_only_the_status_is_told(office: Office) -> None:
    listener = Listener()
    async with serving(listener, "127.0.0.1", 0) as server:
        with Trying(office, f"127.0.0.1/32:{server.port}"):
            url = f"http://127.0.0.1:{server.port}/me"
            secret = (await stored(office, allowed_hosts=["127.0.0.1"])).json["id"]
            reply = await office.api("POST", f"/secrets/{secret}/test", {"url": url})
            assert (reply.status, reply.json["status"], reply.json["error"]) == (200, 418, None)
            assert listener.authorization == [f"Bearer {CANARY}"]
            assert b"only the other side" not in reply.body
            bound = (await stored(office, name="other", allowed_hosts=["example.com"])).json["id"]
            refused = await office.api("POST", f"/secrets/{bound}/test", {"url": url})
            assert (refused.status, refused.json["status"]) == (200, None)
            assert "other hosts" in refused.json["error"]
            assert listener.authorization == [f"Bearer {CANARY}"]


class Trying:
    """Lets the office reach one address."""

    def __init__(self, office: Office, allowed: str) -> None:
        self._egress, self._secrets = Egress(parse_allowed(allowed)), office.parts.secrets

    def __enter__(self) -> None:
        self._before, self._secrets._egress = self._secrets._egress, self._egress

    def __exit__(self, *_: object) -> None:
        self._secrets._egress = self._before
        self._egress.close()


async def test_trying_a_secret_opens_no_way_into_the_network(office: Office) -> None:
    listener = Listener()
    async with serving(listener, "127.0.0.1", 0) as server:
        secret = (await stored(office, allowed_hosts=["127.0.0.1", "localhost"])).json["id"]
        answers = [
            (await office.api("POST", f"/secrets/{secret}/test", {"url": url})).json["error"]
            for url in (
                f"http://127.0.0.1:{server.port}/",
                f"http://localhost:{server.port}/",
                "http://127.0.0.1:1/",
            )
        ]
    assert listener.authorization == []
    assert len(set(answers)) == 1


# --- API keys ---------------------------------------------------------------------------------


async def test_a_new_key_is_told_once_and_opens_what_it_was_given(office: Office) -> None:
    reply = await office.api("POST", "/keys", {"name": "ci", "scopes": ["runs:read", "vars:read"]})
    key = reply.json["key"]
    assert key.startswith(f"ao_live_{reply.json['id']}_")
    assert api_key_hash(key) is not None
    assert (await office.api("GET", "/vars", key=key)).status == 200
    assert (await office.api("PUT", "/vars", {"vars": {}}, key=key)).status == 403
    listed = await office.api("GET", "/keys")
    assert key.encode() not in listed.body + b"".join(each.body for each in office.domain_log.messages)
    assert {each["name"] for each in listed.json["items"]} == {"test", "ci"}
    assert recorded(office, "key") == [KeyIssued(name="ci", scopes=("runs:read", "vars:read"))]


async def test_a_key_cannot_make_itself_mightier(office: Office) -> None:
    weak = await office.key_for("org_default", ["keys:write"])
    reply = await office.api("POST", "/keys", {"name": "x", "scopes": sorted(SCOPES)}, key=weak)
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
    assert len(await office.vault.list_keys("org_default")) == 2


@pytest.mark.parametrize("scopes", [[], ["*"], ["runs:read", "nothing"], ["x" * 65]])
async def test_a_key_has_scopes_that_exist(office: Office, scopes: list[str]) -> None:
    assert (await office.api("POST", "/keys", {"name": "x", "scopes": scopes})).status == 400


async def test_a_key_ends_when_it_expires(office: Office) -> None:
    body = {"name": "x", "scopes": ["vars:read"], "expires": "2026-11-21T13:00:00Z"}
    key = (await office.api("POST", "/keys", body)).json["key"]
    assert (await office.api("GET", "/vars", key=key)).status == 200
    office.clock.moved = timedelta(hours=1).total_seconds()
    assert (await office.api("GET", "/vars", key=key)).status == 401
    late = await office.api("POST", "/keys", body)
    assert (late.status, late.json["errors"][0]["pointer"]) == (400, "/expires")


async def test_a_revoked_key_is_refused_and_revoking_it_again_changes_nothing(office: Office) -> None:
    issued = (await office.api("POST", "/keys", {"name": "x", "scopes": ["vars:read"]})).json
    for _ in range(2):
        assert (await office.api("DELETE", f"/keys/{issued['id']}")).status == 204
    assert (await office.api("GET", "/vars", key=issued["key"])).status == 401
    assert recorded(office, "key")[1:] == [KeyRevoked()]


async def test_the_key_of_the_first_start_can_be_revoked_although_no_event_made_it(office: Office) -> None:
    own = (await office.vault.list_keys("org_default"))[0].id
    assert (await office.api("DELETE", f"/keys/{own}")).status == 204
    assert (await office.api("GET", "/vars")).status == 401
