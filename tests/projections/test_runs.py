"""What the tables of runs promise: they are a fold of the log, whatever happens on the way."""

import json
import random
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs

from chassis.ports import Away, Stored
from chassis.testing.examples import examples
from contracts.errors import Failure
from contracts.payloads import Blob
from contracts.runs import (
    ApprovalDecided,
    ApprovalEscalated,
    AttemptCancelled,
    AttemptDoubted,
    AttemptFailed,
    CallReceived,
    ChildBegan,
    ChildEnded,
    DoubtResolved,
    Parent,
    RunCancelled,
    RunCompensating,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunParked,
    RunReopened,
    RunResponded,
    RunStopping,
    RunUnparked,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSkipped,
    StepSucceeded,
    UndoKept,
    Undone,
    Unfinished,
    WaitDropped,
    WaitEnded,
    WaitOpened,
)
from contracts.waits import Approval, AwaitedCall
from projections.arrived import read
from projections.events import EFFECTS
from projections.figures import Figures, Progress
from projections.models import Moved, Position, Step
from projections.projector import advance
from projections.rows import RunRow, StepRow
from projections.run_tables import RunTables
from projections.runs import Known, fold
from tests.projections.histories import (
    NOON,
    ORG,
    Letterbox,
    Tables,
    TornTables,
    Writer,
    asking,
    eventful,
    reported,
    scheduled,
    started,
    succeeded,
    value,
)

FAILURE = Failure(code="http.status", message="500", node="one")


async def project(messages: list[Stored], tables: Tables, letters: Letterbox | None = None) -> RunTables:
    """All messages in one transaction."""
    projection = RunTables(tables, letters or Letterbox(), Figures())
    if messages:
        step = Step(before=tables.at, epoch=1, sequence=messages[-1].sequence, time=0.0)
        await projection.project(messages, step)
    return projection


async def told(*commits: tuple[RunEvent, ...]) -> tuple[RunRow, dict[str, StepRow]]:
    """The rows of one run after these commits, a second apart."""
    writer, tables = Writer(), Tables()
    for events in commits:
        writer.commit("run1", *events)
    await project(writer.messages, tables)
    return tables.runs[ORG, "run1"], {path: row for (_, _, path), row in tables.steps.items()}


def test_every_event_has_an_effect() -> None:
    assert EFFECTS.keys() == {kind for union in get_args(RunEvent) for kind in get_args(union) or (union,)}


def test_every_event_is_taken_as_the_first_of_a_history() -> None:
    for number, event in enumerate(examples().values()):
        if type(event) in EFFECTS:
            writer = Writer()
            stored = writer.commit(f"run{number}", event)
            changes = fold(Known(), [read(stored, 1)])
            assert changes.runs[ORG, f"run{number}"].events == 1
            assert not changes.letters


async def test_the_main_path_gives_one_run_three_steps_one_delivery_and_a_day() -> None:
    writer, tables = Writer(), Tables()
    writer.three_steps("run1")
    await project(writer.messages, tables)
    run = tables.runs[ORG, "run1"]
    assert (run.status, run.events, run.last_event, run.head_version) == ("completed", 11, "run.completed", 4)
    assert (run.steps_total, run.steps_done, run.steps_running) == (3, 3, 0)
    assert (run.started, run.ended, run.last_time) == (NOON, NOON + timedelta(seconds=3), run.ended)
    assert (run.output_preview, run.output_size) == ('{"n":3}', 7)
    assert [row.status for row in tables.steps.values()] == ["succeeded"] * 3
    assert [row.position for row in tables.steps.values()] == [2, 5, 8]
    delivery = tables.deliveries[ORG, "receipt-run1"]
    assert (delivery.trigger, delivery.run, delivery.result) == ("hook1", "run1", "accepted")
    usage = tables.usage[ORG, NOON.date()]
    assert (usage.runs_started, usage.runs_completed, usage.steps, usage.deliveries) == (1, 1, 3, 1)
    assert [commit.ended for commit in tables.commits.values()] == [False, False, False, True]
    assert tables.ended[ORG, "run1"].version == 4


@given(seed=st.integers(0, 10_000), cuts=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
async def test_the_rows_do_not_depend_on_the_batches(seed: int, cuts: int) -> None:
    messages, whole, cut = eventful(seed), Tables(), Tables()
    await project(messages, whole)
    chance, at = random.Random(cuts), 0
    projection = RunTables(cut, Letterbox(), Figures(), remember=chance.choice([1, 3, 100]))
    while at < len(messages):
        batch = messages[at : at + chance.randrange(1, 20)]
        await projection.project(batch, Step(before=cut.at, epoch=1, sequence=batch[-1].sequence, time=0.0))
        at += len(batch)
    assert cut.content() == whole.content()


@given(seed=st.integers(0, 10_000), fate=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
async def test_a_kill_at_any_moment_changes_nothing(seed: int, fate: int) -> None:
    messages, whole = eventful(seed), Tables()
    await project(messages, whole)
    chance = random.Random(fate)
    torn = TornTables(chance)
    while torn.at.sequence < len(messages):
        # A new life after each kill: it knows nothing but the tables.
        projection = RunTables(torn, Letterbox(), Figures())
        try:
            position = await projection.position()
            while position.sequence < len(messages):
                batch = messages[position.sequence : position.sequence + chance.randrange(1, 20)]
                progress = Progress(name="runs", stream="RUNS")
                position = await advance(projection, batch, position, 1, progress)
        except Away:
            continue
    assert torn.content() == whole.content()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
async def test_commits_that_come_again_change_nothing(seed: int) -> None:
    messages, once, again = eventful(seed, garbage=False), Tables(), Tables()
    await project(messages, once)
    projection = await project(messages, again)
    # The log was restored: the same commits lie in a new epoch, at new sequences.
    for batch in (messages, messages[len(messages) // 2 :]):
        step = Step(before=again.at, epoch=again.at.epoch + 1, sequence=batch[-1].sequence, time=0.0)
        await projection.project(batch, step)
    assert again.content() == once.content()
    projection.forget()
    twice = [*messages, *messages]
    await projection.project(twice, Step(before=again.at, epoch=9, sequence=twice[-1].sequence, time=0.0))
    assert again.content() == once.content()


async def test_a_second_projector_finds_the_position_moved() -> None:
    writer, tables = Writer(), Tables()
    writer.three_steps("run1")
    before = tables.at
    projection = await project(writer.messages, tables)
    with pytest.raises(Exception, match="moved"):
        await projection.project(writer.messages, Step(before=before, epoch=1, sequence=4, time=0.0))


async def test_a_failed_attempt_waits_and_is_made_again() -> None:
    due = NOON + timedelta(minutes=5)
    run, steps = await told(
        (started(), scheduled("one")),
        (
            AttemptFailed(step="one", attempt=1, error=FAILURE, took_ms=3),
            WaitOpened(wait="retry:one", kind="retry", due=due, step="one"),
        ),
    )
    assert (run.status, run.next_due, run.look_at) == ("waiting", due, due + timedelta(seconds=5))
    assert run.waiting_since == NOON + timedelta(seconds=1)
    assert (steps["one"].status, steps["one"].error_code, steps["one"].took_ms) == (
        "waiting",
        "http.status",
        3,
    )
    run, steps = await told(
        (started(), scheduled("one")),
        (
            AttemptFailed(step="one", attempt=1, error=FAILURE),
            WaitOpened(wait="retry:one", kind="retry", due=due, step="one"),
        ),
        (WaitEnded(wait="retry:one"), scheduled("one", 2)),
    )
    assert (run.status, run.next_due, run.waits, run.waiting_since) == ("running", None, "[]", None)
    assert run.look_at == NOON + timedelta(seconds=32)
    assert (steps["one"].status, steps["one"].attempt) == ("scheduled", 2)
    run, steps = await told(
        (started(), scheduled("one"), WaitOpened(wait="w", kind="delay", due=due, step="two")),
        (WaitDropped(wait="w"), reported("one"), succeeded("one")),
    )
    assert (run.next_due, steps["two"].status, steps["one"].error) == (None, "pending", None)


LISTENS = WaitOpened(wait="signal:ask", kind="signal", step="ask", signal="paid")


async def test_a_run_that_waits_for_a_signal_is_not_looked_at_until_there_is_something_to_see() -> None:
    run, steps = await told((started(), LISTENS))
    assert (run.status, run.next_due, run.look_at) == ("waiting", None, None)
    assert (steps["ask"].status, json.loads(run.waits)[0]["due"]) == ("waiting", None)
    due = NOON + timedelta(minutes=5)
    run, _ = await told((started(), structs.replace(LISTENS, due=due)))
    assert (run.next_due, run.look_at) == (due, due + timedelta(seconds=5))
    run, _ = await told((started(), scheduled("one"), LISTENS))
    assert run.look_at == NOON + timedelta(seconds=30)
    run, _ = await told((started(),))
    assert run.look_at == NOON + timedelta(seconds=30), "nobody knows what it waits for"


async def test_a_signal_ends_its_wait_and_another_none() -> None:
    received = SignalReceived(signal="paid", key="k", by="key:1", body=value(5), step="ask")
    run, steps = await told((started(), LISTENS), (received,))
    assert (run.status, run.waits, steps["ask"].status) == ("running", "[]", "pending")
    went_on = StepSucceeded(step="ask", node="ask", output=value(5))
    run, steps = await told((started(), LISTENS), (received, went_on))
    assert (steps["ask"].status, steps["ask"].output_preview, run.steps_done) == ("succeeded", "5", 1)
    run, steps = await told((started(), LISTENS), (structs.replace(received, step=None),))
    assert (run.status, steps["ask"].status, len(json.loads(run.waits))) == ("waiting", "waiting", 1)


async def test_what_was_said_before_leaves_no_wait_behind() -> None:
    received = SignalReceived(signal="paid", key="k", by="key:1", body=value(5))
    went_on = StepSucceeded(step="ask", node="ask", output=value(5))
    run, steps = await told((started(), scheduled("one")), (received,), (LISTENS, went_on))
    assert (run.waits, run.next_due, steps["ask"].status) == ("[]", None, "succeeded")


ASKS = WaitOpened(
    wait="approval:ask",
    kind="approval",
    step="ask",
    due=NOON + timedelta(hours=1),
    approval=Approval(
        question="Pay\0 5 €?",
        form={"type": "object", "properties": {}},
        deciders=("key:ada",),
        escalate_to=("key:boss",),
        escalates=NOON + timedelta(minutes=1),
    ),
)
ESCALATES = WaitOpened(wait="escalation:ask", kind="escalation", step="ask", due=NOON + timedelta(minutes=1))
ESCALATED = (
    WaitEnded(wait="escalation:ask"),
    ApprovalEscalated(wait="approval:ask", step="ask", to=("key:boss",)),
)
DECIDED = (
    ApprovalDecided(
        wait="approval:ask",
        step="ask",
        decision="approved",
        by="key:ada",
        on=NOON,
        request="ab" * 32,
        fields=value({}),
    ),
    StepSucceeded(step="ask", node="ask", ports=("approved",), output=value({"by": "key:ada"})),
)


async def test_an_open_approval_says_what_is_asked_of_whom_and_since_when() -> None:
    run, steps = await told((started(), ASKS, ESCALATES))
    ask = steps["ask"]
    assert (run.status, ask.status, ask.asked) == ("waiting", "waiting", NOON)
    assert run.look_at == NOON + timedelta(minutes=1, seconds=5), "a wake-up that got lost is noticed"
    asks = json.loads(ask.asks or "")
    assert (asks["question"], asks["deciders"], asks["due"]) == (
        "Pay\N{REPLACEMENT CHARACTER} 5 €?",
        ["key:ada"],
        "2026-11-20T13:00:00Z",
    )
    assert "escalated" not in asks
    run, steps = await told((started(), ASKS, ESCALATES), ESCALATED)
    assert (run.status, steps["ask"].status, run.next_due) == ("waiting", "waiting", ASKS.due)
    assert json.loads(steps["ask"].asks or "")["escalated"] == "2026-11-20T12:00:01Z"


@pytest.mark.parametrize(
    "end",
    [
        DECIDED,
        (WaitEnded(wait="approval:ask"), StepSucceeded(step="ask", node="ask", ports=("timeout",))),
        (WaitDropped(wait="approval:ask"), StepCancelled(step="ask", node="ask"), RunCancelled()),
    ],
    ids=["decided", "too-late", "cancelled"],
)
async def test_an_approval_that_is_over_asks_nobody(end: tuple[RunEvent, ...]) -> None:
    for between in ((), (ESCALATED,)):
        run, steps = await told((started(), ASKS, ESCALATES), *between, end)
        assert (run.waits, run.next_due, steps["ask"].asks, steps["ask"].asked) == ("[]", None, None, None)
        assert steps["ask"].status in ("succeeded", "cancelled")
        assert run.steps_done == 1


async def test_a_call_ends_its_wait() -> None:
    waits = WaitOpened(wait="call:ask", kind="call", step="ask", call=AwaitedCall())
    received = CallReceived(wait="call:ask", step="ask", request="ab" * 32, by="caller", body=value(5))
    run, steps = await told((started(), waits))
    assert (run.status, steps["ask"].status, steps["ask"].asks) == ("waiting", "waiting", None)
    run, steps = await told((started(), waits), (received, StepSucceeded(step="ask", node="ask")))
    assert (run.waits, steps["ask"].status) == ("[]", "succeeded")


# --- Runs that start runs -------------------------------------------------------------------------


async def test_a_step_shows_the_run_that_it_waits_for_until_that_has_ended() -> None:
    run, steps = await told((started(), *asking("call")))
    assert (run.status, run.look_at, [each["kind"] for each in json.loads(run.waits)]) == (
        "waiting",
        None,
        ["child"],
    )
    call = steps["call"]
    assert (call.status, call.attempt, call.child, call.awaits) == ("waiting", 1, "child", True)
    over = ChildEnded(step="call", child="child", outcome="completed", output=value(5))
    run, steps = await told((started(), *asking("call")), (over, succeeded("call")))
    call = steps["call"]
    assert (run.waits, call.status, call.output_preview, call.child) == ("[]", "succeeded", "5", "child")
    assert not call.awaits
    failed = ChildEnded(step="call", child="child", outcome="failed", error=Failure(code="no", message="No."))
    run, steps = await told((started(), *asking("call")), (failed,))
    assert (steps["call"].error_code, steps["call"].awaits, run.waits) == ("no", False, "[]")


async def test_a_run_that_must_be_there_is_looked_after_and_one_that_must_end_is_not() -> None:
    run, steps = await told((started(), *asking("call", waits=False)))
    assert (run.look_at, steps["call"].awaits) == (NOON + timedelta(seconds=30), False)
    run, steps = await told(
        (started(), *asking("call", waits=False)),
        (ChildBegan(step="call", child="child"), succeeded("call")),
    )
    assert (run.waits, steps["call"].status, steps["call"].child) == ("[]", "succeeded", "child")


async def test_nobody_waits_any_more_when_time_is_over_or_the_run_stops() -> None:
    _, steps = await told((started(), *asking("call")), (WaitEnded(wait="child:call:1"),))
    assert not steps["call"].awaits
    dropped = (StepCancelled(step="call", node="call"), WaitDropped(wait="child:call:1"))
    run, steps = await told((started(), *asking("call")), dropped)
    assert (steps["call"].status, steps["call"].awaits, steps["call"].effect) == (
        "cancelled",
        False,
        "possible",
    )
    assert run.waits == "[]"


async def test_a_run_says_who_started_it() -> None:
    parent = Parent(run="parent", step="call", waits=False)
    run, _ = await told((structs.replace(started(), parent=parent),))
    assert (run.parent_run, run.parent_step, run.parent_waits) == ("parent", "call", False)
    run, _ = await told((structs.replace(started(), parent=Parent(run="parent", step="call")),))
    assert run.parent_waits


async def test_a_doubt_waits_for_a_person_and_is_not_looked_at() -> None:
    doubted = (AttemptDoubted(step="one", attempt=1, error=FAILURE),)
    run, steps = await told((started(), scheduled("one")), doubted)
    assert (run.status, run.steps_in_doubt, run.look_at) == ("waiting", 1, None)
    assert steps["one"].status == "in_doubt"
    resolved = DoubtResolved(step="one", attempt=1, resolution="done", output=value(5), by="key:1")
    run, steps = await told((started(), scheduled("one")), doubted, (resolved, succeeded("one")))
    assert (run.status, run.steps_in_doubt, steps["one"].output_preview) == ("running", 0, "5")


async def test_a_run_that_stops_says_what_it_left_behind() -> None:
    left = tuple(
        Unfinished(step=f"s{n}", attempt=1, effect="possible", detail="x" * 9_000) for n in range(300)
    )
    run, steps = await told(
        (started(), scheduled("one"), scheduled("two")),
        (RunStopping(outcome="cancelled"), WaitOpened(wait="grace", kind="grace", due=NOON)),
        (
            AttemptCancelled(step="one", attempt=1, effect="possible"),
            StepCancelled(step="one", node="one"),
            StepSkipped(step="two", node="two"),
            RunCancelled(reason="enough", unfinished=left),
        ),
    )
    assert (run.status, run.error_message, run.look_at, run.next_due) == ("cancelled", "enough", None, None)
    assert (steps["one"].status, steps["two"].status, run.steps_done) == ("cancelled", "skipped", 2)
    assert run.unfinished is not None
    assert len(run.unfinished) < 40_000


async def test_a_run_that_undoes_says_so_and_then_what_is_left() -> None:
    error = Failure(code="refused", message="No.")
    began = (started(), scheduled("one"))
    undoes = (
        StepReported(step="one", attempt=1, output=value(1)),
        succeeded("one"),
        UndoKept(step="undo", node="undo", undoes="one", config=value(1)),
        RunCompensating(outcome="failed", error=error, step="two"),
        scheduled("undo"),
    )
    run, steps = await told(began, undoes)
    assert (run.status, run.error_code, run.error_step, run.ended) == ("compensating", "refused", "two", None)
    assert steps["undo"].status == "scheduled"
    ends = RunFailed(error=error, step="two", undone=Undone(left=("one",), left_in_all=1))
    failed = StepFailed(step="undo", node="undo", error=error, handled=True)
    run, steps = await told(began, undoes, (failed, ends))
    assert (run.status, steps["undo"].status, run.undone) == (
        "failed",
        "failed",
        '{"left":["one"],"left_in_all":1}',
    )


async def test_a_run_that_was_parked_while_it_undoes_goes_on_undoing_and_has_no_deadline() -> None:
    began = structs.replace(started(), deadline=NOON + timedelta(minutes=1))
    compensates = RunCompensating(outcome="failed", error=FAILURE, step="two")
    so_far = ((began,), (compensates, scheduled("undo")))
    parked, taken_up = RunParked(reason="poison"), RunUnparked(by="key:1")
    run, _ = await told(*so_far, (parked,))
    assert (run.status, run.look_at) == ("parked", None)
    run, _ = await told(*so_far, (parked,), (taken_up,))
    assert (run.status, run.parked_reason) == ("compensating", None)
    run, _ = await told(*so_far, (AttemptDoubted(step="undo", attempt=1, error=FAILURE),))
    assert (run.status, run.steps_in_doubt, run.look_at) == ("compensating", 1, None)


async def test_a_reopened_run_goes_on_and_may_not_be_purged() -> None:
    failed = (StepFailed(step="one", node="one", error=FAILURE), RunFailed(error=FAILURE, step="one"))
    reopened = (RunReopened(by="key:1", steps=("one",)), scheduled("one", 2))
    writer, tables = Writer(), Tables()
    writer.commit("run1", started(), scheduled("one"))
    writer.commit("run1", *failed)
    await project(writer.messages, tables)
    assert (tables.runs[ORG, "run1"].error_code, tables.ended[ORG, "run1"].version) == ("http.status", 2)
    again = writer.commit("run1", *reopened)
    await project([again], tables)
    run = tables.runs[ORG, "run1"]
    assert (run.status, run.opening, run.ended, run.error_code) == ("running", 2, None, None)
    assert tables.ended[ORG, "run1"].ended is None
    await project([writer.commit("run1", reported("one"), succeeded("one"), RunCompleted())], tables)
    assert tables.ended[ORG, "run1"].version == 4
    assert tables.usage[ORG, NOON.date()].runs_failed == tables.usage[ORG, NOON.date()].runs_completed == 1


async def test_a_parked_run_is_left_alone_until_it_is_taken_up() -> None:
    run, _ = await told((started(),), (RunParked(reason="poison", needs_release="2.0"),))
    assert (run.status, run.parked_reason, run.needs_release, run.look_at) == (
        "parked",
        "poison",
        "2.0",
        None,
    )
    run, _ = await told((started(),), (RunParked(reason="poison"),), (RunUnparked(by="key:1"),))
    assert (run.status, run.parked_reason, run.look_at) == ("running", None, NOON + timedelta(seconds=32))


async def test_an_answer_and_large_values_are_shown_by_reference() -> None:
    blob = Blob(sha256="cd" * 32, size=5_000_000)
    respond = RunResponded(step="one", status=418)
    run, steps = await told((started(), StepSucceeded(step="one", node="one", output=blob), respond))
    assert run.responded_status == 418
    assert (steps["one"].output_preview, steps["one"].output_size, steps["one"].output_blob) == (
        "",
        5_000_000,
        "cd" * 32,
    )


async def test_deadlines_are_looked_at_when_they_have_passed() -> None:
    deadline = NOON + timedelta(seconds=10)
    run, _ = await told((structs.replace(started(), deadline=deadline), scheduled("one")))
    assert run.look_at == deadline + timedelta(seconds=5)


async def test_garbage_on_a_run_is_a_dead_letter_and_parks_the_run() -> None:
    writer, tables, letters = Writer(), Tables(), Letterbox()
    writer.commit("run1", started())
    writer.commit("other", started(receipt="r2"))
    for body in (b"\xff\xfe", b"[" * 5_000, b"{}", b""):
        writer.raw("run1", body, counts=False)
    writer.raw("never_seen", b"garbage", counts=False)
    writer.commit("other", RunCompleted())
    await project(writer.messages, tables, letters)
    assert letters.troubles == ["malformed"] * 5
    assert letters.stored[0][:2] == (f"dlq.RUNS.{ORG}.run1", b"\xff\xfe")
    assert tables.runs[ORG, "run1"].status == "parked"
    assert tables.runs[ORG, "other"].status == "completed"
    assert (ORG, "never_seen") not in tables.runs


async def test_a_commit_under_another_subject_is_not_believed() -> None:
    writer, tables, letters = Writer(), Tables(), Letterbox()
    stored = writer.commit("run1", started())
    writer.raw("run2", stored.body, counts=False)
    writer.raw("run1", stored.body, counts=False, org="org_other")
    await project(writer.messages, tables, letters)
    assert letters.troubles == ["misplaced", "misplaced"]
    assert set(tables.runs) == {(ORG, "run1")}


def from_the_future(stored: Stored) -> Stored:
    return structs.replace(stored, body=stored.body.replace(b"run.responded", b"run.dreamt"))


async def test_an_event_from_a_newer_release_is_kept_and_its_run_waits_for_that_release() -> None:
    writer, tables = Writer(), Tables()
    writer.commit("run1", started())
    unknown = from_the_future(writer.commit("run1", RunResponded(step="one", status=200)))
    writer.forget_last("run1")
    writer.raw("run1", unknown.body)
    writer.commit("run1", RunCompleted())
    writer.commit("run2", started(receipt="r2"), RunCompleted())
    letters = Letterbox()
    await project(writer.messages, tables, letters)
    run = tables.runs[ORG, "run1"]
    assert (run.status, run.needs_release) == ("parked", "0.1.0")
    assert (run.folded_version, run.head_version, run.events, run.ended) == (1, 3, 1, None)
    assert tables.commits[ORG, "run1", 2].body == unknown.body
    assert tables.runs[ORG, "run2"].status == "completed"
    assert not letters.stored


async def test_a_missing_version_and_a_broken_chain_are_told() -> None:
    writer, tables, letters = Writer(), Tables(), Letterbox()
    first = writer.commit("run1", started())
    writer.commit("run1", scheduled("one"))
    third = writer.commit("run1", reported("one"), succeeded("one"))
    forged = structs.replace(
        writer.commit("run2", started(receipt="r2")),
        body=writer.messages[-1].body.replace(b'"prev_hash":""', b'"prev_hash":"' + b"ab" * 32 + b'"'),
    )
    await project([first, third, forged], tables, letters)
    assert letters.troubles == ["gap", "chain"]
    assert tables.runs[ORG, "run1"].head_version == 3
    assert tables.runs[ORG, "run2"].status == "running"


HOSTILE: list[Any] = [
    "a\0b",
    {"a\0": 1},
    2**70,
    10**300,
    [[[[[[[[[[[[[[[]]]]]]]]]]]]]]],
    1e308,
    "\u202e\u200d\uffff\U0010ffff",
    "x" * 60_000,
    {"k" * 3_000: 1},
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_values_are_shown_safely(hostile: Any) -> None:
    raw = json.dumps(hostile).encode()
    payload = structs.replace(value(None), value=Raw(raw))
    run, steps = await told(
        (structs.replace(started(), input=payload), scheduled("one")),
        (structs.replace(reported("one"), output=payload), succeeded("one"), RunCompleted(output=payload)),
    )
    for shown in (run.input_preview, steps["one"].output_preview, run.output_preview):
        assert shown is not None
        assert "\0" not in shown
        assert len(shown.encode()) <= 4_096
        assert raw.decode().startswith(shown)


async def test_a_hostile_reason_is_cut_and_cleaned() -> None:
    run, _ = await told((started(),), (RunFailed(error=Failure(code="x", message="\0" * 2_000)),))
    assert run.error_message == "\ufffd" * 2_000


async def test_rows_that_postgres_forgot_are_no_fault_of_the_messages_behind_them() -> None:
    writer, tables, letters = Writer(), Tables(), Letterbox()
    writer.commit("run1", started())
    writer.commit("run1", RunCompleted())
    projection, progress = RunTables(tables, letters, Figures()), Progress(name="runs", stream="RUNS")
    position = await advance(projection, writer.messages[:1], tables.at, 1, progress)
    forgetful = Tables()  # It crashed, and is as it was before the first.
    projection = RunTables(forgetful, letters, Figures())
    with pytest.raises(Moved):
        await advance(projection, writer.messages[1:], position, 1, progress)
    assert letters.troubles == []
    await advance(projection, writer.messages, forgetful.at, 1, progress)
    assert forgetful.runs[ORG, "run1"].status == "completed"


async def test_a_refused_commit_is_found_by_halves_and_the_others_go_on() -> None:
    class Picky(Tables):
        async def store(self, changes: Any, step: Step) -> None:
            if any(row.workflow == "cursed" for row in changes.runs.values()):
                raise ValueError("no such thing")
            await super().store(changes, step)

    writer, tables, letters = Writer(), Picky(), Letterbox()
    for number in range(20):
        workflow = "cursed" if number == 13 else "flow1"
        writer.commit(f"run{number}", structs.replace(started(receipt=f"r{number}"), workflow=workflow))
    projection = RunTables(tables, letters, Figures())
    progress = Progress(name="runs", stream="RUNS")
    position = await advance(projection, writer.messages, tables.at, 1, progress)
    assert (position.sequence, progress.refused, progress.messages) == (20, 1, 20)
    assert {key[1]: row.status for key, row in tables.runs.items()}["run13"] == "parked"
    assert sum(row.status == "running" for row in tables.runs.values()) == 19
    assert letters.troubles == ["refused"]
    assert tables.commits[ORG, "run13", 1].body == writer.messages[13].body


async def test_a_commit_that_cannot_even_be_kept_is_passed_by() -> None:
    class Stubborn(Tables):
        async def store(self, changes: Any, step: Step) -> None:
            if (ORG, "run1") in changes.runs:
                raise ValueError("never")
            await super().store(changes, step)

    writer, tables, letters = Writer(), Stubborn(), Letterbox()
    writer.commit("run1", started())
    writer.commit("run2", started(receipt="r2"))
    progress = Progress(name="runs", stream="RUNS")
    projection = RunTables(tables, letters, Figures())
    await advance(projection, writer.messages, tables.at, 1, progress)
    assert set(tables.runs) == {(ORG, "run2")}
    assert tables.at == Position(epoch=1, sequence=2, generation="one")
    assert letters.troubles == ["refused"]
