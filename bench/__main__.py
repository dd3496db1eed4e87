"""`make bench`: the main path under load, every figure with what stood beside it, counted at both ends.

python -m bench [scenario …]      QUICK=1: within 50 s.  JSON on the last line; exit 1 when counts disagree.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.workflows import EVERYBODY, echoes, light, requests
from deploy.testing.installation import SERVICES, Installation, installation

QUICK: Final = os.environ.get("QUICK", "") not in ("", "0")
SECONDS: Final = 3.0 if QUICK else 8.0
PROJECTED_SECONDS: Final = 30.0


class Disagree(Exception):
    """What was accepted, stored, completed and projected is not the same number."""


class Bench:
    """Measures one installation."""

    def __init__(self, installed: Installation) -> None:
        self.stack = installed
        self.results: dict[str, Any] = {}
        self.rows: list[tuple[str, ...]] = []
        self._urls: dict[str, str] = {}

    def url(self, name: str, definition: Callable[[], dict[str, Any]]) -> str:
        if name not in self._urls:
            self._urls[name] = self.stack.install(name, definition(), EVERYBODY)
        return self._urls[name]

    # --- Load ---------------------------------------------------------------------------------

    def load(
        self, name: str, url: str, *, connections: int, seconds: float = SECONDS, rate: float = 0
    ) -> dict[str, Any]:
        """One load, with what it cost; fails when a run is missing at either end."""
        before = self._completed()
        cpu, steal, began = self.stack.cpu(), _steal(), time.perf_counter()
        told = (
            _wrk(url, connections, seconds)
            if _has_wrk() and not rate
            else _own(url, connections, seconds, rate)
        )
        lasted = time.perf_counter() - began
        in_time = self._completed() - before
        lag = self._until_projected(before + told["ok"])
        spent = {k: round(v - cpu.get(k, 0.0), 2) for k, v in self.stack.cpu().items()}
        told |= {
            "projected_in_time": in_time,
            "projected_per_s": round(in_time / told["seconds"], 1),
            "lag_s": round(lag, 3),
            "cpu_s": spent,
            "us_per_run": {k: round(v / max(1, told["ok"]) * 1e6) for k, v in spent.items()},
            "load": Path("/proc/loadavg").read_text().split()[0],
            "steal_s": round(_steal() - steal, 2),
            "fsync_p50_ms": _fsync(self.stack.data),
        }
        if told["requests"] != told["ok"]:
            raise Disagree(f"{name}: {told['statuses']}")
        self._until_nothing_is_open(name)
        self.rows.append(
            (
                name,
                f"{told['per_s']:.0f}/s",
                f"{told['projected_per_s']:.0f}/s",
                f"{told['p50_ms']} ms",
                f"{told['p99_ms']} ms",
                f"{told['lag_s']} s",
                f"load {told['load']} steal {told['steal_s']} fsync {told['fsync_p50_ms']} ms",
            )
        )
        sys.stdout.write("  ".join(self.rows[-1]) + f"  {lasted:.1f} s  {told['us_per_run']}\n")
        sys.stdout.flush()
        self.results.setdefault("scenarios", {})[name] = told
        return told

    def _completed(self) -> int:
        return self.stack.count("select count(*) from read.runs where status = 'completed'")

    def _until_projected(self, wanted: int) -> float:
        """Seconds until Postgres shows every completed run; more than were answered is as wrong as fewer."""
        began = time.perf_counter()
        while (found := self._completed()) < wanted:
            if time.perf_counter() - began > PROJECTED_SECONDS:
                raise Disagree(f"{found} runs completed in Postgres, {wanted} were answered")
            time.sleep(0.02)
        return time.perf_counter() - began

    def _until_nothing_is_open(self, name: str) -> None:
        """A load generator goes home with its last requests unanswered: their runs end too, and count for nobody."""
        began = time.perf_counter()
        sql = "select count(*) from read.runs where status not in ('completed', 'failed', 'cancelled')"
        while found := self.stack.count(sql):
            if time.perf_counter() - began > PROJECTED_SECONDS:
                raise Disagree(f"{name}: {found} runs do not end")
            time.sleep(0.1)

    # --- Scenarios ----------------------------------------------------------------------------

    def warm(self) -> None:
        url = self.url("echo3", lambda: echoes(3))
        _own(url, 8, 1.0, 0)
        self._until_projected(1)
        time.sleep(1.0)

    def idle(self) -> None:
        """Memory before any load."""
        rss = self.stack.rss()
        self.results["rss_by_process_mb"] = rss
        self.results["rss_mb"] = round(sum(rss.get(name, 0.0) for name in SERVICES), 1)

    def one(self) -> None:
        told = self.load("echo3 at 1", self.url("echo3", lambda: echoes(3)), connections=1)
        self.results |= {"p50_ms_at_1": told["p50_ms"], "p99_ms_at_1": told["p99_ms"]}

    def echo(self) -> None:
        url = self.url("echo3", lambda: echoes(3))
        best = [self.load(f"echo3 at {n}", url, connections=n) for n in ((64, 256) if not QUICK else (128,))]
        self.results["runs_per_s"] = max(told["projected_per_s"] for told in best)
        self.results["projection_lag_p99_ms"] = round(max(told["lag_s"] for told in best) * 1_000, 1)

    def http(self) -> None:
        target = subprocess.Popen([sys.executable, "-m", "bench.target"], stdout=subprocess.PIPE, text=True)
        try:
            port = int(target.stdout.readline()) if target.stdout else 0
            url = self.url("http3", lambda: requests(3, f"http://127.0.0.1:{port}"))
            told = self.load("http3 at 64", url, connections=64)
            self.results["http_runs_per_s"] = told["projected_per_s"]
        finally:
            target.terminate()
            target.wait(10)

    def respond(self) -> None:
        url = self.url("light", light)
        sizes = (64, 128, 256) if not QUICK else (128,)
        best = [self.load(f"respond at {n}", url, connections=n) for n in sizes]
        self.results["respond_per_s"] = max(told["per_s"] for told in best)
        steady = self.load("respond 100/s open", url, connections=64, rate=100)
        self.results |= {"respond_p50_ms_at_100": steady["p50_ms"], "respond_p99_ms_at_100": steady["p99_ms"]}

    def forty(self) -> None:
        told = self.load("echo40 at 1", self.url("echo40", lambda: echoes(40)), connections=1)
        self.results["forty_steps_p50_ms"] = told["p50_ms"]

    def rebuild(self) -> None:
        told = json.loads(
            self.stack.command("projections", "rebuild", "--verify", "--json").strip().splitlines()[-1]
        )
        self.results["rebuild_events_per_s"] = round(told["events"] / told["seconds"])
        self.results["rebuild"] = told
        sys.stdout.write(f"rebuild  {self.results['rebuild_events_per_s']} events/s of {told['events']}\n")

    def killed(self) -> None:
        """Kill -9 of all five services with 200 runs in flight: until every one has moved on."""
        url = self.url("echo40", lambda: echoes(40))
        before = self._completed()
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
                "killed",
            ],
            stdout=subprocess.PIPE,
        )
        time.sleep(1.0)
        began = self.stack.count("select count(*) from read.runs where status not in ('completed', 'failed')")
        killed_at = time.time()
        for name, pid in self.stack.pids().items():
            if name in SERVICES:
                os.kill(pid, signal.SIGKILL)
        moved = asyncio.run(self._moved_on(killed_at))
        loader.wait(120)
        self._until_projected(before + began)
        self.results |= {"moved_on_p99_s": moved, "in_flight_at_kill": began}
        sys.stdout.write(f"kill -9 of all services, {began} runs in flight: all moved on after {moved} s\n")

    async def _moved_on(self, since: float) -> float:
        sql = "select count(*) from read.runs where status not in ('completed','failed') and last_time < to_timestamp($1)"
        began = time.perf_counter()
        while time.perf_counter() - began < 60:
            try:
                if (await self.stack.rows(sql, since))[0][0] == 0:
                    return round(time.perf_counter() - began, 2)
            except OSError:
                pass  # Postgres was not killed; a connection may be refused while it is busy.
            await asyncio.sleep(0.05)
        raise Disagree("runs in flight at the kill did not move on within 60 s")


def _has_wrk() -> bool:
    return shutil.which("wrk") is not None


def _own(url: str, connections: int, seconds: float, rate: float) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "bench.load",
        url,
        "--connections",
        str(connections),
        "--seconds",
        str(seconds),
    ]
    command += ["--rate", str(rate), "--label", f"l{time.time_ns()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 90, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


_LUA: Final = """
local n = 0
request = function()
  n = n + 1
  return wrk.format("POST", nil, {["Content-Type"]="application/json", ["Idempotency-Key"]="%s-"..n}, [[%s]])
end
done = function(summary, latency)
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
"""


def _wrk(url: str, connections: int, seconds: float) -> dict[str, Any]:
    from bench.load import BODY

    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_LUA % (f"w{time.time_ns()}", BODY.decode()))
        script.flush()
        done = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{round(seconds)}s",
                "--timeout",
                "60s",
                "-s",
                script.name,
                url,
            ],
            capture_output=True,
            text=True,
            timeout=seconds + 90,
            check=True,
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    total, bad, lost, micros, p50, p99 = map(int, line.split()[1:])
    return {
        "requests": total + lost,
        "ok": total - bad,
        "statuses": {"2xx": total - bad, "other": bad, "lost": lost},
        "seconds": micros / 1e6,
        "per_s": round((total - bad) / (micros / 1e6), 1),
        "p50_ms": p50 / 1_000,
        "p99_ms": p99 / 1_000,
    }


def _steal() -> float:
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / os.sysconf("SC_CLK_TCK")


def _fsync(folder: Path) -> float:
    """Median milliseconds of an fdatasync of 4 KiB beside the data."""
    took: list[float] = []
    path = folder / "fsync.probe"
    with path.open("wb") as probe:
        for _ in range(31):
            probe.write(b"x" * 4096)
            probe.flush()
            began = time.perf_counter()
            os.fdatasync(probe.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return round(sorted(took)[15] * 1_000, 3)


SCENARIOS: Final = ("one", "echo", "http", "respond", "forty", "rebuild", "killed")
IN_QUICK: Final = ("one", "echo", "http", "respond", "rebuild")


def main() -> int:
    wanted = sys.argv[1:] or list(IN_QUICK if QUICK else SCENARIOS)
    broken = ""
    with installation(egress_allow="127.0.0.1/32:*") as running:
        first = running.start()
        running.stop()
        ready = running.start()
        bench = Bench(running)
        bench.results |= {"ready_s": round(ready, 2), "first_start_s": round(first, 2), "sync": "always"}
        bench.results["load_generator"] = "wrk" if _has_wrk() else "bench.load"
        try:
            bench.warm()
            bench.idle()
            for name in wanted:
                getattr(bench, name)()
        except Disagree as reason:
            broken = str(reason)
    bench.results["broken"] = broken
    sys.stdout.write(
        f"ready {ready:.2f} s (first start {first:.2f} s), five services idle {bench.results.get('rss_mb')} MB\n"
    )
    if broken:
        sys.stdout.write(f"BROKEN: {broken}\n")
    sys.stdout.write(json.dumps(bench.results) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
