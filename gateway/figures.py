"""The gateway's plain numbers, read whenever somebody asks for its metrics."""

from chassis.edge.trails import Trails
from chassis.rate_limit import RateLimit
from chassis.telemetry import Metrics
from gateway.assembly import Gateway


def show(metrics: Metrics, gateway: Gateway, limit: RateLimit, trails: Trails) -> None:
    """Have the plain numbers read whenever somebody asks."""
    tail, places, live = gateway.tail, gateway.places, gateway.parts.live
    metrics.gauge("gateway_streams_open", "Live streams.", lambda: sum(live.open.values()))
    metrics.counter("gateway_streams_let_go_total", "Live streams that did not keep up.", lambda: tail.let_go)
    logs, search = gateway.parts.logs, gateway.parts.log_search
    metrics.counter(
        "gateway_log_bytes_total", "Log lines looked at for somebody, in bytes.", lambda: logs.looked_at
    )
    metrics.counter(
        "gateway_log_records_searched_total", "Log records that searches looked at.", lambda: search.looked_at
    )
    metrics.counter(
        "gateway_reads_behind_total",
        "Reads that were answered before the read models had caught up.",
        lambda: places.gave_up,
    )
    metrics.counter(
        "gateway_conflicts_total",
        "Changes that were decided again because another was first.",
        lambda: gateway.parts.domain.conflicts,
    )
    metrics.counter(
        "gateway_triggers_rebound_total",
        "Triggers that were bound behind a publisher that died.",
        lambda: gateway.binding.repaired,
    )
    desk = gateway.parts.desk
    metrics.gauge(
        "gateway_workers_waiting", "Calls of workers outside that wait for work.", lambda: desk.waiting
    )
    metrics.counters(
        "gateway_worker_tasks_total",
        "Tasks of workers outside, by what became of them.",
        "what",
        lambda: dict(desk.counts),
    )
    metrics.counter(
        "gateway_limits_without_redis_total",
        "Decisions about a rate made without Redis.",
        lambda: limit.fallbacks,
    )
    metrics.counters(
        "gateway_trails_total",
        "Wishes for a run that said which run has them, by what became of that.",
        "result",
        lambda: trails.counts,
    )
