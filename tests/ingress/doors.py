"""A door with everything behind it in memory, and an owner that answers as the orchestrator would."""

import asyncio
import hashlib
import hmac
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import structs

from chassis.chains import Chains
from chassis.dispatch import Dispatch
from chassis.edge.trails import Trails
from chassis.expressions import Language
from chassis.ids import digest
from chassis.past import Horizon, PastRun, PastRuns
from chassis.ports import Stored
from chassis.sealing import Opener, Place, Sealer, new_data_key, new_salt, open_document
from chassis.secret import HmacSecret, Secret, SecretValue
from chassis.testing.past import MemoryRunIds
from chassis.testing.queues import MemoryInbox, MemorySignals
from chassis.testing.stores import MemoryBlobs, MemoryLetters, MemoryLog
from chassis.testing.world import SimulatedClock, World
from chassis.vault import NoSuchSecret, OpenedSecret, VaultAway
from contracts.codec import decode_bundle, encode
from contracts.limits import PARTITIONS
from contracts.messages import Answer, Responded, StartRun
from contracts.payloads import null
from contracts.subjects import call
from contracts.triggers import Webhook
from ingress.accept import Admitted, Door
from ingress.deliveries import Request
from ingress.directory import Directory, Trigger
from ingress.forms import Forms
from ingress.hooks import Hooks
from ingress.starts import Starts
from ingress.waiting import Waiting

TOKEN, TEST_TOKEN, PLAN = "t" * 22, "s" * 22, "ab" * 32
SECRET = "whsec-of-the-tests"


class Keys:
    """The vault of a test: one secret, or none, or away."""

    def __init__(self, value: SecretValue | None = None) -> None:
        self.value = value or HmacSecret(key=Secret(SECRET))
        self.away = False

    async def open(self, org: str, secret_id: str) -> OpenedSecret:
        if self.away:
            raise VaultAway
        if secret_id != "signing":
            raise NoSuchSecret
        return OpenedSecret(values=(self.value,), kind="hmac", allowed_hosts=(), revision=1)

    async def sealer(self, org: str, run: str) -> Any:
        raise VaultAway


class SealingKeys(Keys):
    """A vault that has salts."""

    def __init__(self) -> None:
        super().__init__()
        self.sealed_for: list[str] = []
        self._key, self._salt = new_data_key("org", 1), new_salt()

    async def sealer(self, org: str, run: str) -> tuple[str, Sealer]:
        self.sealed_for.append(run)
        key = structs.replace(self._key, org=org)
        return "salt-1", Sealer(key, self._salt, "run.value", Place(org=org, object=run, field="value"))

    def opened(self, value: object, run: str, org: str = "org") -> Any:
        """What stands in a value that was sealed for a run."""
        keys, place = {1: structs.replace(self._key, org=org)}, Place(org=org, object=run, field="value")
        return open_document(value, Opener(keys, self._salt, "run.value", place))


class Limit:
    """Allows what it is told to."""

    def __init__(self) -> None:
        self.left = 10_000

    async def allow(self, key: str, per_minute: int) -> bool:
        self.left -= 1
        return self.left >= 0

    def seconds_left(self) -> int:
        return 42


@asynccontextmanager
async def owning(
    signals: MemorySignals, heard: Callable[[str, bytes, Callable[[bytes], None]], None]
) -> AsyncIterator[None]:
    """Somebody owns every partition, and hears what is said to it."""

    async def listen(number: int) -> None:
        async with signals.listen(call(number), heard):
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(listen(number)) for number in range(PARTITIONS)]
        await asyncio.sleep(0)
        yield
        for task in listening:
            task.cancel()


class Room:
    """A door and what a test wants to know about what lies behind it."""

    def __init__(self, webhook: Webhook, **trigger: Any) -> None:
        self.world = World(1)
        self.signals = MemorySignals(self.world)
        self.inbox = MemoryInbox(self.world)
        self.log = MemoryLog(self.world)
        self.blobs = MemoryBlobs(self.world)
        self.letters = MemoryLetters(self.world)
        self.hooks = Hooks(self.letters, SimulatedClock(self.world))
        self.keys = Keys()
        self.limit = Limit()
        self.marks = MemoryLog(self.world)
        self.remembered: dict[str, PastRun] = {}
        self.run_ids = MemoryRunIds(self.world, lambda _org: self.remembered)
        self.full = False
        self.crowded = ""
        """An org of which too much is held."""
        self.narrow = False
        self.starts: list[StartRun] = []
        self.owner_is_there = True
        self.answers: Callable[[StartRun], Answer] = self._accepted
        self._known: dict[str, StartRun] = {}
        self.directory = Directory(self.log)
        made = Trigger(
            org="org_default",
            id="trigger1",
            workflow="flow1",
            webhook=webhook,
            token=digest(TOKEN.encode()),
            test_token=digest(TEST_TOKEN.encode()),
            version=3,
            plan=PLAN,
        )
        self.directory.put(_changed(made, trigger))
        self.directory.complete.set()
        self.dispatch = Dispatch(self.signals, self.inbox)
        self.waiting = Waiting(self.signals, "one")
        self.chains = Chains(Secret(b"k" * 32), SimulatedClock(self.world))
        self.trails = Trails(self.chains)
        numbers = itertools.count(1)
        starts = Starts(
            directory=self.directory,
            dispatch=self.dispatch,
            history=self.log,
            trails=self.trails,
            past=PastRuns(self.run_ids, Horizon(self.marks, SimulatedClock(self.world))).of,
        )
        self.door = Door(
            directory=self.directory,
            starts=starts,
            blobs=self.blobs,
            hooks=self.hooks,
            keys=self.keys,
            limit=self.limit,  # type: ignore[arg-type]  # As much of it as a door uses.
            waiting=self.waiting,
            clock=SimulatedClock(self.world),
            receipts=lambda: f"receipt-{next(numbers)}",
            disk_is_full=lambda: self.full,
            crowds=lambda org: org == self.crowded,
            uploads_stop=lambda: self.narrow,
            language=Language(),
        )
        self.clock = SimulatedClock(self.world)
        self.forms = Forms(
            directory=self.directory,
            starts=starts,
            hooks=self.hooks,
            blobs=self.blobs,
            keys=self.keys,
            limit=self.limit,  # type: ignore[arg-type]  # As much of it as forms use.
            clock=self.clock,
            receipts=lambda: f"receipt-{next(numbers)}",
            disk_is_full=lambda: self.full,
        )

    def _accepted(self, start: StartRun) -> Answer:
        first = self._known.setdefault(start.run, start)
        again = first.receipt != start.receipt
        return Answer(run=start.run, result="duplicate" if again else "accepted", receipt=first.receipt)

    def run(self, story: Callable[["Room"], Any]) -> None:
        """Play one story to its end."""
        told = self.world.loop.spawn("story", self._play(story))
        self.world.loop.run_until(told.done, steps=200_000, seconds=600)
        told.result()
        self.world.loop.close()

    async def _play(self, story: Callable[["Room"], Any]) -> None:
        async with asyncio.TaskGroup() as group, self.waiting.listening(), self._owner():
            beside = [group.create_task(self.dispatch.run()), group.create_task(self.hooks.run())]
            await story(self)
            await self.hooks.drained()
            for task in beside:
                task.cancel()

    @asynccontextmanager
    async def _owner(self) -> AsyncIterator[None]:
        def heard(_subject: str, body: bytes, answer: Callable[[bytes], None]) -> None:
            messages = [message for message in decode_bundle(body) if isinstance(message, StartRun)]
            self.starts += messages
            if self.owner_is_there:
                answer(encode([self.answers(message) for message in messages]))

        async with owning(self.signals, heard):
            yield

    # --- Deliveries ---------------------------------------------------------------------------

    async def deliver(
        self, body: bytes = b"{}", token: str = TOKEN, method: str = "POST", **headers: str
    ) -> Any:
        """One whole delivery; header names with `_` for `-`. Raises `Problem` for a no."""
        given = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        admitted: Admitted = self.door.admit(token, method, "192.0.2.7")
        raw: Sequence[tuple[bytes, bytes]] = [(n.encode(), v.encode()) for n, v in given.items()]
        return await self.door.take(
            admitted,
            Request(
                method=method,
                headers=given,
                raw_headers=raw,
                query="",
                body=body,
                address="192.0.2.7",
                received_at="2026-11-21T12:00:00+00:00",
            ),
        )

    # --- Forms --------------------------------------------------------------------------------

    def opened(self, token: str = TOKEN) -> Any:
        """The page of the form at this address. Raises `Problem` for a no."""
        return self.forms.show(self.forms.open(token, "GET"))

    async def filled(
        self, body: bytes, kind: str = "application/x-www-form-urlencoded", token: str = TOKEN, **headers: str
    ) -> Any:
        """What somebody sends to the form."""
        given = {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.forms.take(
            self.forms.open(token, "POST"),
            Request(
                method="POST",
                headers=given,
                raw_headers=[(n.encode(), v.encode()) for n, v in given.items()],
                query="",
                body=body,
                address="192.0.2.7",
                received_at="2026-11-21T12:00:00+00:00",
            ),
        )

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Result and reason of every delivery kept in HOOKS."""
        from contracts.codec import Decoder
        from contracts.triggers import Hook

        decode = Decoder[Hook](Hook)
        return [(hook.result, hook.reason) for hook in (decode(body) for _, body, _ in self.letters.stored)]


def _changed(trigger: Trigger, changes: dict[str, Any]) -> Trigger:
    return structs.replace(trigger, **changes)


def signed(body: bytes) -> str:
    """GitHub's signature of a body."""
    return "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def responded(run: str, status: int = 200) -> Responded:
    return Responded(run=run, state="responded", status=status, body=null())


__all__ = ["PLAN", "TEST_TOKEN", "TOKEN", "Room", "SealingKeys", "Stored", "responded", "signed"]
