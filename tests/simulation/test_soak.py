"""The long run: it plays each seed once, goes on where it was, and fails loudly."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.evidence import Entry
from tests.simulation import soak
from tests.simulation.blocks import (
    ROOT,
    Account,
    Tally,
    commit_of_the_code,
    engine_of,
    engine_of_the_code,
)
from tests.simulation.installation import Installation


def soaked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], dict[str, Any]]:
    code = soak.main(["--workers", "2", *arguments])
    lines = capsys.readouterr().out.splitlines()
    return code, lines, json.loads(lines[-1])


def test_a_long_run_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "soak.json"
    code, _, told = soaked(capsys, "--seeds", "10:30", "--checkpoint", str(checkpoint))
    assert (code, told["schedules"], told["violations"]) == (0, 20, 0)
    assert told["faults"] > 20
    assert told["bound"] == 3 / 20
    played = [(tally.first, tally.last) for tally in Account.load(checkpoint).tallies]
    assert played == [(10, 30)]
    code, _, again = soaked(capsys, "--seeds", "10:40", "--checkpoint", str(checkpoint))
    assert (code, again["schedules"]) == (0, 30)
    assert [(tally.first, tally.last) for tally in Account.load(checkpoint).tallies] == [(10, 40)]
    assert sum(again["commits"].values()) == 30


def test_what_another_engine_has_played_is_played_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "soak.json"
    account = Account(engine="another one", seconds=7.0)
    account.add(Tally(first=10, last=20, commit="another day", counts={"schedules": 10}))
    account.save(checkpoint)
    code, lines, told = soaked(capsys, "--seeds", "10:14", "--checkpoint", str(checkpoint))
    assert (code, told["schedules"], told["interrupted"]) == (0, 4, False)
    assert f"is of the engine another one, and this is {engine_of_the_code()}" in lines[0]
    assert [(tally.first, tally.last) for tally in Account.load(checkpoint).tallies] == [(10, 14)]
    assert list(told["commits"]) == [commit_of_the_code()]


def test_what_an_older_judge_called_broken_is_judged_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "soak.json"
    account = Account(engine=engine_of_the_code(), seconds=7.0)
    each: tuple[tuple[int, list[int]], ...] = ((10, []), (12, [13]), (14, []), (16, []))
    for first, failed in each:
        promises = {"P3": 1} if failed else {}
        account.add(
            Tally(
                first=first,
                last=first + 2,
                commit="a day before",
                counts={"schedules": 2},
                promises=promises,
                failed=failed,
            )
        )
    account.save(checkpoint)
    code, _, told = soaked(capsys, "--seeds", "10:18", "--checkpoint", str(checkpoint))
    assert (code, told["schedules"], told["seeds_failed"]) == (0, 8, [])
    assert told["commits"] == {"a day before": 6, commit_of_the_code(): 2}
    kept = json.loads(checkpoint.read_bytes())
    assert {name: kept[name] for name in ("schedules", "engine", "commits")} == {
        name: told[name] for name in ("schedules", "engine", "commits")
    }


def test_the_engine_is_what_plays_and_not_who_judges(tmp_path: Path) -> None:
    files = [
        tmp_path / name for name in ("orchestrator/turn.py", "chassis/testing/loop.py", "tests/judge.py")
    ]
    for path in files:
        path.parent.mkdir(parents=True)
        path.write_text("before")
    before = engine_of(tmp_path, files)
    for path in files[1:]:
        path.write_text("after")
    assert engine_of(tmp_path, [*files, Path(pytest.__file__)]) == before
    files[0].write_text("after")
    assert engine_of(tmp_path, files) != before


def test_all_of_the_engine_is_loaded_before_it_plays() -> None:
    """In a process of its own: in this one, other tests have loaded what they need."""
    programme = (
        "from tests.simulation.blocks import engine_of_the_code, play, quiet\n"
        "before = engine_of_the_code()\n"
        "with quiet():\n"
        "    seen = [play(seed).steps for seed in range(40)]\n"
        "assert all(seen) and engine_of_the_code() == before\n"
    )
    subprocess.run([sys.executable, "-c", programme], cwd=ROOT, check=True, timeout=120)


def test_a_run_that_was_interrupted_has_shown_nothing_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def played(blocks: Iterable[range], _workers: int, commit: str, _end: float) -> Iterator[Tally]:
        seeds = next(iter(blocks))
        yield Tally(first=seeds.start, last=seeds.stop, commit=commit, counts={"schedules": len(seeds)})
        raise KeyboardInterrupt

    monkeypatch.setattr(soak, "played", played)
    checkpoint = tmp_path / "soak.json"
    code, lines, told = soaked(capsys, "--seeds", "0:300", "--checkpoint", str(checkpoint))
    assert (code, told["schedules"], told["violations"], told["interrupted"]) == (1, 200, 0, True)
    assert lines[0].startswith("interrupted; go on with the same command")
    monkeypatch.undo()
    assert list(soak.resumed(checkpoint, engine_of_the_code(), commit_of_the_code()).missing(range(300))) == [
        range(200, 300)
    ]


def test_a_broken_promise_is_shown_and_ends_in_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Installation.start

    def promising(self: Installation) -> None:
        start(self)
        self.ledger.append(Entry(at=0, trigger="trigger0", key="", result="accepted", run="never-begun"))

    monkeypatch.setattr(Installation, "start", promising)
    monkeypatch.setattr(soak, "SHOWN", 1)
    code, lines, told = soaked(capsys, "--seeds", "0:4")
    assert code == 1
    assert (told["lost"], told["violations"], told["seeds_failed"]) == (4, 4, [0, 1, 2, 3])
    assert told["bound"] is None
    assert lines[0] == "seed 0: 0 faults"
    assert lines[1].endswith("but there is no such run")
    assert lines[2] == "failed, too: [1, 2, 3]"


def test_only_what_nobody_has_played_is_missing() -> None:
    account = Account()
    for first, last, commit in ((20, 30, "a"), (30, 40, "a"), (60, 70, "b"), (40, 50, "b")):
        account.add(Tally(first=first, last=last, commit=commit, counts={"schedules": last - first}))
    assert [(tally.first, tally.last) for tally in account.tallies] == [(20, 40), (40, 50), (60, 70)]
    assert list(account.missing(range(100), 16)) == [
        range(16),
        range(16, 20),
        range(50, 60),
        range(70, 86),
        range(86, 100),
    ]
    assert account.sum().counts == {"schedules": 40}


def test_a_quick_run_plays_other_seeds_for_another_commit() -> None:
    assert soak.wanted(None, "00000f123456", quick=True).start == 15_000
    assert soak.wanted(None, "unknown", quick=True).start == 0
    assert soak.wanted(None, "00000f123456", quick=False) == range(1_000_000)
    assert soak.wanted("7:", "", quick=False) == range(7, 8)
