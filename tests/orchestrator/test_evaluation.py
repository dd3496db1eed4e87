"""What the orchestrator promises about expressions in a run: they read what came before, and their faults are the step's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, structs

from chassis.expressions import Answer, Done, Job, Undone
from chassis.ids import digest
from chassis.testing.scenario import Scenario
from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import PREFETCH_BYTES
from contracts.messages import Message, StartRun
from contracts.payloads import Blob, Payload
from contracts.plans import Plan
from contracts.runs import (
    AttemptScheduled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunResponded,
    RunStarted,
    StepFailed,
    StepSkipped,
    StepSucceeded,
    WaitOpened,
)
from contracts.workflows import Flow
from orchestrator.compiler import compile_workflow
from orchestrator.consider import consider
from orchestrator.evaluation import Compiled
from orchestrator.inputs import NotReady
from orchestrator.run import Run, accept, decide, evolve
from tests.orchestrator.stories import NOON, START, broken, done, value
from tests.orchestrator.test_compiler import LANGUAGE, SPECS


def plan_of(*nodes: dict[str, Any], edges: str = "", **more: Any) -> Plan:
    drawn = [
        {"source": left.partition(".")[0], "target": right, "port": left.partition(".")[2] or "main"}
        for left, _, right in (arrow.partition(">") for arrow in edges.split())
    ]
    data = json.dumps({"nodes": nodes, "edges": drawn, **more}).encode()
    plan = compile_workflow(data, SPECS, org="org", workflow="flow", version=3, language=LANGUAGE)
    assert isinstance(plan, Plan), plan
    return plan


def sample(name: str) -> Plan:
    drawn = json.loads((Path(__file__).parent / "workflows" / f"{name}.json").read_text())["workflow"]
    return plan_of(*drawn["nodes"]) if not drawn["edges"] else _compiled(drawn)


def _compiled(drawn: dict[str, Any]) -> Plan:
    plan = compile_workflow(
        json.dumps(drawn).encode(), SPECS, org="org", workflow="flow", version=3, language=LANGUAGE
    )
    assert isinstance(plan, Plan)
    return plan


def story(
    plan: Plan, values: dict[str, bytes | None] | None = None, answers: dict[str, Answer] | None = None
) -> Scenario[Run, Message, RunEvent]:
    compiled = Compiled(plan, LANGUAGE)

    def deciding(run: Run, fact: RunEvent, at: Any) -> list[Any]:
        evaluate = compiled.evaluator(values or {}, answers or {})
        return decide(run, compiled.graph, fact, at, evaluate)  # type: ignore[arg-type]  # Facts only.

    return Scenario(
        state=Run.new("org", "run-1"),
        at=NOON,
        accept=lambda run, message, at: accept(run, compiled.graph, message, at),
        decide=deciding,
        evolve=evolve,
    )


def begin(body: Any, **more: Any) -> StartRun:
    return structs.replace(START, input=value({"body": body, "headers": {"x-id": "7"}}), **more)


def echo(name: str, of: Any) -> dict[str, Any]:
    return {"id": name, "type": "echo", "config": {"value": of}}


def config_of(told: Scenario[Run, Message, RunEvent], step: str) -> Payload:
    return next(
        e.event.config for e in told.history if isinstance(e.event, AttemptScheduled) and e.event.step == step
    )


# --- What expressions read --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("{{ trigger.body.n }}", 5),
        ("{{ trigger.body.n + 1 }} of {{ trigger.body.list.size() }}", "6 of 2"),
        ("{{ trigger.headers['x-id'] }}", "7"),
        ("{{ trigger.body.list }}", [1, {"b": None}]),
        ("{{ vars.greeting }}", "hello"),
        ("{{ vars.region }}", "eu"),
        ("{{ run.id }}/{{ run.workflow }}/{{ run.version }}", "run-1/flow/1"),
        ("{{ run.started_at }}", "2026-11-20T12:00:00Z"),
        ({"a": ["{{ trigger.body.n }}", "plain"]}, {"a": [5, "plain"]}),
        ("nothing here", "nothing here"),
        ("\\{{ not this }}", "{{ not this }}"),
        (None, None),
    ],
)
def test_a_configuration_is_evaluated_over_what_the_run_knows(written: Any, given: Any) -> None:
    plan = plan_of(echo("a", written), vars={"greeting": "hello"})
    start = begin({"n": 5, "list": [1, {"b": None}]}, org_vars={"greeting": "overridden", "region": "eu"})
    assert config_of(story(plan).when(start), "a") == value({"value": given})


def test_a_step_reads_the_outputs_before_it() -> None:
    plan = plan_of(echo("a", 1), echo("b", "{{ steps.a.output.x * 2 }}"), edges="a>b")
    told = story(plan).when(begin(None), done("a", output={"x": 21}))
    assert config_of(told, "b") == value({"value": 42})


def test_an_error_path_reads_the_error() -> None:
    plan = plan_of(
        echo("a", 1), echo("b", "{{ steps.a.error.code }}: {{ steps.a.error.message }}"), edges="a.error>b"
    )
    told = story(plan).when(begin(None), broken("a"))
    assert config_of(told, "b") == value({"value": "refused: No."})


def test_a_join_can_ask_which_branch_was_taken() -> None:
    written = "{{ has(steps.no.output) ? steps.no.output : steps.yes.status }}"
    plan = plan_of(
        {"id": "check", "type": "if", "config": {"condition": "trigger.body"}},
        echo("yes", 1),
        echo("no", 2),
        echo("last", written),
        edges="check.true>yes check.false>no yes>last no>last",
    )
    assert config_of(story(plan).when(begin(False), done("no", output=2)), "last") == value({"value": 2})
    assert config_of(story(plan).when(begin(True), done("yes", output=1)), "last") == value(
        {"value": "succeeded"}
    )


def test_a_secret_stays_a_reference() -> None:
    told = story(sample("secrets")).when(begin({"id": 9}))
    expected = {"url": "https://example.com/9", "auth": {"$secret": "sec-1"}}
    assert config_of(told, "call") == value(expected)


def test_a_light_run_is_one_commit() -> None:
    told = story(sample("respond")).when(begin({"event": "push", "name": "Ada", "items": [1, 2]}))
    body = {"greeting": "Hello Ada", "count": 2, "at": 3}
    answer = next(event for event in told.said if isinstance(event, RunResponded))
    assert (answer.status, answer.headers, answer.body) == (201, {"X-Kind": "greeting"}, value(body))
    assert isinstance(told.said[-1], RunCompleted)
    filtered = story(sample("respond")).when(begin({"event": "other"}))
    assert sum(isinstance(event, StepSkipped) for event in filtered.said) == 3


@pytest.mark.parametrize(("region", "way"), [("eu", "berlin"), ("us", "boston"), ("mars", "elsewhere")])
def test_a_switch_goes_by_its_first_case_that_holds(region: str, way: str) -> None:
    told = story(sample("switch")).when(begin({"region": region}))
    assert list(told.state.attempts) == [way]


def test_a_case_behind_the_one_that_holds_is_not_evaluated() -> None:
    cases = [
        {"name": "first", "when": "trigger.body.n == 1"},
        {"name": "second", "when": "trigger.body.nowhere"},
    ]
    plan = plan_of({"id": "route", "type": "switch", "config": {"cases": cases}})
    assert story(plan).when(begin({"n": 1})).state.status == "completed"
    failed = story(plan).when(begin({"n": 2}))
    assert failed.state.error is not None
    assert failed.state.error.field == "/cases/1/when"


def test_a_delay_takes_its_length_from_an_expression() -> None:
    plan = plan_of({"id": "nap", "type": "delay", "config": {"seconds": "{{ trigger.body.pause }}"}})
    told = story(plan).when(begin({"pause": 90}))
    assert [event.due.minute for event in told.said if isinstance(event, WaitOpened)] == [1]


# --- What goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "position"),
    [
        ("{{ trigger.body.nowhere }}", 3),
        ("x {{ 1 / trigger.body.zero }}", 7),
        ("{{ trigger.body.text + 1 }}", 21),
    ],
)
def test_an_expression_that_fails_names_node_field_and_position(written: str, position: int) -> None:
    told = story(plan_of(echo("a", written))).when(begin({"zero": 0, "text": "t"}))
    error = told.state.error
    assert error is not None
    assert (error.code, error.node, error.field, error.position) == ("expression", "a", "/value", position)
    assert not error.retryable


def test_a_condition_that_is_no_truth_fails_its_step() -> None:
    plan = plan_of({"id": "a", "type": "filter", "config": {"condition": "trigger.body.n"}})
    told = story(plan).when(begin({"n": 1}))
    assert told.state.error is not None
    assert (told.state.error.node, told.state.error.field) == ("a", "/condition")


def test_an_expression_that_fails_takes_the_error_path() -> None:
    plan = plan_of(
        echo("a", "{{ trigger.body.nowhere }}"), echo("b", "{{ steps.a.error.field }}"), edges="a.error>b"
    )
    told = story(plan).when(begin({}))
    assert isinstance(told.said[1], StepFailed)
    assert told.said[1].handled
    assert config_of(told, "b") == value({"value": "/value"})


def test_a_place_far_inside_a_long_text_can_still_be_stored() -> None:
    told = story(plan_of(echo("a", " " * 200_000 + "{{ trigger.body.nowhere }}"))).when(begin({}))
    assert told.state.error is not None
    assert told.state.error.position == 100_000


def test_an_expression_of_a_plan_that_this_release_does_not_take_fails_its_step() -> None:
    plan = plan_of(echo("a", "{{ 1 }}"))
    node = structs.replace(plan.nodes[0], config={"value": "{{ 1 +* }}"})
    told = story(structs.replace(plan, nodes=(node,))).when(begin({}))
    assert told.state.error is not None
    assert (told.state.error.code, told.state.error.field) == ("expression", "/value")


# --- Values that are stored apart ---------------------------------------------------------------

LARGE = encode({"n": 1, "text": "x" * 100})
BLOB = Blob(sha256=digest(LARGE), size=len(LARGE))
PAIR = plan_of(echo("a", 1), echo("b", "{{ steps.a.output.n }}"), edges="a>b")


def after(told: Scenario[Run, Message, RunEvent], output: Payload) -> Scenario[Run, Message, RunEvent]:
    return told.when(begin({}), structs.replace(done("a"), output=output))


def test_a_stored_value_is_asked_for_before_it_is_read() -> None:
    with pytest.raises(NotReady) as missing:
        after(story(PAIR), BLOB)
    assert missing.value.values == {BLOB}
    assert config_of(after(story(PAIR, {BLOB.sha256: LARGE}), BLOB), "b") == value({"value": 1})


@pytest.mark.parametrize(
    ("blob", "code"),
    [
        (BLOB, "payload.missing"),
        (structs.replace(BLOB, size=PREFETCH_BYTES + 1), "payload.too_large"),
    ],
)
def test_a_stored_value_that_cannot_be_read_fails_the_step_that_reads_it(blob: Blob, code: str) -> None:
    told = after(story(PAIR, {BLOB.sha256: None}), blob)
    assert told.state.error is not None
    assert (told.state.error.code, told.state.error.node) == (code, "b")


def test_a_stored_value_that_is_too_large_to_be_read_is_not_asked_for() -> None:
    told = after(story(PAIR), structs.replace(BLOB, size=PREFETCH_BYTES + 1))
    assert told.state.status == "failed"


def test_a_stored_value_that_nobody_reads_is_not_asked_for() -> None:
    plan = plan_of(echo("a", 1), {"id": "b", "type": "filter", "config": {"condition": "true"}}, edges="a>b")
    told = after(story(plan), BLOB)
    assert told.state.output == BLOB


def test_what_is_no_json_is_read_as_its_reference() -> None:
    picture = structs.replace(BLOB, content_type="image/png")
    plan = plan_of(echo("a", 1), echo("b", "{{ steps.a.output.blob.size }}"), edges="a>b")
    assert config_of(after(story(plan), picture), "b") == value({"value": BLOB.size})


def test_all_values_that_a_node_reads_are_asked_for_together() -> None:
    plan = plan_of(
        echo("a", 1),
        echo("b", 1),
        echo("c", "{{ [steps.a.output.n, steps.b.output.n, trigger.body] }}"),
        edges="a>c b>c",
    )
    other = structs.replace(BLOB, sha256="cd" * 32)
    told = story(plan).when(structs.replace(START, input=structs.replace(BLOB, sha256="ef" * 32)))
    told = told.when(structs.replace(done("a"), output=BLOB))
    with pytest.raises(NotReady) as missing:
        told.when(structs.replace(done("b"), output=other))
    assert {blob.sha256[:2] for blob in missing.value.values} == {BLOB.sha256[:2], "cd", "ef"}


# --- Evaluations that are made apart ------------------------------------------------------------


def test_an_expression_that_may_be_costly_is_asked_for_and_its_answer_is_taken() -> None:
    costly = "{{ trigger.body.map(x, trigger.body.map(y, x + y).size()).size() }}"
    plan = plan_of(echo("a", costly))
    start = begin(list(range(3_000)))
    with pytest.raises(NotReady) as missing:
        story(plan).when(start)
    (job,) = missing.value.jobs
    assert isinstance(job, Job)
    answers: dict[str, Answer] = {job.name: Done(value=value(3_000).value)}
    assert config_of(story(plan, answers=answers).when(start), "a") == value({"value": 3_000})


def test_an_evaluation_that_found_no_turn_fails_its_step_and_names_node_and_field() -> None:
    plan = plan_of(echo("a", "{{ trigger.body.map(x, trigger.body.map(y, x + y).size()).size() }}"))
    start = begin(list(range(3_000)))
    with pytest.raises(NotReady) as missing:
        story(plan).when(start)
    (job,) = missing.value.jobs
    answers: dict[str, Answer] = {job.name: Undone(message="others before it took longer", passing=True)}
    [failed] = [e for e in story(plan, answers=answers).when(start).said if isinstance(e, StepFailed)]
    error = failed.error
    assert (error.code, error.node, error.field) == ("expression", "a", "/value")
    assert "others before it" in error.message


# --- Outputs of the run -------------------------------------------------------------------------


def test_several_last_steps_name_what_is_stored_apart() -> None:
    plan = plan_of(echo("a", 1), {"id": "b", "type": "set", "config": {"fields": {"x": 1}}})
    told = story(plan).when(begin({})).when(structs.replace(done("a"), output=BLOB))
    assert isinstance(told.said[-1], RunCompleted)
    reference = {
        "blob": {"in": "blob", "sha256": BLOB.sha256, "size": BLOB.size, "content_type": "application/json"}
    }
    assert json.loads(encode(told.said[-1].output))["value"] == {"a": reference, "b": {"x": 1}}


def test_a_merge_reads_what_is_stored_apart() -> None:
    plan = plan_of(echo("a", 1), {"id": "m", "type": "merge"}, edges="a>m")
    told = after(story(plan, {BLOB.sha256: LARGE}), BLOB)
    assert isinstance(told.said[-2], StepSucceeded)
    assert told.state.output == value({"a": json.loads(LARGE)})


def test_a_failure_names_no_value_of_the_run() -> None:
    told = story(plan_of(echo("a", "{{ int(trigger.body.password) }}"))).when(begin({"password": "hunter2"}))
    assert isinstance(told.state.error, Failure)
    assert "hunter2" not in told.state.error.message


# --- How soon a run goes ------------------------------------------------------------------------------


def hurried(priority: int | str, body: Any, **more: Any) -> Sequence[RunEvent]:
    """What a start leads to, where the workflow says so of its priority."""
    compiled = Compiled(structs.replace(plan_of(echo("a", 1)), flow=Flow(priority=priority)), LANGUAGE)
    evaluate = compiled.evaluator({})
    return consider(Run.new("org", "run-1"), compiled.graph, begin(body, **more), NOON, evaluate).events


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("trigger.body.rank", 3),
        ("trigger.body.rank * 10", 9),
        ("0 - trigger.body.rank", 0),
        ("trigger.body.half * 4.0", 2),
        ("trigger.body.huge", 9),
        ('trigger.body.plan == "paid" ? 8 : 2', 8),
        ('vars.rich.exists(each, each == "ada") ? 7 : 1', 7),
        ("4", 4),
    ],
)
def test_the_priority_that_an_expression_gives_is_recorded_within_its_bounds(
    written: str, given: int
) -> None:
    body = {"rank": 3, "half": 0.5, "huge": 1e300, "plan": "paid"}
    begun, after = hurried(written, body, org_vars={"rich": ["ada"]})
    assert isinstance(begun, RunStarted)
    assert (begun.priority, type(after)) == (given, AttemptScheduled)


@pytest.mark.parametrize(
    "written",
    ["trigger.body.none", "trigger.body.plan", "trigger.body.half", "trigger.body.rank == 3", "1.0 / 0.0"],
)
def test_a_priority_that_is_no_whole_number_is_a_fault_of_the_run_and_names_its_place(written: str) -> None:
    begun, *_, failed = hurried(written, {"rank": 3, "half": 0.5, "plan": "paid"})
    assert isinstance(begun, RunStarted)
    assert isinstance(failed, RunFailed)
    assert begun.priority is UNSET
    assert (failed.error.code, failed.error.field, failed.error.node) == (
        "expression",
        "/flow/priority",
        None,
    )


def test_a_priority_that_is_drawn_or_of_a_run_that_tries_the_workflow_out_is_not_recorded() -> None:
    for begun, *_ in (hurried(7, None), hurried("trigger.body.none", None, mode="test")):
        assert isinstance(begun, RunStarted)
        assert begun.priority is UNSET
