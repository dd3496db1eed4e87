"""Test runs and cases over the API: what is asked of the engine, what is kept, and how a run is judged."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw, structs

from chassis.ports import Proposal, Stored
from chassis.sealing import Place, Sealer, new_data_key, new_salt, open_document, seal_paths
from chassis.seals import is_sealed, mark
from contracts.cases import Given, Pin
from contracts.codec import decode_commit, encode
from contracts.errors import Failure
from contracts.limits import CASE_BYTES, CASES, INLINE_BYTES
from contracts.messages import CompileRequest
from contracts.payloads import Blob, Inline
from contracts.runs import (
    AttemptScheduled,
    Cause,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    StepFailed,
    StepPinned,
    StepReported,
    StepSkipped,
    StepSucceeded,
    WaitOpened,
)
from contracts.subjects import run as run_subject
from contracts.triggers import Hook
from contracts.workflows import Fault
from gateway.runs import histories
from gateway.triggers.queries import TriggerQueries
from gateway.workflows.compiling import Compiled
from tests.gateway.fakes import Office, commit_of
from tests.gateway.stories import ECHO, created, published, started, triggered

ORG = "org_default"
NO = Failure(code="refused", message="No.")


def value(of: Any) -> Inline:
    return Inline(value=Raw(encode(of)))


def request_of(office: Office) -> CompileRequest:
    """The last wish for a plan."""
    found: CompileRequest = office.engine.compiled[-1]
    return found


async def given_of(office: Office) -> Given:
    trial = request_of(office).trial
    assert trial is not None
    body = (
        bytes(trial.given.value) if isinstance(trial.given, Inline) else await office.blobs.get(trial.given)
    )
    return msgspec.json.decode(body, type=Given)


async def first_of(office: Office, run: str) -> RunStarted:
    lying = await histories.first_of(office.parts.histories, ORG, run)
    assert lying is not None
    event = decode_commit(lying.body).events[0]
    assert isinstance(event, RunStarted)
    return event


async def told(office: Office, run: str, *events: RunEvent) -> None:
    """The run goes on."""
    before = await office.runs_log.history(run_subject(ORG, run))
    commit = commit_of(ORG, run, events, version=len(before) + 1)
    placed = await office.runs_log.append(
        [Proposal(run_subject(ORG, run), encode(commit), before[-1].sequence)]
    )
    assert placed != [None]


CAME: tuple[RunEvent, ...] = (
    AttemptScheduled(
        step="a",
        node="a",
        node_type="echo",
        attempt=1,
        key="k",
        pool="default",
        repeat="no",
        timeout_s=1.0,
        config=value({"to": "Ada"}),
    ),
    StepReported(step="a", attempt=1, output=value({"n": 1})),
    StepSucceeded(step="a", node="a"),
    StepFailed(step="b", node="b", error=NO, handled=True),
    StepSkipped(step="c", node="c"),
    StepReported(step="each[0].x", attempt=1, output=value(0)),
    StepSucceeded(step="d", node="d", ports=("true",), output=value(4)),
    RunCompleted(output=value({"total": 4})),
)


async def ended(office: Office, workflow: str, *events: RunEvent) -> str:
    run = await started(office, workflow, {"order": 7})
    await told(office, run, *(events or CAME))
    return run


# --- Test runs --------------------------------------------------------------------------------------


async def test_a_draft_that_was_never_published_is_tried_out(office: Office) -> None:
    workflow = await created(office)
    reply = await office.api("POST", f"/workflows/{workflow}/tests", {"trigger": {"body": {"n": 1}}})
    assert (reply.status, reply.json["status"]) == (202, "accepted")
    assert reply.json["outline"] == {"acts": [], "decides": [], "pinned": [], "left_out": []}
    started = await first_of(office, reply.json["run"])
    assert (started.mode, started.version, started.trigger) == ("test", 1, None)
    assert started.cause == Cause(kind="test")
    assert json.loads(bytes(started.input.value))["body"] == {"n": 1}  # type: ignore[union-attr]  # It is small.
    assert request_of(office).keep


@pytest.mark.parametrize("wish", [{"trigger": {"body": {"card": "CANARY"}}}, {"input": {"card": "CANARY"}}])
async def test_what_somebody_writes_into_a_test_is_sealed_by_what_the_draft_marks(
    office: Office, wish: Any
) -> None:
    workflow = await created(office)
    drawn = {"definition": {**ECHO, "sensitive": ["/card"]}}
    reply = await office.api("POST", f"/workflows/{workflow}/tests", drawn | wish)
    assert reply.status == 202, reply.body
    first = await first_of(office, reply.json["run"])
    assert isinstance(first.input, Inline)
    body = json.loads(bytes(first.input.value))["body"]
    opener = await office.vault.opener(ORG, reply.json["run"], f"salt_{reply.json['run']}")
    assert is_sealed(body["card"])
    assert open_document(body, opener) == {"card": "CANARY"}


async def test_a_run_of_a_case_has_sealed_what_the_version_marks(office: Office) -> None:
    workflow = await created(office)
    marked = {"definition": {**ECHO, "sensitive": ["/card"]}}
    assert (await office.api("POST", f"/workflows/{workflow}/versions", marked)).status == 201
    case = {"trigger": {"body": {"card": "CANARY"}}}
    assert (await office.api("PUT", f"/workflows/{workflow}/cases/big-order", case)).status in (200, 201)
    reply = await office.api("POST", f"/workflows/{workflow}/cases/big-order/runs", {})
    first = await first_of(office, reply.json["run"])
    assert b"CANARY" not in encode(first)


async def test_what_is_not_saved_can_be_tried_out_as_well(office: Office) -> None:
    workflow = await created(office)
    changed = {"nodes": [{"id": "z", "type": "echo", "config": {}}]}
    reply = await office.api("POST", f"/workflows/{workflow}/tests", {"definition": changed})
    assert (await first_of(office, reply.json["run"])).version == 0
    assert json.loads(bytes(request_of(office).definition)) == changed


async def test_an_outline_starts_nothing_and_keeps_no_plan(office: Office) -> None:
    workflow = await created(office)
    reply = await office.api("POST", f"/workflows/{workflow}/tests/outline", {})
    assert (reply.status, office.runs_log.messages) == (200, [])
    assert not request_of(office).keep


async def test_the_part_and_the_pins_reach_the_compiler(office: Office) -> None:
    workflow = await created(office)
    wish = {
        "selection": {"part": "node", "node": "a"},
        "pins": {
            "x": {"output": {"n": 1.10}, "ports": ["true"]},
            "y": {"error": {"code": "refused", "message": "No."}},
            "z": {"skipped": True},
            "w": {"output": "l" * INLINE_BYTES},
        },
        "input": None,
    }
    assert (await office.api("POST", f"/workflows/{workflow}/tests", wish)).status == 202
    trial, given = request_of(office).trial, await given_of(office)
    assert trial is not None
    assert (trial.selection.part, trial.selection.node) == ("node", "a")
    assert given.pins["x"] == Pin(output=Inline(value=Raw(b'{"n": 1.1}')), ports=("true",))
    assert (given.pins["y"], given.pins["z"]) == (Pin(error=NO), Pin(skipped=True))
    assert isinstance(given.pins["w"].output, Blob)
    assert given.input == value(None)


async def test_an_earlier_run_gives_what_came_of_its_nodes_and_what_started_it(office: Office) -> None:
    workflow = await published(office)
    run = await ended(office, workflow)
    wish = {"from_run": run, "selection": {"part": "from", "node": "d"}}
    reply = await office.api("POST", f"/workflows/{workflow}/tests", wish)
    assert reply.status == 202, reply.body
    assert (await given_of(office)).recorded == {
        "a": Pin(output=value({"n": 1}), ports=("main",)),
        "b": Pin(error=NO),
        "c": Pin(skipped=True),
        "d": Pin(output=value(4), ports=("true",)),
    }
    assert (await first_of(office, reply.json["run"])).input == (await first_of(office, run)).input


def sealer_of_nobody() -> str:
    place = Place(org=ORG, object="elsewhere", field="value")
    return Sealer(new_data_key(ORG, 1), new_salt(), "run.value", place).seal(b'"x"')


async def test_sealed_values_of_an_earlier_run_are_sealed_anew_and_no_case_has_them(office: Office) -> None:
    workflow = await published(office)
    run = await started(office, workflow)
    key_id, sealer = await office.vault.sealer(ORG, run)
    sealed = seal_paths({"body": {"card": "4111 CANARY"}, "method": "POST"}, ["/body/card"], sealer)
    first = office.runs_log.messages[-1]
    commit = decode_commit(first.body)
    event = structs.replace(commit.events[0], input=value(sealed))  # type: ignore[call-arg]  # It has started.
    again = structs.replace(commit, events=(event,), key_id=key_id)
    office.runs_log.messages[-1] = Stored(first.subject, first.sequence, encode(again))
    passed_on: Any = sealed
    card = passed_on["body"]["card"]
    text = f"Bearer {mark(card['$sealed'])}, {mark(sealer_of_nobody())}"
    kept_by_a = {"kept": card, "forged": {"$sealed": "v1|1|x|y"}, "text": text}
    done = StepSucceeded(step="a", node="a", output=value(kept_by_a))
    await told(office, run, done, RunCompleted(output=value(passed_on["body"])))
    reply = await office.api("POST", f"/workflows/{workflow}/tests", {"from_run": run})
    assert reply.status == 202, reply.body
    new = reply.json["run"]
    opener = await office.vault.opener(ORG, new, f"salt_{new}")
    pinned: Any = json.loads(bytes((await given_of(office)).recorded["a"].output.value))  # type: ignore[union-attr]
    assert pinned["kept"] != kept_by_a["kept"]
    assert open_document(pinned, opener) == {
        "kept": "4111 CANARY",
        "forged": "(sealed)",
        "text": "Bearer 4111 CANARY, (sealed)",
    }
    opened: Any = open_document(json.loads(bytes((await first_of(office, new)).input.value)), opener)  # type: ignore[union-attr]
    assert opened["body"]["card"] == "4111 CANARY"

    other = {"from_run": run, "trigger": {"body": 1}}
    started_by_hand = (await office.api("POST", f"/workflows/{workflow}/tests", other)).json["run"]
    lying = await histories.first_of(office.parts.histories, ORG, started_by_hand)
    assert lying is not None
    assert decode_commit(lying.body).key_id == f"salt_{started_by_hand}"

    kept = await office.api("POST", f"/workflows/{workflow}/cases", {"name": "sealed", "from_run": run})
    assert kept.status == 201, kept.body
    shown = (await office.api("GET", f"/workflows/{workflow}/cases/sealed")).json
    assert shown["trigger"]["body"] == {"card": "(sealed)"}
    assert shown["recorded"]["a"]["output"] == {
        "kept": "(sealed)",
        "forged": "(sealed)",
        "text": "Bearer (sealed), (sealed)",
    }
    assert shown["expected"]["output"] == {"card": "(sealed)"}
    assert b"$sealed" not in b"".join(message.body for message in office.domain_log.messages)


async def test_what_the_compiler_finds_is_told_with_its_place(office: Office) -> None:
    workflow = await created(office)
    office.engine.faults = (Fault(code="test.unpinned", pointer="/pins/a", message="m"),)
    reply = await office.api("POST", f"/workflows/{workflow}/tests", {})
    assert (reply.status, reply.json["code"]) == (422, "test.unfit")
    assert reply.json["faults"][0]["pointer"] == "/pins/a"
    office.engine.faults = (Fault(code="workflow.cycle", pointer="/nodes/0", message="m"),)
    reply = await office.api("POST", f"/workflows/{workflow}/tests", {})
    assert (reply.status, reply.json["code"]) == (422, "invalid_workflow")
    assert office.runs_log.messages == []


async def test_an_orchestrator_that_knows_no_tests_starts_none(office: Office) -> None:
    async def compile_whole(request: CompileRequest) -> Compiled:
        return Compiled(plan="a" * 64, faults=())

    workflow = await created(office)
    office.engine.compile = compile_whole  # type: ignore[method-assign]  # One of the release before.
    assert (await office.api("POST", f"/workflows/{workflow}/tests", {})).status == 503
    assert office.runs_log.messages == []


async def test_a_run_with_too_long_a_history_stands_for_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = await published(office)
    run = await ended(office, workflow)
    monkeypatch.setattr("gateway.cases.outcomes.RECORDED_BYTES", 100)
    reply = await office.api("POST", f"/workflows/{workflow}/tests", {"from_run": run})
    assert (reply.status, reply.json["code"]) == (413, "too_large")


async def test_the_same_key_starts_the_same_test(office: Office) -> None:
    workflow = await created(office)
    first = await office.api("POST", f"/workflows/{workflow}/tests", {}, idempotency_key="k")
    again = await office.api("POST", f"/workflows/{workflow}/tests", {}, idempotency_key="k")
    other = await office.api("POST", f"/workflows/{workflow}/tests", {"version": 1}, idempotency_key="k")
    assert (first.status, again.status, other.json["code"]) == (202, 200, "idempotency_mismatch")
    assert first.json["run"] == again.json["run"]


async def test_a_run_of_another_workflow_gives_nothing(office: Office) -> None:
    workflow, other = await published(office), await published(office)
    run = await ended(office, other)
    reply = await office.api("POST", f"/workflows/{workflow}/tests", {"from_run": run})
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    reply = await office.api("POST", f"/workflows/{workflow}/tests", {"from_run": "none"})
    assert reply.status == 404
    assert (await office.api("POST", f"/workflows/{workflow}/tests", {"version": 9})).status == 404
    assert (await office.api("POST", "/workflows/none/tests", {"definition": ECHO})).status == 404


# --- Samples -----------------------------------------------------------------------------------------


class Rows(TriggerQueries):
    """The captured deliveries that a test says there are."""

    def __init__(self, *receipts: str) -> None:
        self.rows = [
            {"receipt": each, "sequence": number, "run": None, "result": "captured"}
            for number, each in enumerate(receipts, start=1)
        ]

    async def captured(self, org: str, trigger_id: str) -> Any:
        return self.rows[::-1]

    async def delivery(self, org: str, trigger_id: str, receipt: str) -> Any:
        return next(row for row in self.rows if row["receipt"] == receipt)


async def captured(office: Office, trigger: str, receipt: str, body: Any, key_id: str = "") -> None:
    hook = Hook(
        receipt=receipt,
        org=ORG,
        trigger=trigger,
        time=1_790_000_000.0,
        result="captured",
        method="POST",
        body=value(body),
        size=2,
        key_id=key_id,
    )
    await office.hooks_log.append(
        [Proposal(f"hook.{ORG}.{trigger}", encode(hook), len(office.hooks_log.messages))]
    )


async def test_what_was_captured_is_shown_and_starts_a_test(office: Office) -> None:
    workflow = await created(office)
    trigger = (await triggered(office, workflow))["id"]
    office.parts.redelivery._queries = Rows("c1", "c2")
    _, sealer = await office.vault.sealer(ORG, "c2")
    await captured(office, trigger, "c1", {"body": 1})
    sealed: Any = seal_paths({"body": {"card": "CANARY"}}, ["/body/card"], sealer)
    await captured(office, trigger, "c2", sealed, "salt_c2")
    shown = (await office.api("GET", f"/triggers/{trigger}/samples")).json["items"]
    assert [(each["receipt"], each["trigger"]["body"]) for each in shown] == [
        ("c2", sealed["body"]),
        ("c1", 1),
    ]

    wish = {"sample": {"trigger": trigger, "receipt": "c2"}}
    run = (await office.api("POST", f"/workflows/{workflow}/tests", wish)).json["run"]
    opener = await office.vault.opener(ORG, run, f"salt_{run}")
    opened: Any = open_document(json.loads(bytes((await first_of(office, run)).input.value)), opener)  # type: ignore[union-attr]
    assert opened["body"] == {"card": "CANARY"}


async def test_whoever_may_test_may_not_therefore_read_runs_and_deliveries(office: Office) -> None:
    workflow = await published(office)
    run, trigger = await ended(office, workflow), (await triggered(office, workflow))["id"]
    office.parts.redelivery._queries = Rows("c1")
    await captured(office, trigger, "c1", {"body": 1})
    key = await office.key_for(ORG, ["tests:read", "tests:write"])
    for path, wish in (
        ("tests", {"from_run": run}),
        ("tests/outline", {"from_run": run}),
        ("tests", {"sample": {"trigger": trigger, "receipt": "c1"}}),
        ("cases", {"name": "c", "from_run": run}),
    ):
        reply = await office.api("POST", f"/workflows/{workflow}/{path}", wish, key=key)
        assert (reply.status, reply.json["code"]) == (403, "forbidden"), path
    assert (await office.api("POST", f"/workflows/{workflow}/tests", {}, key=key)).status == 202


# --- Cases -------------------------------------------------------------------------------------------


async def recorded(office: Office, workflow: str, run: str, **more: Any) -> Any:
    wish = {"name": "big-order", "from_run": run, **more}
    reply = await office.api("POST", f"/workflows/{workflow}/cases", wish)
    assert reply.status == 201, reply.body
    return reply.json


async def test_a_run_becomes_a_case(office: Office) -> None:
    workflow = await published(office)
    run = await ended(office, workflow)
    kept = await recorded(office, workflow, run, conditions=["run.output.total == 4"])
    assert kept == {"workflow": workflow, "name": "big-order", "revision": 1}
    case = (await office.api("GET", f"/workflows/{workflow}/cases/big-order")).json
    assert case["from_run"] == run
    assert case["trigger"]["body"] == {"order": 7}
    assert case["recorded"]["a"] == {"output": {"n": 1}, "ports": ["main"], "error": None, "skipped": False}
    assert case["recorded"]["b"]["error"]["code"] == "refused"
    assert case["recorded"]["c"]["skipped"]
    assert case["pins"] == {}
    assert case["expected"] == {
        "status": "completed",
        "output": {"total": 4},
        "any_output": False,
        "steps": {"d": 4},
        "sent": {"a": {"to": "Ada"}},
        "conditions": ["run.output.total == 4"],
    }


async def test_a_run_that_goes_on_becomes_none(office: Office) -> None:
    workflow = await published(office)
    run = await started(office, workflow)
    wish = {"name": "early", "from_run": run}
    assert (await office.api("POST", f"/workflows/{workflow}/cases", wish)).status == 409


async def test_a_case_is_written_changed_listed_and_removed(office: Office) -> None:
    workflow = await created(office)
    place = f"/workflows/{workflow}/cases/small"
    body = {"trigger": {"body": 1}, "pins": {"a": {"output": 2}}, "expected": {"output": None}}
    assert (await office.api("PUT", place, body)).json["revision"] == 1
    assert (await office.api("PUT", place, body)).json["revision"] == 1
    changed = await office.api("PUT", place, {"expected": {"status": "failed"}})
    assert changed.json["revision"] == 2
    case = (await office.api("GET", place)).json
    assert (case["trigger"]["body"], case["pins"]["a"]["output"]) == (1, 2)
    assert (case["expected"]["status"], case["expected"]["any_output"]) == ("failed", True)
    listed = await office.api("GET", f"/workflows/{workflow}/cases")
    assert listed.json["items"] == [{"name": "small", "revision": 2, "from_run": None}]
    assert (await office.api("DELETE", place)).status == 204
    assert (await office.api("GET", place)).status == 404
    assert (await office.api("DELETE", place)).status == 404
    assert (await office.api("PUT", place, {})).json["revision"] == 3


@pytest.mark.parametrize("name", ["Big", "-x", "a%20b", "x" * 65])
async def test_the_name_of_a_case_is_one_part_of_an_address(office: Office, name: str) -> None:
    workflow = await created(office)
    assert (await office.api("PUT", f"/workflows/{workflow}/cases/{name}", {})).status in (400, 404)


async def test_bad_conditions_are_refused_with_their_place(office: Office) -> None:
    workflow = await created(office)
    wish = {"expected": {"conditions": ["run.status == 'completed'", "run.output.", "now() > 1"]}}
    reply = await office.api("PUT", f"/workflows/{workflow}/cases/c", wish)
    assert (reply.status, reply.json["code"]) == (422, "test.bad_condition")
    assert {fault["pointer"] for fault in reply.json["faults"]} == {
        "/expected/conditions/1",
        "/expected/conditions/2",
    }


async def test_cases_are_bounded_in_size_and_number(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = await created(office)
    pins = {f"n{number}": {"output": "x" * 300_000} for number in range(6)}
    assert (await office.api("PUT", f"/workflows/{workflow}/cases/a", {"pins": pins})).status == 200
    monkeypatch.setattr("gateway.cases.values.CASE_BYTES", 1_000_000)
    reply = await office.api("PUT", f"/workflows/{workflow}/cases/b", {"pins": pins})
    assert (reply.status, reply.json["code"]) == (413, "too_large")
    monkeypatch.setattr("gateway.workflows.rules.CASES", 1)
    assert (await office.api("PUT", f"/workflows/{workflow}/cases/c", {})).status == 409
    assert CASE_BYTES > 1_000_000
    assert CASES > 1


# --- Judging -----------------------------------------------------------------------------------------


async def judged(office: Office, workflow: str, *events: RunEvent, name: str = "c") -> Any:
    """The verdict on a run of a case in which these events happen."""
    reply = await office.api("POST", f"/workflows/{workflow}/cases/{name}/runs", {})
    assert reply.status == 202, reply.body
    run = reply.json["run"]
    place = f"/workflows/{workflow}/cases/{name}/runs/{run}"
    assert (await office.api("GET", place)).json["state"] == "running"
    await told(office, run, *events)
    return (await office.api("GET", place)).json


async def case_of(office: Office, **expected: Any) -> str:
    workflow = await created(office)
    reply = await office.api("PUT", f"/workflows/{workflow}/cases/c", {"expected": expected})
    assert reply.status == 200, reply.body
    return workflow


async def test_a_case_runs_as_a_test_with_what_it_holds(office: Office) -> None:
    workflow = await published(office)
    await recorded(office, workflow, await ended(office, workflow))
    reply = await office.api("POST", f"/workflows/{workflow}/cases/big-order/runs", {"version": 1})
    started = await first_of(office, reply.json["run"])
    assert (started.mode, started.cause) == ("test", Cause(kind="test", id="big-order@1"))
    assert (await given_of(office)).recorded["a"].output == value({"n": 1})
    assert json.loads(bytes(started.input.value))["body"] == {"order": 7}  # type: ignore[union-attr]  # It is small.


async def test_a_run_that_does_what_is_expected_passes(office: Office) -> None:
    conditions = [
        "run.status == 'completed'",
        "steps.d.output == 4 && steps.c.status == 'skipped'",
        "steps.b.error.code == 'refused'",
        "trigger.body == null",
    ]
    workflow = await case_of(office, output={"total": 4.0}, steps={"a": {"n": 1}}, conditions=conditions)
    verdict = await judged(office, workflow, *CAME)
    assert (verdict["state"], verdict["status"], verdict["differences"]) == ("passed", "completed", [])
    assert (verdict["case"], verdict["revision"], verdict["version"]) == ("c", 1, 1)


async def test_every_difference_is_told_with_its_step_and_its_place(office: Office) -> None:
    conditions = ["run.output.total > 4", "steps.d.output.x == 1"]
    workflow = await case_of(
        office, output={"total": 5}, steps={"a": {"n": 1, "m": [1]}, "c": 1, "zz": 2}, conditions=conditions
    )
    found = (await judged(office, workflow, *CAME))["differences"]
    assert [
        (each["expectation"], each["step"], each["pointer"], each["expected"], each["got"]) for each in found
    ] == [
        ("/output", None, "/total", 5, 4),
        ("/steps/a", "a", "/m", [1], None),
        ("/steps/c", "c", "", 1, None),
        ("/steps/zz", "zz", "", 2, None),
        ("/conditions/0", None, "", None, False),
        ("/conditions/1", None, "", None, False),
    ]
    assert "does not hold" in found[4]["message"]


async def test_what_would_have_been_sent_is_compared(office: Office) -> None:
    workflow = await case_of(office, sent={"a": {"to": "Ada"}, "b": 1})
    sent = StepPinned(step="a", node="a", config=value({"to": "Eve"}))
    done = StepSucceeded(step="a", node="a", output=value(1))
    first, second = (await judged(office, workflow, sent, done, RunCompleted()))["differences"]
    assert (first["expectation"], first["pointer"], first["got"]) == ("/sent/a", "/to", "Eve")
    assert first["message"] == "What a is given is another one at /to."
    assert (second["expectation"], second["step"]) == ("/sent/b", "b")


async def test_what_waited_is_pinned_and_what_names_its_run_is_not_expected(office: Office) -> None:
    workflow = await published(office)
    run = await started(office, workflow)
    events: tuple[RunEvent, ...] = (
        WaitOpened(wait="signal:ask", kind="signal", step="ask", signal="paid"),
        StepSucceeded(step="ask", node="ask", output=value("yes")),
        WaitOpened(wait="delay:m[0].x", kind="delay", step="m[0].x"),
        StepSucceeded(step="m", node="m", output=value([])),
        WaitOpened(wait="retry:r:2", kind="retry", step="r"),
        StepSucceeded(step="r", node="r", output=value(1)),
        StepSucceeded(step="own", node="own", output=value({"id": run})),
        RunCompleted(output=value(None)),
    )
    await told(office, run, *events)
    await recorded(office, workflow, run)
    assert (await office.api("GET", f"/workflows/{workflow}/cases/big-order")).json["expected"]["steps"] == {
        "r": 1
    }
    await office.api("POST", f"/workflows/{workflow}/cases/big-order/runs", {})
    pins = (await given_of(office)).recorded
    assert {name for name, pin in pins.items() if pin.waited} == {"ask", "m"}


async def test_a_run_that_fails_says_at_which_step_and_why(office: Office) -> None:
    workflow = await case_of(office)
    verdict = await judged(
        office, workflow, StepFailed(step="a", node="a", error=NO), RunFailed(error=NO, step="a")
    )
    [difference] = verdict["differences"]
    assert (verdict["state"], difference["step"]) == ("failed", "a")
    assert difference["message"] == "The run failed: No."


async def test_a_failure_may_be_what_is_expected(office: Office) -> None:
    workflow = await case_of(office, status="failed", conditions=["run.error.code == 'refused'"])
    verdict = await judged(
        office, workflow, StepFailed(step="a", node="a", error=NO), RunFailed(error=NO, step="a")
    )
    assert verdict["state"] == "passed"


async def test_true_is_not_one_and_null_is_not_nothing(office: Office) -> None:
    workflow = await case_of(office, output={"yes": True})
    one = await judged(office, workflow, RunCompleted(output=value({"yes": 1})))
    assert one["differences"][0]["pointer"] == "/yes"
    workflow = await case_of(office, output=None)
    assert (await judged(office, workflow, RunCompleted(output=value({}))))["state"] == "failed"


async def test_large_values_are_compared_whole_and_shown_in_part(office: Office) -> None:
    workflow = await case_of(office, output={"text": "x" * INLINE_BYTES})
    same = await office.blobs.put(encode({"text": "x" * INLINE_BYTES}))
    assert (await judged(office, workflow, RunCompleted(output=same)))["state"] == "passed"
    other = await office.blobs.put(encode({"text": "x" * INLINE_BYTES + "y"}))
    [difference] = (await judged(office, workflow, RunCompleted(output=other)))["differences"]
    assert difference["pointer"] == "/text"
    assert len(difference["got"]) < 3_000


async def test_a_run_is_judged_by_the_case_that_it_was_started_by(office: Office) -> None:
    workflow = await case_of(office)
    run = (await office.api("POST", f"/workflows/{workflow}/cases/c/runs", {})).json["run"]
    await office.api("PUT", f"/workflows/{workflow}/cases/c", {"expected": {"status": "failed"}})
    reply = await office.api("GET", f"/workflows/{workflow}/cases/c/runs/{run}")
    assert (reply.status, "was changed" in reply.json["detail"]) == (409, True)
    await office.api("PUT", f"/workflows/{workflow}/cases/d", {})
    assert (await office.api("GET", f"/workflows/{workflow}/cases/d/runs/{run}")).status == 409
