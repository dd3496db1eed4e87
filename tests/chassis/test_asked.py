"""What a history says of a step that asks, from its beginning or from a seam."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from chassis.asked import asked, asked_in_log
from chassis.ids import digest
from chassis.testing.examples import commit
from chassis.testing.stores import MemoryBlobs
from chassis.testing.world import World
from contracts.codec import encode
from contracts.messages import Message
from contracts.payloads import Blob, Inline
from contracts.runs import RunContinued
from orchestrator.consider import consider
from orchestrator.readiness import Graph
from orchestrator.segments import continued
from orchestrator.state import Run
from tests.orchestrator.stories import CANCEL, NOON, START, AsWritten, control, decide_on, drawn, wake

ASKS = drawn(
    "ask.approved>wait",
    control(
        "ask", "wait.approval", {"question": "Well?", "timeout_seconds": 60, "escalate_after_seconds": 5}
    ),
    control("wait", "wait.webhook"),
)
MOMENTS: dict[str, tuple[list[Message], str, bool]] = {
    "open": ([], "open", False),
    "escalated": ([wake("escalation:ask")], "open", True),
    "answered": ([decide_on("ask")], "answered", False),
    "too late": ([wake("approval:ask")], "over", False),
    "cancelled": ([CANCEL], "over", False),
}


AFTER = {"escalation:ask": timedelta(seconds=5), "approval:ask": timedelta(seconds=60)}


def lived(messages: list[Message]) -> tuple[Run, list[bytes]]:
    """A run after these messages, each at its moment, and its commits."""
    run, graph, bodies = Run.new("org", "run-1"), Graph.of(ASKS), list[bytes]()
    for message in (START, *messages):
        at = NOON + AFTER.get(str(getattr(message, "wait", "")), timedelta())
        considered = consider(run, graph, message, at, AsWritten(graph))
        run = considered.run
        made = commit(*considered.events, org="org", run="run-1", version=len(bodies) + 1, time=at)
        bodies.append(encode(made))
    return run, bodies


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("apart", [False, True])
async def test_from_a_seam_it_is_the_same_as_from_the_beginning(moment: str, *, apart: bool) -> None:
    messages, standing, escalated = MOMENTS[moment]
    run, bodies = lived(messages)
    blobs = MemoryBlobs(World(1))
    seam = continued(run, 2, 10)
    assert seam is not None
    if apart:
        assert isinstance(seam.state, Inline)
        data = bytes(seam.state.value)
        seam = structs.replace(seam, state=_kept(blobs, data))
    after = [_seam(seam, len(bodies) + 1)]
    now = NOON + timedelta(seconds=30)
    for told in (
        asked(bodies, "ask"),
        asked([*bodies, *after], "ask"),
        await asked_in_log(after, "ask", _Shelf(blobs)) if run.active else asked(bodies, "ask"),
    ):
        assert (told.standing(now), told.escalated) == (standing, escalated)
        said = decide_on("ask")
        assert told.was_answered_by(said.actor, said.request) == (moment == "answered")
        assert not told.was_answered_by("key:other", said.request)


def _seam(seam: RunContinued, version: int) -> bytes:
    return encode(commit(seam, org="org", run="run-1", version=version, time=NOON))


def _kept(blobs: MemoryBlobs, data: bytes) -> Any:
    blobs.kept[digest(data)] = data
    return Blob(sha256=digest(data), size=len(data))


class _Shelf:
    """A store outside of any simulated world."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self._kept = blobs.kept

    async def put(self, data: bytes, content_type: str = "") -> Any:
        raise AssertionError("nothing is kept here")

    async def get(self, blob: Any) -> bytes:
        return self._kept[blob.sha256]


async def test_a_history_without_its_beginning_and_without_a_seam_is_that_of_an_ended_run() -> None:
    _, bodies = lived([decide_on("ask")])
    blobs = _Shelf(MemoryBlobs(World(1)))
    assert (await asked_in_log(bodies[1:], "ask", blobs)).standing(NOON) == "over"
    assert (await asked_in_log([], "ask", blobs)).standing(NOON) == "unknown"
