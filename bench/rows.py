"""The rows of `make bench` that have a floor: the main path, and what people compare."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from functools import partial
from typing import Any

from bench.measure import QUICK, Bench, Disagree, own
from bench.workflows import behind, echoes, light, requests
from deploy.testing.installation import SERVICES


def warm(bench: Bench) -> None:
    url = bench.url("echo3", lambda: echoes(3))
    own(url, 8, 1.0)
    bench.until_projected(1)
    time.sleep(1.0)


def idle(bench: Bench) -> None:
    """Memory before any load."""
    rss = bench.stack.rss()
    bench.results["rss_by_process_mb"] = rss
    bench.results["rss_mb"] = round(sum(rss.get(name, 0.0) for name in SERVICES), 1)


def one(bench: Bench) -> None:
    told = bench.load("echo3 at 1", bench.url("echo3", lambda: echoes(3)), connections=1)
    bench.results |= {"p50_ms_at_1": told["p50_ms"], "p99_ms_at_1": told["p99_ms"]}


def echo(bench: Bench) -> None:
    url = bench.url("echo3", lambda: echoes(3))
    best = [bench.load(f"echo3 at {n}", url, connections=n) for n in ((64, 256) if not QUICK else (128,))]
    bench.results["runs_per_s"] = max(told["projected_per_s"] for told in best)
    bench.results["projection_lag_p99_ms"] = round(max(told["lag_s"] for told in best) * 1_000, 1)


def http(bench: Bench) -> None:
    target = subprocess.Popen([sys.executable, "-m", "bench.target"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(target.stdout.readline()) if target.stdout else 0
        url = bench.url(f"http3-{port}", lambda: requests(3, f"http://127.0.0.1:{port}"))
        told = bench.load("http3 at 64", url, connections=64)
        bench.results["http_runs_per_s"] = told["projected_per_s"]
    finally:
        target.terminate()
        target.wait(10)


def respond(bench: Bench) -> None:
    url = bench.url("light", light)
    sizes = (64, 128, 256) if not QUICK else (128,)
    best = [bench.load(f"respond at {n}", url, connections=n) for n in sizes]
    bench.results["respond_per_s"] = max(told["per_s"] for told in best)
    steady = bench.load("respond 100/s open", url, connections=64, rate=100)
    bench.results |= {"respond_p50_ms_at_100": steady["p50_ms"], "respond_p99_ms_at_100": steady["p99_ms"]}


def forty(bench: Bench) -> None:
    told = bench.load("echo40 at 1", bench.url("echo40", lambda: echoes(40)), connections=1)
    bench.results["forty_steps_p50_ms"] = told["p50_ms"]


def gated(bench: Bench) -> None:
    """What a limit costs a start: the same run without one, behind a gate that is never full, and behind one of its own."""
    wide = {"name": "wide", "at_once": 1_000}
    limited: dict[str, list[dict[str, Any]]] = {
        "free": [],
        "gated": [wide],
        "keyed": [wide | {"per": "run.id"}],
    }
    for name, limits in limited.items():
        url = bench.url(f"light {name}", partial(behind, limits))
        alone = bench.load(f"{name} at 1", url, connections=1)
        crowd = bench.load(f"{name} at 64", url, connections=64)
        bench.results |= {
            f"{name}_p50_ms_at_1": alone["p50_ms"],
            f"{name}_per_s": crowd["per_s"],
            f"{name}_orchestrator_us": crowd["us_per_run"]["orchestrator"],
        }


def rebuild(bench: Bench) -> None:
    told = json.loads(
        bench.stack.command("projections", "rebuild", "--verify", "--json").strip().splitlines()[-1]
    )
    bench.results["rebuild_events_per_s"] = round(told["events"] / told["seconds"])
    bench.results["rebuild"] = told
    sys.stdout.write(f"rebuild  {bench.results['rebuild_events_per_s']} events/s of {told['events']}\n")


def killed(bench: Bench) -> None:
    """Kill -9 of all five services with 200 runs in flight: until every one has moved on."""
    url = bench.url("echo40", lambda: echoes(40))
    before = bench.completed()
    loader = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bench.load",
            url,
            "--connections",
            "200",
            "--seconds",
            "0.2",
            "--label",
            f"killed-{secrets.token_hex(4)}",  # The row may be asked for again: runs of before would be duplicates.
        ],
        stdout=subprocess.PIPE,
    )
    time.sleep(1.0)
    began = bench.stack.count("select count(*) from read.runs where status not in ('completed', 'failed')")
    if not began:
        raise Disagree("nothing was in flight to be killed")
    killed_at = time.time()
    for name, pid in bench.stack.pids().items():
        if name in SERVICES:
            os.kill(pid, signal.SIGKILL)
    moved = asyncio.run(_moved_on(bench, killed_at))
    loader.wait(120)
    bench.until_projected(before + began)
    bench.results |= {"moved_on_p99_s": moved, "in_flight_at_kill": began}
    sys.stdout.write(f"kill -9 of all services, {began} runs in flight: all moved on after {moved} s\n")


async def _moved_on(bench: Bench, since: float) -> float:
    sql = "select count(*) from read.runs where status not in ('completed','failed') and last_time < to_timestamp($1)"
    began = time.perf_counter()
    while time.perf_counter() - began < 60:
        try:
            if (await bench.stack.rows(sql, since))[0][0] == 0:
                return round(time.perf_counter() - began, 2)
        except OSError:
            pass  # Postgres was not killed; a connection may be refused while it is busy.
        await asyncio.sleep(0.05)
    raise Disagree("runs in flight at the kill did not move on within 60 s")
