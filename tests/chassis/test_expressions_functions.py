"""Every function that a builder may use is documented, and does what its row says."""

import re
from pathlib import Path

import msgspec
import pytest

from chassis.expressions import FUNCTIONS, Context, FunctionDoc, Language
from chassis.expressions.costs import KNOWN
from chassis.expressions.functions import MACROS
from chassis.expressions.patterns import _READ, _WRITE
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


def test_every_letter_of_a_date_is_documented_with_whether_it_is_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text(encoding="utf-8")
    rows = [
        line for line in page.splitlines() if line.startswith("| `") and line.endswith(("| yes |", "| no |"))
    ]
    told = {
        letters: row.endswith("yes |")
        for row in rows
        for letters in re.findall("`([A-Za-z]+)`", row.split("|")[1])
    }
    assert told == {letters: letters in _READ for letters in {*_WRITE, *_READ, "z"}}


def test_no_function_tells_the_time_or_rolls_dice() -> None:
    for source in ("now()", "timestamp()", "math.random()", "uuid()", "env('HOME')", "today()"):
        assert not isinstance(LANGUAGE.program(source), Program)
