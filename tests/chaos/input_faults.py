"""Faults in what arrives: duplicates by the hundred, raw messages again, poison on every stream, readers that never read."""

import asyncio
import json
import random
import secrets
import socket
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

from chassis.jetstream.connection import Connection
from chassis.ports import Away
from contracts.subjects import INBOX, RUNS, anchor, bundle
from tests.chaos import stores
from tests.chaos.drawing import CHAT
from tests.chaos.faults import Once
from tests.chaos.field import Field
from tests.chaos.load import Ledger, Target, headers_of, told_by
from tests.chaos.odd_values import VALUES
from tests.chaos.wire import Wire

_MANY: Final = 100
_WORKFLOWS: Final = 6
"""So many are sent values that have broken others."""
_ORG: Final = "org_default"
_ANSWERING: Final = frozenset({"respond", CHAT})
"""Whoever sends to these waits for an answer."""


class Duplicates(Once):
    """One delivery a hundred times at once, an old one and a new one (F15)."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__("F15", f"a delivery {_MANY} times")
        self._chance = chance

    async def begin(self, field: Field) -> dict[str, Any]:
        known = [line for line in await asyncio.to_thread(_accepted, field) if line["h"] not in _ANSWERING]
        if not known:
            return {"why": "nothing was accepted yet"}
        chosen = self._chance.choice(known[-200:] if self._chance.random() < 0.5 else known)
        target = next(each for each in field.targets if each.shape == chosen["h"])
        wire, ledger = Wire(target.url), Ledger(str(field.folder / "ledger.jsonl"))
        path = urlsplit(target.url).path
        body = json.dumps({"n": 0, "seconds": 1}).encode()
        headers = headers_of(target, chosen["k"], body)

        async def once() -> str:
            began = time.time()
            answer = await wire.ask("POST", path, body, headers, seconds=40)
            told = told_by(answer)
            ledger.write(
                t=time.time(), s=round(time.time() - began, 4), k=chosen["k"], h=target.shape, **told
            )
            return str(told["w"])

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(once()) for _ in range(_MANY)]
        wire.close()
        results = [each.result() for each in asked]
        return {what: results.count(what) for what in sorted(set(results))}


def _accepted(field: Field) -> list[dict[str, Any]]:
    ledger = field.folder / "ledger.jsonl"
    if not ledger.exists():
        return []  # Nobody has sent anything yet.
    with ledger.open("rb") as file:
        return [line for line in map(json.loads, file) if line["w"] == "ok"]


class Replay(Once):
    """What lies in INBOX is laid there once more, byte for byte (F15)."""

    def __init__(self) -> None:
        super().__init__("F15", "INBOX once more")

    async def begin(self, field: Field) -> dict[str, Any]:
        again = 0
        try:
            async with asyncio.timeout(15), stores.operator(field.installed) as connection:
                found = [stored async for stored in stores.all_of(connection, INBOX)]
                for stored in islice(reversed(found), 300):
                    if stored.subject.startswith("inbox."):
                        again += connection.publish(stored.subject, stored.body)
                await connection.flush()
        except (Away, TimeoutError, OSError) as error:
            return {"again": again, "why": repr(error)}
        return {"again": again}


class Poison(Once):
    """Messages that nobody can read, on every stream (F16). Nothing else is wrong then, so that the others must go on."""

    alone = True
    seconds = 3.0

    def __init__(self, chance: random.Random) -> None:
        super().__init__("F16", "poison on every stream")
        self._chance = chance
        self._before = 0

    async def begin(self, field: Field) -> dict[str, Any]:
        garbage = (
            b"\x00\xff\xfe not json",
            b'{"type":"run.unheard-of","org":"org_default","run":"x"}',
            b"[" * 1_000,
            secrets.token_bytes(self._chance.choice((10, 1_000, 500_000))),
        )
        strange = str(uuid.UUID(bytes=self._chance.randbytes(16), version=4))
        field.strange.add(strange)
        said: dict[str, Any] = {"run": strange}
        try:
            async with asyncio.timeout(20):
                for user, messages in self._messages(strange, garbage).items():
                    async with stores.operator(field.installed, user) as connection:
                        said[user] = await _lay(connection, messages, field)
            self._before = await _commits(field)
        except (Away, TimeoutError, OSError) as error:
            said["why"] = repr(error)
        return said

    async def end(self, field: Field) -> dict[str, Any]:
        """How much of others was committed meanwhile."""
        try:
            async with asyncio.timeout(20):
                return {"commits_beside": await _commits(field) - self._before} if self._before else {}
        except (Away, TimeoutError, OSError) as error:
            return {"why": repr(error)}

    def _messages(self, strange: str, garbage: Sequence[bytes]) -> dict[str, list[tuple[str, bytes]]]:
        one = self._chance.choice(garbage)
        return {
            "supervisor": [
                *((bundle(self._chance.randrange(8)), each) for each in garbage),
                (f"run.{_ORG}.{strange}", one),
                (f"evt.{_ORG}.workflow.{strange}", one),
            ],
            "orchestrator": [
                *((f"task.default.{_ORG}.{strange}.{number}.1", each) for number, each in enumerate(garbage)),
                (f"dlq.TEST.{_ORG}.{strange}", one),
                *((f"sched.{_ORG}.{strange}", each) for each in garbage),
                (f"gate.{_ORG}.{strange}", one),
            ],
            "projections": [(anchor(self._chance.randrange(10**9, 10**10)), one)],
            "executor": [(f"effect.{_ORG}.{strange}.x.1", one), (f"log.{_ORG}.{strange}.x", one)],
            "ingress": [(f"hook.{_ORG}.{strange}", one)],
        }


async def _commits(field: Field) -> int:
    """The number of the newest commit in RUNS."""
    async with stores.operator(field.installed) as connection:
        return int((await connection.api(f"STREAM.INFO.{RUNS}"))["state"]["last_seq"])


async def _lay(connection: Connection, messages: Sequence[tuple[str, bytes]], field: Field) -> int:
    """Store them; how many were. What has no answer may lie there and is not counted on."""
    stored = 0
    for subject, body in messages:
        [reply] = await connection.ask([(subject, body, b"")])
        kept = reply is not None and b'"seq"' in reply[1]
        stored += kept
        field.poisoned += kept and subject.startswith("inbox.")
    return stored


class Values(Once):
    """Values that have broken others, through the webhooks of several workflows at once (F17)."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__("F17", "poison values")
        self._chance = chance

    async def begin(self, field: Field) -> dict[str, Any]:
        targets = self._chance.sample(field.targets, min(_WORKFLOWS, len(field.targets)))
        said: Counter[str] = Counter()
        ledger = Ledger(str(field.folder / "ledger.jsonl"))
        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(_all_values(target, ledger, said))
        shapes = {"shapes": [target.shape for target in targets]}
        return shapes | dict(said) | ({"wrong": "answered 500"} if said["500"] else {})


async def _all_values(target: Target, ledger: Ledger, said: Counter[str]) -> None:
    """One after the other; how often each status was the answer."""
    wire, path = Wire(target.url), urlsplit(target.url).path
    for number, value in enumerate(VALUES):
        key = f"poison-{secrets.token_hex(4)}-{number}"
        body = f'{{"n":{value},"seconds":1}}'.encode()
        began = time.time()
        answer = await wire.ask("POST", path, body, headers_of(target, key, body), seconds=40)
        told = told_by(answer)
        ledger.write(t=time.time(), s=round(time.time() - began, 4), k=key, h=target.shape, **told)
        # A run that waited for it and failed answers 500 too: that is its author's business.
        status = told.get("c", 0)
        said[str(status) + " by its run" * (status >= 500 and "run" in told)] += 1
    wire.close()


class NeverReads(Once):
    """Clients that ask for every event and read none (F18)."""

    def __init__(self, seconds: float) -> None:
        super().__init__("F18", "clients that never read")
        self.seconds = seconds
        self._sockets: list[socket.socket] = []

    async def begin(self, field: Field) -> dict[str, Any]:
        address = urlsplit(field.installed.gateway)
        request = (
            f"GET /api/v1/live HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer {field.installed.key}\r\nAccept: text/event-stream\r\n\r\n"
        )
        for _ in range(5):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(3)
            try:
                client.connect((address.hostname, address.port))
                client.sendall(request.encode())
            except OSError:
                client.close()
                continue
            self._sockets.append(client)
        return {"clients": len(self._sockets)}

    async def end(self, _field: Field) -> dict[str, Any]:
        for client in self._sockets:
            client.close()
        return {}
