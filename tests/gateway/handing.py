"""What stands around the worker API in memory: tasks that are given and held, signals, a pool's durable."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from msgspec import Raw

from chassis.ports import Given
from contracts.codec import encode
from contracts.messages import Task
from contracts.payloads import Inline
from contracts.streams import Consumer

START = 1_795_262_400.0
"""NOON of the office's clock, in Unix seconds."""


class MemoryHanding:
    """TASKS, as far as workers outside see it. A test lets leases run out by `lapse`."""

    def __init__(self) -> None:
        self.connected_since = 0.0
        self.waiting: list[tuple[str, bytes, int]] = []
        self.held: dict[str, tuple[str, bytes, int]] = {}
        """By the name of the delivery: the filter, the task, how often it was given."""
        self.kept: list[str] = []
        self.done_with: list[str] = []
        self.given_back: list[str] = []
        self.asked: list[Consumer] = []
        self._came = asyncio.Condition()
        self._number = 0

    async def put(self, pool: str, org: str, body: bytes, times: int = 0) -> None:
        self.waiting.append((f"task.{pool}.{org}.>", body, times))
        async with self._came:
            self._came.notify_all()

    async def fetch(self, consumer: Consumer, most: int, seconds: float) -> list[Given]:
        self.asked.append(consumer)
        try:
            async with asyncio.timeout(seconds), self._came:
                await self._came.wait_for(lambda: self._mine(consumer))
        except TimeoutError:
            return []
        given = []
        for each in self._mine(consumer)[:most]:
            self.waiting.remove(each)
            self._number += 1
            name = f"$JS.ACK.TASKS.{consumer.name}.{each[2] + 1}.{self._number}.1.1.0"
            self.held[name] = (each[0], each[1], each[2] + 1)
            given.append(Given(body=each[1], name=name, times=each[2] + 1))
        return given

    def _mine(self, consumer: Consumer) -> list[tuple[str, bytes, int]]:
        return [each for each in self.waiting if each[0] == consumer.filter]

    async def lapse(self) -> None:
        """Every lease runs out."""
        for each in list(self.held.values()):
            self.waiting.append(each)
        self.held.clear()
        async with self._came:
            self._came.notify_all()

    def keep(self, name: str) -> None:
        self.kept.append(name)

    def done(self, name: str) -> None:
        self.done_with.append(name)
        self.held.pop(name, None)

    def give_back(self, name: str, delay: float = 0.0) -> None:
        self.given_back.append(name)
        each = self.held.pop(name, None)
        if each is not None:
            self.waiting.append(each)


class MemorySignals:
    """Core NATS within one test: whoever listens hears it at once."""

    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []
        self._ears: list[tuple[str, Callable[[str, bytes, Callable[[bytes], None]], None]]] = []

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.said.append((subject, body))
        for wanted, heard in list(self._ears):
            if subject.startswith(wanted.rstrip("*>")):
                heard(subject, body, lambda _: None)

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        raise AssertionError("nobody is asked")

    def listen(
        self, subject: str, heard: Callable[[str, bytes, Callable[[bytes], None]], None], group: str = ""
    ) -> AbstractAsyncContextManager[None]:
        return self._listen(subject, heard)

    @asynccontextmanager
    async def _listen(
        self, subject: str, heard: Callable[[str, bytes, Callable[[bytes], None]], None]
    ) -> AsyncIterator[None]:
        self._ears.append((subject, heard))
        try:
            yield
        finally:
            self._ears.remove((subject, heard))


class MemoryLetters:
    def __init__(self) -> None:
        self.letters: list[tuple[str, bytes]] = []

    async def store(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        self.letters.append((subject, body))
        return len(self.letters)


class MemoryDurables:
    """JetStream's API about the durables of TASKS."""

    def __init__(self) -> None:
        self.durables: dict[str, dict[str, Any]] = {}

    def add(self, consumer: Consumer, **state: Any) -> None:
        self.durables[consumer.name] = {
            "name": consumer.name, "config": {"filter_subject": consumer.filter}, **state,
        }  # fmt: skip

    async def api(self, subject: str, body: Any = None) -> dict[str, Any]:
        verb, _, name = subject.removeprefix("CONSUMER.").partition(".TASKS.")
        if verb == "PAUSE":
            if name not in self.durables:
                return {"error": {"code": 404, "description": "consumer not found"}}
            self.durables[name]["paused"] = bool(body)
            return {"paused": bool(body)}
        assert subject == "CONSUMER.LIST.TASKS"
        page = list(self.durables.values())[body["offset"] :][:2]
        return {"total": len(self.durables), "consumers": page}


def a_task(number: int = 1, **changes: Any) -> bytes:
    """A task of the type that the tests' workers offer, in a run of its own."""
    told: dict[str, Any] = {
        "org": "org_default",
        "run": f"run-{number}",
        "step": "call",
        "node": "call",
        "node_type": "work.resize",
        "attempt": 1,
        "key": f"run-{number}/call",
        "repeat": "yes",
        "timeout_s": 60.0,
        "config": Inline(value=Raw(b'{"width":100}')),
        "scheduled_at": START + 10,
    }
    return encode(Task(**{**told, **changes}))
