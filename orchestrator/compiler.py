"""From a workflow to its plan, or to every fault in it, each with its place and a code.

Rule that holds here: a plan is all that a run ever needs. What decisions use of node specs is copied into it, so a run
goes on the same way after every node type has changed. Whatever is drawn, no exception leaves.
"""

import hashlib
import re
from collections.abc import Mapping, Set
from typing import Any, Final

import msgspec
from msgspec import Struct

from chassis.expressions import Form as Fields
from chassis.expressions import Language, Scope, compile_condition, compile_config
from contracts.codec import encode
from contracts.limits import (
    ATTEMPT_SECONDS,
    CEL_PER_WORKFLOW,
    PORTS_PER_NODE,
    NodeId,
    PoolName,
    PortName,
)
from contracts.nodes import NodeSpec
from contracts.plans import Plan, PlanEdge, PlanNode, Reads
from contracts.workflows import Edge, Fault, Node, Retry, Workflow
from orchestrator.asking import WITH_LINKS, asked_by_default, flaws_of_approval
from orchestrator.catalogue import NOTE, SPECS
from orchestrator.compensation import faults_of_undos, undone_by
from orchestrator.drafts import Draft, read
from orchestrator.insides import Insides
from orchestrator.limiting import faults_of_limits
from orchestrator.marking import flaws_of_marks
from orchestrator.schemas import Finding, Form
from orchestrator.state import ERROR_PORT
from orchestrator.topology import Topology, examine


def compile_workflow(
    definition: bytes | Workflow,
    specs: Mapping[str, NodeSpec],
    *,
    org: str,
    workflow: str,
    version: int,
    language: Language | None = None,
) -> Plan | list[Fault]:
    """The plan, or all faults at once, in the order of their places.

    `specs`: what executors announced, by type (its newest version) and by `type@version`; control nodes are known anyway.
    `language`: the process' own, where there is one; it keeps what it compiled.
    """
    draft, faults = read(definition)
    compiling = _Compiling(draft, {**specs, **SPECS}, faults, language or Language())
    nodes = compiling.nodes()
    if faults:
        return sorted(faults, key=_place)
    return Plan(
        org=org,
        workflow=workflow,
        version=version,
        nodes=nodes,
        edges=tuple(
            PlanEdge(source=edge.source, port=edge.port, target=edge.target, into=edge.into)
            for _, edge in draft.edges
        ),
        vars=draft.vars,
        timeout_s=draft.timeout_s,
        flow=draft.flow,
        on_failure=draft.on_failure,
    )


def encoded(plan: Plan) -> tuple[bytes, str]:
    """The bytes under which a plan is stored, and their SHA-256: its name."""
    body = encode(plan)
    return body, hashlib.sha256(body).hexdigest()


_PARTS: Final = re.compile(r"\d+|\D+")


def _place(fault: Fault) -> tuple[tuple[int, int, str], ...]:
    """Sorts `/nodes/9` before `/nodes/10`."""
    return tuple(
        (0, int(part), "") if part.isdecimal() and len(part) < 10 else (1, 0, part)
        for part in _PARTS.findall(fault.pointer)
    )


class _Drawn(Struct, frozen=True, kw_only=True):
    """A node whose type is known."""

    place: int
    node: Node
    form: Form
    outputs: tuple[PortName, ...]


class _Compiling:
    """One workflow on its way to a plan; every method adds the faults that it finds."""

    def __init__(
        self, draft: Draft, specs: Mapping[str, NodeSpec], faults: list[Fault], language: Language
    ) -> None:
        self._draft = draft
        self._specs = specs
        self._faults = faults
        self._language = language
        self._forms: dict[tuple[str, int], Form] = {}
        self._nodes: dict[NodeId, tuple[int, Node]] = {}
        self._drawn: list[_Drawn] = []
        self._named: dict[NodeId, _Drawn] = {}
        self._undoes = undone_by(draft)
        self._expressions = 0

    def nodes(self) -> tuple[PlanNode, ...]:
        """The nodes of the plan in topological order; of no use when there are faults."""
        self._read_ids()
        self._read_types()
        topology = self._read_edges()
        specs = {name: drawn.form.spec for name, drawn in self._named.items()}
        self._insides = Insides(
            self._draft, [(each.place, each.node, each.form.spec) for each in self._drawn]
        )
        self._faults += self._insides.faults()
        self._faults += faults_of_undos(self._draft, specs)
        self._read_limits()
        planned = {drawn.place: self._planned(drawn, topology) for drawn in self._drawn}
        if self._expressions > CEL_PER_WORKFLOW:
            message = (
                f"All nodes together have {self._expressions} expressions; at most are {CEL_PER_WORKFLOW}."
            )
            self._fault("workflow.limit", "/nodes", message)
        order = [name for name in topology.order if self._nodes[name][1].type != NOTE]
        return tuple(
            msgspec.structs.replace(planned[self._nodes[name][0]], order=rank)
            for rank, name in enumerate(order)
            if self._nodes[name][0] in planned
        )

    def _fault(
        self, code: str, pointer: str, message: str, node: str | None = None, position: int | None = None
    ) -> None:
        self._faults.append(Fault(code=code, pointer=pointer, message=message, node=node, position=position))

    # --- Nodes and their types ----------------------------------------------------------------

    def _read_ids(self) -> None:
        for place, node in self._draft.nodes:
            if node.id in self._nodes:
                first = self._nodes[node.id][0]
                self._fault(
                    "workflow.duplicate_node",
                    f"/nodes/{place}/id",
                    f"Node {first} has the id {node.id} already.",
                    node.id,
                )
            else:
                self._nodes[node.id] = (place, node)

    def _read_types(self) -> None:
        for place, node in self._draft.nodes:
            spec = self._spec(node)
            if spec is None:
                version = f" in version {node.type_version}" if node.type_version else ""
                self._fault(
                    "workflow.unknown_node_type",
                    f"/nodes/{place}/type",
                    f"Nobody has announced node type {node.type}{version}.",
                    node.id,
                )
                continue
            form = self._forms.setdefault((spec.type, spec.version), Form(spec))
            drawn = _Drawn(place=place, node=node, form=form, outputs=self._outputs(place, node, spec))
            self._drawn.append(drawn)
            self._named.setdefault(node.id, drawn)
            self._read_bounds(place, node)

    def _spec(self, node: Node) -> NodeSpec | None:
        spec = self._specs.get(node.type)
        if node.type_version is None or (spec is not None and spec.version == node.type_version):
            return spec
        return self._specs.get(f"{node.type}@{node.type_version}")

    def _read_bounds(self, place: int, node: Node) -> None:
        if node.pool is not None and not _fits(node.pool, PoolName):
            self._fault(
                "malformed",
                f"/nodes/{place}/pool",
                "A pool's name is lower-case letters, digits and dashes.",
                node.id,
            )
        if node.timeout_s is not None and node.timeout_s > ATTEMPT_SECONDS:
            self._fault(
                "workflow.limit",
                f"/nodes/{place}/timeout_s",
                f"An attempt takes at most {ATTEMPT_SECONDS} seconds.",
                node.id,
            )

    def _outputs(self, place: int, node: Node, spec: NodeSpec) -> tuple[PortName, ...]:
        """The ports of the type, and those that the configuration names."""
        ports = [port.name for port in spec.outputs]
        if spec.outputs_from is None:
            return tuple(ports)
        for number, item in enumerate(_listed(node.config, spec.outputs_from)):
            name = item.get("name") if isinstance(item, dict) else item
            pointer = f"/nodes/{place}/config{spec.outputs_from}/{number}" + (
                "/name" if isinstance(item, dict) else ""
            )
            if not isinstance(name, str) or not _fits(name, PortName) or name == ERROR_PORT:
                self._fault("workflow.bad_config", pointer, "This cannot be the name of a port.", node.id)
            elif name in ports:
                self._fault("workflow.bad_config", pointer, f"Port {name} stands twice.", node.id)
            else:
                ports.append(name)
        if len(ports) > PORTS_PER_NODE:
            self._fault(
                "workflow.limit",
                f"/nodes/{place}/config{spec.outputs_from}",
                f"A node has at most {PORTS_PER_NODE} ports.",
                node.id,
            )
        return tuple(ports)

    # --- Edges and the shape ------------------------------------------------------------------

    def _read_edges(self) -> Topology:
        arrows: dict[NodeId, list[NodeId]] = {name: [] for name in self._nodes}
        seen: set[Edge] = set()
        for place, edge in self._draft.edges:
            if edge in seen:
                self._fault("workflow.duplicate_edge", f"/edges/{place}", "The same edge stands twice.")
                continue
            seen.add(edge)
            self._read_ends(place, edge)
            if edge.source in self._nodes and edge.target in self._nodes:
                arrows[edge.source].append(edge.target)
        topology = examine(arrows)
        for circle in topology.circles:
            place = self._nodes[circle[0]][0]
            way = " → ".join((*circle, circle[0]))
            self._fault("workflow.cycle", f"/nodes/{place}", f"These nodes form a circle: {way}.", circle[0])
        for name in topology.unreachable:
            place = self._nodes[name][0]
            self._fault(
                "workflow.unreachable", f"/nodes/{place}", f"No path leads from a start to {name}.", name
            )
        return topology

    def _read_ends(self, place: int, edge: Edge) -> None:
        for end, name in (("source", edge.source), ("target", edge.target)):
            if name not in self._nodes and name not in self._draft.broken:
                self._fault(
                    "workflow.dangling_edge", f"/edges/{place}/{end}", f"There is no node {name}.", name
                )
        source, target = self._named.get(edge.source), self._named.get(edge.target)
        if source is not None and target is not None and source.node.inside != target.node.inside:
            self._fault(
                "workflow.bad_inside",
                f"/edges/{place}",
                f"{edge.source} and {edge.target} do not lie in the same container; edges do not cross its border.",
                edge.source,
            )
        if source is not None and edge.port not in (*source.outputs, ERROR_PORT):
            self._fault(
                "workflow.unknown_port",
                f"/edges/{place}/port",
                f"Node {edge.source} has no output {edge.port}; it has {', '.join(source.outputs)} and error.",
                edge.source,
            )
        if target is not None and edge.into not in (port.name for port in target.form.spec.inputs):
            self._fault(
                "workflow.unknown_port",
                f"/edges/{place}/into",
                f"Node {edge.target} has no input {edge.into}.",
                edge.target,
            )

    # --- Gates ----------------------------------------------------------------------------------

    def _read_limits(self) -> None:
        if self._draft.flow is not None and isinstance(self._draft.flow.priority, str):
            self._read_key(self._draft.flow.priority, "/flow/priority")
        if any(fault.pointer.startswith("/flow/limits") for fault in self._faults):
            return  # What could not be read stands in no place here.
        limits = self._draft.flow.limits if self._draft.flow is not None else ()
        self._faults += faults_of_limits(limits)
        for place, limit in enumerate(limits):
            if limit.per:
                self._read_key(limit.per, f"/flow/limits/{place}/per")

    def _read_key(self, source: str, pointer: str) -> None:
        """It is read before the first step begins: no step has an output yet."""
        scope = Scope(nodes=frozenset(), known=frozenset(self._nodes))
        key = compile_condition(source, self._language, node="", field=pointer, scope=scope)
        self._expressions += key.expressions
        for fault in key.faults:
            self._fault("workflow.bad_expression", pointer, fault.message, position=fault.position.offset)

    # --- Configurations -----------------------------------------------------------------------

    def _waits_beside(self, insides: Set[NodeId | None]) -> frozenset[NodeId]:
        """The nodes in these containers that are answered by a link."""
        return frozenset(
            name
            for name, (_, node) in self._nodes.items()
            if node.type in WITH_LINKS and node.inside in insides
        )

    def _before(self, node: Node, topology: Topology) -> frozenset[NodeId]:
        """The nodes whose outputs are there when this one begins; for one that undoes: when the other has succeeded."""
        known, undoes = frozenset(self._nodes), self._undoes.get(node.id)
        names = (undoes or node.id, *self._insides.around(node))
        # In and behind a circle nobody can say what comes before; the circle itself is told.
        before = frozenset[NodeId]().union(*(topology.ancestors.get(name, known) for name in names))
        return before if undoes is None else before | {undoes}

    def _planned(self, drawn: _Drawn, topology: Topology) -> PlanNode:
        node, spec, marks = drawn.node, drawn.form.spec, drawn.form.marks
        at = f"/nodes/{drawn.place}/config"
        for pointer, message in _findings(drawn):
            self._fault("workflow.bad_config", at + pointer, message, node.id)
        if node.on_error == "continue" and "main" not in drawn.outputs:
            message = (
                "A node that chooses between ports cannot go on after a failure: nobody could say by which."
            )
            self._fault("workflow.bad_config", f"/nodes/{drawn.place}/on_error", message, node.id)
        sensitive = spec.sensitive if node.sensitive is None else node.sensitive
        for pointer, message in flaws_of_marks(spec, sensitive):
            self._fault("workflow.bad_config", f"/nodes/{drawn.place}/sensitive{pointer}", message, node.id)
        around = self._insides.around(node)
        fields = compile_config(
            node.config,
            self._language,
            node=node.id,
            form=Fields(conditions=marks.conditions, literal=marks.literal),
            # A loop's condition is about what its round gave.
            scope=Scope(
                nodes=self._before(node, topology),
                known=frozenset(self._nodes),
                item=bool(around) or spec.type == "loop",
                waits=self._waits_beside({None, *around}),
            ),
        )
        self._expressions += fields.expressions
        for fault in fields.faults:
            self._fault(
                "workflow.bad_expression", at + fault.field, fault.message, node.id, fault.position.offset
            )
        return PlanNode(
            id=node.id,
            type=spec.type,
            type_version=spec.version,
            place=spec.place,
            pool=node.pool or spec.pool,
            repeat=spec.repeat,
            join="any" if spec.type == "merge" and node.config.get("mode") in ("any", "first") else "all",
            retry=node.retry or Retry(),
            on_error=node.on_error,
            compensate=node.compensate or "",
            undoes=self._undoes.get(node.id, ""),
            timeout_s=node.timeout_s or spec.timeout_s,
            config=asked_by_default(node.config) if node.type == "wait.approval" else node.config,
            conditions=marks.conditions,
            literal=marks.literal,
            secrets=marks.secrets,
            sensitive=sensitive,
            outputs=drawn.outputs,
            reads=Reads(
                trigger=fields.reads.trigger,
                item=fields.reads.item,
                nodes=tuple(sorted(fields.reads.nodes)),
            ),
            inside=node.inside or "",
            contains=spec.contains,
        )


def _fits(value: str, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _findings(drawn: _Drawn) -> list[Finding]:
    """What is wrong with a node's configuration; what its schema cannot say is looked at when it fits that."""
    config = drawn.node.config
    found = drawn.form.findings(config)
    return [*flaws_of_approval(config)] if not found and drawn.node.type == "wait.approval" else found


def _listed(config: Mapping[str, Any], pointer: str) -> list[Any]:
    """The list at a JSON pointer of a configuration; empty when there is none."""
    value: Any = config
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, list) else []
