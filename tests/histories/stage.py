"""Runs on the real compiler, the real expressions and the orchestrator's own shell, in simulated stores and time."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from chassis.expressions import Language
from contracts.codec import decode_answers, encode, encode_bundle
from contracts.gates import OrgLimit
from contracts.limits import SEGMENT_EVENTS
from contracts.messages import ChildOver, ChildStarted, Message
from contracts.payloads import Inline
from contracts.plans import Plan
from contracts.subjects import call, partition
from contracts.subjects import run as run_subject
from executor.registry import registry
from orchestrator.compiler import compile_workflow
from orchestrator.evaluation import Compiled
from orchestrator.history import state_at
from orchestrator.kinship import child_of
from orchestrator.published import Published
from orchestrator.run import Run
from orchestrator.segments import Bounds
from orchestrator.sources import Sources
from tests.histories.corpus import Recorded
from tests.orchestrator.rooms import Room

ORG: Final = "org"
_NO_LONGER_THAN: Final = 400_000.0
_language: Final = Language()


class Scene(Struct, frozen=True, kw_only=True):
    """A workflow, what starts it, and what is said to the run, in order; a number is a pause in seconds."""

    name: str
    workflow: dict[str, Any]
    body: str = "null"
    """The start's body, as JSON text."""
    said: Sequence[Message | float] = ()
    org_vars: dict[str, Any] = {}
    org_limit: OrgLimit | None = None
    plan_is_lost: bool = False
    segment: int = SEGMENT_EVENTS
    """How many events a segment of its history holds."""


class _Published:
    """Two versions of `billing`, and no other workflow."""

    async def published(self, _org: str, workflow: str) -> Published:
        plans = {1: "1a" * 32, 2: "2b" * 32} if workflow == "billing" else {}
        return Published(exists=bool(plans), latest=len(plans), plans=plans)


def _of_run(said: Message, run: str) -> Message:
    """The message for this run. What is said of a child names the attempt at its step, from which its id follows."""
    if isinstance(said, ChildOver | ChildStarted):
        said = msgspec.structs.replace(said, child=child_of(Run.new(ORG, run), said.step, int(said.child)))
    return msgspec.structs.replace(said, run=run)


class _Stage(Room):
    """The real compiler's plans, with the real expressions."""

    def sources(self, **more: Any) -> Sources:
        return super().sources(
            compile_plan=lambda plan: Compiled(plan, _language), directory=_Published(), **more
        )


def play(number: int, scene: Scene) -> Recorded:
    """What the history says after the scene."""
    plan = compiled(scene.workflow)
    stage, run = _Stage(plan, seed=number), f"run-{number}"
    stage.bounds = Bounds(events=scene.segment)
    if scene.plan_is_lost:
        stage.blobs.kept.clear()
    started = Raw(b'{"body":%s,"headers":{"x-kind":"test"},"query":{},"method":"POST"}' % scene.body.encode())
    start = msgspec.structs.replace(
        stage.start, run=run, input=Inline(value=started), org_vars=scene.org_vars, org_limit=scene.org_limit
    )

    async def story(stage: _Stage) -> None:
        for said in (start, *scene.said):
            if isinstance(said, float | int):
                await asyncio.sleep(said)
                continue
            letter = encode_bundle([encode(_of_run(said, run))])
            decode_answers(await stage.signals.request(call(partition(run)), letter, 30))
            await asyncio.sleep(0.25)

    stage.play(story, steps=2_000_000, seconds=_NO_LONGER_THAN)
    bodies = [stored.body for stored in stage.log.subjects()[run_subject(ORG, run)]]
    kept = Recorded(
        name=scene.name,
        org=ORG,
        run=run,
        status="",
        plan=None if scene.plan_is_lost else encode(plan).decode(),
        commits=[each.decode() for each in bodies],
        expressions=not scene.plan_is_lost and set(stage.blobs.kept) <= {start.plan},
    )
    return msgspec.structs.replace(kept, status=state_at(ORG, run, kept.decoded()).status)


def compiled(workflow: dict[str, Any]) -> Plan:
    """The plan, by the compiler and the node types of this release."""
    specs = {spec.type: spec for spec in registry().announced}
    plan = compile_workflow(encode(workflow), specs, org=ORG, workflow="flow", version=1, language=_language)
    assert isinstance(plan, Plan), plan
    return plan
