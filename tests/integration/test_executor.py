"""The executor as a process of its own on a real nats-server: killed, asked to stop, cut off from the log."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from chassis.clock import SystemClock
from chassis.jetstream import JetStream, jetstream
from chassis.ports import Away, Lying, Proposal
from chassis.sealing import write_key_file
from chassis.settings import Settings, environment_of
from contracts.cloudevents import headers_of
from contracts.codec import decode_bundle, encode
from contracts.commits import Commit
from contracts.messages import (
    Answer,
    CancelAttempts,
    Look,
    Outcome,
    StepBroken,
    StepDone,
    StepInDoubt,
    StepLetGo,
    Task,
)
from contracts.payloads import NULL, Inline
from contracts.runs import AttemptDoubted, AttemptScheduled, RunEvent, StepReported
from contracts.subjects import cancel, effect, run
from contracts.subjects import task as task_subject
from deploy.testing.embedded import NatsServer
from executor.patience import insist

ORG = "org_default"
REPOSITORY = Path(__file__).parents[2]


class Owner:
    """Stands in for the orchestrator: schedules attempts, writes down what came of them, answers."""

    def __init__(self, ports: JetStream) -> None:
        self._ports = ports
        self._last: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        self._heard: asyncio.Queue[tuple[list[Any], Callable[[bytes], None]]] = asyncio.Queue()
        self.outcomes: list[Outcome] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Owner"]:
        def heard(_subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
            self._heard.put_nowait((decode_bundle(body), answer))

        async with self._ports.signals.listen("orch.*", heard), asyncio.TaskGroup() as group:
            writing = group.create_task(self._write_down())
            yield self
            writing.cancel()

    async def _write_down(self) -> None:
        while True:
            messages, answer = await self._heard.get()
            for message in messages:
                if isinstance(message, Look):
                    continue  # An echo: the task came again although its outcome is known.
                await self._commit(message.run, _fact(message))
                self.outcomes.append(message)
            answer(encode([Answer(run=message.run, result="accepted") for message in messages]))

    async def _commit(self, run_id: str, *events: RunEvent) -> None:
        version, sequence = self._last[run_id]
        commit = Commit[RunEvent](
            id=f"{run_id}-{version + 1}",
            org=ORG,
            run=run_id,
            version=version + 1,
            events=events,
            time=SystemClock().now(),
            actor="system",
            causation_id="",
            correlation_id="",
            engine_version="1",
            key_id="",
            prev_hash="",
        )
        while True:
            try:
                [placed] = await self._ports.log.append(
                    [Proposal(run(ORG, run_id), encode(commit), sequence, headers_of(commit))]
                )
                break
            except Away:
                await asyncio.sleep(0.1)
        assert placed is not None
        self._last[run_id] = version + 1, placed

    async def ask(self, config: Any, number: int = 1, **changes: Any) -> Task:
        """Schedule one attempt of a run of its own."""
        wanted = Task(
            **{
                "org": ORG,
                "run": f"run-{number}",
                "step": "call",
                "node": "call",
                "node_type": "http.request",
                "attempt": 1,
                "key": f"run-{number}/call",
                "repeat": "no",
                "timeout_s": 60.0,
                "config": Inline(value=Raw(encode(config))),
                "scheduled_at": SystemClock().now().timestamp(),
                **changes,
            }
        )
        await self._commit(
            wanted.run,
            AttemptScheduled(
                step="call",
                node="call",
                node_type=wanted.node_type,
                attempt=1,
                key=wanted.key,
                pool="default",
                repeat=wanted.repeat,
                timeout_s=60.0,
                config=wanted.config,
            ),
        )
        self.emit(wanted)
        return wanted

    def emit(self, wanted: Task) -> None:
        self._ports.tasks.emit("default", subject_of(wanted), encode(wanted))

    async def waiting(self, *tasks: Task) -> set[str]:
        return await self._ports.tasks.waiting([subject_of(wanted) for wanted in tasks])


def _fact(outcome: Any) -> RunEvent:
    if isinstance(outcome, StepInDoubt):
        return AttemptDoubted(step=outcome.step, attempt=outcome.attempt, error=outcome.error)
    return StepReported(step=outcome.step, attempt=outcome.attempt, output=NULL)


def subject_of(wanted: Task) -> str:
    return task_subject("default", wanted.org, wanted.run, wanted.step, wanted.attempt)


class Outside:
    """A server that counts what it is asked, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Outside"]:
        async with asyncio.TaskGroup() as talks:

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                talks.create_task(self._talk(reader, writer))

            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            try:
                yield self
            finally:
                self.may_answer.set()
                server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            closing(writer),
            suppress(asyncio.IncompleteReadError, ConnectionError),
        ):  # The caller was killed.
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            self.asked.append(next(line for line in head if line.lower().startswith("idempotency-key")))
            await self.may_answer.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()


class Executors:
    """Starts executors as processes, and ends those that a test left running."""

    def __init__(self, url: str, folder: Path) -> None:
        write_key_file(folder / "master.key")
        settings = Settings(
            nats_url=url,
            executor_port=0,
            master_key_file=str(folder / "master.key"),
            egress_allow="127.0.0.1:*",
            postgres_host=str(folder),
            drain_seconds=5,
        )
        self._environment = environment_of(settings) | {"PATH": os.environ["PATH"]}
        self._running: list[Process] = []

    async def start(self) -> Process:
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "executor",
            cwd=REPOSITORY,
            env=self._environment,
            stdout=asyncio.subprocess.DEVNULL,
        )
        self._running.append(started)
        return started

    async def kill(self, process: Process) -> None:
        process.kill()
        await process.wait()
        self._running.remove(process)

    async def end(self) -> None:
        for process in list(self._running):
            if process.returncode is None:
                await self.kill(process)


@pytest.fixture
async def ports(streams: NatsServer) -> AsyncIterator[JetStream]:
    settings = Settings(nats_url=streams.url, nats_monitor_url=streams.monitor_url)
    async with jetstream(settings, "tests", SystemClock()) as ports:
        yield ports


@pytest.fixture
async def owner(ports: JetStream) -> AsyncIterator[Owner]:
    async with Owner(ports).listening() as owner:
        yield owner


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    async with Outside().listening() as outside:
        yield outside


@pytest.fixture
async def executors(streams: NatsServer, tmp_path: Path) -> AsyncIterator[Executors]:
    executors = Executors(streams.url, tmp_path)
    yield executors
    await executors.end()


async def until(holds: Callable[[], Awaitable[Any] | Any], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            held = holds()
            if await held if isinstance(held, Awaitable) else held:
                return
            await asyncio.sleep(0.02)


async def test_an_executor_announces_its_nodes_and_makes_attempts(
    owner: Owner, outside: Outside, executors: Executors, ports: JetStream
) -> None:
    outside.may_answer.set()
    await executors.start()

    call = await owner.ask({"url": outside.url, "method": "POST"}, 1)
    echo = await owner.ask({"value": "x" * 100_000}, 2, node_type="echo")
    await until(lambda: len(owner.outcomes) == 2)

    assert all(isinstance(outcome, StepDone) for outcome in owner.outcomes)
    await until(lambda: _is_empty(owner, call, echo))
    await until(lambda: _are_announced(ports, "echo", "http.request", "email.send"))
    claim = effect(ORG, call.run, "call", 1)
    assert set(await ports.effects.last([claim, effect(ORG, echo.run, "call", 1)])) == {claim}
    [large] = [outcome for outcome in owner.outcomes if outcome.run == echo.run]
    assert isinstance(large, StepDone)
    assert not isinstance(large.output, Inline)
    assert await ports.blobs.get(large.output) == encode("x" * 100_000)


async def _are_announced(ports: JetStream, *types: str) -> bool:
    return set(types) <= set(await ports.catalogue.specs())


async def _is_leased(ports: JetStream) -> bool:
    return (await ports.tasks.lying("default")) == Lying(unread=0, leased=1)


async def _is_empty(owner: Owner, *tasks: Task) -> bool:
    return not await owner.waiting(*tasks)


async def test_an_executor_killed_during_an_unsafe_call_leaves_a_step_in_doubt(
    owner: Owner, outside: Outside, executors: Executors
) -> None:
    first = await executors.start()
    unsafe = await owner.ask({"url": outside.url, "method": "POST"}, 1)
    safe = await owner.ask({"url": outside.url, "method": "PUT"}, 2)
    await until(lambda: len(outside.asked) == 2)

    await executors.kill(first)
    outside.may_answer.set()
    await executors.start()
    await until(lambda: len(owner.outcomes) == 2)

    outcomes = {outcome.run: outcome for outcome in owner.outcomes}
    assert isinstance(outcomes[unsafe.run], StepInDoubt)
    assert isinstance(outcomes[safe.run], StepDone)
    assert sorted(outside.asked) == [
        f"Idempotency-Key: {unsafe.key}",
        f"Idempotency-Key: {safe.key}",
        f"Idempotency-Key: {safe.key}",
    ]


async def test_an_executor_killed_before_an_unsafe_call_leaves_no_doubt(
    owner: Owner, outside: Outside, executors: Executors, ports: JetStream
) -> None:
    """The vault is away, so the attempt waits for its secret, and nothing has left yet."""
    first = await executors.start()
    config = {"url": outside.url, "method": "POST", "auth": {"$secret": "s1"}}
    wanted = await owner.ask(config, secrets=("/auth",))
    await until(lambda: _is_leased(ports))
    await executors.kill(first)
    await executors.start()

    body = encode(CancelAttempts(org=ORG, run=wanted.run, attempts=(("call", 1),)))

    def cancelled() -> bool:
        """Said until it is heard: the second executor has the attempt when the lease of the first has run out."""
        ports.signals.publish(cancel(ORG, wanted.run), body)
        return bool(owner.outcomes)

    await until(cancelled)

    [outcome] = owner.outcomes
    assert isinstance(outcome, StepLetGo)
    assert outcome.effect == "none"
    assert not outside.asked
    [claim] = (await ports.effects.last([effect(ORG, wanted.run, "call", 1)])).values()
    assert outcome.executor.encode() in claim.body, (
        "who says that nothing happened keeps everybody else from it"
    )


async def test_a_call_that_takes_longer_than_a_lease_is_made_once(
    owner: Owner, outside: Outside, executors: Executors
) -> None:
    await executors.start()
    await executors.start()
    wanted = await owner.ask({"url": outside.url, "method": "GET"})
    await until(lambda: outside.asked)
    await asyncio.sleep(5)
    outside.may_answer.set()
    await until(lambda: owner.outcomes)
    await until(lambda: _is_empty(owner, wanted))

    assert len(outside.asked) == 1
    assert len(owner.outcomes) == 1


async def test_asked_to_stop_an_executor_finishes_what_it_holds_and_exits_cleanly(
    owner: Owner, outside: Outside, executors: Executors
) -> None:
    executor = await executors.start()
    await owner.ask({"url": outside.url, "method": "POST"})
    await until(lambda: outside.asked)
    executor.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    late = await owner.ask({"value": 1}, 2, node_type="echo")
    outside.may_answer.set()

    assert await executor.wait() == 0
    [outcome] = owner.outcomes
    assert isinstance(outcome, StepDone)
    assert await owner.waiting(late)


async def test_what_does_not_end_in_time_is_given_back_to_the_next_executor(
    owner: Owner, outside: Outside, executors: Executors
) -> None:
    executor = await executors.start()
    await owner.ask({"url": outside.url, "method": "POST"}, 1)
    await owner.ask({"url": outside.url, "method": "PUT"}, 2)
    await until(lambda: len(outside.asked) == 2)
    executor.send_signal(signal.SIGTERM)
    assert await executor.wait() == 0
    assert not owner.outcomes

    outside.may_answer.set()
    await executors.start()
    await until(lambda: len(owner.outcomes) == 2)

    outcomes = {outcome.run: outcome for outcome in owner.outcomes}
    assert isinstance(outcomes["run-1"], StepInDoubt)
    assert isinstance(outcomes["run-2"], StepDone)


async def test_killing_the_log_loses_no_attempt_and_repeats_no_unsafe_call(
    owner: Owner, outside: Outside, executors: Executors, streams: NatsServer
) -> None:
    outside.may_answer.set()
    await executors.start()
    tasks = [await owner.ask({"value": 0}, 0, node_type="echo")]
    await until(lambda: owner.outcomes)

    dying = asyncio.Event()

    async def ask_for_many() -> None:
        for number in range(1, 200):
            if number == 150:
                await (
                    dying.wait()
                )  # The rest is asked for while the log is away, however busy the machine is.
            await asyncio.sleep(0.003)
            if number % 2:
                tasks.append(await owner.ask({"url": outside.url, "method": "POST"}, number))
            else:
                tasks.append(await owner.ask({"value": number}, number, node_type="echo"))

    async def settled() -> bool:
        known = {outcome.run for outcome in owner.outcomes}
        for wanted in tasks:
            # The orchestrator's sweep: a task that was on its way when the log died is asked for again.
            if wanted.run not in known and not await insist(partial(owner.waiting, wanted)):
                owner.emit(wanted)
        return len(known) == 200

    async with asyncio.TaskGroup() as group:
        group.create_task(ask_for_many())
        await until(lambda: len(owner.outcomes) > 60)
        dying.set()
        await streams.kill()
        await asyncio.sleep(0.3)
        await streams.start()
    await until(settled, 120)
    await until(lambda: insist(partial(_is_empty, owner, *tasks)))

    assert len(set(outside.asked)) == len(outside.asked), "no unsafe call was made twice"
    assert not [outcome for outcome in owner.outcomes if isinstance(outcome, StepBroken)]
    done = {outcome.run for outcome in owner.outcomes if isinstance(outcome, StepDone)}
    doubted = {outcome.run for outcome in owner.outcomes if isinstance(outcome, StepInDoubt)}
    assert done | doubted == {wanted.run for wanted in tasks}
    assert not doubted & {wanted.run for wanted in tasks if wanted.node_type == "echo"}
