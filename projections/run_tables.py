"""The projection of RUNS: runs, steps, deliveries that started runs, usage and the archive, in one transaction.

It is the only writer of its tables, so it remembers the rows of runs that are under way instead of reading them back.
Whatever goes wrong, it forgets everything and reads.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from chassis.ports import Letters, Stored
from contracts.runs import TERMINAL
from contracts.subjects import RUNS
from projections.arrived import Arrived, Letter, RunKey, read
from projections.dead_letters import report
from projections.figures import Figures
from projections.models import Position, RunModels, Step, require
from projections.rows import RunRow, StepRow
from projections.runs import Changes, Known, fold, park, touched

REMEMBERED_RUNS: Final = 20_000
REMEMBERED_STEPS: Final = 1_000
"""Of one run."""


class _Remembered(Struct):
    run: RunRow
    steps: dict[str, StepRow] = field(default_factory=dict)
    whole: bool = False
    """Every step that the run has is here: we have seen it begin."""

    def remember(self, path: str, row: StepRow) -> None:
        if len(self.steps) >= REMEMBERED_STEPS:
            self.steps.clear()
            self.whole = False
        self.steps[path] = row


class RunTables:
    """The tables that follow RUNS."""

    name = "runs"
    stream = RUNS

    def __init__(
        self, models: RunModels, letters: Letters, figures: Figures, *, remember: int = REMEMBERED_RUNS
    ) -> None:
        self._models, self._letters, self._figures = models, letters, figures
        self._remember = remember
        self._memory: OrderedDict[RunKey, _Remembered] = OrderedDict()

    async def position(self) -> Position:
        return await self._models.position()

    def forget(self) -> None:
        self._memory.clear()

    async def project(self, batch: Sequence[Stored], step: Step) -> None:
        """All of the batch or nothing of it."""
        arrived = [read(stored, step.epoch) for stored in batch]
        changes = fold(await self._known(arrived), arrived)
        if changes.letters:
            require(await self.position(), step.before)
        # Before the rows: a kill in between stores the letter twice, under one id.
        await self._report(changes.letters)
        await self._models.store(changes, step)
        self._keep(changes)
        self._figures.seen_again += changes.seen_again
        self._figures.events += sum(each.events for each in arrived)

    async def give_up(self, stored: Stored, step: Step, error: Exception) -> None:
        """Go past a message whose rows are refused: keep its bytes, park its run, tell somebody."""
        arrived = read(stored, step.epoch)
        letter = Letter(
            stored=stored,
            epoch=step.epoch,
            trouble="refused",
            reason=f"{type(error).__name__}: {error}",
            org=arrived.org,
            run=arrived.run,
        )
        await self._report([letter])
        await self._models.store(park(await self._known([arrived]), arrived, letter.reason), step)

    async def go_past(self, step: Step) -> None:
        """Move the position alone: not even the bytes could be kept, but the dead letter has them."""
        await self._models.store(Changes(), step)

    async def _report(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            await report(self._letters, letter)
            self._figures.troubles[letter.trouble] += 1

    async def _known(self, batch: Sequence[Arrived]) -> Known:
        """The rows that the batch speaks of: remembered ones, and the others out of the tables."""
        known = Known()
        paths_of = touched(batch)
        missing = [key for key in paths_of if key not in self._memory]
        known.runs.update(await self._models.load_runs(missing))
        # A run without a row has no steps either.
        wanted = [(*key, path) for key in missing if key in known.runs for path in paths_of[key]]
        for key, paths in paths_of.items():
            remembered = self._memory.get(key)
            if remembered is None:
                continue
            known.runs[key] = remembered.run
            for path in paths:
                if path in remembered.steps:
                    known.steps[*key, path] = remembered.steps[path]
                elif not remembered.whole:
                    wanted.append((*key, path))
        known.steps.update(await self._models.load_steps(wanted))
        return known

    def _keep(self, changes: Changes) -> None:
        """Remember what was stored, but for runs that have ended."""
        for key, run in changes.runs.items():
            if run.status in TERMINAL or run.stuck:
                self._memory.pop(key, None)
                continue
            remembered = self._memory.get(key)
            if remembered is None:
                remembered = self._memory[key] = _Remembered(run=run, whole=key in changes.new_runs)
            remembered.run = run
            self._memory.move_to_end(key)
        for (org, run_id, path), row in changes.steps.items():
            if (kept := self._memory.get((org, run_id))) is not None:
                kept.remember(path, row)
        while len(self._memory) > self._remember:
            self._memory.popitem(last=False)
