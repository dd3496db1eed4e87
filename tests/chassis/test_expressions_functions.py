"""Every function that a builder may use is documented, and does what its row says."""

import msgspec
import pytest

from chassis.expressions import FUNCTIONS, Context, FunctionDoc, Language
from chassis.expressions.costs import KNOWN
from chassis.expressions.functions import MACROS
from chassis.expressions.program import Program

LANGUAGE = Language()


@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda row: f"{row.group}: {row.name}")
def test_an_example_gives_what_the_documentation_says(row: FunctionDoc) -> None:
    program = LANGUAGE.program(row.example)
    assert isinstance(program, Program), program
    value = program.evaluate(Context.from_roots())
    assert msgspec.json.encode(value) == msgspec.json.encode(msgspec.json.decode(row.gives))


def test_every_function_is_documented_and_bounded() -> None:
    documented = {name for row in FUNCTIONS for name in (row.calls or (row.name,))}
    assert documented - MACROS == KNOWN


def test_no_function_tells_the_time_or_rolls_dice() -> None:
    for source in ("now()", "timestamp()", "math.random()", "uuid()", "env('HOME')", "today()"):
        assert not isinstance(LANGUAGE.program(source), Program)
