"""Whoever answers what runs ask: over the API, on pages, at addresses. Early, late, twice, and otherwise.

Whether an answer counts is the installation's to say. What it said is written down: an answer that counts, or counted
before, must stand in the run's history (tests/promises/answers.py and signals.py).
"""

import asyncio
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from chassis.ids import digest
from contracts.codec import encode
from contracts.waits import CALLER, LINK
from tests.chaos.asking import DECIDED_SECONDS, ESCALATES_SECONDS, LETTER, SIGNAL
from tests.chaos.wire import Answer, Wire
from tests.chaos.world import share

_API: Final = "/api/v1"
_PATIENCE: Final = 60
"""So often somebody tries whom nobody hears."""
_AT_ONCE: Final = 8
_LOOK_SECONDS: Final = 1.0
_GOLDEN: Final = (5**0.5 - 1) / 2
_UNHEARD: Final[Mapping[int, Sequence[bytes]]] = {
    202: (b'"queued"', b'"received"', b"will be heard"),
    409: (b"wait.not_open", b"Nothing is asked yet"),
}
"""Words of answers, on pages too, that nobody has given who decides."""
_RESULTS: Final[Mapping[str, str]] = {"accepted": "accepted", "unchanged": "nothing"}


class Wishes(Protocol):
    def write(self, **line: Any) -> None: ...


class Answering:
    """Everybody who is asked."""

    def __init__(self, *, gateway: Wire, ingress: Wire, world: Wire, actor: str, wishes: Wishes) -> None:
        """`actor`: who the gateway takes us for."""
        self._gateway, self._ingress, self._world = gateway, ingress, world
        self._actor = actor
        self._wishes = wishes
        self._met: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._links: set[str] = set()
        self._over_api, self._on_pages = _in_turn(), _in_turn()

    def met(self, shape: str, run: str) -> None:
        """A run was accepted that will ask for something."""
        self._met.put_nowait((shape, run))

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._called_back(group))
            while True:
                shape, run = await self._met.get()
                group.create_task(self._decided(run) if shape == "approval" else self._spoken(run))

    # --- Decisions ------------------------------------------------------------------------------

    async def _decided(self, run: str, page: str = "") -> None:
        """`page`: where one may decide without the API; whoever says otherwise does so over the API."""
        if page:
            await self._looked_at(page)
        part = next(self._on_pages if page else self._over_api)
        if part > 0.85:
            return
        begins = 0.0 if part < 0.45 else ESCALATES_SECONDS if part < 0.65 else DECIDED_SECONDS
        await asyncio.sleep(begins + 0.2 + 1.5 * share(f"{run}/when"))
        decision, other = "approved", "rejected"
        if share(f"{run}/decision") < 0.3:
            decision, other = other, decision
        said = [decision]
        said += [decision] * (share(f"{run}/twice") < 0.3)
        said += [other] * (share(f"{run}/otherwise") < 0.3)
        async with asyncio.TaskGroup() as group:
            for each in said:
                by_page = page and each == decision
                group.create_task(self._decide_on(page, run, each) if by_page else self._decide(run, each))

    async def _looked_at(self, page: str) -> None:
        """As programs that read letters do by themselves: nothing is decided by it."""
        headers = {"Accept": "text/html"}
        await self._ingress.ask("GET", f"{page}?decision=approved", headers=headers, seconds=5)

    async def _decide_on(self, page: str, run: str, decision: str) -> None:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        request = self._meant(run, "ask", LINK, [decision, {}, "", "Ada"])
        said = f"the-decision={decision}&the-name=Ada".encode()
        answer = await self._until_heard(self._ingress, page, said, kind)
        if answer is not None and answer.status == 200:
            self._answered(run, "ask", LINK, request, "accepted")

    async def _decide(self, run: str, decision: str) -> None:
        body = json.dumps({"decision": decision}).encode()
        request = self._meant(run, "ask", self._actor, [decision, {}, ""])
        answer = await self._until_heard(
            self._gateway, f"{_API}/approvals/{run}/decide", body, unheard=(404,)
        )
        if answer is not None and answer.status in (200, 202):
            self._answered(run, "ask", self._actor, request, answer.json()["status"])

    def _meant(self, run: str, step: str, by: str, said: list[Any]) -> str:
        """Written down before anybody hears it; the name of what is said."""
        request = digest(encode(said))
        self._wishes.write(kind="meant", run=run, step=step, by=by, request=request)
        return request

    def _answered(self, run: str, step: str, by: str, request: str, status: str) -> None:
        self._wishes.write(
            kind="answered", run=run, step=step, by=by, request=request, result=_RESULTS[status]
        )

    # --- Signals --------------------------------------------------------------------------------

    async def _spoken(self, run: str) -> None:
        part = share(f"{run}/speaks")
        if part > 0.4:  # Else before anybody waits for it.
            await asyncio.sleep(0.5 + 2.5 * share(f"{run}/when"))
        sayings = ["one", *["one"] * (part < 0.5), *["two"] * (part < 0.2)]
        async with asyncio.TaskGroup() as group:
            for saying in sayings:
                group.create_task(self._say(run, saying))

    async def _say(self, run: str, saying: str) -> None:
        key = f"{run}/{saying}"
        body = json.dumps({"signal": SIGNAL, "body": {"said": saying}}).encode()
        path = f"{_API}/runs/{run}/signals"
        answer = await self._until_heard(self._gateway, path, body, {"Idempotency-Key": key}, unheard=(404,))
        if answer is not None and answer.status in (200, 202):
            result = _RESULTS[answer.json()["status"]]
            self._wishes.write(kind="said", run=run, key=digest(key.encode()), result=result)

    # --- Calls ----------------------------------------------------------------------------------

    async def _called_back(self, group: asyncio.TaskGroup) -> None:
        """Ask the world which addresses it was told."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            told = await self._world.ask("GET", f"/links/{len(self._links)}", seconds=5)
            for key, link in told.json() if told is not None else ():
                if link not in self._links:
                    self._links.add(link)
                    run, _, step = key.partition("/")
                    path = urlsplit(link).path
                    group.create_task(
                        self._decided(run, path) if step == LETTER else self._call_all(run, path)
                    )

    async def _call_all(self, run: str, path: str) -> None:
        part = share(f"{run}/calls")
        await asyncio.sleep(2 * share(f"{run}/when"))
        bodies = [b'{"done":1}', *[b'{"done":1}'] * (part < 0.4), *[b'{"done":2}'] * (part > 0.8)]
        async with asyncio.TaskGroup() as group:
            for body in bodies:
                group.create_task(self._call(run, path, body))

    async def _call(self, run: str, path: str, body: bytes) -> None:
        kind = {"Content-Type": "application/json"}
        request = self._meant(run, "done", CALLER, ["POST", "", digest(body)])
        answer = await self._until_heard(self._ingress, path, body, kind)
        if answer is not None and answer.status == 200:
            self._answered(run, "done", CALLER, request, "accepted")

    # --- All of them ----------------------------------------------------------------------------

    async def _until_heard(
        self,
        wire: Wire,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        unheard: tuple[int, ...] = (),
    ) -> Answer | None:
        """Say the same until somebody has an opinion about it; None: nobody had one."""
        for _ in range(_PATIENCE):
            async with self._room:
                answer = await wire.ask("POST", path, body, headers, seconds=10)
            if answer is not None and has_an_opinion(answer, unheard):
                return answer
            await asyncio.sleep(1.0)
        return None


def _in_turn() -> Iterator[float]:
    """Shares that cover 0..1 evenly however few are taken: of three people who are asked, two are early. Multiples of the golden
    ratio (Weyl's sequence): what is drawn for each alone leaves one of twenty short campaigns without any decision in time."""
    return ((number * _GOLDEN) % 1.0 for number in itertools.count())


def has_an_opinion(answer: Answer, unheard: tuple[int, ...]) -> bool:
    """Not: come again, not yet, or that it lies in INBOX and somebody will hear it."""
    if answer.status >= 500 or answer.status in {401, 429, *unheard}:
        return False
    return not any(words in answer.body for words in _UNHEARD.get(answer.status, ()))
