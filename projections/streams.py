"""What a projection must know of a stream besides its messages, and how a history leaves it."""

from typing import Protocol

from msgspec import Struct

from chassis.jetstream.connection import Connection
from chassis.jetstream.reads import led
from chassis.jetstream.wire import EPOCH
from chassis.ports import Away


class StreamFacts(Struct, frozen=True, kw_only=True):
    """Which stream it is, and where it ends."""

    name: str
    created: str
    epoch: int
    first: int
    last: int


class Streams(Protocol):
    """Tells facts about streams, and removes what lies elsewhere too."""

    async def facts(self, stream: str) -> StreamFacts:
        """Raises `Away` when the stream does not answer, or is not there yet."""
        ...

    async def purge(self, stream: str, subjects: str, before: int | None = None) -> int:
        """Remove the messages of these subjects, or only those before a sequence; how many went.

        Safe to repeat. What is stored under the subject meanwhile has a higher sequence, and stays.
        """
        ...

    async def begin_epoch(self, stream: str, epoch: int) -> None:
        """Say that the sequences from here on are not those that were: whoever remembers one reads anew."""
        ...


class JetStreamStreams:
    """The streams of a nats-server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def facts(self, stream: str) -> StreamFacts:
        answer = await self._connection.api(f"STREAM.INFO.{stream}")
        if "error" in answer:
            raise Away(f"There is no stream {stream} yet.")
        led(stream, answer)
        state = answer["state"]
        return StreamFacts(
            name=stream,
            created=answer["created"],
            epoch=int((answer["config"].get("metadata") or {}).get(EPOCH, "1")),
            first=int(state["first_seq"]),
            last=int(state["last_seq"]),
        )

    async def purge(self, stream: str, subjects: str, before: int | None = None) -> int:
        request = {"filter": subjects} | ({} if before is None else {"seq": before})
        answer = await self._connection.api(f"STREAM.PURGE.{stream}", request)
        if "error" in answer:
            raise Away(f"{stream} cannot be purged: {answer['error'].get('description')}")
        return int(answer["purged"])

    async def begin_epoch(self, stream: str, epoch: int) -> None:
        answer = await self._connection.api(f"STREAM.INFO.{stream}")
        if "error" not in answer:
            config = answer["config"]
            config["metadata"] = (config.get("metadata") or {}) | {EPOCH: str(epoch)}
            answer = await self._connection.api(f"STREAM.UPDATE.{stream}", config)
        if "error" in answer:
            raise Away(f"{stream} cannot be changed: {answer['error'].get('description')}")
