"""`make chaos-cluster`: three nats-servers in network namespaces of their own, cut apart and killed under load (F22).

A full run is made of rounds, each on a fresh installation. A round that is done stands in the progress file, so that a run
that was stopped goes on with the next one: say the same seed again.
"""

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from deploy.wiring import quiet_logs
from tests.chaos.cluster.network import NotPermitted, enter_own_namespaces
from tests.chaos.cluster.rounds import Outcome, Plan, play
from tests.chaos.report import versions

QUICK: Final = os.environ.get("QUICK", "") not in ("", "0")
CANNOT: Final = 2
STOPPED: Final = 130
_QUICK_KINDS: Final = ("minority_with_clients", "leader_kill", "majority")
_PER_ROUND: Final = (
    *("minority", "minority_with_clients", "unplugged", "majority", "bridge", "one_way", "clients_cut"),
    *("minority_with_clients", "bridge", "majority"),
    *("leader_kill", "leader_kill", "rolling_restart", "lost_disk", "bad_line"),
)
"""Ten partitions and two leader kills: ten rounds of it are the 100 and 20 of the matrix."""


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")


def plans(seed: str, rounds: int, rate: float) -> list[Plan]:
    if QUICK:
        return [Plan(seed=seed, kinds=_QUICK_KINDS, rate=rate, cut_seconds=(2.5, 3.5), shift_seconds=5.0)]
    made: list[Plan] = []
    for number in range(rounds):
        kinds = list(_PER_ROUND)
        random.Random(f"{seed}/{number}").shuffle(kinds)
        made.append(Plan(seed=f"{seed}r{number}", kinds=tuple(kinds), rate=rate, cut_seconds=(2.0, 14.0)))
    return made


def command(given: argparse.Namespace) -> str:
    """What to say to play it once more."""
    only = f" --only {given.only}" if given.only else ""
    quick = "QUICK=1 " if QUICK else ""
    said = f"--seed {given.seed} --rounds {given.rounds} --rate {given.rate:g}{only}"
    return f"{quick}python -m tests.chaos.cluster {said}"


def summary(seed: str, outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    by_kind = Counter[str]()
    told = Counter[str]()
    for outcome in outcomes:
        by_kind.update(outcome.faults)
        told.update(outcome.told)
    healed = sorted(each for outcome in outcomes for each in outcome.healed_s)
    return {
        "faults": by_kind.total(),
        "partitions": sum(outcome.partitions for outcome in outcomes),
        "by_kind": dict(by_kind),
        "runs": sum(outcome.runs for outcome in outcomes),
        "commits": sum(outcome.commits for outcome in outcomes),
        "deliveries": dict(told),
        "lost": sum(outcome.of("P1") for outcome in outcomes),
        "duplicated": sum(outcome.of("P2", "P5") for outcome in outcomes),
        "stuck": sum(outcome.of("P3", "P9") for outcome in outcomes),
        "diverged": sum(outcome.of("P4", "P6") for outcome in outcomes),
        "refused_without_reason": sum(outcome.of("P11") for outcome in outcomes),
        "violations": sum(len(outcome.violations) for outcome in outcomes),
        "healed_p50_s": round(statistics.median(healed), 2) if healed else None,
        "healed_max_s": healed[-1] if healed else None,
        "rounds": [
            {"faults": sum(outcome.faults.values()), "by_kind": outcome.faults}
            | {
                name: getattr(outcome, name)
                for name in (
                    "seed",
                    "runs",
                    "commits",
                    "told",
                    "violations",
                    "healed_s",
                    "peace_s",
                    "seconds",
                )
            }
            for outcome in outcomes
        ],
        "seed": seed,
        "quick": QUICK,
        "seconds": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster", description=__doc__)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rate", type=float, default=15.0, help="new deliveries a second")
    parser.add_argument("--only", default="", help="kinds of faults, separated by commas")
    parser.add_argument("--progress", type=Path, help="where the rounds that are done are kept")
    parser.add_argument("--keep", default="", help="a folder for stores, logs and ledgers of every round")
    given = parser.parse_args()
    try:
        enter_own_namespaces()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Everything is removed then, too.
        quiet_logs()
        return run(given)
    except NotPermitted as reason:
        say(str(reason))
        return CANNOT
    except KeyboardInterrupt:
        say("stopped; nothing is left of it")
        return STOPPED


def run(given: argparse.Namespace) -> int:
    began = time.monotonic()
    progress: Path = given.progress or Path(tempfile.gettempdir()) / f"chaos-cluster-{given.seed}.jsonl"
    done = {} if QUICK or given.only else _done(progress)
    outcomes: list[Outcome] = []
    chosen = tuple(kind for kind in given.only.split(",") if kind)
    for each in plans(given.seed, given.rounds, given.rate):
        plan = msgspec.structs.replace(each, kinds=chosen or each.kinds, keep=given.keep)
        outcome = done.get(plan.seed) or play(plan, say)
        if plan.seed not in done and not QUICK and not chosen:
            progress.parent.mkdir(parents=True, exist_ok=True)
            with progress.open("ab") as file:
                file.write(msgspec.json.encode(outcome) + b"\n")
        for violation in outcome.violations[:20]:
            say(f"{plan.seed}: {violation}")
        outcomes.append(outcome)
        say(f"{plan.seed}: {outcome.runs} runs, {len(outcome.violations)} violations, {outcome.seconds} s")
    told = {"command": command(given), "versions": versions()}
    told |= summary(given.seed, outcomes, time.monotonic() - began)
    sys.stdout.write(json.dumps(told) + "\n")
    return 1 if told["violations"] else 0


def _done(progress: Path) -> dict[str, Outcome]:
    """The rounds of a run that was stopped."""
    lines = progress.read_bytes().splitlines() if progress.exists() else []
    found = [msgspec.json.decode(line, type=Outcome) for line in lines]
    return {outcome.seed: outcome for outcome in found}


if __name__ == "__main__":
    sys.exit(main())
