"""Recorded histories must replay to the same decisions for ever. Files are added, never rewritten."""

from pathlib import Path

import msgspec
import pytest
from msgspec import Raw, Struct

from contracts.codec import decode_commit
from contracts.plans import Plan
from orchestrator.history import replay, state_at
from orchestrator.readiness import Graph

FILES = sorted((Path(__file__).parent / "histories").glob("*.json"))


class History(Struct, frozen=True):
    plan: Plan
    status: str
    commits: list[Raw]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_recorded_history_is_decided_the_same_way_today(file: Path) -> None:
    history = msgspec.json.decode(file.read_bytes(), type=History)
    commits = [decode_commit(bytes(raw)) for raw in history.commits]
    graph = Graph.of(history.plan)
    assert replay("org", "run-1", commits, graph) is None
    assert state_at("org", "run-1", commits).status == history.status


def test_there_are_histories() -> None:
    assert len(FILES) >= 14
