"""Hunting processes side by side: one per mutant at a time, bounded, told of as they go, and resumable.

The checkpoint belongs to one state of the code: it is read again only while no source file has changed.
"""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct, structs

from tests.mutants.den import Den
from tests.mutants.hunt import Order, Word
from tests.mutants.mutant import ROOT, Mutant

SCHEDULES: Final = 2_000
TOLD_EVERY: Final = 500
SOURCES: Final = ("contracts", "chassis", "ingress", "orchestrator", "executor", "projections", "tests")
IDENTITY: Final = Mutant(name="identity", what="Nothing is changed, and nobody may notice.", edits=())

State: TypeAlias = Literal["killed", "survived", "error", "undecided"]


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one mutant."""

    mutant: str
    state: State
    stage: str = ""
    seed: int = -1
    promise: str = ""
    said: str = ""
    schedules: int = 0
    seconds: float = 0.0


class Bounds(Struct, frozen=True, kw_only=True):
    """How much is spent."""

    schedules: int = SCHEDULES
    seconds_each: float = 300.0
    end: float = float("inf")
    """The monotonic time at which every process is stopped."""
    processes: int = os.cpu_count() or 1


def fingerprint() -> str:
    """Of every source file that a schedule may run, and of the table."""
    found = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


class Checkpoint:
    """Outcomes and progress, line by line in a file, under the fingerprint of the code."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.outcomes: dict[str, Outcome] = {}
        self.passed: dict[str, int] = {}
        """How many schedules an undecided mutant has passed."""
        if path is None:
            return
        head = fingerprint()
        lines = path.read_text().splitlines() if path.exists() else []
        if lines[:1] != [head]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(head + "\n")
            return
        for line in lines[1:]:
            with suppress(msgspec.DecodeError):  # The last line of a run that was killed may be half a line.
                self._note(msgspec.json.decode(line, type=Outcome))

    def _note(self, outcome: Outcome) -> None:
        if outcome.state == "undecided":
            self.passed[outcome.mutant] = outcome.schedules
        else:
            self.outcomes[outcome.mutant] = outcome

    def add(self, outcome: Outcome) -> None:
        self._note(outcome)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(msgspec.json.encode(outcome).decode() + "\n")


class Crew:
    """Hunts mutants until all are decided or the time is over."""

    def __init__(
        self,
        bounds: Bounds,
        checkpoint: Checkpoint,
        first: Mapping[str, int] | None = None,
        tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201  # Progress.
    ) -> None:
        """`first`: the seed to begin with, by mutant."""
        self._bounds, self._checkpoint, self._first, self._tell = bounds, checkpoint, first or {}, tell
        self.schedules = 0
        self._innocent: dict[tuple[str, tuple[str, ...], int], bool] = {}

    async def hunt(self, mutants: Sequence[Mutant]) -> list[Outcome]:
        """An outcome for each mutant that time was enough for."""
        known = self._checkpoint.outcomes
        waiting = iter([mutant for mutant in mutants if mutant.name not in known])
        async with asyncio.TaskGroup() as group:
            for _ in range(self._bounds.processes):
                group.create_task(self._work(waiting))
        return [known[mutant.name] for mutant in mutants if mutant.name in known]

    async def _work(self, waiting: Iterator[Mutant]) -> None:
        den = Den()
        try:
            for mutant in waiting:
                if time.monotonic() >= self._bounds.end:
                    return
                outcome = await self._one(den, mutant)
                self._checkpoint.add(outcome)
                if outcome.state != "undecided":
                    self._tell(shown(outcome))
        finally:
            await den.close()

    async def _one(self, den: Den, mutant: Mutant) -> Outcome:
        """Hunt one mutant. A kill counts only where the unchanged code shows nothing: else the hunt goes on behind it."""
        began = time.monotonic()
        seeds = self._seeds(mutant)
        passed = 0 if mutant.tests else self._checkpoint.passed.get(mutant.name, 0)
        while True:
            outcome = await self._hunted(den, mutant, seeds, passed)
            innocent = (
                await self._is_innocent(den, mutant, outcome.seed) if outcome.state == "killed" else True
            )
            passed = outcome.schedules
            if innocent is False and passed < len(seeds) and not mutant.tests:
                continue
            if innocent is False:
                outcome = structs.replace(outcome, state="error", said="found also without the mutant")
            elif innocent is None:
                outcome = structs.replace(outcome, state="undecided")
            return structs.replace(outcome, seconds=round(time.monotonic() - began, 1))

    async def _hunted(self, den: Den, mutant: Mutant, seeds: Sequence[int], passed: int) -> Outcome:
        last = await self._ask(den, mutant, seeds[passed:], passed)
        outcome = Outcome(
            mutant=mutant.name,
            state="undecided",
            stage="tests" if mutant.tests else mutant.stage,
            schedules=max(
                passed + last.schedules if last else 0, self._checkpoint.passed.get(mutant.name, 0)
            ),
        )
        match last:
            case None if time.monotonic() < self._bounds.end:
                said = f"not decided within {self._bounds.seconds_each} s"
                return structs.replace(outcome, state="error", said=said)
            case None:
                return outcome
            case Word(state="killed"):
                return structs.replace(
                    outcome, state="killed", seed=last.seed, promise=last.promise, said=last.said
                )
            case Word(state="passed") if mutant.tests or outcome.schedules >= self._bounds.schedules:
                return structs.replace(outcome, state="survived")
            case _:
                return structs.replace(outcome, state="error", said=last.said or "ended without a last word")

    async def _is_innocent(self, den: Den, mutant: Mutant, seed: int) -> bool | None:
        """Whether the unchanged code shows nothing at this seed, or in these tests; None when time was over."""
        key = (mutant.stage, tuple(mutant.tests), seed)
        if key not in self._innocent:
            unchanged = structs.replace(IDENTITY, stage=mutant.stage, tests=mutant.tests)
            word = await self._ask(den, unchanged, [seed])
            if word is None:
                return None
            self._innocent[key] = word.state == "passed" and word.schedules > 0
        return self._innocent[key]

    def _seeds(self, mutant: Mutant) -> list[int]:
        seeds = list(range(self._bounds.schedules))
        lethal = self._first.get(mutant.name, -1)
        return seeds if lethal not in seeds else [lethal, *seeds[:lethal], *seeds[lethal + 1 :]]

    async def _ask(self, den: Den, mutant: Mutant, seeds: Sequence[int], passed: int = 0) -> Word | None:
        """The last word about a mutant; None when there was no time for it."""
        heard = 0

        def hear(word: Word) -> None:
            nonlocal heard
            self.schedules += word.schedules - heard
            heard = word.schedules
            if word.state == "passed" and heard % TOLD_EVERY == 0:
                so_far = passed + heard
                self._checkpoint.add(Outcome(mutant=mutant.name, state="undecided", schedules=so_far))
                self._tell(f"{mutant.name}: {so_far} schedules passed")

        order = Order(edits=mutant.edits, stage=mutant.stage, seeds=seeds, tests=mutant.tests)
        until = min(time.monotonic() + self._bounds.seconds_each, self._bounds.end)
        return await den.ask(order, until, hear)


def shown(outcome: Outcome) -> str:
    """One line about one mutant."""
    how = {
        "killed": f"killed by {outcome.promise} at seed {outcome.seed}: {outcome.said}",
        "survived": "SURVIVED",
        "error": f"ERROR: {outcome.said}",
        "undecided": "undecided",
    }[outcome.state]
    return f"{outcome.mutant} ({outcome.stage}, {outcome.schedules} schedules, {outcome.seconds} s): {how}"
