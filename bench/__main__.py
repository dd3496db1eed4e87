"""`make bench`: the main path under load, every figure with what stood beside it, counted at both ends.

    python -m bench [row …]      QUICK=1: within 50 s.  JSON on the last line; exit 1 when counts disagree or a promise is broken.

Rows: one echo http respond forty map gated rebuild killed overload replay; retained, startup, fair, long, waiting and timers make
installations of their own. Two commits against each other: python -m bench.paired.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from bench import fair, long, maps, overload, replay, retained, rows, startup, timers, waiting
from bench.measure import QUICK, Bench, Disagree, has_wrk
from deploy.testing.installation import installation

ROWS: Final[Mapping[str, Callable[[Bench], None]]] = {
    "one": rows.one,
    "echo": rows.echo,
    "http": rows.http,
    "respond": rows.respond,
    "forty": rows.forty,
    "map": maps.row,
    "gated": rows.gated,
    "replay": replay.row,
    "rebuild": rows.rebuild,
    "killed": rows.killed,
    "overload": overload.row,
}
IN_QUICK: Final = ("one", "echo", "http", "respond", "rebuild")
ALONE: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "retained": retained.measure,
    "fair": fair.measure,
    "long": long.measure,
    "startup": startup.measure,
    "waiting": waiting.measure,
    "timers": timers.measure,
}
"""Their figures depend on what is there already: each has an installation of its own, and is asked for by name."""


def measure(wanted: list[str]) -> dict[str, Any]:
    """The rows that share one installation, in the order they were asked for."""
    with installation(egress_allow="127.0.0.1/32:*") as running:
        first = running.start()
        running.stop()
        ready = running.start()
        bench = Bench(running)
        bench.results |= {"ready_s": round(ready, 2), "first_start_s": round(first, 2), "sync": "always"}
        bench.results |= {"load_generator": "wrk" if has_wrk() else "bench.load", "broken": ""}
        try:
            rows.warm(bench)
            rows.idle(bench)
            for name in wanted:
                ROWS[name](bench)
        except Disagree as reason:
            bench.results["broken"] = str(reason)
    sys.stdout.write(
        f"ready {ready:.2f} s (first start {first:.2f} s), five services idle {bench.results.get('rss_mb')} MB\n"
    )
    return bench.results


def main() -> int:
    wanted = sys.argv[1:] or list(IN_QUICK if QUICK else ROWS)
    if unknown := [name for name in wanted if name not in {*ROWS, *ALONE}]:
        sys.stderr.write(f"There is no row {unknown[0]}. Rows: {' '.join([*ROWS, *ALONE])}\n")
        return 2
    shared = [name for name in wanted if name not in ALONE]
    results: dict[str, Any] = measure(shared) if shared else {"broken": ""}
    for name in [name for name in wanted if name in ALONE]:
        told = ALONE[name]()
        results[name] = told
        results["broken"] = results["broken"] or told["broken"]
    if results["broken"]:
        sys.stdout.write(f"BROKEN: {results['broken']}\n")
    sys.stdout.write(json.dumps(results) + "\n")
    return 1 if results["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
