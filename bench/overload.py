"""Three times as much as it can do, in open loop: it must refuse, stay small, answer what it takes, and recover.

Judged is what was sent after the first two seconds; how the beginning was answered stands beside it. Latencies count from
the moment at which a request was due, however late the generator was; its own lateness stands beside them, too.
"""

import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench.load import BODY, REFUSALS
from bench.measure import QUICK, Bench, Disagree, own
from bench.workflows import EVERYBODY, echoes, light
from contracts import limits
from deploy.testing.installation import SERVICES, Installation

TIMES: Final = 3
QUIET_SHARE: Final = 0.1
SLOWER: Final = 5
RECOVERED_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 2.0
CONNECTIONS: Final = 512
SECONDS: Final = 8.0 if QUICK else 30.0
ACCEPT: Final = EVERYBODY | {"mode": "accept"}

MEMORY_MB: Final = {
    name: getattr(limits, f"{name.upper()}_MEMORY_BYTES") / 1_000_000
    for name in (*SERVICES, "nats", "postgres", "redis", "mail")
}
"""Every process of an embedded stack."""


def row(bench: Bench) -> None:
    """Mode accept with three action steps, mode respond with light nodes."""
    busy, plain = bench.url("echo3", lambda: echoes(3)), bench.url("light", light)
    taken = bench.stack.install("echo3-accept", echoes(3), ACCEPT)
    told = {
        "accept": _one(bench, taken, bench.load("three steps at 128", busy, connections=128)["per_s"]),
        "respond": _one(bench, plain, bench.load("light at 128", plain, connections=128)["per_s"]),
    }
    bench.results["overload"] = told
    faults = [f"{mode}: {fault}" for mode, each in told.items() for fault in each["broken"]]
    if faults:
        raise Disagree("overload: " + "; ".join(faults))


def _one(bench: Bench, url: str, capacity: float) -> dict[str, Any]:
    """`capacity`: how many such runs a second are done at most, from request to end."""
    quiet = own(url, 64, SECONDS / 2, capacity * QUIET_SHARE)
    bench.until_nothing_is_open("quiet")
    before = bench.completed()
    with _watched(bench.stack) as most:
        loaded = own(url, CONNECTIONS, SECONDS, capacity * TIMES, SETTLE_SECONDS)
    recovered = _recovered(bench, url, before + loaded["ok"], SLOWER * quiet["p99_ms"] / 1_000)
    refused = {status: count for status, count in loaded["statuses"].items() if status in REFUSALS}
    told = {
        "capacity_per_s": capacity,
        "offered_per_s": round(loaded["requests"] / loaded["seconds"], 1),
        "accepted_per_s": loaded["per_s"],
        "refused_per_s": {status: round(count / loaded["seconds"], 1) for status, count in refused.items()},
        "statuses": loaded["statuses"],
        "without_retry_after": loaded["without_retry_after"],
        "quiet_p99_ms": quiet["p99_ms"],
        "accepted_p50_ms": loaded["p50_ms"],
        "accepted_p99_ms": loaded["p99_ms"],
        "accepted_p99_ms_at_first": loaded["early_p99_ms"],
        "times_quiet": round(loaded["p99_ms"] / quiet["p99_ms"], 1),
        "generator_late_p99_ms": loaded["late_p99_ms"],
        "max_rss_mb": {name: round(megabytes, 1) for name, megabytes in most.items()},
        "recovered_s": recovered,
    }
    told["broken"] = _broken(told, refused)
    time.sleep(SETTLE_SECONDS)  # What follows is no part of the crowd.
    sys.stdout.write("  ".join(f"{name} {value}" for name, value in told.items()) + "\n")
    sys.stdout.flush()
    return told


def _broken(told: dict[str, Any], refused: dict[str, int]) -> list[str]:
    """What of the promise does not hold."""
    faults = []
    others = {s: n for s, n in told["statuses"].items() if s not in {"200", "202", *REFUSALS}}
    if others:
        faults.append(f"answers that are neither a yes nor a refusal: {others}")
    if not refused:
        faults.append("nothing was refused")
    if told["without_retry_after"]:
        faults.append(f"{told['without_retry_after']} refusals without Retry-After")
    if told["times_quiet"] > SLOWER:
        faults.append(f"accepted p99 is {told['times_quiet']} times that of quiet times")
    for name, megabytes in told["max_rss_mb"].items():
        if megabytes > MEMORY_MB[name]:
            faults.append(f"{name} held {megabytes} MB")
    if told["recovered_s"] > RECOVERED_SECONDS:
        faults.append(f"recovered after {told['recovered_s']} s")
    return faults


@contextmanager
def _watched(stack: Installation) -> Iterator[dict[str, float]]:
    """The most resident megabytes of each process while the block runs."""
    most: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            for name, megabytes in stack.rss().items():
                most[name] = max(most.get(name, 0.0), megabytes)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield most
    finally:
        over.set()
        watching.join()


def _recovered(bench: Bench, url: str, wanted: int, soon: float) -> float:
    """Seconds until a request is taken and answered soon, and every run that was accepted has ended and is projected."""
    began = time.perf_counter()
    probes = answered = 0
    while True:
        if not answered:
            probes += 1
            asked = time.perf_counter()
            status = _probe(url, probes)
            wanted += status < 300
            answered = status < 300 and time.perf_counter() - asked <= soon
        if answered and bench.completed() >= wanted:
            break
        if time.perf_counter() - began > 2 * RECOVERED_SECONDS:
            raise Disagree(
                f"not recovered: {bench.completed()} of {wanted} runs completed, answered: {answered}"
            )
        time.sleep(0.1)
    lasted = round(time.perf_counter() - began, 2)
    bench.until_nothing_is_open("overload")
    if (found := bench.completed()) != wanted:
        raise Disagree(f"overload: {found} runs completed in Postgres, {wanted} were accepted")
    return lasted


def _probe(url: str, number: int) -> int:
    headers = {"content-type": "application/json", "idempotency-key": f"probe-{time.time_ns()}-{number}"}
    request = urllib.request.Request(url, data=BODY, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
