"""One trace shows a run from the request that caused it to its last step: each commit is caused by what was told."""

from typing import Any

from msgspec import structs
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.telemetry import Tracer, trace_id
from contracts.codec import Decoder
from contracts.messages import CancelRun, Task
from tests.orchestrator.rooms import Room
from tests.orchestrator.stories import TO, done, drawn

decode_task = Decoder[Task](Task)


def service(exporter: InMemorySpanExporter) -> Tracer:
    """One process' tracer; all of them tell the same collector."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracer(1.0, provider)


def family(spans: tuple[ReadableSpan, ...]) -> dict[str, str]:
    """The name of each span, with its number among its like, and its parent's."""
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        numbers[span.name] = number = numbers.get(span.name, 0) + 1
        assert span.context is not None
        names[span.context.span_id] = f"{span.name} {number}"
    found: dict[str, str] = {}
    for span in spans:
        assert span.context is not None
        found[names[span.context.span_id]] = names[span.parent.span_id] if span.parent else ""
    return found


def task_of(room: Room, step: str) -> Task:
    tasks = [decode_task(each.body) for each in room.tasks.tasks.values()]
    return next(task for task in tasks if task.step == step)


def attempted(tracer: Tracer, task: Task, step: str) -> Any:
    """As an executor makes an attempt and tells what came of it."""
    with tracer.span("attempt", task.trace, node=task.node) as trace:
        return structs.replace(done(step), trace=trace)


def test_a_trace_leads_from_the_webhook_to_the_last_step() -> None:
    exporter = InMemorySpanExporter()
    ingress, executor = service(exporter), service(exporter)
    room = Room(drawn("a>b"))
    room.tracer = service(exporter)

    async def story(room: Room) -> None:
        with ingress.span("http.request", ingress.begin("receipt-1")) as trace:
            [answer] = await room.say(structs.replace(room.start, trace=trace))
        assert answer.result == "accepted"
        for step in ("a", "b"):
            await room.say(attempted(executor, task_of(room, step), step))
        assert room.events[-1] == "run.completed"

    room.play(story)
    spans = exporter.get_finished_spans()
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    assert family(spans) == {
        "http.request 1": "",
        "commit 1": "http.request 1",
        "attempt 1": "commit 1",
        "commit 2": "attempt 1",
        "attempt 2": "commit 2",
        "commit 3": "attempt 2",
    }
    [first, *_] = [span for span in spans if span.name == "commit"]
    assert first.attributes is not None
    assert (first.attributes["run"], first.attributes["version"]) == ("run-1", 1)


def test_a_wish_that_came_by_another_request_does_not_take_the_run_out_of_its_trace() -> None:
    exporter = InMemorySpanExporter()
    tracer = service(exporter)
    room = Room(drawn("a"))
    room.tracer = service(exporter)

    async def story(room: Room) -> None:
        with tracer.span("http.request", tracer.begin("receipt-1")) as trace:
            await room.say(structs.replace(room.start, trace=trace))
        with tracer.span("http.request", tracer.begin("receipt-2")) as other:
            await room.say(CancelRun(**TO, actor="key:1", trace=other))

    room.play(story)
    spans = exporter.get_finished_spans()
    commits = {f"{span.context.trace_id:032x}" for span in spans if span.name == "commit" and span.context}
    assert commits == {trace_id(tracer.begin("receipt-1"))}


def test_a_run_that_nobody_traces_has_no_spans_and_hands_on_what_came() -> None:
    exporter = InMemorySpanExporter()
    room = Room(drawn("a"))
    room.tracer = service(exporter)
    unsampled = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-00"

    async def story(room: Room) -> None:
        await room.say(structs.replace(room.start, trace=unsampled))
        assert task_of(room, "a").trace == unsampled

    room.play(story)
    assert exporter.get_finished_spans() == ()
