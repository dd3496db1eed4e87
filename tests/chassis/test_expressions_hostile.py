"""No expression crashes, hangs or floods whoever evaluates it, on the spot or apart."""

import asyncio
import json
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from chassis.expressions import (
    Apart,
    CompiledConfig,
    Context,
    Done,
    ExpressionError,
    Job,
    Language,
    Undone,
    compile_condition,
    compile_config,
    compile_template,
)
from chassis.expressions.program import Program
from chassis.expressions.worker import WorkerProcess

SCRIPT = Path(__file__).with_name("hostile.py")
CASES: dict[str, Any] = runpy.run_path(str(SCRIPT))["CASES"]
LANGUAGE = Language(kept=64)


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """What came of every case, in a process with bounded memory and time that is still alive at the end."""
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_expression_ends_as_it_should(name: str, outcomes: dict[str, Any]) -> None:
    assert outcomes[name] == CASES[name].outcome


def test_all_of_them_together_need_little_memory(outcomes: dict[str, Any]) -> None:
    """In MiB; the interpreter and the engine alone are about 30."""
    assert outcomes["peak"] < 160


@pytest.fixture(scope="module")
async def worker() -> AsyncIterator[WorkerProcess]:
    async with WorkerProcess(seconds=0.5) as process:
        yield process


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.outcome == "apart"])
async def test_what_is_hostile_and_apart_is_answered_all_the_same(name: str, worker: WorkerProcess) -> None:
    case = CASES[name]
    program = LANGUAGE.program(case.source)
    assert isinstance(program, Program)
    job = program.job(Context.from_roots(trigger=case.trigger()))
    assert job is not None
    assert isinstance(await worker.answer(job), Done | Undone)
    async with asyncio.timeout(60):  # On a busy machine a new process may need its half second to begin.
        while await worker.answer(Job(source="40 + 2", values=Raw(b"{}"))) != Done(value=Raw(b"42")):
            pass


# --- Whatever is written ------------------------------------------------------------------------

_TOKENS = st.sampled_from(
    [
        "1",
        "2.5",
        "1u",
        "'a'",
        "b'x'",
        "true",
        "null",
        "trigger",
        "trigger.a",
        "trigger.l",
        "steps.s.output",
        "steps.nope.output",
        "vars",
        "run",
        "item",
        "x",
        "y",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        ",",
        ":",
        "?",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "==",
        "!=",
        "<",
        ">",
        "<=",
        ">=",
        "&&",
        "||",
        "in",
        ".",
        ".a",
        ".map(",
        ".filter(",
        ".all(",
        ".exists(",
        ".sortBy(",
        "x,",
        "has(",
        "size(",
        "int(",
        "double(",
        "string(",
        "timestamp(",
        "duration(",
        "type(",
        "dyn(",
        "cel.bind(",
        "math.greatest(",
        ".matches(",
        ".split(",
        ".join(",
        ".replace(",
        ".format(",
        ".substring(",
        ".flatten(",
        ".sort(",
        ".distinct(",
        "{{",
        "}}",
        "'",
        '"',
        "\\",
        "//",
        "\n",
        "@0",
        "`a`",
        "😀",
    ]
)
_SOURCES = st.one_of(st.text(max_size=60), st.lists(_TOKENS, max_size=25).map(" ".join))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def _what_comes_of(compiled: CompiledConfig, context: Context) -> object:
    try:
        return compiled.evaluate(context)
    except (ExpressionError, Apart) as error:
        return error


@settings(max_examples=400)
@given(source=_SOURCES, trigger=_VALUES)
def test_whatever_is_written_only_faults_and_errors_come_out(source: str, trigger: object) -> None:
    for compile_one in (compile_condition, compile_template):
        compiled = compile_one(source, LANGUAGE, node="n", field="/f")
        if compiled.faults:
            assert all(0 <= fault.position.offset <= len(source) for fault in compiled.faults)
            assert all(fault.message for fault in compiled.faults)
            continue
        came = _what_comes_of(compiled, Context.from_roots(trigger={"a": trigger, "l": [trigger, trigger]}))
        if isinstance(came, ExpressionError):
            assert 0 <= came.position.offset <= len(source)
            assert came.message
        elif not isinstance(came, Apart):
            assert msgspec.json.decode(msgspec.json.encode(came)) == came


@settings(max_examples=200)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from(["{{ 1 }}", "{{", "\\{{", "a {{ trigger }} b", "x"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["a", "b", "$secret", "/", "~", ""]), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_whatever_a_configuration_looks_like_it_compiles_or_has_faults(config: object) -> None:
    compiled = compile_config(config, LANGUAGE, node="n")
    if not compiled.faults:
        compiled.evaluate(Context.from_roots(trigger=1))


# --- Rewriting ----------------------------------------------------------------------------------

_ITEMS = st.lists(st.integers(-3, 3) | st.lists(st.integers(-3, 3), max_size=3), max_size=80)


def _model(source: str, items: list[Any]) -> Any:
    """The same in Python."""
    models: dict[str, Any] = {
        "trigger.map(x, [x, 1])": lambda: [[x, 1] for x in items],
        "trigger.filter(x, type(x) == int)": lambda: [x for x in items if isinstance(x, int)],
        "trigger.map(x, type(x) == list, x)": lambda: [x for x in items if isinstance(x, list)],
        "trigger.filter(x, type(x) == list).map(x, x.map(y, y * 2))": lambda: [
            [y * 2 for y in x] for x in items if isinstance(x, list)
        ],
        "trigger.filter(x, type(x) == list && x.exists(y, y > 0)).size()": lambda: len(
            [x for x in items if isinstance(x, list) and any(y > 0 for y in x)]
        ),
        "trigger.filter(x, type(x) == int).sortBy(x, -x)": lambda: sorted(
            [x for x in items if isinstance(x, int)], reverse=True
        ),
        "trigger.map(x, []).flatten().size()": lambda: 0,
        "trigger.exists_one(x, x == 3)": lambda: items.count(3) == 1,
    }
    return models[source]()


@given(items=_ITEMS)
@pytest.mark.parametrize(
    "source",
    [
        "trigger.map(x, [x, 1])",
        "trigger.filter(x, type(x) == int)",
        "trigger.map(x, type(x) == list, x)",
        "trigger.filter(x, type(x) == list).map(x, x.map(y, y * 2))",
        "trigger.filter(x, type(x) == list && x.exists(y, y > 0)).size()",
        "trigger.filter(x, type(x) == int).sortBy(x, -x)",
        "trigger.map(x, []).flatten().size()",
        "trigger.exists_one(x, x == 3)",
    ],
)
def test_a_rewritten_loop_gives_what_the_loop_gives(source: str, items: list[Any]) -> None:
    program = LANGUAGE.program(source)
    assert isinstance(program, Program)
    assert program.evaluate(Context.from_roots(trigger=items)) == _model(source, items)
