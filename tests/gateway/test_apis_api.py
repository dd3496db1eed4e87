"""Importing APIs over HTTP: node types of one org, a new version each time that something is new."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chassis.egress import Egress, parse_allowed
from chassis.secluded import Secluded
from chassis.secret import HeaderSecret, Secret
from contracts.apis import ApiImport, OrgApiImported, OrgApiRemoved
from contracts.codec import decode_domain_commit, encode
from contracts.limits import APIS, APIS_BYTES
from contracts.messages import CompileRequest
from contracts.payloads import Blob
from gateway.apis.store import AT_ONCE, Apis
from gateway.orgs.rules import ORG, ApiState, OrgState, import_api
from gateway.rejected import Rejected
from gateway.workflows.compiling import RemoteCompiler, named_types, request_of
from tests.executor.servers import says, serving
from tests.gateway.fakes import Office

PETSTORE = (Path(__file__).parent / "documents" / "petstore.yaml").read_text()


def document(**paths: Any) -> str:
    info = {"title": "Small", "version": "1"}
    return json.dumps(
        {"openapi": "3.1.0", "info": info, "servers": [{"url": "http://small.example.com"}], "paths": paths}
    )


SMALL = document(**{"/a": {"get": {"operationId": "a"}}, "/b": {"get": {"operationId": "b"}}})


async def brought(office: Office, name: str = "pets", text: str = PETSTORE, **more: Any) -> Any:
    return await office.api("POST", "/apis", {"name": name, "document": text, **more})


async def test_an_import_becomes_node_types_of_the_org(office: Office) -> None:
    reply = await brought(office)
    assert (reply.status, reply.json["version"], reply.json["title"]) == (200, 1, "Petstore")
    assert reply.json["operations"][0] == {
        "type": "api.pets.list_pets", "title": "All pets", "method": "GET", "path": "/pets",
    }  # fmt: skip
    assert len(reply.json["changes"]["added"]) == 4
    types = (await office.api("GET", "/node-types")).json["items"]
    assert [each["type"] for each in types if each["type"].startswith("api.")] == [
        "api.pets.create_pet",
        "api.pets.get_pets_pet_id",
        "api.pets.list_pets",
        "api.pets.pets_photo_upload",
    ]
    one = (await office.api("GET", "/node-types/api.pets.list_pets")).json
    assert one["config"]["properties"]["query"]["properties"]["limit"]["maximum"] == 100
    assert (await office.api("GET", "/apis")).json["items"] == [
        {"name": "pets", "title": "Petstore", "version": 1, "operations": 4}
    ]


async def test_an_import_again_is_a_new_version_and_tells_the_difference(office: Office) -> None:
    await brought(office, "small", SMALL)
    assert (await brought(office, "small", SMALL)).json["version"] == 1
    changed = document(
        **{"/b": {"get": {"operationId": "b", "summary": "New"}}, "/c": {"get": {"operationId": "c"}}}
    )
    reply = await brought(office, "small", changed)
    assert reply.json["version"] == 2
    assert reply.json["changes"] == {
        "added": ["api.small.c"], "changed": ["api.small.b"], "removed": ["api.small.a"], "same": 0,
    }  # fmt: skip
    assert (await office.api("GET", "/apis/small/versions/2")).json == reply.json
    first = (await office.api("GET", "/apis/small/versions/1")).json
    assert [each["type"] for each in first["operations"]] == ["api.small.a", "api.small.b"]
    assert (await office.api("GET", "/apis/small")).json["version"] == 2
    assert (await office.api("GET", "/node-types/api.small.a")).status == 404
    assert (await office.api("GET", "/node-types/api.small.a@1")).json["type"] == "api.small.a"
    assert (await office.api("GET", "/node-types/api.small.b")).json["title"] == "New"
    assert (await office.api("GET", "/node-types/api.small.b@1")).json["title"] == "GET /b"


async def test_what_is_removed_is_offered_no_more_and_comes_back_as_a_further_version(office: Office) -> None:
    await brought(office, "small", SMALL)
    assert (await office.api("DELETE", "/apis/small")).status == 204
    assert (await office.api("DELETE", "/apis/small")).status == 404
    assert (await office.api("GET", "/apis/small")).status == 404
    assert (await office.api("GET", "/apis")).json["items"] == []
    assert (await office.api("GET", "/node-types/api.small.a")).status == 404
    assert (await office.api("GET", "/node-types/api.small.a@1")).status == 200
    reply = await brought(office, "small", SMALL)
    assert (reply.json["version"], len(reply.json["changes"]["added"])) == (2, 2)
    events = [
        event
        for stored in office.domain_log.messages
        for event in decode_domain_commit(stored.body, "org").events
        if isinstance(event, OrgApiImported | OrgApiRemoved)
    ]
    assert [type(event).__name__ for event in events] == ["OrgApiImported", "OrgApiRemoved", "OrgApiImported"]


async def test_another_org_sees_nothing_of_it(office: Office) -> None:
    await brought(office, "small", SMALL)
    other = await office.key_for("acme")
    assert (await office.api("GET", "/apis", key=other)).json["items"] == []
    for path in (
        "/apis/small",
        "/apis/small/versions/1",
        "/node-types/api.small.a",
        "/node-types/api.small.a@1",
    ):
        assert (await office.api("GET", path, key=other)).status == 404, path
    assert (await office.api("DELETE", "/apis/small", key=other)).status == 404
    types = (await office.api("GET", "/node-types", key=other)).json["items"]
    assert [each["type"] for each in types] == ["echo"]
    assert await office.apis.imports("acme", [("api.small.a", None), ("api.small.a", 1)]) == []


async def test_reading_and_importing_are_different_rights(office: Office) -> None:
    reader = await office.key_for("org_default", ["nodes:read"])
    assert (await office.api("GET", "/apis", key=reader)).status == 200
    assert (await office.api("POST", "/apis", {"name": "x", "document": SMALL}, key=reader)).status == 403
    assert (await office.api("DELETE", "/apis/x", key=reader)).status == 403


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("a: &a [*a]", "/a/0"),
        ("[" * 100_000, ""),
        (document(**{"/a": {"get": {"parameters": [{"$ref": "http://127.0.0.1/x"}]}}}), "/paths/~1a/get/parameters/0/$ref"),
        ("<html>", ""),
    ],
)  # fmt: skip
async def test_a_bad_document_is_refused_with_its_place(office: Office, text: str, pointer: str) -> None:
    reply = await brought(office, text=text)
    assert (reply.status, reply.json["code"]) == (422, "api.bad_document")
    assert [each["pointer"] for each in reply.json["errors"]] == [pointer]
    assert (await office.api("GET", "/apis")).json["items"] == []


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("Pets", {"document": SMALL}, 400), ("a" * 33, {"document": SMALL}, 400), ("a.b", {"document": SMALL}, 400),
        ("a", {}, 400), ("a", {"document": SMALL, "url": "http://x.example.com"}, 400), ("a", {"document": 7}, 400),
        ("a", {"document": SMALL, "server": "ftp://x"}, 422), ("a", {"document": SMALL, "more": 1}, 400),
    ],
)  # fmt: skip
async def test_a_wish_that_does_not_fit_is_refused(office: Office, name: str, body: Any, status: int) -> None:
    assert (await office.api("POST", "/apis", {"name": name, **body})).status == status


async def test_a_document_that_takes_too_long_to_read_is_refused(office: Office) -> None:
    office.apis._reader = Secluded("gateway.apis.reader", seconds=0.001, most=1_000_000)
    reply = await brought(office)
    assert (reply.status, reply.json["code"]) == (422, "api.bad_document")
    assert "more than 0.001 seconds" in reply.json["errors"][0]["message"]


async def test_more_imports_at_once_than_are_read_soon_are_refused(office: Office) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(brought(office, f"a{number}", SMALL)) for number in range(AT_ONCE + 2)]
    replies = [each.result() for each in asked]
    assert sorted(reply.status for reply in replies) == [200] * AT_ONCE + [503] * 2
    assert {reply.headers.get("retry-after") for reply in replies if reply.status == 503} == {"5"}
    assert len((await office.api("GET", "/apis")).json["items"]) == AT_ONCE


# --- By URL -----------------------------------------------------------------------------------------


def through(office: Office, allow: str) -> None:
    office.apis._egress = Egress(parse_allowed(allow))


async def test_a_document_is_fetched_through_the_guard(office: Office) -> None:
    async with serving(says(body=SMALL.encode())) as server:
        reply = await office.api("POST", "/apis", {"name": "small", "url": f"{server.url}/openapi.json"})
        assert (reply.status, reply.json["errors"][0]["pointer"]) == (422, "/url")
        assert server.asked == []
        through(office, "127.0.0.1/32:*")
        reply = await office.api("POST", "/apis", {"name": "small", "url": f"{server.url}/openapi.json"})
        assert (reply.status, len(reply.json["operations"])) == (200, 2)


async def test_a_secret_fetches_from_its_own_hosts_only(office: Office) -> None:
    through(office, "127.0.0.1/32:*")
    value = HeaderSecret(name="X-Key", value=Secret("CANARY-77"))
    await office.vault.put_secret("org_default", "s1", name="s", value=value, allowed_hosts=["127.0.0.1"])
    await office.vault.put_secret("org_default", "s2", name="t", value=value, allowed_hosts=["x.example.com"])
    async with serving(says(body=SMALL.encode())) as server:
        for secret, status in (("s1", 200), ("s2", 422), ("none", 404)):
            reply = await office.api("POST", "/apis", {"name": "small", "url": server.url, "secret": secret})
            assert (reply.status, b"CANARY" in reply.body) == (status, False)
        assert [asked.headers.get("x-key") for asked in server.asked] == ["CANARY-77"]


@pytest.mark.parametrize("status", ["404 Not Found", "500 Broken"])
async def test_an_answer_that_is_none_is_told(office: Office, status: str) -> None:
    through(office, "127.0.0.1/32:*")
    async with serving(says(status)) as server:
        reply = await office.api("POST", "/apis", {"name": "small", "url": server.url})
    assert reply.json["errors"] == [
        {"pointer": "/url", "message": f"The other side answered with status {status[:3]}."}
    ]


# --- What a compiler is told ------------------------------------------------------------------------


class Asked:
    """Where a compile request would go."""

    def __init__(self) -> None:
        self.requests: list[CompileRequest] = []

    def publish(self, subject: str, body: bytes, headers: Any = None) -> None:
        raise AssertionError("nothing is published")

    def listen(self, subject: str, heard: Any, group: str = "") -> Any:
        raise AssertionError("nobody listens")

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        self.requests.append(decode(body))
        return encode({"plan": "0" * 64})


class NoWorkers:
    """The org has none."""

    def named(self, org: str, kinds: Iterable[str]) -> list[Blob]:
        return []


def decode(body: bytes) -> CompileRequest:
    return msgspec.json.decode(body, type=CompileRequest)


async def told(apis: Apis, *nodes: Any) -> tuple[ApiImport, ...]:
    asked = Asked()
    definition = encode({"nodes": [*nodes], "edges": []})
    await RemoteCompiler(asked, apis, NoWorkers()).compile(
        request_of("org_default", "w", 1, definition, keep=False)
    )
    return asked.requests[0].imports


async def test_the_compiler_gets_the_versions_that_a_workflow_names(office: Office) -> None:
    await brought(office, "small", SMALL)
    await brought(office, "small", document(**{"/c": {"get": {"operationId": "c"}}}))
    await brought(office)
    newest = {"id": "a", "type": "api.small.c"}
    older = {"id": "b", "type": "api.small.a", "type_version": 1}
    assert [(each.name, each.version, each.newest) for each in await told(office.apis, newest)] == [
        ("small", 2, True)
    ]
    assert [(each.version, each.newest) for each in await told(office.apis, newest, older)] == [
        (1, False),
        (2, True),
    ]
    assert await told(office.apis, {"id": "a", "type": "echo"}, {"id": "b", "type": "api.none.x"}, 7) == ()
    await office.api("DELETE", "/apis/small")
    assert [(each.version, each.newest) for each in await told(office.apis, newest, older)] == [(1, False)]
    [pets] = await told(office.apis, {"id": "a", "type": "api.pets.list_pets"})
    assert pets.types.sha256 in office.blobs.kept


def test_what_cannot_be_read_names_no_types() -> None:
    assert named_types(b"{") == []
    assert named_types(b'{"nodes": [{"type": 7}, {"type": "api.a.b", "type_version": "x"}]}') == []


def test_an_org_has_so_many_apis_and_no_more() -> None:
    event = OrgApiImported(
        name="one", version=1, title="T", operations=1,
        document=Blob(sha256="0" * 64, size=1), types=Blob(sha256="0" * 64, size=1),
    )  # fmt: skip
    full = OrgState(apis={f"a{number}": ApiState(imports=(event,)) for number in range(APIS)})
    with pytest.raises(Rejected):
        import_api(full, event)
    assert import_api(ORG.evolve(full, OrgApiRemoved(name="a0")), event) == [event]
    with pytest.raises(Rejected):
        import_api(ORG.evolve(OrgState(), event), event)
    large = msgspec.structs.replace(event, types=Blob(sha256="0" * 64, size=APIS_BYTES))
    assert import_api(OrgState(), large) == [large]
    with pytest.raises(Rejected):
        import_api(ORG.evolve(OrgState(), event), msgspec.structs.replace(large, name="two"))
