"""What is wrong about the items of maps and loops in a history is found, and what is right is not."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs

from contracts.codec import encode
from contracts.limits import EVENTS_PER_COMMIT
from contracts.payloads import Blob
from contracts.plans import Plan
from contracts.runs import (
    AttemptFailed,
    AttemptScheduled,
    CancelRequested,
    ItemDone,
    ItemFailed,
    ItemsBegan,
    ItemsKept,
    ItemsOpened,
    ItemsPaged,
    RunCompleted,
    RunEvent,
    RunReopened,
    StepCancelled,
    StepFailed,
    StepReported,
    StepSucceeded,
    WaitDropped,
    WaitOpened,
)
from tests.orchestrator.stories import PLAN_HASH, REFUSED, action, control, drawn, scheduled, value
from tests.promises.checker import commits_are_bounded
from tests.promises.evidence import Evidence
from tests.promises.items import items_are_done_once_and_in_order
from tests.simulation.test_promises import well
from tests.simulation.test_signal_promises import told

DIGEST_OF_A = "ac8d8342bbb2362d13f0a559a3621bb407011368895164b628a54f7fc33fc43c"
TAKEN = drawn(
    "call>pass each.error>mend",
    control("each", "map", {"items": [1, 2], "at_once": 1}),
    action("call", inside="each"),
    control("pass", "noop", inside="each"),
)
GOES_ON = drawn(
    "call>pass",
    control("each", "map", {"items": [1, 2], "at_once": 1, "on_item_error": "continue"}),
    action("call", inside="each"),
    control("pass", "noop", inside="each"),
)
ROUNDS = drawn("", control("each", "loop", {"until": 9, "most_rounds": 2}), action("call", inside="each"))
GIVEN = {"results": ["a", "b"], "errors": []}
OPENED = ItemsOpened(step="each", node="each", count=2)
PAGED = ItemsPaged(step="each", items=value([1, 2]))
KEPT = ItemsKept(step="each", page=0, results=value(GIVEN))
DONE = StepSucceeded(step="each", node="each", output=value(GIVEN))
FAILED = StepFailed(step="each[0].call", node="call", error=REFUSED)
CLEARED = StepCancelled(step="each[0].pass", node="pass")
NAP = WaitOpened(wait="delay:each[0].pass", kind="delay", step="each[0].pass")
MAP_FAILED = StepFailed(step="each", node="each", error=REFUSED, handled=True)
END = RunCompleted()


def began(first: int, count: int = 1) -> ItemsBegan:
    return ItemsBegan(step="each", first=first, count=count)


def asked(number: int) -> AttemptScheduled:
    return scheduled(f"each[{number}].call", node="call")


def reported(number: int, output: Any) -> StepReported:
    return StepReported(step=f"each[{number}].call", attempt=1, output=value(output))


def called(number: int, output: Any) -> list[RunEvent]:
    path = f"each[{number}].call"
    return [asked(number), reported(number, output), StepSucceeded(step=path, node="call")]


def passed(number: int, output: Any) -> StepSucceeded:
    return StepSucceeded(step=f"each[{number}].pass", node="pass", output=value(output))


def over(number: int, leaf: str = "pass") -> ItemDone:
    return ItemDone(step="each", item=number, leaf=leaf)


def item(number: int, output: Any) -> list[RunEvent]:
    return [began(number), *called(number, output), passed(number, output), over(number)]


def a_round(number: int, output: Any) -> list[RunEvent]:
    return [began(number), *called(number, output), over(number, "call")]


def failed(error: Any = REFUSED) -> list[RunEvent]:
    return [began(0), asked(0), AttemptFailed(step="each[0].call", attempt=1, error=error), FAILED]


WHOLE = [OPENED, PAGED, *item(0, "a"), *item(1, "b"), KEPT, DONE, END]
LOOP = structs.replace(OPENED, count=None)
LOOPED = [LOOP, *a_round(0, "a"), *a_round(1, "b"), structs.replace(DONE, output=value("b")), END]
ONE_FAILED = {"results": [None, "b"], "errors": [{"index": 0, "error": REFUSED}]}
CONTINUED = [
    OPENED,
    PAGED,
    *failed(),
    ItemFailed(step="each", item=0, error=REFUSED),
    *item(1, "b"),
    structs.replace(KEPT, results=value(ONE_FAILED)),
    structs.replace(DONE, output=value(ONE_FAILED)),
    END,
]


def found(plan: Plan, events: Sequence[RunEvent], **more: Any) -> list[str]:
    evidence: Evidence = structs.replace(well(), plans={PLAN_HASH: plan}, **more)
    return [violation.what for violation in items_are_done_once_and_in_order(evidence, [told(*events)])]


@pytest.mark.parametrize(
    ("plan", "events"),
    [
        (TAKEN, WHOLE),
        (ROUNDS, LOOPED),
        (GOES_ON, CONTINUED),
        (TAKEN, [OPENED, PAGED, *failed(), MAP_FAILED, END]),
        (TAKEN, [OPENED, PAGED, began(0), asked(0), CancelRequested(by="key:1")]),
        (
            GOES_ON,
            [
                OPENED,
                PAGED,
                began(0),
                NAP,
                *failed()[1:],
                WaitDropped(wait=NAP.wait),
                CLEARED,
                ItemFailed(step="each", item=0, error=REFUSED),
            ],
        ),
        (
            TAKEN,
            [OPENED, PAGED, *failed(), RunReopened(by="key:1", steps=("each[0].call",)), *item(0, "a")[1:]],
        ),
        (TAKEN, [OPENED, PAGED, *failed(), structs.replace(MAP_FAILED, handled=False)]),
    ],
)
def test_what_is_right_is_not_found(plan: Plan, events: Sequence[RunEvent]) -> None:
    assert found(plan, events) == []


def without(events: Sequence[RunEvent], kind: type) -> list[RunEvent]:
    return [event for event in events if not isinstance(event, kind)]


def instead(events: Sequence[RunEvent], *changes: tuple[RunEvent, RunEvent]) -> list[RunEvent]:
    there = dict(enumerate(events))
    for before, after in changes:
        there[list(events).index(before)] = after
    return list(there.values())


SWAPPED = value({"results": ["b", "a"], "errors": []})
SHORT = value({"results": ["a"], "errors": []})


@pytest.mark.parametrize(
    ("plan", "events", "words"),
    [
        # Results.
        (TAKEN, instead(WHOLE, (KEPT, structs.replace(KEPT, results=SWAPPED))), "result of item 0"),
        (TAKEN, instead(WHOLE, (DONE, structs.replace(DONE, output=SWAPPED))), "result of item 0"),
        (TAKEN, instead(WHOLE, (DONE, structs.replace(DONE, output=SHORT))), "1 results of each for 2 items"),
        (TAKEN, [*WHOLE[:-2], KEPT], "page 0 of each was kept without [], or twice"),
        (TAKEN, [*WHOLE[:8], KEPT], "was kept without [1]"),
        (GOES_ON, instead(CONTINUED, (CONTINUED[-2], DONE)), "item 0 of each failed, and has a result"),
        (
            GOES_ON,
            instead(
                CONTINUED, (CONTINUED[-2], structs.replace(DONE, output=value(ONE_FAILED | {"errors": []})))
            ),
            "the errors of each are not those",
        ),
        (ROUNDS, instead(LOOPED, (LOOPED[-2], structs.replace(DONE, output=value("a")))), "its last round"),
        (
            TAKEN,
            instead(WHOLE, (passed(1, "b"), passed(1, "a"))),
            "each[1].pass passes on what each[1].call did not give",
        ),
        # What begins.
        (TAKEN, [OPENED, PAGED, began(0), began(0)], "item 0 of each began, and 1 had begun before"),
        (TAKEN, [OPENED, PAGED, began(1)], "item 1 of each began, and 0 had begun before"),
        (TAKEN, [OPENED, PAGED, began(0, 2)], "2 items of each are under way, at most may be 1"),
        (TAKEN, [OPENED, PAGED, began(0, 3)], "item 2 of each began, which is not there"),
        (TAKEN, [OPENED, began(0)], "which is not there"),
        (TAKEN, [OPENED, structs.replace(PAGED, items=value([1]))], "page 0 of each has not 2 items"),
        (TAKEN, [OPENED, PAGED, PAGED], "page 1 of each has not 0 items"),
        (TAKEN, [OPENED, OPENED], "each was opened twice"),
        (TAKEN, [PAGED], "which is not under way"),
        (TAKEN, [OPENED, PAGED, asked(0)], "item 0 of each is not under way"),
        (TAKEN, [OPENED, PAGED, *failed(), NAP], "although each has an item that failed"),
        (TAKEN, [OPENED, PAGED, *failed(), began(1), asked(1)], "although each has an item that failed"),
        (ROUNDS, [LOOP, *a_round(0, "a"), *a_round(1, "b"), began(2)], "each has round 3, at most may be 2"),
        # When it is over.
        (TAKEN, [*WHOLE[:8], over(0)], "each[0] is over, and was not under way"),
        (TAKEN, [OPENED, PAGED, began(0), *called(0, "a"), over(0)], "each[0] is done, and its pass not"),
        (
            TAKEN,
            [OPENED, PAGED, began(0), asked(0), over(0)],
            "while attempts are under way: ['each[0].call']",
        ),
        (TAKEN, [OPENED, PAGED, began(0), *called(0, "a"), NAP, over(0)], "each[0] is over and still waits"),
        (
            TAKEN,
            [OPENED, PAGED, began(0), *called(0, "a"), NAP, WaitDropped(wait=NAP.wait), over(0)],
            "nothing is said of ['each[0].pass']",
        ),
        (TAKEN, [OPENED, PAGED, *failed(), over(0)], "is over by ItemDone"),
        (GOES_ON, [OPENED, PAGED, began(0), ItemFailed(step="each", item=0, error=REFUSED)], "by ItemFailed"),
        (
            TAKEN,
            [OPENED, PAGED, *failed(), ItemFailed(step="each", item=0, error=REFUSED)],
            "goes on without it",
        ),
        (TAKEN, [*without(WHOLE, StepSucceeded)[:5], DONE], "each is done with 0 items over of 2, open: [0]"),
        (TAKEN, [OPENED, PAGED, *item(0, "a"), DONE], "each is done with 1 items over of 2"),
        (TAKEN, [*WHOLE[:-2], END], "completed, and each is under way"),
        (TAKEN, [*WHOLE[:-2], END], "completed, and still remembered of it is ['each'"),
        (
            TAKEN,
            [OPENED, PAGED, began(0), asked(0), MAP_FAILED],
            "each is over while attempts are under way: ['each[0].call']",
        ),
        (
            TAKEN,
            [OPENED, PAGED, began(0), asked(0), StepCancelled(step="each[0].call", node="call"), MAP_FAILED],
            "each[0].call was cancelled while its attempt was under way",
        ),
        (
            TAKEN,
            [OPENED, PAGED, *failed(), WaitOpened(wait="turn:each", kind="turn"), MAP_FAILED],
            "each is over and still waits",
        ),
        (TAKEN, [*WHOLE[:8], asked(0)], "item 0 of each is not under way"),
    ],
)
def test_what_is_wrong_is_found(plan: Plan, events: Sequence[RunEvent], words: str) -> None:
    assert any(words in each for each in found(plan, events)), found(plan, events)


def test_results_that_are_stored_apart_are_looked_at_where_somebody_has_them() -> None:
    body = encode({"results": ["b", "a"], "errors": []})
    blob = Blob(sha256="cd" * 32, size=len(body))
    apart = instead(WHOLE, (DONE, structs.replace(DONE, output=blob)))
    assert found(TAKEN, apart) == []
    assert "the result of item 0 of each is not what came of it" in found(
        TAKEN, apart, values={blob.sha256: body}
    )


@pytest.mark.parametrize("shown", [lambda blob: {"blob": blob}, lambda _: "a"])
def test_a_result_that_lies_apart_stands_there_by_its_name_or_as_it_is(shown: Callable[[Blob], Any]) -> None:
    blob = Blob(sha256=DIGEST_OF_A, size=3)
    given = value({"results": [shown(blob), "b"], "errors": []})
    apart = instead(
        WHOLE,
        (reported(0, "a"), structs.replace(reported(0, "a"), output=blob)),
        (KEPT, structs.replace(KEPT, results=given)),
        (DONE, structs.replace(DONE, output=given)),
    )
    apart = instead(apart, (passed(0, "a"), structs.replace(passed(0, "a"), output=blob)))
    assert found(TAKEN, apart) == []


def test_a_commit_with_more_events_than_one_may_hold_is_found() -> None:
    def judged(history: Any) -> list[str]:
        return [violation.what for violation in commits_are_bounded(well(), [history])]

    assert judged(told(*WHOLE)) == []
    long = told(*WHOLE)
    commit = structs.replace(long.commits[0], events=(END,) * (EVENTS_PER_COMMIT + 1))
    long.commits[0] = commit
    assert judged(long) == [f"version 1 holds {EVENTS_PER_COMMIT + 1} events"]
