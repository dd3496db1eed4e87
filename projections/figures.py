"""What the projections count, and how they tell it."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from chassis.clock import Clock
from chassis.telemetry import Histogram, Metrics
from projections.arrived import TROUBLES

LAG_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Progress(Struct, kw_only=True):
    """How far one projection is."""

    name: str
    stream: str
    epoch: int = 0
    sequence: int = 0
    end: int = 0
    """The stream's last sequence when it was last asked for."""
    last_time: float = 0.0
    """When the last message that was projected came to lie in the stream."""
    messages: int = 0
    transactions: int = 0
    refused: int = 0
    failures: int = 0
    """How often Postgres or the log was away."""
    trouble: str = "not begun"
    """Why it does not go on just now; empty while it does."""
    lag: Histogram = field(default_factory=lambda: Histogram(LAG_SECONDS))

    @property
    def behind(self) -> int:
        return max(0, self.end - self.sequence)

    def lag_seconds(self, now: float) -> float:
        """How old the newest row is, measured against the log; 0 when nothing is left to read."""
        return max(0.0, now - self.last_time) if self.behind else 0.0


class Figures(Struct):
    """Everything that one process of projections counts."""

    troubles: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TROUBLES, 0))
    seen_again: int = 0
    events: int = 0
    looks: int = 0
    purged: int = 0
    segments: int = 0
    forgotten: int = 0
    collected: int = 0
    dropped: int = 0
    anchors: int = 0
    archiver_failures: int = 0
    incomplete: int = 0
    unreadable_logs: int = 0
    expired_logs: int = 0


def expose(metrics: Metrics, figures: Figures, progress: Sequence[Progress], clock: Clock) -> None:
    """Register all figures with the service's metrics."""

    def each(read: str) -> Mapping[str, float]:
        return {one.name: float(getattr(one, read)) for one in progress}

    def lag_now() -> Mapping[str, float]:
        now = clock.now().timestamp()
        return {one.name: one.lag_seconds(now) for one in progress}

    for one in progress:
        one.lag = metrics.histogram(
            f"projections_{one.name}_lag_seconds",
            f"How old a message of {one.stream} was when its rows were stored",
            LAG_SECONDS,
        )
    label = "projection"
    metrics.counters("projections_messages_total", "Messages projected", label, lambda: each("messages"))
    metrics.counters("projections_transactions_total", "Transactions", label, lambda: each("transactions"))
    metrics.counters(
        "projections_refused_total", "Messages that could not be projected", label, lambda: each("refused")
    )
    metrics.counters(
        "projections_failures_total", "Tries that found a store away", label, lambda: each("failures")
    )
    metrics.gauges("projections_behind_messages", "Messages not yet projected", label, lambda: each("behind"))
    metrics.counters(
        "projections_troubles_total",
        "Commits that somebody must look at",
        "trouble",
        lambda: figures.troubles,
    )
    metrics.counter("projections_seen_again_total", "Commits that came again", lambda: figures.seen_again)
    metrics.counter("projections_events_total", "Events projected", lambda: figures.events)
    metrics.counter("projections_looks_total", "Runs that the sweeper had looked at", lambda: figures.looks)
    metrics.counter("projections_purged_runs_total", "Histories that left the log", lambda: figures.purged)
    metrics.counter(
        "projections_purged_segments_total",
        "Segments of runs that go on whose commits were let go from the log",
        lambda: figures.segments,
    )
    metrics.counter(
        "projections_collected_objects_total",
        "Objects that nothing named any more",
        lambda: figures.collected,
    )
    metrics.counter(
        "projections_forgotten_runs_total", "Tombstones that left the log", lambda: figures.forgotten
    )
    metrics.counter(
        "projections_dropped_runs_total", "Histories that left the archive", lambda: figures.dropped
    )
    metrics.counter(
        "projections_unreadable_log_records_total",
        "Messages of LOGS that could not be read",
        lambda: figures.unreadable_logs,
    )
    metrics.counter(
        "projections_expired_log_records_total",
        "Log records that the searchable copy has let go of",
        lambda: figures.expired_logs,
    )
    metrics.counter("projections_anchors_total", "Anchors stored", lambda: figures.anchors)
    metrics.counter(
        "projections_incomplete_runs_total",
        "Ended runs whose archive is not whole, each time one is met",
        lambda: figures.incomplete,
    )
    metrics.counter(
        "projections_archiver_failures_total",
        "Rounds of the archiver that failed",
        lambda: figures.archiver_failures,
    )
