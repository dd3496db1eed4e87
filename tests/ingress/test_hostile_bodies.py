"""Whatever a stranger sends to a webhook is accepted or refused with a reason; nothing of it is a defect."""

import json
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.edge.problems import Problem
from chassis.sealing import Place, Sealer, new_data_key, new_salt
from contracts.errors import ERRORS
from contracts.triggers import ExpressionKey, Github, Hmac, Preset, Slack, StandardWebhooks, Stripe, Webhook
from tests.ingress.doors import Room

KEY: Final = new_data_key("org_default", 1)
SALT: Final = new_salt()
TYPES: Final = (
    "application/json", "application/json; charset=utf-16", "application/vnd.x+json", "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary=", "text/plain; charset=latin-1",
    "text/plain; charset=no-such", "application/octet-stream", "", "x", "a/b; c", "application/json;;;", "TEXT/XML",
)  # fmt: skip
JSONS: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
).map(lambda value: json.dumps(value).encode())
PARTS: Final = st.lists(
    st.sampled_from(
        [
            b"--b\r\n", b"--b--\r\n", b"\r\n", b'Content-Disposition: form-data; name="a"\r\n', b"Content-Type: text/plain\r\n",
            b'Content-Disposition: form-data; name="f"; filename="../\xff\0"\r\n', b"value", b"--b", b"\0" * 10, b"Content-Length: -1\r\n",
        ]
    ) | st.binary(max_size=20),
    max_size=12,
).map(b"".join)  # fmt: skip
FORMS: Final = st.lists(
    st.sampled_from([b"a=1", b"&", b"=", b"%zz", b"%00", b"%f0%9f", b"a[b]=", b"+", b";"]), max_size=12
).map(b"".join)
HOSTILE: Final = st.sampled_from(
    [
        b"[" * 5_000, b'{"a":' * 5_000, b"9" * 300, b'"\\u0000"', b'"\\ud800"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"nul", b"{}{}", b"NaN",
        b'{"a":1,"a":2}', b"-0.0", b"1e999", b'{"challenge":"x","type":"url_verification"}', b"",
    ]
)  # fmt: skip
BODIES: Final = JSONS | PARTS | FORMS | HOSTILE | st.binary(max_size=200)
HEADERS: Final = st.dictionaries(
    st.sampled_from(
        ["x-hub-signature-256", "x-github-delivery", "stripe-signature", "x-slack-signature", "x-slack-request-timestamp",
         "webhook-id", "webhook-timestamp", "webhook-signature", "idempotency-key", "x-signature", "content-encoding"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)
    | st.sampled_from(["sha256=" + "0" * 64, "t=1,v1=00", "v1,AAAA", "1_700", ".9", "٣", "v0=", "9" * 400, "gzip"]),
    max_size=5,
)  # fmt: skip
DOORS: Final = {
    "open": Webhook(),
    "sealing": Webhook(sensitive=("/a", "/*/b", "")),
    "github": Webhook(
        authentication=Github(secret="signing"), dedupe=Preset(preset="github")
    ),  # A secret's id.
    "stripe": Webhook(authentication=Stripe(secret="signing"), dedupe=Preset(preset="stripe")),
    "slack": Webhook(authentication=Slack(secret="signing"), dedupe=Preset(preset="slack")),
    "standard": Webhook(
        authentication=StandardWebhooks(secret="signing"),
        dedupe=Preset(preset="standard_webhooks"),
    ),
    "hmac": Webhook(
        authentication=Hmac(secret="signing", header="x-signature", timestamp_header="webhook-timestamp"),
        dedupe=Preset(preset="idempotency_key"),
    ),
    "keyed": Webhook(dedupe=ExpressionKey(expression="trigger.body.a + string(trigger.headers.size())")),
    "responding": Webhook(mode="respond", respond_timeout_s=0.1),
}


@pytest.mark.parametrize("door", sorted(DOORS))
def test_whatever_is_sent_is_accepted_or_refused_with_a_reason(door: str) -> None:
    statuses: set[int] = set()

    async def story(room: Room) -> None:
        for body, kind, headers in deliveries:
            statuses.add(await answered(room, body, kind, headers))

    deliveries: list[tuple[bytes, str, dict[str, str]]] = []

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(BODIES, st.sampled_from(TYPES), HEADERS)
    def collect(body: bytes, kind: str, headers: dict[str, str]) -> None:
        deliveries.append((body, kind, headers))

    collect()
    room = Room(DOORS[door])
    room.keys.sealer = sealer  # type: ignore[method-assign]  # One that is there.
    room.run(story)
    assert len(deliveries) >= 100
    assert statuses & ({202} if door in ("open", "sealing") else {202, 400, 401, 504})


async def sealer(org: str, run: str) -> tuple[str, Sealer]:
    place = Place(org=org, object=run, field="value")
    return "salt", Sealer(KEY, SALT, "run.value", place)


async def answered(room: Room, body: bytes, kind: str, headers: dict[str, str]) -> int:
    """The status; what is not a `Problem` is a defect and ends the test."""
    before = len(room.starts)
    try:
        status = int((await room.deliver(body, content_type=kind, **headers)).status)
    except Problem as refused:
        problem: Problem | None = refused
    else:
        problem = None
    if problem is None:
        assert status in (200, 202, 401), (body, kind, headers, status)
        return status
    assert problem.code in ERRORS
    assert problem.status < 500 or problem.status == 504, (body, kind, headers, problem)
    assert len(room.starts) == before or problem.status == 504
    return problem.status
