"""P6: read models are a fold of the log, however it was cut into batches, and say what decisions are made by."""

import json
import random
from collections.abc import Iterator, Sequence

from contracts.runs import TERMINAL
from orchestrator.passing import stays
from orchestrator.state import Run
from projections.arrived import Arrived, read
from projections.rows import RunRow
from projections.runs import Known, fold, touched
from tests.promises.evidence import Evidence, History, Violation
from tests.promises.tables import Tables


def models_are_the_fold(evidence: Evidence, _histories: Sequence[History]) -> Iterator[Violation]:
    if not evidence.everything_over:
        return
    arrived = [read(stored, 1) for stored in evidence.messages]
    for cut in (random.Random(evidence.seed), None):
        for difference in evidence.tables.differences(folded(arrived, cut)):
            yield Violation("P6", difference)


def models_say_what_the_runs_say(evidence: Evidence, histories: Sequence[History]) -> Iterator[Violation]:
    """A row shows the status that decisions are made by."""
    if not evidence.everything_over:
        return
    for history in histories:
        state, row = history.state, evidence.tables.runs.get((history.org, history.run))
        if row is None or row.status != state.status:
            shown = row.status if row is not None else "nothing"
            yield Violation("P6", f"the row says {shown}, the run is {state.status}", history.run)
        elif _at_gates(row) != _stands_at(state):
            yield Violation(
                "P6", f"the row has it at {_at_gates(row)}, the run is at {_stands_at(state)}", history.run
            )
        for path, step in state.steps.items():
            shown_step = evidence.tables.steps.get((history.org, history.run, path))
            if shown_step is None or shown_step.status != step.status:
                shown = shown_step.status if shown_step is not None else "nothing"
                yield Violation(
                    "P6", f"the row of {path} says {shown}, the step is {step.status}", history.run
                )
        ended = evidence.tables.ended.get((history.org, history.run))
        if state.status in TERMINAL and (ended is None or ended.version != history.commits[-1].version):
            yield Violation("P6", "the archive does not know its last commit", history.run)


def _at_gates(row: RunRow) -> set[tuple[str, bool]]:
    return {(place["gate"], place["inside"]) for place in json.loads(row.gates or "[]")}


def _stands_at(state: Run) -> set[tuple[str, bool]]:
    """At which gates the run waits, and inside of which it is."""
    if not state.active:
        return set()
    waits = {(wait.slot.gate, False) for wait in state.waits.values() if wait.slot is not None}
    return waits | {(slot.gate, True) for slot in state.slots if stays(slot)}


def folded(arrived: Sequence[Arrived], cuts: random.Random | None) -> Tables:
    """The tables made anew from the log, cut into batches by chance, or in one."""
    tables, left = Tables(), list(arrived)
    while left:
        size = cuts.randint(1, 4) if cuts is not None else len(left)
        batch = left[:size]
        del left[:size]
        paths = touched(batch)
        known = Known(
            runs={key: tables.runs[key] for key in paths if key in tables.runs},
            steps={
                (*key, path): tables.steps[*key, path]
                for key, of_run in paths.items()
                for path in of_run
                if (*key, path) in tables.steps
            },
        )
        tables.apply(fold(known, batch))
    return tables
