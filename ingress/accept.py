"""Verify, name, accept: from an HTTP request to a run that is on disk, or to a clear no.

`admit` looks at the head and says how large a body may be; `take` does the rest. A 202 means that JetStream has the start.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Literal, Protocol, TypeAlias

import structlog
from msgspec import Raw, Struct, structs

from chassis.admission import Sender
from chassis.chains import HEADER as CAUSE
from chassis.clock import Clock
from chassis.crash import crash
from chassis.dispatch import QUEUED
from chassis.edge.problems import Problem
from chassis.edge.trails import Trails
from chassis.expressions import Language
from chassis.ids import digest, run_id
from chassis.past import PastRun
from chassis.ports import Away, Blobs, Log
from chassis.rate_limit import RateLimit
from chassis.sealing import Sealer, in_body
from chassis.vault import NoSuchSecret, OpenedSecret, VaultAway
from contracts.codec import Decoder, Malformed
from contracts.limits import DEDUPE_KEY_BYTES, INLINE_BYTES
from contracts.messages import Answer, Responded, StartRun
from contracts.payloads import Payload
from contracts.runs import Cause
from contracts.subjects import NOBODY
from contracts.subjects import run as run_subject
from contracts.triggers import (
    Chat,
    ChatMessage,
    ExpressionKey,
    HeaderKey,
    HeaderToken,
    Hook,
    NoAuthentication,
    NoDedupe,
    Preset,
    Slack,
)
from ingress.bodies import Body, parse
from ingress.deliveries import Request, input_of, visible_headers
from ingress.directory import Directory, Trigger
from ingress.expression_keys import ExpressionKeys
from ingress.histories import correlation_of, responded_in
from ingress.hooks import UNKNOWN_TRIGGER, Hooks
from ingress.replies import Reply, accepted, duplicate, run_says
from ingress.signature import Refused, dedupe_key, url_verification_challenge, verify
from ingress.waiting import Waiting

log = structlog.get_logger()

HookResult: TypeAlias = Literal["duplicate", "refused", "unmatched", "captured"]
RETRY_SECONDS: Final = 5
NO_WEBHOOK: Final = "There is no webhook at this address."
_message = Decoder[ChatMessage](ChatMessage)


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
        dispatch: Sender,
        history: Log,
        blobs: Blobs,
        hooks: Hooks,
        keys: Keys,
        limit: RateLimit,
        waiting: Waiting,
        clock: Clock,
        receipts: Callable[[], str],
        disk_is_full: Callable[[], bool],
        language: Language,
        trails: Trails,
        past: Callable[[str, str], Awaitable[PastRun | None]] | None = None,
        uploads_stop: Callable[[], bool] = lambda: False,
        crowds: Callable[[str], bool] = lambda _org: False,
    ) -> None:
        """`past`: what the archive knows of a run whose history has left the log; raises `Away`.

        `uploads_stop`: whether the log's disk has no room for bodies that do not fit into a commit.
        `crowds`: whether so much of an org is held that it may begin nothing more.
        """
        self._directory = directory
        self._dispatch = dispatch
        self._log = history
        self._blobs = blobs
        self._hooks = hooks
        self._keys = keys
        self._limit = limit
        self._waiting = waiting
        self._clock = clock
        self._receipts = receipts
        self._disk_is_full = disk_is_full
        self._past = past
        self._uploads_stop = uploads_stop
        self._crowds = crowds
        self._trails = trails
        self._keys_by_expression = ExpressionKeys(language)
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
            self._hooks.keep(self._head(receipt, method, address, "unmatched", "unknown address"))
            raise self._no("not_found", NO_WEBHOOK)
        trigger, test = found
        reason = _closed(trigger, test=test)
        if reason:
            self._unmatched(receipt, trigger, method, address, reason)
            raise self._no("not_found", NO_WEBHOOK)
        if method not in trigger.webhook.methods:
            allowed = ", ".join(trigger.webhook.methods)
            self._unmatched(receipt, trigger, method, address, f"{method} instead of {allowed}")
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
            self._keep(admitted, request, "refused", f"malformed: {malformed}")
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
            self._keep(admitted, request, "refused", f"authentication: {verdict.reason}")
            raise self._no("bad_signature", "The delivery could not be authenticated.")

    def _name(self, admitted: Admitted, request: Request) -> Named:
        """Which run this delivery stands for: derived from its key, or from its receipt when it has none."""
        trigger = admitted.trigger
        body = parse(request.body, request.headers.get("content-type", ""))
        key = self._key(trigger, request, body) if trigger.chat is None else message_key(trigger.chat, body)
        if key is not None and len(key.encode()) > DEDUPE_KEY_BYTES:
            raise Malformed(f"The dedupe key is longer than {DEDUPE_KEY_BYTES} bytes.")
        source = f"key:{key}" if key is not None else f"receipt:{admitted.receipt}"
        return Named(run=run_id(trigger.org, trigger.id, source), key=key, body=body)

    def _key(self, trigger: Trigger, request: Request, body: Body) -> str | None:
        match trigger.webhook.dedupe:
            case NoDedupe():
                return None
            case Preset(preset=preset):
                return dedupe_key(preset, request.raw_headers, request.body)
            case HeaderKey(header=header):
                return request.headers.get(header.lower()) or None
            case ExpressionKey(expression=expression):
                return self._keys_by_expression.key(expression, request, body)

    async def _payload(
        self, admitted: Admitted, request: Request, named: Named, sealer: Sealer | None
    ) -> Payload:
        hook = admitted.trigger.webhook
        hidden = hook.authentication.header.lower() if isinstance(hook.authentication, HeaderToken) else ""
        return await input_of(
            request, named.body, self._blobs, hidden=hidden, sensitive=in_body(hook.sensitive), sealer=sealer
        )

    async def _capture(self, admitted: Admitted, request: Request, named: Named) -> None:
        """Keep a sample. What is sensitive is sealed as if a run of the receipt's name had been started by it."""
        key_id, sealer = "", None
        if admitted.trigger.webhook.sensitive:
            key_id, sealer = await self._keys.sealer(admitted.trigger.org, admitted.receipt)
        body = await self._payload(admitted, request, named, sealer)
        record = self._record(admitted, request, "captured")
        self._hooks.keep(structs.replace(record, body=body, key_id=key_id))

    async def _start(self, admitted: Admitted, request: Request, named: Named) -> Reply:
        trigger = admitted.trigger
        try:
            cause = self.cause(trigger, admitted.receipt, request)
        except Problem as loop:
            self._keep(admitted, request, "refused", f"a loop: {loop.detail}")
            raise
        key_id, sealer = "", None
        if trigger.webhook.sensitive:
            key_id, sealer = await self._keys.sealer(trigger.org, named.run)
        says = self._directory.says(trigger.org)
        start = StartRun(
            org=trigger.org,
            run=named.run,
            trace=request.trace,
            plan=trigger.plan,
            workflow=trigger.workflow,
            version=trigger.version,
            receipt=admitted.receipt,
            cause=cause,
            input=await self._payload(admitted, request, named, sealer),
            trigger=trigger.id,
            org_vars=says.vars,
            org_limit=says.limit,
            dedupe=digest(named.key.encode()) if named.key is not None else None,
            actor=f"trigger:{trigger.id}",
            key_id=key_id,
        )
        if trigger.webhook.mode == "accept":
            return self._accepted(admitted, request, await self.say(start, named))
        return await self._await_answer(admitted, request, start, named)

    def cause(self, trigger: Trigger, receipt: str, request: Request) -> Cause:
        """Why the run of a delivery begins, behind the run that sent it, where one did. Raises `Problem` for a loop."""
        cause = Cause(kind="webhook", id=receipt)
        try:
            return self._trails.behind(cause, request.headers.get(CAUSE), trigger.org, trigger.workflow)
        except Problem:
            self.refused += 1
            raise

    async def say(self, start: StartRun, named: Named) -> Answer:
        """The owner's answer; through INBOX nobody told us yet whether the run was there before, so we look."""
        crash("accept.before_dispatch")
        answer = await self._dispatch.send(start)
        crash("accept.after_dispatch")
        if answer is not QUEUED:
            return answer
        known, gone = start.receipt, False
        if named.key is not None:
            found = await self._log.last([run_subject(start.org, start.run)])
            for stored in found.values():
                known = correlation_of(stored.body)
            if not found and (past := await self._past_of(start)) is not None:
                known, gone = past.receipt, True
        result: Literal["accepted", "duplicate"] = "accepted" if known == start.receipt else "duplicate"
        return Answer(run=start.run, result=result, receipt=known, gone=gone)

    async def _past_of(self, start: StartRun) -> PastRun | None:
        """What the archive knows. With Postgres away nobody is told of a duplicate: INBOX has the start under its id."""
        if self._past is None:
            return None
        try:
            return await self._past(start.org, start.run)
        except Away as reason:
            log.warning("delivery.past-unknown", run=start.run, reason=str(reason))
            return None

    def _accepted(self, admitted: Admitted, request: Request, answer: Answer) -> Reply:
        if answer.result == "duplicate":
            self.duplicates += 1
            self._keep(admitted, request, "duplicate", "", run=answer.run)
            return duplicate(answer.run, answer.receipt)
        if answer.result == "refused":
            raise Away(answer.error.message if answer.error else "refused")
        self.accepted += 1
        return accepted(answer.run, admitted.receipt)

    async def _await_answer(
        self, admitted: Admitted, request: Request, start: StartRun, named: Named
    ) -> Reply:
        """The run's own answer, within the trigger's patience and our life; the run goes on without us."""
        hook = admitted.trigger.webhook
        with self._waiting.place() as (subject, answered):
            answer = await self.say(structs.replace(start, reply=subject), named)
            settled = self._accepted(admitted, request, answer)
            responded = answer.responded
            if responded is None and answer.gone:
                return settled
            if responded is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(hook.respond_timeout_s):
                        responded = await answered
            if responded is None:
                responded = await self._read_answer(start)
        if responded is None:
            raise Problem("respond_timeout", "The run goes on.", headers={"automateos-run": start.run})
        return await run_says(responded, self._blobs, duplicate=settled.status == 200)

    async def _read_answer(self, start: StartRun) -> Responded | None:
        """What the history says, once, when no answer came: whoever owed it may have died."""
        return responded_in(await self._log.history(run_subject(start.org, start.run)), start.run)

    def _no(self, code: str, detail: str, **headers: str) -> Problem:
        self.refused += 1
        return Problem(code, detail, headers=headers)

    def _keep(
        self, admitted: Admitted, request: Request, result: HookResult, reason: str, run: str | None = None
    ) -> None:
        """Keep a delivery that started no run. Of a refused one the body is not kept: nobody vouches for it."""
        self._hooks.keep(structs.replace(self._record(admitted, request, result, reason), run=run))

    def _record(self, admitted: Admitted, request: Request, result: HookResult, reason: str = "") -> Hook:
        hook = admitted.trigger.webhook
        hidden = hook.authentication.header.lower() if isinstance(hook.authentication, HeaderToken) else ""
        return structs.replace(
            self._head(admitted.receipt, request.method, request.address, result, reason),
            org=admitted.trigger.org,
            trigger=admitted.trigger.id,
            headers=visible_headers(request.headers, hidden),
            size=len(request.body),
        )

    def _head(self, receipt: str, method: str, address: str, result: HookResult, reason: str) -> Hook:
        return Hook(
            receipt=receipt,
            org=NOBODY,
            trigger=UNKNOWN_TRIGGER,
            time=self._clock.now().timestamp(),
            result=result,
            method=method[:16],
            address=address[:64],
            reason=reason,
        )

    def _unmatched(self, receipt: str, trigger: Trigger, method: str, address: str, reason: str) -> None:
        head = self._head(receipt, method, address, "unmatched", reason)
        self._hooks.keep(structs.replace(head, org=trigger.org, trigger=trigger.id))


def message_key(chat: Chat, body: Body) -> str | None:
    """What names a message of a talk; None for one without an id. Raises `Malformed` for what is no message."""
    if not isinstance(body.value, Raw):
        raise Malformed("A message is JSON: a session and a text.")
    said = _message(body.value)
    if len(said.message) > chat.message_chars:
        raise Malformed(f"A message has {chat.message_chars} characters at the most.", "/message")
    return None if said.id is None else f"{said.session}:{said.id}"


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
