"""Two commits of this repository against each other: in alternation, on one machine, by the same measure.

    python -m bench.paired b17ddea HEAD [--rounds 5] [--most-worse 0.1] [row …]

Both are checked out into a temporary folder, run by the Python and the libraries of this environment, under the load of this checkout's
`bench`, and stand beside each other the whole time. Each row of each round measures one right after the other, and the one that was second is
first in the next round: a machine that is half as fast for a minute is so for both. Printed for every figure: the medians, the median of
the ratios of single rounds, and between what those lay. JSON on the last line; exit 1 when a figure of the second is worse by
more than a tenth, or when a side is broken. Rows: one echo http respond forty rebuild killed.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from bench.side import ROWS, SAID, START
from deploy.testing.installation import SERVICES

HERE: Final = Path(__file__).resolve().parent
COPIED: Final = ("__init__.py", "load.py", "measure.py", "rows.py", "side.py", "target.py", "workflows.py")
"""What both sides are measured by."""
Better: TypeAlias = Literal["more", "less"]
FIGURES: Final[Mapping[str, Better]] = {
    "runs_per_s": "more",
    "http_runs_per_s": "more",
    "respond_per_s": "more",
    "p50_ms_at_1": "less",
    "respond_p50_ms_at_100": "less",
    "forty_steps_p50_ms": "less",
    "rebuild_events_per_s": "more",
    "moved_on_p99_s": "less",
    "rss_mb": "less",
    "ready_s": "less",
}
BESIDE: Final[Mapping[str, Better]] = {
    "p99_ms_at_1": "less",
    "respond_p99_ms_at_100": "less",
}
"""Told too, and decides nothing: the tail of three seconds."""
COSTS: Final[Mapping[str, str]] = {
    "echo3 at 1": "us_at_1",
    "echo3 at 128": "us",
    "http3 at 64": "us_http",
    "respond at 128": "us_respond",
}
"""The loads whose CPU per run is told, by what its figures are called; it decides nothing either, but says where a figure went."""
ROW_SECONDS: Final = 240.0
STOP_SECONDS: Final = 60.0


def checked_out(commit: str, folder: Path) -> None:
    """The files of a commit, with this checkout's measure in place of its own."""
    folder.mkdir()
    packed = folder.with_suffix(".tar")
    with packed.open("wb") as file:
        subprocess.run(["git", "archive", commit], cwd=HERE.parent, stdout=file, check=True)
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    packed.unlink()
    shutil.rmtree(folder / "bench", ignore_errors=True)
    (folder / "bench").mkdir()
    for name in COPIED:
        shutil.copy(HERE / name, folder / "bench" / name)
    # As after `make setup`: a start compiles nothing.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-j", "0", "."], cwd=folder, check=True)


def named(commit: str) -> str:
    """The full name of a commit; raises for what is none."""
    command = ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{commit!r} is no commit of this repository.")
    return done.stdout.strip()


class Side:
    """One checkout with an installation of its own, for as long as the context lasts."""

    def __init__(self, folder: Path) -> None:
        environ = {**os.environ, "PYTHONPATH": str(folder), "QUICK": os.environ.get("QUICK", "1")}
        self._errors = folder.with_suffix(".err")
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.side"],
                cwd=folder,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        """Its installation stops when it is asked for nothing more; a side that is gone has told so, and takes no figure along."""
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def measure(self, row: str) -> dict[str, Any]:
        """What one row gave. A side that is gone is `broken`."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(f"{row}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"broken": self._last_words()}
        late = threading.Timer(ROW_SECONDS, self._process.kill)
        late.start()
        try:
            for line in self._process.stdout:
                if line.startswith(SAID):
                    told: dict[str, Any] = json.loads(line.removeprefix(SAID))
                    return told
        finally:
            late.cancel()
        return {"broken": self._last_words()}

    def _last_words(self) -> str:
        return (
            self._errors.read_text(errors="replace").strip()[-2_000:] or f"{self._errors.stem} said nothing"
        )


def one_round(sides: Sequence[Side], rows: Sequence[str], order: Sequence[int]) -> list[dict[str, Any]]:
    """The figures of both sides, row by row."""
    told: list[dict[str, Any]] = [{"broken": "", "scenarios": {}} for _ in sides]
    for row in (START, *rows):
        for side in order:
            found = sides[side].measure(row)
            told[side]["scenarios"] |= found.pop("scenarios", {})
            told[side] |= found | {"broken": told[side]["broken"] or found["broken"]}
    return [each | costs_of(each) for each in told]


def costs_of(told: Mapping[str, Any]) -> dict[str, float]:
    """Microseconds of CPU per run: over all processes, and of each while there is most to do.

    And by how much our services need more than nats-server does: it is the same program on both sides and does the same
    work, so what a machine takes from one moment it takes from both.
    """
    costs: dict[str, float] = {}
    for load, name in COSTS.items():
        by_process = told.get("scenarios", {}).get(load, {}).get("us_per_run", {})
        if by_process:
            costs[name] = sum(by_process.values())
            ours = sum(by_process.get(service, 0) for service in SERVICES)
            costs[f"{name}_by_nats"] = ours / max(1, by_process.get("nats", 0))
        if name == "us":
            costs |= {f"us_{process}": spent for process, spent in by_process.items()}
    return costs


def compared(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every figure that both sides have: the medians, and how much worse the second is, by the median of what it was in single rounds."""
    told: dict[str, Any] = {}
    costs = dict.fromkeys((name for told in first for name in told if name.startswith("us")), "less")
    for name, better in {**FIGURES, **BESIDE, **costs}.items():
        pairs = [
            (float(ours[name]), float(theirs[name]))
            for ours, theirs in zip(first, second, strict=True)
            if ours.get(name) and theirs.get(name)
        ]
        if not pairs:
            continue
        ratios = [theirs / ours for ours, theirs in pairs]
        before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(ratios)
        told[name] = {
            "first": round(before, 2),
            "second": round(after, 2),
            "ratio": round(ratio, 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
            "rounds": len(pairs),
            "better": better,
            "worse": round(max(0.0, 1 - ratio if better == "more" else ratio - 1), 3),
        }
    return told


def worse(figures: Mapping[str, Mapping[str, Any]], most: float) -> dict[str, float]:
    """The figures that decide, where the second is worse by more than `most`."""
    return {name: each["worse"] for name, each in figures.items() if name in FIGURES and each["worse"] > most}


def _line(name: str, each: Mapping[str, Any]) -> str:
    better = "↑" if each["better"] == "more" else "↓"
    spread = f"{each['lowest']:.2f} to {each['highest']:.2f}"
    return f"{name:24} {better} {each['first']:>10} {each['second']:>10}   x {each['ratio']:.2f}   {spread}\n"


def main(arguments: Sequence[str]) -> int:
    """Measure both as often as is asked, and compare."""
    parser = argparse.ArgumentParser(prog="python -m bench.paired", description=__doc__)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most-worse", type=float, default=0.1)
    asked = parser.parse_intermixed_args(arguments)
    # Whoever was started in the background hands on that SIGINT is ignored, and older commits stop by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    commits = [named(asked.first), named(asked.second)]
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="automateos-paired-") as temporary:
        folders = [Path(temporary) / "first", Path(temporary) / "second"]
        for commit, folder in zip(commits, folders, strict=True):
            checked_out(commit, folder)
        with Side(folders[0]) as first, Side(folders[1]) as second:
            for number in range(asked.rounds):
                order = (0, 1) if number % 2 == 0 else (1, 0)
                for side, told in enumerate(one_round((first, second), asked.rows or list(ROWS), order)):
                    sides[side].append(told)
                    shown = {name: told[name] for name in FIGURES if name in told}
                    sys.stdout.write(f"round {number + 1}  {commits[side][:9]}  {told['broken'] or shown}\n")
                    sys.stdout.flush()
    figures = compared(*sides)
    broken = [told["broken"] for side in sides for told in side if told["broken"]]
    fallen = worse(figures, asked.most_worse)
    sys.stdout.write(f"{'':26} {commits[0][:9]:>10} {commits[1][:9]:>10}   ratio    of single rounds\n")
    sys.stdout.writelines(_line(name, each) for name, each in figures.items())
    told = {
        "first": commits[0],
        "second": commits[1],
        "rounds": asked.rounds,
        "seconds": round(time.perf_counter() - began),
        "load": Path("/proc/loadavg").read_text().split()[0],
        "figures": figures,
        "worse": fallen,
        "broken": broken[0] if broken else "",
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 1 if broken or fallen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
