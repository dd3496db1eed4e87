"""What a service tells about itself: log lines, traces, figures. Each costs nothing while nobody listens.

Rule that holds here: telemetry never raises and never shows a secret; `chassis.secret.redact` sees every line last.
"""

import bisect
import hashlib
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from chassis.secret import redact
from chassis.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.id_generator import IdGenerator

# --- Log lines --------------------------------------------------------------------------------


def configure_logs(service: str, level: str = "info", out: BinaryIO | None = None) -> None:
    """One JSON object per line on stdout: `event`, `level`, `timestamp`, `service`, and what the caller binds.

    `org`, `run` and `trace` are bound with `structlog.contextvars.bound_contextvars` or on the logger.
    Lines of libraries that know only the standard library's logging go the same way, from `warning` on.
    """
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Service(service),
            structlog.processors.ExceptionRenderer(
                # Locals hold secrets: a traceback tells places only.
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
            ),
            redact,
            _line,
        ],
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer if out is None else out),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Bridge()], force=True)


class _Service:
    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(
        self, _logger: object, _name: str, event_dict: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event_dict["service"] = self._name
        return event_dict


def _line(_logger: object, _name: str, event_dict: MutableMapping[str, Any]) -> bytes:
    try:
        return _encode(event_dict)
    except (UnicodeEncodeError, RecursionError, TypeError, ValueError, msgspec.MsgspecError):
        return _encode({ascii(key)[1:-1]: _shown(value) for key, value in event_dict.items()})


def _shown(value: object) -> object:
    """A value that JSON cannot hold (a lone surrogate, say) as Python shows it."""
    try:
        _encode(value)
    except (UnicodeEncodeError, RecursionError, TypeError, ValueError, msgspec.MsgspecError):
        return ascii(value) if not isinstance(value, Mapping | list) else "(not JSON)"
    return value


_encode: Final = msgspec.json.Encoder(enc_hook=repr).encode


class _Bridge(logging.Handler):
    """Hands lines of uvicorn, nats-py, asyncio and OpenTelemetry to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            "library.log",
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )


# --- Traces -----------------------------------------------------------------------------------

_TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NOTHING: Final = ("0" * 32, "0" * 16)


def trace_id(traceparent: str) -> str:
    """The trace's id, for log lines and problems; empty when there is none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    return found[1] if found else ""


class Tracer:
    """Hands a `traceparent` on, and records spans when the instance's owner named a collector.

    While tracing is off nothing is computed but the hash that names a new trace. Ids of traces derive from what caused
    them, so that a repeat has the same one and a simulation needs no chance.
    """

    def __init__(self, ratio: float = 0.0, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider
        self._next_trace = 0
        if provider is not None:
            provider.id_generator = _ids(provider.id_generator, lambda: self._next_trace)  # type: ignore[assignment]  # Any generator will do; the SDK says less than it takes.
        self._tracer = provider.get_tracer("automateos") if provider else None
        self._sampled_below = round(ratio * 2**64) if provider else 0

    @property
    def listens(self) -> bool:
        """Whether any span is recorded; without it a span is what was its parent."""
        return self._tracer is not None

    def begin(self, seed: str) -> str:
        """A new trace for what `seed` (a receipt, say) names. Whether it is recorded is a function of its id.

        One that is recorded has no span yet: the first one in it is its root, and nobody's child.
        """
        digest = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()
        recorded = self._records(digest[:32])
        return self._flagged(digest[:32], _NOTHING[1] if recorded else digest[32:48])

    def accept(self, traceparent: str | None, seed: str) -> str:
        """Go on with a stranger's trace, but let nobody outside decide what is recorded."""
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found is None or found[1] == _NOTHING[0] or found[2] == _NOTHING[1]:
            return self.begin(seed)
        return self._flagged(found[1], found[2])

    @contextmanager
    def span(self, name: str, parent: str, **attributes: str | int | float | bool) -> Iterator[str]:
        """Record what happens in the block. Yields the `traceparent` for whatever it causes."""
        found = _TRACEPARENT.fullmatch(parent) if self._tracer is not None else None
        if self._tracer is None or found is None or not int(found[3], 16) & TraceFlags.SAMPLED:
            yield parent
            return
        span = self._tracer.start_span(
            name, self._around(found[1], found[2]), kind=SpanKind.CONSUMER, attributes=attributes
        )
        inner = span.get_span_context()
        try:
            yield f"00-{inner.trace_id:032x}-{inner.span_id:016x}-{inner.trace_flags:02x}"
        except BaseException as error:
            # The kind only: a message may hold what must not leave.
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()

    def _around(self, trace_hex: str, span_hex: str) -> Context:
        """What a span is the child of."""
        if span_hex == _NOTHING[1]:
            self._next_trace = int(trace_hex, 16)
            return Context()
        remote = SpanContext(
            int(trace_hex, 16), int(span_hex, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
        )
        return trace.set_span_in_context(NonRecordingSpan(remote))

    def close(self) -> None:
        """Send what is still held back."""
        if self._provider is not None:
            self._provider.shutdown()

    def _flagged(self, trace_hex: str, span_hex: str) -> str:
        return f"00-{trace_hex}-{span_hex}-{'01' if self._records(trace_hex) else '00'}"

    def _records(self, trace_hex: str) -> bool:
        return int(trace_hex[16:], 16) < self._sampled_below


def _ids(others: "IdGenerator", trace_of_next: Callable[[], int]) -> "IdGenerator":
    """A root span has the id of the trace that was begun; all else is as it was."""
    # Only where a collector is: see `tracer_for`.
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Ids(IdGenerator):
        def generate_span_id(self) -> int:
            return others.generate_span_id()

        def generate_trace_id(self) -> int:
            return trace_of_next()

    return Ids()


def tracer_for(service: str, settings: Settings, exporter: "SpanExporter | None" = None) -> Tracer:
    """Tracing as the settings say: off without a collector, else a share of all traces, sent in batches."""
    if not settings.otlp_endpoint:
        return Tracer()
    # 7 MB that a service without a collector does not need.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_ratio)),
        resource=Resource.create({"service.name": f"automateos-{service}"}),
        shutdown_on_exit=False,
    )
    endpoint = f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint)))
    return Tracer(settings.trace_ratio, provider)


def notes_of(settings: Settings) -> tuple[str, ...]:
    """What whoever asks a service for its readiness shall know besides."""
    if settings.unsafe_fast:
        return ("unsafe-fast: a power cut loses what was accepted.",)
    return ()


# --- Figures ----------------------------------------------------------------------------------

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets in which durations are counted."""

_Read = Callable[[], float]
_ReadMany = Callable[[], Mapping[str, float]]


class Histogram:
    """Counts durations in buckets. Plain integers: one observation costs a bisection and two additions."""

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value


class Metrics:
    """The figures of one process. Whoever counts keeps a plain number; it is read when somebody asks.

    Handed to the parts of a service as an argument; there is no global registry.
    """

    def __init__(self, service: str) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._labels = {"service": service}
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def counter(self, name: str, what: str, read: _Read) -> None:
        """Something that only grows. `name` ends in `_total`."""
        self._add(lambda: _single(CounterMetricFamily(name, what, labels=["service"]), self._labels, read()))

    def gauge(self, name: str, what: str, read: _Read) -> None:
        """Something that goes up and down."""
        self._add(lambda: _single(GaugeMetricFamily(name, what, labels=["service"]), self._labels, read()))

    def counters(self, name: str, what: str, label: str, read: _ReadMany) -> None:
        """One growing number per value of a label. The values are a closed, small set: never an id."""
        self._add(
            lambda: _each(CounterMetricFamily(name, what, labels=["service", label]), self._labels, read())
        )

    def gauges(self, name: str, what: str, label: str, read: _ReadMany) -> None:
        """One number that goes up and down per value of a label."""
        self._add(
            lambda: _each(GaugeMetricFamily(name, what, labels=["service", label]), self._labels, read())
        )

    def histogram(self, name: str, what: str, bounds: Sequence[float] = SECONDS) -> Histogram:
        """Durations in seconds. `name` ends in `_seconds`."""
        histogram = Histogram(bounds)
        self._add(
            lambda: _buckets(HistogramMetricFamily(name, what, labels=["service"]), self._labels, histogram)
        )
        return histogram

    def render(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)

    def _add(self, collect: Callable[[], Metric]) -> None:
        self._registry.register(_Callback(collect))


class _Callback(Collector):
    def __init__(self, collect: Callable[[], Metric]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return (self._collect(),)


def _single(
    family: CounterMetricFamily | GaugeMetricFamily, labels: Mapping[str, str], value: float
) -> Metric:
    family.add_metric(list(labels.values()), value)
    return family


def _each(
    family: CounterMetricFamily | GaugeMetricFamily, labels: Mapping[str, str], values: Mapping[str, float]
) -> Metric:
    for name, value in values.items():
        family.add_metric([*labels.values(), name], value)
    return family


def _buckets(family: HistogramMetricFamily, labels: Mapping[str, str], histogram: Histogram) -> Metric:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    family.add_metric(list(labels.values()), buckets, histogram.sum)
    return family
