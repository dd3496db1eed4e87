"""What is asked of a schedule besides the promises, where the stage leaves no innocent explanation."""

from collections import Counter
from datetime import timedelta
from typing import Final

from tests.mutants.rough_surroundings import JUST_NOW, Apart, Restarts, Told, over_since
from tests.promises.evidence import Evidence, Violation
from tests.simulation.installation import Installation

LATE: Final = timedelta(seconds=15)
"""By then a deadline that has passed is known where nothing goes wrong: five seconds until it counts, five per sweep."""


def attempts_happen_once(_installation: Installation, evidence: Evidence) -> list[Violation]:
    """Without a fault nothing is attempted twice."""
    counts = Counter((effect.run, effect.step, effect.attempt) for effect in evidence.effects)
    return [
        Violation("P5", f"attempt {attempt} at {step} acted {count} times and nothing had gone wrong", run)
        for (run, step, attempt), count in counts.items()
        if count > 1
    ]


def deadlines_are_kept(_installation: Installation, evidence: Evidence) -> list[Violation]:
    """Without a fault a run whose deadline has passed is told so."""
    return [
        Violation("P3", f"{commit.time} and still at it, deadline {history.state.deadline}", history.run)
        for history in evidence.histories()
        for commit in history.commits[-1:]
        if history.state.deadline is not None and commit.time > history.state.deadline + LATE
    ]


def told_once(installation: Installation, _evidence: Evidence) -> list[Violation]:
    """But for an outcome that is being recorded at that very moment."""
    assert isinstance(installation, Told)
    return [
        Violation("P5", f"attempt {task.attempt} at {task.step} was told, and is asked for again", task.run)
        for at, task in installation.asked_again
        if (over := over_since(installation, task)) is None or abs(over - at) > JUST_NOW
    ]


def over_is_over(installation: Installation, _evidence: Evidence) -> list[Violation]:
    assert isinstance(installation, Restarts)
    return installation.begun_again


def told_apart(installation: Installation, _evidence: Evidence) -> list[Violation]:
    assert isinstance(installation, Apart)
    return installation.told_wrongly
