"""What a service tells about itself, and what it never tells."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.secret import Secret
from chassis.settings import Settings
from chassis.telemetry import Histogram, Metrics, Tracer, configure_logs, notes_of, trace_id, tracer_for


class Lines:
    """What was logged since it was made."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        configure_logs("demo", "info", self._out)

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]

    def text(self) -> str:
        return self._out.getvalue().decode()


@pytest.fixture
def lines() -> Any:
    kept = logging.root.handlers[:], logging.root.level
    yield Lines()
    structlog.reset_defaults()
    logging.root.handlers[:], logging.root.level = kept[0], kept[1]


def test_a_line_is_one_json_object_with_the_ids_that_are_bound(lines: Lines) -> None:
    with structlog.contextvars.bound_contextvars(org="org_default", run="r1"):
        structlog.get_logger().info("step.failed", step="fetch", attempt=2)
    (line,) = lines.all()
    del line["timestamp"]
    assert line == {
        "event": "step.failed",
        "level": "info",
        "service": "demo",
        "org": "org_default",
        "run": "r1",
        "step": "fetch",
        "attempt": 2,
    }


def test_lines_below_the_level_are_not_written(lines: Lines) -> None:
    structlog.get_logger().debug("nothing")
    assert lines.all() == []


def test_no_secret_is_written_whatever_a_caller_hands_over(lines: Lines) -> None:
    def connect(password: str) -> None:
        raise ConnectionError("cannot connect to https://me:hunter2@example.com/?token=hunter2")

    try:
        connect("hunter2")
    except ConnectionError:
        structlog.get_logger().exception(
            "failed",
            authorization="Bearer hunter2",
            headers={"Cookie": "hunter2"},
            nested=[{"value": Secret("hunter2")}],
            url="https://example.com/?api_key=hunter2&page=3",
        )
    assert "hunter2" not in lines.text()
    assert "page=3" in lines.text()
    assert lines.all()[0]["exception"][0]["exc_type"] == "ConnectionError"


@pytest.mark.parametrize("value", ["\ud800", 10**400, {1, 2}, b"\xff", float("nan"), {("a",): "\ud800"}])
def test_a_value_that_json_cannot_hold_does_not_lose_the_line(lines: Lines, value: object) -> None:
    structlog.get_logger().warning("odd", value=value, run="r1")
    (line,) = lines.all()
    assert (line["event"], line["run"]) == ("odd", "r1")


def test_a_line_break_in_a_value_forges_no_second_line(lines: Lines) -> None:
    structlog.get_logger().info("name", name='x"}\n{"event":"forged"}')
    assert [line["event"] for line in lines.all()] == ["name"]


def test_libraries_that_use_the_standard_library_are_heard_from_warnings_on(lines: Lines) -> None:
    library = logging.getLogger("uvicorn.error")
    library.info("up")
    library.error("broken %s", "pipe")
    (line,) = lines.all()
    assert (line["event"], line["logger"], line["message"]) == ("library.log", "uvicorn.error", "broken pipe")


# --- Traces -----------------------------------------------------------------------------------

OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def recording(ratio: float) -> tuple[Tracer, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracer(ratio, provider), exporter


def test_the_same_cause_has_the_same_trace() -> None:
    tracer = Tracer()
    assert tracer.begin("receipt 1") == tracer.begin("receipt 1")
    assert trace_id(tracer.begin("receipt 1")) != trace_id(tracer.begin("receipt 2"))


def test_a_strangers_trace_goes_on_but_decides_nothing() -> None:
    assert Tracer().accept(OUTSIDE, "r") == OUTSIDE[:-2] + "00"
    assert recording(1.0)[0].accept(OUTSIDE[:-2] + "00", "r") == OUTSIDE


@pytest.mark.parametrize(
    "broken",
    [None, "", "x", OUTSIDE.upper(), OUTSIDE + "\n", "00-" + "0" * 32 + OUTSIDE[35:], "01" + OUTSIDE],
)
def test_what_is_no_traceparent_begins_a_new_trace(broken: str | None) -> None:
    assert Tracer().accept(broken, "r") == Tracer().begin("r")


def test_the_share_of_traces_is_recorded() -> None:
    tracer, _ = recording(0.25)
    recorded = sum(tracer.begin(f"receipt {n}").endswith("-01") for n in range(4_000))
    assert 850 < recorded < 1_150


def test_while_tracing_is_off_the_parent_is_handed_on() -> None:
    with Tracer().span("attempt", OUTSIDE) as inner:
        assert inner == OUTSIDE
    assert tracer_for("demo", Settings()).begin("r").endswith("-00")


def test_the_first_span_of_a_trace_of_ours_is_its_root_and_the_parent_of_all_others() -> None:
    tracer, exporter = recording(1.0)
    begun = tracer.begin("receipt 1")
    with tracer.span("http.request", begun) as outer:
        with tracer.span("attempt", outer):
            pass
        with tracer.span("attempt", outer):
            pass
    *children, root = exporter.get_finished_spans()
    assert root.parent is None
    assert f"{root.context.trace_id:032x}" == trace_id(begun) == trace_id(outer)
    for child in children:
        assert child.parent is not None
        assert child.parent.span_id == root.context.span_id
        assert child.context.trace_id == root.context.trace_id


def test_two_traces_that_are_begun_at_once_do_not_mix() -> None:
    tracer, exporter = recording(1.0)
    with tracer.span("a", tracer.begin("1")) as first, tracer.span("b", tracer.begin("2")) as second:
        pass
    assert {f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()} == {
        trace_id(first),
        trace_id(second),
    }
    assert all(span.parent is None for span in exporter.get_finished_spans())


def test_the_sampler_of_a_service_keeps_what_its_tracer_began(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    settings = Settings(data_dir=str(tmp_path), otlp_endpoint="http://127.0.0.1:9", trace_ratio=0.5)
    tracer = tracer_for("ingress", settings, exporter)
    begun = [tracer.begin(f"receipt {number}") for number in range(100)]
    for each in begun:
        with tracer.span("http.request", each):
            pass
    tracer.close()
    recorded = {f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()}
    assert recorded == {trace_id(each) for each in begun if each.endswith("-01")}
    assert 20 < len(recorded) < 80


def test_a_span_is_the_parent_of_what_it_causes() -> None:
    tracer, exporter = recording(1.0)
    with tracer.span("outer", OUTSIDE, run="r1") as outer, tracer.span("inner", outer):
        pass
    inner_span, outer_span = exporter.get_finished_spans()
    assert outer_span.attributes == {"run": "r1"}
    assert outer_span.parent is not None
    assert f"{outer_span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert inner_span.parent is not None
    assert inner_span.parent.span_id == outer_span.context.span_id
    assert f"{inner_span.context.trace_id:032x}" == trace_id(OUTSIDE)


def test_a_trace_that_is_not_recorded_costs_no_span() -> None:
    tracer, exporter = recording(1.0)
    with tracer.span("attempt", OUTSIDE[:-2] + "00") as inner:
        assert inner == OUTSIDE[:-2] + "00"
    assert exporter.get_finished_spans() == ()


def test_a_failed_span_tells_the_kind_of_error_and_not_its_words() -> None:
    tracer, exporter = recording(1.0)
    with pytest.raises(KeyError), tracer.span("attempt", OUTSIDE):
        raise KeyError("hunter2")
    (span,) = exporter.get_finished_spans()
    assert span.status.description == "KeyError"
    assert "hunter2" not in span.to_json()


# --- Figures ----------------------------------------------------------------------------------


def test_figures_are_read_when_somebody_asks() -> None:
    metrics = Metrics("demo")
    seen = {"accepted": 0}
    metrics.counter("demo_accepted_total", "Accepted.", lambda: seen["accepted"])
    metrics.gauges("demo_lag_seconds", "Lag.", "stream", lambda: {"RUNS": 1.5, "DOMAIN": 0.0})
    seen["accepted"] = 3
    text = metrics.render().decode()
    assert 'demo_accepted_total{service="demo"} 3.0' in text
    assert 'demo_lag_seconds{service="demo",stream="RUNS"} 1.5' in text
    assert "process_resident_memory_bytes" in text


def test_a_histogram_counts_every_bound_inclusively() -> None:
    metrics = Metrics("demo")
    histogram = metrics.histogram("demo_wait_seconds", "Waits.", (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 2.0):
        histogram.observe(value)
    assert isinstance(histogram, Histogram)
    text = metrics.render().decode()
    for line in (
        'demo_wait_seconds_bucket{le="0.1",service="demo"} 2.0',
        'demo_wait_seconds_bucket{le="1.0",service="demo"} 3.0',
        'demo_wait_seconds_bucket{le="+Inf",service="demo"} 4.0',
        'demo_wait_seconds_sum{service="demo"} 2.65',
    ):
        assert line in text


def test_that_the_log_may_lose_what_was_accepted_is_told() -> None:
    assert notes_of(Settings()) == ()
    assert "power cut" in notes_of(Settings(unsafe_fast=True))[0]
