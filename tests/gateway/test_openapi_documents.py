"""What node types come of an OpenAPI document, and which documents are refused, each with its place."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from contracts.apis import ApiBody, ApiParameter, ApiScheme, ApiType, ApiTypes, Skipped
from contracts.limits import OPENAPI_DEPTH, OPENAPI_OPERATIONS, OPENAPI_VALUES
from gateway.apis.documents import read
from gateway.apis.operations import types_of
from gateway.apis.pointers import Refused

DOCUMENTS = Path(__file__).parent / "documents"


def made(document: Any, server: str = "", base: str = "") -> ApiTypes:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return types_of(read(data), name="shop", version=3, server=server, base=base)


def refused(document: Any) -> Refused:
    with pytest.raises(Refused) as told:
        made(document)
    return told.value


def by_name(types: ApiTypes) -> dict[str, ApiType]:
    return {each.spec.type: each for each in types.types}


@pytest.fixture(scope="module")
def petstore() -> dict[str, ApiType]:
    return by_name(made((DOCUMENTS / "petstore.yaml").read_bytes()))


@pytest.fixture(scope="module")
def ledger() -> ApiTypes:
    return made((DOCUMENTS / "ledger.json").read_bytes(), base="https://ledger.example.com/docs/openapi.json")


def document(**paths: Any) -> dict[str, Any]:
    return {"openapi": "3.0.0", "info": {"title": "T", "version": "1"}, "paths": paths}


def one(operation: Any, **more: Any) -> dict[str, Any]:
    return {
        "openapi": "3.0.0",
        "info": {"title": "T", "version": "1"},
        "paths": {"/a": {"get": operation}},
        **more,
    }


# --- What is made -----------------------------------------------------------------------------------


def test_every_operation_becomes_a_type_of_its_own(petstore: dict[str, ApiType]) -> None:
    assert {name: (each.call.method, each.call.path) for name, each in petstore.items()} == {
        "api.shop.list_pets": ("GET", "/pets"),
        "api.shop.create_pet": ("POST", "/pets"),
        "api.shop.get_pets_pet_id": ("GET", "/pets/{petId}"),
        "api.shop.pets_photo_upload": ("PUT", "/pets/{petId}/photo"),
    }
    pets = petstore["api.shop.list_pets"]
    assert (pets.spec.title, pets.spec.version, pets.spec.repeat) == ("All pets", 3, "yes")
    assert petstore["api.shop.create_pet"].spec.repeat == "no"
    assert {each.call.server for each in petstore.values()} == {"http://petstore.example.com/v1"}


def test_parameters_have_their_places_and_styles(petstore: dict[str, ApiType]) -> None:
    assert petstore["api.shop.list_pets"].call.parameters == (
        ApiParameter(name="tags", where="query", style="form", explode=True),
        ApiParameter(name="X-Trace", where="header", style="simple"),
        ApiParameter(name="limit", where="query", style="form", explode=True),
        ApiParameter(name="filter", where="query", style="deepObject", explode=True),
    )
    [pet] = petstore["api.shop.get_pets_pet_id"].call.parameters
    assert pet == ApiParameter(name="petId", where="path", style="simple", required=True)


def test_the_form_is_typed(petstore: dict[str, ApiType]) -> None:
    form = petstore["api.shop.list_pets"].spec.config
    Draft202012Validator.check_schema(form)
    query = form["properties"]["query"]
    assert query["properties"]["limit"] == {
        "type": "integer", "exclusiveMinimum": 0, "maximum": 100, "format": "int32",
    }  # fmt: skip
    assert query["properties"]["filter"]["properties"]["age"]["type"] == ["integer", "null"]
    assert (query["required"], query["additionalProperties"]) == ([], False)
    assert petstore["api.shop.get_pets_pet_id"].spec.config["required"] == ["path"]
    assert petstore["api.shop.create_pet"].spec.config["required"] == ["body"]


def test_a_schema_that_contains_itself_takes_any_value_where_it_does(petstore: dict[str, ApiType]) -> None:
    body = petstore["api.shop.create_pet"].spec.config["properties"]["body"]
    assert body["properties"]["parent"] == {}
    assert body["required"] == ["name"]
    assert "id" not in body["properties"]
    assert [part.get("type") for part in body["properties"]["owner"]["anyOf"]] == ["string", "object"]


def test_marks_of_our_own_and_regular_expressions_do_not_come_in(petstore: dict[str, ApiType]) -> None:
    name = petstore["api.shop.create_pet"].spec.config["properties"]["body"]["properties"]["name"]
    assert name == {"type": "string"}
    pet = petstore["api.shop.get_pets_pet_id"].spec.config["properties"]["path"]["properties"]["petId"]
    assert pet == {"type": "string", "description": "Written as ^(a+)+$"}


def test_the_body_that_we_can_write_best_is_taken(petstore: dict[str, ApiType], ledger: ApiTypes) -> None:
    bodies = {name: each.call.body for name, each in (petstore | by_name(ledger)).items()}
    assert bodies["api.shop.create_pet"] == ApiBody(
        kind="json", content_type="application/json", required=True
    )
    assert bodies["api.shop.pets_photo_upload"] == ApiBody(
        kind="multipart", content_type="multipart/form-data"
    )
    assert bodies["api.shop.invoices_create"] == ApiBody(
        kind="form", content_type="application/x-www-form-urlencoded"
    )


def test_ways_to_show_who_calls(ledger: ApiTypes) -> None:
    types = by_name(ledger)
    oauth = ApiScheme(
        name="oauth", kind="oauth2", token_url="http://ledger.example.com/token", scopes=("read",)
    )
    key = ApiScheme(name="key", kind="header", field="X-Ledger-Key")
    assert types["api.shop.invoices_list"].call.schemes == (oauth, key)
    assert types["api.shop.invoices_create"].call.schemes == (key,)
    assert types["api.shop.delete_invoices_id_lines_line"].call.schemes == ()
    form = types["api.shop.invoices_list"].spec.config["properties"]
    assert form["auth"]["x-secret"] is True
    assert form["auth_as"]["enum"] == ["oauth", "key"]


def test_what_no_node_can_be_made_of_is_told_and_left_out(ledger: ApiTypes) -> None:
    assert ledger.skipped == (
        Skipped(pointer="/paths/~1signed/get/security/0", reason="It wants several secrets at once."),
        Skipped(
            pointer="/components/securitySchemes/mutual", reason="This way to show who calls is not known."
        ),
    )


def test_a_relative_server_is_relative_to_where_the_document_came_from(ledger: ApiTypes) -> None:
    assert {each.call.server for each in ledger.types} == {"https://ledger.example.com/api"}
    [got] = made(one({}, servers=[{"url": "/v1"}])).types
    assert got.call.server == ""
    assert "server" in got.spec.config["required"]
    [got] = made(one({}, servers=[{"url": "/v1"}]), server="http://here.example.com/x/").types
    assert got.call.server == "http://here.example.com/x"


def test_names_are_words_and_every_one_is_another() -> None:
    paths = {f"/p{number}": {"get": {"operationId": "Get The-THING!" * 5}} for number in range(3)}
    names = [each.spec.type for each in made(document(**paths)).types]
    assert names == ["api.shop.get_the_thing_get_the_thing_get", "api.shop.get_the_thing_get_the_thing_ge_2",
                     "api.shop.get_the_thing_get_the_thing_ge_3"]  # fmt: skip
    assert [each.spec.type for each in made(one({"operationId": "1é"})).types] == ["api.shop.op_1"]


def test_yaml_is_read_as_json_would_be() -> None:
    text = "a: [yes, on, 2026-11-20, 1_000, 0o7, 1.50, ~, true, '1', 0x1F, !!str 7]\n200: x\n"
    assert read(text.encode()) == {
        "a": ["yes", "on", "2026-11-20", "1_000", "0o7", 1.5, None, True, "1", "0x1F", "7"],
        "200": "x",
    }


# --- What is refused --------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)


def test_a_billion_laughs_are_refused_before_they_are_laughed() -> None:
    began = time.monotonic()
    told = refused(("openapi: 3.0.0\n" + LAUGHS).encode())
    assert told.pointer.startswith("/a")
    assert f"{OPENAPI_VALUES:,} values, its aliases counted" in str(told)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("a: &a [*a]", "/a/0"),
        ("a: !!python/object/apply:os.system [id]", "/a"),
        ("a: !<tag:yaml.org,2002:python/name:os.system> x", "/a"),
        ("a: !!binary AAAA", "/a"),
        ("a: {b: 1, b: 2}", "/a/b"),
        ("? [a]\n: b", ""),
        ("base: &b {x: 1}\na:\n  <<: *b", "/a"),
        ("[" * 5_000, ""),
        ("{" * 200_000, ""),
        ("a: 'x", "/a"),
        ("", ""),
        ("just text", ""),
        ("- 1", ""),
    ],
)
def test_hostile_and_broken_yaml_is_refused_with_its_place(text: str, pointer: str) -> None:
    assert refused(text.encode()).pointer == pointer


def deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


REFS = {f"r{number}": {"$ref": f"#/components/parameters/r{number + 1}"} for number in range(30)}


@pytest.mark.parametrize(
    ("told", "pointer"),
    [
        (b"\xff\xfe", ""),
        (b" " * 4_200_000, ""),
        ({"swagger": "2.0"}, "/openapi"),
        ({"openapi": "4.0.0"}, "/openapi"),
        (document(), "/paths"),
        ([], ""),
        ({"openapi": "3.0.0", "x": deep(70)}, "/x" + "/a" * OPENAPI_DEPTH),
        ({"openapi": "3.0.0", "x": [0] * (OPENAPI_VALUES + 1)}, "/x/2"),
        (one({"parameters": [{"$ref": "https://evil.example.com/x.json"}]}), "/paths/~1a/get/parameters/0/$ref"),
        (one({"parameters": [{"$ref": "file:///etc/passwd"}]}), "/paths/~1a/get/parameters/0/$ref"),
        (one({"parameters": [{"$ref": "other.yaml#/x"}]}), "/paths/~1a/get/parameters/0/$ref"),
        (one({"parameters": [{"$ref": "#/components/parameters/none"}]}), "/paths/~1a/get/parameters/0/$ref"),
        (one({"parameters": [{"$ref": "#/components/parameters/a"}]},
             components={"parameters": {"a": {"$ref": "#/components/parameters/b"}, "b": {"$ref": "#/components/parameters/a"}}}),
         "/components/parameters/b/$ref"),
        (one({"parameters": [{"$ref": "#/components/parameters/r0"}]}, components={"parameters": REFS}),
         "/components/parameters/r16/$ref"),
        (one({"parameters": [7]}), "/paths/~1a/get/parameters/0"),
        (one({"parameters": [{"name": "x", "in": "body"}]}), "/paths/~1a/get/parameters/0/in"),
        (one({"parameters": [{"name": "x" * 300, "in": "query"}]}), "/paths/~1a/get/parameters/0/name"),
        (one({"parameters": [{"name": "x\r\ny", "in": "header"}]}), "/paths/~1a/get/parameters/0/name"),
        (one({"parameters": [{"name": "x", "in": "path"}]}), "/paths/~1a/get/parameters"),
        (one({"parameters": [{"name": f"x{n}", "in": "query"} for n in range(201)]}), "/paths/~1a/get/parameters"),
        (one({"security": [{"none": []}]}), "/components/securitySchemes/none"),
        (one({}, servers=[{"url": "ftp://x.example.com"}]), "/servers/0/url"),
        (one({}, servers=[{"url": "https://u:p@x.example.com"}]), "/servers/0/url"),
        (one({}, servers=[{"url": "https://{a}.example.com"}]), "/servers/0/variables"),
        (document(**{f"/{n}": {"get": {}} for n in range(OPENAPI_OPERATIONS + 1)}), f"/paths/~1{OPENAPI_OPERATIONS}/get"),
    ],
)  # fmt: skip
def test_documents_beyond_the_bounds_or_the_rules_are_refused_with_their_place(
    told: Any, pointer: str
) -> None:
    assert refused(told).pointer == pointer


def test_a_reference_in_an_example_is_only_a_word() -> None:
    example = {"example": {"$ref": "https://example.com/x"}}
    assert len(made(one({"responses": {"200": {"content": {"application/json": example}}}})).types) == 1


def test_a_form_without_end_takes_any_value_where_it_becomes_too_much() -> None:
    wide = {
        "type": "object",
        "properties": {f"p{n}": {"$ref": "#/components/schemas/Wide"} for n in range(40)},
    }
    tree = {
        "type": "object",
        "properties": {f"p{n}": {"$ref": f"#/components/schemas/T{n}"} for n in range(40)},
    }
    schemas = {"Wide": wide, **{f"T{n}": tree for n in range(40)}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/T0"}}}}
    [got] = made(one({"requestBody": body}, components={"schemas": schemas})).types
    assert len(msgspec.json.encode(got)) < 200_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["get", "parameters", "name", "in", "schema", "type", "$ref", "content", "requestBody", "security", "servers",
             "url", "properties", "items", "enum", "required", "path", "query", "style", "application/json"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(operation=JSON, components=JSON, item=JSON)
def test_whatever_is_in_a_document_it_is_read_or_refused(operation: Any, components: Any, item: Any) -> None:
    text = {"openapi": "3.1.0", "paths": {"/a": {"get": operation}, "/b": item}, "components": components}
    try:
        types = made(text)
    except Refused:
        return
    for each in types.types:
        Draft202012Validator.check_schema(each.spec.config)
        msgspec.convert(msgspec.to_builtins(each), ApiType)


@given(st.text(max_size=60))
def test_whatever_text_it_is_it_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Refused):
        read(text.encode("utf-8", "replace"))


def test_the_documents_of_these_tests_are_yaml_and_json() -> None:
    assert yaml.safe_load((DOCUMENTS / "petstore.yaml").read_text())["openapi"] == "3.0.3"
