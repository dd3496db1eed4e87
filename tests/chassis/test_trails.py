"""What a run asks for by our own address stands behind it, and no further than runs may start each other."""

import pytest

from chassis.chains import Chains
from chassis.edge.problems import Problem
from chassis.edge.trails import Trails
from chassis.secret import Secret
from contracts.causes import behind
from contracts.limits import CAUSES_ALIKE, CAUSES_DEEP
from contracts.runs import Cause
from tests.chassis.test_chains import At

CHAINS = Chains(Secret(b"k" * 32), At())
HOOK = Cause(kind="webhook", id="receipt-1")


def said(*chain: str, org: str = "acme") -> str:
    return CHAINS.said(org, "run-1", len(chain), chain)


def test_what_a_run_asks_for_stands_one_behind_it() -> None:
    trails = Trails(CHAINS)
    first = Cause(kind="webhook", id="receipt-0")
    of_children = behind(first, "run", "run-1", "flow")
    found = trails.behind(
        HOOK, CHAINS.said("acme", "run-1", of_children.depth, of_children.chain), "acme", "other"
    )
    assert found == Cause(kind="webhook", id="receipt-1", depth=1, chain=("flow",), run="run-1")
    assert trails.counts == {"followed": 1, "ignored": 0, "stopped": 0}


@pytest.mark.parametrize(
    "text", ["", "nonsense", said("flow", org="other"), said("flow")[:-1] + "_", f"{said('flow')}, x"]
)
def test_what_strangers_say_changes_nothing_and_is_counted(text: str) -> None:
    trails = Trails(CHAINS)
    assert trails.behind(HOOK, text, "acme", "flow") == HOOK
    assert trails.counts == {"followed": 0, "ignored": 1, "stopped": 0}


def test_nobody_who_says_nothing_is_counted() -> None:
    trails = Trails(CHAINS)
    assert trails.behind(HOOK, None, "acme", "flow") == HOOK
    assert set(trails.counts.values()) == {0}


def test_a_workflow_that_asks_for_itself_too_often_is_stopped_and_named() -> None:
    trails = Trails(CHAINS)
    for runs in range(1, CAUSES_ALIKE):
        assert trails.behind(HOOK, said(*("flow",) * runs), "acme", "flow").depth == runs
    with pytest.raises(Problem) as stopped:
        trails.behind(HOOK, said(*("flow",) * CAUSES_ALIKE), "acme", "flow")
    assert (stopped.value.code, stopped.value.status) == ("cause.too_deep", 409)
    assert "flow → flow" in stopped.value.detail
    assert "retry-after" not in stopped.value.headers
    assert trails.counts == {"followed": CAUSES_ALIKE - 1, "ignored": 0, "stopped": 1}


def test_two_workflows_that_ask_for_each_other_are_stopped_and_both_are_named() -> None:
    with pytest.raises(Problem) as stopped:
        Trails(CHAINS).behind(HOOK, said(*("a", "b") * CAUSES_ALIKE), "acme", "a")
    assert "a → b → a" in stopped.value.detail


def test_a_long_chain_of_different_workflows_goes_on_to_its_bound() -> None:
    workflows = tuple(f"w{number}" for number in range(CAUSES_DEEP))
    assert Trails(CHAINS).behind(HOOK, said(*workflows), "acme", "last").depth == CAUSES_DEEP
    with pytest.raises(Problem):
        Trails(CHAINS).behind(
            HOOK, CHAINS.said("acme", "run-1", CAUSES_DEEP + 1, workflows), "acme", "another"
        )
