"""Many schedules, one figure: `python -m tests.simulation.soak --seeds 0:2000` prints JSON on its last line.

Exits with 1 when a promise was broken. `--minimise` shows each failure with as few of its
faults as it still fails with.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable

from tests.simulation.schedule import Played, minimised, play, quiet

PROGRESS_EVERY = 500


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.soak", description=__doc__)
    parser.add_argument("--seeds", default="0:2000", help="FIRST:LAST, the last one left out")
    parser.add_argument("--minimise", action="store_true", help="narrow every failure down to its faults")
    options = parser.parse_args(arguments)
    first, _, last = options.seeds.partition(":")
    with quiet():
        return _soak(range(int(first), int(last or int(first) + 1)), minimise=options.minimise)


def _soak(seeds: Iterable[int], *, minimise: bool) -> int:
    counts, promises, failed = Counter[str](), Counter[str](), list[int]()
    began = time.monotonic()
    for number, seed in enumerate(seeds, 1):
        played = play(seed)
        counts.update(
            schedules=1,
            steps=played.steps,
            kills=played.kills,
            faults=len(played.struck),
            runs=played.runs,
            effects=played.effects,
        )
        promises.update(violation.promise for violation in played.violations)
        if played.failed:
            failed.append(seed)
            show(minimised(seed) if minimise else played)
        if number % PROGRESS_EVERY == 0:
            sys.stderr.write(f"{number} schedules, {sum(promises.values())} violations\n")
    seconds = round(time.monotonic() - began, 1)
    report = {
        **counts,
        "violations": sum(promises.values()),
        "promises": dict(promises),
        "seeds_failed": failed,
        "seconds": seconds,
        "schedules_per_s": round(counts["schedules"] / seconds, 1) if seconds else 0,
        # The rule of three: what 95 of 100 such soaks would have found, had it been more frequent than this.
        "bound": 3 / counts["schedules"] if not failed else None,
        "seed": failed[0] if failed else None,
    }
    say(json.dumps(report))
    return 1 if failed else 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def show(played: Played) -> None:
    """The seed, what was broken, and the faults that led there."""
    say(f"seed {played.seed}: {len(played.struck)} faults")
    for at, fault in played.struck:
        say(f"  {at:8.3f} s  {fault}")
    for violation in played.violations:
        say(f"  {violation}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
