"""Those who send webhooks: over a simulated HTTP, with a ledger of what they were told."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import structs

from chassis.edge.problems import Problem
from chassis.testing.lives import Life, current
from chassis.testing.world import START, World
from contracts.codec import encode
from contracts.triggers import Github
from ingress.accept import Door
from ingress.deliveries import Request
from ingress.replies import Reply
from tests.promises.evidence import Entry
from tests.simulation.told import Delivery, Drawn

SECRET: Final = "whsec-of-the-simulation"
PATIENCE_SECONDS: Final = 8.0
SESSION: Final = "talk"
_NOT_YOU: Final = 401


class Web:
    """Connections to ingress processes. A killed process breaks them; an answer may get lost."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._doors: list[tuple[Life, Door, asyncio.TaskGroup]] = []

    def open(self, door: Door, group: asyncio.TaskGroup) -> Callable[[], None]:
        """Take requests in the running process until the result is called."""
        place = (current(), door, group)
        self._doors.append(place)
        return lambda: self._doors.remove(place)

    async def post(self, token: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """The answer to one request; None when the connection broke or nobody took it."""
        world, life = self._world, current()
        self._doors = [place for place in self._doors if place[0].alive]
        if not self._doors:
            await world.moment()
            return None
        front, door, group = world.random.choice(self._doors)
        answered: asyncio.Future[Reply | None] = world.loop.create_future()

        async def take() -> None:
            reply = await _taken(door, token, headers, body)
            if not world.strikes("signal"):
                world.loop.resolve_in(life, world.random.random() * 0.01, answered, reply)

        front.watchers.append(
            lambda happening: (
                world.loop.resolve_in(life, 0.01, answered, None) if happening == "killed" else None
            )
        )

        def arrive() -> None:
            if any(place[0] is front for place in self._doors):
                group.create_task(take())
            else:
                world.loop.resolve_in(life, 0.01, answered, None)

        world.loop.call_in(front, world.random.random() * 0.01, arrive)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await answered
        except TimeoutError:
            return None


async def _taken(door: Door, token: str, headers: Mapping[str, str], body: bytes) -> Reply:
    try:
        admitted = door.admit(token, "POST", "192.0.2.7")
        request = Request(
            method="POST",
            headers=headers,
            raw_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            query="",
            body=body,
            address="192.0.2.7",
            received_at="2026-11-21T12:00:00+00:00",
        )
        return await door.take(admitted, request)
    except Problem as problem:
        return Reply(status=problem.status, headers=problem.headers)


async def deliver(web: Web, drawn: Drawn, delivery: Delivery, ledger: list[Entry], world: World) -> None:
    """Send a delivery again and again until somebody says what became of it."""
    body = b'{"n":1}' if drawn.chat is None else said(delivery)
    headers = {"content-type": "application/json"}
    if drawn.chat is not None and delivery.key:
        delivery = structs.replace(delivery, key=f"{SESSION}:{delivery.key}")
    if delivery.key:
        headers |= {"x-key": delivery.key, "idempotency-key": delivery.key}
    if isinstance(drawn.webhook.authentication, Github):
        headers["x-hub-signature-256"] = signature(body, "a guess" if delivery.forged else SECRET)
    while True:
        sent = world.loop.time()
        reply = await web.post(drawn.token, headers, body)
        entry = _entry(reply, delivery, sent, world.loop.time())
        ledger.append(entry)
        if entry.result in ("accepted", "duplicate") or entry.status == _NOT_YOU:
            return
        await asyncio.sleep(0.2 + world.random.random())


def said(delivery: Delivery) -> bytes:
    """A message of a talk. Sent again it has the same id, if it has any."""
    named = {"id": delivery.key} if delivery.key else {}
    return encode({"session": SESSION, "message": "Hello?"} | named)


def signature(body: bytes, secret: str) -> str:
    """As GitHub signs."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _entry(reply: Reply | None, delivery: Delivery, sent: float, at: float) -> Entry:
    told: dict[str, Any] = {
        "at": at,
        "trigger": delivery.trigger,
        "key": delivery.key,
        "org": delivery.org,
        "forged": delivery.forged,
        # Once the log knows nothing of a run any more, a first answer may be the second one while the archive is away.
        "sent": None if delivery.late else START.timestamp() + sent,
    }
    if reply is None:
        return Entry(**told, result="unknown")
    told |= {
        "status": reply.status,
        "says_when": any(name.lower() == "retry-after" for name in reply.headers),
    }
    run = reply.headers.get("automateos-run")
    if run is not None:
        again = reply.headers.get("automateos-deduplicated") == "true"
        answer = reply.body if reply.status < 400 else None
        return Entry(**told, result="duplicate" if again else "accepted", run=run, answer=answer)
    if reply.status in (200, 202):
        said = msgspec.json.decode(reply.body)
        result: Any = "duplicate" if said["deduplicated"] else "accepted"
        return Entry(**told, result=result, run=said["run"], receipt=said["receipt"])
    return Entry(**told, result="refused")
