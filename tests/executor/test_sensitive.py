"""What a builder marks as sensitive in an output: sealed before anything is kept of it, and open only in the attempts that need it."""

import asyncio
import json
from typing import Any

import pytest

from chassis.expressions import Context as Values
from chassis.expressions import Language, compile_template
from chassis.seals import is_sealed
from contracts.messages import Outcome, StepBroken, StepDone
from contracts.payloads import Inline
from executor.node import Binary, Context, Result
from tests.executor.fakes import RUN, World, simulated, task, until
from tests.executor.nodes import Anything, Scripted

CARD = "4111-1111-1111-1111"
PERSON = {"name": "Ada", "card": CARD, "orders": [{"iban": "DE02120300000000202051", "sum": 5}]}
MARKS = ("/card", "/orders/*/iban")


def attempted(script: Any, **more: Any) -> tuple[World, Outcome]:
    world = World(Scripted(script))

    async def main() -> None:
        async with world.executor():
            world.source.put(task(node_type="test", **more))
            await until(lambda: world.outcomes, 200)

    simulated(main())
    return world, world.outcomes[0]


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Inline)
    return json.loads(bytes(outcome.output.value))


def kept(world: World) -> str:
    return repr((world.outcomes, world.logs.letters, list(world.shelf.blobs.values())))


async def _person(context: Context) -> Any:
    context.log(f"found {CARD}", iban="DE02120300000000202051", sum=5)
    await asyncio.sleep(3)
    return PERSON


def test_what_is_marked_is_sealed_and_everything_else_is_as_it_was() -> None:
    world, outcome = attempted(_person, sensitive=MARKS)
    told = output(outcome)
    assert (told["name"], told["orders"][0]["sum"]) == ("Ada", 5)
    assert is_sealed(told["card"])
    assert is_sealed(told["orders"][0]["iban"])
    opener = world.safe.openers[f"salt_{RUN}"]
    assert json.loads(opener.open(told["card"]["$sealed"])) == CARD


def test_no_line_and_nothing_else_that_is_kept_shows_it() -> None:
    world, _ = attempted(_person, sensitive=MARKS)
    assert CARD not in kept(world)
    assert "DE0212" not in kept(world)
    lines = [line for record in world.said for line in record.lines]
    assert [(line.text, line.fields) for line in lines if line.text.startswith("found")] == [
        ("found [redacted]", {"iban": "[redacted]", "sum": 5})
    ]


def test_nothing_is_sealed_that_nobody_marked() -> None:
    world, outcome = attempted(_person)
    assert output(outcome) == PERSON
    assert world.safe.openers == {}


def test_a_later_attempt_has_it_open_in_its_configuration() -> None:
    world, outcome = attempted(_person, sensitive=MARKS)
    sealed = output(outcome)["card"]
    given: list[str] = []

    class Paying(Scripted):
        async def run(self, config: Anything, context: Context) -> Result:
            given.append(config.say)
            context.log(f"paid with {config.say}")
            return Result(output=config.say)

    later = World(Paying(_person))
    later.safe = world.safe

    async def main() -> None:
        async with later.executor():
            later.source.put(task({"say": sealed}, node_type="test", seals=True, sensitive=("",)))
            await until(lambda: later.outcomes, 200)

    simulated(main())
    assert given == [CARD]
    assert is_sealed(output(later.outcomes[0]))
    assert CARD not in kept(later)


def test_a_template_writes_it_into_a_text_and_the_attempt_has_it_open_in_there() -> None:
    world, outcome = attempted(_person, sensitive=MARKS)
    sealed = output(outcome)
    template = compile_template(
        "{{ run.name }}: {{ run.card }}, {{ run.iban }}", Language(), node="", field=""
    )
    iban = sealed["orders"][0]["iban"]
    said = template.evaluate(Values.from_roots(run={"name": "Ada", "card": sealed["card"], "iban": iban}))
    given: list[str] = []

    class Paying(Scripted):
        async def run(self, config: Anything, context: Context) -> Result:
            given.append(config.say)
            context.log(f"paid with {CARD}", iban="DE02120300000000202051")
            return Result(output="done")

    later = World(Paying(_person))
    later.safe = world.safe

    async def main() -> None:
        async with later.executor():
            later.source.put(task({"say": said}, node_type="test", seals=True))
            await until(lambda: later.outcomes, 200)

    simulated(main())
    assert CARD not in said
    assert given == [f"Ada: {CARD}, DE02120300000000202051"]
    lines = [(line.text, line.fields) for record in later.said for line in record.lines]
    assert ("paid with [redacted]", {"iban": "[redacted]"}) in lines
    assert CARD not in kept(later)


def test_a_text_that_only_looks_sealed_stays_one_where_nothing_is_sealed() -> None:
    strange = {"$sealed": "v1|1|x|y"}

    async def script(context: Context) -> Any:
        payload = context.task.config
        assert isinstance(payload, Inline)
        return json.loads(bytes(payload.value))

    world = World(Scripted(script))

    async def main() -> None:
        async with world.executor():
            world.source.put(task({"say": "x", "more": strange}, node_type="test"))
            await until(lambda: world.outcomes, 200)

    simulated(main())
    assert isinstance(world.outcomes[0], StepDone | StepBroken)
    assert world.safe.openers == {}


@pytest.mark.parametrize(("marks", "works"), [(("/file",), False), (("/name",), True)])
def test_a_file_is_not_sealed_and_the_attempt_says_so(marks: tuple[str, ...], *, works: bool) -> None:
    async def script(_: Context) -> Any:
        await asyncio.sleep(0)
        return {"name": "Ada", "file": Binary(b"scan")}

    _, outcome = attempted(script, sensitive=marks)
    assert isinstance(outcome, StepDone) == works
    if isinstance(outcome, StepBroken):
        assert outcome.error.field == "/sensitive"


def test_a_mark_that_means_nothing_in_an_output_seals_nothing() -> None:
    for marks in (("/nowhere",), ("/orders/7/iban",), ("/name/first",)):
        _, outcome = attempted(_person, sensitive=marks)
        assert output(outcome) == PERSON
