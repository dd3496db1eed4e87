"""The catalogue of node types over HTTP."""

from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from contracts.nodes import NodeSpec
from gateway.apis.store import Apis
from gateway.callers import Caller
from gateway.rejected import absent
from gateway.workers.types import Types


@runtime_checkable
class Catalogue(Protocol):
    """What executors and orchestrators announced."""

    async def specs(self) -> Mapping[str, NodeSpec]:
        """By type (its newest version) and by `type@version`."""
        ...


class NodeTypes(Struct, frozen=True, kw_only=True):
    items: list[NodeSpec]


@get("/node-types")
async def list_node_types(
    caller: NamedDependency[Caller],
    catalogue: NamedDependency[Catalogue],
    apis: NamedDependency[Apis],
    worker_types: NamedDependency[Types],
) -> NodeTypes:
    """Every node type in its newest version: everybody's, those that the org has imported, and those of its workers."""
    specs = {
        **await catalogue.specs(),
        **await apis.specs(caller.org),
        **await worker_types.specs(caller.org),
    }
    return NodeTypes(items=[spec for name, spec in sorted(specs.items()) if "@" not in name])


@get("/node-types/{node_type:str}")
async def get_node_type(
    caller: NamedDependency[Caller],
    catalogue: NamedDependency[Catalogue],
    apis: NamedDependency[Apis],
    worker_types: NamedDependency[Types],
    node_type: FromPath[str],
) -> NodeSpec:
    """One node type; `type@version` names an older version."""
    own = await apis.spec(caller.org, node_type)
    announced = (await worker_types.specs(caller.org)).get(node_type.partition("@")[0])
    if (
        own is None
        and announced is not None
        and node_type in (announced.type, f"{announced.type}@{announced.version}")
    ):
        own = announced
    spec = own or (await catalogue.specs()).get(node_type)
    if spec is None:
        raise absent("node type")
    return spec


ROUTES: Final[list[ControllerRouterHandler]] = [list_node_types, get_node_type]
