"""The node types of this process, found by themselves: our own modules, and plug-ins by their entry points.

Rule that holds here: a plug-in that cannot be used is reported and left out; it never keeps the others from working.
"""

import importlib
import importlib.metadata
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

import executor.nodes
from contracts import workers
from contracts.apis import PREFIX
from contracts.codec import Decoder
from contracts.nodes import NodeSpec, Repeat
from executor.journal import Journal
from executor.node import Node
from executor.speaking import SpeakingNode

GROUP: Final = "automateos.nodes"
_OWN: Final = f"{PREFIX}."
CARRIER: Final = f"{PREFIX}.call"
"""Calls what an org has imported (executor/nodes/api_call.py)."""


class UnusableNode(Exception):
    """What a module or plug-in offers is not a node."""


class Installed(Struct, frozen=True, kw_only=True):
    """One node type, ready to be run."""

    spec: NodeSpec
    node: SpeakingNode
    decode: Decoder[Any]
    promise: Callable[[Any], Repeat] | None
    """Computes the promise about repeating from a configuration."""
    keeps_sealed: bool
    ports: frozenset[str] | None
    """The ports that it announces; None when its configuration names further ones."""

    def may_leave_by(self, ports: tuple[str, ...]) -> bool:
        return self.ports is None or self.ports.issuperset(ports)


class Fault(Struct, frozen=True):
    """A plug-in that was left out, and why."""

    plugin: str
    reason: str


class Registry(Struct, frozen=True):
    nodes: Mapping[str, Installed]
    faults: tuple[Fault, ...] = ()

    def find(self, node_type: str) -> Installed | None:
        """What carries out a type: an org's own types are all carried out by one node, their behaviour is in the plan."""
        found = self.nodes.get(node_type)
        return self.nodes.get(CARRIER) if found is None and node_type.startswith(_OWN) else found

    @property
    def announced(self) -> list[NodeSpec]:
        return [node.spec for name, node in self.nodes.items() if name != CARRIER]


def registry(
    plugins: Iterable[importlib.metadata.EntryPoint] | None = None, journal: Journal | None = None
) -> Registry:
    """Everything that is installed. Our own types win over a plug-in's of the same name.

    `journal`: hears what their attempts say.
    """
    nodes = {node.spec.type: installed(node, journal) for node in _own()}
    faults: list[Fault] = []
    for plugin in importlib.metadata.entry_points(group=GROUP) if plugins is None else plugins:
        try:
            found = installed(_offered(plugin.load()), journal)
            if found.spec.type in nodes:
                raise UnusableNode(f"the node type {found.spec.type} is there already")
            if found.spec.type.startswith(_OWN):
                raise UnusableNode(f"names that begin with {PREFIX}. are those of imported APIs")
            if found.spec.type.startswith(f"{workers.PREFIX}."):
                raise UnusableNode(f"names that begin with {workers.PREFIX}. are those of workers outside")
        except (Exception, SystemExit) as error:  # A stranger's module may raise anything.
            faults.append(Fault(plugin.name, f"{type(error).__name__}: {error}"[:500]))
        else:
            nodes[found.spec.type] = found
    return Registry(nodes, tuple(faults))


def installed(node: Node[Any], journal: Journal | None = None) -> Installed:
    """Check that an object is a node. Raises `UnusableNode`."""
    try:
        spec = msgspec.convert(msgspec.to_builtins(node.spec), NodeSpec)
        decode: Decoder[Any] = Decoder(node.config)
        if not (isinstance(node.config, type) and issubclass(node.config, Struct)):
            raise UnusableNode("its config is not a msgspec Struct")
        if not inspect.iscoroutinefunction(node.run):
            raise UnusableNode("its run is not a coroutine function")
    except (AttributeError, TypeError, msgspec.ValidationError) as error:
        raise UnusableNode(f"not a node: {error}") from error
    if spec.place != "executor":
        raise UnusableNode("only the orchestrator has control nodes")
    return Installed(
        spec=spec,
        node=SpeakingNode(node, journal),
        decode=decode,
        promise=getattr(node, "repeat", None),
        keeps_sealed=bool(getattr(node, "keeps_sealed", False)),
        ports=None if spec.outputs_from else frozenset(port.name for port in spec.outputs),
    )


def _own() -> list[Node[Any]]:
    modules = sorted(module.name for module in pkgutil.iter_modules(executor.nodes.__path__))
    return [importlib.import_module(f"{executor.nodes.__name__}.{name}").node for name in modules]


def _offered(thing: Any) -> Any:
    """An entry point names a node, or a module with a `node` in it."""
    return thing.node if inspect.ismodule(thing) else thing
