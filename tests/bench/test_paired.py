"""What a paired comparison promises: both sides measured alike, the medians and their ratio, and a verdict on what fell."""

from pathlib import Path
from typing import Any

import pytest

from bench.paired import COPIED, HERE, Side, checked_out, compared, costs_of, named, worse


def side(**figures: float) -> dict[str, Any]:
    return {"broken": "", **figures}


def test_a_figure_is_the_median_of_its_rounds_and_the_ratio_that_of_single_rounds() -> None:
    first = [side(runs_per_s=each) for each in (100, 300, 200)]
    second = [side(runs_per_s=each) for each in (150, 90, 180)]
    told = compared(first, second)["runs_per_s"]
    assert (told["first"], told["second"], told["ratio"]) == (200, 150, 0.9)
    assert (told["lowest"], told["highest"], told["rounds"]) == (0.3, 1.5, 3)
    assert told["worse"] == 0.1


def test_less_is_better_where_it_is_and_nothing_is_worse_that_is_better() -> None:
    told = compared([side(p50_ms_at_1=10, runs_per_s=100)], [side(p50_ms_at_1=12, runs_per_s=130)])
    assert told["p50_ms_at_1"]["worse"] == 0.2
    assert told["runs_per_s"]["worse"] == 0
    assert worse(told, 0.1) == {"p50_ms_at_1": 0.2}
    assert worse(told, 0.25) == {}


def test_a_round_counts_only_where_both_sides_have_the_figure() -> None:
    told = compared([side(ready_s=2), side()], [side(ready_s=1), side(ready_s=9)])
    assert told["ready_s"]["rounds"] == 1
    assert compared([side()], [side(ready_s=1)]) == {}


def test_what_a_run_costs_is_told_and_decides_nothing() -> None:
    told = compared([side(us=100, us_nats=10)], [side(us=200, us_nats=30)])
    assert (told["us"]["worse"], told["us_nats"]["worse"]) == (1, 2)
    assert worse(told, 0.1) == {}


def test_what_our_services_cost_is_told_beside_what_nats_server_does_in_the_same_moment() -> None:
    spent = {"ingress": 100, "orchestrator": 200, "executor": 50, "projections": 100, "gateway": 50}
    loads = {"echo3 at 128": {"us_per_run": spent | {"nats": 250, "postgres": 1_000}}}
    told = costs_of({"scenarios": loads})
    assert (told["us"], told["us_by_nats"], told["us_ingress"]) == (1_750, 2.0, 100)
    slow = {name: 2 * us for name, us in loads["echo3 at 128"]["us_per_run"].items()}
    assert costs_of({"scenarios": {"echo3 at 128": {"us_per_run": slow}}})["us_by_nats"] == 2.0


def test_both_sides_are_measured_by_this_checkout_s_measure(tmp_path: Path) -> None:
    folder = tmp_path / "side"
    checked_out("HEAD", folder)
    assert sorted(path.name for path in (folder / "bench").glob("*.py")) == sorted(COPIED)
    assert list((folder / "bench").glob("*/*.pyc")), "no start of a side compiles"
    for name in COPIED:
        assert (folder / "bench" / name).read_bytes() == (HERE / name).read_bytes()
    assert (folder / "orchestrator" / "service.py").exists()
    assert not (folder / ".git").exists()


def test_a_side_that_is_gone_is_broken_for_every_row_and_keeps_nothing_back(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    (tmp_path / "bench" / "side.py").write_text("raise SystemExit('no memory left')")
    with Side(tmp_path) as gone:
        told = [gone.measure(row) for row in ("start", "one", "echo")]
    assert told == [{"broken": "no memory left"}] * 3


def test_what_is_no_commit_is_refused_before_anything_is_measured() -> None:
    assert len(named("HEAD")) == 40
    with pytest.raises(SystemExit, match="no commit"):
        named("no-such-commit")
    with pytest.raises(SystemExit, match="no commit"):
        named("--help")
