"""Node types of an org's own: their forms judge what was written, and the plan gets the template of the request.

A plan's node of such a type has the configuration `{"call": …, "with": …}`: the template, which is never a template of
expressions, and what the author wrote. So a run needs nothing but its plan.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import structs

from contracts.apis import ApiImport, ApiType, ApiTypes
from contracts.codec import Decoder
from contracts.nodes import NodeSpec
from contracts.plans import Plan, PlanNode
from contracts.workers import WorkerTypes

CALL: Final = "/call"
GIVEN: Final = "/with"

types_in: Final = Decoder[ApiTypes](ApiTypes)
workers_in: Final = Decoder[WorkerTypes](WorkerTypes)


def announced(pools: Iterable[WorkerTypes]) -> Mapping[str, NodeSpec]:
    """The node types of workers outside: by type and by `type@version`, as the catalogue has its own."""
    specs = [spec for types in pools for spec in types.specs]
    return {name: spec for spec in specs for name in (spec.type, f"{spec.type}@{spec.version}")}


class Imported:
    """What a compile request brought along."""

    def __init__(self, brought: Iterable[tuple[ApiImport, ApiTypes]] = ()) -> None:
        self._types: dict[str, ApiType] = {}
        for each, types in brought:
            for made in types.types:
                self._types[f"{made.spec.type}@{each.version}"] = made
                if each.newest:
                    self._types[made.spec.type] = made

    @property
    def specs(self) -> Mapping[str, NodeSpec]:
        """By type (where the newest version was brought) and by `type@version`."""
        return {name: made.spec for name, made in self._types.items()}

    def planned(self, plan: Plan) -> Plan:
        """The plan with the templates in it, as a run needs it."""
        return structs.replace(plan, nodes=tuple(map(self._node, plan.nodes)))

    def _node(self, node: PlanNode) -> PlanNode:
        made = self._types.get(f"{node.type}@{node.type_version}")
        if made is None:
            return node
        call: Any = msgspec.to_builtins(made.call)
        return structs.replace(
            node,
            config={"call": call, "with": node.config},
            conditions=_below(node.conditions),
            literal=(CALL, *_below(node.literal)),
            secrets=_below(node.secrets),
        )


def _below(pointers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{GIVEN}{pointer}" for pointer in pointers)
