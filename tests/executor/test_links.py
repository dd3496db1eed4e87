"""Links in attempts: the call has them, and nothing that is kept of it has."""

import asyncio
import base64
import json
from typing import Any

from chassis.links import Place, mark, proof_of
from contracts.messages import Outcome, StepBroken, StepDone
from contracts.payloads import Inline
from executor.errors import Refused
from executor.node import Binary, Context, Result
from tests.executor.fakes import LINKS, ORG, RUN, World, simulated, task, until
from tests.executor.nodes import Anything, Scripted

PLAN = "ab" * 32
ASK = Place(ORG, RUN, "each[3].ask")
MARK, LINK = mark(ASK, PLAN), LINKS.link(ASK)
PROOF = proof_of(LINK)


class Echoing(Scripted):
    """Hands its configuration to a script."""

    async def run(self, config: Anything, context: Context) -> Result:
        self.given = config.say
        return await super().run(config, context)


def attempted(script: Any, say: str, plan: str = PLAN, **more: Any) -> tuple[Echoing, World, Outcome]:
    node = Echoing(script)
    world = World(node)

    async def main() -> None:
        async with world.executor():
            world.source.put(task({"say": say}, node_type="test", plan=plan, **more))
            await until(lambda: world.outcomes, 200)

    simulated(main())
    return node, world, world.outcomes[0]


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Inline)
    return json.loads(bytes(outcome.output.value))


def kept(world: World) -> str:
    return repr((world.outcomes, world.said, world.logs.letters, list(world.shelf.blobs.values())))


def test_a_call_is_made_with_the_link_in_place_of_its_mark() -> None:
    async def script(_: Context) -> None:
        await asyncio.sleep(0)

    node, world, _ = attempted(script, f"Decide: {MARK}?decision=approved, or {MARK}.")
    assert node.given == f"Decide: {LINK}?decision=approved, or {LINK}."
    assert PROOF not in kept(world)


def test_what_comes_back_has_the_mark_again_so_that_later_nodes_may_send_it_on() -> None:
    async def script(_: Context) -> Any:
        escaped = LINK.replace("/", "\\/")
        return {"sent": f"<a href='{LINK}'>", "raw": escaped, "part": PROOF, LINK: 1}

    _, world, outcome = attempted(script, MARK)
    assert output(outcome) == {"sent": f"<a href='{MARK}'>", "raw": MARK, "part": "[redacted]", MARK: 1}
    assert PROOF not in kept(world)


def test_nothing_that_is_kept_of_an_attempt_has_the_proof_in_any_spelling() -> None:
    encoded = base64.b64encode(f"to={LINK}".encode()).decode()

    async def script(context: Context) -> Any:
        context.log(f"called {LINK}", url=LINK, proof=PROOF)
        await asyncio.sleep(2)
        return {"echo": encoded, "hex": PROOF.encode().hex(), "file": Binary(f"\xff{LINK}".encode("latin-1"))}

    _, world, outcome = attempted(script, MARK)
    told = kept(world)
    for form in (PROOF, PROOF.encode().hex(), base64.b64encode(LINK.encode()).decode()[-48:-8]):
        assert form not in told
    assert "called https://hooks.example/resume/" in told
    assert "file" in output(outcome)


def test_a_failure_that_quotes_the_link_does_not_show_it() -> None:
    async def script(_: Context) -> None:
        raise Refused(f"No such page: {LINK}")

    _, world, outcome = attempted(script, MARK)
    assert isinstance(outcome, StepBroken)
    assert outcome.error.message == f"No such page: {MARK}"
    assert PROOF not in kept(world)


def test_a_text_from_outside_that_looks_like_a_mark_stays_a_text() -> None:
    async def script(_: Context) -> None:
        await asyncio.sleep(0)

    strange = mark(ASK, "cd" * 32)
    for plan in (PLAN, ""):
        node, _, _ = attempted(script, strange, plan)
        assert node.given == strange
    other_run, _, _ = attempted(script, mark(Place(ORG, "run-2", "ask"), PLAN))
    assert "resume/" not in other_run.given


def test_a_node_that_only_hands_on_has_the_mark() -> None:
    class HandsOn(Echoing):
        keeps_sealed = True

    node = HandsOn(_nothing)
    world = World(node)

    async def main() -> None:
        async with world.executor():
            world.source.put(task({"say": MARK}, node_type="test", plan=PLAN))
            await until(lambda: world.outcomes, 200)

    simulated(main())
    assert node.given == MARK


async def _nothing(_: Context) -> None:
    await asyncio.sleep(0)
