"""What a node of an imported API sends, page after page, as whom, and when it leaves doubt; against a server on 127.0.0.1."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest

from chassis.secret import BasicSecret, BearerSecret, HeaderSecret, Secret, SecretValue, TextSecret
from contracts.apis import ApiBody, ApiCall, ApiParameter, ApiScheme
from contracts.codec import decode_json
from contracts.messages import Outcome, StepBroken, StepDone, StepInDoubt
from contracts.payloads import Inline
from executor.calls import Values
from executor.errors import BadConfig
from tests.executor.fakes import STEP, World, task, until
from tests.executor.servers import Asked, Reply, says, serving

KEY = "CANARY-k3y"


def parameter(name: str, where: Any, style: Any = "form", **more: Any) -> ApiParameter:
    return ApiParameter(name=name, where=where, style=style, **more)


def call(method: Any = "GET", path: str = "/things", *parameters: ApiParameter, **more: Any) -> ApiCall:
    return ApiCall(method=method, path=path, parameters=parameters, **more)


async def attempted(
    reply: Reply, template: ApiCall, world: World | None = None, **given: Any
) -> tuple[Outcome, list[Asked]]:
    """The outcome of one attempt, and what the server was asked."""
    world = world or World(allow="127.0.0.0/8:*")
    async with serving(reply) as server, world.executor():
        given.setdefault("server", server.url + "/v1")
        schemes = [
            ApiScheme(**{name: getattr(each, name) for name in each.__struct_fields__} | {"token_url": f"{server.url}/token"})
            if each.kind == "oauth2" else each
            for each in template.schemes
        ]  # fmt: skip
        template = ApiCall(
            **{name: getattr(template, name) for name in template.__struct_fields__}
            | {"schemes": tuple(schemes)}
        )
        config = {"call": template, "with": given}
        secrets = ("/with/auth",)
        world.source.put(
            task(config, node_type="api.shop.thing", repeat="no", secrets=secrets, timeout_s=20.0)
        )
        await until(lambda: world.outcomes)
    assert KEY not in str(world.outcomes)
    assert KEY not in str(world.said)
    return world.outcomes[0], server.asked


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, StepDone), outcome
    assert isinstance(outcome.output, Inline)
    return decode_json(outcome.output.value)


def broken(outcome: Outcome) -> StepBroken:
    assert isinstance(outcome, StepBroken), outcome
    return outcome


# --- How values are written (the table of the OpenAPI specification) ----------------------------------

LIST, OBJECT = ["blue", "black", "brown"], {"R": 100, "G": 200}


@pytest.mark.parametrize(
    ("style", "explode", "value", "written"),
    [
        ("simple", False, "blue", "blue"), ("simple", False, LIST, "blue,black,brown"),
        ("simple", False, OBJECT, "R,100,G,200"), ("simple", True, OBJECT, "R=100,G=200"),
        ("label", False, "blue", ".blue"), ("label", False, LIST, ".blue,black,brown"),
        ("label", True, LIST, ".blue.black.brown"), ("label", False, OBJECT, ".R,100,G,200"),
        ("label", True, OBJECT, ".R=100.G=200"), ("matrix", False, "blue", ";p=blue"),
        ("matrix", False, LIST, ";p=blue,black,brown"), ("matrix", True, LIST, ";p=blue;p=black;p=brown"),
        ("matrix", False, OBJECT, ";p=R,100,G,200"), ("matrix", True, OBJECT, ";R=100;G=200"),
        ("simple", False, "a/b?c#d ü%", "a%2Fb%3Fc%23d%20%C3%BC%25"), ("simple", False, True, "true"),
    ],
)  # fmt: skip
def test_values_in_the_path_are_written_in_their_style(
    style: str, explode: bool, value: Any, written: str
) -> None:
    template = call("GET", "/x/{p}/y", parameter("p", "path", style, explode=explode, required=True))
    url = Values(template, {"path": {"p": value}}).url("http://h/v1/", {})
    assert url == f"http://h/v1/x/{written}/y"


@pytest.mark.parametrize(
    ("style", "explode", "value", "written"),
    [
        ("form", True, "a&b=c", "?p=a%26b%3Dc"), ("form", False, LIST, "?p=blue,black,brown"),
        ("form", True, LIST, "?p=blue&p=black&p=brown"), ("form", False, OBJECT, "?p=R,100,G,200"),
        ("form", True, OBJECT, "?R=100&G=200"), ("spaceDelimited", False, LIST, "?p=blue%20black%20brown"),
        ("pipeDelimited", False, LIST, "?p=blue%7Cblack%7Cbrown"), ("deepObject", True, OBJECT, "?p%5BR%5D=100&p%5BG%5D=200"),
        ("form", True, None, ""), ("form", True, 1.5, "?p=1.5"), ("form", True, [], ""),
    ],
)  # fmt: skip
def test_values_in_the_query_are_written_in_their_style(
    style: str, explode: bool, value: Any, written: str
) -> None:
    template = call("GET", "/x", parameter("p", "query", style, explode=explode))
    assert Values(template, {"query": {"p": value}}).url("http://h", {}) == f"http://h/x{written}"


@pytest.mark.parametrize("value", ["..", ".", ""])
def test_no_value_leads_out_of_its_path(value: str) -> None:
    template = call("GET", "/x/{p}", parameter("p", "path", "simple", required=True))
    with pytest.raises(BadConfig) as told:
        Values(template, {"path": {"p": value}}).url("http://h", {})
    assert told.value.field == "/path/p"


@pytest.mark.parametrize(
    ("given", "field"),
    [({"query": {}}, "/query/q"), ({"query": {"q": None}}, "/query/q"), ({"query": {"q": 1, "z": 1}}, "/query/z")],
)  # fmt: skip
def test_what_is_missing_or_unknown_is_refused_by_its_place(given: Any, field: str) -> None:
    with pytest.raises(BadConfig) as told:
        Values(call("GET", "/x", parameter("q", "query", required=True)), given)
    assert told.value.field == field


# --- One call -----------------------------------------------------------------------------------------


async def test_a_call_is_made_as_its_template_says() -> None:
    template = call(
        "GET", "/pets/{id}",
        parameter("id", "path", "simple", required=True), parameter("tags", "query", explode=True),
        parameter("X-Trace", "header", "simple"), parameter("session", "cookie"),
        parameter("where", "query", as_json=True),
    )  # fmt: skip
    outcome, [asked] = await attempted(
        says(body=b'{"name": "Rex"}', content_type="application/json"), template,
        path={"id": "a/b"}, query={"tags": ["x", "y z"], "where": {"n": [1]}}, headers={"X-Trace": [1, "b"]},
        cookies={"session": "s 1"},
    )  # fmt: skip
    assert (asked.method, asked.target) == (
        "GET",
        "/v1/pets/a%2Fb?tags=x&tags=y%20z&where=%7B%22n%22%3A%20%5B1%5D%7D",
    )
    assert (asked.headers["x-trace"], asked.headers["cookie"]) == ("1,b", "session=s%201")
    assert asked.headers["idempotency-key"] == f"run-1/{STEP}"
    assert output(outcome)["status"] == 200
    assert output(outcome)["body"] == {"name": "Rex"}


async def test_a_key_of_the_authors_own_choosing_stays() -> None:
    template = call("POST", "/x", parameter("idempotency-key", "header", "simple"))
    _, [asked] = await attempted(says(), template, headers={"idempotency-key": "mine"})
    assert asked.headers["idempotency-key"] == "mine"


async def test_bodies_go_by_their_kind() -> None:
    body = ApiBody(kind="json", content_type="application/merge-patch+json", required=True)
    _, [asked] = await attempted(says(), call("PATCH", body=body), body={"a": [1.50]})
    assert (asked.headers["content-type"], asked.body) == ("application/merge-patch+json", b'{"a":[1.5]}')

    body = ApiBody(kind="form", content_type="application/x-www-form-urlencoded")
    _, [asked] = await attempted(
        says(), call("POST", body=body), body={"a": "x y", "b": [1, True], "c": {"d": 1}, "e": None}
    )
    assert parse_qs(asked.body.decode()) == {"a": ["x y"], "b": ["1", "true"], "c": ['{"d": 1}']}

    body = ApiBody(kind="raw", content_type="text/csv")
    _, [asked] = await attempted(says(), call("PUT", body=body), body="a,b")
    assert (asked.headers["content-type"], asked.body) == ("text/csv", b"a,b")


async def test_files_go_in_parts() -> None:
    world = World(allow="127.0.0.0/8:*")
    blob = await world.shelf.put(b"\x89PNG\r\n--", "image/png")
    body = ApiBody(kind="multipart", content_type="multipart/form-data")
    stored = {"blob": {"in": "blob", "sha256": blob.sha256, "size": blob.size, "content_type": "image/png"}}
    _, [asked] = await attempted(
        says(), call("POST", body=body), world, body={"file": stored, 'ca"p': "hi", "meta": {"a": 1}}
    )
    kind, _, boundary = asked.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    parts = [
        part.strip(b"\r\n").split(b"\r\n\r\n", 1)
        for part in asked.body.split(b"--" + boundary.encode())[1:-1]
    ]
    assert parts[0] == [
        b'Content-Disposition: form-data; name="file"; filename="file"\r\nContent-Type: image/png', b"\x89PNG\r\n--",
    ]  # fmt: skip
    assert parts[1] == [b'Content-Disposition: form-data; name="ca%22p"', b"hi"]
    assert parts[2][1] == b'{"a": 1}'


@pytest.mark.parametrize(
    ("kind", "body"), [("json", None), ("form", ["a"]), ("multipart", 7), ("raw", {"a": 1})]
)
async def test_a_body_that_does_not_fit_is_refused(kind: Any, body: Any) -> None:
    template = call("POST", body=ApiBody(kind=kind, content_type="x/y", required=True))
    outcome, asked = await attempted(says(), template, body=body)
    assert (broken(outcome).error.code, broken(outcome).error.field) == ("workflow.bad_config", "/body")
    assert asked == []


async def test_where_no_server_is_known_none_is_called() -> None:
    outcome, asked = await attempted(says(), call(), server=None)
    assert (broken(outcome).error.field, asked) == ("/server", [])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"timeout_s": "soon"}, "/timeout_s"),
        ({"pages": {"by": "magic"}}, "/pages/by"),
        ({"query": 7}, "/query"),
    ],
)
async def test_what_a_template_gave_and_does_not_fit_is_told_where_the_author_wrote_it(
    given: Any, field: str
) -> None:
    outcome, asked = await attempted(says(), call(), **given)
    assert (broken(outcome).error.code, broken(outcome).error.field, asked) == (
        "workflow.bad_config",
        field,
        [],
    )


async def test_a_server_inside_is_refused_before_anything_connects() -> None:
    outcome, asked = await attempted(says(), call(), World())
    assert (broken(outcome).error.code, asked) == ("unreachable", [])


async def _hangs_up(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize(
    ("method", "given", "outcome"),
    [("POST", {}, StepInDoubt), ("POST", {"honours_key": True}, StepBroken), ("PATCH", {}, StepInDoubt),
     ("GET", {}, StepBroken), ("PUT", {}, StepBroken), ("DELETE", {}, StepBroken)],
)  # fmt: skip
async def test_an_answer_that_never_came_leaves_doubt_where_http_does_not_allow_repeating(
    method: Any, given: Any, outcome: type
) -> None:
    found, _ = await attempted(_hangs_up, call(method), **given)
    assert isinstance(found, outcome)


async def test_a_status_that_is_no_success_is_told() -> None:
    outcome, _ = await attempted(says("409 Conflict"), call("POST"))
    assert broken(outcome).error.status == 409
    outcome, _ = await attempted(says("404 Not Found"), call(), success=["2xx", "404"])
    assert output(outcome)["status"] == 404


# --- Who calls ----------------------------------------------------------------------------------------


def known(value: SecretValue, *hosts: str) -> World:
    world = World(allow="127.0.0.0/8:*")
    world.safe.keep("s1", value, *(hosts or ("127.0.0.1",)))
    return world


TEXT, BASIC = TextSecret(text=Secret(KEY)), BasicSecret(user="ada", password=Secret(KEY))


@pytest.mark.parametrize(
    ("scheme", "value", "header"),
    [
        (ApiScheme(name="k", kind="header", field="X-Key"), TEXT, ("x-key", KEY)),
        (ApiScheme(name="k", kind="header", field="X-Key"), HeaderSecret(name="Other", value=Secret(KEY)), ("x-key", KEY)),
        (ApiScheme(name="k", kind="cookie", field="sid"), TEXT, ("cookie", f"lang=de; sid={KEY}")),
        (ApiScheme(name="k", kind="bearer"), TEXT, ("authorization", f"Bearer {KEY}")),
        (ApiScheme(name="k", kind="bearer"), BearerSecret(token=Secret(KEY)), ("authorization", f"Bearer {KEY}")),
        (ApiScheme(name="k", kind="basic"), BASIC, ("authorization", "Basic " + base64.b64encode(f"ada:{KEY}".encode()).decode())),
    ],
)  # fmt: skip
async def test_one_secret_goes_where_the_document_wants_it(
    scheme: ApiScheme, value: SecretValue, header: tuple[str, str]
) -> None:
    template = call("GET", "/x", parameter("lang", "cookie"), schemes=(scheme,))
    outcome, [asked] = await attempted(
        says(), template, known(value), auth={"$secret": "s1"}, cookies={"lang": "de"}
    )
    assert isinstance(outcome, StepDone)
    assert asked.headers[header[0]] == header[1]


async def test_a_key_of_the_query_stands_in_no_output() -> None:
    template = call(schemes=(ApiScheme(name="k", kind="query", field="key"),))
    _, [asked] = await attempted(says(), template, known(TEXT), auth={"$secret": "s1"})
    assert asked.target == f"/v1/things?key={KEY}"


async def test_which_way_is_chosen_by_its_name() -> None:
    ways = (ApiScheme(name="a", kind="bearer"), ApiScheme(name="b", kind="header", field="X-B"))
    _, [asked] = await attempted(says(), call(schemes=ways), known(TEXT), auth={"$secret": "s1"}, auth_as="b")
    assert asked.headers["x-b"] == KEY
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("scheme", "value", "hosts", "code"),
    [
        ("basic", TEXT, (), "workflow.bad_config"), ("bearer", BASIC, (), "workflow.bad_config"),
        ("oauth2", TEXT, (), "workflow.bad_config"), ("bearer", TEXT, ("api.example.com",), "secret.not_allowed"),
        ("oauth2", BASIC, ("api.example.com",), "secret.not_allowed"),
    ],
)  # fmt: skip
async def test_a_secret_of_another_kind_or_for_other_hosts_is_not_sent(
    scheme: Any, value: SecretValue, hosts: tuple[str, ...], code: str
) -> None:
    template = call(schemes=(ApiScheme(name="k", kind=scheme),))
    outcome, asked = await attempted(says(), template, known(value, *hosts), auth={"$secret": "s1"})
    assert (broken(outcome).error.code, asked) == (code, [])


async def _gives_tokens(asked: Asked, writer: asyncio.StreamWriter) -> None:
    if asked.target != "/token":
        await says()(asked, writer)
        return
    body = json.dumps({"access_token": "CANARY-t0ken", "token_type": "bearer"}).encode()
    await says(body=body)(asked, writer)


async def test_client_credentials_get_a_token_first() -> None:
    template = call(
        "POST", schemes=(ApiScheme(name="o", kind="oauth2", token_url="-", scopes=("read", "write")),)
    )
    outcome, [first, then] = await attempted(_gives_tokens, template, known(BASIC), auth={"$secret": "s1"})
    assert isinstance(outcome, StepDone)
    assert parse_qs(first.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["read write"]}
    assert base64.b64decode(first.headers["authorization"].removeprefix("Basic ")) == f"ada:{KEY}".encode()
    assert then.headers["authorization"] == "Bearer CANARY-t0ken"
    assert "CANARY" not in str(outcome)


@pytest.mark.parametrize(
    ("reply", "code", "retryable"),
    [(says("401 No"), "refused", False), (says("503 Later"), "refused", True), (says(body=b"{}"), "refused", False),
     (says(body=b'{"access_token": "a\\nb"}'), "refused", False), (_hangs_up, "unreachable", True)],
)  # fmt: skip
async def test_no_token_no_call_and_no_doubt(reply: Reply, code: str, retryable: bool) -> None:
    template = call("POST", schemes=(ApiScheme(name="o", kind="oauth2", token_url="-"),))
    outcome, asked = await attempted(reply, template, known(BASIC), auth={"$secret": "s1"})
    assert (broken(outcome).error.code, broken(outcome).error.retryable) == (code, retryable)
    assert {each.target for each in asked} == {"/token"}


# --- Pages --------------------------------------------------------------------------------------------


def pages(answer: Callable[[dict[str, list[str]], Asked], tuple[Any, dict[str, str]]]) -> Reply:
    async def reply(asked: Asked, writer: asyncio.StreamWriter) -> None:
        value, headers = answer(parse_qs(asked.target.partition("?")[2]), asked)
        await says(body=json.dumps(value).encode(), content_type="application/json", **headers)(asked, writer)

    return reply


def numbered(query: dict[str, list[str]], _: Asked) -> tuple[Any, dict[str, str]]:
    page = int(query["page"][0])
    return [{"n": page}] if page < 3 else [], {}


def by_cursor(query: dict[str, list[str]], _: Asked) -> tuple[Any, dict[str, str]]:
    at = int(query.get("after", ["0"])[0])
    return {"data": {"rows": [at, at + 1]}, "meta": {"next": at + 2 if at < 4 else None}}, {}


def linked(query: dict[str, list[str]], asked: Asked) -> tuple[Any, dict[str, str]]:
    page = int(query.get("p", ["1"])[0])
    link = f'<http://x.example.com/>; rel="prev", </v1/things?p={page + 1}>; title="a, b"; rel="last next"'
    return [page], {"Link": link} if page < 3 else {}


@pytest.mark.parametrize(
    ("way", "reply", "items", "asked"),
    [
        ({"by": "page", "parameter": "page"}, numbered, [{"n": 1}, {"n": 2}], 3),
        ({"by": "page", "parameter": "page", "first": 0, "most": 2}, numbered, [{"n": 0}, {"n": 1}], 2),
        ({"by": "cursor", "items": "/data/rows", "next": "/meta/next", "parameter": "after"}, by_cursor, [0, 1, 2, 3, 4, 5], 3),
        ({"by": "link"}, linked, [1, 2, 3], 3),
    ],
)  # fmt: skip
async def test_all_pages_become_one_list(way: Any, reply: Any, items: list[Any], asked: int) -> None:
    template = call("GET", "/things", parameter("page", "query"), parameter("status", "query"))
    outcome, calls = await attempted(pages(reply), template, pages=way, query={"status": "open"})
    told = output(outcome)
    assert (told["items"], told["pages"], len(calls)) == (items, asked, asked)
    assert told["more"] is ("most" in way)
    assert "status=open" in calls[0].target


@pytest.mark.parametrize(
    ("way", "reply", "message"),
    [
        ({"by": "link"}, lambda q, a: ([1], {"Link": '<http://127.0.0.2:9/x>; rel="next"'}), "another server"),
        ({"by": "link"}, lambda q, a: ([1], {"Link": '</v1/things>; rel=next'}), "asked for already"),
        ({"by": "cursor", "next": "/n", "parameter": "c", "items": "/i"}, lambda q, a: ({"i": [], "n": "same"}, {}), "asked for already"),
        ({"by": "page", "parameter": "p", "items": "/none"}, lambda q, a: ({}, {}), "no list of items"),
    ],
)  # fmt: skip
async def test_pages_that_lead_nowhere_or_elsewhere_are_refused(way: Any, reply: Any, message: str) -> None:
    outcome, _ = await attempted(pages(reply), call(), pages=way)
    assert message in broken(outcome).error.message


async def test_all_pages_together_are_bounded() -> None:
    outcome, asked = await attempted(
        pages(lambda q, a: (["x" * 1_000], {})),
        call(),
        pages={"by": "page", "parameter": "p"},
        max_bytes=3_500,
    )
    assert broken(outcome).error.code == "payload.too_large"
    assert len(asked) == 4


async def test_only_a_get_has_pages() -> None:
    outcome, asked = await attempted(says(), call("POST"), pages={"by": "link"})
    assert (broken(outcome).error.field, asked) == ("/pages", [])
