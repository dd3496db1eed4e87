"""Takes what people and programs answer under the links of waiting steps: decisions, and calls.

Rule that holds here: a link is a key. Whoever has none learns nothing, not even whether there is such a run; looking at a link
decides nothing, because mail programs open links by themselves; and what a link proves is stored nowhere.
"""

import asyncio
from datetime import datetime
from typing import Final, Protocol

from msgspec import structs

from chassis.asked import Asked, asked_in_log
from chassis.clock import Clock
from chassis.decisions import hash_of, kept_of
from chassis.dispatch import QUEUED, Dispatch
from chassis.edge.problems import Problem
from chassis.ids import digest
from chassis.links import Links, Place, proof_of
from chassis.ports import Away, Blobs, Log
from chassis.sealing import Sealer, parse_pointer
from chassis.secret import REDACTED
from chassis.vault import NoSuchSecret, Shredded, VaultAway
from contracts.codec import Malformed, Unknown, encode
from contracts.limits import ANSWERS_PER_MINUTE, EARLY_CALL_SECONDS, EARLY_CALLS, Marks
from contracts.messages import CallWait, DecideApproval
from contracts.subjects import run as run_subject
from contracts.triggers import HeaderToken, NoAuthentication
from contracts.waits import CALLER, LINK, Approval, AwaitedCall, may_decide
from ingress.accept import Keys, away
from ingress.bodies import parse
from ingress.decisions import (
    Outcome,
    Shown,
    looked_at,
    not_open,
    read_decision,
    thanks,
    too_late,
    wants_page,
    wrong,
)
from ingress.deliveries import Request, input_of
from ingress.replies import Reply
from ingress.signature import Refused, verify

NOTHING_HERE: Final = "There is nothing under this address."
_LOOK_SECONDS: Final = 0.2


class Limit(Protocol):
    """As much of a rate limit as a desk needs."""

    async def allow(self, key: str, per_minute: int, /) -> bool: ...

    def seconds_left(self) -> int: ...


class Desk:
    """Where answers come in."""

    def __init__(  # noqa: PLR0913  # The composition root names every port once.
        self,
        *,
        links: Links,
        dispatch: Dispatch,
        history: Log,
        blobs: Blobs,
        keys: Keys,
        limit: Limit,
        clock: Clock,
    ) -> None:
        self._links, self._dispatch, self._log = links, dispatch, history
        self._blobs, self._keys, self._limit, self._clock = blobs, keys, limit, clock
        self._held = 0
        self.answered = 0
        self.refused = 0

    def admit(self, token: str) -> Place:
        """The step that this link belongs to. Raises `Problem`: the same for a wrong one and one that never was."""
        place = self._links.place(token)
        if place is None:
            self.refused += 1
            raise Problem("not_found", NOTHING_HERE)
        return place

    async def take(self, place: Place, request: Request) -> Reply:
        """The answer to a whole request. Raises `Problem` for every no."""
        try:
            return await self._take(place, request)
        except VaultAway:
            raise away("The secrets that verify this call cannot be read now.") from None
        except Away:
            raise away("What was said could not be stored; nothing was accepted.") from None
        except (Unknown, Malformed):
            raise away("The run's history cannot be read by this release.") from None

    async def _take(self, place: Place, request: Request) -> Reply:
        if not await self._limit.allow(f"{place.org}:resume:{place.run}:{place.step}", ANSWERS_PER_MINUTE):
            self.refused += 1
            later = str(self._limit.seconds_left())
            raise Problem("rate_limited", "Too many requests a minute.", headers={"retry-after": later})
        told = await self._opened(place, await self._asked(place))
        wait = told.wait
        if wait is not None and wait.approval is not None:
            return await self._approval(place, request, told, wait.approval)
        if wait is not None and wait.call is not None:
            return await self._call(place, request, told, wait.call)
        code = "wait.not_open" if told.standing(self._now) == "not_open" else "wait.over"
        if wants_page(request):
            self.refused += 1
            return not_open(code)
        raise self._no(code, **({"retry-after": "5"} if code == "wait.not_open" else {}))

    async def _asked(self, place: Place) -> Asked:
        history = await self._log.history(run_subject(place.org, place.run))
        try:
            return await asked_in_log([stored.body for stored in history], place.step, self._blobs)
        except KeyError:
            raise away("What the run remembers is not in the object store.") from None

    async def _opened(self, place: Place, told: Asked) -> Asked:
        """A call may come before its run waits for it: the answer to a request that the run has only just made."""
        until = self._clock.seconds() + EARLY_CALL_SECONDS
        if told.standing(self._now) != "not_open" or self._held >= EARLY_CALLS:
            return told
        self._held += 1
        try:
            while told.standing(self._now) == "not_open" and self._clock.seconds() < until:
                await asyncio.sleep(_LOOK_SECONDS)
                told = await self._asked(place)
        finally:
            self._held -= 1
        return told

    @property
    def _now(self) -> datetime:
        return self._clock.now()

    # --- Decisions ----------------------------------------------------------------------------

    async def _approval(self, place: Place, request: Request, told: Asked, approval: Approval) -> Reply:
        standing = told.standing(self._now)
        shown = Shown(approval=approval, told=told, standing=standing)
        if not may_decide(approval, LINK, escalated=told.escalated):
            raise self._no("approval.not_yours")
        if request.method == "GET":
            return looked_at(request, shown)
        if request.method != "POST":
            raise self._no("method_not_allowed", allow="GET, POST")
        decided = read_decision(request, approval)
        if decided.complaints:
            self.refused += 1
            return wrong(request, shown, decided)
        sealer = await self._sealer(place, approval.sensitive)
        kept = kept_of(decided.checked.values, decided.comment, approval.sensitive, sealer)
        message = DecideApproval(
            org=place.org,
            run=place.run,
            trace=request.trace,
            actor=LINK,
            step=place.step,
            decision=decided.decision,
            request=hash_of([decided.decision, decided.given, decided.comment, decided.name], sealer),
            fields=kept.fields,
            comment=kept.comment,
            name=decided.name,
        )
        try:
            after = await self._say(place, message, told)
        except Problem as problem:
            if problem.code != "wait.over" or not wants_page(request):
                raise
            return too_late(structs.replace(shown, told=await self._asked(place)))
        return thanks(request, shown, decided, after)

    # --- Calls --------------------------------------------------------------------------------

    async def _call(self, place: Place, request: Request, told: Asked, call: AwaitedCall) -> Reply:
        if request.method not in call.methods:
            raise self._no("method_not_allowed", allow=", ".join(call.methods))
        if len(request.body) > call.body_bytes:
            raise self._no("too_large")
        await self._authenticate(place.org, request, call)
        clean = without(request, self._links.link(place))
        try:
            parsed = parse(clean.body, clean.headers.get("content-type", ""))
        except Malformed as malformed:
            self.refused += 1
            raise Problem("malformed", str(malformed)) from None
        if parsed.files and any(covers_files(mark) for mark in call.sensitive):
            self.refused += 1
            raise Problem("malformed", "A file cannot be sealed with what names it.")
        hidden = call.authentication.header.lower() if isinstance(call.authentication, HeaderToken) else ""
        sealer = await self._sealer(place, call.sensitive)
        said = encode([request.method, request.query, digest(request.body)])
        message = CallWait(
            org=place.org,
            run=place.run,
            trace=request.trace,
            actor=CALLER,
            step=place.step,
            request=digest(said) if sealer is None else sealer.proof(said),
            body=await input_of(
                clean, parsed, self._blobs, hidden=hidden, sensitive=call.sensitive, sealer=sealer
            ),
        )
        after = await self._say(place, message, told)
        if after == "queued":
            return Reply(status=202, body=b'{"received":true}')
        body = bytes(call.body.value) if call.body is not None else b'{"received":true}'
        return Reply(status=call.status, body=body)

    async def _authenticate(self, org: str, request: Request, call: AwaitedCall) -> None:
        if isinstance(call.authentication, NoAuthentication):
            return
        try:
            keys = (await self._keys.open(org, call.authentication.secret)).keys
        except NoSuchSecret:
            keys = ()
        verdict = verify(call.authentication, request.raw_headers, request.body, self._now.timestamp(), keys)
        if isinstance(verdict, Refused):
            raise self._no("bad_signature")

    # --- Both ---------------------------------------------------------------------------------

    async def _sealer(self, place: Place, marks: Marks) -> Sealer | None:
        """What seals an answer; None where nothing of it is marked."""
        if not marks:
            return None
        try:
            return (await self._keys.sealer(place.org, place.run))[1]
        except Shredded:
            raise self._no("wait.over") from None

    async def _say(self, place: Place, message: CallWait | DecideApproval, told: Asked) -> Outcome:
        """Say it to the run's owner, who alone decides; what it has forgotten, the history still knows."""
        if told.was_answered_by(message.actor, message.request):
            return "unchanged"
        if told.standing(self._now) != "open":
            raise self._no("wait.over")
        answer = await self._dispatch.send(message)
        if answer is QUEUED:
            self.answered += 1
            return "queued"
        if answer.result == "refused":
            if (await self._asked(place)).was_answered_by(message.actor, message.request):
                return "unchanged"
            error = answer.error
            if error is None or error.retryable:
                raise Away(error.message if error else "refused")
            raise self._no(error.code)
        self.answered += 1
        return "unchanged" if answer.result == "nothing" else "accepted"

    def _no(self, code: str, **headers: str) -> Problem:
        self.refused += 1
        return Problem(code, headers={name.replace("_", "-"): value for name, value in headers.items()})


def covers_files(mark: str) -> bool:
    """Whether a mark is of the files that came, or of something that they are a part of."""
    return parse_pointer(mark)[:1] in ((), ("*",), ("files",))


def without(request: Request, link: str) -> Request:
    """The request as it may be stored: whoever put the link into it, a proxy or a browser, its proof is not kept."""
    proof = proof_of(link)
    return structs.replace(
        request,
        headers={name: value.replace(proof, REDACTED) for name, value in request.headers.items()},
        query=request.query.replace(proof, REDACTED),
        body=request.body.replace(proof.encode(), REDACTED.encode()),
    )
