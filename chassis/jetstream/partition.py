"""One partition of INBOX: standing by for it, taking it over, serving it, letting it go.

A pinned consumer gives its messages to one client at a time. The server pins whoever's pull gets the next message, and
keeps the pin while that client pulls again in time. Rule: only what came on the inbox of this take-over counts. What a
former owner (also ourselves, before something was lost) had fetched comes again after the reset.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from chassis.jetstream.connection import Connection
from chassis.jetstream.wire import header, status
from chassis.ports import Arrival, Away
from contracts import subjects

_NANO: Final = 1_000_000_000
_BATCH: Final = 500
_PULL_SECONDS: Final = 0.5
"""A third of the time after which a silent owner loses its pin."""
_EXPIRES: Final = int(1.2 * _NANO)
_STAND_BY_SECONDS: Final = 0.5
_PAUSE_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.02
POKE: Final = b"[]"
"""An empty bundle, which nobody is told of."""

log = structlog.get_logger()


class JetStreamArrival:
    """Implements `Arrival`."""

    __slots__ = ("_publish", "_reply", "body", "deliveries", "direct", "partition")

    def __init__(
        self, partition: int, body: bytes, reply: bytes, publish: Callable[..., bool], *, direct: bool
    ) -> None:
        self.partition = partition
        self.body = body
        self.direct = direct
        self.deliveries = 1 if direct else int(ack_words(reply)[0])
        self._reply = reply.decode(errors="replace")
        self._publish = publish

    def answer(self, body: bytes) -> None:
        """Lost when the connection is down: a call is said again, a message of INBOX comes again."""
        if self._reply:
            self._publish(self._reply, body if self.direct else b"+ACK")


def ack_words(reply: bytes) -> list[bytes]:
    """Deliveries, sequence, number at the consumer, nanoseconds, pending; from either form of the reply subject."""
    words = reply.split(b".")
    return words[4:] if len(words) == 9 else words[6:]


class Partition:
    """What this process has to do with one partition. `arrived` takes arrivals, and the number when it is ours anew."""

    def __init__(
        self,
        number: int,
        connection: Connection,
        *,
        arrived: Callable[[Arrival | int], None],
        dropped: Callable[[int, bool], None],
        wanted: Callable[[], bool],
    ) -> None:
        self.number = number
        self.owned = False
        self.seen = 0
        """Everything in the partition up to this sequence was delivered to us or acknowledged before."""
        self.unpurged = False
        self.turn = asyncio.Event()
        """Set when it may be wanted now, or no longer."""
        self._connection = connection
        self._arrived = arrived
        self._dropped = dropped
        self._wanted = wanted
        self._pin = ""
        self._closed = False
        self._generation = 0
        self._inbox = ""
        self._inbox_sid = 0
        self._calls_sid = 0
        self._ended = asyncio.Event()

    @property
    def pinned(self) -> bool:
        """The server gives its messages to us, as far as we know."""
        return bool(self._pin)

    async def hold(self) -> None:
        """Own it whenever it is wanted and free, until it is closed."""
        while not self._closed:
            try:
                self._pin = self._pin or await self._stand_by()
                if self._pin and await self._take_over():
                    await self._serve()
                else:
                    self._pin = ""
            except Away as away:
                log.warning("partition.waits", partition=self.number, reason=str(away))
                self.lose()
                await asyncio.sleep(_PAUSE_SECONDS)
                await self._connection.until_up(_STAND_BY_SECONDS)

    # --- Standing by --------------------------------------------------------------------------

    async def _stand_by(self) -> str:
        """The pin under which the first message came to us."""
        pinned: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def heard(_subject: bytes, _reply: bytes, headers: bytes, _body: bytes) -> None:
            pin = header(headers, b"Nats-Pin-Id")
            if pin and not pinned.done():
                pinned.set_result(pin)

        if not self._wanted():
            await _within(self.turn.wait(), _STAND_BY_SECONDS)
            self.turn.clear()
            return ""
        inbox = self._new_inbox()
        sid = self._connection.hear(inbox, heard)
        try:
            while self._wanted() and not pinned.done():
                self._pull(inbox, batch=1, expires=int(_STAND_BY_SECONDS * _NANO))
                if not _pinned_id(await self.information()):
                    self.poke()
                await _within(asyncio.shield(pinned), _STAND_BY_SECONDS)
            return pinned.result() if pinned.done() else ""
        finally:
            self._connection.deafen(sid)

    # --- Owning -------------------------------------------------------------------------------

    async def _take_over(self) -> bool:
        """Become the owner under our pin. False when the pin is another's by now."""
        self.lose()
        self._ended.clear()
        generation = self._generation
        information = await self.information()
        if _pinned_id(information) != self._pin:
            return False
        floor = int(information["ack_floor"]["stream_seq"])
        if information["num_ack_pending"]:
            # Fetched by somebody who did not finish: let it come again now, not when its lease is over.
            await self._ask("RESET", {"seq": floor + 1})
        if generation != self._generation:
            return bool(self._pin)  # Lost meanwhile: `_serve` returns at once, and all begins anew.
        if self._closed:
            return False
        self.seen = floor
        self.owned = True
        self._arrived(self.number)
        self._calls_sid = self._connection.hear(subjects.call(self.number), self._called)
        self._inbox = self._new_inbox()
        self._inbox_sid = self._connection.hear(self._inbox, self._delivered)
        return True

    async def _serve(self) -> None:
        """Pull, often enough to keep the pin, until the partition is lost or to be taken over anew."""
        while not self._ended.is_set():
            self._pull(self._inbox, batch=_BATCH, expires=_EXPIRES)
            await _within(self._ended.wait(), _PULL_SECONDS)

    def lose(self) -> None:
        """At once deaf for calls and deliveries; what had arrived and was not handed on is gone.

        While the pin is remembered `hold` takes the partition over anew, as a new owner would.
        """
        self._end(keep_calls=False)

    def give_up(self) -> None:
        """Lose it for good. Calls that had arrived are still handed on: their callers wait."""
        self._end(keep_calls=True)
        self._pin = ""

    def close(self) -> None:
        self._closed = True
        self.turn.set()

    def _end(self, *, keep_calls: bool) -> None:
        self._generation += 1
        self.owned = False
        self._connection.deafen(self._calls_sid)
        self._connection.deafen(self._inbox_sid)
        self._dropped(self.number, keep_calls)
        self._ended.set()

    def unpin(self) -> tuple[str, dict[str, Any]]:
        """The request that frees the partition for whoever waits."""
        return self._api("UNPIN"), {"group": subjects.OWNER_GROUP}

    def poke(self) -> None:
        """The server chooses an owner when it has something to deliver."""
        self._connection.publish(subjects.bundle(self.number), POKE)

    def refuse_calls(self) -> None:
        """Whoever calls from now on finds nobody; calls under way are let in."""
        self._connection.unsubscribe(self._calls_sid)

    async def until_seen(self, sequence: int) -> None:
        while self.seen < sequence:
            if not self.owned:
                raise Away(f"partition {self.number} is not ours now")
            information = await self.information()
            if information["num_ack_pending"] >= information["config"]["max_ack_pending"]:
                raise Away(f"too much of partition {self.number} is unanswered to read on")
            await asyncio.sleep(_LOOK_SECONDS)

    async def information(self) -> dict[str, Any]:
        return await self._ask("INFO")

    def _called(self, _subject: bytes, reply: bytes, _headers: bytes, body: bytes) -> None:
        self._arrived(JetStreamArrival(self.number, body, reply, self._connection.publish, direct=True))

    def _delivered(self, _subject: bytes, reply: bytes, headers: bytes, body: bytes) -> None:
        code = status(headers)
        if code in {"404", "408"}:
            return  # Nothing came in its time: the next pull is on its way.
        if code or header(headers, b"Nats-Pin-Id") != self._pin:
            log.info("partition.lost", partition=self.number, status=code)
            self._pin = ""
            self.lose()
            return
        self.seen = max(self.seen, int(ack_words(reply)[1]))
        self.unpurged = True
        if body == POKE:
            self._connection.publish(reply.decode(), b"+ACK")
        else:
            self._arrived(JetStreamArrival(self.number, body, reply, self._connection.publish, direct=False))

    # --- Asking the server --------------------------------------------------------------------

    def _new_inbox(self) -> str:
        self._generation += 1
        return f"{self._connection.prefix}.p.{self.number}.{self._generation}"

    def _pull(self, inbox: str, *, batch: int, expires: int) -> None:
        pin = f',"id":"{self._pin}"' if self._pin else ""
        request = f'{{"batch":{batch},"expires":{expires},"group":"{subjects.OWNER_GROUP}"{pin}}}'
        consumer = subjects.owner(self.number)
        self._connection.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{subjects.INBOX}.{consumer}", request.encode(), reply=inbox
        )

    def _api(self, verb: str) -> str:
        return f"CONSUMER.{verb}.{subjects.INBOX}.{subjects.owner(self.number)}"

    async def _ask(self, verb: str, body: Any = None) -> dict[str, Any]:
        answer = await self._connection.api(self._api(verb), body)
        if "error" in answer:
            raise Away(f"{self._api(verb)}: {answer['error'].get('description')}")
        return answer


def _pinned_id(information: dict[str, Any]) -> str:
    return next(
        (str(group.get("pinned_client_id") or "") for group in information.get("priority_groups") or ()), ""
    )


async def _within(awaited: Any, seconds: float) -> None:
    """Wait for something, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await awaited
    except TimeoutError:
        return
