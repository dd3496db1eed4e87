"""`make chaos`: strike real processes under load, and judge what is left."""

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any, Final

from deploy.wiring import quiet_logs
from tests.chaos.campaign import Plan, Round, by_kind, moved_on, play
from tests.chaos.field import field

QUICK: Final = os.environ.get("QUICK", "") not in ("", "0")


def say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stdout.flush()


def one_round(plan: Plan, retention: str) -> Round:
    with field(plan.seed, retention_days=retention) as played:
        say(f"{plan.label}: ready after {played.open():.1f} s")
        try:
            return asyncio.run(play(played, plan, say))
        finally:
            if os.environ.get("CHAOS_KEEP"):
                os.system(f"rm -rf /tmp/chaos-kept; cp -r {played.installed.data.parent} /tmp/chaos-kept")


def main() -> int:
    quiet_logs()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=600 if QUICK else 10_000)
    parser.add_argument("--faults", type=int, default=8 if QUICK else 50)
    parser.add_argument("--rate", type=float, default=40 if QUICK else 60)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    plan = Plan(
        label=f"c{given.seed}",
        seed=given.seed,
        runs=given.runs,
        faults=given.faults,
        rate=given.rate,
        only=tuple(filter(None, given.only.split(","))),
    )
    played = one_round(plan, "7")
    for each in played.struck:
        say(f"{each.kind} {each.name} {each.began:.2f} {each.ended - each.began:.1f} {each.said}")
    for violation in played.violations[:50]:
        say(str(violation))
    moved = moved_on(played.struck, played.found)
    told: dict[str, Any] = {
        "faults": len(played.struck),
        "by_kind": by_kind(played.struck),
        "runs": played.found.runs,
        "commits": played.found.commits,
        "events": played.found.events,
        "status": dict(played.found.by_status),
        "doubts": played.found.doubts,
        "doubts_touched": played.found.doubts_touched,
        "effects": played.found.effects,
        "violations": len(played.violations),
        "peace_s": played.peace_s,
        "lasted_s": played.lasted_s,
        "moved": moved,
        "ledger": dict(played.record.outcomes),
        "rebuilt": played.rebuilt,
    }
    say(json.dumps(told))
    return 1 if played.violations else 0


if __name__ == "__main__":
    sys.exit(main())
