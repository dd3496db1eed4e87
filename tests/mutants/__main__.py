"""Break our own code on purpose: `python -m tests.mutants` plays every mutant until the checker notices.

Prints JSON on its last line and exits with 1 when a mutant survived or the table is wrong. `QUICK=1` plays what fits into
fifty seconds, beginning at another place every day, each with a seed first that killed it before. A long run that was
stopped goes on where it was, as long as no source file has changed.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.mutants.crew import SCHEDULES, Bounds, Checkpoint, Crew, Outcome, shown
from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.table import MUTANTS

LETHAL: Final = Path(__file__).with_name("lethal.json")
"""By mutant, the seed that killed it when it was recorded last. Only where a quick run begins: it proves nothing."""
QUICK_SECONDS: Final = 40.0
DAY: Final = 86_400


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="mutants whose names begin so")
    parser.add_argument(
        "--schedules", type=int, default=SCHEDULES, help="how many each must be killed within"
    )
    parser.add_argument("--seed", type=int, help="where the rotation of a quick run begins")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "build" / "mutants.jsonl")
    parser.add_argument("--record", action="store_true", help="remember which seeds have killed")
    options = parser.parse_args(arguments)
    began, quick = time.monotonic(), os.environ.get("QUICK", "") not in ("", "0")
    seed = options.seed if options.seed is not None else int(time.time() // DAY)
    mutants = [m for m in MUTANTS if not options.only or m.name.startswith(tuple(options.only))]
    if quick:
        random.Random(seed).shuffle(mutants)
        mutants.sort(
            key=lambda mutant: bool(mutant.tests)
        )  # Tests take longest, and are run without a mutant too.
        bounds = Bounds(schedules=options.schedules, end=began + QUICK_SECONDS)
        crew = Crew(bounds, Checkpoint(None), lethal())
    else:
        crew = Crew(Bounds(schedules=options.schedules), Checkpoint(options.checkpoint))
    outcomes = asyncio.run(crew.hunt(mutants))
    if options.record:
        record(outcomes)
    return report(crew, outcomes, seed=seed if quick else 0, seconds=time.monotonic() - began)


def lethal() -> dict[str, int]:
    return msgspec.json.decode(LETHAL.read_bytes(), type=dict[str, int]) if LETHAL.exists() else {}


def record(outcomes: Sequence[Outcome]) -> None:
    killed = {
        outcome.mutant: outcome.seed
        for outcome in outcomes
        if outcome.state == "killed" and outcome.seed >= 0
    }
    known = {name: seed for name, seed in (lethal() | killed).items() if name in {m.name for m in MUTANTS}}
    LETHAL.write_bytes(
        msgspec.json.format(msgspec.json.encode(dict(sorted(known.items()))), indent=2) + b"\n"
    )


def report(crew: Crew, outcomes: Sequence[Outcome], *, seed: int, seconds: float) -> int:
    """What came of all of them; the last line is for machines."""
    states = Counter(outcome.state for outcome in outcomes)
    bad = [outcome for outcome in outcomes if outcome.state != "killed"]
    for outcome in bad:
        sys.stdout.write(shown(outcome) + "\n")
    told = {
        "mutants": len(outcomes),
        "of": len(MUTANTS),
        "killed": states["killed"],
        "survived": states["survived"],
        "errors": states["error"],
        "violations": len(bad),
        "by_simulation": sum(outcome.state == "killed" and outcome.stage != "tests" for outcome in outcomes),
        "by_tests": sum(outcome.state == "killed" and outcome.stage == "tests" for outcome in outcomes),
        "schedules": crew.schedules,
        "promises": dict(Counter(outcome.promise for outcome in outcomes if outcome.state == "killed")),
        "not_killed": [outcome.mutant for outcome in bad],
        "seed": seed,
        "seconds": round(seconds, 1),
    }
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
    return 1 if bad or not outcomes else 0


def of(name: str) -> Mutant:
    """The mutant of this name."""
    return next(mutant for mutant in MUTANTS if mutant.name == name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
