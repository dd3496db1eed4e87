"""What is wrong between runs and those that started them is found, and what is right is not."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from chassis.ports import Stored
from chassis.testing.examples import MOMENT, commit, domain_commit
from contracts.codec import encode
from contracts.errors import Failure
from contracts.messages import StartRun
from contracts.runs import (
    CancelRequested,
    Cause,
    ChildAsked,
    ChildBegan,
    ChildEnded,
    HandlerAsked,
    HandlerRefused,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunReopened,
    RunStarted,
    RunStopping,
    StepCancelled,
    StepFailed,
    StepSucceeded,
    WaitOpened,
)
from contracts.subjects import domain
from contracts.workflows import VersionPublished
from orchestrator.history import state_at
from orchestrator.kinship import start_of
from tests.orchestrator.stories import STARTED, control, drawn, started, value
from tests.promises.children import (
    STOPPED_WITHIN,
    children_are_one_with_their_parents,
    failures_are_told,
    what_was_asked_for_was_published,
    who_is_not_awaited_is_stopped,
)
from tests.promises.evidence import History
from tests.simulation.test_promises import well

CALLING = started(drawn("call", control("call", "workflow.run", {"workflow": "child"})))
ASKED = CALLING.state.children["call"]
CHILD = ASKED.child
OPEN = WaitOpened(wait="child:call:1", kind="child", step="call")
FIVE = value(5)
NO = Failure(code="refused", message="No.")
GAVE = ChildEnded(step="call", child=CHILD, outcome="completed", output=FIVE)
WENT_ON = StepSucceeded(step="call", node="call")
GAVE_UP = StepFailed(step="call", node="call", error=NO)
BORN = [RunCompleted(output=FIVE)]


def history(run: str, *commits: tuple[RunEvent, ...], seconds: float = 0.0) -> History:
    """Its commits lie an hour behind each other, but for the last one."""
    stored = [
        Stored(
            subject=f"run.org.{run}",
            sequence=number,
            body=encode(
                commit(*events, org="org", run=run, version=number, time=MOMENT + timedelta(hours=number))
            ),
            time=number * 3600.0 + (seconds if number == len(commits) else 0),
        )
        for number, events in enumerate(commits, 1)
    ]
    return History("org", run, stored)


def parent(*events: RunEvent, asked: ChildAsked = ASKED) -> History:
    return history("run-1", (STARTED, OPEN, asked, *events))


def started_by(start: StartRun, **changes: Any) -> RunStarted:
    names = [name for name in RunStarted.__struct_fields__ if getattr(start, name, None) is not None]
    told = RunStarted(**{name: getattr(start, name) for name in names if name != "schema_version"})
    return structs.replace(told, **changes)


def child(*events: RunEvent, **changes: Any) -> History:
    return history(CHILD, (started_by(start_of(CALLING.state, ASKED, ""), **changes), *events))


def found(*histories: History) -> list[str]:
    return [each.what for each in children_are_one_with_their_parents(well(), histories)]


def test_what_is_right_is_not_found() -> None:
    assert found(parent(GAVE, WENT_ON), child(*BORN)) == []
    failed = structs.replace(GAVE, outcome="failed", error=NO)
    assert found(parent(failed, GAVE_UP), child(RunFailed(error=NO))) == []
    assert found(parent(GAVE_UP), child(*BORN)) == []
    forgets = structs.replace(ASKED, waits=False)
    there = ChildBegan(step="call", child=CHILD)
    start = start_of(CALLING.state, forgets, "")
    assert found(parent(there, WENT_ON, asked=forgets), child(parent=start.parent)) == []
    unborn = structs.replace(GAVE, outcome="cancelled")
    assert found(parent(unborn, StepCancelled(step="call", node="call"))) == []


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((ASKED,), "was asked for twice"),
        ((GAVE, GAVE, WENT_ON), "for which call does not wait"),
        ((structs.replace(GAVE, child="another"), WENT_ON), "for which call does not wait"),
        ((WENT_ON,), "went on before it heard of its child"),
        (
            (structs.replace(GAVE, outcome="failed", error=NO), WENT_ON),
            "succeeded, although its child failed",
        ),
        ((GAVE, GAVE_UP), "did not succeed, although its child did"),
        ((ChildBegan(step="call", child=CHILD), WENT_ON), "heard of"),
        ((RunCancelled(),), "has ended and still waits for"),
        ((structs.replace(GAVE, output=value(6)), WENT_ON), "and it never did so"),
    ],
)
def test_what_a_parent_believes_wrongly_is_found(events: tuple[RunEvent, ...], words: str) -> None:
    told = found(parent(*events), child(*BORN))
    assert any(words in each for each in told), told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plan": "ef" * 32}, "is not what step call of run-1 asked for"),
        ({"input": FIVE}, "is not what step call of run-1 asked for"),
        ({"cause": Cause(kind="run", depth=1, chain=("another",))}, "does not follow"),
        ({"cause": Cause(kind="run", depth=40, chain=("flow",))}, "is number 40 in a chain"),
    ],
)
def test_a_child_that_nobody_asked_for_so_is_found(changes: dict[str, Any], words: str) -> None:
    told = found(parent(GAVE, WENT_ON), child(*BORN, **changes))
    assert any(words in each for each in told), told
    assert any("no run asked for this one" in each for each in found(child(*BORN)))


def published(version: int, plan: str, since: float) -> Stored:
    event = VersionPublished(version=version, plan=plan)
    body = encode(domain_commit("workflow", "child", event, org="org", version=version))
    return Stored(subject=domain("org", "workflow", "child"), sequence=version, time=since, body=body)


def test_a_child_of_a_version_that_was_not_published_or_not_asked_for_is_found() -> None:
    first = published(1, ASKED.plan, 0.0)

    def judged(asked: ChildAsked, *domain_: Stored, pinned: int | None = None) -> list[str]:
        config = {"workflow": "child"} | ({} if pinned is None else {"version": pinned})
        plan = drawn("call", control("call", "workflow.run", config))
        evidence = structs.replace(well(), plans={STARTED.plan: plan}, triggers=domain_)
        run = history("run-1", (STARTED,), (OPEN, asked))
        return [each.what for each in what_was_asked_for_was_published(evidence, [run])]

    assert judged(ASKED, first) == []
    assert judged(ASKED, first, pinned=1) == []
    assert judged(structs.replace(ASKED, plan="ef" * 32), first) == [
        "version 1 of child was asked for by a plan that it has not"
    ]
    at = 2 * 3600.0
    assert judged(structs.replace(ASKED, version=2), first, published(2, ASKED.plan, at + 1)) == [
        "version 2 of child was asked for by a plan that it has not"
    ]
    assert judged(ASKED, first, published(2, "ef" * 32, at - 5)) == []
    assert judged(ASKED, first, published(2, "ef" * 32, at - 60)) == [
        "version 1 was asked for behind version 2"
    ]
    assert judged(ASKED, first, published(2, "ef" * 32, at - 60), pinned=1) == []
    assert judged(ASKED, first, pinned=2) == ["version 1 was asked for, not 2"]


def stopped(*histories: History) -> list[str]:
    return [each.what for each in who_is_not_awaited_is_stopped(well(), histories)]


def test_a_child_that_goes_on_for_nobody_is_found() -> None:
    gave_up = history("run-1", (STARTED, OPEN, ASKED), (GAVE_UP,))
    begun = started_by(start_of(CALLING.state, ASKED, ""))
    soon = history(CHILD, (begun,), (RunCompleted(),), seconds=STOPPED_WITHIN - 1)
    late = history(CHILD, (begun,), (RunCompleted(),), seconds=STOPPED_WITHIN + 1)
    told = history(
        CHILD, (begun,), (CancelRequested(by="run:run-1"), RunCancelled()), seconds=STOPPED_WITHIN + 1
    )
    assert stopped(gave_up, soon) == []
    assert stopped(gave_up, told) == []
    assert any("nobody waits for it" in each for each in stopped(gave_up, late))
    assert any("nobody waits for it" in each for each in stopped(gave_up, history(CHILD, (begun,))))
    waits = history("run-1", (STARTED, OPEN, ASKED))
    assert stopped(waits, late) == []
    assert state_at("org", CHILD, late.commits).status == "completed"


def test_a_child_that_stops_already_when_it_is_let_go_is_not_found() -> None:
    goes_on = (StepSucceeded(step="other", node="other"),)
    gave_up = history("run-1", (STARTED, OPEN, ASKED), goes_on, (GAVE_UP,))
    begun = started_by(start_of(CALLING.state, ASKED, ""))
    stops = RunStopping(outcome="failed", error=NO)
    over = (RunFailed(error=NO),)
    assert stopped(gave_up, history(CHILD, (begun,), (stops,), goes_on, over)) == []
    assert stopped(gave_up, history(CHILD, (begun,), (stops,))) == []
    at_once = history(CHILD, (begun,), goes_on, (stops,), over)
    assert stopped(gave_up, at_once) == []
    too_late = history(CHILD, (begun,), goes_on, goes_on, (stops,), over)
    assert any("nobody waits for it for 3600 s" in each for each in stopped(gave_up, too_late))


def test_a_failure_that_nobody_was_told_of_is_found() -> None:
    plan = drawn("a", on_failure="alarm")
    asked = HandlerAsked(child="handler", workflow="alarm", version=1, plan="cd" * 32, input=FIVE)
    refused = HandlerRefused(workflow="alarm", error=NO)
    cause = Cause(kind="run", id="run-1", depth=1, chain=("flow",))
    handler = history("handler", (structs.replace(STARTED, workflow="alarm", plan="cd" * 32, cause=cause),))

    def judged(*histories: History, over: bool = True) -> list[str]:
        evidence = structs.replace(well(), plans={STARTED.plan: plan}, everything_over=over)
        return [each.what for each in failures_are_told(evidence, histories)]

    def run(*events: RunEvent) -> History:
        return history("run-1", (STARTED, *events))

    failed = RunFailed(error=NO)
    assert judged(run(asked, failed), handler) == []
    assert judged(run(refused, failed)) == []
    assert judged(run(RunCompleted())) == []
    assert judged(run(asked, failed), over=False) == []
    assert judged(run(failed)) == ["failed, and nobody was told"]
    assert judged(run(asked, failed)) == ["failed, and handler was never started"]
    assert judged(run(asked, RunCompleted()), handler) == ["told of a failure, and then RunCompleted"]
    other = history("handler", (structs.replace(STARTED, workflow="other"),))
    assert judged(run(asked, failed), other) == ["handler is not what was asked for"]
    twice = run(asked, failed, RunReopened(by="key:1", steps=()), asked, failed)
    assert judged(twice, handler) == ["two failures are told to handler"]
