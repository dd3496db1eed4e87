"""One side of a paired comparison: the rows of the main path, against the checkout that `PYTHONPATH` leads to.

    python -m bench.side [row …]        the rows of `bench.paired`, which copies this package into the checkout and calls this.

Nothing here may ask more of a checkout than an installation that starts, takes a workflow and counts.
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


def main() -> int:
    """Measure, and print everything as JSON on the last line."""
    with installation(egress_allow="127.0.0.1/32:*") as running:
        first = running.start()
        running.stop()
        ready = running.start()
        bench = Bench(running)
        bench.results |= {"ready_s": round(ready, 2), "first_start_s": round(first, 2)}
        bench.results |= {"load_generator": "wrk" if has_wrk() else "bench.load", "broken": ""}
        try:
            rows.warm(bench)
            rows.idle(bench)
            for name in sys.argv[1:] or ROWS:
                ROWS[name](bench)
        except Disagree as reason:
            bench.results["broken"] = str(reason)
    sys.stdout.write(json.dumps(bench.results) + "\n")
    return 1 if bench.results["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
