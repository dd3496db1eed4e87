"""Workers outside on a real stack: the sample of the SDK over HTTPS, killed in the middle, with gateways that die, and TLS."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import trustme
from msgspec import structs

from chassis.testing.ports import free_port
from contracts import worker_pb2 as words
from contracts.limits import WORKER_LEASE_SECONDS
from deploy.servers import PostgresAddress, Servers
from deploy.testing.embedded import NatsServer
from tests.gateway.test_workers_rpc import Line
from tests.integration.gateways import Stack, open_stack
from tests.integration.test_gateway import published, started, until

SAMPLE = Path(__file__).parents[2] / "sdk" / "worker.py"
POOL = "ext-samples"
LONG = WORKER_LEASE_SECONDS + 60


def shouting(**config: Any) -> Any:
    return {
        "nodes": [{"id": "call", "type": "work.shout", "config": {"text": "{{ trigger.body }}", **config}}]
    }


class Workers:
    """Sample workers as processes; what they say aloud stands in a file each."""

    def __init__(self, url: str, token: str, folder: Path, **environ: str) -> None:
        self._environ = {
            "WORKER_URL": url,
            "WORKER_TOKEN": token,
            "PATH": os.environ["PATH"],
            **environ,
        }
        self._folder = folder
        self.running: list[Process] = []

    async def start(self) -> Process:
        number = len(self.running)
        with (self._folder / f"worker-{number}.out").open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(SAMPLE), env=self._environ, stdout=said, stderr=said
            )
        self.running.append(process)
        return process

    @property
    def said(self) -> Counter[str]:
        """Every line, and how often it was said: what a worker did outside."""
        return Counter(
            line for file in self._folder.glob("worker-*.out") for line in file.read_text().splitlines()
        )

    async def end(self) -> None:
        for process in self.running:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def workers(stack: Stack, folder: Path, **environ: str) -> AsyncIterator[Workers]:
    issued = await stack.api("POST", f"/pools/{POOL}/tokens", {"name": "sample"})
    assert issued.status == 201, issued.body
    found = Workers(f"http://127.0.0.1:{stack.port('gateway')}", issued.json["key"], folder, **environ)
    try:
        yield found
    finally:
        await found.end()


async def announced(stack: Stack) -> None:
    async def there() -> bool:
        return (await stack.api("GET", "/node-types/work.shout")).status == 200

    await eventually(there)


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = LONG) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.1)


async def ended(stack: Stack, run: str) -> Any:
    async with asyncio.timeout(LONG):
        while True:
            view = (await stack.api("GET", f"/runs/{run}")).json
            if view["status"] in ("completed", "failed", "cancelled"):
                return view
            await asyncio.sleep(0.1)


@pytest.fixture
async def stack(
    database: PostgresAddress, streams: NatsServer, servers: Servers, tmp_path: Path
) -> AsyncIterator[Stack]:
    async with open_stack(database, streams, servers.redis_url, tmp_path) as opened:
        await opened.start("orchestrator", "projections", "executor")
        yield opened


def test_the_sample_has_forty_lines_at_the_most() -> None:
    assert len(SAMPLE.read_text().splitlines()) <= 40


async def test_a_worker_outside_makes_attempts_and_its_pool_is_seen_and_held(
    stack: Stack, tmp_path: Path
) -> None:
    await stack.start("gateway")
    async with workers(stack, tmp_path) as outside:
        await outside.start()
        await announced(stack)
        workflow = await published(stack, shouting())
        view = await ended(stack, await started(stack, workflow, "hello"))
        assert (view["status"], json.loads(view["output"]["preview"])) == ("completed", "HELLO")

        held = await stack.api("POST", f"/pools/{POOL}/pause")
        assert held.json["paused"]
        run = await started(stack, workflow, "later")

        async def waits() -> bool:
            return bool((await stack.api("GET", f"/pools/{POOL}")).json["waiting"] == 1)

        await eventually(waits)
        assert outside.said == {"HELLO": 1}
        other = await stack.key_for("stranger")
        assert (await stack.api("GET", f"/pools/{POOL}", key=other)).status == 404
        assert (await stack.api("POST", f"/pools/{POOL}/resume", key=other)).status == 404
        assert not (await stack.api("POST", f"/pools/{POOL}/resume")).json["paused"]
        assert (await ended(stack, run))["status"] == "completed"
        assert outside.said == {"HELLO": 1, "LATER": 1}


async def test_nothing_is_lost_or_doubled_when_workers_and_a_gateway_are_killed_in_the_middle(
    stack: Stack, tmp_path: Path
) -> None:
    gateway = await stack.start_process("gateway")
    async with workers(stack, tmp_path) as outside:
        first = await outside.start()
        await announced(stack)
        workflow = await published(stack, shouting(seconds=3.0))
        runs = [await started(stack, workflow, f"word {number}") for number in range(4)]

        async def one_is_done() -> bool:
            views = [(await stack.api("GET", f"/runs/{run}")).json for run in runs]
            return any(view["status"] == "completed" for view in views)

        await eventually(one_is_done)
        await asyncio.sleep(1.0)
        first.kill()  # It has a task in its hands, and has not begun it.
        second = await outside.start()
        await asyncio.sleep(1.5)
        gateway.kill()
        await gateway.wait()
        await asyncio.sleep(1.0)
        await stack.start_process("gateway")
        views = [await ended(stack, run) for run in runs]
        assert [view["status"] for view in views] == ["completed"] * 4
        assert outside.said == {f"WORD {number}": 1 for number in range(4)}
        assert second.returncode is None


async def test_a_run_is_cancelled_also_when_its_worker_does_not_answer(stack: Stack, tmp_path: Path) -> None:
    await stack.start("gateway")
    async with workers(stack, tmp_path) as outside:
        await outside.start()
        await announced(stack)
        run = await started(stack, await published(stack, shouting(seconds=3600)), "never")
        await until(stack, run, "running", "waiting")
        await asyncio.sleep(1)
        assert (await stack.api("POST", f"/runs/{run}/cancel", {})).status == 202
        assert (await ended(stack, run))["status"] == "cancelled"
        assert not outside.said


async def test_workers_speak_tls_and_believe_only_who_shows_a_known_certificate(
    stack: Stack, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    shown = authority.issue_cert("localhost")
    shown.private_key_pem.write_to_path(tmp_path / "tls.key")
    shown.cert_chain_pems[0].write_to_path(tmp_path / "tls.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    await stack.start("gateway")
    issued = await stack.api("POST", f"/pools/{POOL}/tokens", {"name": "sample"})
    await stack.stop("gateway")
    stack.settings["gateway"] = structs.replace(
        stack.settings["gateway"],
        tls_certificate_file=str(tmp_path / "tls.pem"),
        tls_key_file=str(tmp_path / "tls.key"),
    )
    await stack.start_without_looking("gateway")

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", stack.port("gateway"))
        except OSError:
            return False
        writer.close()
        return True

    await eventually(listens)
    url = f"https://localhost:{stack.port('gateway')}"
    for ca, believes in (("stranger.pem", False), ("ca.pem", True)):
        folder = tmp_path / ca.removesuffix(".pem")
        folder.mkdir()
        outside = Workers(url, issued.json["key"], folder, SSL_CERT_FILE=str(tmp_path / ca))
        await outside.start()
        if believes:
            workflow = await over_tls(url, stack.key, tmp_path / "ca.pem")
            assert workflow == 200
        else:
            await asyncio.sleep(3)
            assert await over_tls(url, stack.key, tmp_path / "ca.pem", tries=1) == 404
        await outside.end()


async def over_tls(url: str, key: str, ca: Path, tries: int = 200) -> int:
    """What the gateway answers when it is asked for the sample's type."""
    program = (
        "import os, sys, time, urllib.request, urllib.error\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    asked = urllib.request.Request(sys.argv[1], headers={'authorization': 'Bearer ' + os.environ['KEY']})\n"
        "    try:\n"
        "        status = urllib.request.urlopen(asked, timeout=10).status\n"
        "    except urllib.error.HTTPError as error:\n"
        "        status = error.code\n"
        "    if status == 200: break\n"
        "    time.sleep(0.1)\n"
        "print(status)\n"
    )
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, f"{url}/api/v1/node-types/work.shout", str(tries),
        env={"KEY": key, "SSL_CERT_FILE": str(ca), "PATH": os.environ["PATH"]}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await asking.communicate()
    return int(said)


async def test_a_worker_speaks_grpc_with_the_same_token(stack: Stack, tmp_path: Path) -> None:
    port = free_port()
    gateway = await stack.start_process("gateway", AUTOMATEOS_GRPC_PORT=str(port))
    issued = await stack.api("POST", f"/pools/{POOL}/tokens", {"name": "sample"})
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        worker = Line(channel, issued.json["key"])
        spec = {
            "type": "work.shout", "title": "Shout", "help": "", "icon": "x", "category": "x",
            "config": {"type": "object", "properties": {"text": {"type": "string"}}},
        }  # fmt: skip
        await worker.say("AnnounceTypes", words.AnnounceTypesRequest(specs=[json.dumps(spec).encode()]))
        workflow = await published(stack, shouting())
        runs = [await started(stack, workflow, f"word {number}") for number in range(3)]
        done = 0
        async with asyncio.timeout(LONG):
            while done < 3:
                told = await worker.say("PollTasks", words.PollTasksRequest(most=2, wait_s=5, begins=True))
                for task in told.tasks:
                    assert (await worker.say("BeginTask", words.BeginTaskRequest(lease=task.lease))).begun
                    output = json.dumps(json.loads(task.config)["text"].upper()).encode()
                    report = words.ReportTaskRequest(
                        lease=task.lease, succeeded=words.Succeeded(output=output)
                    )
                    assert (await worker.say("ReportTask", report)).result == "accepted"
                    done += 1
        for number, run in enumerate(runs):
            view = await ended(stack, run)
            assert json.loads(view["output"]["preview"]) == f"WORD {number}"
        # A call that waits does not keep the gateway from ending.
        waiting = asyncio.get_running_loop().create_task(
            worker.say("PollTasks", words.PollTasksRequest(wait_s=30))
        )
        await asyncio.sleep(1)
        gateway.terminate()
        assert await asyncio.wait_for(gateway.wait(), 20) == 0
        await asyncio.wait([waiting])
        assert waiting.exception() is None or isinstance(waiting.exception(), grpc.aio.AioRpcError)
