"""Whether one org's crowd delays another org's single run.

    python -m bench fair          a crowd of 100,000 runs (QUICK=1: 5,000; CROWD=…: as many)

The crowd is taken in while its workflow is paused, so that all of it waits at once. Then the pause ends, and the other org
starts one run after the other: each is answered when it has ended. What it takes alone stands beside it.
"""

import os
import statistics
import sys
import time
import urllib.request
from typing import Any, Final

from bench.measure import QUICK, Bench, Disagree, own
from bench.workflows import EVERYBODY, echoes
from deploy.testing.installation import installation

CROWD: Final = int(os.environ.get("CROWD", "5000" if QUICK else "100000"))
TIMES: Final = 10 if QUICK else 30
DELAY_MS: Final = 1_000.0
"""By so much more a run of the other org may take, at the most."""
LOADED_SECONDS: Final = 600.0
ACCEPT: Final = EVERYBODY | {"mode": "accept"}


def measure() -> dict[str, Any]:
    """The figures, and what of the promise does not hold."""
    with installation(most_backlog="10000000") as running:
        running.start()
        bench = Bench(running)
        crowd = running.open("crowd", echoes(1), ACCEPT)
        quiet = running.open("quiet", echoes(1), EVERYBODY, running.key_of("org_quiet"))
        _ended(quiet.url)
        what = {"what": "workflow", "name": crowd.workflow}
        try:
            alone = [_ended(quiet.url) for _ in range(TIMES)]
            running.call("POST", "/pauses/begin", what)
            time.sleep(1.0)
            held = _fill(bench, crowd.url)
            running.call("POST", "/pauses/end", what)
            time.sleep(1.0)
            beside = [_ended(quiet.url) for _ in range(TIMES)]
            left = sum(lane["waiting"] for lane in running.call("GET", "/pauses")["held"])
        except Disagree as reason:
            return {"broken": f"fair: {reason}"}
    told = {
        "crowd": held,
        "left": left,
        "alone_p50_ms": round(statistics.median(alone), 1),
        "beside_p50_ms": round(statistics.median(beside), 1),
        "beside_max_ms": round(max(beside), 1),
    }
    told["delay_max_ms"] = round(told["beside_max_ms"] - told["alone_p50_ms"], 1)
    faults = [] if left else ["the crowd was gone before the other org was measured"]
    faults += [f"delayed by {told['delay_max_ms']} ms"] if told["delay_max_ms"] > DELAY_MS else []
    sys.stdout.write("fair  " + "  ".join(f"{name} {value}" for name, value in told.items()) + "\n")
    return told | {"broken": "; ".join(faults)}


def _fill(bench: Bench, url: str) -> int:
    """So many runs are accepted and held."""
    began, taken = time.monotonic(), 0
    while taken < CROWD:
        if time.monotonic() - began > LOADED_SECONDS:
            raise Disagree(f"only {taken} of {CROWD} runs were taken in {LOADED_SECONDS} s")
        taken += own(url, 128, 5.0)["ok"]
    held = bench.stack.call("GET", "/pauses")["held"]
    if sum(lane["paused"] + lane["waiting"] for lane in held) < taken // 2:
        raise Disagree(f"{taken} runs were taken, and held is {held}")
    return taken


def _ended(url: str) -> float:
    """Milliseconds from a run's request to its answer, which comes when it has ended."""
    headers = {"content-type": "application/json", "idempotency-key": f"fair-{time.time_ns()}"}
    began = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(url, b'{"n": 1}', headers), timeout=60) as answer:
        if answer.status != 200:
            raise Disagree(f"the quiet org was answered {answer.status}")
        answer.read()
    return (time.perf_counter() - began) * 1_000
