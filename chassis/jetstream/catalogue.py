"""The node types that executors announced, in the key-value bucket NODES: what compiler, gateway and builder see."""

from collections.abc import AsyncGenerator, Mapping
from typing import Final

import structlog

from chassis.jetstream.connection import Connection
from chassis.jetstream.inbox import store
from chassis.jetstream.reader import JetStreamReader
from chassis.jetstream.reads import direct, leader_read
from contracts.codec import Decoder, Malformed, encode
from contracts.nodes import NodeSpec
from contracts.subjects import NODES_BUCKET

STREAM: Final = f"KV_{NODES_BUCKET}"
_EVERY: Final = f"$KV.{NODES_BUCKET}.>"
_PAGE: Final = 500

_decode: Final = Decoder[NodeSpec](NodeSpec)
log = structlog.get_logger()


class JetStreamCatalogue:
    """One key per type and version; a later announcement of the same replaces the earlier one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def announce(self, spec: NodeSpec) -> None:
        """Put one spec there; saying it again changes nothing. Raises `Away`."""
        subject = f"$KV.{NODES_BUCKET}.{spec.type}.{spec.version}"
        said = encode(spec)
        [known] = await leader_read(self._connection, STREAM, [{"last_by_subj": subject}])
        if known is None or known.body != said:
            await store(self._connection, [(subject, said, b"")])

    async def specs(self) -> Mapping[str, NodeSpec]:
        """By type (its newest version) and by `type@version`."""
        found: dict[str, NodeSpec] = {}
        after, more = 0, True
        while more:
            request = {"batch": _PAGE, "next_by_subj": _EVERY, "seq": after + 1}
            messages, more = await direct(self._connection, STREAM, request)
            for message in messages:
                after = message.sequence
                _enter(found, message.subject, message.body)
        return found

    async def watch(self) -> AsyncGenerator[Mapping[str, NodeSpec], None]:
        """All that is known, each time that something new is announced."""
        found: dict[str, NodeSpec] = {}
        changed = True
        async for messages in JetStreamReader(self._connection, STREAM).read(0):
            for message in messages:
                _enter(found, message.subject, message.body)
            changed = changed or bool(messages)
            if changed and not messages:
                changed = False
                yield dict(found)


def _enter(found: dict[str, NodeSpec], subject: str, body: bytes) -> None:
    if not body:
        return  # Somebody deleted the key.
    try:
        spec = _decode(body)
    except Malformed as malformed:
        log.warning("catalogue.unreadable", subject=subject, reason=str(malformed))  # From a newer release.
        return
    found[f"{spec.type}@{spec.version}"] = spec
    newest = found.get(spec.type)
    if newest is None or newest.version <= spec.version:
        found[spec.type] = spec
