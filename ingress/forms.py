"""Forms: a page is shown, what comes back is held to its questions, and starts one run for each page that was opened.

A page carries a stamp: when it was opened, a number of its own, and a signature that nobody outside can make. So a double
click is one run, whoever is too fast is asked again, and nobody sends what they never opened. A program may send JSON.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from chassis.clock import Clock
from chassis.edge.problems import Problem
from chassis.ids import digest, run_id
from chassis.ports import Away, Blobs
from chassis.questions import Checked, complaints, from_json, from_page
from chassis.rate_limit import RateLimit
from chassis.sealing import seal_paths
from chassis.vault import VaultAway
from contracts.causes import LOOP
from contracts.codec import Malformed, encode
from contracts.limits import FORM_SECONDS, IDEMPOTENCY_KEY_CHARS, INLINE_BYTES
from contracts.messages import Answer
from contracts.payloads import Inline, Payload
from contracts.triggers import Form
from ingress.accept import Keys, away
from ingress.bodies import checked_json, page_fields
from ingress.deliveries import Input, Request, visible_headers
from ingress.directory import Directory, Trigger
from ingress.hooks import Hooks, Kept
from ingress.pages import CONTENT_TYPE, HEADERS, UNTOUCHED, Filled
from ingress.question_page import STAMP, TRAP, page, sorry, thanks
from ingress.replies import Reply, settled
from ingress.starts import Delivery, Starts

NO_FORM: Final = "There is no form at this address."
AGAIN: Final = (
    "This page was open for too long, or is not one of ours. Nothing was sent: please send it again."
)
TOO_FAST: Final = "That was very fast. Nothing was sent: please read it once more, and send it again."
BUSY: Final = (
    "This cannot be taken just now. Nothing was sent: please go back, wait a minute and send it again."
)


class Opened(Struct, frozen=True):
    """A form, and whether it was opened by its test address."""

    trigger: Trigger
    form: Form
    test: bool


class Stamp(Struct, frozen=True):
    """What a page says of itself."""

    opened: float
    number: str


class Forms:
    """Every form in the directory."""

    def __init__(  # noqa: PLR0913  # The composition root names every part once.
        self,
        *,
        directory: Directory,
        starts: Starts,
        hooks: Hooks,
        blobs: Blobs,
        keys: Keys,
        limit: RateLimit,
        clock: Clock,
        receipts: Callable[[], str],
        disk_is_full: Callable[[], bool],
        numbers: Callable[[], str] = lambda: secrets.token_urlsafe(16),
    ) -> None:
        self._directory, self._starts, self._hooks, self._blobs = directory, starts, hooks, blobs
        self._keys, self._limit, self._clock, self._receipts = keys, limit, clock, receipts
        self._disk_is_full, self._numbers = disk_is_full, numbers
        self.answers: dict[str, int] = {"accepted": 0, "duplicate": 0, "wrong": 0, "spam": 0, "limited": 0}

    def open(self, token: str, method: str) -> Opened:
        """The form at this address. Unknown, disabled and unpublished look the same from outside. Raises `Problem`."""
        if not self._directory.complete.is_set():
            raise away("Ingress is starting.")
        found = self._directory.find(digest(token.encode()))
        if found is None or found[0].form is None:
            raise Problem("not_found", NO_FORM)
        trigger, test = found
        form = trigger.form
        if form is None or not trigger.enabled or not (trigger.plan or test):
            raise Problem("not_found", NO_FORM)
        if method not in ("GET", "POST"):
            raise Problem("method_not_allowed", "A form takes GET and POST.", headers={"allow": "GET, POST"})
        return Opened(trigger, form, test)

    def show(self, opened: Opened) -> Reply:
        """The page, to be filled in."""
        return self._page(opened, UNTOUCHED, 200)

    async def take(self, opened: Opened, request: Request) -> Reply:
        """What somebody sends. Raises `Problem` for a program; people get a page."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            return await self._from_program(opened, request)
        if kind != "application/x-www-form-urlencoded":
            raise Problem("unsupported_media_type", "A form takes what its page sends, or JSON.")
        return await self._from_page(opened, request)

    # --- People ---------------------------------------------------------------------------------

    async def _from_page(self, opened: Opened, request: Request) -> Reply:
        given = page_fields(request.body)
        if not await self._may(opened, request):
            return self._sorry(opened, 429)
        if given.get(TRAP):
            self._spam(opened, request, "a field was filled in that people do not see")
            return _html(200, thanks(opened.form, test=opened.test))  # Who learns nothing tries nothing else.
        stamp = self._read(opened, given.get(STAMP, ""))
        now = self._clock.now().timestamp()
        if stamp is None or not 0 <= now - stamp.opened + 60 <= FORM_SECONDS + 60:
            return self._page(opened, Filled(values=given, notices=(AGAIN,)), 422)
        if now - stamp.opened < opened.form.seconds:
            self._spam(opened, request, f"it was filled in within {now - stamp.opened:.1f} s")
            return self._page(opened, Filled(values=given, notices=(TOO_FAST,)), 422, given[STAMP])
        checked = from_page(opened.form.questions, given)
        if checked.errors:
            self.answers["wrong"] += 1
            return self._page(opened, Filled(values=given, errors=checked.errors), 422, given[STAMP])
        try:
            await self._start(opened, request, checked, stamp.number)
        except (Away, VaultAway, Problem) as reason:
            if isinstance(reason, Problem) and reason.code == LOOP:
                raise  # Whoever sent that is a run of ours.
            return self._sorry(opened, 503)
        return _html(200, thanks(opened.form, test=opened.test))

    def _page(self, opened: Opened, filled: Filled, status: int, stamp: str = "") -> Reply:
        """A page that is shown again keeps its stamp, so that both times are one answer."""
        stamp = stamp or self._stamped(opened, Stamp(self._clock.now().timestamp(), self._numbers()))
        return _html(status, page(opened.form, stamp, filled, test=opened.test))

    def _sorry(self, opened: Opened, status: int) -> Reply:
        reply = _html(status, sorry(opened.form, BUSY))
        return msgspec.structs.replace(
            reply, headers={**reply.headers, "retry-after": str(self._limit.seconds_left())}
        )

    # --- Programs -------------------------------------------------------------------------------

    async def _from_program(self, opened: Opened, request: Request) -> Reply:
        if not await self._may(opened, request):
            later = {"retry-after": str(self._limit.seconds_left())}
            raise Problem("rate_limited", "Too many answers a minute.", headers=later)
        try:
            given: Any = msgspec.json.decode(checked_json(request.body))
        except Malformed as malformed:
            raise Problem("malformed", str(malformed)) from None
        checked = from_json(opened.form.questions, given)
        if checked.errors:
            self.answers["wrong"] += 1
            raise Problem("malformed", "The answer does not fit the form.", errors=complaints(checked, ""))
        key = request.headers.get("idempotency-key", "")[: IDEMPOTENCY_KEY_CHARS + 1]
        if len(key) > IDEMPOTENCY_KEY_CHARS:
            raise Problem(
                "malformed", f"An Idempotency-Key has {IDEMPOTENCY_KEY_CHARS} characters at the most."
            )
        try:
            answer = await self._start(opened, request, checked, f"program:{key}" if key else None)
        except (Away, VaultAway):
            raise away("The answer could not be stored; nothing was accepted.") from None
        if answer is None:
            return Reply(status=200, body=b'{"captured":true}')
        return settled(answer)

    # --- Both -----------------------------------------------------------------------------------

    async def _may(self, opened: Opened, request: Request) -> bool:
        """Whether one more may come now: from this address, and from everywhere."""
        name = f"{opened.trigger.org}:{opened.trigger.id}"
        here = await self._limit.allow(f"{name}:{request.address}", opened.form.per_address)
        allowed = here and await self._limit.allow(name, opened.form.per_minute)
        self.answers["limited"] += not allowed
        return allowed

    async def _start(
        self, opened: Opened, request: Request, checked: Checked, key: str | None
    ) -> Answer | None:
        """Start the run of an answer, once for each key; None where it was only a test."""
        trigger, receipt = opened.trigger, self._receipts()
        if opened.test:
            # Sealed as if a run of the receipt's name had been started by it.
            payload, key_id = await self._payload(opened, request, checked, receipt)
            kept = Kept(result="captured", body=payload, key_id=key_id)
            self._hooks.keep(trigger, receipt, request, kept)
            return None
        try:
            cause = self._starts.cause(trigger, receipt, request)
        except Problem as loop:
            kept = Kept(result="refused", reason=f"a loop: {loop.detail}")
            self._hooks.keep(trigger, receipt, request, kept)
            raise
        if self._disk_is_full():
            raise Away("The log's disk is nearly full; no run starts until there is room.")
        source = f"form:{key}" if key is not None else f"receipt:{receipt}"
        run = run_id(trigger.org, trigger.id, source)
        payload, key_id = await self._payload(opened, request, checked, run)
        delivery = Delivery(
            receipt=receipt,
            run=run,
            key=source if key is not None else None,
            cause=cause,
            input=payload,
            key_id=key_id,
            trace=request.trace,
        )
        answer = await self._starts.begin(self._starts.message(trigger, delivery))
        is_duplicate = answer.result == "duplicate"
        self.answers["duplicate" if is_duplicate else "accepted"] += 1
        if is_duplicate:
            self._hooks.keep(trigger, receipt, request, Kept(result="duplicate", run=answer.run))
        return answer

    async def _payload(
        self, opened: Opened, request: Request, checked: Checked, run: str
    ) -> tuple[Payload, str]:
        """The run's input, and the salt under which what is sensitive in it is sealed."""
        body: Any = checked.values
        key_id = ""
        if opened.form.sensitive:
            key_id, sealer = await self._keys.sealer(opened.trigger.org, run)
            body = seal_paths(body, opened.form.sensitive, sealer)
        given = encode(
            Input(
                body=body,
                headers=visible_headers(request.headers),
                query={},
                method="FORM",
                content_type="application/json",
                received_at=request.received_at,
            )
        )
        kept = Inline(value=Raw(given)) if len(given) <= INLINE_BYTES else await self._blobs.put(given)
        return kept, key_id

    def _spam(self, opened: Opened, request: Request, reason: str) -> None:
        self.answers["spam"] += 1
        kept = Kept(result="refused", reason=f"spam: {reason}")
        self._hooks.keep(opened.trigger, self._receipts(), request, kept)

    # --- Stamps ---------------------------------------------------------------------------------

    def _stamped(self, opened: Opened, stamp: Stamp) -> str:
        said = f"{stamp.opened:.3f}.{stamp.number}"
        return f"{said}.{_signature(opened.trigger, said)}"

    def _read(self, opened: Opened, text: str) -> Stamp | None:
        said, _, signature = text[:200].rpartition(".")
        if not hmac.compare_digest(signature.encode(), _signature(opened.trigger, said).encode()):
            return None
        seconds, _, number = said.rpartition(".")
        return Stamp(float(seconds), number)


def _signature(trigger: Trigger, said: str) -> str:
    """By what every ingress knows of the trigger, and nobody outside: the hash of its other address."""
    key = f"form:{trigger.token}:{trigger.test_token}".encode()
    return hmac.new(key, said.encode(), hashlib.sha256).hexdigest()


def _html(status: int, body: bytes) -> Reply:
    return Reply(status=status, body=body, content_type=CONTENT_TYPE, headers=HEADERS)
