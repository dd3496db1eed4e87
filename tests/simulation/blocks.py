"""Blocks of schedules, each in a process of its own, and the account of those that are done.

Rules that hold here:
  * a block's process never collects garbage: it ends before that matters, and its memory goes as a whole;
  * a block that does not end, or whose process dies, is a failure like any other;
  * what was done is on disk before it is told, with the commit of the code that did it;
  * it holds for one engine. Who judges and tells stories may be mended meanwhile: what was called broken is played anew then.
"""

import gc
import multiprocessing
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from chassis.ids import digest
from tests.simulation.schedule import play, quiet

ROOT: Final = Path(__file__).parents[2]
BLOCK: Final = 200
"""Schedules per process: a hundred megabytes of what is never collected."""
BLOCK_SECONDS: Final = 1_200.0
"""A block that takes longer hangs."""
ENGINE: Final = ("contracts", "chassis", "ingress", "orchestrator", "executor", "projections", "gateway")
"""What plays; the rest judges, tells stories, or is somebody else's."""
_FORKED: Final = multiprocessing.get_context("fork")


class Tally(Struct, kw_only=True):
    """What came of a range of seeds."""

    first: int
    last: int
    """The seed after the last one."""
    commit: str
    counts: dict[str, int] = field(default_factory=dict)
    promises: dict[str, int] = field(default_factory=dict)
    """Violations by promise."""
    failed: list[int] = field(default_factory=list)

    def goes_on_with(self, other: "Tally") -> bool:
        """Whether both can be one: a range in which something failed stays as it is, so that it alone can be played again."""
        return self.last == other.first and self.commit == other.commit and not (self.failed or other.failed)

    def add(self, other: "Tally") -> None:
        """The range that follows, made part of this one."""
        self.last = other.last
        self.counts = dict(Counter(self.counts) + Counter(other.counts))
        self.promises = dict(Counter(self.promises) + Counter(other.promises))
        self.failed += other.failed


class Account(Struct, kw_only=True):
    """What has been done of a long run, in however many sittings."""

    engine: str = ""
    """What was played, as `engine_of_the_code` names it."""
    seconds: float = 0.0
    tallies: list[Tally] = field(default_factory=list)

    def add(self, tally: Tally) -> None:
        """Adjacent ranges of the same code become one where nothing failed."""
        self.tallies.append(tally)
        self.tallies.sort(key=lambda each: each.first)
        merged: list[Tally] = []
        for each in self.tallies:
            if merged and merged[-1].goes_on_with(each):
                merged[-1].add(each)
            else:
                merged.append(each)
        self.tallies = merged

    def missing(self, seeds: range, size: int = BLOCK) -> Iterator[range]:
        """The blocks of these seeds that nobody has played."""
        start = seeds.start
        done = [tally for tally in self.tallies if tally.last > seeds.start and tally.first < seeds.stop]
        for tally in [*done, Tally(first=seeds.stop, last=seeds.stop, commit="")]:
            for first in range(start, tally.first, size):
                yield range(first, min(first + size, tally.first))
            start = max(start, tally.last)

    def sum(self) -> Tally:
        """All ranges as if they were one."""
        whole = Tally(first=0, last=0, commit="")
        for tally in self.tallies:
            whole.add(tally)
        return whole

    def forget_what_failed(self, commit: str) -> None:
        """Whatever another commit called broken: it may have been judged wrongly, and is asked again."""
        self.tallies = [tally for tally in self.tallies if tally.commit == commit or not tally.failed]

    @classmethod
    def load(cls, path: Path) -> "Account":
        return msgspec.json.decode(path.read_bytes(), type=cls) if path.exists() else cls()

    def save(self, path: Path, told: Mapping[str, Any] = MappingProxyType({})) -> None:
        """With what is `told` of it: the checkpoint of a run is its report, too."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        account: dict[str, Any] = msgspec.to_builtins(self)
        beside.write_bytes(msgspec.json.format(msgspec.json.encode({**told, **account}), indent=1) + b"\n")
        beside.replace(path)


def commit_of_the_code() -> str:
    """Which code plays; where a file that git knows was changed since, with a plus and which changes these are."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD")
    changes = git("diff", "HEAD", "--", "*.py")
    return (commit or "unknown") + (f"+{digest(changes.encode())[:8]}" if changes else "")


def engine_of_the_code() -> str:
    """Which engine plays, by the bytes of every module of ours that is loaded."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return engine_of(ROOT, {Path(file).resolve() for file in files if file})


def engine_of(root: Path, files: Iterable[Path]) -> str:
    """A short digest of those files that are the engine's: of the packages it is made of, and not a simulated store."""
    packages = [root / name for name in ENGINE]
    ours = [
        path
        for path in files
        if any(map(path.is_relative_to, packages)) and not path.is_relative_to(root / "chassis" / "testing")
    ]
    each = sorted((str(path.relative_to(root)), digest(path.read_bytes())) for path in ours)
    return digest(msgspec.json.encode(each))[:12]


# --- Workers ------------------------------------------------------------------------------------


def played(blocks: Iterable[range], workers: int, commit: str, end: float) -> Iterator[Tally]:
    """Play the blocks, so many at a time, none begun after `end` (monotonic seconds); each as soon as it is done."""
    left = iter(blocks)
    under_way: dict[Connection, _Worker] = {}
    with _ended(under_way):
        while True:
            while len(under_way) < workers and time.monotonic() < end:
                seeds = next(left, None)
                if seeds is None:
                    break
                worker = _Worker(seeds, commit, end)
                under_way[worker.connection] = worker
            if not under_way:
                return
            for connection in wait(list(under_way), timeout=1.0):
                assert isinstance(connection, Connection)
                yield under_way.pop(connection).result()
            for worker in [each for each in under_way.values() if each.hangs]:
                yield under_way.pop(worker.connection).given_up("hangs")


@contextmanager
def _ended(under_way: "dict[Connection, _Worker]") -> Iterator[None]:
    """No process stays behind."""
    try:
        yield
    finally:
        for worker in under_way.values():
            worker.given_up("interrupted")


class _Worker:
    """One block in a process of its own."""

    def __init__(self, seeds: range, commit: str, end: float) -> None:
        self._seeds = seeds
        self._commit = commit
        self._must_end = time.monotonic() + BLOCK_SECONDS
        self.connection, theirs = _FORKED.Pipe(duplex=False)
        self._process: BaseProcess = _FORKED.Process(target=_play, args=(theirs, seeds, commit, end))
        self._process.start()
        theirs.close()

    @property
    def hangs(self) -> bool:
        return time.monotonic() > self._must_end

    def result(self) -> Tally:
        try:
            tally = msgspec.json.decode(self.connection.recv_bytes(), type=Tally)
        except EOFError:
            return self.given_up("died")
        self.connection.close()
        self._process.join()
        return tally

    def given_up(self, why: str) -> Tally:
        self._process.kill()
        self._process.join()
        self.connection.close()
        counts = {"blocks_given_up": 1}
        return Tally(
            first=self._seeds.start,
            last=self._seeds.stop,
            commit=self._commit,
            counts=counts,
            promises={f"block {why}": 1},
            failed=[self._seeds.start],
        )


def _play(result: Connection, seeds: range, commit: str, end: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Whoever started this process ends it.
    gc.disable()
    tally = Tally(first=seeds.start, last=seeds.start, commit=commit)
    with quiet():
        for seed in seeds:
            if time.monotonic() > end:
                break
            tally.add(tallied(seed, commit))
    result.send_bytes(msgspec.json.encode(tally))


def tallied(seed: int, commit: str) -> Tally:
    """One schedule as a range of its own."""
    played_ = play(seed)
    return Tally(
        first=seed,
        last=seed + 1,
        commit=commit,
        counts={
            "schedules": 1,
            "steps": played_.steps,
            "kills": played_.kills,
            "faults": len(played_.struck),
            "runs": played_.runs,
            "effects": played_.effects,
        },
        promises=dict(Counter(violation.promise for violation in played_.violations)),
        failed=[seed] if played_.failed else [],
    )
