"""What is told about a stream is believed only of the copy that leads it."""

from typing import Any

import pytest

from chassis.jetstream.reads import led
from chassis.ports import Away


def told(leader: str | None, *others: str) -> dict[str, Any]:
    return {"cluster": {"leader": leader, "replicas": [{"name": name} for name in others]}}


def test_a_single_server_and_a_leader_are_believed() -> None:
    led("RUNS", {"state": {}})
    led("RUNS", {"cluster": {"leader": "automateos"}})
    led("RUNS", told("a", "b", "c"))


@pytest.mark.parametrize("answer", [told("b", "b", "c"), told(None, "b", "c"), told("", "b", "c")])
def test_a_copy_that_does_not_lead_is_not_believed(answer: dict[str, Any]) -> None:
    """nats-server 2.15.1: a node whose disk was replaced says that the stream is empty."""
    with pytest.raises(Away, match="RUNS"):
        led("RUNS", answer)
