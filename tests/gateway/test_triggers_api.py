"""Triggers over HTTP: their addresses, their secrets, and what they received."""

import re
from datetime import timedelta
from typing import Any

import pytest

from chassis.ids import digest
from chassis.secret import BasicSecret, HmacSecret, TextSecret, key_material
from contracts.codec import decode_domain_commit
from contracts.triggers import TriggerCreated, TriggerEvent
from tests.gateway.fakes import Office
from tests.gateway.stories import published, triggered


def recorded(office: Office) -> list[TriggerEvent]:
    return [
        event
        for stored in office.domain_log.messages
        if stored.subject.split(".")[2] == "trigger"
        for event in decode_domain_commit(stored.body, "trigger").events
    ]


async def with_scheme(office: Office, **authentication: str) -> Any:
    workflow = await published(office)
    body = {"name": "push", "workflow": workflow, "webhook": {"authentication": authentication}}
    return await office.api("POST", "/triggers", body)


async def test_an_address_holds_128_random_bits_of_which_only_the_hash_is_kept(office: Office) -> None:
    trigger = await triggered(office, await published(office))
    url, test_url = trigger["address"]["url"], trigger["address"]["test_url"]
    tokens = [
        re.fullmatch(r"https://hooks\.example\.com/hooks/([\w-]{22})", each) for each in (url, test_url)
    ]
    assert all(tokens)
    texts = [found[1] for found in tokens if found]
    created = next(event for event in recorded(office) if isinstance(event, TriggerCreated))
    assert [created.token, created.test_token] == [digest(text.encode()) for text in texts]
    everything = b"".join(stored.body for stored in office.domain_log.messages)
    assert not any(text.encode() in everything for text in texts)


async def test_a_new_token_replaces_the_old_address_at_once(office: Office) -> None:
    trigger = await triggered(office, await published(office))
    reply = await office.api("POST", f"/triggers/{trigger['id']}/rotate-token")
    assert reply.status == 200
    token = reply.json["url"].rpartition("/")[2]
    state = office.directory.trigger("org_default", trigger["id"])
    await office.directory.reached(len(office.domain_log.messages))
    state = office.directory.trigger("org_default", trigger["id"])
    assert state is not None
    assert state.token == digest(token.encode())
    assert reply.json["url"] != trigger["address"]["url"]


@pytest.mark.parametrize(
    ("authentication", "kind"),
    [
        ({"scheme": "github"}, HmacSecret),
        ({"scheme": "hmac", "header": "x-signature"}, HmacSecret),
        ({"scheme": "standard_webhooks"}, HmacSecret),
        ({"scheme": "header_token", "header": "x-token"}, TextSecret),
        ({"scheme": "basic"}, BasicSecret),
    ],
)
async def test_a_secret_is_generated_told_once_and_kept_in_the_vault_alone(
    office: Office, authentication: dict[str, str], kind: type
) -> None:
    reply = await with_scheme(office, secret="generate", **authentication)
    assert reply.status == 201
    secret = reply.json["secret"]
    opened = await office.vault.open("org_default", secret["id"])
    assert isinstance(opened.value, kind)
    assert key_material(opened.value).reveal_text() == secret["text"]
    state = await office.parts.triggers.state("org_default", reply.json["id"])
    assert state.webhook.authentication.secret == secret["id"]  # type: ignore[union-attr]  # Every scheme but none.
    everything = b"".join(stored.body for stored in office.domain_log.messages)
    assert secret["text"].encode() not in everything
    assert secret["text"].encode() not in (await office.api("GET", "/secrets")).body


@pytest.mark.parametrize("scheme", ["stripe", "slack"])
async def test_a_secret_that_the_sender_gives_is_not_generated(office: Office, scheme: str) -> None:
    reply = await with_scheme(office, scheme=scheme, secret="generate")
    assert (reply.status, reply.json["code"]) == (400, "malformed")


async def test_a_secret_that_is_not_there_or_belongs_to_others_cannot_be_named(office: Office) -> None:
    theirs = await office.api(
        "POST",
        "/secrets",
        {"name": "x", "value": {"kind": "hmac", "key": "k"}},
        key=await office.key_for("other"),
    )
    for secret in ("nothing", theirs.json["id"]):
        reply = await with_scheme(office, scheme="github", secret=secret)
        assert (reply.status, reply.json["code"]) == (422, "secret.missing")
    assert recorded(office) == []


async def test_during_a_rotation_both_keys_are_taken(office: Office) -> None:
    trigger = (await with_scheme(office, scheme="github", secret="generate")).json
    path = f"/triggers/{trigger['id']}/rotate-secret"
    reply = await office.api("POST", path, {"keep_previous_s": 60})
    assert (reply.status, reply.json["secret"]) == (200, trigger["secret"]["id"])
    assert reply.json["text"] != trigger["secret"]["text"]
    described = await office.vault.describe("org_default", trigger["secret"]["id"])
    assert described.previous_until == office.clock.now() + timedelta(seconds=60)


async def test_a_rotation_may_bring_its_own_value_which_is_not_told_back(office: Office) -> None:
    trigger = (await with_scheme(office, scheme="github", secret="generate")).json
    body = {"value": {"kind": "hmac", "key": "from the sender"}}
    reply = await office.api("POST", f"/triggers/{trigger['id']}/rotate-secret", body)
    assert reply.json["text"] is None
    assert b"from the sender" not in reply.body


async def test_a_trigger_without_a_secret_has_none_to_rotate(office: Office) -> None:
    trigger = await triggered(office, await published(office))
    reply = await office.api("POST", f"/triggers/{trigger['id']}/rotate-secret", {})
    assert (reply.status, reply.json["code"]) == (409, "conflict")


async def test_settings_are_replaced_whole_and_the_address_stays(office: Office) -> None:
    trigger = await triggered(office, await published(office))
    before = await office.parts.triggers.state("org_default", trigger["id"])
    body = {"name": "renamed", "webhook": {"mode": "respond", "methods": ["POST", "PUT"]}}
    assert (await office.api("PUT", f"/triggers/{trigger['id']}", body)).status == 200
    after = await office.parts.triggers.state("org_default", trigger["id"])
    assert (after.name, after.webhook.mode, after.webhook.methods) == ("renamed", "respond", ("POST", "PUT"))
    assert (after.token, after.plan) == (before.token, before.plan)


@pytest.mark.parametrize(
    "webhook",
    [
        {"sensitive": ["no pointer"]},
        {"methods": []},
        {"methods": ["TRACE"]},
        {"body_bytes": 10 * 1024 * 1024 + 1},
        {"respond_timeout_s": 121},
        {"dedupe": {"by": "body"}},
        {"authentication": {"scheme": "none-of-these"}},
        {"authentication": {"scheme": "header_token", "header": "x\r\ny", "secret": "s"}},
    ],
)
async def test_settings_that_cannot_be_meant_are_refused(office: Office, webhook: dict[str, Any]) -> None:
    workflow = await published(office)
    reply = await office.api("POST", "/triggers", {"name": "x", "workflow": workflow, "webhook": webhook})
    assert (reply.status, reply.json["code"]) == (400, "malformed")
    assert recorded(office) == []


async def test_a_trigger_is_disabled_enabled_and_deleted(office: Office) -> None:
    trigger = (await triggered(office, await published(office)))["id"]
    for verb, enabled in (("disable", False), ("disable", False), ("enable", True)):
        assert (await office.api("POST", f"/triggers/{trigger}/{verb}")).status == 204
        assert (await office.parts.triggers.state("org_default", trigger)).enabled is enabled
    assert (await office.api("DELETE", f"/triggers/{trigger}")).status == 204
    for method, path in (("DELETE", ""), ("POST", "/enable"), ("POST", "/rotate-token")):
        assert (await office.api(method, f"/triggers/{trigger}{path}")).status == 404


async def keyed_by(office: Office, expression: str, trigger: str = "") -> Any:
    webhook = {"dedupe": {"by": "expression", "expression": expression}}
    if trigger:
        return await office.api("PUT", f"/triggers/{trigger}", {"name": "push", "webhook": webhook})
    body = {"name": "push", "workflow": await published(office), "webhook": webhook}
    return await office.api("POST", "/triggers", body)


@pytest.mark.parametrize(
    ("expression", "position", "said"),
    [
        ("trigger.body.order.", 19, "at input '.'"),
        ("", None, "length >= 1"),
        ("   ", 0, "the expression is empty"),
        ("nonsense(trigger.body)", 8, "no function `nonsense`"),
        ("trigger.body.id + steps.a.output", 18, "`steps` is not there"),
        ("vars.id", 0, "`vars` is not there"),
        ("string(trigger.received_at)", 7, "`trigger.received_at` is not there"),
        ("'always the same'", 0, "reads nothing of the delivery"),
        ("trigger.body." + "x" * 4090, None, "length <= 4096"),
    ],
)
async def test_a_dedupe_key_that_cannot_work_is_refused_when_it_is_written(
    office: Office, expression: str, position: int | None, said: str
) -> None:
    trigger = await triggered(office, await published(office))
    before = len(recorded(office))
    for reply in (await keyed_by(office, expression), await keyed_by(office, expression, trigger["id"])):
        if position is None:
            assert reply.status == 400
            (error,) = reply.json["errors"]
            assert (error["pointer"], said in error["message"]) == ("/webhook/dedupe/expression", True)
            continue
        assert reply.status == 422
        assert reply.json["code"] == "workflow.bad_expression"
        fault = reply.json["faults"][0]
        assert (fault["code"], fault["pointer"]) == ("workflow.bad_expression", "/webhook/dedupe/expression")
        assert said in fault["message"]
        assert fault["position"] == position
    assert len(recorded(office)) == before


async def test_every_fault_of_a_dedupe_key_is_told_at_once(office: Office) -> None:
    reply = await keyed_by(office, "vars.a == run.id ? trigger.body.id : item")
    assert [fault["position"] for fault in reply.json["faults"]] == [0, 10, 37]


async def test_a_dedupe_key_that_works_is_taken(office: Office) -> None:
    for expression in (
        "trigger.body.order.id",
        "trigger.headers['x-id'] + trigger.query.part",
        "trigger.body",
    ):
        reply = await keyed_by(office, expression)
        assert reply.status == 201, reply.body
        assert (
            await keyed_by(office, "trigger.method + trigger.content_type", reply.json["id"])
        ).status == 200
