"""How fast an installation's own past is decided again: `automateos replay --since beginning` over what a load left behind.

python -m bench.replay [--seconds 20]      makes an installation of its own, loads it and measures.
"""

import argparse
import json
import sys
import time
from typing import Any, Final

from bench.measure import QUICK, Bench
from bench.workflows import EVERYBODY, echoes
from deploy.testing.installation import Installation, installation

EVENTS: Final = 20_000 if QUICK else 100_000
"""Fewer say nothing: the first moments of a process would be most of it."""
_THERE: Final = "select coalesce(sum(events), 0)::bigint from read.runs"


def row(bench: Bench) -> None:
    """All that the rows before left behind; runs of three steps where that is too little."""
    url = bench.url("echo3", lambda: echoes(3))
    while bench.stack.count(_THERE) < EVENTS:
        bench.load("for the replay", url, connections=128)
    told = replay_events_per_s(bench.stack)
    bench.results |= told
    sys.stdout.write(
        f"replay  {told['replay_events_per_s']} events/s, {told['replay_events_per_cpu_s']} per second of its core,"
        f" of {told['replay']['events']}\n"
    )


def replay_events_per_s(stack: Installation) -> dict[str, Any]:
    """Its rate over everything the installation has, and that of the one core that it had; raises when a run is decided differently."""
    told = json.loads(stack.command("replay", "--since", "beginning", "--json").strip().splitlines()[-1])
    return {
        "replay_events_per_s": told["events_per_s"],
        "replay_events_per_cpu_s": round(told["events"] / told["cpu_seconds"]),
        "replay": told,
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long it is loaded first")
    parser.add_argument("--keep", action="store_true", help="wait for Enter before everything is removed")
    options = parser.parse_args(arguments)
    with installation() as stack:
        stack.start()
        url = stack.install("echo3", echoes(3), EVERYBODY)
        _load(stack, url, options.seconds)
        sys.stdout.write(json.dumps(replay_events_per_s(stack)) + "\n")
        if options.keep:
            sys.stdout.write(f"{stack.environ['AUTOMATEOS_DATA_DIR']}\n")
            sys.stdout.flush()
            sys.stdin.readline()
    return 0


def _load(stack: Installation, url: str, seconds: float) -> None:
    import subprocess

    command = [sys.executable, "-m", "bench.load", url, "--connections", "128", "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    accepted = json.loads(done.stdout.strip().splitlines()[-1])["requests"]
    sql = "select count(*) from read.runs where status = 'completed'"
    for _ in range(600):
        if stack.count(sql) >= accepted:
            return
        time.sleep(0.1)
    raise RuntimeError("the projections do not catch up")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
