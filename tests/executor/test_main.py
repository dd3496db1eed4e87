"""An executor that cannot work says why in one line, before it takes anything."""

import pytest

from chassis.lifecycle import CannotStart
from chassis.settings import Settings
from chassis.telemetry import Metrics
from executor.__main__ import labels_of, pools_of
from executor.figures import show
from executor.registry import Fault, Registry
from tests.executor.fakes import World, simulated, task, until
from tests.executor.nodes import Outside


def test_pools_are_separated_by_commas() -> None:
    assert pools_of(Settings(pools="default, http,, code-1")) == ("default", "http", "code-1")


@pytest.mark.parametrize("pools", ["Default", "a.b", "x y", ">", "*"])
def test_a_pool_that_is_no_name_is_refused(pools: str) -> None:
    with pytest.raises(CannotStart, match="AUTOMATEOS_POOLS"):
        pools_of(Settings(pools=pools))


def test_an_executor_serves_no_pool_of_workers_outside() -> None:
    with pytest.raises(CannotStart, match="AUTOMATEOS_POOLS"):
        pools_of(Settings(pools="default,ext-vision"))


def test_labels_are_pairs_separated_by_commas() -> None:
    assert labels_of(Settings(pool_labels=" zone=a, gpu=l4,, fast=")) == {
        "zone": "a",
        "gpu": "l4",
        "fast": "",
    }
    for labels in ("Zone=a", "=a", "a b=c", f"zone={'x' * 65}", ",".join(f"l{n}=x" for n in range(17))):
        with pytest.raises(CannotStart, match="AUTOMATEOS_POOL_LABELS"):
            labels_of(Settings(pool_labels=labels))


def test_figures_are_read_when_somebody_asks() -> None:
    outside = Outside()
    outside.fails = "silent"
    world, metrics = World(outside.node), Metrics("executor")

    async def main() -> str:
        async with world.executor() as running:
            show(metrics, running.shell, Registry({}, (Fault("acme", "broken"),)), world.journal)
            world.source.put(task({"value": 1}), task(node_type="test", repeat="no", attempt=2), b"poison")
            await until(lambda: len(world.outcomes) == 2)
            await until(lambda: not running.shell.under_way)
            return metrics.render().decode()

    shown = simulated(main())

    assert 'executor_attempts_total{outcome="succeeded",service="executor"} 1.0' in shown
    assert 'executor_attempts_total{outcome="in_doubt",service="executor"} 1.0' in shown
    assert 'executor_task_dead_letters_total{service="executor"} 1.0' in shown
    assert 'executor_plugins_left_out{service="executor"} 1.0' in shown
    assert 'executor_attempts_under_way{service="executor"} 0.0' in shown
