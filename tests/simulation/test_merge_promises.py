"""What is wrong where branches come together is found, and what is right is not."""

from typing import Any

import pytest
from msgspec import structs

from chassis.ports import Stored
from chassis.testing.examples import MOMENT, commit
from contracts.codec import encode
from contracts.errors import Failure
from contracts.runs import RunEvent, StepFailed, StepReported, StepSucceeded
from tests.orchestrator.stories import STARTED, control, drawn, value
from tests.promises.evidence import History
from tests.promises.merges import merges_give_what_came
from tests.simulation.test_promises import well

LEFT = [{"id": 1, "a": 1}, {"id": 2, "a": 2}]
RIGHT = [{"id": 2.0, "a": 3}, {"id": 3, "b": 4}]


def found(config: dict[str, Any], gave: Any, *before: RunEvent) -> list[str]:
    plan = drawn("left>join right>join left.error>join", control("join", "merge", config))
    came = before or (
        StepReported(step="right", attempt=1, output=value(RIGHT)),
        StepSucceeded(step="right", node="right"),
        StepReported(step="left", attempt=1, output=value(LEFT)),
        StepSucceeded(step="left", node="left"),
    )
    gives = StepSucceeded(step="join", node="join", output=value(gave))
    body = encode(commit(STARTED, *came, gives, org="org", run="run-1", version=1, time=MOMENT))
    history = History("org", "run-1", [Stored(subject="run.org.run-1", sequence=1, body=body)])
    evidence = structs.replace(well(), plans={STARTED.plan: plan})
    return [each.what for each in merges_give_what_came(evidence, [history])]


JOINED = [{"id": 1, "a": 1}, {"id": 2.0, "a": 3}, {"id": 3, "b": 4}]


@pytest.mark.parametrize(
    ("config", "right", "wrong"),
    [
        ({}, {"left": LEFT, "right": RIGHT}, {"left": LEFT}),
        ({"output": "list"}, [LEFT, RIGHT], [RIGHT, LEFT]),
        ({"output": "append"}, [*LEFT, *RIGHT], [*LEFT, *RIGHT, *RIGHT]),
        (
            {"output": "by_position"},
            [{"id": 2.0, "a": 3}, {"id": 3, "a": 2, "b": 4}],
            [{"id": 1, "a": 1}, {"id": 2, "a": 2, "b": 4}],
        ),
        ({"output": "by_key", "key": "id"}, JOINED, [*LEFT, *RIGHT]),
        ({"mode": "first"}, LEFT, RIGHT),
    ],
)
def test_a_merge_that_gives_something_else_is_found(config: dict[str, Any], right: Any, wrong: Any) -> None:
    assert found(config, right) == []
    [what] = found(config, wrong)
    assert what.startswith("join gave")


def test_only_branches_that_were_taken_count() -> None:
    left = (
        StepReported(step="left", attempt=1, output=value(LEFT)),
        StepSucceeded(step="left", node="left", ports=()),
        StepReported(step="right", attempt=1, output=value(RIGHT)),
        StepSucceeded(step="right", node="right"),
    )
    assert found({"output": "append"}, RIGHT, *left) == []
    assert found({"output": "append"}, [*LEFT, *RIGHT], *left) != []
    failed = StepFailed(step="left", node="left", error=Failure(code="refused", message="No."), handled=True)
    assert found({}, {"left": "whatever its error is"}, failed) == []
