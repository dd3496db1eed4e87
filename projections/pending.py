"""What lies in INBOX and was not dealt with: read as it is, without taking anything."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from chassis.jetstream.connection import Connection
from chassis.jetstream.reads import direct
from chassis.ports import Stored
from contracts.subjects import INBOX

_PAGE: Final = 200


async def pending(connection: Connection) -> AsyncIterator[Sequence[Stored]]:
    """Everything that is addressed to owners; timers carry no values."""
    after, more = 0, True
    while more:
        request = {"batch": _PAGE, "next_by_subj": "inbox.>", "seq": after + 1}
        messages, more = await direct(connection, INBOX, request)
        after = messages[-1].sequence if messages else after
        if messages:
            yield messages
