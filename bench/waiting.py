"""What 100,000 runs cost that wait for somebody, and how soon one of them is woken.

    python -m bench waiting       100,000 runs (QUICK=1: 2,000; WAITING=…: as many)

They are taken in at full speed by a webhook in mode accept. Before and after: the memory of every process, what each computes
while nothing happens, and how soon runs go on that are told a signal or are due. What is counted at both ends: every run that
was accepted waits.
"""

import asyncio
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Final

from bench.measure import QUICK, Disagree, closed
from bench.waking import by_signal, by_time, lateness, shares, woken
from bench.workflows import EVERYBODY, standing, until_due
from deploy.testing.installation import Installation, installation

WAITING: Final = int(os.environ.get("WAITING", "2000" if QUICK else "100000"))
WOKEN: Final = 100 if QUICK else 500
"""So many are woken by each means."""
LASTING: Final = 5.0 if QUICK else 20.0
IDLE_SECONDS: Final = 5.0 if QUICK else 20.0
TAKEN_SECONDS: Final = 900.0
FIRST: Final = 500
"""So many wait when it is measured for the first time."""
MOST_REFUSED: Final = 20_000
"""So many requests may be refused before the first is taken: on a busy machine some are."""
ACCEPT: Final = EVERYBODY | {"mode": "accept"}
WAIT: Final = "select count(*) from read.runs where status = 'waiting'"
_SOME: Final = "select id from read.runs where status = 'waiting' and workflow = $1 order by id limit $2"


def measure() -> dict[str, Any]:
    """The figures, and what of the promise does not hold."""
    told: dict[str, Any] = {"broken": ""}
    with installation() as running:
        running.start()
        crowd = running.open("crowd", standing(), ACCEPT)
        due = running.install("due", until_due(), ACCEPT)
        try:
            for when, count in (("before", FIRST), ("after", WAITING)):
                told[f"taken_{when}"] = take(running, crowd.url, count)
                told[when] = _at(running, crowd.workflow, due)
                show("waiting", {name: told[name] for name in (f"taken_{when}", when)})
        except Disagree as reason:
            return told | {"broken": f"waiting: {reason}"}
    told["kb_per_run"] = growth(told["before"], told["after"])
    show("waiting", {"kb_per_run": told["kb_per_run"]})
    return told


def take(running: Installation, url: str, count: int) -> dict[str, Any]:
    """Start runs until so many wait; all that were accepted do."""
    began, accepted = time.perf_counter(), 0
    had = running.count(WAIT)
    cpu, busy, refused = running.cpu(), 0.0, 0
    while had + accepted < count:
        if time.perf_counter() - began > TAKEN_SECONDS:
            raise Disagree(f"only {accepted} of {count} runs were taken in {TAKEN_SECONDS:.0f} s")
        missing = count - had - accepted
        loaded = closed(url, 128, max(1.0, min(10.0, missing / 1_500)))
        accepted, busy = accepted + loaded["ok"], busy + loaded["seconds"]
        refused += loaded["requests"] - loaded["ok"]
        if refused > MOST_REFUSED and not accepted:
            raise Disagree(f"no run was taken: {_answer(url)}")
    until = time.perf_counter() + TAKEN_SECONDS
    # A load generator goes home with its last requests unanswered: their runs wait too.
    while (wait := running.count(WAIT)) < had + accepted:
        if time.perf_counter() > until:
            raise Disagree(f"{accepted} runs were accepted, and {wait - had} wait")
        time.sleep(0.2)
    lag = time.perf_counter() - began - busy
    spent = {name: seconds - cpu.get(name, 0.0) for name, seconds in running.cpu().items()}
    return {
        "runs": wait,
        "per_s": round(accepted / max(busy, 0.001), 1),
        "refused": refused,
        "projected_after_s": round(lag, 1),
        "us_per_run": {name: round(seconds / max(1, accepted) * 1e6) for name, seconds in spent.items()},
    }


def _answer(url: str) -> str:
    """What one request gets."""
    headers = {"content-type": "application/json", "idempotency-key": f"asked-{time.time_ns()}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, b"1", headers), timeout=60) as answer:
            return f"{answer.status} {answer.read(500).decode(errors='replace')}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read(500).decode(errors='replace')}"


def _at(running: Installation, workflow: str, due: str) -> dict[str, Any]:
    """Everything that is measured, with as many as wait now."""
    told = quiet(running)
    ids = [row[0] for row in _rows(running, workflow)]
    took, said = by_signal(running, ids)
    signalled = lateness(woken(running, said)) | shares("answer", took)
    timed = lateness(woken(running, by_time(due, WOKEN, LASTING)))
    return told | {"by_signal": signalled, "by_time": timed}


def _rows(running: Installation, workflow: str) -> list[Any]:
    return asyncio.run(running.rows(_SOME, workflow, WOKEN))


def quiet(running: Installation) -> dict[str, Any]:
    """Memory, and what every process computes while nothing happens, in thousandths of a core."""
    time.sleep(2.0)
    cpu, began = running.cpu(), time.perf_counter()
    time.sleep(IDLE_SECONDS)
    lasted = time.perf_counter() - began
    idle = {
        name: round((seconds - cpu.get(name, 0.0)) / lasted * 1_000)
        for name, seconds in running.cpu().items()
    }
    return {"waiting": running.count(WAIT), "rss_mb": running.rss(), "idle_millicores": idle}


def growth(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Kilobytes by which each process grew, per run that waits."""
    more = max(1, after["waiting"] - before["waiting"])
    return {
        name: round((rss - before["rss_mb"].get(name, 0.0)) * 1_000 / more, 2)
        for name, rss in after["rss_mb"].items()
    }


def show(row: str, told: dict[str, Any]) -> None:
    sys.stdout.write("".join(f"{row}: {name} {value}\n" for name, value in told.items()))
    sys.stdout.flush()
