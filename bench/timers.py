"""How late runs are woken whose time has come, while 100,000 others wait for theirs.

    python -m bench timers        100,000 pending (QUICK=1: 2,000; WAITING=…: as many)

Measured with nothing pending, with all of them, when thousands are due at one moment, over a `kill -9` of the orchestrator in the middle,
and after all of the installation was stopped and started. What became due while nobody was there is late from the moment on at which somebody
is again; it fails when such a run, or the 99th of a hundred of those that became due after it, is more than a second late.
"""

import asyncio
import os
import signal
import time
from datetime import UTC, datetime
from typing import Any, Final

from bench.measure import QUICK, Disagree
from bench.waiting import ACCEPT, WAIT, WAITING, growth, quiet, show, take
from bench.waking import by_time, lateness, woken
from bench.workflows import resting, until_due, until_then
from deploy.testing.installation import Installation, installation

DUE: Final = 200 if QUICK else 1_000
LASTING: Final = 10.0 if QUICK else 20.0
TOGETHER: Final = 1_000 if QUICK else 10_000
TOGETHER_SECONDS: Final = 30.0 if QUICK else 60.0
_OF: Final = "select id from read.runs where workflow = $1"
LATE_MS: Final = 1_000.0
"""So late they may be, right after a start."""


def measure() -> dict[str, Any]:
    """The figures, and what of the promise does not hold."""
    told: dict[str, Any] = {"broken": ""}
    with installation() as running:
        running.start()
        crowd, due = running.install("crowd", resting(), ACCEPT), running.install("due", until_due(), ACCEPT)
        try:
            take(running, crowd, 1)
            _part(told, "before", quiet(running) | _due(running, due))
            _part(told, "start", take(running, crowd, WAITING))
            _part(told, "after", quiet(running) | _due(running, due))
            _part(told, "together", _together(running))
            _part(told, "killed", _killed(running, due))
            _part(told, "started", _started(running, due))
        except Disagree as reason:
            return told | {"broken": f"timers: {reason}"}
    told["kb_per_timer"] = growth(told["before"], told["after"])
    late = {
        f"{when}: {what}": told[when][what][name]
        for when in ("killed", "started")
        for what, name in (("missed", "late_max_ms"), ("later", "late_p99_ms"))
        if told[when].get(what, {}).get(name, 0.0) > LATE_MS
    }
    told["broken"] = f"timers: late by ms {late}" if late else ""
    show("timers", {"kb_per_timer": told["kb_per_timer"]})
    return told


def _part(told: dict[str, Any], name: str, part: dict[str, Any]) -> None:
    """What is known by now is shown by now."""
    told[name] = part
    show("timers", {name: part})


def _due(running: Installation, url: str) -> dict[str, Any]:
    return {"by_time": lateness(woken(running, by_time(url, DUE, LASTING)))}


def _together(running: Installation) -> dict[str, Any]:
    """Thousands are due at one moment: when half of them have moved on, and when all."""
    moment = time.time() + TOGETHER_SECONDS + 10.0
    at = datetime.fromtimestamp(moment, UTC).isoformat()
    opened = running.open("together", until_then(at), ACCEPT)
    take(running, opened.url, running.count(WAIT) + TOGETHER)
    if time.time() > moment:
        raise Disagree(f"{TOGETHER} runs were not taken within {TOGETHER_SECONDS:.0f} s")
    ids = [row[0] for row in asyncio.run(running.rows(_OF, opened.workflow))]
    late = sorted(one.moved_on - moment for one in woken(running, dict.fromkeys(ids, moment)))
    return {"runs": len(late), "half_s": round(late[len(late) // 2], 2), "all_s": round(late[-1], 2)}


def _killed(running: Installation, url: str) -> dict[str, Any]:
    """The orchestrator dies while they become due."""
    due = by_time(url, DUE, LASTING)
    time.sleep(max(0.0, min(due.values()) + LASTING / 4 - time.time()))
    os.kill(running.pids()["orchestrator"], signal.SIGKILL)
    gone = time.time()
    while not running.are_ready(["orchestrator"]):
        if time.time() > gone + 60:
            raise Disagree("the orchestrator does not come back")
        time.sleep(0.01)
    return {"ready_s": round(time.time() - gone, 2), **_split(running, due, gone, time.time())}


def _started(running: Installation, url: str) -> dict[str, Any]:
    """Everything stops and starts while they become due."""
    due = by_time(url, DUE, 2 * LASTING)
    time.sleep(max(0.0, min(due.values()) + LASTING / 8 - time.time()))
    gone = time.time()
    running.stop()
    ready = running.start()
    return {"ready_s": round(ready, 2), **_split(running, due, gone, time.time())}


def _split(running: Installation, due: dict[str, float], gone: float, back: float) -> dict[str, Any]:
    """Those that were missed are late from `back` on."""
    each = woken(running, due)
    missed = [one for one in each if gone <= one.due < back]
    later = [one for one in each if one.due >= back]
    told: dict[str, Any] = {}
    if missed:
        told["missed"] = lateness(missed, since=back)
    if later:
        told["later"] = lateness(later)
    return told
