"""How long a start takes with many runs kept.

    python -m bench startup       1,000, 20,000 and 200,000 kept runs (QUICK=1: 1,000 and 5,000)

Real runs of three steps fill an installation of its own at full speed. At each size all of it is stopped and started several
times, then killed at once and started: seconds until every service is ready, and until the first run that is asked for
then is answered; and the memory of each process. A million needs the same command with
RETAINED=1000,200000,1000000 (an hour and 25 GB of disk).
"""

import os
import statistics
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from bench.measure import QUICK, Bench, Disagree
from bench.retained import fill
from bench.workflows import EVERYBODY, echoes
from deploy.testing.installation import Installation, installation

SIZES: Final = tuple(
    int(size) for size in os.environ.get("RETAINED", "1000,5000" if QUICK else "1000,20000,200000").split(",")
)
TIMES: Final = 2 if QUICK else 3
ANSWERED_SECONDS: Final = 60.0


def measure() -> dict[str, Any]:
    """The figures by size, and what went wrong."""
    told: dict[str, Any] = {"by_size": {}, "broken": ""}
    with installation() as running:
        running.start()
        bench = Bench(running)
        url = running.install("echo3", echoes(3), EVERYBODY)
        try:
            for size in SIZES:
                fill(bench, url, size)
                told["by_size"][str(size)] = _at(bench, url)
                sys.stdout.write(f"startup: {size:,} kept  {told['by_size'][str(size)]}\n")
                sys.stdout.flush()
        except Disagree as reason:
            told["broken"] = f"startup: {reason}"
    return told


def _at(bench: Bench, url: str) -> dict[str, Any]:
    """A start after a stop, several times; then one after everything was killed."""
    running, kept = bench.stack, bench.completed()
    starts = list[dict[str, float]]()
    for _ in range(TIMES):
        running.stop()
        starts.append(_started(running, url))
    rss = running.rss()
    running.kill()
    killed = _started(running, url)
    return {
        "kept": kept,
        **{name: statistics.median(start[name] for start in starts) for name in starts[0]},
        "after_kill": killed,
        "rss_mb": rss,
        "store_mb": _megabytes(running),
    }


def _started(running: Installation, url: str) -> dict[str, float]:
    """Seconds from the command on."""
    began = time.perf_counter()
    ready = running.start()
    _answered(url, began)
    answered = time.perf_counter() - began
    return {"ready_s": round(ready, 2), "answered_s": round(answered, 2)}


def _answered(url: str, began: float) -> None:
    """The first run that is asked for has ended."""
    headers = {"content-type": "application/json", "idempotency-key": f"first-{time.time_ns()}"}
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, b"1", headers), timeout=60) as answer:
                if answer.status == 200:
                    return
        except OSError as error:
            reason = error
        else:
            reason = OSError(answer.status)
        if time.perf_counter() > began + ANSWERED_SECONDS:
            raise Disagree(f"after the start no run is answered: {reason}")
        time.sleep(0.02)


def _megabytes(running: Installation) -> float:
    """What lies on the disk."""
    total = 0
    for folder, _, names in os.walk(running.data):
        for name in names:
            with suppress(OSError):  # Postgres removes files of its own while we count.
                total += (Path(folder) / name).stat().st_size
    return round(total / 1e6, 1)
