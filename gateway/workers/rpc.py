"""The worker API over gRPC: the same words as over HTTPS, judged by the same decoders and the same desk.

Imported only where a port is set for it: gRPC takes memory that a gateway without it shall not need.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
import msgspec
import structlog
from msgspec import Raw

from chassis.edge.bodies import BodyDecoder
from chassis.edge.problems import Complaint, Problem
from chassis.ids import receipt
from chassis.lifecycle import CannotStart
from chassis.telemetry import Tracer
from contracts import worker_pb2 as words
from contracts.codec import explain
from contracts.limits import API_BODY_BYTES, MIB, WORKER_INPUT_BYTES, WORKER_POLLS_IN_ALL, WORKER_WAIT_SECONDS
from contracts.workers import AnnounceTypes, BeginTask, FetchBlob, KeepLeases, PollTasks, ReportTask
from gateway.authentication import Callers
from gateway.callers import Caller
from gateway.domain import cause_of
from gateway.permissions import WORKS
from gateway.problems import problem_of
from gateway.workers.desk import Desk
from gateway.workers.routes import worker_of
from gateway.workers.types import Types

SERVICE: Final = "automateos.worker.v1.Worker"
_SHORT_CALLS: Final = 200
"""Calls at once beside those that wait."""
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", API_BODY_BYTES),
    ("grpc.max_send_message_length", WORKER_INPUT_BYTES + MIB),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.so_reuseport", 0),
)
_STATUS: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}

T = TypeVar("T")
log = structlog.get_logger()
_announce: Final = BodyDecoder(AnnounceTypes)


class Calls:
    """The calls, each as its route over HTTPS."""

    def __init__(self, desk: Desk, types: Types, callers: Callers, tracer: Tracer) -> None:
        self._desk, self._types, self._callers, self._tracer = desk, types, callers, tracer

    def handlers(self) -> Any:
        """What the server is given."""
        rows: tuple[tuple[str, Any, Any], ...] = (
            ("AnnounceTypes", self._announce_types, words.AnnounceTypesRequest),
            ("PollTasks", self._poll_tasks, words.PollTasksRequest),
            ("KeepLeases", self._keep_leases, words.KeepLeasesRequest),
            ("BeginTask", self._begin_task, words.BeginTaskRequest),
            ("FetchBlob", self._fetch_blob, words.FetchBlobRequest),
            ("ReportTask", self._report_task, words.ReportTaskRequest),
        )
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                self._answering(call),
                request_deserializer=asked.FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, call, asked in rows
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _answering(self, call: Callable[[Any, Caller], Awaitable[Any]]) -> Any:
        """Who asks, then what they ask; whatever goes wrong is a status with the code of a problem."""

        async def answer(request: Any, context: Any) -> Any:
            given = dict(context.invocation_metadata() or ())
            trace = self._tracer.accept(_text(given.get("traceparent")), receipt())
            try:
                caller = await self._callers.admit(_text(given.get("authorization")), trace)
                if not caller.may(WORKS):
                    raise Problem("forbidden", f"This asks for the scope {WORKS}.")
                return await call(request, caller)
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    log.error("gateway.defect", method=call.__name__, exc_info=error)
                    problem = Problem("internal")
            await _refuse(context, problem)
            raise AssertionError("abort raises")

        return answer

    async def _announce_types(self, request: words.AnnounceTypesRequest, caller: Caller) -> Any:
        said = _announce(b'{"specs":[' + b",".join(request.specs) + b"]}")
        told = await self._types.announce(worker_of(caller).pool, said, cause_of(caller))
        return words.AnnounceTypesReply(pool=told.pool, types=told.types)

    async def _poll_tasks(self, request: words.PollTasksRequest, caller: Caller) -> Any:
        wait = request.wait_s if request.HasField("wait_s") else WORKER_WAIT_SECONDS
        asked = _made(PollTasks, most=request.most or 1, wait_s=wait, begins=request.begins)
        told = await self._desk.poll(worker_of(caller), asked)
        return words.PollTasksReply(
            tasks=[
                words.Task(**{**msgspec.structs.asdict(task), "config": bytes(task.config)})
                for task in told.tasks
            ]
        )

    async def _keep_leases(self, request: words.KeepLeasesRequest, caller: Caller) -> Any:
        told = await self._desk.keep(worker_of(caller), _made(KeepLeases, leases=list(request.leases)))
        gone = [words.GoneLease(lease=each.lease, why=each.why) for each in told.gone]
        return words.KeepLeasesReply(gone=gone, lease_s=told.lease_s)

    async def _begin_task(self, request: words.BeginTaskRequest, caller: Caller) -> Any:
        told = await self._desk.begin(worker_of(caller), _made(BeginTask, lease=request.lease))
        return words.BeginTaskReply(begun=told.begun)

    async def _fetch_blob(self, request: words.FetchBlobRequest, caller: Caller) -> Any:
        asked = _made(FetchBlob, lease=request.lease, sha256=request.sha256)
        told = await self._desk.fetch(worker_of(caller), asked)
        return words.FetchBlobReply(content_type=told.content_type, data=told.data)

    async def _report_task(self, request: words.ReportTaskRequest, caller: Caller) -> Any:
        said = _made(ReportTask, lease=request.lease, report=_report(request))
        told = await self._desk.report(worker_of(caller), said)
        return words.ReportTaskReply(result=told.result)


@asynccontextmanager
async def serving(
    calls: Calls, host: str, port: int, *, tls: tuple[str, str] | None, drain_seconds: float
) -> AsyncIterator[int]:
    """Serve while the block runs; the port. After it calls under way are answered first."""
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=WORKER_POLLS_IN_ALL + _SHORT_CALLS)
    server.add_generic_rpc_handlers((calls.handlers(),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            taken = server.add_insecure_port(address)
        else:
            taken = server.add_secure_port(address, _shown(tls))
    except (OSError, RuntimeError) as error:
        raise CannotStart(f"the worker API cannot listen on {address}: {error}") from error
    await server.start()
    try:
        yield taken
    finally:
        await asyncio.shield(server.stop(drain_seconds))


def _shown(tls: tuple[str, str]) -> Any:
    """What a worker is shown, as it was when the gateway started."""
    certificate, key = (Path(file).read_bytes() for file in tls)
    return grpc.ssl_server_credentials([(key, certificate)])


def _report(request: words.ReportTaskRequest) -> dict[str, Any]:
    """What came of the attempt, as JSON would say it."""
    kind = request.WhichOneof("report")
    match kind:
        case "succeeded":
            output = request.succeeded.output or b"null"
            return {"kind": kind, "output": Raw(output), "ports": list(request.succeeded.ports) or ["main"]}
        case "failed":
            failed = request.failed
            pause = failed.retry_after_s if failed.HasField("retry_after_s") else None
            return {
                "kind": kind,
                "message": failed.message,
                "retryable": failed.retryable,
                "retry_after_s": pause,
                "touched": failed.touched,
            }
        case "in_doubt":
            return {"kind": kind, "message": request.in_doubt.message}
        case "let_go":
            let_go = request.let_go
            return {"kind": kind, "effect": let_go.effect or "possible", "message": let_go.message}
        case "gave_back":
            return {"kind": kind}
    raise Problem("malformed", "The report says nothing.")


def _made(kind: type[T], **fields: Any) -> T:
    """The contract's own type, within its bounds. Raises `Problem`."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        message, pointer = explain(error)
        raise Problem("malformed", errors=[Complaint(pointer=pointer, message=message)]) from None


async def _refuse(context: Any, problem: Problem) -> None:
    """Raises. The code of the problem, and each place that is wrong, travel as metadata behind the answer."""
    trailing = [("code", problem.code)]
    if "retry-after" in problem.headers:
        trailing.append(("retry-after", problem.headers["retry-after"]))
    trailing += [("error", f"{each.pointer}: {each.message}"[:300]) for each in problem.errors[:20]]
    plain = [(name, text.encode("ascii", "replace").decode()) for name, text in trailing]
    status = _STATUS.get(problem.status, grpc.StatusCode.INTERNAL)
    await context.abort(status, str(problem), tuple(plain))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
