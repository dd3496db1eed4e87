"""Reading messages that lie in a stream: many at once from any copy, or single ones from the leader.

A leader that is cut off from the other copies leads on for some seconds, answers, and does not know what they stored
since. Where an absence would be believed for ever, ask `not_alone` behind it. And a copy that begins anew with an empty disk
may answer for a stream that others lead: `led` does not believe it.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from chassis.jetstream.connection import Connection
from chassis.jetstream.questions import Reply
from chassis.jetstream.wire import NOT_FOUND, Complaint, Headers, header, refused, status, unix_seconds
from chassis.ports import Ambiguous, Away, Stored

_NANO: Final = 1_000_000_000
_TOUCH_SECONDS: Final = 3.0
"""No copy elects another leader before it has heard nothing of the present one for four."""


async def direct(connection: Connection, stream: str, request: dict[str, Any]) -> tuple[list[Stored], bool]:
    """Many messages for one question, from any copy of the stream, and whether there are more."""
    replies = await connection.collect(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode(request))
    end = replies.pop()[0]
    code = status(end)
    if code == "404":
        return [], False
    if code != "204":
        raise Away(f"reading {stream}: status {code} {header(end, b'Description')}")
    messages = [
        Stored(
            subject=header(headers, b"Nats-Subject"),
            sequence=int(header(headers, b"Nats-Sequence")),
            body=body,
            headers=Headers(headers),
            time=unix_seconds(header(headers, b"Nats-Time-Stamp")),
        )
        for headers, body in replies
    ]
    # The server names the last message that it sent: one that got lost on the way is noticed.
    last = header(end, b"Nats-Last-Sequence")
    if last and messages and int(last) != messages[-1].sequence:
        raise Away(f"reading {stream}: an answer is missing")
    return messages, int(header(end, b"Nats-Num-Pending") or 0) > 0


async def leader_read(
    connection: Connection, stream: str, requests: Sequence[dict[str, Any]]
) -> list[Stored | None]:
    """Single messages from the leader: what it acknowledged before is seen."""
    replies = await connection.ask(
        [(f"$JS.API.STREAM.MSG.GET.{stream}", msgspec.json.encode(request), b"") for request in requests]
    )
    return [_leader_message(reply) for reply in replies]


def led(stream: str, information: Mapping[str, Any]) -> None:
    """Raises `Away` when what was told about a stream was told by a copy that does not lead it."""
    cluster = information.get("cluster")
    if not cluster:
        return
    leader = cluster.get("leader")
    # Whoever answers lists the other copies: a leader does not list itself.
    if not leader or any(each["name"] == leader for each in cluster.get("replicas") or ()):
        raise Away(f"the leader of {stream} has not answered yet")


async def not_alone(connection: Connection, stream: str) -> None:
    """Raises `Away` unless whoever answers for the stream is in touch with a majority of its copies."""
    information = await connection.api(f"STREAM.INFO.{stream}")
    led(stream, information)
    others = (information.get("cluster") or {}).get("replicas") or ()
    touched = sum(
        not each.get("offline") and each.get("active", 0) < _TOUCH_SECONDS * _NANO for each in others
    )
    copies = int((information.get("config") or {}).get("num_replicas", 1))
    if 2 * (1 + touched) <= copies:
        raise Away(f"the leader of {stream} is alone: what it does not know may be there")


def _leader_message(reply: Reply | None) -> Stored | None:
    if reply is None:
        raise Ambiguous("no answer to a read")
    headers, body = reply
    if not body:
        raise Away(f"nobody answers a read (status {status(headers)})")
    answer = json.loads(body)
    if "error" in answer:
        if answer["error"].get("err_code") in NOT_FOUND:
            return None
        raise refused(msgspec.convert(answer["error"], Complaint))
    message = answer["message"]
    return Stored(
        subject=message["subject"],
        sequence=message["seq"],
        body=base64.b64decode(message.get("data", "")),
        headers=Headers(base64.b64decode(message.get("hdrs", ""))),
        time=unix_seconds(message["time"]),
    )
