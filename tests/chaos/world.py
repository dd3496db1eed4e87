"""The world outside: an HTTP server that fails, hangs, and acts after the caller has given up; it records every call.

`python -m tests.chaos.world FILE SEED` prints its port. What becomes of a call is a function of seed, key and how often the
key was seen, so a campaign can be made again. A line of the record is on its way to the file before the answer leaves.

/put/…     safe to repeat: acts every time
/keyed/…   honours Idempotency-Key: acts once per key, and answers the same ever after
/flaky/…   as keyed, but refuses the first one or two calls with a key
/post/…    acts on every call
/odd/…     answers a value that has broken others, the same for the same key (odd_values.py)
/feed/…    what it has got behind a number, five at a time: one more each second
GET /seen/<key>   what it did under a key, for people who want to know
GET /links/<n>    the addresses that it was told, and under which keys, from the n-th on
"""

import asyncio
import hashlib
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote

import uvloop

from tests.chaos import odd_values

LATE_SECONDS: Final = 2.5
"""Longer than any caller waits."""
_JSON: Final = "application/json"
_PAGE: Final = 5


class World:
    """What it did, and what it will do."""

    def __init__(self, record: Path, seed: str) -> None:
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._seed = seed
        self._calls: Counter[str] = Counter()
        self._done: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        """Addresses that it was told, and the key of the call that told it."""
        self._began = time.time()

    def seen(self, key: str) -> bytes:
        done = self._done.get(key)
        return json.dumps({"calls": self._calls[key], "answer": json.loads(done) if done else None}).encode()

    def links(self, first: int) -> bytes:
        """Keys and addresses, in the order in which they came."""
        return json.dumps([[key, link] for link, key in list(self._links.items())[first:]]).encode()

    def called(self, method: str, path: str, key: str, given: bytes = b"") -> tuple[str, int, bytes]:
        """Act or not, write it down; the behaviour, the status and the body."""
        if b'"callback"' in given:
            self._remember(given, key)
        self._calls[key] += 1
        number = self._calls[key]
        manner, behaviour = path.split("/")[1], self._behaviour(path, key, number)
        acted = behaviour in {"ok", "late"}
        body = b'{"error":"not now"}'
        status = 200 if acted else 500
        if acted:
            again = manner in {"keyed", "flaky"} and key in self._done
            body = self._done[key] if again else self._made(manner, path, key, number)
            self._done[key] = body
            acted = not again
        self._write(
            key=key,
            n=number,
            path=path,
            method=method,
            did=behaviour,
            acted=acted,
            status=status,
            body=body.decode(),
        )
        return behaviour, status, body

    def _remember(self, given: bytes, key: str) -> None:
        try:
            self._links.setdefault(json.loads(given)["callback"], key)
        except (ValueError, KeyError):
            return  # A bad line on the way: it is sent again.

    def _made(self, manner: str, path: str, key: str, number: int) -> bytes:
        if manner == "feed":
            return self._fed(path)
        if manner == "odd":
            return odd_values.VALUES[hash_of(key) % len(odd_values.VALUES)].encode()
        return json.dumps({"effect": f"{key}#{number}", "path": path}).encode()

    def _fed(self, path: str) -> bytes:
        """From the number on that is asked for, itself included: a list that is cut by time has such an overlap."""
        first = int(path.rpartition("after=")[2] or 1) if "after=" in path else 1
        last = min(first + _PAGE - 1, int(time.time() - self._began))
        return json.dumps({"orders": [{"number": number} for number in range(first, last + 1)]}).encode()

    def _behaviour(self, path: str, key: str, number: int) -> str:
        chance = share(f"{self._seed}/{key}/{number}")
        if path.startswith("/flaky/") and number <= 1 + (hash_of(key) % 2):
            return "refuse"
        if chance < 0.02:
            return "refuse"
        if chance < 0.04:
            return "late"
        return "garbage" if chance < 0.05 else "ok"

    def _write(self, **line: Any) -> None:
        os.write(self._record, json.dumps({"t": time.time(), **line}).encode() + b"\n")


def share(text: str) -> float:
    """Between 0 and 1, the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32


def hash_of(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:2])


class Talk(asyncio.Protocol):
    """One connection; one request after the other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while True:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            lines = head.decode("latin-1").split("\r\n")
            fields = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
            }
            length = int(fields.get("content-length", "0"))
            if len(rest) < length:
                return
            given, self._rest = rest[:length], rest[length:]
            method, path, _ = lines[0].split(" ", 2)
            self._answer(method, path, fields.get("idempotency-key", ""), given)

    def _answer(self, method: str, path: str, key: str, given: bytes) -> None:
        if path.startswith("/seen/"):
            self._say(200, self._world.seen(unquote(path[6:])))
            return
        if path.startswith("/links/"):
            self._say(200, self._world.links(int(path[7:])))
            return
        behaviour, status, body = self._world.called(method, path, key, given)
        if behaviour == "garbage":
            self._transport.write(b"\x00\x01 what is this \xff\r\n\r\n")
            self._transport.close()
        elif behaviour == "late":
            asyncio.get_running_loop().call_later(LATE_SECONDS, self._say, status, body)
        else:
            self._say(status, body)

    def _say(self, status: int, body: bytes) -> None:
        if not self._transport.is_closing():
            reason = {200: "OK"}.get(status, "Trouble")
            head = (
                f"HTTP/1.1 {status} {reason}\r\nContent-Type: {_JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self._transport.write(head.encode() + body)


def result_of(body: str, *, odd: bool = False) -> dict[str, Any]:
    """The output of an `http.request` that got this answer."""
    return {
        "status": 200,
        "headers": {"content-type": _JSON, "content-length": str(len(body.encode()))},
        "body": odd_values.read(body) if odd else json.loads(body),
    }


async def main() -> None:
    world = World(Path(sys.argv[1]), sys.argv[2])
    server = await asyncio.get_running_loop().create_server(
        lambda: Talk(world), "127.0.0.1", 0, backlog=1_000
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
