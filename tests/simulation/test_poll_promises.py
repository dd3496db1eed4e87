"""What is wrong between polls and the runs that they start is found, and what is right is not."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw, structs

from contracts.codec import encode
from contracts.payloads import Inline
from contracts.runs import RunStarted
from tests.mutants.extreme_stories import polled
from tests.promises.evidence import Evidence, History
from tests.promises.polls import what_is_found_starts_once
from tests.simulation.installation import Installation
from tests.simulation.schedule import STORM, lived, quiet

SEEDS = 40


@cache
def played(seed: int) -> Evidence:
    with quiet():
        schedule, evidence = lived(Installation(seed, polled(seed), STORM))
    assert not schedule.violations, f"seed {seed}: {[str(each) for each in schedule.violations]}"
    return evidence


def broken(evidence: Evidence, histories: list[History] | None = None) -> list[tuple[str, str]]:
    found = what_is_found_starts_once(evidence, evidence.histories() if histories is None else histories)
    return [(violation.promise, violation.what) for violation in found]


def looks(history: History) -> bool:
    return history.start is not None and history.start.cause.kind == "schedule"


def changed(history: History, change: Callable[[RunStarted], RunStarted]) -> History:
    """The same run, as if it had begun otherwise."""
    first, commit = history.stored[0], history.commits[0]
    events = tuple(change(event) if isinstance(event, RunStarted) else event for event in commit.events)
    body = encode(structs.replace(commit, events=events))
    return History(history.org, history.run, [structs.replace(first, body=body), *history.stored[1:]])


def test_whatever_befalls_the_processes_what_a_poll_finds_starts_one_run() -> None:
    seen = Counter[str]()
    for seed in range(SEEDS):
        evidence = played(seed)
        for history in evidence.histories():
            seen["looks" if looks(history) else "items"] += 1
        seen["told"] += sum("the poll" in hook.reason for hook in evidence.hooks)
    assert all(seen[what] for what in ("looks", "items", "told")), dict(seen)


def test_an_item_without_its_run_is_found_when_the_cursor_has_passed_it() -> None:
    evidence = played(0)
    items = [history for history in evidence.histories() if not looks(history)]
    lost = [history for history in evidence.histories() if history.run != items[0].run]
    [(promise, what)] = broken(evidence, lost)
    assert (promise, "a look began behind" in what) == ("P1", True)


def test_an_item_without_its_run_is_found_while_its_poll_goes_on() -> None:
    evidence = played(0)
    going_on = structs.replace(evidence, triggers=evidence.triggers[:-1])
    assert broken(going_on) == []
    items = [history for history in evidence.histories() if not looks(history)]
    lost = [history for history in evidence.histories() if history.run != items[-1].run]
    assert ("P1", True) in [
        (promise, "was found, and has no run" in what) for promise, what in broken(going_on, lost)
    ]


def test_a_run_for_something_that_no_look_has_found_is_found() -> None:
    evidence = played(0)
    nobody = [history for history in evidence.histories() if not looks(history)]
    assert {promise for promise, _ in broken(evidence, nobody)} == {"P2"}


def test_a_run_that_is_given_something_else_than_was_found_or_by_somebody_else_is_found() -> None:
    evidence = played(0)
    histories = evidence.histories()
    item = next(history for history in histories if not looks(history))

    def other_body(start: RunStarted) -> RunStarted:
        assert isinstance(start.input, Inline)
        given: dict[str, Any] = msgspec.json.decode(start.input.value)
        return structs.replace(start, input=Inline(value=Raw(encode({**given, "body": {"number": 999}}))))

    def other_cause(start: RunStarted) -> RunStarted:
        return structs.replace(start, cause=structs.replace(start.cause, id="nobody"))

    for change, said in ((other_body, "999"), (other_cause, "did not look")):
        forged = [changed(each, change) if each is item else each for each in histories]
        [(promise, what)] = broken(evidence, forged)
        assert (promise, said in what) == ("P2", True)


def test_a_poll_that_failed_and_of_which_nobody_was_told_is_found() -> None:
    evidence = next(
        each
        for each in map(played, range(SEEDS))
        if any("the poll failed" in hook.reason for hook in each.hooks)
    )
    [made, *_] = [stored for stored in evidence.triggers if stored.subject.endswith(".trigger.poll0")]
    going_on = structs.replace(evidence, triggers=[made])
    assert ("P1", True) in [
        (promise, "nobody was told" in what) for promise, what in broken(structs.replace(going_on, hooks=()))
    ]
