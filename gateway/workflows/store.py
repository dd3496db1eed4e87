"""Writes workflows."""

from chassis.edge.problems import Problem
from chassis.ids import receipt
from chassis.ports import Blobs
from contracts.codec import encode
from contracts.payloads import Payload
from contracts.subjects import DOMAIN
from contracts.workflows import Workflow
from gateway.callers import Caller
from gateway.domain import Cause, Changed, Domain, cause_of
from gateway.payloads import bytes_of, payload_of
from gateway.places import Places
from gateway.sealing import marks_in
from gateway.triggers.binding import Binding
from gateway.workflows import rules
from gateway.workflows.compiling import LARGEST, Compiled, Compiler, request_of
from gateway.workflows.rules import WORKFLOW, WorkflowState


class Workflows:
    """Every change of a workflow."""

    def __init__(
        self, domain: Domain, blobs: Blobs, compiler: Compiler, binding: Binding, places: Places
    ) -> None:
        self._domain, self._blobs, self._compiler = domain, blobs, compiler
        self._binding, self._places = binding, places

    async def create(
        self, caller: Caller, name: str, definition: Workflow | None
    ) -> tuple[str, Changed[WorkflowState]]:
        payload = None if definition is None else await self._payload(definition)
        workflow_id = receipt()
        command = rules.Create(name=name, definition=payload)
        return workflow_id, await self._change(caller, workflow_id, command)

    async def rename(self, caller: Caller, workflow_id: str, name: str) -> Changed[WorkflowState]:
        return await self._change(caller, workflow_id, rules.Rename(name=name))

    async def draft(self, caller: Caller, workflow_id: str, definition: Workflow) -> Changed[WorkflowState]:
        """Save a new version, faults and all; needs no orchestrator."""
        command = rules.Draft(definition=await self._payload(definition))
        return await self._change(caller, workflow_id, command)

    async def definition(self, caller: Caller, workflow_id: str, version: int) -> bytes:
        """The workflow as it was saved, from the log itself."""
        state = await self._domain.load(WORKFLOW, caller.org, workflow_id)
        return await bytes_of(state.definition(version), self._blobs)

    async def validate(self, caller: Caller, workflow_id: str, version: int, definition: bytes) -> Compiled:
        """Every fault; nothing is kept."""
        return await self._compiler.compile(
            request_of(caller.org, workflow_id, version, definition, keep=False)
        )

    async def publish(
        self, caller: Caller, workflow_id: str, version: int
    ) -> tuple[Changed[WorkflowState], int]:
        """Compile, keep the plan, and let the workflow's triggers follow it; the number of triggers.

        Safe to repeat: what was done stays, what is missing is done.
        """
        definition = await self.definition(caller, workflow_id, version)
        compiled = await self._compiler.compile(
            request_of(caller.org, workflow_id, version, definition, keep=True)
        )
        if compiled.plan is None:
            raise Problem("invalid_workflow", "The workflow has faults.", faults=compiled.faults)
        command = rules.Publish(version=version, plan=compiled.plan, sensitive=marks_in(definition))
        changed = await self._change(caller, workflow_id, command)
        return changed, await self._binding.follow(cause_of(caller), workflow_id, changed.place)

    async def delete(self, caller: Caller, workflow_id: str) -> Changed[WorkflowState]:
        """The triggers go first: an address must not start what is gone."""
        cause = cause_of(caller)
        if not (await self._domain.load(WORKFLOW, caller.org, workflow_id)).exists:
            raise Problem("not_found", "There is no such workflow.")
        await self._binding.remove(cause, workflow_id)
        changed = await self._change(caller, workflow_id, rules.Delete(), cause)
        await self._binding.remove(cause, workflow_id, changed.place)
        return changed

    async def _change(
        self, caller: Caller, workflow_id: str, command: rules.Command, cause: Cause | None = None
    ) -> Changed[WorkflowState]:
        changed = await self._domain.change(
            WORKFLOW, workflow_id, lambda state: rules.decide(state, command), cause or cause_of(caller)
        )
        self._places.wrote(caller.org, DOMAIN, changed.place)
        return changed

    async def _payload(self, definition: Workflow) -> Payload:
        data = encode(definition)
        if len(data) > LARGEST:
            raise Problem("too_large", f"A workflow may have {LARGEST} bytes at the most.")
        return await payload_of(data, self._blobs)
