"""One side of a paired comparison: the rows of the main path, against the checkout that `PYTHONPATH` leads to.

    python -m bench.side        `bench.paired` copies this package into the checkout, calls this, and says row after row.

A row's name comes on each line of standard input; what it measured is the last line said. Nothing here may ask more of a checkout than
an installation that starts, takes a workflow and counts.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Final

from bench import rows
from bench.measure import Bench, Disagree, has_wrk
from deploy.testing.installation import installation

ROWS: Final[Mapping[str, Callable[[Bench], None]]] = {
    "one": rows.one,
    "echo": rows.echo,
    "http": rows.http,
    "respond": rows.respond,
    "forty": rows.forty,
    "rebuild": rows.rebuild,
    "killed": rows.killed,
}
SAID: Final = "side: "
"""Before what was measured: rows say other things too."""
START: Final = "start"
"""The row before all others: stopped, started, and nothing asked of it yet."""


def started(bench: Bench) -> None:
    """How long a start takes that is not the first, and what memory it needs."""
    bench.stack.stop()
    bench.results["ready_s"] = round(bench.stack.start(), 2)
    rows.warm(bench)
    rows.idle(bench)


def main() -> int:
    """Measure what is asked for, until nothing is asked any more."""
    with installation(egress_allow="127.0.0.1/32:*") as running:
        running.start()
        bench = Bench(running)
        for line in sys.stdin:
            bench.results = {"load_generator": "wrk" if has_wrk() else "bench.load", "broken": ""}
            try:
                started(bench) if line.strip() == START else ROWS[line.strip()](bench)
            except Disagree as reason:
                bench.results["broken"] = str(reason)
            sys.stdout.write(f"{SAID}{json.dumps(bench.results)}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
