"""The worker API over gRPC says what it says over HTTPS: the same desk, the same bounds, the same refusals."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
import trustme
from msgspec import Raw

from chassis.lifecycle import CannotStart
from chassis.telemetry import Tracer
from chassis.testing.ports import free_port
from contracts import worker_pb2 as words
from contracts.codec import encode
from contracts.limits import API_BODY_BYTES
from contracts.messages import Answer, StepBroken, StepDone, StepInDoubt, StepLetGo
from contracts.payloads import Inline
from deploy.worker_stubs import made
from gateway.authentication import Callers
from gateway.permissions import token_scopes
from gateway.workers.rpc import SERVICE, Calls, serving
from tests.gateway.fakes import Office
from tests.gateway.handing import a_task
from tests.gateway.test_workers_api import POOL, RESIZE, history, lies_there, scheduled

REPOSITORY = Path(__file__).parents[2]
REPLIES = {
    "AnnounceTypes": words.AnnounceTypesReply,
    "PollTasks": words.PollTasksReply,
    "KeepLeases": words.KeepLeasesReply,
    "BeginTask": words.BeginTaskReply,
    "FetchBlob": words.FetchBlobReply,
    "ReportTask": words.ReportTaskReply,
}


class Line:
    """A worker's connection."""

    def __init__(self, channel: Any, token: str) -> None:
        self.channel, self.token = channel, token

    async def say(self, call: str, request: Any, token: str | None = None) -> Any:
        asked = self.channel.unary_unary(
            f"/{SERVICE}/{call}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=REPLIES[call].FromString,
        )
        metadata = (("authorization", f"Bearer {self.token if token is None else token}"),)
        return await asked(request, metadata=metadata, timeout=20)

    async def refused(self, call: str, request: Any, token: str | None = None) -> tuple[grpc.StatusCode, str]:
        """The status, and the code of the problem."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.say(call, request, token)
        trailing = dict(error.value.trailing_metadata() or ())
        return error.value.code(), str(trailing.get("code", ""))


@asynccontextmanager
async def line(office: Office, *, tls: tuple[str, str] | None = None, ca: bytes = b"") -> AsyncIterator[Line]:
    calls = Calls(office.desk, office.parts.worker_types, Callers(office.vault.find_key), Tracer())
    async with serving(calls, "127.0.0.1", 0, tls=tls, drain_seconds=1.0) as port:
        if tls is None:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        else:
            channel = grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(ca))
        async with channel:
            yield Line(channel, await office.key_for("org_default", token_scopes(POOL)))


async def announced(office: Office, worker: Line) -> None:
    request = words.AnnounceTypesRequest(specs=[json.dumps(RESIZE).encode()])
    told = await worker.say("AnnounceTypes", request)
    assert (told.pool, list(told.types)) == (POOL, ["work.resize"])
    office.engine.answer_with = Answer(run="", result="accepted")


async def polled(worker: Line, **asked: Any) -> list[Any]:
    told = await worker.say("PollTasks", words.PollTasksRequest(**{"wait_s": 0.1, **asked}))
    return list(told.tasks)


async def test_work_is_asked_for_kept_begun_and_reported(office: Office) -> None:
    async with line(office) as worker:
        await announced(office, worker)
        await office.handing.put(POOL, "org_default", a_task(repeat="no"))
        history(office, scheduled())
        [task] = await polled(worker, begins=True)
        assert (task.run, task.step, task.node, task.type, task.attempt, task.repeat) == (
            "run-1", "call", "call", "work.resize", 1, "no",
        )  # fmt: skip
        assert (json.loads(task.config), task.key, task.lease_s) == ({"width": 100}, "run-1/call", 30.0)
        kept = await worker.say("KeepLeases", words.KeepLeasesRequest(leases=[task.lease]))
        assert (list(kept.gone), kept.lease_s) == ([], 30.0)
        assert (await worker.say("BeginTask", words.BeginTaskRequest(lease=task.lease))).begun
        report = words.ReportTaskRequest(
            lease=task.lease, succeeded=words.Succeeded(output=b'{"ok":1}', ports=["broken"])
        )
        assert (await worker.say("ReportTask", report)).result == "accepted"
        [outcome] = office.engine.heard
        assert isinstance(outcome, StepDone)
        assert isinstance(outcome.output, Inline)
        assert (bytes(outcome.output.value), outcome.ports) == (b'{"ok":1}', ("broken",))


@pytest.mark.parametrize(
    ("report", "wanted"),
    [
        ({"failed": words.Failed(message="x", retryable=True, retry_after_s=2.5)}, StepBroken),
        ({"failed": words.Failed(message="x", touched=True)}, StepInDoubt),
        ({"in_doubt": words.InDoubt(message="x")}, StepInDoubt),
        ({"let_go": words.LetGo(effect="none")}, StepLetGo),
        ({"let_go": words.LetGo()}, StepLetGo),
        ({"gave_back": words.GaveBack()}, StepInDoubt),
        ({"succeeded": words.Succeeded()}, StepDone),
    ],
)
async def test_every_report_arrives_as_it_was_said(office: Office, report: Any, wanted: Any) -> None:
    async with line(office) as worker:
        await announced(office, worker)
        await office.handing.put(POOL, "org_default", a_task(repeat="no"))
        [task] = await polled(worker)
        await worker.say("ReportTask", words.ReportTaskRequest(lease=task.lease, **report))
        assert type(office.engine.heard[-1]) is wanted
        if wanted is StepBroken:
            assert office.engine.heard[-1].retry_after_s == 2.5  # type: ignore[union-attr]  # A broken step has it.


async def test_what_is_refused_has_the_code_that_it_has_over_https(office: Office) -> None:
    async with line(office) as worker:
        status = grpc.StatusCode
        poll = words.PollTasksRequest(wait_s=0)
        assert await worker.refused("PollTasks", poll) == (status.FAILED_PRECONDITION, "worker.not_announced")
        await announced(office, worker)
        for token in ("", "nonsense"):
            assert await worker.refused("PollTasks", poll, token) == (
                status.UNAUTHENTICATED,
                "unauthenticated",
            )
        assert await worker.refused("PollTasks", poll, office.key) == (status.PERMISSION_DENIED, "forbidden")
        clerk = await office.key_for("org_default", ["runs:read", f"pool:{POOL}"])
        assert await worker.refused("PollTasks", poll, clerk) == (status.PERMISSION_DENIED, "forbidden")
        for bad in (
            words.PollTasksRequest(most=33),
            words.PollTasksRequest(wait_s=31),
            words.PollTasksRequest(wait_s=-1),
        ):
            assert await worker.refused("PollTasks", bad) == (status.INVALID_ARGUMENT, "malformed")
        lease = words.BeginTaskRequest(lease="v1|1|AAAAAAAAAAAAAAAA|AAAAAAAAAAAAAAAAAAAAAA")
        assert await worker.refused("BeginTask", lease) == (status.NOT_FOUND, "not_found")
        nothing = words.ReportTaskRequest(lease="x")
        assert await worker.refused("ReportTask", nothing) == (status.INVALID_ARGUMENT, "malformed")
        for spec in (b"{", b'{"type":1}', b"[]", b'{"nobody":1}'):
            request = words.AnnounceTypesRequest(specs=[spec])
            assert await worker.refused("AnnounceTypes", request) == (status.INVALID_ARGUMENT, "malformed")
        secret = RESIZE | {"config": {"type": "object", "x-secret": True}}
        request = words.AnnounceTypesRequest(specs=[json.dumps(secret).encode()])
        assert await worker.refused("AnnounceTypes", request) == (status.INVALID_ARGUMENT, "worker.bad_types")
        large = words.ReportTaskRequest(
            lease="x", succeeded=words.Succeeded(output=b"1" * (API_BODY_BYTES + 1))
        )
        assert (await worker.refused("ReportTask", large))[0] is status.RESOURCE_EXHAUSTED
        office.vault.away = True
        assert await worker.refused("PollTasks", poll) == (status.UNAVAILABLE, "unavailable")


async def test_an_output_that_is_no_json_is_refused(office: Office) -> None:
    async with line(office) as worker:
        await announced(office, worker)
        await office.handing.put(POOL, "org_default", a_task())
        [task] = await polled(worker)
        for output in (b"{", b"\xff", b"[" * 70 + b"]" * 70, b"NaN"):
            report = words.ReportTaskRequest(lease=task.lease, succeeded=words.Succeeded(output=output))
            assert await worker.refused("ReportTask", report) == (
                grpc.StatusCode.INVALID_ARGUMENT, "malformed",
            )  # fmt: skip
        assert not office.engine.heard


async def test_bytes_behind_a_reference_are_fetched(office: Office) -> None:
    async with line(office) as worker:
        await announced(office, worker)
        blob = await office.blobs.put(b"\x89PNG", "image/png")
        named = Inline(value=Raw(encode({"image": {"blob": msgspec.to_builtins(blob)}})))
        await office.handing.put(POOL, "org_default", a_task(config=named))
        lies_there(office, a_task(config=named))
        [task] = await polled(worker)
        asked = words.FetchBlobRequest(lease=task.lease, sha256=blob.sha256)
        told = await worker.say("FetchBlob", asked)
        assert (told.content_type, told.data) == ("image/png", b"\x89PNG")
        for sha256, code in (("0" * 64, "not_found"), ("nonsense", "malformed")):
            asked = words.FetchBlobRequest(lease=task.lease, sha256=sha256)
            assert (await worker.refused("FetchBlob", asked))[1] == code


async def test_a_lease_of_one_edge_is_a_lease_of_the_other(office: Office) -> None:
    async with line(office) as worker:
        await announced(office, worker)
        await office.handing.put(POOL, "org_default", a_task())
        [task] = await polled(worker)
        told = await office.api(
            "POST",
            "/worker/report",
            {"lease": task.lease, "report": {"kind": "succeeded", "output": 1}},
            key=worker.token,
        )
        assert told.json == {"result": "accepted"}
        stranger = await office.key_for("other", token_scopes(POOL))
        begin = words.BeginTaskRequest(lease=task.lease)
        assert (await worker.refused("BeginTask", begin, stranger))[0] is grpc.StatusCode.NOT_FOUND


async def test_a_worker_that_hangs_up_is_given_nothing(office: Office) -> None:
    async with line(office) as worker:
        await announced(office, worker)
        waiting = asyncio.get_running_loop().create_task(polled(worker, wait_s=20))
        async with asyncio.timeout(60):
            while office.desk.waiting != 1:
                await asyncio.sleep(0.01)
        waiting.cancel()
        async with asyncio.timeout(60):
            while office.desk.waiting:
                await asyncio.sleep(0.01)
        await office.handing.put(POOL, "org_default", a_task())
        assert not office.handing.held


async def test_it_speaks_tls(office: Office, tmp_path: Path) -> None:
    authority = trustme.CA()
    shown = authority.issue_cert("localhost")
    shown.private_key_pem.write_to_path(tmp_path / "key")
    shown.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    files = (str(tmp_path / "certificate"), str(tmp_path / "key"))
    async with line(office, tls=files, ca=authority.cert_pem.bytes()) as worker:
        await announced(office, worker)
    async with line(office, tls=files, ca=trustme.CA().cert_pem.bytes()) as worker:
        assert (await worker.refused("PollTasks", words.PollTasksRequest()))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_port_that_is_taken_keeps_the_gateway_from_starting(office: Office) -> None:
    port = free_port()
    calls = Calls(office.desk, office.parts.worker_types, Callers(office.vault.find_key), Tracer())
    async with serving(calls, "127.0.0.1", port, tls=None, drain_seconds=1.0):
        with pytest.raises(CannotStart, match="cannot listen"):
            async with serving(calls, "127.0.0.1", port, tls=None, drain_seconds=1.0):
                raise AssertionError("two listen on one port")


def test_what_was_made_of_the_proto_is_what_is_committed() -> None:
    for name, text in made().items():
        assert (REPOSITORY / name).read_text() == text, "stale: run `python -m deploy.worker_stubs`"


def test_a_gateway_without_the_port_imports_nothing_of_grpc() -> None:
    program = "import sys, gateway.__main__; sys.exit('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False, timeout=120)
    assert done.returncode == 0
