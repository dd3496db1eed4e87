"""A desk for answers, and behind it one run with an owner that decides as the orchestrator does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from chassis.dispatch import Dispatch
from chassis.links import Links, Place, proof_of
from chassis.secret import Secret
from chassis.testing.examples import commit
from chassis.testing.queues import MemoryInbox, MemorySignals
from chassis.testing.stores import MemoryBlobs, MemoryLog
from chassis.testing.world import SimulatedClock, World
from contracts.codec import decode_bundle, encode
from contracts.messages import Answer, Message
from contracts.plans import Plan
from contracts.runs import RunEvent
from contracts.subjects import run as run_subject
from ingress.answering import Desk
from ingress.deliveries import Request
from ingress.replies import Reply
from orchestrator.consider import consider
from orchestrator.readiness import Graph
from orchestrator.state import Run
from tests.ingress.doors import Keys, Limit, owning
from tests.orchestrator.stories import START, AsWritten

ADDRESS = "https://hooks.example"
LINKS = Links(ADDRESS, Secret(b"k" * 32))


class Hall:
    """The desk, and what a test wants to know about what lies behind it."""

    def __init__(self, plan: Plan, keys: Keys | None = None) -> None:
        self.world = World(1)
        self.signals = MemorySignals(self.world)
        self.inbox = MemoryInbox(self.world)
        self.log = MemoryLog(self.world)
        self.blobs = MemoryBlobs(self.world)
        self.clock = SimulatedClock(self.world)
        self.limit = Limit()
        self.owner_is_there = True
        self.graph = Graph.of(plan)
        self.state = Run.new("org", "run-1")
        self.events: list[RunEvent] = []
        self._version = 0
        self.dispatch = Dispatch(self.signals, self.inbox)
        self.desk = Desk(
            links=LINKS,
            dispatch=self.dispatch,
            history=self.log,
            blobs=self.blobs,
            keys=keys or Keys(),
            limit=self.limit,
            clock=self.clock,
        )
        self.say(START)

    def say(self, message: Message) -> Answer:
        """What its owner makes of it."""
        considered = consider(self.state, self.graph, message, self.clock.now(), AsWritten(self.graph))
        self.state = considered.run
        if considered.refused is not None:
            return Answer(run="run-1", result="refused", error=considered.refused)
        if not considered.events:
            return Answer(run="run-1", result="nothing")
        self._version += 1
        self.events += considered.events
        made = commit(
            *considered.events, org="org", run="run-1", version=self._version, time=self.clock.now()
        )
        self.log.put(run_subject("org", "run-1"), encode(made))
        return Answer(run="run-1", result="accepted", epoch=1, sequence=self._version)

    @property
    def stored(self) -> bytes:
        """All that was stored."""
        lying = [letter.body for letters in self.inbox.letters for letter in letters.values()]
        beside = repr((self.blobs.__dict__, lying)).encode()
        return b"".join(message.body for message in self.log.messages) + beside

    def run(self, story: Callable[["Hall"], Any]) -> None:
        """Play one story to its end."""
        told = self.world.loop.spawn("story", self._play(story))
        self.world.loop.run_until(told.done, steps=200_000, seconds=100_000)
        told.result()
        self.world.loop.close()

    async def _play(self, story: Callable[["Hall"], Any]) -> None:
        async with asyncio.TaskGroup() as group, self._owner():
            carrying = group.create_task(self.dispatch.run())
            await story(self)
            carrying.cancel()

    @asynccontextmanager
    async def _owner(self) -> AsyncIterator[None]:
        def heard(_subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
            if self.owner_is_there:
                answer(encode([self.say(message) for message in decode_bundle(body)]))  # type: ignore[arg-type]  # Only whole ones are sent here.

        async with owning(self.signals, heard):
            yield

    # --- Requests -----------------------------------------------------------------------------

    async def ask(
        self,
        method: str = "POST",
        body: bytes = b"",
        step: str = "ask",
        token: str | None = None,
        query: str = "",
        **headers: str,
    ) -> Reply:
        """One whole request under the step's link; header names with `_` for `-`. Raises `Problem` for a no."""
        if token is None:
            token = LINKS.link(Place("org", "run-1", step)).rpartition("/")[2]
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        place = self.desk.admit(token)
        request = Request(
            method=method,
            headers=given,
            raw_headers=[(name.encode(), value.encode()) for name, value in given.items()],
            query=query,
            body=body,
            address="192.0.2.7",
            received_at="2026-11-21T12:00:00+00:00",
        )
        return await self.desk.take(place, request)


def link_of(step: str = "ask") -> str:
    return LINKS.link(Place("org", "run-1", step))


def proof(step: str = "ask") -> bytes:
    return proof_of(link_of(step)).encode()
