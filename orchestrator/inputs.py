"""What comes into a node: the outputs before it, taken from the state or from stored values that were fetched before."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from chassis.expressions import Job
from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import PREFETCH_BYTES, NodeId
from contracts.payloads import NULL, Blob, Inline, Payload
from contracts.plans import PlanNode
from orchestrator.control import Unfit
from orchestrator.readiness import Graph, taken_from
from orchestrator.state import Run, Step

JSON: Final = "application/json"


class NotReady(Exception):
    """A decision needs what is not at hand: a plan, stored values, evaluations made apart, what the archive knows.

    Nothing was decided. Get it and ask again.
    """

    def __init__(
        self,
        *,
        plan: str = "",
        values: frozenset[Blob] = frozenset(),
        jobs: Sequence[Job] = (),
        past: tuple[str, str] | None = None,
    ) -> None:
        """`past`: the org and the run of which the archive must say whether it ended once."""
        super().__init__(plan or f"{len(values)} stored values and {len(jobs)} evaluations")
        self.past = past
        self.plan = plan
        self.values = values
        self.jobs = tuple(jobs)


class Unreadable(Exception):
    """A stored value is gone, or larger than a decision may read."""

    def __init__(self, blob: Blob) -> None:
        super().__init__(blob.sha256)
        large = blob.size > PREFETCH_BYTES
        self.failure = Failure(
            code="payload.too_large" if large else "payload.missing",
            message=f"A stored value of {blob.size} bytes "
            + ("is larger than an expression may read." if large else "is no longer in the object store."),
        )


class Values(Struct, frozen=True):
    """Stored values by hash, as far as they were fetched; None stands for one that is gone."""

    fetched: Mapping[str, bytes | None]

    def json(self, payload: Payload) -> Raw:
        """The value as JSON. What is not JSON stands as its reference."""
        if isinstance(payload, Inline):
            return payload.value
        if payload.content_type != JSON:
            return reference(payload)
        if payload.size > PREFETCH_BYTES:
            raise Unreadable(payload)
        if payload.sha256 not in self.fetched:
            raise NotReady(values=frozenset({payload}))
        found = self.fetched[payload.sha256]
        if found is None:
            raise Unreadable(payload)
        return Raw(found)

    def all_json(self, payloads: Mapping[str, Payload]) -> dict[str, Raw]:
        """Each value as JSON. What is missing of them is missing together, to be fetched together."""
        found: dict[str, Raw] = {}
        missing: frozenset[Blob] = frozenset()
        for name, payload in payloads.items():
            try:
                found[name] = self.json(payload)
            except NotReady as not_ready:
                missing |= not_ready.values
        if missing:
            raise NotReady(values=missing)
        return found


def reference(blob: Blob) -> Raw:
    """A stored value as expressions and outputs name it: its hash, size and type."""
    return Raw(encode({"blob": blob}))


class _Trigger(Struct, frozen=True):
    body: Raw


class Incoming(Struct, frozen=True):
    """The input of one node in one run."""

    graph: Graph
    run: Run
    node: PlanNode
    values: Values

    def payload(self) -> Payload:
        """One predecessor's output is passed on as it is, by reference when it is stored apart."""
        sources = taken_from(self.graph, self.run, self.node.id)
        if not sources:
            return Inline(value=trigger_body(self.values.json(self.run.input)))
        if len(sources) == 1:
            return carried(self.run.step(sources[0]))
        return Inline(value=Raw(encode(self.by_node())))

    def members(self) -> dict[str, Raw]:
        try:
            return msgspec.json.decode(self.values.json(self.payload()), type=dict[str, Raw])
        except msgspec.ValidationError:
            raise Unfit("/keep_input", "The input is not an object, so its fields cannot be kept.") from None

    def by_node(self) -> dict[NodeId, Raw]:
        sources = taken_from(self.graph, self.run, self.node.id)
        return self.values.all_json({source: carried(self.run.step(source)) for source in sources})


def trigger_body(trigger: Raw) -> Raw:
    """The body of what started the run; the whole of it when it has none."""
    try:
        return msgspec.json.decode(trigger, type=_Trigger).body
    except msgspec.ValidationError:
        return trigger


def carried(step: Step) -> Payload:
    """What a step gives to those behind it: its output, or its error on the error path."""
    if step.status == "failed" and step.error is not None:
        return Inline(value=Raw(encode(step.error)))
    return step.output or NULL


def run_output(graph: Graph, run: Run) -> Payload:
    """One last node: its output. Several: an object of the outputs of those that succeeded, by node id."""
    if len(graph.leaves) == 1:
        return carried(run.step(graph.leaves[0]))
    outputs = {leaf: _shown(output) for leaf in graph.leaves if (output := run.step(leaf).output) is not None}
    return Inline(value=Raw(encode(outputs)))


def _shown(output: Payload) -> Raw:
    return output.value if isinstance(output, Inline) else reference(output)
