"""From the plan of a workflow to the plan of a test: the part that runs, and pins where something else stands for a node.

Rule that holds here: a test is decided by its plan like any other run. So nothing but the plan differs, and a test's
history replays like every history.

A node is needed when something that runs follows from it or reads it; what comes before a pinned node is not. The whole of
a workflow is needed as a whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct, structs

from contracts.cases import Act, Given, Outline, Part, Pin, Selection
from contracts.limits import NodeId, PortName
from contracts.payloads import Inline
from contracts.plans import Plan, PlanNode, Reads
from contracts.workflows import Fault
from orchestrator.catalogue import STARTS_RUNS
from orchestrator.readiness import Graph
from orchestrator.topology import examine

_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode


class Narrowed(Struct, frozen=True, kw_only=True):
    """What a test follows, and what that means."""

    plan: Plan
    outline: Outline


def narrowed(plan: Plan, selection: Selection, given: Given) -> Narrowed | list[Fault]:
    """The plan of a test, or every reason why there is none. Places are those of the wish for the test."""
    narrowing = _Narrowing(plan, selection, given)
    return narrowing.faults or narrowing.made() or narrowing.faults


class _Narrowing:
    def __init__(self, plan: Plan, selection: Selection, given: Given) -> None:
        self._plan, self._given = plan, given
        self._graph = Graph.of(plan)
        self._part: Part = selection.part
        self._node = selection.node or ""
        self.faults: list[Fault] = []
        self._check_names(selection)
        self._before = examine({name: self._graph.followers[name] for name in self._graph.order}).ancestors

    def _fault(self, code: str, pointer: str, message: str, node: NodeId | None = None) -> None:
        self.faults.append(Fault(code=code, pointer=pointer, message=message, node=node))

    def _check_names(self, selection: Selection) -> None:
        nodes, part, node = self._graph.nodes, selection.part, selection.node
        if part == "whole" and node is not None:
            self._fault(
                "test.unknown_node", "/selection/node", "The whole of a workflow is named by no node."
            )
        elif part != "whole" and node not in nodes:
            self._fault("test.unknown_node", "/selection/node", f"There is no node {node or 'named'}.")
        elif part != "whole" and nodes[self._node].inside:
            around = nodes[self._node].inside
            message = f"{node} lies inside of {around}, so nobody knows its item: test {around}."
            self._fault("test.unknown_node", "/selection/node", message, node)
        elif part != "whole" and nodes[self._node].undoes:
            undone = nodes[self._node].undoes
            message = f"{node} undoes {undone}, and is made when a run of that fails."
            self._fault("test.unknown_node", "/selection/node", message, node)
        for name in self._given.pins:
            if name not in nodes:
                self._fault("test.unknown_node", f"/pins/{name}", f"There is no node {name}.")
        if self._given.input is not None and part != "node":
            self._fault("test.bad_pin", "/input", "An input can be given where one node runs alone.")

    def made(self) -> Narrowed | None:
        """None: there are faults."""
        runs = self._runs()
        pins = self._pins(runs)
        kept = self._kept(runs, pins)
        if self._part in ("node", "from"):
            self._check_pinned(kept - runs - pins.keys())
        nodes = tuple(self._nodes(kept, pins))
        if self.faults:
            return None
        present = {node.id for node in nodes}
        edges = tuple(edge for edge in self._plan.edges if {edge.source, edge.target} <= present)
        return Narrowed(
            plan=structs.replace(self._plan, nodes=nodes, edges=edges),
            outline=self._outline(nodes, present),
        )

    # --- What runs, and what is needed for it ---------------------------------------------------

    def _runs(self) -> set[NodeId]:
        """The nodes that the test is about, of the workflow's own."""
        if self._part == "whole":
            return set(self._graph.order)
        if self._part == "from":
            return {name for name in self._graph.order if self._node in (name, *self._before[name])}
        return {self._node}

    def _kept(self, runs: set[NodeId], pins: dict[NodeId, Pin]) -> set[NodeId]:
        """What runs, and what is needed for it. What may not run and is not pinned is told; what is before that, is not."""
        kept, waiting, others_run = set[NodeId](), list(runs), self._part in ("whole", "until")
        while waiting:
            name = waiting.pop()
            if name in kept:
                continue
            kept.add(name)
            if name not in pins and (others_run or name in runs):
                waiting += (edge.source for edge in self._graph.incoming[name])
                waiting += self._read_by(name, pins)
        return kept

    def _read_by(self, name: NodeId, pins: dict[NodeId, Pin]) -> Iterator[NodeId]:
        """What a node's expressions look at, and what has to happen between the two for that to be there in time."""
        for read in sorted(set(self._looks_at(name))):
            yield read
            if read not in pins:
                yield from (each for each in self._before[name] if read in self._before[each])

    def _looks_at(self, name: NodeId) -> Iterator[NodeId]:
        """By the expressions of a node and of all that lies inside of it, as far as it is one of the workflow's own."""
        node = self._graph.nodes[name]
        reads = {
            *node.reads.nodes,
            *(self._graph.nodes[node.compensate].reads.nodes if node.compensate else ()),
        }
        yield from (read for read in reads if read in self._before and read != name)
        for inner in self._graph.inside.get(name, ()):
            yield from (read for read in self._looks_at(inner) if read != name)

    def _check_pinned(self, unpinned: Iterable[NodeId]) -> None:
        for name in sorted(unpinned, key=self._graph.order.index):
            message = f"{name} comes before what is tested: pin what came of it, or name a run that tells."
            self._fault("test.unpinned", f"/pins/{name}", message, name)

    # --- Pins -----------------------------------------------------------------------------------

    def _pins(self, runs: set[NodeId]) -> dict[NodeId, Pin]:
        """What stands for which node. The node that a part is named by always runs."""
        pins = {
            name: self._as_it_is(name, pin)
            for name, pin in self._given.recorded.items()
            if name in self._before and self._is_recorded(name, pin, runs)
        }
        pins |= {name: pin for name, pin in self._given.pins.items() if name != self._node}
        return {**self._by_input(pins), **pins}

    def _is_recorded(self, name: NodeId, pin: Pin, runs: set[NodeId]) -> bool:
        """Whether what was recorded stands for the node: of the whole, for what acts or waits for the world."""
        return pin.waited or self._touches(name) if self._part == "whole" else name not in runs

    def _as_it_is(self, name: NodeId, pin: Pin) -> Pin:
        """What would be sent is told too, where all that it is made of is there."""
        acts = self._graph.nodes[name].place == "executor" and not pin.skipped
        return structs.replace(pin, evaluated=acts and self._part == "whole")

    def _touches(self, name: NodeId) -> bool:
        """Whether it acts, or something inside of it."""
        return _acts(self._graph.nodes[name]) or any(map(self._touches, self._graph.inside.get(name, ())))

    def _by_input(self, pins: dict[NodeId, Pin]) -> dict[NodeId, Pin]:
        """The given input, as what the nodes before the one that runs gave."""
        given = self._given.input
        ways = dict[NodeId, tuple[PortName, ...]]()
        for edge in self._graph.incoming.get(self._node, ()):
            if edge.source not in pins:
                ways[edge.source] = (*ways.get(edge.source, ()), edge.port)
        if given is None or len(ways) < 2:
            return (
                {}
                if given is None
                else {name: Pin(output=given, ports=ports) for name, ports in ways.items()}
            )
        try:
            members = _members(given.value) if isinstance(given, Inline) else {}
        except msgspec.DecodeError:
            members = {}
        for name in ways.keys() - members.keys():
            message = f"Several nodes lead to {self._node}, so its input is an object with what each gave; {name} is not in it."
            self._fault("test.bad_pin", "/input", message, name)
        return {
            name: Pin(output=Inline(value=members[name]), ports=ports)
            for name, ports in ways.items()
            if name in members
        }

    def _nodes(self, kept: set[NodeId], pins: dict[NodeId, Pin]) -> Iterator[PlanNode]:
        for node in self._plan.nodes:
            around = tuple(self._around(node))
            own = around[-1] if around else node.undoes or node.id
            if own in kept and not pins.keys() & {*around, node.undoes}:
                yield self._pinned(node, pins[node.id]) if node.id in pins else node

    def _around(self, node: PlanNode) -> Iterator[NodeId]:
        """The containers around a node, the innermost first."""
        while node.inside:
            yield node.inside
            node = self._graph.nodes[node.inside]

    def _pinned(self, node: PlanNode, pin: Pin) -> PlanNode:
        """What is left of a node that is not done. No executor is asked, by this release or by one that knows no pins."""
        pin = structs.replace(pin, ports=self._ports(node, pin))
        if pin.evaluated:
            return structs.replace(node, place="orchestrator", compensate="", pin=pin)
        return structs.replace(
            node,
            place="orchestrator",
            compensate="",
            config={},
            conditions=(),
            literal=(),
            secrets=(),
            reads=Reads(),
            contains=False,
            pin=pin,
        )

    def _ports(self, node: PlanNode, pin: Pin) -> tuple[PortName, ...]:
        if pin.error is not None or pin.skipped:
            return ()
        ports: Sequence[PortName] = ("main",) if pin.ports is None else pin.ports
        if not set(ports) <= set(node.outputs):
            message = f"{node.id} goes on by {', '.join(node.outputs)}: say in `ports` by which."
            self._fault("test.bad_pin", f"/pins/{node.id}/ports", message, node.id)
        return tuple(ports)

    def _outline(self, nodes: Sequence[PlanNode], present: set[NodeId]) -> Outline:
        return Outline(
            acts=tuple(
                Act(node=node.id, type=node.type, repeat=node.repeat, inside=node.inside)
                for node in nodes
                if _acts(node)
            ),
            decides=tuple(node.id for node in nodes if not _acts(node) and node.pin is None),
            pinned=tuple(node.id for node in nodes if node.pin is not None),
            left_out=tuple(node.id for node in self._plan.nodes if node.id not in present),
        )


def _acts(node: PlanNode) -> bool:
    """Whether somebody does it: an executor, or a run of another workflow."""
    return node.pin is None and (node.place == "executor" or node.type == STARTS_RUNS)
