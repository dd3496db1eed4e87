"""Runs on the real compiler, the real expressions and the orchestrator's own shell, in simulated stores and time."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from chassis.expressions import Language
from chassis.testing.queues import MemoryInbox, MemoryOwnership, MemorySignals
from chassis.testing.stores import MemoryBlobs, MemoryLetters, MemoryLog
from chassis.testing.tasks import MemoryTasks
from chassis.testing.world import SimulatedClock, World
from contracts.codec import decode_answers, encode, encode_bundle
from contracts.limits import SEGMENT_EVENTS
from contracts.messages import ChildOver, ChildStarted, Message
from contracts.payloads import Inline
from contracts.plans import Plan
from contracts.subjects import call, partition
from contracts.subjects import run as run_subject
from executor.registry import registry
from orchestrator.answers import Replies
from orchestrator.compiler import compile_workflow, encoded
from orchestrator.emission import Emission
from orchestrator.evaluation import Compiled
from orchestrator.history import state_at
from orchestrator.judge import Judge
from orchestrator.kinship import child_of
from orchestrator.published import Published
from orchestrator.run import Run
from orchestrator.segments import Bounds
from orchestrator.service import Orchestrator
from orchestrator.sources import Sources
from tests.histories.corpus import Recorded
from tests.orchestrator.stories import START

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
    plan_is_lost: bool = False
    segment: int = SEGMENT_EVENTS
    """How many events a segment of its history holds."""


class _NoArchive:
    async def commits(self, _org: str, _run: str) -> list[bytes]:
        return []


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


def play(number: int, scene: Scene) -> Recorded:
    """What the history says after the scene."""
    plan = compiled(scene.workflow)
    body, plan_hash = encoded(plan)
    world, run = World(number), f"run-{number}"
    log, signals, inbox = MemoryLog(world), MemorySignals(world), MemoryInbox(world)
    blobs = MemoryBlobs(world)
    if not scene.plan_is_lost:
        blobs.kept[plan_hash] = body
    started = Raw(b'{"body":%s,"headers":{"x-kind":"test"},"query":{},"method":"POST"}' % scene.body.encode())
    start = msgspec.structs.replace(
        START, run=run, plan=plan_hash, input=Inline(value=started), org_vars=scene.org_vars
    )

    async def story() -> None:
        await asyncio.sleep(1)  # Until every partition has its owner.
        for said in (start, *scene.said):
            if isinstance(said, float | int):
                await asyncio.sleep(said)
                continue
            letter = encode_bundle([encode(_of_run(said, run))])
            decode_answers(await signals.request(call(partition(run)), letter, 30))
            await asyncio.sleep(0.25)

    bounds = Bounds(events=scene.segment)
    world.loop.spawn("orchestrator", _orchestrator(world, (log, signals, inbox, blobs), bounds))
    told = world.loop.spawn("story", story())
    try:
        world.loop.run_until(told.done, steps=2_000_000, seconds=_NO_LONGER_THAN)
        told.result()
    finally:
        world.loop.close()
    bodies = [stored.body for stored in log.subjects()[run_subject(ORG, run)]]
    kept = Recorded(
        name=scene.name,
        org=ORG,
        run=run,
        status="",
        plan=None if scene.plan_is_lost else body.decode(),
        commits=[each.decode() for each in bodies],
        expressions=not scene.plan_is_lost and set(blobs.kept) <= {plan_hash},
    )
    return msgspec.structs.replace(kept, status=state_at(ORG, run, kept.decoded()).status)


async def _orchestrator(
    world: World, stores: tuple[MemoryLog, MemorySignals, MemoryInbox, MemoryBlobs], bounds: Bounds
) -> None:
    log, signals, inbox, blobs = stores
    clock = SimulatedClock(world)
    ownership = MemoryOwnership(world, inbox, signals)
    sources = Sources(
        log=log,
        blobs=blobs,
        archive=_NoArchive(),
        compile_plan=lambda plan: Compiled(plan, _language),
        directory=_Published(),
    )
    await Orchestrator(
        history=log,
        ownership=ownership,
        emission=Emission(
            tasks=MemoryTasks(world), inbox=inbox, signals=signals, ownership=ownership, clock=clock
        ),
        sources=sources,
        judge=Judge(sources, bounds=bounds),
        replies=Replies(signals),
        dead_letters=MemoryLetters(world),
        clock=clock,
    ).serve()


def compiled(workflow: dict[str, Any]) -> Plan:
    """The plan, by the compiler and the node types of this release."""
    specs = {spec.type: spec for spec in registry().announced}
    plan = compile_workflow(encode(workflow), specs, org=ORG, workflow="flow", version=1, language=_language)
    assert isinstance(plan, Plan), plan
    return plan
