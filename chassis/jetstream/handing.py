"""Tasks for whoever asks once and holds them by the name of the delivery: what a worker outside is given.

Nothing is remembered here of what was given: the name says which task it is, also to another process, and JetStream knows
how long it is held.
"""

import asyncio
import contextlib
from collections.abc import Callable
from itertools import count
from typing import Final

from chassis.jetstream.connection import Connection
from chassis.jetstream.wire import status
from chassis.ports import Away, Given
from contracts.streams import Consumer

_GRACE_SECONDS: Final = 2.0
"""Beyond the server's own time: then the question was lost."""
_LINGER_SECONDS: Final = 0.005
"""What lies there comes in one go."""
_NANO: Final = 1_000_000_000
_EXISTS: Final = 10148
"""The consumer is there with other settings: the reconciler's business."""
_NO_ONE: Final = "503"


class JetStreamHanding:
    """Implements `Handing`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers = count(1)
        self._declared: dict[str, int] = {}

    @property
    def connected_since(self) -> float:
        return self._connection.connected_since

    async def fetch(self, consumer: Consumer, most: int, seconds: float) -> list[Given]:
        await self._declare(consumer)
        asking = _Asking(self._connection, next(self._numbers))
        try:
            await asking.ask(consumer, most, seconds)
            given = await asking.taken(most)
        except BaseException:
            asking.close(self.give_back)
            raise
        if asking.code == _NO_ONE:
            self._declared.pop(consumer.name, None)
            raise Away(f"{consumer.name} is not there")
        return given

    def keep(self, name: str) -> None:
        self._connection.publish(name, b"+WPI")

    def done(self, name: str) -> None:
        self._connection.publish(name, b"+ACK")

    def give_back(self, name: str, delay: float = 0.0) -> None:
        self._connection.publish(name, b'-NAK {"delay":%d}' % int(delay * _NANO) if delay else b"-NAK")

    async def _declare(self, consumer: Consumer) -> None:
        generation = self._connection.generation
        if self._declared.get(consumer.name) == generation:
            return
        subject = f"CONSUMER.CREATE.{consumer.stream}.{consumer.name}.{consumer.filter}"
        request = {"stream_name": consumer.stream, "action": "create", "config": consumer.settings()}
        answer = await self._connection.api(subject, request)
        if "error" in answer and answer["error"].get("err_code") != _EXISTS:
            raise Away(f"{consumer.name} cannot be made: {answer['error'].get('description')}")
        self._declared[consumer.name] = generation


class _Asking:
    """One question for tasks, and what came of it."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._subject = f"{connection.prefix}.w.{number}"
        self._came = asyncio.Event()
        self._given: list[Given] = []
        self.code = ""
        self._sid = connection.hear(self._subject, self._heard)
        connection.lost.append(self._came.set)

    async def ask(self, consumer: Consumer, most: int, seconds: float) -> None:
        waits = b'"expires":%d' % int(seconds * _NANO) if seconds > 0 else b'"no_wait":true'
        question = b'{"batch":%d,%s}' % (most, waits)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
        if not self._connection.publish(subject, question, reply=self._subject):
            raise Away("not connected to nats-server")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                await self._came.wait()

    async def taken(self, most: int) -> list[Given]:
        """What came. From here on the server gives us nothing more."""
        if 0 < len(self._given) < most and not self.code:
            await asyncio.sleep(_LINGER_SECONDS)
        self._connection.unsubscribe(self._sid)
        with contextlib.suppress(Away):
            await self._connection.flush()
        given, self._given = self._given, []
        self.close(lambda _: None)
        return given

    def close(self, give_back: Callable[[str], None]) -> None:
        """Whoever asked has gone: others shall have it."""
        self._connection.deafen(self._sid)
        if self._came.set in self._connection.lost:
            self._connection.lost.remove(self._came.set)
        for each in self._given:
            give_back(each.name)

    def _heard(self, _subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        code = status(headers)
        if not code:
            name = reply.decode()
            self._given.append(Given(body=body, name=name, times=times_of(name)))
        elif code != "100":
            self.code = code
        self._came.set()


def times_of(name: str) -> int:
    """How often the task was given, this time included: it stands in the name, in both forms that nats-server writes."""
    words = name.split(".")
    return int(words[4 if len(words) == 9 else 6])
