"""One load against one installation, with all that stood beside it, counted at both ends."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bench.load import BODY
from bench.workflows import EVERYBODY
from deploy.testing.installation import Installation

QUICK: Final = os.environ.get("QUICK", "") not in ("", "0")
SECONDS: Final = 3.0 if QUICK else 8.0
PROJECTED_SECONDS: Final = 30.0
BEHIND_SECONDS: Final = 0.25
"""Rows are less behind the log than this when nothing else goes on."""


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

    def load(
        self, name: str, url: str, *, connections: int, seconds: float = SECONDS, rate: float = 0
    ) -> dict[str, Any]:
        """One load, with what it cost; fails when a run is missing at either end."""
        before = self.completed()
        cpu, steal, began = self.stack.cpu(), _steal(), time.perf_counter()
        told = closed(url, connections, seconds) if not rate else own(url, connections, seconds, rate)
        lasted = time.perf_counter() - began
        in_time = self.completed() - before
        lag = self.until_projected(before + told["ok"])
        spent = {k: round(v - cpu.get(k, 0.0), 2) for k, v in self.stack.cpu().items()}
        told |= {
            "projected_in_time": in_time,
            # Until the last one stood in the read model: that rows come a moment later is no fewer runs.
            "projected_per_s": round(told["ok"] / (told["seconds"] + lag), 1),
            "lag_s": round(lag, 3),
            "cpu_s": spent,
            "us_per_run": {k: round(v / max(1, told["ok"]) * 1e6) for k, v in spent.items()},
            "load": Path("/proc/loadavg").read_text().split()[0],
            "steal_s": round(_steal() - steal, 2),
            "fsync_p50_ms": _fsync(self.stack.data),
        }
        if told["requests"] != told["ok"]:
            raise Disagree(f"{name}: {told['statuses']}")
        self.until_nothing_is_open(name)
        self.rows_agree(name)
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

    def completed(self) -> int:
        """Completed runs in Postgres, as its daily figures have it: looking costs the same however many there are."""
        return self.stack.count("select coalesce(sum(runs_completed), 0)::bigint from read.usage_daily")

    def rows_agree(self, name: str) -> None:
        """Count the rows themselves, once. In one statement: late runs may still come in."""
        missing = self.stack.count(
            "select (select count(*) from read.runs where status = 'completed')"
            " - (select coalesce(sum(runs_completed), 0)::bigint from read.usage_daily)"
        )
        if missing:
            raise Disagree(f"{name}: {missing} more rows of completed runs than the daily figures say")

    def until_projected(self, wanted: int) -> float:
        """Seconds until Postgres shows every completed run; more than were answered is as wrong as fewer."""
        began = time.perf_counter()
        while (found := self.completed()) < wanted:
            if time.perf_counter() - began > PROJECTED_SECONDS:
                raise Disagree(f"{found} runs completed in Postgres, {wanted} were answered")
            time.sleep(0.05)
        return time.perf_counter() - began

    def until_nothing_is_open(self, name: str) -> None:
        """A load generator goes home with its last requests unanswered: their runs end too, and count for nobody.

        Rows are behind the log: a run that has just begun is none yet. So nothing is open in two looks, and no more has ended.
        """
        began, ended = time.perf_counter(), -1
        while True:
            found = self.stack.count("select count(*) from read.runs where ended is null")
            before, ended = ended, self.completed()
            if not found and ended == before:
                return
            if time.perf_counter() - began > PROJECTED_SECONDS:
                raise Disagree(f"{name}: {found} runs do not end")
            time.sleep(BEHIND_SECONDS)


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def own(url: str, connections: int, seconds: float, rate: float = 0, settle: float = 0) -> dict[str, Any]:
    """Our own generator. `rate`: open loop; what is sent in the first `settle` seconds has its latencies told apart."""
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
    command += ["--rate", str(rate), "--settle", str(settle), "--label", f"l{time.time_ns()}"]
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


def closed(url: str, connections: int, seconds: float) -> dict[str, Any]:
    """Closed loop: each connection sends its next request when it has its answer."""
    return _wrk(url, connections, seconds) if has_wrk() else own(url, connections, seconds)


def _wrk(url: str, connections: int, seconds: float) -> dict[str, Any]:
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
