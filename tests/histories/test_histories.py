"""The histories of every release are decided today as they were then, byte for byte; and a planted change is found."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from msgspec import structs

from chassis.expressions import Language
from contracts import runs
from contracts.codec import encode
from contracts.commits import FIRST_HASH, Commit
from contracts.errors import Failure
from contracts.reference import VERSION, event_types
from contracts.runs import RunEvent
from deploy.operator.agreement import verdict
from orchestrator.catalogue import NOTE, SPECS
from orchestrator.evaluation import Compiled
from orchestrator.history import Divergence, replay, state_at
from tests.histories.corpus import (
    HERE,
    Recorded,
    digest_of,
    files,
    manifest,
    name_of,
    recorded,
    releases,
    write,
)
from tests.histories.record import schedules
from tests.histories.scenes import SCENES
from tests.histories.stage import play
from tests.orchestrator.stories import as_recorded
from tests.simulation.schedule import quiet

RELEASES = releases()


@cache
def of(release: str) -> Sequence[Recorded]:
    return list(recorded(release))


def decided_anew(run: Recorded, commits: Sequence[Commit[RunEvent]]) -> Divergence | None:
    return replay(run.org, run.run, commits, run.graph())


# --- What is kept -------------------------------------------------------------------------------


def test_this_release_has_its_histories() -> None:
    assert VERSION in RELEASES
    assert len(of(VERSION)) >= 50


def test_they_show_every_event_and_every_control_node() -> None:
    events: Counter[type] = Counter(
        type(e) for run in of(VERSION) for commit in run.decoded() for e in commit.events
    )
    missing = [kind.__name__ for kind in event_types(RunEvent) if not events[kind]]
    assert not missing, "record runs that show them: python -m tests.histories.record --name …"
    graphs = [graph for run in of(VERSION) if (graph := run.graph()) is not None]
    assert {node.type for graph in graphs for node in graph.plan.nodes} >= set(SPECS) - {NOTE}


def test_they_show_every_end() -> None:
    assert {run.status for run in of(VERSION)} >= runs.TERMINAL


def test_what_was_recorded_once_is_never_rewritten() -> None:
    there = {name_of(path): digest_of(path) for release in RELEASES for path in files(release)}
    assert there == manifest(), "a recorded history changed: take the change back"


def test_a_file_that_is_there_is_not_recorded_again() -> None:
    [first, *_] = files(VERSION)
    before = digest_of(first)
    with pytest.raises(FileExistsError):
        write(VERSION, first.stem, of(VERSION))
    assert digest_of(first) == before


def test_they_take_little_room() -> None:
    for release in RELEASES:
        # Each construct of the engine brings its own: what cannot be read back years later is worth more than the room.
        assert sum(path.stat().st_size for path in (HERE / release).iterdir()) < 2_000_000


# --- They are decided as they were --------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_every_history_is_whole(release: str) -> None:
    for run in of(release):
        told = verdict(run.bodies, run.bodies)
        assert (told.problems, told.commits) == ((), len(run.commits)), run.name
        assert [commit.version for commit in run.decoded()] == list(range(1, len(run.commits) + 1))


@pytest.mark.parametrize("release", RELEASES)
def test_every_history_follows_the_plan_that_it_names(release: str) -> None:
    for run in of(release):
        if run.plan is not None:
            [started] = [event for event in events_of(run) if isinstance(event, runs.RunStarted)]
            assert started.plan == sha256(run.plan.encode()).hexdigest(), run.name


@pytest.mark.parametrize("release", RELEASES)
def test_every_history_is_decided_the_same_way_today(release: str) -> None:
    for run in of(release):
        assert decided_anew(run, run.decoded()) is None, run.name
        assert state_at(run.org, run.run, run.decoded()).status == run.status, run.name


@pytest.mark.parametrize("release", RELEASES)
def test_expressions_give_today_what_they_gave(release: str) -> None:
    language = Language()
    evaluated = 0
    for run in of(release):
        graph = run.graph()
        if run.expressions and graph is not None:
            evaluate = Compiled(graph.plan, language).evaluator({}, workflows=as_recorded(run.decoded()))
            assert replay(run.org, run.run, run.decoded(), graph, evaluate) is None, run.name
            evaluated += 1
    assert evaluated >= 30


def events_of(run: Recorded) -> list[RunEvent]:
    return [event for commit in run.decoded() for event in commit.events]


# --- A planted change is found ------------------------------------------------------------------


def test_a_byte_that_changed_is_found_in_every_commit() -> None:
    for run in of(VERSION):
        for place in range(len(run.commits)):
            bodies = run.bodies
            bodies[place] = bodies[place].replace(b'"engine_version":"', b'"engine_version":"x', 1)
            assert verdict(run.bodies, bodies).problems, run.name
            if place < len(bodies) - 1:
                assert verdict(bodies, bodies).problems, f"{run.name}: only the last one is nobody's past"


def test_a_decision_that_was_taken_out_is_found() -> None:
    for run, commits, place, event in every_event_of_every_run():
        if event.is_fact:
            continue
        without = [*commits[place].events]
        without.remove(event)
        assert decided_anew(run, with_events(commits, place, without)) is not None, (run.name, event)


def test_a_decision_that_was_altered_is_found() -> None:
    for run, commits, place, event in every_event_of_every_run():
        if event.is_fact:
            continue
        altered = [_altered(each) if each is event else each for each in commits[place].events]
        assert decided_anew(run, with_events(commits, place, altered)) is not None, (run.name, event)


def test_a_decision_that_was_put_in_is_found() -> None:
    for run in of(VERSION):
        commits = run.decoded()
        for place, commit in enumerate(commits):
            more = [*commit.events, runs.StepSkipped(step="nowhere", node="nowhere")]
            assert decided_anew(run, with_events(commits, place, more)) is not None, run.name


def test_a_fact_that_was_taken_out_is_found_when_something_followed_from_it() -> None:
    for run, commits, place, event in every_event_of_every_run():
        if not event.is_fact:
            continue
        events = list(commits[place].events)
        index = events.index(event)
        followed = not events[index + 1 : index + 2] or events[index + 1].is_fact
        if followed:
            continue
        del events[index]
        assert decided_anew(run, with_events(commits, place, events)) is not None, (run.name, event)


def every_event_of_every_run() -> Iterator[tuple[Recorded, list[Commit[RunEvent]], int, RunEvent]]:
    """Each event with its run, the run's commits and the place of its own."""
    for run in of(VERSION):
        commits = run.decoded()
        for place, commit in enumerate(commits):
            for event in commit.events:
                yield run, commits, place, event


def with_events(
    commits: Sequence[Commit[RunEvent]], place: int, events: Sequence[RunEvent]
) -> list[Commit[RunEvent]]:
    """The history with other events in one commit, every hash after it made good: a consistent rewrite."""
    rewritten, before = list[Commit[RunEvent]](), FIRST_HASH
    for number, commit in enumerate(commits):
        given = tuple(events) if number == place else commit.events
        rewritten.append(structs.replace(commit, events=given, prev_hash=before))
        before = sha256(encode(rewritten[-1])).hexdigest()
    return rewritten


def _altered(event: RunEvent) -> Any:
    """The same decision with one thing in it that is not so. Results of expressions are served from the record."""
    changed: Any = event
    match changed:
        case runs.WaitDropped() | runs.WaitOpened():
            return structs.replace(changed, wait="another")
        case runs.HandlerAsked() | runs.HandlerRefused():
            return structs.replace(changed, workflow="another")
        case runs.RunStopping():
            return structs.replace(changed, outcome="failed" if event.outcome == "cancelled" else "cancelled")
        case runs.RunCompleted():
            return runs.RunCancelled(reason="nobody knows")
        case runs.RunFailed() if (changed.error.field or "").startswith("/flow/"):
            return structs.replace(
                changed, step="another"
            )  # That its key or its priority cannot be told is such a result.
        case runs.RunFailed():
            return structs.replace(changed, error=Failure(code="another", message=""))
        case runs.RunCancelled():
            return structs.replace(changed, reason="another")
        case _:
            return structs.replace(changed, step="another")


def test_recording_is_deterministic() -> None:
    def shown() -> list[Recorded]:
        return [play(1, SCENES[0]), *schedules(range(12))]

    with quiet():
        first = shown()
        assert first == shown()
        assert len(first) > 3
