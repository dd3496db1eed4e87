"""`make chaos`: strike real processes under load, and judge what is left by the promises.

A campaign is played in rounds, each on an installation of its own. With `--report FILE` every round is kept as soon as it
is over, beside it the senders' ledger; `--resume` goes on after the last one. QUICK=1: one short round. JSON on the last
line; exit 1 on any violation.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from deploy.wiring import quiet_logs
from tests.chaos.campaign import Plan, Round, play
from tests.chaos.field import field
from tests.chaos.report import keep_ledger, summed, told, versions

QUICK: Final = os.environ.get("QUICK", "") not in ("", "0")
CANNOT: Final = 2
_KEPT_DAYS: Final = ("7", "0.0007")
"""How long ended runs stay in the log: for ever as far as a round goes, or a minute."""
_SHORT: Final = ("F1", "F2", "F3", "F4", "F5", "F6", "F7", "F15", "F16", "F17", "F20", "F25", "F26")
"""The kinds of a quick campaign: those that need no patience."""
_CLOCKS_EVERY: Final = 3
"""In every so many rounds the services' clocks are put wrong too: libfaketime slows all of them down."""


class Order(Struct, frozen=True, kw_only=True):
    """A whole campaign."""

    runs: int
    faults: int
    rate: float
    rounds: int
    seed: str
    only: tuple[str, ...] = ()
    keep: str = ""

    @property
    def command(self) -> str:
        """What to say to play it once more. A report that is gone on with must have been made by the same."""
        only = f" --only {','.join(self.only)}" if self.only else ""
        return (
            f"{'QUICK=1 ' * QUICK}python -m tests.chaos --runs {self.runs} --faults {self.faults} "
            f"--rate {self.rate:g} --rounds {self.rounds} --seed {self.seed}{only}"
        )

    def plan(self, number: int, crashed: Mapping[str, Sequence[int]]) -> Plan:
        """`crashed`: how often somebody died at each named place in the rounds before, and was asked to."""
        return Plan(
            number=number,
            seed=self.seed,
            runs=-(-self.runs // self.rounds),
            faults=-(-self.faults // self.rounds),
            rate=self.rate,
            retention_days=_KEPT_DAYS[number % len(_KEPT_DAYS)],
            only=self.only or (_SHORT if QUICK else ()),
            longest=3.0 if QUICK else 60.0,
            patient=not QUICK,
            crashed={place: sum(counts) for place, counts in crashed.items()},
        )


def say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def one_round(plan: Plan, keep: str) -> Round:
    """Play it on a field of its own; what is left of a round with violations is kept in the folder `keep`."""
    clocks = plan.number % _CLOCKS_EVERY == _CLOCKS_EVERY - 1 or "F13" in plan.only
    with field(plan.label, with_clocks=clocks, retention_days=plan.retention_days) as played:
        say(f"round {plan.number}: ready after {played.open():.1f} s")
        result = asyncio.run(play(played, plan, say))
        if keep and result.found.violations:
            target = Path(keep) / f"round-{plan.number}"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(played.installed.data.parent, target, ignore=_sockets, symlinks=True)
    return result


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_socket()]


def report_of(order: Order, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "command": order.command,
        "seed": order.seed,
        "versions": versions(),
        "sums": summed(rounds),
        "rounds": list(rounds),
    }


class AnotherCommand(Exception):
    """A report holds rounds of another campaign than the one that is asked for."""


def kept_rounds(report: Path, order: Order) -> list[dict[str, Any]]:
    """The rounds of a campaign that was stopped. Raises `AnotherCommand`."""
    kept = json.loads(report.read_text())
    if kept["command"] != order.command:
        raise AnotherCommand(f"{report.name} was made by another command: {kept['command']}")
    rounds: list[dict[str, Any]] = kept["rounds"]
    return rounds


def main() -> int:
    order, report, resume = _asked()
    quiet_logs()
    for asked in (signal.SIGTERM, signal.SIGINT):  # Either way everything is stopped and removed.
        signal.signal(asked, signal.default_int_handler)
    rounds: list[dict[str, Any]] = []
    if report is not None and resume and report.exists():
        try:
            rounds = kept_rounds(report, order)
        except AnotherCommand as reason:
            sys.stderr.write(f"{reason}\n")
            return CANNOT
        say(f"{len(rounds)} rounds are done already")
    elif report is not None:
        ledger_of(report).unlink(missing_ok=True)
    for number in range(len(rounds), order.rounds):
        played = one_round(order.plan(number, summed(rounds)["crashes"]), order.keep)
        rounds.append(told(played))
        for violation in rounds[-1]["first_violations"]:
            say(violation)
        if report is not None:
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(json.dumps(report_of(order, rounds), indent=1) + "\n")
            keep_ledger(ledger_of(report), played)
        sums = summed(rounds)
        say(
            f"so far: {sums['faults']} faults, {sums['runs']} runs, {sums['violations']} violations, {sums['lasted_s']:.0f} s"
        )
    sums = summed(rounds)
    said = {**sums, "command": order.command, "seed": order.seed, "versions": versions()}
    sys.stdout.write(json.dumps(said) + "\n")
    return 1 if sums["violations"] else 0


def ledger_of(report: Path) -> Path:
    return report.with_name(report.stem + ".ledger.jsonl.xz")


def _asked() -> tuple[Order, Path | None, bool]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=360 if QUICK else 100_000)
    parser.add_argument("--faults", type=int, default=8 if QUICK else 500)
    parser.add_argument("--rate", type=float, default=35 if QUICK else 60, help="new deliveries a second")
    parser.add_argument("--rounds", type=int, default=1 if QUICK else 10)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", default="", help="kinds of faults: F1,F7")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on after the last round in the report")
    parser.add_argument("--keep", default="", help="where to keep what a round with violations left")
    given = parser.parse_args()
    order = Order(
        runs=given.runs,
        faults=given.faults,
        rate=given.rate,
        rounds=given.rounds,
        seed=given.seed,
        only=tuple(filter(None, given.only.split(","))),
        keep=given.keep,
    )
    return order, given.report, given.resume


if __name__ == "__main__":
    sys.exit(main())
