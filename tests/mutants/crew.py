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

from tests.mutants.hunt import Order, Word
from tests.mutants.mutant import ROOT, Mutant

SCHEDULES: Final = 2_000
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

    async def hunt(self, mutants: Sequence[Mutant]) -> list[Outcome]:
        """An outcome for each mutant that time was enough for, with the kills proven to be the mutant's."""
        waiting = iter([mutant for mutant in mutants if mutant.name not in self._checkpoint.outcomes])
        async with asyncio.TaskGroup() as group:
            for _ in range(self._bounds.processes):
                group.create_task(self._work(waiting))
        outcomes = [
            self._checkpoint.outcomes[mutant.name]
            for mutant in mutants
            if mutant.name in self._checkpoint.outcomes
        ]
        return await self._vouched(outcomes, {mutant.name: mutant for mutant in mutants})

    async def _work(self, waiting: Iterator[Mutant]) -> None:
        for mutant in waiting:
            if time.monotonic() >= self._bounds.end:
                return
            outcome = await self._one(mutant)
            self._checkpoint.add(outcome)
            if outcome.state != "undecided":
                self._tell(shown(outcome))

    async def _one(self, mutant: Mutant) -> Outcome:
        began = time.monotonic()
        passed = 0 if mutant.tests else self._checkpoint.passed.get(mutant.name, 0)
        last, in_time = await self.ask(mutant, self._seeds(mutant)[passed:], passed)
        outcome = Outcome(
            mutant=mutant.name,
            state="undecided",
            stage=mutant.stage if not mutant.tests else "tests",
            schedules=passed + last.schedules,
            seconds=round(time.monotonic() - began, 1),
        )
        if last.state == "killed":
            return structs.replace(
                outcome, state="killed", seed=last.seed, promise=last.promise, said=last.said
            )
        if last.state == "broken":
            return structs.replace(outcome, state="error", said=last.said)
        if mutant.tests or outcome.schedules >= self._bounds.schedules:
            return structs.replace(outcome, state="survived")
        if in_time:
            return structs.replace(
                outcome, state="error", said=f"the process ended without a word: {last.said}"
            )
        if time.monotonic() < self._bounds.end:
            said = f"not decided within {self._bounds.seconds_each} s"
            return structs.replace(outcome, state="error", said=said)
        return outcome

    def _seeds(self, mutant: Mutant) -> list[int]:
        seeds = list(range(self._bounds.schedules))
        lethal = self._first.get(mutant.name, -1)
        return seeds if lethal not in seeds else [lethal, *seeds[:lethal], *seeds[lethal + 1 :]]

    async def ask(self, mutant: Mutant, seeds: Sequence[int], passed: int = 0) -> tuple[Word, bool]:
        """The last word of a hunting process, and whether it had time enough to say it."""
        order = Order(edits=mutant.edits, stage=mutant.stage, seeds=seeds, tests=mutant.tests)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.mutants.hunt",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, limit=2**20,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        last = Word(state="passed")
        until = min(time.monotonic() + self._bounds.seconds_each, self._bounds.end)
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                process.stdin.write(msgspec.json.encode(order))
                process.stdin.close()
                async for line in process.stdout:
                    word = msgspec.json.decode(line, type=Word)
                    self.schedules += word.schedules - last.schedules
                    last = word
                    if word.state == "passed" and word.seed % 500 == 499:
                        self._tell(f"{mutant.name}: {passed + word.schedules} schedules passed")
                errors = (await process.stderr.read())[-500:].decode(errors="replace")
                await process.wait()
        except TimeoutError:
            return last, False
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return (structs.replace(last, said=errors) if process.returncode else last), True

    async def _vouched(self, outcomes: Sequence[Outcome], mutants: Mapping[str, Mutant]) -> list[Outcome]:
        """A kill counts only where the very same schedule, or test, finds nothing without the mutant."""
        vouched: list[Outcome] = []
        suspects: dict[tuple[str, tuple[str, ...]], set[int]] = {}
        for outcome in outcomes:
            mutant = mutants[outcome.mutant]
            if outcome.state == "killed":
                suspects.setdefault((mutant.stage, tuple(mutant.tests)), set()).add(outcome.seed)
        found = {key: await self._unchanged(*key, sorted(seeds)) for key, seeds in suspects.items()}
        for outcome in outcomes:
            mutant = mutants[outcome.mutant]
            guilty = found.get((mutant.stage, tuple(mutant.tests)), {})
            if outcome.state == "killed" and outcome.seed in guilty:
                said = f"also without the mutant: {guilty[outcome.seed]}"
                vouched.append(structs.replace(outcome, state="error", said=said))
            else:
                vouched.append(outcome)
        return vouched

    async def _unchanged(self, stage: str, tests: tuple[str, ...], seeds: Sequence[int]) -> dict[int, str]:
        """What the unchanged code shows at these seeds, and where."""
        found: dict[int, str] = {}
        left = list(seeds)
        while left:
            word, in_time = await self.ask(structs.replace(IDENTITY, stage=stage, tests=tests), left)
            if not in_time:
                return found | dict.fromkeys(left, "nobody knows: time was over")
            if word.state == "passed":
                return found
            found[word.seed if word.seed in left else left[0]] = word.said
            left = left[left.index(word.seed) + 1 :] if word.seed in left else left[1:]
        return found


def shown(outcome: Outcome) -> str:
    """One line about one mutant."""
    how = {
        "killed": f"killed by {outcome.promise} at seed {outcome.seed}: {outcome.said}",
        "survived": "SURVIVED",
        "error": f"ERROR: {outcome.said}",
        "undecided": "undecided",
    }[outcome.state]
    return f"{outcome.mutant} ({outcome.stage}, {outcome.schedules} schedules, {outcome.seconds} s): {how}"
