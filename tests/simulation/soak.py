"""A million schedules, one figure: `python -m tests.simulation.soak` prints JSON on its last line.

Plays on every core, remembers in a checkpoint what is done, and goes on there when it is started again with the same engine:
what another one did says nothing of this one. Exits with 1 when a promise was broken or the run was interrupted, and shows
the first failures with as few of their faults as they still fail with. `QUICK=1` plays what fits into fifty seconds: seeds
that no other commit begins with. `--seeds 17:18` plays one schedule again.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.simulation.blocks import BLOCK, ROOT, Account, commit_of_the_code, engine_of_the_code, played
from tests.simulation.schedule import Played, minimised, quiet

MILLION: Final = 1_000_000
QUICK_SECONDS: Final = 36.0
QUICK_BLOCK: Final = 50
PROGRESS_SECONDS: Final = 10.0
SHOWN: Final = 3
"""So many failures are narrowed down and shown; the others are named."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.soak", description=__doc__)
    parser.add_argument("--seeds", help="FIRST:LAST, the last one left out; without it 0:1000000")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many at a time")
    parser.add_argument("--checkpoint", type=Path, help="where to remember what is done; build/soak.json")
    parser.add_argument("--fresh", action="store_true", help="forget what a checkpoint says")
    parser.add_argument("--nice", type=int, default=0, help="19: only what nobody else needs of the machine")
    options = parser.parse_args(arguments)
    os.nice(options.nice)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began, commit = time.monotonic(), commit_of_the_code()
    quick = os.environ.get("QUICK", "") not in ("", "0") and options.seeds is None
    seeds = wanted(options.seeds, commit, quick=quick)
    checkpoint: Path | None = options.checkpoint
    if checkpoint is None and options.seeds is None and not quick:
        checkpoint = ROOT / "build" / "soak.json"
    account = resumed(None if options.fresh else checkpoint, engine_of_the_code(), commit)
    end = began + QUICK_SECONDS if quick else float("inf")
    blocks = account.missing(seeds, QUICK_BLOCK if quick else BLOCK)
    before, interrupted = account.seconds, False
    progress = Progress(account, None if quick else len(seeds), began)
    try:
        for tally in played(blocks, options.workers, commit, end):
            account.add(tally)
            account.seconds = before + time.monotonic() - began
            if checkpoint is not None:
                account.save(checkpoint, report(account, seeds, options.workers))
            progress.tell()
    except KeyboardInterrupt:
        interrupted = True
        say(f"interrupted; go on with the same command (checkpoint: {checkpoint})")
    told = report(account, seeds, options.workers) | {"interrupted": interrupted}
    show_failures(told["seeds_failed"])
    say(json.dumps(told))
    return 1 if interrupted or told["violations"] or not told["schedules"] else 0


def resumed(checkpoint: Path | None, engine: str, commit: str) -> Account:
    """What is done already, by this engine alone."""
    account = Account.load(checkpoint) if checkpoint is not None else Account()
    if account.tallies and account.engine != engine:
        say(f"{checkpoint} is of the engine {account.engine}, and this is {engine}: it begins anew")
        account = Account()
    account.engine = engine
    account.forget_what_failed(commit)
    return account


def wanted(seeds: str | None, commit: str, *, quick: bool) -> range:
    """Which schedules; those of a quick run are other ones for every commit, and the same ones for the same."""
    if seeds is not None:
        first, _, last = seeds.partition(":")
        return range(int(first), int(last or int(first) + 1))
    try:
        start = int(commit[:6], 16) * 1_000 if quick else 0
    except ValueError:
        start = 0
    return range(start, start + MILLION)


class Progress:
    """Says now and then how far it is."""

    def __init__(self, account: Account, wanted: int | None, began: float) -> None:
        self._account = account
        self._wanted = wanted
        self._began = self._told = began
        self._before = account.sum().counts.get("schedules", 0)

    def tell(self) -> None:
        now = time.monotonic()
        if now - self._told < PROGRESS_SECONDS:
            return
        self._told = now
        whole = self._account.sum()
        done = whole.counts.get("schedules", 0)
        rate = (done - self._before) / (now - self._began)
        told = (
            f"{done} schedules, {whole.counts.get('faults', 0)} faults, {sum(whole.promises.values())} violations; "
            f"{rate:.0f}/s"
        )
        if self._wanted is not None and rate:
            told += f", {(self._wanted - done) / rate / 60:.0f} minutes left"
        sys.stderr.write(f"{told}\n")


def report(account: Account, seeds: range, workers: int) -> dict[str, Any]:
    """What came of everything that the account knows of."""
    whole = account.sum()
    counts, promises = whole.counts, whole.promises
    schedules, seconds = counts.get("schedules", 0), round(account.seconds, 1)
    violations = sum(promises.values())
    return {
        **{
            name: counts.get(name, 0) for name in ("schedules", "faults", "kills", "runs", "effects", "steps")
        },
        "lost": promises.get("P1", 0),
        "duplicated": promises.get("P2", 0) + promises.get("P5", 0),
        "stuck": promises.get("P3", 0),
        "diverged": promises.get("P4", 0) + promises.get("P6", 0),
        "violations": violations,
        "promises": promises,
        "seed": seeds.start,
        "seeds_failed": whole.failed,
        # The rule of three: what 95 of 100 such soaks would have found, had it been more frequent than this.
        "bound": 3 / schedules if schedules and not violations else None,
        "seconds": seconds,
        "schedules_per_s": round(schedules / seconds, 1) if seconds else 0,
        "workers": workers,
        "python": platform.python_version(),
        "engine": account.engine,
        "commits": {
            tally.commit: sum(
                each.counts.get("schedules", 0) for each in account.tallies if each.commit == tally.commit
            )
            for tally in account.tallies
        },
    }


def show_failures(failed: Sequence[int]) -> None:
    with quiet():
        for seed in failed[:SHOWN]:
            show(minimised(seed))
    if len(failed) > SHOWN:
        say(f"failed, too: {failed[SHOWN:]}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def show(schedule: Played) -> None:
    """The seed, what was broken, and the faults that led there."""
    say(f"seed {schedule.seed}: {len(schedule.struck)} faults")
    for at, fault in schedule.struck:
        say(f"  {at:8.3f} s  {fault}")
    for violation in schedule.violations:
        say(f"  {violation}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
