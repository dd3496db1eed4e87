"""One connection to NATS: questions with answers, subscriptions, and a watchdog for a client that only looks connected.

Rule: whoever asked when the connection went is told at once that nobody knows (`Ambiguous`), never left to a time-out;
what had not left by then never leaves.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import nats.errors
import structlog

from chassis.clock import Clock, SystemClock
from chassis.jetstream.alongside import alongside
from chassis.jetstream.client import Heard, QuickClient
from chassis.jetstream.questions import Asked, Collected, Question, Questions, Reply, all_of
from chassis.jetstream.wire import Complaint, Refusal, answered, refused, status
from chassis.ports import Ambiguous, Away, NobodyThere

TIME_OUTS: Final = 3
"""So many acknowledgements in a row that did not come mean that the connection is none."""
ACK_SECONDS: Final = 3.0
_CONNECT_SECONDS: Final = 2
_RECONNECT_SECONDS: Final = 0.1
_PING_SECONDS: Final = 5
_PONG_SECONDS: Final = 1
_UP_LOOK_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 1.0
_SAY_EVERY: Final = 50

log = structlog.get_logger()


class NotAllowed(Exception):
    """The server does not know this user, or the user may not do that."""


class Connection:
    """Made by `connect`. Whatever asks raises `Away` while the connection is down: nothing left."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.instance = secrets.token_hex(6)
        self.prefix = f"{inbox_prefix(name)}.{self.instance}"
        """Everything that is answered to this process goes to subjects under it."""
        self.generation = 0
        """Grows each time the connection is lost."""
        self.counts: Counter[str] = Counter()
        self.lost: list[Callable[[], None]] = []
        """Called when the connection is gone; must not raise."""
        self.client = QuickClient(self.fail, self._lost)
        self._clock = clock
        self._since = 0.0
        self._questions = Questions(f"{self.prefix}.a.")
        self._time_outs = 0
        self._counted_at = 0.0
        self._suspect = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = False

    @property
    def up(self) -> bool:
        return self.client.is_connected

    @property
    def connected_since(self) -> float:
        """Unix seconds of the last (re)connect."""
        return self._since

    # --- Asking -------------------------------------------------------------------------------

    async def ask(self, questions: Sequence[Question], timeout: float = ACK_SECONDS) -> list[Reply | None]:
        """Send all, await all: the answer of each, or None where none came."""
        return await self.ask_last([[question] for question in questions], timeout) if questions else []

    def ask_last(
        self, batches: Sequence[Sequence[Question]], timeout: float = ACK_SECONDS
    ) -> Awaitable[list[Reply | None]]:
        """Send all of each batch at once; the last question of each is answered."""
        self._check(*(question for batch in batches for question in batch))
        for batch in batches:
            for subject, body, headers in batch[:-1]:
                self.client.send(subject, body, "", headers)
        asked = Asked(len(batches), self._future())
        return self._awaited(asked, self._send(asked, [batch[-1] for batch in batches]), timeout)

    async def collect(self, subject: str, body: bytes, timeout: float = ACK_SECONDS) -> list[Reply]:
        """Every answer to one question, up to the one with a status. Raises `Ambiguous` when that does not come."""
        collected = Collected(self._future())
        tokens = self._send(collected, [(subject, body, b"")])
        try:
            await all_of(collected, timeout)
        except TimeoutError:
            self._timed_out(timeout)
            raise Ambiguous(f"no answer from {subject}") from None
        finally:
            self._questions.give_up(tokens)
        if not collected.replies or not status(collected.replies[-1][0]):
            raise Ambiguous("the connection was lost")
        self._time_outs = 0
        return collected.replies

    async def api(self, subject: str, body: Any = None, timeout: float = ACK_SECONDS) -> dict[str, Any]:
        """Ask the JetStream API: its answer, with `error` in it when that is final. Passing errors raise `Away`."""
        request = b"" if body is None else msgspec.json.encode(body)
        [reply] = await self.ask([(f"$JS.API.{subject}", request, b"")], timeout)
        if reply is None:
            raise Ambiguous(f"no answer from {subject}")
        answer = answered(*reply)
        if "error" in answer:
            reason = refused(msgspec.convert(answer["error"], Complaint))
            if isinstance(reason, Away):
                raise reason
        return answer

    async def request(self, subject: str, body: bytes, timeout: float) -> bytes:
        """Ask a service. Its silence says nothing about the connection, so the watchdog does not count it."""
        asked = Asked(1, self._future())
        tokens = self._send(asked, [(subject, body, b"")])
        try:
            async with asyncio.timeout(timeout):
                await asked.done
        except TimeoutError:
            raise Ambiguous(f"no answer from {subject} in {timeout} s") from None
        finally:
            self._questions.give_up(tokens)
        reply = asked.replies[0]
        if reply is None:
            raise Ambiguous("the connection was lost")
        if status(reply[0]) == "503" and not reply[1]:
            raise NobodyThere(subject)
        return reply[1]

    def publish(self, subject: str, body: bytes, headers: bytes = b"", reply: str = "") -> bool:
        """Send without an answer. False: the connection is down and nothing left."""
        if not self.up:
            return False
        if len(body) + len(headers) > self.client.max_payload:
            self.counts["too_large"] += 1
            log.error("nats.too-large", subject=subject, size=len(body) + len(headers))
            return False
        self.client.send(subject, body, reply, headers)
        return True

    def hear(self, subject: str, heard: Heard, group: str = "") -> int:
        return self.client.hear(subject, heard, group)

    def deafen(self, sid: int) -> None:
        """Hear no more of it, at once."""
        self.client.deafen(sid)

    def unsubscribe(self, sid: int) -> None:
        """Hear only what is on its way already, until `deafen`."""
        self.client.unsubscribe(sid)

    async def flush(self) -> None:
        """Return when the server has seen all that was sent so far, and we all that it had sent by then."""
        self._check()
        try:
            await self.client.flush(timeout=_CONNECT_SECONDS)
        except (nats.errors.Error, OSError) as error:
            raise Away(str(error)) from error

    async def until_up(self, timeout: float) -> bool:
        """Wait for the connection, at most so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while not self.up and loop.time() < end:  # noqa: ASYNC110  # nats-py has no event for it.
            await asyncio.sleep(_UP_LOOK_SECONDS)
        return self.up

    # --- Its life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch the connection for ever. Raises what a callback raised, and whatever no reconnect can heal."""
        async with alongside(self._watch()):
            await self._failure

    def fail(self, error: Exception) -> None:
        """End the service, visibly: `run` raises this."""
        if not self._failure.done() and not self._closing:
            self._failure.set_exception(error)

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._suspect.wait()
            except TimeoutError:
                if self.client.gave_up:
                    raise Away(f"nats-py stopped reconnecting: {self.client.last_error}") from None
                if not self.client.deaf:
                    continue
                kind = "deaf"
            else:
                self._suspect.clear()
                kind = await self._kind_of_silence()
            self.counts[kind] += 1
            log.warning("nats.dropped", reason=kind)
            self._time_outs = 0
            await self.client.drop()

    async def _kind_of_silence(self) -> str:
        """Either way the connection is no good; the figures tell a bad client from a bad server."""
        try:
            await self.client.rtt(timeout=_PONG_SECONDS)
        except (nats.errors.Error, OSError):
            return "silent"
        return "wedged"

    def _timed_out(self, timeout: float) -> None:
        """Questions that were under way together count once: they share their fate."""
        now = asyncio.get_running_loop().time()
        self.counts["time_outs"] += 1
        if now - timeout >= self._counted_at:
            self._counted_at = now
            self._time_outs += 1
            if self._time_outs >= TIME_OUTS:
                self._suspect.set()

    def _lost(self) -> None:
        self.generation += 1
        self.counts["lost"] += 1
        if not self._closing:
            log.warning("nats.lost")
        self._questions.lost()
        for tell in self.lost:
            tell()

    async def _connected(self) -> None:
        self._since = self._clock.now().timestamp()
        self._time_outs = 0
        log.info("nats.connected")

    async def _closed(self) -> None:
        self.fail(Away(f"the connection was closed: {self.client.last_error}"))

    async def _complained(self, error: Exception) -> None:
        text = str(error).lower()
        if "authorization" in text or "authentication" in text:
            reason = NotAllowed(f"nats-server refuses the user of {self.name}: {error}")
            if not self._since:
                raise reason  # Out of `open`, which would try for ever.
            self.fail(reason)
        elif "permissions violation" in text:
            self.counts["forbidden"] += 1
            log.error("nats.forbidden", reason=str(error))
            if "subscription" in text:
                self.fail(NotAllowed(f"{self.name}: {error}"))  # It would be deaf and look alive.
        else:
            self.counts["errors"] += 1
            if not self._since and self.counts["errors"] % _SAY_EVERY == 1:
                log.warning("nats.away", reason=str(error))

    async def open(self, urls: str, seed_file: str) -> None:
        """`urls`: one, or those of a cluster's nodes separated by commas."""
        nodes = [url.strip() for url in urls.split(",")]
        # Each process in an order of its own, so that they spread; one that answers no more is then tried last.
        secrets.SystemRandom().shuffle(nodes)
        await self.client.connect(
            nodes,
            dont_randomize=True,
            name=self.name,
            nkeys_seed=seed_file or None,
            inbox_prefix=f"{self.prefix}.n",
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_SECONDS,  # type: ignore[arg-type]  # It sleeps so long: any number will do.
            connect_timeout=_CONNECT_SECONDS,
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=2,
            pending_size=64 * 1024 * 1024,
            error_cb=self._complained,
            reconnected_cb=self._connected,
            closed_cb=self._closed,
        )
        self.hear(f"{self._questions.inbox}*", self._questions.answered)
        await self._connected()

    async def close(self) -> None:
        self._closing = True
        if self._since:
            try:
                await self.flush()
            except Away as away:
                log.warning("nats.closed-unflushed", reason=str(away))
        await self.client.close()

    # --- Questions under way ------------------------------------------------------------------

    def _future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def _check(self, *questions: Question) -> None:
        if not self.up:
            raise Away("not connected to nats-server")
        limit = self.client.max_payload
        for subject, body, headers in questions:
            if len(body) + len(headers) > limit:  # The server would end the connection.
                raise Refusal(f"{len(body)} bytes for {subject} are more than a message may have")

    def _send(self, entry: Asked | Collected, questions: Sequence[Question]) -> list[bytes]:
        self._check(*questions)
        return self._questions.ask(entry, questions, self.client.send)

    async def _awaited(self, asked: Asked, tokens: list[bytes], timeout: float) -> list[Reply | None]:
        try:
            async with asyncio.timeout(timeout):
                await asked.done
        except TimeoutError:
            self._timed_out(timeout)
        else:
            self._time_outs = 0
        finally:
            if asked.left:
                self._questions.give_up(tokens)
        return asked.replies


def inbox_prefix(name: str) -> str:
    """Where a service is answered: the allow-lists name it, so that no service reads another's answers."""
    return f"_INBOX_{name}"


@asynccontextmanager
async def connect(
    url: str, *, name: str, seed_file: str = "", clock: Clock | None = None
) -> AsyncIterator[Connection]:
    """A connection that heals itself while the context is open. Waits for a server that is not there yet.

    `url`: one, or several separated by commas. What no reconnect can heal (an unknown user, a callback that raised) cancels the body and is raised from here.
    """
    connection = Connection(name, clock or SystemClock())
    try:
        await connection.open(url, seed_file)
        async with alongside(connection.run()):
            yield connection
    finally:
        await connection.close()
