"""The hunt for mutants is honest: what changes nothing survives, what is fatal dies, and a mutant that is lost is an error."""

import json
from pathlib import Path

import pytest

from contracts import upcasts
from orchestrator import commits
from tests.mutants.__main__ import lethal, report
from tests.mutants.crew import IDENTITY, Bounds, Checkpoint, Crew, Outcome
from tests.mutants.mutant import Broken, Edit, Mutant, mutated
from tests.mutants.stages import STAGES
from tests.mutants.table import MUTANTS
from tests.simulation.schedule import quiet

BOUNDS = Bounds(schedules=8, seconds_each=60.0, processes=2)
KEYS = Edit("ingress.accept", 'f"key:{key}"', 'f"key:{key}{admitted.receipt}"')


def planted(name: str, *edits: Edit, tests: tuple[str, ...] = ()) -> Mutant:
    return Mutant(name=name, what="Planted by a test.", edits=edits, tests=tests)


async def hunted(*mutants: Mutant, checkpoint: Checkpoint | None = None) -> dict[str, Outcome]:
    crew = Crew(BOUNDS, checkpoint or Checkpoint(None), tell=lambda _: None)
    return {outcome.mutant: outcome for outcome in await crew.hunt(mutants)}


async def test_only_a_planted_fault_is_found() -> None:
    found = await hunted(
        IDENTITY,
        planted("fatal", KEYS),
        planted("lost", Edit("ingress.accept", "these words stand nowhere", "")),
        planted("nonsense", Edit("ingress.accept", 'f"key:{key}"', "ingress of nonsense")),
        planted(
            "cannot be imported",
            Edit("ingress.accept", "RETRY_SECONDS: Final = 5", "RETRY_SECONDS = nowhere"),
        ),
        planted(
            "mistaken", Edit("orchestrator.decisions", "if run.parked is not None or", "if run.parking or")
        ),
    )
    assert found["identity"].state == "survived"
    assert found["identity"].schedules == BOUNDS.schedules
    assert (found["fatal"].state, found["fatal"].promise) == ("killed", "P2")
    assert {name: found[name].state for name in ("lost", "nonsense", "cannot be imported", "mistaken")} == {
        "lost": "error",
        "nonsense": "error",
        "cannot be imported": "error",
        "mistaken": "error",
    }
    assert "stands 0 times" in found["lost"].said
    assert "nowhere" in found["cannot be imported"].said
    assert "AttributeError" in found["mistaken"].said


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_dies_on_a_stage_by_which_no_mutant_walks(stage: str) -> None:
    before = (commits.encode, dict(upcasts.CURRENT), dict(upcasts.UPCASTS))
    with quiet():
        for seed in range(20):
            assert STAGES[stage](seed).violations == (), f"seed {seed}"
    assert (
        commits.encode,
        upcasts.CURRENT,
        upcasts.UPCASTS,
    ) == before  # What other tests find in this process.


async def test_a_mutant_may_be_killed_by_a_test_that_is_well_without_it() -> None:
    retries = "tests/orchestrator/test_retries.py"
    endless = Edit("orchestrator.retries", " or tries >= retry.attempts", "")
    found = await hunted(
        planted("endless", endless, tests=(retries,)),
        planted("elsewhere", KEYS, tests=(retries,)),
        planted("no such test", endless, tests=("tests/orchestrator/test_nothing.py",)),
    )
    assert {name: outcome.state for name, outcome in found.items()} == {
        "endless": "killed",
        "elsewhere": "survived",
        "no such test": "error",
    }


async def test_a_hunt_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "mutants.jsonl"
    checkpoint = Checkpoint(path)
    checkpoint.add(Outcome(mutant="identity", state="undecided", schedules=BOUNDS.schedules - 1))
    crew = Crew(BOUNDS, Checkpoint(path), tell=lambda _: None)
    [outcome] = await crew.hunt([IDENTITY])
    assert (outcome.state, outcome.schedules, crew.schedules) == ("survived", BOUNDS.schedules, 1)
    assert await hunted(IDENTITY, checkpoint=Checkpoint(path)) == {"identity": outcome}


def test_the_checkpoint_of_other_code_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "mutants.jsonl"
    path.write_text('of another release\n{"mutant":"identity","state":"survived"}\n')
    assert Checkpoint(path).outcomes == {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_has_its_place_in_the_code(mutant: Mutant) -> None:
    assert mutated(mutant.edits)


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_lethal_seeds_are_those_of_mutants_that_the_simulation_hunts() -> None:
    assert set(lethal()) <= {mutant.name for mutant in MUTANTS if not mutant.tests}


def test_a_report_counts_survivors_and_what_could_not_be_judged_as_violations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcomes = [
        Outcome(mutant="a", state="killed", stage="storm", seed=3, promise="P1"),
        Outcome(mutant="b", state="killed", stage="tests", promise="test"),
        Outcome(mutant="c", state="survived", stage="storm"),
        Outcome(mutant="d", state="error", stage="storm"),
    ]
    assert report(Crew(BOUNDS, Checkpoint(None)), outcomes, seed=7, seconds=1.0) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    counts = ("mutants", "killed", "survived", "errors", "violations", "by_simulation", "by_tests", "seed")
    assert [said[name] for name in counts] == [4, 2, 1, 1, 2, 1, 1, 7]


def test_an_anchor_that_stands_twice_is_refused() -> None:
    with pytest.raises(Broken, match="stands"):
        mutated([Edit("ingress.accept", "raise away(", "raise away(")])
