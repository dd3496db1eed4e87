"""What a builder drew, read field by field: every field of a wrong shape is told, not only the first."""

import re
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from chassis.pointers import escaped
from contracts.codec import Malformed, decode_json, depth_exceeds, encode, explain
from contracts.gates import Batch, Debounce, FlowLimit, Rate
from contracts.limits import EDGES, FLOW_LIMITS, JSON_DEPTH, NODES, VARS, WORKFLOW_BYTES
from contracts.workflows import Edge, Fault, Flow, Node, Retry, Workflow

S = TypeVar("S", bound=Struct)

_INTEGERS: Final = range(-(2**63), 2**64)
"""What JSON encoders of any language agree on; a larger one would change on its way."""

_GROUPS: Final[dict[str, type[Struct]]] = {
    "retry": Retry,
    "flow": Flow,
    "rate": Rate,
    "debounce": Debounce,
    "batch": Batch,
}
"""Fields that have fields of their own, each of which is told when it is wrong."""
_LISTS: Final[dict[str, tuple[type[Struct], int]]] = {"limits": (FlowLimit, FLOW_LIMITS)}
"""Lists of such, and how many they hold at most."""

_IN_RETRY: Final = re.compile(r"/nodes/\d+/retry(/|$)")


class Draft(Struct, frozen=True, kw_only=True):
    """The parts that could be read, each with its place in the list, and the ids of those that could not."""

    nodes: tuple[tuple[int, Node], ...] = ()
    edges: tuple[tuple[int, Edge], ...] = ()
    vars: dict[str, Any] = {}
    timeout_s: float | None = None
    flow: Flow | None = None
    on_failure: str | None = None
    broken: frozenset[str] = frozenset()
    """Ids of nodes that are there but could not be read: an edge to one of them does not dangle."""


def read(definition: bytes | Workflow) -> tuple[Draft, list[Fault]]:
    """Read a workflow as far as it can be read. Never raises, whatever the bytes are."""
    try:
        data = definition if isinstance(definition, bytes) else encode(definition)
        if len(data) > WORKFLOW_BYTES:
            return Draft(), [_limit("", f"The workflow is larger than {WORKFLOW_BYTES} bytes.")]
        if depth_exceeds(data):
            return Draft(), [_malformed("", f"The JSON nests deeper than {JSON_DEPTH} levels.")]
        drawn = decode_json(data)
    except Malformed as malformed:
        return Draft(), [_malformed(malformed.pointer, str(malformed))]
    except (OverflowError, TypeError, RecursionError) as error:
        return Draft(), [_malformed("", str(error))]
    if not isinstance(drawn, dict):
        return Draft(), [_malformed("", "A workflow is a JSON object.")]
    return _Reading().workflow(drawn)


def _malformed(pointer: str, message: str) -> Fault:
    return Fault(code="malformed", pointer=pointer, message=message[:300])


def _limit(pointer: str, message: str) -> Fault:
    return Fault(code="workflow.limit", pointer=pointer, message=message)


class _Reading:
    """One workflow being read, and the faults found so far."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def workflow(self, drawn: dict[str, Any]) -> tuple[Draft, list[Fault]]:
        nodes, edges = self._list(drawn, "nodes", NODES), self._list(drawn, "edges", EDGES)
        rest = self._fields(
            Workflow, {name: value for name, value in drawn.items() if name not in ("nodes", "edges")}, ""
        )
        if "nodes" not in drawn or drawn["nodes"] == []:
            self.faults.append(
                Fault(
                    code="workflow.no_nodes", pointer="/nodes", message="A workflow needs at least one node."
                )
            )
        if len(rest.get("vars", {})) > VARS:
            self.faults.append(_limit("/vars", f"A workflow has at most {VARS} variables."))
        self._numbers(rest.get("vars", {}), "/vars")
        read_nodes = [self._part(Node, value, f"/nodes/{place}") for place, value in enumerate(nodes)]
        read_edges = [self._part(Edge, value, f"/edges/{place}") for place, value in enumerate(edges)]
        broken = (
            value.get("id")
            for value, node in zip(nodes, read_nodes, strict=True)
            if node is None and isinstance(value, dict)
        )
        draft = Draft(
            nodes=tuple((place, node) for place, node in enumerate(read_nodes) if node is not None),
            edges=tuple((place, edge) for place, edge in enumerate(read_edges) if edge is not None),
            vars=rest.get("vars", {}),
            timeout_s=rest.get("timeout_s"),
            flow=rest.get("flow"),
            on_failure=rest.get("on_failure"),
            broken=frozenset(name for name in broken if isinstance(name, str)),
        )
        return draft, self.faults

    def _list(self, drawn: dict[str, Any], name: str, most: int) -> list[Any]:
        value = drawn.get(name, [])
        if not isinstance(value, list):
            self.faults.append(_malformed(f"/{name}", "This is a list."))
            return []
        if len(value) > most:
            self.faults.append(_limit(f"/{name}", f"A workflow has at most {most} {name}."))
            return []
        return value

    def _part(self, kind: type[S], value: Any, pointer: str) -> S | None:
        """A node or an edge, without its optional fields of a wrong shape; None when one that it needs has one."""
        if not isinstance(value, dict):
            self.faults.append(_malformed(pointer, "This is an object."))
            return None
        fields = self._fields(kind, value, pointer)
        self._numbers(value.get("config"), f"{pointer}/config")
        needed = {field.name for field in msgspec.structs.fields(kind) if field.required}
        return kind(**fields) if needed <= fields.keys() else None

    def _fields(self, kind: type[Struct], value: dict[str, Any], pointer: str) -> dict[str, Any]:
        """The fields that have their shape; a fault for each that has not, is missing, or is not known."""
        read_fields: dict[str, Any] = {}
        known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name in value:
            if name not in known:
                self._fault(f"{pointer}/{escaped(name)}", "There is no such field.")
        for name, field in known.items():
            place = f"{pointer}/{name}"
            group = _GROUPS.get(name)
            several = _LISTS.get(name)
            if group is not None and isinstance(value.get(name), dict):
                whole = self._part(group, value[name], place)
                if whole is not None:
                    read_fields[name] = whole
            elif several is not None and isinstance(value.get(name), list):
                read_fields[name] = self._several(*several, value[name], place)
            elif name in value:
                try:
                    read_fields[name] = msgspec.convert(value[name], field.type)
                except (msgspec.ValidationError, RecursionError) as error:
                    message, inner = explain(error)
                    self._fault(place + inner, message)
            elif field.required and kind is not Workflow:
                self._fault(place, "This field is missing.")
        return read_fields

    def _several(self, kind: type[S], most: int, values: list[Any], pointer: str) -> tuple[S, ...]:
        """Those that could be read. One that could not has its fault, so no plan is made of the others."""
        if len(values) > most:
            self.faults.append(_limit(pointer, f"There are at most {most}."))
            return ()
        parts = [self._part(kind, value, f"{pointer}/{place}") for place, value in enumerate(values)]
        return tuple(part for part in parts if part is not None)

    def _fault(self, pointer: str, message: str) -> None:
        code = "workflow.bad_retry" if _IN_RETRY.match(pointer) else "malformed"
        self.faults.append(Fault(code=code, pointer=pointer, message=message[:300]))

    def _numbers(self, value: Any, pointer: str) -> None:
        """No integer that would change on its way through another program's numbers."""
        waiting = [(value, pointer)]
        while waiting:
            one, place = waiting.pop()
            match one:
                case dict():
                    waiting += [(item, f"{place}/{escaped(name)}") for name, item in one.items()]
                case list():
                    waiting += [(item, f"{place}/{number}") for number, item in enumerate(one)]
                case int() if one not in _INTEGERS:
                    self.faults.append(_malformed(place, "This number is too large; write it as a text."))
