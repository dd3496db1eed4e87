"""What lies inside of what: maps and loops in a workflow, how deep in each other, and how much of them may be under way together."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from contracts.limits import NESTING, STEPS_AT_ONCE, NodeId
from contracts.nodes import NodeSpec
from contracts.workflows import Fault, Node
from orchestrator.catalogue import AT_ONCE, NOTE
from orchestrator.drafts import Draft

CODE: Final = "workflow.bad_inside"


class Insides:
    """`drawn`: the nodes whose type is known, each with its place."""

    def __init__(self, draft: Draft, drawn: Sequence[tuple[int, Node, NodeSpec]]) -> None:
        self._draft, self._drawn = draft, drawn
        # Of two with the same id the first counts.
        self._nodes = {node.id: node for _, node in reversed(draft.nodes)}
        self._specs = {node.id: spec for _, node, spec in reversed(drawn)}

    def around(self, node: Node) -> list[NodeId]:
        """The containers in which a node lies, the innermost first; of a circle as much as shows that it is one."""
        found: list[NodeId] = []
        while node.inside is not None and node.inside in self._nodes and len(found) <= len(self._nodes):
            found.append(node.inside)
            node = self._nodes[node.inside]
        return found

    def faults(self) -> Iterator[Fault]:
        for place, node in self._draft.nodes:
            if node.inside is not None and (message := self._misplaced(node, node.inside)):
                yield Fault(code=CODE, pointer=f"/nodes/{place}/inside", message=message, node=node.id)
        filled = {node.inside for _, node in self._draft.nodes if node.type != NOTE}
        for place, node, spec in self._drawn:
            if spec.contains and node.id not in filled:
                message = "No node lies inside of this one."
                yield Fault(code=CODE, pointer=f"/nodes/{place}", message=message, node=node.id)
        yield from self._too_much_at_once()

    def _misplaced(self, node: Node, inside: NodeId) -> str:
        """Why a node cannot lie there, empty when it can."""
        container, around = self._specs.get(inside), self.around(node)
        if inside not in self._nodes and inside not in self._draft.broken:
            return f"There is no node {inside}."
        if container is not None and not container.contains:
            return f"Nothing lies inside of {inside}: it is neither a map nor a loop."
        if node.id in around:
            return "It lies in itself."
        if len(around) > NESTING:
            return f"Containers lie in each other at most {NESTING} deep."
        return ""

    def _too_much_at_once(self) -> Iterator[Fault]:
        depths = [self.around(node) for _, node in self._draft.nodes if node.type != NOTE]
        at_once = sum(
            math.prod(map(self._at_once, around)) for around in depths if 0 < len(around) <= NESTING
        )
        if at_once > STEPS_AT_ONCE:
            message = (
                f"{at_once} steps inside of maps could be under way together; at most are {STEPS_AT_ONCE}. "
                "Let fewer items be under way at once."
            )
            yield Fault(code="workflow.limit", pointer="/nodes", message=message)

    def _at_once(self, container: NodeId) -> int:
        """How many items of a container may be under way together."""
        node = self._nodes[container]
        if node.type != "map":
            return 1
        at_once = node.config.get("at_once", AT_ONCE)
        return at_once if isinstance(at_once, int) else AT_ONCE
