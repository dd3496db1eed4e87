"""Node types are found by themselves; a plug-in that cannot be used is reported and left out."""

import asyncio
import importlib.metadata
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from msgspec import Meta, Struct
from msgspec.structs import replace

from contracts.codec import decode_json, encode
from contracts.messages import StepDone
from contracts.nodes import NodeSpec
from executor.catalogue import ANNOUNCE_SECONDS, Announcing
from executor.forms import form
from executor.node import SecretField
from executor.nodes.echo import node as echo
from executor.registry import GROUP, Registry, UnusableNode, installed, registry
from tests.executor.fakes import World, simulated, task, until
from tests.executor.nodes import Outside, Scripted

OURS = {
    "api.call",
    "code.javascript",
    "code.python",
    "crypto.hash",
    "crypto.hmac",
    "crypto.jwt",
    "csv.build",
    "csv.read",
    "echo",
    "email.send",
    "file.compress",
    "file.extract",
    "html.build",
    "html.extract",
    "http.request",
    "json.build",
    "json.read",
    "list.dedupe",
    "list.edit",
    "list.filter",
    "list.group",
    "list.join",
    "list.limit",
    "list.sort",
    "list.split",
    "rss.read",
    "s3.get",
    "s3.list",
    "s3.put",
    "postgres.query",
    "redis.command",
    "xml.build",
    "xml.read",
}
_PLUGIN = """
from typing import ClassVar
from msgspec import Struct
from contracts.nodes import NodeSpec
from executor.forms import form
from executor.node import Context, Result

class Shout(Struct, frozen=True, kw_only=True):
    text: str

class ShoutNode:
    spec: ClassVar = NodeSpec(
        type="acme.shout", title="Shout", help="Says it louder.", icon="megaphone", category="Acme", repeat="yes",
        config=form(Shout),
    )
    config: ClassVar = Shout

    async def run(self, config: Shout, context: Context) -> Result:
        return Result(output=config.text.upper())

node = ShoutNode()
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions, as an installer leaves it."""
    (tmp_path / "acme_nodes.py").write_text(_PLUGIN)
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('at import')\n")
    (tmp_path / "acme_quits.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "acme_empty.py").write_text("")
    (tmp_path / "acme_double.py").write_text("from executor.nodes.echo import node\n")
    (tmp_path / "acme_own.py").write_text(_PLUGIN.replace("acme.shout", "api.shop.buy"))
    (tmp_path / "acme_outside.py").write_text(_PLUGIN.replace("acme.shout", "work.shout"))
    metadata = tmp_path / "acme-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    names = {
        "shout": "acme_nodes",
        "object": "acme_nodes:node",
        "broken": "acme_broken",
        "quits": "acme_quits",
    }
    names |= {
        "empty": "acme_empty",
        "double": "acme_double",
        "own": "acme_own",
        "outside": "acme_outside",
        "missing": "acme_gone",
        "text": "acme_nodes:_name",
    }
    lines = "\n".join(f"{name} = {value}" for name, value in names.items())
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_an_installed_plugin_is_found_by_its_entry_point_and_runs(plugins: Path) -> None:
    found = registry()
    world = World(found.nodes["acme.shout"].node.node)

    async def main() -> None:
        async with world.executor():
            world.source.put(task({"text": "hello"}, node_type="acme.shout"))
            await until(lambda: world.outcomes)

    simulated(main())

    [outcome] = world.outcomes
    assert isinstance(outcome, StepDone)
    assert b'"HELLO"' in encode(outcome)


def test_plugins_that_cannot_be_used_are_reported_and_left_out(plugins: Path) -> None:
    found = registry()

    assert {*OURS, "acme.shout"} == set(found.nodes)
    assert found.nodes["echo"].node.node is echo
    faults = {fault.plugin: fault.reason for fault in found.faults}
    assert set(faults) == {
        "object",
        "broken",
        "quits",
        "empty",
        "double",
        "own",
        "outside",
        "missing",
        "text",
    }
    assert faults["broken"] == "RuntimeError: at import"
    assert "is there already" in faults["double"]
    assert "imported APIs" in faults["own"]
    assert "workers outside" in faults["outside"]


def test_an_orgs_own_types_are_carried_out_by_one_node_that_nobody_is_told_of() -> None:
    found = registry([])
    assert found.find("api.shop.buy") is found.nodes["api.call"]
    assert found.find("acme.shop") is None
    assert {spec.type for spec in found.announced} == OURS - {"api.call"}


def test_without_plugins_there_are_the_node_types_of_our_own() -> None:
    assert set(registry([]).nodes) == OURS


@pytest.mark.parametrize(
    "changes",
    [{"type": "Not A Type"}, {"version": 0}, {"place": "orchestrator"}, {"pool": "a.b"}, {"repeat": "maybe"}],
)
def test_a_spec_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    node = Outside().node
    node.spec = replace(node.spec, **changes)

    with pytest.raises(UnusableNode):
        installed(node)


@pytest.mark.parametrize("attribute", ["spec", "config", "run"])
def test_an_object_that_is_no_node_is_refused(attribute: str) -> None:
    node: Any = Outside().node
    setattr(node, attribute, "something else")

    with pytest.raises(UnusableNode):
        installed(node)


def test_a_form_is_whole_in_itself_and_carries_titles_help_and_marks() -> None:
    class Inner(Struct):
        deep: Annotated[int, Meta(title="Deep", ge=1)] = 1

    class Config(Struct, forbid_unknown_fields=True):
        auth: Annotated[SecretField, Meta(title="Credential", description="Who we are.")]
        when: Annotated[str, Meta(extra_json_schema={"x-expression": "condition"})] = ""
        inner: tuple[Inner, ...] = ()

    schema = form(Config)

    assert "$ref" not in str(schema)
    assert schema["properties"]["auth"]["x-secret"] is True
    assert schema["properties"]["auth"]["title"] == "Credential"
    assert schema["properties"]["auth"]["description"] == "Who we are."
    assert schema["properties"]["when"]["x-expression"] == "condition"
    assert schema["properties"]["inner"]["items"]["properties"]["deep"]["minimum"] == 1


@pytest.mark.parametrize("name", sorted(registry([]).nodes))
def test_the_form_of_every_node_type_is_a_json_schema(name: str) -> None:
    spec = registry([]).nodes[name].spec

    jsonschema.Draft202012Validator.check_schema(spec.config)
    assert spec.title
    assert spec.help
    assert spec.icon
    assert decode_json(encode(spec))["type"] == name


def test_node_types_are_announced_again_and_again() -> None:
    announced: list[str] = []

    class Catalogue:
        async def announce(self, spec: NodeSpec) -> None:
            announced.append(spec.type)

    async def main() -> None:
        specs = [node.spec for node in Registry({"test": installed(Scripted(Outside()))}).nodes.values()]
        announcing = Announcing(Catalogue(), specs)
        assert not announcing.done
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5 * ANNOUNCE_SECONDS):
                await announcing.run()
        assert announcing.done

    simulated(main())

    assert announced == ["test"] * 3


def test_a_plugin_is_found_in_the_metadata_that_installers_write(plugins: Path) -> None:
    names = {point.name for point in importlib.metadata.entry_points(group=GROUP)}

    assert "shout" in names
