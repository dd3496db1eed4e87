"""What a run costs whose history is very long: a loop of light nodes makes 1,000,000 events (QUICK=1: 100,000).

    python -m bench long

Then: its state as the engine folds it, now and in the middle; the first page of its history and the last; a signal to it after the
orchestrator was killed, which has to load it cold; deciding all of it again; and how much memory its owner took for it.
"""

import json
import os
import signal
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Final

from bench.measure import QUICK, Disagree
from bench.workflows import EVERYBODY, lengthy
from deploy.testing.installation import Installation, installation

ROUNDS: Final = 1_000 if QUICK else 10_000
TIMES: Final = 10
EVENTS: Final = TIMES * ROUNDS * 10
OPEN_MS: Final = 1_000.0
"""So long it may take to open such a run, at most."""
GROWTH_MB: Final = 200.0
"""So much its owner may grow by it."""
LOOKS: Final = 5
LONGEST: Final = 3_600.0


def measure() -> dict[str, Any]:
    """The figures, and what of the promise does not hold."""
    told: dict[str, Any] = {"broken": ""}
    with installation() as running:
        running.start()
        try:
            told |= _grown(running)
            told |= _opened(running, str(told["run"]), int(told["events"]))
            told |= _taken_up(running, str(told["run"]))
            told |= _decided_again(running)
        except Disagree as reason:
            told["broken"] = f"long: {reason}"
            return told
    slow = {
        name: told[name]
        for name in ("state_ms", "state_in_the_middle_ms", "first_page_ms", "last_page_ms")
        if told[name] > OPEN_MS
    }
    if slow:
        told["broken"] = f"long: a run of {told['events']:,} events does not open in {OPEN_MS:.0f} ms: {slow}"
    elif told["owner_grew_mb"] > GROWTH_MB:
        told["broken"] = f"long: its owner grew by {told['owner_grew_mb']} MB"
    sys.stdout.write("".join(f"long: {name} {value}\n" for name, value in told.items()))
    return told


def _grown(running: Installation) -> dict[str, Any]:
    """Until it waits at the end of its loops."""
    url = running.install("lengthy", lengthy(TIMES, ROUNDS), {**EVERYBODY, "mode": "accept"})
    before, cpu, began = running.rss()["orchestrator"], running.cpu(), time.perf_counter()
    headers = {"content-type": "application/json", "idempotency-key": f"long-{time.time_ns()}"}
    with urllib.request.urlopen(urllib.request.Request(url, b"1", headers), timeout=60) as answer:
        run = str(json.load(answer)["run"])
    most = before
    while (
        running.count("select count(*) from read.runs where id = $1 and waits like '%signal:go%'", run) == 0
    ):
        if time.perf_counter() - began > LONGEST:
            raise Disagree(f"the run does not come to its end within {LONGEST:.0f} s")
        time.sleep(1.0)
        most = max(most, running.rss()["orchestrator"])
    seconds = time.perf_counter() - began
    events = running.count("select events from read.runs where id = $1", run)
    if events < EVENTS:
        raise Disagree(f"the run has {events} events, and should have {EVENTS}")
    spent = running.cpu()["orchestrator"] - cpu["orchestrator"]
    return {
        "run": run,
        "events": events,
        "commits": running.count("select head_version from read.runs where id = $1", run),
        "segments": 1 + running.count("select count(*) from archive.seams where run = $1", run),
        "seconds": round(seconds, 1),
        "events_per_s": round(events / seconds),
        "orchestrator_us_per_event": round(spent / events * 1e6, 1),
        "owner_grew_mb": round(most - before, 1),
    }


def _opened(running: Installation, run: str, events: int) -> dict[str, Any]:
    def page(after: int) -> None:
        got = running.call("GET", f"/runs/{run}/events?after={after}&limit=200")["items"]
        if [each["number"] for each in got] != list(range(after + 1, min(after + 200, events) + 1)):
            raise Disagree(f"the page after event {after} is not the one that was asked for")

    return {
        "state_ms": _ms(lambda: running.call("GET", f"/runs/{run}/state")),
        "state_in_the_middle_ms": _ms(lambda: running.call("GET", f"/runs/{run}/state?at={events // 2}")),
        "first_page_ms": _ms(lambda: page(0)),
        "page_in_the_middle_ms": _ms(lambda: page(events // 2)),
        "last_page_ms": _ms(lambda: page(events - 200)),
    }


def _ms(ask: Callable[[], object]) -> float:
    took: list[float] = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        ask()
        took.append(time.perf_counter() - began)
    return round(statistics.median(took) * 1_000, 1)


def _taken_up(running: Installation, run: str) -> dict[str, Any]:
    """The orchestrator dies; the one that comes loads the run to take a signal, and ends it."""
    os.kill(running.pids()["orchestrator"], signal.SIGKILL)
    began = time.perf_counter()
    while not running.are_ready(["orchestrator"]):
        if time.perf_counter() - began > 60:
            raise Disagree("the orchestrator does not come back")
        time.sleep(0.05)
    time.sleep(2.0)
    began = time.perf_counter()
    wished = running.call("POST", f"/runs/{run}/signals", {"signal": "go"})
    took = time.perf_counter() - began
    while running.call("GET", f"/runs/{run}")["status"] != "completed":
        if time.perf_counter() - began > 60:
            raise Disagree("the run does not end after its signal")
        time.sleep(0.2)
    return {"load_and_decide_ms": round(took * 1_000, 1), "signal": wished["status"]}


def _decided_again(running: Installation) -> dict[str, Any]:
    told = json.loads(running.command("replay", "--since", "beginning", "--json").strip().splitlines()[-1])
    return {"replay_events_per_s": told["events_per_s"]}
