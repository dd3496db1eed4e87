"""What a builder marks as sensitive in an output: sealed before anything is kept of it, and open only in the attempts that need it."""

import asyncio
import json
from typing import Any

import pytest

from chassis.expressions import Context as Values
from chassis.expressions import Language, compile_template
from chassis.seals import is_sealed
from contracts.logs import LogLine, Missing
from contracts.messages import Outcome, StepBroken, StepDone
from contracts.payloads import Inline
from executor.errors import WITHHELD, Refused
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


UNKNOWN = "were said by an attempt whose marked fields are not known."


def lines_of(world: World) -> list[LogLine]:
    return [line for record in world.said for line in record.lines]


async def _fails(context: Context) -> Any:
    context.log(f"found {CARD}", iban="DE02120300000000202051")
    await asyncio.sleep(3)
    context.log("and no more")
    raise Refused(f"{CARD} is blocked", status=402, field="/card")


@pytest.mark.parametrize("ends", ["an error", "a crash", "time", "no output"])
def test_of_an_attempt_that_brings_nothing_no_word_of_the_node_is_kept(ends: str) -> None:
    async def script(context: Context) -> Any:
        context.log(f"found {CARD}")
        await asyncio.sleep(100 if ends == "time" else 3)
        if ends == "an error":
            raise Refused(f"{CARD} is blocked", status=402, field="/card")
        if ends == "a crash":
            raise RuntimeError(CARD)
        return {"card": CARD, "more": object()}  # No JSON says that.

    world, outcome = attempted(script, sensitive=MARKS, timeout_s=10)
    assert isinstance(outcome, StepBroken)
    assert CARD not in kept(world)
    assert CARD not in repr(lines_of(world))
    texts = [line.text for line in lines_of(world)]
    assert texts[0] == "Attempt 1 begins."
    assert (texts[1].startswith("1 lines: not kept. They"), texts[1].endswith(UNKNOWN)) == (True, True)
    assert lines_of(world)[1].missing == Missing(why="marked", lines=1, chars=len(f"found {CARD}"))
    assert len(texts) == 3, "and how it ended"


def test_its_error_keeps_what_is_not_the_nodes_own_words() -> None:
    world, outcome = attempted(_fails, sensitive=MARKS)
    assert isinstance(outcome, StepBroken)
    error = outcome.error
    assert (error.code, error.status, error.field) == ("refused", 402, "/card")
    assert error.message == f"{Refused.__doc__} {WITHHELD}"
    assert [line.missing for line in lines_of(world) if line.missing] == [
        Missing(why="marked", lines=2, chars=len(f"found {CARD}iban" + "DE02120300000000202051and no more"))
    ]


def test_without_marks_a_failing_attempt_is_told_as_it_spoke() -> None:
    world, outcome = attempted(_fails)
    assert isinstance(outcome, StepBroken)
    assert outcome.error.message == f"{CARD} is blocked"
    assert f"found {CARD}" in [line.text for line in lines_of(world)]


def test_a_type_that_knows_what_is_sensitive_is_trusted_with_its_own_words() -> None:
    world = World(Scripted(_fails, sensitive=MARKS))

    async def main() -> None:
        async with world.executor():
            world.source.put(task(node_type="test", sensitive=MARKS))
            await until(lambda: world.outcomes, 200)

    simulated(main())
    outcome = world.outcomes[0]
    assert isinstance(outcome, StepBroken)
    assert outcome.error.message == f"{CARD} is blocked"
    assert "and no more" in [line.text for line in lines_of(world)]


def test_nothing_is_an_output_too() -> None:
    async def script(context: Context) -> Any:
        context.log("looked")
        await asyncio.sleep(3)

    world, _ = attempted(script, sensitive=MARKS)
    assert "looked" in [line.text for line in lines_of(world)]


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


def test_an_attempt_that_had_it_open_and_fails_does_not_tell_it_as_its_error() -> None:
    world, outcome = attempted(_person, sensitive=MARKS)
    sealed = output(outcome)["card"]

    class Failing(Scripted):
        async def run(self, config: Anything, context: Context) -> Result:
            await asyncio.sleep(0)
            raise Refused("x" * 1_990 + f" {config.say} is blocked")

    later = World(Failing(_person))
    later.safe = world.safe

    async def main() -> None:
        async with later.executor():
            later.source.put(task({"say": sealed}, node_type="test", seals=True))
            await until(lambda: later.outcomes, 200)

    simulated(main())
    broken = later.outcomes[0]
    assert isinstance(broken, StepBroken)
    assert broken.error.message == "x" * 1_990 + " [redacted"
    assert CARD[:4] not in kept(later)


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
