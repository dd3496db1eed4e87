"""Simulated core NATS: whoever listens hears it, once, if at all."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TypeAlias

from msgspec import Struct

from chassis.ports import Ambiguous, NobodyThere
from chassis.testing.lives import Life, current
from chassis.testing.world import World

Heard: TypeAlias = Callable[[str, bytes, Callable[[bytes], None]], None]


class _Listener(Struct, eq=False):
    subject: str
    group: str
    life: Life
    heard: Heard


class MemorySignals:
    """Core NATS: whoever listens hears it, once, if at all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._plain: dict[str, list[_Listener]] = defaultdict(list)
        self._wild: list[_Listener] = []

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        if not self._world.down and not self._world.strikes("signal"):
            self._send(subject, body, lambda _: None)

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        world = self._world
        life = current()
        await world.moment()
        if world.down or not self._hearers(subject):
            raise NobodyThere(subject)
        answered: asyncio.Future[bytes] = world.loop.create_future()

        def answer(reply: bytes) -> None:
            if not world.down and not world.strikes("signal"):
                world.loop.resolve_in(life, world.random.random() * 0.01, answered, reply)

        if not world.strikes("signal"):
            self._send(subject, body, answer)
            if world.strikes("delivery"):
                self._send(subject, body, answer)
        try:
            async with asyncio.timeout(timeout):
                return await answered
        except TimeoutError:
            raise Ambiguous(f"no answer on {subject}") from None

    @asynccontextmanager
    async def listen(self, subject: str, heard: Heard, group: str = "") -> AsyncIterator[None]:
        stop = self.subscribe(subject, heard, group)
        try:
            yield
        finally:
            stop()

    def subscribe(self, subject: str, heard: Heard, group: str = "") -> Callable[[], None]:
        """Listen until the result is called."""
        listener = _Listener(subject, group, current(), heard)
        listeners = self._wild if "*" in subject or ">" in subject else self._plain[subject]
        listeners.append(listener)
        return lambda: listeners.remove(listener) if listener in listeners else None

    def _hearers(self, subject: str) -> list[_Listener]:
        found = [listener for listener in self._plain.get(subject, ()) if listener.life.alive]
        found += [
            listener for listener in self._wild if listener.life.alive and _matches(listener.subject, subject)
        ]
        grouped = [listener for listener in found if listener.group]
        if grouped:
            return [self._world.random.choice(grouped), *(other for other in found if not other.group)]
        return found

    def _send(self, subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        for listener in self._hearers(subject):
            delay = self._world.random.random() * 0.01
            self._world.loop.call_in(listener.life, delay, listener.heard, subject, body, answer)


@lru_cache(4_096)
def _matches(pattern: str, subject: str) -> bool:
    wanted, words = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(words) >= len(wanted) and all(
            w in ("*", s) for w, s in zip(wanted[:-1], words, strict=False)
        )
    return len(wanted) == len(words) and all(w in ("*", s) for w, s in zip(wanted, words, strict=True))
