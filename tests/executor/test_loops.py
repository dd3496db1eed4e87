"""What a node calls at our own addresses is known there by its run; and what is said there to a loop stands in the step's error."""

from typing import Any

import pytest

from chassis.chains import HEADER, Chains
from chassis.edge.problems import Problem, problem_body
from chassis.egress.own import OwnAddresses
from chassis.secret import Secret
from contracts.messages import Outcome, StepBroken, StepDone
from tests.executor.fakes import ORG, RUN, LoopClock, World, task, until
from tests.executor.servers import Asked, Reply, says, serving

LOOP = problem_body(Problem("cause.too_deep", "4 runs have started one another, at most may be 3: a → a."))
CHAIN = {"depth": 3, "chain": ("first", "second", "mine")}


async def attempted(
    reply: Reply, *, ours: bool = True, said: dict[str, Any] | None = None, **config: Any
) -> tuple[Outcome, Asked | None]:
    """The outcome of a call to a server, `ours` or not, and what the server was asked."""
    world = World(allow="127.0.0.0/8:*")
    async with serving(reply) as server:
        world.own = OwnAddresses([server.url] if ours else ["http://127.0.0.1:1"])
        async with world.executor():
            given = CHAIN if said is None else said
            wanted = {"url": f"{server.url}/hooks/a", "method": "POST", **config}
            world.source.put(task(wanted, node_type="http.request", repeat="no", timeout_s=20.0, **given))
            await until(lambda: world.outcomes)
    return world.outcomes[0], server.asked[0] if server.asked else None


async def test_our_own_address_hears_which_run_calls_and_what_it_stands_behind() -> None:
    outcome, asked = await attempted(says())
    assert isinstance(outcome, StepDone)
    assert asked is not None
    found = Chains(Secret(b"k" * 32), LoopClock()).asking(asked.headers[HEADER], ORG)
    assert found is not None
    assert (found.run, found.depth, found.chain) == (RUN, 3, ("first", "second", "mine"))


async def test_nobody_else_hears_of_it() -> None:
    _, asked = await attempted(says(), ours=False)
    assert asked is not None
    assert HEADER not in asked.headers
    assert RUN not in asked.headers.get("user-agent", "")


async def test_a_task_of_an_older_release_says_nothing_rather_than_something_wrong() -> None:
    _, asked = await attempted(says(), said={})
    assert asked is not None
    assert HEADER not in asked.headers


@pytest.mark.parametrize("ours", [True, False])
async def test_an_author_cannot_say_it(ours: bool) -> None:
    outcome, asked = await attempted(says(), ours=ours, headers={"AutomateOS-Cause": "forged"})
    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("egress.forbidden", False)
    assert asked is None


async def test_the_step_that_went_round_too_often_names_the_loop() -> None:
    outcome, _ = await attempted(says("409 Conflict", LOOP, content_type="application/problem+json"))
    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("refused", False)
    assert outcome.error.message.endswith(
        "status 409 (cause.too_deep: 4 runs have started one another, at most may be 3: a → a.)."
    )


@pytest.mark.parametrize(
    ("status", "body", "ours"),
    [
        ("409 Conflict", LOOP, False),
        ("404 Not Found", LOOP, True),
        ("409 Conflict", b'{"code":"conflict","detail":"secret"}', True),
        ("409 Conflict", b"{", True),
        ("409 Conflict", b"[]", True),
        ("409 Conflict", b"", True),
    ],
)
async def test_no_other_answer_is_repeated_in_an_error(status: str, body: bytes, ours: bool) -> None:
    outcome, _ = await attempted(says(status, body), ours=ours)
    assert isinstance(outcome, StepBroken)
    assert outcome.error.message == f"The other side answered with status {status[:3]}."
