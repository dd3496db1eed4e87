"""What the plan of a run marks of what people and programs say to it, read where it is asked for."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from chassis.edge.problems import Problem
from chassis.ports import Blobs
from contracts.codec import decode_commit
from contracts.limits import Marks, NodeId, SignalName, StepPath
from contracts.payloads import Blob
from contracts.runs import beginning
from gateway.rejected import absent
from gateway.runs.histories import Histories, first_of

PLANS_KEPT: Final = 1_000


class Marked(Struct, frozen=True):
    """Only what is marked."""

    nodes: Mapping[NodeId, Marks]
    signals: Mapping[SignalName, Marks]
    """Of all nodes that listen to the name: nobody knows yet which of them will hear it."""

    def of_step(self, step: StepPath) -> Marks:
        return self.nodes.get(step.rpartition(".")[2], ())


class _Config(Struct, frozen=True):
    signal: Any = None


class _Node(Struct, frozen=True):
    id: NodeId
    type: str
    sensitive: Marks = ()
    config: _Config = _Config()


class _Plan(Struct, frozen=True):
    nodes: tuple[_Node, ...]


class PlanMarks:
    """A plan never changes, so what was read of one is kept."""

    def __init__(self, histories: Histories, blobs: Blobs) -> None:
        self._histories, self._blobs = histories, blobs
        self._kept: dict[str, Marked] = {}

    async def of(self, org: str, run: str) -> Marked:
        """Raises `Problem` when the plan cannot be read: then nobody knows what has to be sealed."""
        lying = await first_of(self._histories, org, run)
        if lying is None:
            raise absent("run")
        started = beginning(decode_commit(lying.body).events)
        if started is None:
            raise Problem("payload.missing", "The beginning of the run's history is no longer kept.")
        if started.plan not in self._kept:
            self._kept[started.plan] = await self._read(started.plan)
            while len(self._kept) > PLANS_KEPT:
                del self._kept[next(iter(self._kept))]
        return self._kept[started.plan]

    async def _read(self, plan: str) -> Marked:
        try:
            stored = await self._blobs.get(Blob(sha256=plan, size=0, content_type="application/json"))
            nodes = msgspec.json.decode(stored, type=_Plan).nodes
        except KeyError:
            raise Problem("payload.missing", "The plan of the run is no longer kept.") from None
        except msgspec.DecodeError:
            raise Problem("payload.missing", "The plan of the run cannot be read by this release.") from None
        marked = [node for node in nodes if node.sensitive]
        signals: dict[SignalName, Marks] = {}
        for node in marked:
            if node.type == "wait.signal" and isinstance(node.config.signal, str):
                signals[node.config.signal] = (*signals.get(node.config.signal, ()), *node.sensitive)
        return Marked(nodes={node.id: node.sensitive for node in marked}, signals=signals)
