"""What control nodes do that wait: for a moment, for something said, for a call, for somebody's decision."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw, ValidationError, convert, structs

from contracts.codec import encode
from contracts.limits import (
    ANSWER_BYTES,
    DECIDERS,
    DELAY_SECONDS,
    DETAILS_CHARS,
    FORM_BYTES,
    QUESTION_CHARS,
    WEBHOOK_BODY_BYTES,
    Marks,
)
from contracts.payloads import Inline
from contracts.triggers import Authentication, NoAuthentication
from contracts.waits import Approval, AwaitedCall, Deciders
from orchestrator.control import (
    Asking,
    Delayed,
    Expecting,
    Given,
    Listening,
    Outcome,
    Passed,
    Unfit,
    kind_of,
)


def delay(config: Mapping[str, Any], given: Given, at: datetime) -> Passed | Delayed:
    if "until" in config:
        due = _moment(config["until"])
    else:
        due = at + timedelta(seconds=_duration(config["seconds"], "/seconds"))
    if due > at + timedelta(seconds=DELAY_SECONDS):
        raise Unfit("/until", "The moment is more than a year away.")
    return Delayed(due=due) if due > at else Passed(output=given.payload())


def wait_signal(config: Mapping[str, Any], _given: Given, at: datetime) -> Listening:
    return Listening(signal=config["signal"], due=after(config, "timeout_seconds", at))


def after(config: Mapping[str, Any], field: str, at: datetime) -> datetime | None:
    """So many seconds later, where the field is there."""
    if field not in config:
        return None
    return at + timedelta(seconds=_duration(config[field], f"/{field}"))


def wait_webhook(config: Mapping[str, Any], _given: Given, at: datetime) -> Expecting:
    body = Inline(value=Raw(encode(config["body"]))) if "body" in config else None
    if body is not None and len(body.value) > ANSWER_BYTES:
        raise Unfit("/body", f"The answer to a call has at most {ANSWER_BYTES} bytes.")
    call = AwaitedCall(
        methods=tuple(config.get("methods", ("POST",))),
        authentication=_authentication(config.get("authentication")),
        body_bytes=config.get("body_bytes", WEBHOOK_BODY_BYTES),
        status=config.get("status", 200),
        body=body,
    )
    return Expecting(call=call, due=after(config, "timeout_seconds", at))


def _authentication(given: Any) -> Authentication:
    """As a webhook has it; the secret stays a reference."""
    if given is None:
        return NoAuthentication()
    secret = given.get("secret")
    named = {**given, "secret": secret["$secret"]} if isinstance(secret, dict) else given
    try:
        return convert(named, Authentication)  # type: ignore[no-any-return]  # A union is a value here.
    except ValidationError:
        raise Unfit("/authentication", "This is no way to authenticate a call.") from None


def wait_approval(config: Mapping[str, Any], _given: Given, at: datetime) -> Asking:
    due, escalates = after(config, "timeout_seconds", at), after(config, "escalate_after_seconds", at)
    if due is not None and escalates is not None and escalates >= due:
        raise Unfit("/escalate_after_seconds", "It would be escalated when the time to decide is over.")
    if len(encode(config.get("form", {}))) > FORM_BYTES:
        raise Unfit("/form", f"A form has at most {FORM_BYTES} bytes.")
    approval = Approval(
        question=_text(config["question"], "/question", QUESTION_CHARS),
        details=_text(config["details"], "/details", DETAILS_CHARS) if "details" in config else "",
        form=config.get("form", {}),
        deciders=_deciders(config, "deciders"),
        by_link=config.get("by_link", True),
        escalate_to=_deciders(config, "escalate_to"),
        escalates=escalates,
    )
    return Asking(approval=approval, due=due)


def marked(outcome: Outcome, marks: Marks) -> Outcome:
    """The same, asking for these places to be sealed where they come in."""
    match outcome:
        case Asking(approval=approval):
            return structs.replace(outcome, approval=structs.replace(approval, sensitive=marks))
        case Expecting(call=call):
            return structs.replace(outcome, call=structs.replace(call, sensitive=marks))
        case _:
            return outcome  # Of a signal the plan tells it: that may come before anything waits.


def _text(value: object, field: str, most: int) -> str:
    if not isinstance(value, str) or not value:
        raise Unfit(field, f"This is a text; the expression gave {kind_of(value)}.")
    if len(value) > most:
        raise Unfit(field, f"The text has {len(value)} characters; at most are {most}.")
    return value


def _deciders(config: Mapping[str, Any], field: str) -> Deciders:
    given = config.get(field, [])
    if not isinstance(given, list):
        raise Unfit(f"/{field}", f"Those who decide are a list; the expression gave {kind_of(given)}.")
    try:
        return convert(tuple(given), Deciders)
    except ValidationError:
        message = f"Each of them is `key:` or `member:` and an id; at most are {DECIDERS}."
        raise Unfit(f"/{field}", message) from None


def _duration(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(field, f"A delay is a number of seconds; the expression gave {kind_of(value)}.")
    if not 0 <= value <= DELAY_SECONDS:
        raise Unfit(field, f"A delay is between 0 and {DELAY_SECONDS} seconds.")
    return value


def _moment(value: object) -> datetime:
    if not isinstance(value, str):
        raise Unfit("/until", f"A moment is a text such as 2026-11-20T12:00:00Z; this is {kind_of(value)}.")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Unfit("/until", "This is not a moment such as 2026-11-20T12:00:00Z.") from None
    if moment.tzinfo is None:
        raise Unfit("/until", "The moment needs a time zone, such as Z or +02:00.")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise Unfit("/until", "The moment is out of range.") from None
