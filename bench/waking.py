"""How soon runs that wait are woken: a few of them are told, or due, and the rows say when each moved on.

All times are of one machine. `moved_on` is the time of the commit in which the step behind the wait was asked for, which is read
before it is stored; `done` that of the commit with what the step gave, so it bounds from above what the first one leaves out.
"""

import asyncio
import http.client
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from bench.measure import Disagree
from deploy.testing.installation import Installation

PATIENCE: Final = 120.0
_AFTER: Final = """
select s.run, extract(epoch from s.scheduled)::float8, extract(epoch from s.ended)::float8
from read.steps s where s.run = any($1::text[]) and s.path = 'after' and s.ended is not null
"""


class Woken(Struct, frozen=True):
    """One run that was woken; Unix seconds."""

    due: float
    moved_on: float
    done: float


def shares(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th of 100, in milliseconds."""
    ordered = sorted(seconds)
    return {
        f"{name}_p50_ms": round(statistics.median(ordered) * 1_000, 1),
        f"{name}_p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1_000, 1),
    }


def by_time(url: str, count: int, lasting: float, ahead: float = 2.0) -> dict[str, float]:
    """Start runs that become due one after the other, `lasting` seconds from first to last, and give when each is due.

    The first is due about `ahead` seconds after all of them have been taken.
    """
    path = urlsplit(url)
    line = http.client.HTTPConnection(path.hostname or "", path.port, timeout=60)
    most = ahead + 0.03 * count
    first = time.time() + most
    due: dict[str, float] = {}
    try:
        for number in range(count):
            at = first + lasting * number / count
            body = json.dumps({"until": datetime.fromtimestamp(at, UTC).isoformat()})
            headers = {"content-type": "application/json", "idempotency-key": f"due-{time.time_ns()}"}
            line.request("POST", path.path, body, headers)
            answer = line.getresponse()
            told = json.loads(answer.read())
            if answer.status != 202:
                raise Disagree(f"a run that becomes due was answered {answer.status}: {told}")
            due[told["run"]] = at
    finally:
        line.close()
    if time.time() > first:
        raise Disagree(
            f"{count} runs were taken in {time.time() - first + 2.0 + 0.03 * count:.0f} s, too slow"
        )
    return due


def by_signal(running: Installation, runs: Sequence[str]) -> tuple[list[float], dict[str, float]]:
    """Say to one run after the other that it may go on: how long each answer took, and when each was told."""
    took, told = list[float](), dict[str, float]()
    for run in runs:
        told[run] = time.time()
        running.call("POST", f"/runs/{run}/signals", {"signal": "go"})
        took.append(time.time() - told[run])
    return took, told


def woken(running: Installation, due: Mapping[str, float]) -> list[Woken]:
    """Wait until all of them have moved on."""
    last = max(due.values())
    while True:
        found = asyncio.run(running.rows(_AFTER, list(due)))
        if len(found) == len(due):
            return [Woken(due[run], moved_on, done) for run, moved_on, done in found]
        if time.time() > last + PATIENCE:
            raise Disagree(
                f"{len(due) - len(found)} of {len(due)} runs were not woken within {PATIENCE:.0f} s"
            )
        time.sleep(0.25)


def lateness(each: Sequence[Woken], since: float = 0.0) -> dict[str, Any]:
    """How long after they were due they moved on. `since`: from this moment on, for those that were due before it."""
    late = [max(0.0, one.moved_on - max(one.due, since)) for one in each]
    done = [max(0.0, one.done - max(one.due, since)) for one in each]
    told: dict[str, Any] = {"runs": len(each), **shares("late", late), **shares("done", done)}
    return told | {"late_max_ms": round(max(late) * 1_000, 1)}
