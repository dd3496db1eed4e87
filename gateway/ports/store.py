"""Looks through the newest runs of a workflow for what its nodes brought."""

from collections.abc import Iterable
from typing import Any, Final

from chassis.edge.problems import Problem
from chassis.ports import Blobs
from contracts.codec import Malformed, Unknown, decode_commit, decode_json
from contracts.limits import KIB, MIB
from contracts.payloads import Inline, Payload
from contracts.runs import DoubtResolved, RunEvent, RunStarted, StepReported, StepSucceeded
from gateway.payloads import bytes_of
from gateway.ports.inference import Shape
from gateway.ports.views import NodePorts, PortsView, PortView
from gateway.runs.histories import Histories
from gateway.runs.queries import RunFilter, RunQueries
from gateway.workflows.queries import WorkflowQueries

VALUES_OF_A_PORT: Final = 200
EVENTS_OF_A_RUN: Final = 5_000
VALUE_BYTES: Final = 256 * KIB
ALL_BYTES: Final = 8 * MIB


class Ports:
    def __init__(
        self, workflows: WorkflowQueries, runs: RunQueries, histories: Histories, blobs: Blobs
    ) -> None:
        self._workflows, self._runs, self._histories, self._blobs = workflows, runs, histories, blobs

    async def of(self, org: str, workflow: str, runs: int) -> PortsView:
        """Raises `Rejected` when the org has no such workflow."""
        await self._workflows.get(org, workflow)
        newest = await self._runs.list(org, RunFilter(workflow=workflow), None, runs)
        looking = _Looking(self._blobs)
        for run in newest.items:
            await self._look_through(looking, org, run.id)
        return looking.view(workflow, len(newest.items))

    async def _look_through(self, looking: "_Looking", org: str, run: str) -> None:
        async for page in self._histories.pages(org, run):
            for lying in page:
                try:
                    events = decode_commit(lying.body).events
                except (Unknown, Malformed):
                    return  # A newer release may tell what comes now.
                if not await looking.look(run, events):
                    return


class _Looking:
    """What was seen so far, within bounds."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._trigger = Shape()
        self._ports: dict[str, dict[str, Shape]] = {}
        self._brought: dict[tuple[str, str], Payload] = {}
        """Outputs that were reported, until it is said by which ports they went."""
        self._looked: dict[str, int] = {}
        self._bytes = 0
        self._left_out = 0

    async def look(self, run: str, events: Iterable[RunEvent]) -> bool:
        """Whether more of the run may be looked at."""
        for event in events:
            self._looked[run] = self._looked.get(run, 0) + 1
            if self._looked[run] > EVENTS_OF_A_RUN:
                return False
            match event:
                case RunStarted():
                    await self._see(self._trigger, event.input)
                case StepReported() | DoubtResolved():
                    self._brought[run, event.step] = event.output
                case StepSucceeded():
                    output = event.output or self._brought.pop((run, event.step), None)
                    for port in event.ports if output is not None else ():
                        await self._see(self._port(event.node, port), output)
        return True

    def _port(self, node: str, port: str) -> Shape:
        return self._ports.setdefault(node, {}).setdefault(port, Shape())

    async def _see(self, shape: Shape, payload: Payload | None) -> None:
        value = await self._value(payload) if shape.seen < VALUES_OF_A_PORT else _NOTHING
        if value is _NOTHING:
            self._left_out += 1
        else:
            shape.see(value)

    async def _value(self, payload: Payload | None) -> Any:
        if payload is None:
            return _NOTHING
        size = len(payload.value) if isinstance(payload, Inline) else payload.size
        if size > VALUE_BYTES or self._bytes + size > ALL_BYTES:
            return _NOTHING
        self._bytes += size
        try:
            return decode_json(await bytes_of(payload, self._blobs))
        except (Problem, Malformed):
            return _NOTHING  # It is no longer in the object store, or is no JSON.

    def view(self, workflow: str, runs: int) -> PortsView:
        return PortsView(
            workflow=workflow,
            runs=runs,
            left_out=self._left_out,
            trigger=_view(self._trigger) if self._trigger.seen else None,
            nodes=[
                NodePorts(node=node, ports={port: _view(shape) for port, shape in ports.items()})
                for node, ports in sorted(self._ports.items())
            ],
        )


_NOTHING: Final = object()


def _view(shape: Shape) -> PortView:
    return PortView(seen=shape.seen, schema=shape.schema())
