"""The figures of an executor, for Prometheus."""

from chassis.telemetry import Metrics
from contracts.messages import StepBroken, StepDone, StepInDoubt, StepLetGo
from executor.journal import Journal
from executor.registry import Registry
from executor.service import Executor

_OUTCOMES = {
    "succeeded": StepDone.__name__,
    "failed": StepBroken.__name__,
    "in_doubt": StepInDoubt.__name__,
    "cancelled": StepLetGo.__name__,
}


def show(metrics: Metrics, executor: Executor, registry: Registry, journal: Journal) -> None:
    """Have the executor's plain numbers read whenever somebody asks."""
    counts = executor.counts
    metrics.counters(
        "executor_attempts_total",
        "Attempts whose outcome was accepted.",
        "outcome",
        lambda: {shown: counts[name] for shown, name in _OUTCOMES.items()},
    )
    metrics.counter("executor_tasks_total", "Tasks taken.", lambda: counts["taken"])
    metrics.counter(
        "executor_task_echoes_total", "Tasks of attempts that were over.", lambda: counts["echoes"]
    )
    metrics.counter(
        "executor_task_dead_letters_total", "Tasks that could not be read.", lambda: counts["dead_letters"]
    )
    metrics.counter(
        "executor_attempts_stubborn_total",
        "Attempts whose node did not stop when it was told to.",
        lambda: counts["stubborn"],
    )
    metrics.gauge("executor_attempts_under_way", "Attempts now.", lambda: executor.under_way)
    metrics.gauge(
        "executor_plugins_left_out", "Plug-ins that could not be used.", lambda: len(registry.faults)
    )
    metrics.counter("executor_log_lines_total", "Log lines of attempts stored.", lambda: journal.stored)
    metrics.counter(
        "executor_log_lines_dropped_total",
        "Log lines that found no place: the disk is too full, or the log away.",
        lambda: journal.dropped,
    )
