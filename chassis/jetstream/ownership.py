"""Which partitions this process owns, and what arrives for them.

Processes share by meeting: each tells the others three times a second that it is there, keeps no more than its fair share of
the partitions, and stands by for the ones it lacks. Nobody counts votes: two who think that they own one partition are
told apart by the log.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from chassis.jetstream.connection import Connection
from chassis.jetstream.partition import Partition
from chassis.jetstream.reads import leader_read
from chassis.ports import Arrival, Away
from chassis.rounds import Rounds
from contracts import subjects
from contracts.limits import PARTITIONS

_BEAT_SECONDS: Final = 0.3
_SILENCE_SECONDS: Final = 1.5
_PURGE_SECONDS: Final = 5.0
_BUNCH: Final = 1_000
_BYE: Final = b"bye"
_SERVICE: Final = "orchestrator"
_HERE: Final = "here"

log = structlog.get_logger()


class JetStreamOwnership:
    """Implements `Ownership`. `run` must be running."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._arrived: deque[Arrival | int] = deque()
        self._came = asyncio.Event()
        self._released = False
        self._over = False
        self._others: dict[str, float] = {}
        self._partitions = [
            Partition(number, connection, arrived=self._arrive, dropped=self._drop, wanted=self._wants_more)
            for number in range(PARTITIONS)
        ]
        self._readings = [Rounds(partial(self._read_on, partition)) for partition in self._partitions]

    @property
    def owned(self) -> list[int]:
        return [partition.number for partition in self._partitions if partition.owned]

    # --- The port -----------------------------------------------------------------------------

    async def arrivals(self) -> AsyncGenerator[Sequence[Arrival] | int, None]:
        while True:
            await self._came.wait()
            self._came.clear()
            while self._arrived:
                yield self._next()
            if self._over:
                return

    async def forget(self) -> None:
        for partition in self._partitions:
            if partition.owned:
                partition.lose()

    async def caught_up(self, partition: int) -> None:
        """Delivered to us: it stands in `arrivals`, or stood there."""
        await self._readings[partition].one()

    async def release(self) -> None:
        """Calls that had arrived are still handed on, then `arrivals` ends."""
        self._released = True
        self._connection.publish(self._here(self._connection.instance), _BYE)
        for partition in self._partitions:
            partition.close()
        await self._hand_over([partition for partition in self._partitions if partition.pinned])
        self._over = True
        self._came.set()

    # --- Beside it ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Stand by, take over, share, tidy up: for ever."""
        self._connection.lost.append(self._lost)
        heard = self._connection.hear(self._here("*"), self._met)
        try:
            async with asyncio.TaskGroup() as tasks:
                for partition in self._partitions:
                    tasks.create_task(partition.hold())
                tasks.create_task(self._meet())
                tasks.create_task(self._purge())
        finally:
            self._connection.lost.remove(self._lost)
            self._connection.deafen(heard)

    async def _read_on(self, partition: Partition) -> None:
        [last] = await leader_read(
            self._connection, subjects.INBOX, [{"last_by_subj": subjects.inbox_filter(partition.number)}]
        )
        if last is not None:
            await partition.until_seen(last.sequence)

    def _lost(self) -> None:
        """The connection is gone: the pin may be another's before we are back."""
        for partition in self._partitions:
            if partition.owned:
                partition.lose()

    # --- Sharing ------------------------------------------------------------------------------

    def _share(self) -> int:
        return math.ceil(PARTITIONS / (1 + len(self._others)))

    def _wants_more(self) -> bool:
        return not self._released and len(self.owned) < self._share()

    def _here(self, instance: str) -> str:
        return subjects.reply(_SERVICE, instance, _HERE)

    def _met(self, subject: bytes, _reply: bytes, _headers: bytes, body: bytes) -> None:
        instance = subject.split(b".")[2].decode(errors="replace")
        if instance == self._connection.instance:
            return
        before = self._share()
        if body == _BYE:
            self._others.pop(instance, None)
        else:
            self._others[instance] = asyncio.get_running_loop().time()
        if self._share() != before:
            self._turn()

    def _turn(self) -> None:
        for partition in self._partitions:
            partition.turn.set()

    async def _meet(self) -> None:
        while True:
            if not self._released:
                self._connection.publish(self._here(self._connection.instance), b"")
            now = asyncio.get_running_loop().time()
            gone = [instance for instance, at in self._others.items() if now - at > _SILENCE_SECONDS]
            for instance in gone:
                del self._others[instance]
            if gone:
                self._turn()
            owned = [partition for partition in self._partitions if partition.owned]
            surplus = owned[self._share() :]
            if surplus and not self._released:
                log.info("partitions.shared", given=[partition.number for partition in surplus])
                await self._hand_over(surplus)
            await asyncio.sleep(_BEAT_SECONDS)

    async def _hand_over(self, partitions: Sequence[Partition]) -> None:
        """First no more calls, then what is under way is let in, then who waits is chosen."""
        for partition in partitions:
            partition.refuse_calls()
        try:
            await self._connection.flush()
            for partition in partitions:
                partition.give_up()
            await self._connection.ask(
                [
                    (f"$JS.API.{subject}", msgspec.json.encode(body), b"")
                    for subject, body in (partition.unpin() for partition in partitions)
                ]
            )
            for partition in partitions:
                partition.poke()
        except Away as away:
            log.warning("partitions.not-unpinned", reason=str(away))  # The pins run out by themselves.
        finally:
            for partition in partitions:
                partition.give_up()

    # --- Arrivals -----------------------------------------------------------------------------

    def _arrive(self, arrival: Arrival | int) -> None:
        self._arrived.append(arrival)
        self._came.set()

    def _drop(self, number: int, keep_calls: bool) -> None:  # noqa: FBT001  # A callback's argument.
        def stays(arrival: Arrival | int) -> bool:
            if isinstance(arrival, int):
                return arrival != number
            return arrival.partition != number or (keep_calls and arrival.direct)

        self._arrived = deque(filter(stays, self._arrived))

    def _next(self) -> Sequence[Arrival] | int:
        first = self._arrived.popleft()
        if isinstance(first, int):
            return first
        bunch = [first]
        while self._arrived and len(bunch) < _BUNCH and not isinstance(following := self._arrived[0], int):
            bunch.append(following)
            self._arrived.popleft()
        return bunch

    # --- Tidying up ---------------------------------------------------------------------------

    async def _purge(self) -> None:
        """Remove what is acknowledged. Timers have other subjects and stay."""
        while True:
            await asyncio.sleep(_PURGE_SECONDS)
            for partition in self._partitions:
                if partition.owned and partition.unpurged:
                    try:
                        await self._purge_one(partition)
                    except Away as away:
                        log.warning("inbox.not-purged", partition=partition.number, reason=str(away))

    async def _purge_one(self, partition: Partition) -> None:
        partition.unpurged = False
        information = await partition.information()
        floor = int(information["ack_floor"]["stream_seq"])
        if floor:
            await self._connection.api(
                f"STREAM.PURGE.{subjects.INBOX}",
                {"filter": subjects.inbox_filter(partition.number), "seq": floor + 1},
            )
        # What is delivered and not acknowledged yet is purged the next time.
        partition.unpurged = partition.unpurged or bool(information["num_ack_pending"])
