"""Senders and people: deliveries at their time, however late the answers are, and a ledger of what was told.

`python -m tests.chaos.load ORDER.json` says `sent` when the last delivery has its answer; people go on until SIGTERM.
"""

import asyncio
import hashlib
import hmac
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import uvloop
from msgspec import Struct

from tests.chaos.drawing import said
from tests.chaos.people import People
from tests.chaos.wire import Answer, Wire
from tests.chaos.world import share

DUPLICATED: Final = 0.3
REORDERED: Final = 0.05
FORGED: Final = 0.3
"""Beside so many deliveries that must be signed comes one of somebody who does not have the secret."""
_DUPLICATE_AFTER: Final = (0.0, 0.0, 0.002, 0.05, 0.5, 3.0, 20.0, 60.0)
"""Seconds; bounded by what is left of the campaign."""
_TRIES: Final = 40
_LONGEST_PAUSE: Final = 4.0


class Target(Struct, frozen=True, kw_only=True):
    """An address that is opened."""

    shape: str
    weight: int
    url: str
    trigger: str
    workflow: str
    people: bool
    secret: str = ""
    """With which deliveries are signed; empty: they are not."""


class Order(Struct, frozen=True, kw_only=True):
    """What to send."""

    targets: tuple[Target, ...]
    label: str
    runs: int
    rate: float
    seed: str
    ledger: str
    wishes: str
    gateway: str
    ingress: str
    key: str
    actor: str
    """Who the gateway takes us for by this key."""
    world: str


class Ledger:
    """The senders' own file: what was sent, what came of it. Unbuffered."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, **line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


class Senders:
    """Everybody who sends deliveries."""

    def __init__(self, order: Order, people: People) -> None:
        self._order = order
        self._people = people
        self._ledger = Ledger(order.ledger)
        self._random = random.Random(f"{order.seed}/{order.label}")
        self._wire = Wire(order.targets[0].url)

    async def send_all(self) -> None:
        order, chance = self._order, self._random
        began = asyncio.get_running_loop().time()
        weights = [target.weight for target in order.targets]
        lasts = order.runs / order.rate
        async with asyncio.TaskGroup() as group:
            for number in range(order.runs):
                due = number / order.rate
                await asyncio.sleep(began + due - asyncio.get_running_loop().time())
                [target] = chance.choices(order.targets, weights)
                late = chance.uniform(0.1, 3.0) if chance.random() < REORDERED else 0.0
                group.create_task(self._deliver(target, number, late))
                if target.secret and share(f"{order.label}-{number}/forged") < FORGED:
                    group.create_task(self._deliver(target, number, late, forged=True))
                while chance.random() < DUPLICATED:
                    after = min(chance.choice(_DUPLICATE_AFTER), max(1.0, lasts - due))
                    group.create_task(self._deliver(target, number, late + after))
        self._wire.close()

    async def _deliver(self, target: Target, number: int, later: float, *, forged: bool = False) -> None:
        """Send until somebody says what became of it. What is forged has a key of its own: it must start nothing."""
        await asyncio.sleep(later)
        key = f"{'forged-' * forged}{self._order.label}-{number}"
        body = json.dumps(said(target.shape, key, number)).encode()
        pause = 0.25
        for _ in range(_TRIES):
            told = await self._once(target, key, body, forged=forged)
            if told not in {"fail", "unknown"}:
                return
            await asyncio.sleep(pause * random_part(key, pause))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _once(self, target: Target, key: str, body: bytes, *, forged: bool) -> str:
        line: dict[str, Any] = {"k": key, "h": target.shape} | ({"f": 1} if forged else {})
        began = time.time()
        self._ledger.write(t=began, w="invoke", **line)
        path = urlsplit(target.url).path
        headers = headers_of(target, key, body, forged=forged)
        answer = await self._wire.ask("POST", path, body, headers, seconds=40)
        told = told_by(answer)
        self._ledger.write(t=time.time(), s=round(time.time() - began, 4), **line, **told)
        if target.people and told["w"] == "ok":
            self._people.met(target.shape, told["run"])
        what: str = told["w"]
        return what


def headers_of(target: Target, key: str, body: bytes, *, forged: bool = False) -> dict[str, str]:
    """What goes with a delivery. Who forges one signs with a guess, or not at all."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    if target.secret and not (forged and share(key) < 0.3):
        secret = "a guess" if forged else target.secret
        signed = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Hub-Signature-256"] = f"sha256={signed}"
    return headers


def told_by(answer: Answer | None) -> dict[str, Any]:
    """What an answer means: `ok`, `dup`, `no` (final), `fail` (nothing was accepted), `unknown`."""
    if answer is None:
        return {"w": "unknown"}
    told: dict[str, Any] = {"c": answer.status}
    run = answer.headers.get("automateos-run")
    if run is not None:
        again = answer.headers.get("automateos-deduplicated") == "true"
        body = {"a": answer.body.decode()} if answer.status < 400 else {}
        return told | {"w": "dup" if again else "ok", "run": run} | body
    if answer.status in {200, 202}:
        said = answer.json()
        return told | {
            "w": "dup" if said["deduplicated"] else "ok",
            "run": said["run"],
            "receipt": said["receipt"],
        }
    what = "fail" if answer.status in {429, 500, 502, 503, 504} else "no"
    return told | {"w": what, "says_when": "retry-after" in answer.headers}


def random_part(key: str, pause: float) -> float:
    """Between a half and one and a half, the same for the same key and pause."""
    return 0.5 + hashlib.sha256(f"{key}/{pause}".encode()).digest()[0] / 255


async def main() -> None:
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)
    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enough.set)
    people = People(
        gateway=order.gateway,
        ingress=order.ingress,
        key=order.key,
        actor=order.actor,
        world=order.world,
        workflows={target.shape: target.workflow for target in order.targets if target.people},
        wishes=Ledger(order.wishes),
    )
    async with asyncio.TaskGroup() as group:
        working = group.create_task(people.run())
        await Senders(order, people).send_all()
        sys.stdout.write("sent\n")
        sys.stdout.flush()
        await enough.wait()
        working.cancel()


if __name__ == "__main__":
    uvloop.run(main())
