"""Whether a run costs the same however many runs the installation keeps.

    python -m bench retained      1,000, 20,000 and 200,000 kept runs (QUICK=1: 1,000 and 10,000)

Real runs of three steps fill a fresh installation at full speed. At each size the same loads are measured several times
and compared: means of the CPU, medians of the rest. What filling left behind (dead rows, pages not yet written) is tidied first,
so that it is not billed to what is measured. A million needs the same command with RETAINED=1000,200000,1000000 (filling
alone takes an hour and 25 GB of disk).
"""

import asyncio
import os
import statistics
import sys
import time
from typing import Any, Final

from bench.measure import QUICK, Bench, Disagree, closed
from bench.workflows import echoes
from deploy.testing.installation import installation

SIZES: Final = tuple(
    int(size)
    for size in os.environ.get("RETAINED", "1000,10000" if QUICK else "1000,20000,200000").split(",")
)
TIMES: Final = 3 if QUICK else 5
SECONDS: Final = 2.0 if QUICK else 4.0
MORE: Final = 1.2
"""So much more a run may cost at any size than at the first."""
IN_FLIGHT: Final = 64


def measure() -> dict[str, Any]:
    """The figures by size, and what of the promise does not hold."""
    told: dict[str, Any] = {"by_size": {}, "broken": ""}
    with installation() as running:
        running.start()
        bench = Bench(running)
        url = bench.url("echo3", lambda: echoes(3))
        try:
            closed(url, 8, 1.0)
            for size in SIZES:
                fill(bench, url, size)
                told["by_size"][str(size)] = _at(bench, url)
        except Disagree as reason:
            told["broken"] = f"retained: {reason}"
            return told
    first = told["by_size"][str(SIZES[0])]
    told["times"] = {size: _against(first, each) for size, each in told["by_size"].items()}
    worse = {
        f"{name} at {size}": ratio
        for size, ratios in told["times"].items()
        for name, ratio in ratios.items()
        if ratio > MORE
    }
    if worse:
        told["broken"] = f"retained: a run costs more than at {SIZES[0]:,} kept runs: {worse}"
    return told


def _against(first: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    return {
        "cpu": round(other["us_per_run"] / first["us_per_run"], 2),
        "p50_at_1": round(other["p50_ms_at_1"] / first["p50_ms_at_1"], 2),
        "slower": round(first["runs_per_s"] / other["runs_per_s"], 2),
    }


def fill(bench: Bench, url: str, size: int) -> None:
    """Until so many runs are kept."""
    began, had = time.perf_counter(), bench.completed()
    while (kept := bench.completed()) < size:
        missing = size - kept
        closed(url, 128, max(1.0, min(20.0, missing / 1_000)))
        sys.stdout.write(f"retained: {bench.completed():,} of {size:,}\n")
        sys.stdout.flush()
    bench.until_nothing_is_open("filling")
    if size > had:
        sys.stdout.write(f"retained: filled in {time.perf_counter() - began:.0f} s\n")
    for tidy in ("vacuum (analyze)", "checkpoint"):
        asyncio.run(bench.stack.rows(tidy))
    time.sleep(2.0)


def _at(bench: Bench, url: str) -> dict[str, Any]:
    """Several loads, taken together."""
    kept = bench.completed()
    busy = [
        bench.load(f"kept {kept:,} at {IN_FLIGHT}", url, connections=IN_FLIGHT, seconds=SECONDS)
        for _ in range(TIMES)
    ]
    alone = [bench.load(f"kept {kept:,} at 1", url, connections=1, seconds=SECONDS) for _ in range(TIMES)]
    return {
        "kept": kept,
        "runs_per_s": statistics.median(load["projected_per_s"] for load in busy),
        "us_per_run": round(statistics.mean(sum(load["us_per_run"].values()) for load in busy)),
        "us_per_run_by_process": {
            name: round(statistics.mean(load["us_per_run"].get(name, 0) for load in busy))
            for name in busy[0]["us_per_run"]
        },
        "p50_ms_at_1": statistics.median(load["p50_ms"] for load in alone),
        "rss_mb": bench.stack.rss(),
        "load": busy[-1]["load"],
        "steal_s": sum(load["steal_s"] for load in busy),
    }
