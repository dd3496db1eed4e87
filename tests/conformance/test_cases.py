"""Every case of the conformance set holds: the engine records these events, and they decide themselves anew."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator

from contracts.errors import ERRORS
from contracts.plans import Plan
from contracts.reference import event_types
from contracts.runs import RunEvent, RunStatus, StepStatus, WaitKind
from orchestrator.catalogue import SPECS
from orchestrator.evaluation import Compiled
from orchestrator.history import replay, state_at
from tests.conformance.__main__ import SCHEMA, schema_text
from tests.conformance.case import HAPPENINGS, Case, Expected, Loss, files, read, schema
from tests.conformance.compare import differences, faults_differ, shown
from tests.conformance.index import PAGE, page
from tests.conformance.stage import LANGUAGE, ORG, Directory, Played, compiled, play
from tests.conformance.written import whole

FILES = files()
FORMAT = Draft202012Validator(schema())
SHORT_OF_A_CASE = "see docs/conformance.md for how to add a case"


@cache
def told(path: Path) -> Case:
    return read(path)


@cache
def played(path: Path) -> Played:
    return play(told(path))


RUNS = [path for path in FILES if told(path).script]
FAULTY = [path for path in FILES if not told(path).script]


def named(path: Path) -> str:
    return path.stem


# --- What the engine does -----------------------------------------------------------------------


@pytest.mark.parametrize("path", RUNS, ids=named)
def test_the_engine_does_what_the_case_says(path: Path) -> None:
    assert differences(told(path), played(path)) == []


@pytest.mark.parametrize("path", FAULTY, ids=named)
def test_the_compiler_finds_what_the_case_says(path: Path) -> None:
    found = compiled(told(path))
    assert not isinstance(found, Plan)
    assert faults_differ(told(path), found) == []


def test_every_history_decides_itself_anew() -> None:
    for path in RUNS:
        run, graph, commits = played(path).run, played(path).graph, played(path).commits
        assert state_at(ORG, run.id, commits) == run, path.stem
        if graph is None and len(commits) > 1:
            continue  # Decided by a plan at first and without one later: no one replay does both.
        assert replay(ORG, run.id, commits, graph) is None, path.stem


def test_expressions_give_again_what_they_gave() -> None:
    for path in RUNS:
        graph = played(path).graph
        if graph is not None and not any(isinstance(each, Loss) for each in told(path).script):
            evaluate = Compiled(graph.plan, LANGUAGE).evaluator(
                played(path).values, played(path).answers, Directory(told(path)).workflows
            )
            again = replay(ORG, played(path).run.id, played(path).commits, graph, evaluate)
            assert again is None, path.stem


def test_everything_may_be_said_twice() -> None:
    """Outcomes, wake-ups, deliveries and wishes alike: the second time there is no news."""
    for path in RUNS:
        again = play(told(path), twice=True)
        for once, both in zip(played(path).turns, again.turns, strict=True):
            assert once.events == both.events, path.stem
        assert again.run == played(path).run, path.stem


# --- The files ----------------------------------------------------------------------------------


def drawn(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_case_fits_the_format_and_is_written_in_the_one_way() -> None:
    for path in FILES:
        assert [error.message for error in FORMAT.iter_errors(drawn(path))] == [], path.stem
        assert path.read_text() == whole(drawn(path)), f"{path.stem}: run `python -m tests.conformance tidy`"


def test_every_case_says_what_is_so_and_why() -> None:
    for path in FILES:
        case = told(path)
        assert case.title.endswith("."), path.stem
        assert case.why.endswith("."), path.stem
        assert isinstance(case.expected, Expected) == bool(case.script) != bool(case.faults), path.stem


def test_no_two_cases_have_the_same_title_or_the_same_story() -> None:
    stories = [
        json.dumps(
            {name: value for name, value in drawn(path).items() if name not in ("title", "why", "topic")}
        )
        for path in FILES
    ]
    assert len(set(stories)) == len(FILES)
    assert len({told(path).title for path in FILES}) == len(FILES)


@pytest.mark.parametrize(
    "change",
    [
        {"topic": "elsewhere"},
        {"script": [{"happens": "magic"}]},
        {"script": [{"happens": "look", "than": []}]},
        {"script": [{"happens": "time", "seconds": "5"}]},
        {"expected": {"status": "done", "steps": {}}},
        {"surprise": 1},
        {"title": None},
    ],
)
def test_what_does_not_fit_the_format_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    broken = drawn(RUNS[0]) | change
    assert list(FORMAT.iter_errors(broken))
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(broken))
    with pytest.raises(msgspec.ValidationError):
        read(file)


def test_the_example_of_the_page_holds() -> None:
    [example] = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    case = msgspec.json.decode(example, type=Case)
    assert differences(case, play(case)) == []


def test_the_index_and_the_schema_are_fresh() -> None:
    assert PAGE.read_text() == page(), "run `python -m tests.conformance`"
    assert SCHEMA.read_text() == schema_text(), "run `python -m tests.conformance`"


# --- Whether there is a case for everything ------------------------------------------------------


@cache
def every_event() -> list[dict[str, Any]]:
    return [
        shown(event, played(path).run.id, played(path).began)
        for path in RUNS
        for turn in played(path).turns
        for event in turn.events
    ]


def test_there_are_enough() -> None:
    assert len(FILES) >= 120


def test_every_event_type_happens_in_some_case() -> None:
    tags = {str(kind.__struct_config__.tag) for kind in event_types(RunEvent)}
    assert tags - {event["type"] for event in every_event()} == set(), SHORT_OF_A_CASE


def test_every_kind_of_wait_is_opened_in_some_case() -> None:
    opened = {event["kind"] for event in every_event() if event["type"] == "wait.opened"}
    assert set(get_args(WaitKind)) - opened == set(), SHORT_OF_A_CASE


def test_every_control_node_is_in_some_case() -> None:
    used = {node.get("type") for path in FILES for node in drawn(path)["workflow"]["nodes"]}
    assert set(SPECS) - used == set(), SHORT_OF_A_CASE


def test_every_happening_happens_in_some_case() -> None:
    used = {type(happening) for path in RUNS for happening in told(path).script}
    assert set(HAPPENINGS) - used == set(), SHORT_OF_A_CASE


def test_some_expression_is_evaluated_in_a_process_of_its_own() -> None:
    assert any(played(path).answers for path in RUNS), SHORT_OF_A_CASE


def test_every_fault_of_a_workflow_is_found_in_some_case() -> None:
    codes = {code for code in ERRORS if code.startswith("workflow.")}
    found = {fault.code for path in FAULTY for fault in told(path).faults}
    assert codes - found == set(), SHORT_OF_A_CASE


def test_every_status_at_which_a_story_may_stop_is_in_some_case() -> None:
    ends = [case.expected for case in map(told, RUNS) if isinstance(case.expected, Expected)]
    # Nothing was said to a queued run, and only a projection archives one.
    assert {end.status for end in ends} == set(get_args(RunStatus)) - {"queued", "archived"}
    assert {status for end in ends for status in end.steps.values()} == set(get_args(StepStatus))
