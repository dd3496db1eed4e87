"""Verify, name, accept: from an HTTP request to a run that is on disk, or to a clear no.

`admit` looks at the head and says how large a body may be; `take` does the rest. A 202 means that JetStream has the start.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from msgspec import Struct

from chassis.clock import Clock
from chassis.edge.problems import Problem
from chassis.expressions import Language
from chassis.ids import digest, run_id
from chassis.ports import Away, Blobs
from chassis.rate_limit import RateLimit
from chassis.sealing import Sealer, in_body
from chassis.vault import NoSuchSecret, OpenedSecret, VaultAway
from contracts.codec import Malformed
from contracts.limits import INLINE_BYTES
from contracts.messages import Answer
from contracts.payloads import Payload
from contracts.triggers import NoAuthentication, Slack
from ingress.bodies import Body, parse
from ingress.deliveries import Request, hidden_header, input_of
from ingress.directory import Directory, Trigger
from ingress.hooks import Hooks, Kept
from ingress.replies import Reply, run_says, settled
from ingress.sender_keys import SenderKeys
from ingress.signature import Refused, url_verification_challenge, verify
from ingress.starts import Delivery, Starts
from ingress.waiting import Waiting

RETRY_SECONDS: Final = 5
NO_WEBHOOK: Final = "There is no webhook at this address."


class Keys(Protocol):
    """The vault, as far as a door needs it."""

    async def open(self, org: str, secret_id: str) -> OpenedSecret: ...

    async def sealer(self, org: str, run: str) -> tuple[str, Sealer]: ...


class Admitted(Struct, frozen=True, kw_only=True):
    """An address that takes this method: the body may be read."""

    trigger: Trigger
    test: bool
    receipt: str
    body_bytes: int


class Named(Struct, frozen=True, kw_only=True):
    """A delivery that is what it says it is, and which run it stands for."""

    run: str
    key: str | None
    body: Body


class Door:
    """Accepts deliveries for every trigger in the directory."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        directory: Directory,
        starts: Starts,
        blobs: Blobs,
        hooks: Hooks,
        keys: Keys,
        limit: RateLimit,
        waiting: Waiting,
        clock: Clock,
        receipts: Callable[[], str],
        disk_is_full: Callable[[], bool],
        language: Language,
        uploads_stop: Callable[[], bool] = lambda: False,
        crowds: Callable[[str], bool] = lambda _org: False,
    ) -> None:
        """`uploads_stop`: whether the log's disk has no room for bodies that do not fit into a commit.

        `crowds`: whether so much of an org is held that it may begin nothing more.
        """
        self._directory = directory
        self._starts = starts
        self._blobs = blobs
        self._hooks = hooks
        self._keys = keys
        self._limit = limit
        self._waiting = waiting
        self._clock = clock
        self._receipts = receipts
        self._disk_is_full = disk_is_full
        self._uploads_stop = uploads_stop
        self._crowds = crowds
        self._sender_keys = SenderKeys(language)
        self.accepted = 0
        self.duplicates = 0
        self.refused = 0
        self.crowded = 0
        """Of those refused: because too much of their org is held."""

    def admit(self, token: str, method: str, address: str) -> Admitted:
        """Whose address this is. Unknown, disabled and unpublished look the same from outside. Raises `Problem`."""
        receipt = self._receipts()
        if not self._directory.complete.is_set():
            raise away("Ingress is starting.")
        found = self._directory.find(digest(token.encode()))
        if found is None or found[0].form is not None:
            self._hooks.unmatched(receipt, method, address, "unknown address")
            raise self._no("not_found", NO_WEBHOOK)
        trigger, test = found
        reason = _closed(trigger, test=test)
        if reason:
            self._hooks.unmatched(receipt, method, address, reason, trigger)
            raise self._no("not_found", NO_WEBHOOK)
        if method not in trigger.webhook.methods:
            allowed = ", ".join(trigger.webhook.methods)
            self._hooks.unmatched(receipt, method, address, f"{method} instead of {allowed}", trigger)
            raise self._no("method_not_allowed", f"This webhook takes {allowed}.", allow=allowed)
        if self._crowds(trigger.org):
            self.crowded += 1
            raise self._no("held.too_many", "", **{"retry-after": str(RETRY_SECONDS)})
        return Admitted(trigger=trigger, test=test, receipt=receipt, body_bytes=trigger.webhook.body_bytes)

    async def take(self, admitted: Admitted, request: Request) -> Reply:
        """The answer to a whole delivery. Raises `Problem` for every no."""
        try:
            return await self._take(admitted, request)
        except VaultAway:
            raise away("The secrets that verify this delivery cannot be read now.") from None
        except Away:
            raise away("The delivery could not be stored; nothing was accepted.") from None

    async def _take(self, admitted: Admitted, request: Request) -> Reply:
        trigger = admitted.trigger
        if self._disk_is_full():
            raise away("The log's disk is nearly full; no run starts until there is room.", RETRY_SECONDS)
        if len(request.body) > INLINE_BYTES and self._uploads_stop():
            raise away(
                "The log's disk is filling up; no large body is taken until there is room.", RETRY_SECONDS
            )
        if not await self._limit.allow(f"{trigger.org}:{trigger.id}", trigger.webhook.per_minute):
            later = str(self._limit.seconds_left())
            raise self._no("rate_limited", "Too many deliveries a minute.", **{"retry-after": later})
        await self._authenticate(admitted, request)
        if isinstance(trigger.webhook.authentication, Slack):
            challenge = url_verification_challenge(request.body)
            if challenge is not None:
                return Reply(status=200, body=challenge.encode(), content_type="text/plain")
        try:
            named = self._name(admitted, request)
        except Malformed as malformed:
            self._refuse(admitted, request, f"malformed: {malformed}")
            raise self._no("malformed", str(malformed)) from None
        if admitted.test:
            await self._capture(admitted, request, named)
            return Reply(status=200, body=b'{"captured":true}')
        return await self._start(admitted, request, named)

    async def _authenticate(self, admitted: Admitted, request: Request) -> None:
        """Every no is the same no: only the trigger's owner reads the reason."""
        authentication = admitted.trigger.webhook.authentication
        if isinstance(authentication, NoAuthentication):
            return
        try:
            keys = (await self._keys.open(admitted.trigger.org, authentication.secret)).keys
        except NoSuchSecret:
            keys = ()
        verdict = verify(
            authentication, request.raw_headers, request.body, self._clock.now().timestamp(), keys
        )
        if isinstance(verdict, Refused):
            self._refuse(admitted, request, f"authentication: {verdict.reason}")
            raise self._no("bad_signature", "The delivery could not be authenticated.")

    def _name(self, admitted: Admitted, request: Request) -> Named:
        """Which run this delivery stands for: derived from its key, or from its receipt when it has none."""
        trigger = admitted.trigger
        body = parse(request.body, request.headers.get("content-type", ""))
        key = self._sender_keys.of(trigger, request, body)
        source = f"key:{key}" if key is not None else f"receipt:{admitted.receipt}"
        return Named(run=run_id(trigger.org, trigger.id, source), key=key, body=body)

    async def _payload(
        self, admitted: Admitted, request: Request, named: Named, sealer: Sealer | None
    ) -> Payload:
        hook = admitted.trigger.webhook
        return await input_of(
            request,
            named.body,
            self._blobs,
            hidden=hidden_header(hook),
            sensitive=in_body(hook.sensitive),
            sealer=sealer,
        )

    async def _capture(self, admitted: Admitted, request: Request, named: Named) -> None:
        """Keep a sample. What is sensitive is sealed as if a run of the receipt's name had been started by it."""
        key_id, sealer = "", None
        if admitted.trigger.webhook.sensitive:
            key_id, sealer = await self._keys.sealer(admitted.trigger.org, admitted.receipt)
        body = await self._payload(admitted, request, named, sealer)
        kept = Kept(result="captured", body=body, key_id=key_id)
        self._hooks.keep(admitted.trigger, admitted.receipt, request, kept)

    async def _start(self, admitted: Admitted, request: Request, named: Named) -> Reply:
        trigger = admitted.trigger
        try:
            cause = self._starts.cause(trigger, admitted.receipt, request)
        except Problem as loop:
            self.refused += 1
            self._refuse(admitted, request, f"a loop: {loop.detail}")
            raise
        key_id, sealer = "", None
        if trigger.webhook.sensitive:
            key_id, sealer = await self._keys.sealer(trigger.org, named.run)
        delivery = Delivery(
            receipt=admitted.receipt,
            run=named.run,
            key=named.key,
            cause=cause,
            input=await self._payload(admitted, request, named, sealer),
            key_id=key_id,
            trace=request.trace,
        )
        if trigger.webhook.mode == "accept":
            answer = await self._starts.begin(self._starts.message(trigger, delivery))
            self._note(admitted, request, answer)
            return settled(answer)
        return await self._await_answer(admitted, request, delivery)

    def _note(self, admitted: Admitted, request: Request, answer: Answer) -> None:
        if answer.result == "duplicate":
            self.duplicates += 1
            kept = Kept(result="duplicate", run=answer.run)
            self._hooks.keep(admitted.trigger, admitted.receipt, request, kept)
        else:
            self.accepted += 1

    async def _await_answer(self, admitted: Admitted, request: Request, delivery: Delivery) -> Reply:
        """The run's own answer, within the trigger's patience and our life; the run goes on without us."""
        with self._waiting.place() as (subject, answered):
            start = self._starts.message(admitted.trigger, delivery, reply=subject)
            answer = await self._starts.begin(start)
            self._note(admitted, request, answer)
            responded = answer.responded
            if responded is None and answer.gone:
                return settled(answer)
            if responded is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(admitted.trigger.webhook.respond_timeout_s):
                        responded = await answered
            if responded is None:
                responded = await self._starts.responded(start)
        if responded is None:
            raise Problem("respond_timeout", "The run goes on.", headers={"automateos-run": start.run})
        return await run_says(responded, self._blobs, duplicate=answer.result == "duplicate")

    def _no(self, code: str, detail: str, **headers: str) -> Problem:
        self.refused += 1
        return Problem(code, detail, headers=headers)

    def _refuse(self, admitted: Admitted, request: Request, reason: str) -> None:
        kept = Kept(result="refused", reason=reason)
        self._hooks.keep(admitted.trigger, admitted.receipt, request, kept)


def away(detail: str, seconds: int = 1) -> Problem:
    """Nothing was accepted; come again."""
    return Problem("unavailable", detail, headers={"retry-after": str(seconds)})


def _closed(trigger: Trigger, *, test: bool) -> str:
    """Why an address takes nothing now; empty when it does. A test address captures before anything is published."""
    if not trigger.enabled:
        return "the trigger is disabled"
    if not trigger.plan and not test:
        return "the workflow is not published"
    return ""
