"""A thousand schedules of the services' own code, with faults at every turn, keep the promises.

A schedule that does not is shown with its seed and as few of its faults as it still fails with. The same again:
`python -m tests.simulation.soak --seeds <seed>`.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path

import pytest

from chassis.testing.world import CALM
from orchestrator.catalogue import NOTE, SPECS
from tests.mutants.extreme_stories import (
    followed,
    nested,
    next_door_to,
    polled,
    renewed,
    repeated,
    shared,
    talking,
    undoing,
)
from tests.simulation.coverage import EVENTS, STORES, table
from tests.simulation.installation import Installation
from tests.simulation.schedule import STORM, Played, lived, minimised, play, quiet
from tests.simulation.workflows import Story, story

BLOCKS, BLOCK = 4, 250
REGRESSIONS = Path(__file__).with_name("regressions.txt")
"""Seeds that have shown a defect once, and what it was. They mean less with every change of the code; each defect also
has a test of its own in test_found.py."""


def told(played: Played) -> str:
    lines = [f"seed {played.seed}, {len(played.struck)} faults:"]
    lines += [f"  {at:.3f} s  {fault}" for at, fault in played.struck]
    return "\n".join([*lines, *(str(violation) for violation in played.violations)])


def judged(seed: int) -> Played:
    """Play a schedule; fail with its narrowed-down story when a promise is broken."""
    played = play(seed)
    if played.failed:
        pytest.fail(told(minimised(seed)))
    return played


@cache
def played_in(block: int) -> Sequence[Played]:
    with quiet():
        return [judged(seed) for seed in range(block * BLOCK, (block + 1) * BLOCK)]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_schedules_keep_the_promises(block: int) -> None:
    played = played_in(block)
    kinds = {fault.kind for schedule in played for _, fault in schedule.struck}
    assert kinds == set(STORM.__struct_fields__), "every kind of fault has struck"
    assert sum(schedule.kills for schedule in played) > 2 * BLOCK
    assert sum(schedule.runs for schedule in played) > 2 * BLOCK
    assert sum(schedule.effects for schedule in played) > 2 * BLOCK


def test_a_thousand_schedules_see_everything_that_can_happen() -> None:
    seen = Counter[str]()
    for block in range(BLOCKS):
        for played in played_in(block):
            seen.update(played.seen)
    wanted = {f"event {event}" for event in EVENTS}
    wanted |= {f"fault {store} {kind}" for store in STORES for kind in OPERATION_FAULTS}
    # Seldom asked: each of its faults strikes in a soak, not all of them in a thousand schedules.
    wanted -= {f"fault MemoryArchive {kind}" for kind in OPERATION_FAULTS}
    assert any(seen[f"fault MemoryArchive {kind}"] for kind in OPERATION_FAULTS)
    calls = [f"call.{name}" for name in ("once", "again", "keyed")]
    wanted |= {f"node {call} {status}" for call in calls for status in ("succeeded", "failed", "cancelled")}
    wanted |= {f"node {node} succeeded" for node in SPECS if node not in (NOTE, "stop")}
    wanted |= {"node stop failed", "node if failed", "node filter skipped"}
    wanted |= {f"merge all {how} succeeded" for how in MERGES} | {
        "merge any object succeeded",
        "merge any first succeeded",
    }
    wanted |= {f"port wait.approval {port}" for port in ("approved", "rejected", "timeout")}
    wanted |= {f"started by {cause}" for cause in ("webhook", "redelivery", "schedule", "run")}
    wanted |= {f"port {call} error" for call in calls} | {"port if true", "port if false"}
    wanted |= {f"port switch {port}" for port in ("default", "one", "two")}
    wanted |= {f"join {join} {status}" for join in ("all", "any") for status in ("succeeded", "skipped")}
    wanted |= {f"wish {wish}" for wish in WISHES} | {
        f"run {end}" for end in ("completed", "failed", "cancelled")
    }
    wanted |= {
        "delivery forged refused 401",
        "delivery accepted 202",
        "delivery accepted 504",
        "delivery unknown",
    }
    wanted |= RARE
    missing = wanted - set(+seen)
    assert not missing, table(seen)


OPERATION_FAULTS = ("refused", "timed_out", "done_later", "done_but_timed_out")
WISHES = ("cancel", "retry", "unpark", "resolve done", "resolve retry", "resolve failed")
RARE = {
    "commits appended together",
    "appends that lost a race",
    "claims refused",
    "histories that left the log",
    "tombstones that left the log",
    "questions to the archive's ids",
    "takeovers of a partition",
    "runs reopened",
    "dead letters",
    "segments that left the log",
    "attempts that were held",
    "pauses that began",
    "polls",
    "executors that were to be sent home",
    "gates that were passed",
    "gates with a key",
    "limits of an org that were changed",
    "runs of another priority",
    "children of a version that was named",
    "children of a second version",
    "deliveries that ran again",
    "messages of a talk that were answered",
    "org neighbours",
    "pauses until a moment",
    "step 1 deep succeeded",
    "step 2 deep succeeded",
}
MERGES = ("object", "list", "append", "by_position", "by_key")
STAGES: Sequence[tuple[Callable[[int], Story], Collection[str]]] = (
    (nested, {"step 3 deep failed", "node map succeeded", "node loop succeeded"}),
    (followed, {"started by event", "started by run"}),
    (next_door_to, {"org neighbours", "org org"}),
    (
        shared,
        {"limits of an org that were changed", "gates that were passed", "runs at the gate of all runs"},
    ),
    (renewed, {"children of a second version", "children of a version that was named"}),
    (repeated, {"started by redelivery", "started by test", "runs reopened"}),
    (talking, {"messages of a talk that were answered"}),
    (undoing, {"event run.compensating", "event undo.kept"}),
    (polled, {"polls", "started by schedule", "started by run"}),
)
"""Where a thousand schedules see too little of something."""


@pytest.mark.parametrize(("told_by", "wanted"), STAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_rare_has_stories_of_its_own(
    told_by: Callable[[int], Story], wanted: Collection[str]
) -> None:
    seen = Counter[str]()
    with quiet():
        for seed in range(20):
            played = play(seed, STORM, told=told_by(seed))
            assert not played.failed, told(played)
            seen.update(played.seen)
    assert not set(wanted) - set(+seen), table(seen)


def seeds_that_failed_once() -> list[int]:
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("seed", seeds_that_failed_once())
def test_what_failed_once_keeps_the_promises(seed: int) -> None:
    with quiet():
        judged(seed)


def test_without_faults_nothing_is_left_to_chance_or_to_a_sweeper() -> None:
    with quiet():
        for seed in range(40):
            played = play(seed, CALM)
            assert played.violations == [], told(played)
            assert played.struck == []


def test_a_schedule_is_the_same_every_time_and_with_all_of_its_faults_named() -> None:
    with quiet():
        for seed in (3, 14):
            once, evidence = lived(Installation(seed, story(seed), STORM))
            assert once == play(seed)
            faults = [fault for _, fault in once.struck]
            named, again = lived(Installation(seed, story(seed), STORM, faults))
            assert named == once
            assert [stored.body for stored in again.messages] == [stored.body for stored in evidence.messages]


def test_a_schedule_is_the_same_in_every_process() -> None:
    code = (
        "from tests.simulation.schedule import play, quiet\n"
        "with quiet():\n"
        "    print([(p.steps, p.seconds, len(p.struck)) for p in map(play, range(5))])\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": number},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
            timeout=100,
        ).stdout
        for number in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_failure_is_narrowed_down_to_the_faults_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(installation: Installation) -> Installation:
        installation.inbox._ack_all = True
        return installation

    made = Installation.__init__

    def sabotaged(self: Installation, *arguments: object, **named: object) -> None:
        made(self, *arguments, **named)  # type: ignore[arg-type]  # As they came.
        forgetful(self)

    monkeypatch.setattr(Installation, "__init__", sabotaged)
    with quiet():
        seed = next(seed for seed in range(400) if play(seed).failed)
        whole, smallest = play(seed), minimised(seed)
    assert smallest.failed
    assert len(smallest.struck) < len(whole.struck)
    assert smallest.violations[0].promise == whole.violations[0].promise
