"""Bad input at the API's edge: one problem, the right code, never a 500."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.errors import ERRORS
from contracts.limits import API_BODY_BYTES
from tests.gateway.fakes import Exchange, Office, open_office, scope_of


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        b"null",
        b'{"name":"\xff"}',
        rb'{"name":"\ud800"}',
        rb'{"name":"a\u0000b"}',
        b'{"name":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"name":' + b"9" * 300 + b"}",
        b'{"name":"' + b"x" * 201 + b'"}',
        b'{"name":"x","definition":{"nodes":[{"id":"a","type":"echo","config":{"n":' + b"9" * 300 + b"}}]}}",
        rb'{"name":"x","definition":{"nodes":[{"id":"a","type":"echo","config":{"\u0000":1}}]}}',
    ],
)
async def test_a_body_that_is_not_the_command_is_malformed(office: Office, raw: bytes) -> None:
    reply = await office.api("POST", "/workflows", raw=raw)
    assert (reply.status, reply.json["code"]) == (400, "malformed")
    assert reply.headers["content-type"] == "application/problem+json"
    assert office.domain_log.messages == []


async def test_a_body_that_is_missing_is_malformed(office: Office) -> None:
    reply = await office.api("POST", "/workflows")
    assert (reply.status, reply.json["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
    ],
)
async def test_a_body_of_another_type_is_not_read(office: Office, content_type: str) -> None:
    reply = await office.api("POST", "/workflows", {"name": "x"}, content_type=content_type)
    assert (reply.status, reply.json["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json", 'Application/JSON; charset="UTF-8"'])
async def test_json_may_be_called_so_in_any_case(office: Office, content_type: str) -> None:
    assert (await office.api("POST", "/workflows", {"name": "x"}, content_type=content_type)).status == 201


@pytest.mark.parametrize(("size", "status"), [(API_BODY_BYTES, 400), (API_BODY_BYTES + 1, 413)])
async def test_a_body_has_a_bound(office: Office, size: int, status: int) -> None:
    raw = b'{"name":"' + b"x" * (size - 11) + b'"}'
    assert len(raw) == size
    assert (await office.api("POST", "/workflows", raw=raw)).status == status
    declared = await office.api("POST", "/workflows", raw=b"{}", content_length=str(size))
    assert declared.status == status


async def test_a_stranger_makes_us_read_no_body(office: Office) -> None:
    exchange = Exchange(b"x" * 100)
    await office.app(scope_of("POST", "/api/v1/workflows", {}), exchange.receive, exchange.send)
    assert exchange.status == 401
    assert not exchange.asked


async def test_an_address_that_is_not_there_is_not_found(office: Office) -> None:
    for path in ("/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v2/workflows", "/", "/api/v1/workflows/x/y"):
        reply = await office.ask("GET", path)
        assert (reply.status, reply.json["code"]) == (404, "not_found")


async def test_a_method_that_is_not_taken_is_told_with_those_that_are(office: Office) -> None:
    reply = await office.api("PATCH", "/vars")
    assert (reply.status, reply.json["code"]) == (405, "method_not_allowed")
    assert set(reply.headers["allow"].replace(" ", "").split(",")) >= {"GET", "PUT"}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "limit=1e3",
        "cursor=" + "x" * 401,
        "cursor=!!!",
        "cursor=bm8",
        "cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwiYSJd",  # A time without its offset.
        "cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsIlx1MDAwMCJd",  # A NUL.
        "status=running&status=nothing",
        "from=yesterday",
        "from=2026-01-01T00:00:00",
        "to=tomorrow",
    ],
)
async def test_a_parameter_that_does_not_fit_is_malformed(office: Office, query: str) -> None:
    reply = await office.api("GET", f"/runs?{query}")
    assert (reply.status, reply.json["code"]) == (400, "malformed")
    assert reply.json["errors"]


async def test_no_answer_may_be_kept_or_read_by_another_origin(office: Office) -> None:
    for reply in (
        await office.api("GET", "/vars", origin="https://evil.example"),
        await office.api("OPTIONS", "/vars", origin="https://evil.example"),
        await office.api("GET", "/nothing", origin="null"),
    ):
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert not [name for name in reply.headers if name.startswith("access-control")]


async def test_a_defect_is_told_by_its_trace_id_alone(office: Office) -> None:
    office.engine.broken = True
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    reply = await office.api(
        "POST",
        "/workflows/validate",
        {"definition": {"hunter2": 1}},
        traceparent=f"00-{trace}-00f067aa0ba902b7-01",
    )
    assert (reply.status, reply.json["code"], reply.json["trace_id"]) == (500, "internal", trace)
    assert b"hunter2" not in reply.body
    assert b"Traceback" not in reply.body


async def test_a_key_may_ask_so_often_and_is_told_when_to_come_again() -> None:
    class Spent:
        async def allow(self, key: str, per_minute: int) -> bool:
            assert per_minute == 600
            return False

        def seconds_left(self) -> int:
            return 17

    async with open_office(limit=Spent()) as office:
        reply = await office.api("GET", "/vars")
        assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (429, "rate_limited", "17")
        assert (await office.ask("GET", "/healthz", key="")).status == 200
        assert (await office.api("GET", "/vars", key="x")).status == 401


async def test_while_the_vault_is_away_nobody_gets_in(office: Office) -> None:
    office.vault.away = True
    reply = await office.api("GET", "/vars")
    assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "unavailable", "1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
WRITES = [
    ("POST", "/workflows"),
    ("POST", "/workflows/validate"),
    ("POST", "/triggers"),
    ("POST", "/runs"),
    ("PUT", "/vars"),
    ("PUT", "/limits"),
    ("POST", "/secrets"),
    ("POST", "/keys"),
    ("PUT", "/workflows/x/name"),
    ("POST", "/runs/x/resolve"),
]


@pytest.mark.parametrize("route", WRITES, ids=" ".join)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(value=JSON)
async def test_no_json_makes_a_route_fail(office: Office, route: tuple[str, str], value: Any) -> None:
    """Z2 in small: whatever JSON comes, the answer is one of ours."""
    reply = await office.api(*route, raw=json.dumps(value).encode())
    assert reply.status < 500
    if reply.status >= 400:
        assert reply.json["code"] in ERRORS
