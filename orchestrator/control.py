"""What the control nodes do. They touch nothing, so they are decided on the spot, in the same commit.

A node that passes data on (filter, if, switch, delay) gives what its one taken predecessor gave, or the trigger's body
where nothing comes before it; with several taken predecessors, an object of their outputs by node id.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias

from msgspec import Raw, Struct, ValidationError, convert

from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import (
    ANSWER_BYTES,
    DECIDERS,
    DELAY_SECONDS,
    DETAILS_CHARS,
    FORM_BYTES,
    ITEMS,
    ITEMS_PER_PAGE,
    QUESTION_CHARS,
    WEBHOOK_BODY_BYTES,
    Id,
    NodeId,
    PortName,
    SignalName,
)
from contracts.payloads import Inline, Payload
from contracts.plans import PlanNode
from contracts.triggers import Authentication, NoAuthentication
from contracts.waits import Approval, AwaitedCall, Deciders
from orchestrator.merging import Unmergeable, merged


class Passed(Struct, frozen=True, kw_only=True):
    """The node is done, with this output, by these ports."""

    output: Payload
    ports: tuple[PortName, ...] = ("main",)


class Delayed(Struct, frozen=True, kw_only=True):
    """The node is done when this moment has come."""

    due: datetime


class Listening(Struct, frozen=True, kw_only=True):
    """The node is done when somebody has said this, or when the moment has come."""

    signal: SignalName
    due: datetime | None = None


class Expecting(Struct, frozen=True, kw_only=True):
    """The node is done when its resumption address was called, or when the moment has come."""

    call: AwaitedCall
    due: datetime | None = None


class Asking(Struct, frozen=True, kw_only=True):
    """The node is done when somebody has decided, or when the moment has come."""

    approval: Approval
    due: datetime | None = None


class Answered(Struct, frozen=True, kw_only=True):
    """The node answers whoever waits for the run."""

    status: int
    headers: dict[str, str]
    body: Payload


class Fanned(Struct, frozen=True, kw_only=True):
    """The nodes inside are done once for each of these items."""

    count: int
    pages: tuple[Payload, ...]
    """`ITEMS_PER_PAGE` items in each but the last."""


class Looped(Struct, frozen=True, kw_only=True):
    """The nodes inside are done until the condition holds."""

    input: Payload


class Called(Struct, frozen=True, kw_only=True):
    """A run of another workflow begins; the node is done when that run is."""

    workflow: Id
    version: int = 0
    """0: the one that was published last, until somebody has looked which that is."""
    plan: str = ""
    input: Payload
    waits: bool = True
    """Until it has ended; else until it is there."""
    due: datetime | None = None


Outcome: TypeAlias = Passed | Delayed | Listening | Expecting | Asking | Answered | Fanned | Looped | Called


class Given(Protocol):
    """What comes into a node by its taken edges."""

    def payload(self) -> Payload:
        """What a node that passes on gives to the next one."""
        ...

    def json(self) -> Raw:
        """The same as JSON text."""
        ...

    def members(self) -> dict[str, Raw]:
        """The input's members, when it is an object. Raises `Unfit` when it is not."""
        ...

    def by_node(self) -> dict[NodeId, Raw]:
        """The outputs of the taken predecessors, in topological order."""
        ...


class Unfit(Exception):
    """A value that an expression gave does not fit its field, or the input does not fit the node."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def perform(node: PlanNode, config: Mapping[str, Any], given: Given, at: datetime) -> Outcome | Failure:
    """What the node does, with its expressions evaluated in `config`."""
    try:
        return _PERFORM[node.type](config, given, at)
    except Unfit as unfit:
        return Failure(code="expression", message=str(unfit), node=node.id, field=unfit.field)


def _truth(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise Unfit(field, f"The condition gave {_kind(value)}, not true or false.")
    return value


def _kind(value: object) -> str:
    names = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "nothing")


def _filter(config: Mapping[str, Any], given: Given, _at: datetime) -> Passed:
    ports = ("main",) if _truth(config["condition"], "/condition") else ()
    return Passed(output=given.payload(), ports=ports)


def _if(config: Mapping[str, Any], given: Given, _at: datetime) -> Passed:
    port = "true" if _truth(config["condition"], "/condition") else "false"
    return Passed(output=given.payload(), ports=(port,))


def _switch(config: Mapping[str, Any], given: Given, _at: datetime) -> Passed:
    """The first case that holds; what comes after it was evaluated too, and counts for nothing."""
    port = "default"
    for number, case in enumerate(config["cases"]):
        if _truth(case["when"], f"/cases/{number}/when"):
            port = case["name"]
            break
    return Passed(output=given.payload(), ports=(port,))


def _set(config: Mapping[str, Any], given: Given, _at: datetime) -> Passed:
    kept = given.members() if config.get("keep_input", False) else {}
    return Passed(output=Inline(value=Raw(encode({**kept, **config.get("fields", {})}))))


def _merge(config: Mapping[str, Any], given: Given, _at: datetime) -> Passed:
    try:
        value = merged(given.by_node(), config.get("output", "object"), config.get("key", ""))
    except Unmergeable as error:
        raise Unfit("/output", str(error)) from None
    return Passed(output=Inline(value=Raw(encode(value))))


def _delay(config: Mapping[str, Any], given: Given, at: datetime) -> Passed | Delayed:
    if "until" in config:
        due = _moment(config["until"])
    else:
        due = at + timedelta(seconds=_duration(config["seconds"], "/seconds"))
    if due > at + timedelta(seconds=DELAY_SECONDS):
        raise Unfit("/until", "The moment is more than a year away.")
    return Delayed(due=due) if due > at else Passed(output=given.payload())


def _wait_signal(config: Mapping[str, Any], _given: Given, at: datetime) -> Listening:
    return Listening(signal=config["signal"], due=_after(config, "timeout_seconds", at))


def _after(config: Mapping[str, Any], field: str, at: datetime) -> datetime | None:
    """So many seconds later, where the field is there."""
    if field not in config:
        return None
    return at + timedelta(seconds=_duration(config[field], f"/{field}"))


def _wait_webhook(config: Mapping[str, Any], _given: Given, at: datetime) -> Expecting:
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
    return Expecting(call=call, due=_after(config, "timeout_seconds", at))


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


def _wait_approval(config: Mapping[str, Any], _given: Given, at: datetime) -> Asking:
    due, escalates = _after(config, "timeout_seconds", at), _after(config, "escalate_after_seconds", at)
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


def _text(value: object, field: str, most: int) -> str:
    if not isinstance(value, str) or not value:
        raise Unfit(field, f"This is a text; the expression gave {_kind(value)}.")
    if len(value) > most:
        raise Unfit(field, f"The text has {len(value)} characters; at most are {most}.")
    return value


def _deciders(config: Mapping[str, Any], field: str) -> Deciders:
    given = config.get(field, [])
    if not isinstance(given, list):
        raise Unfit(f"/{field}", f"Those who decide are a list; the expression gave {_kind(given)}.")
    try:
        return convert(tuple(given), Deciders)
    except ValidationError:
        message = f"Each of them is `key:` or `member:` and an id; at most are {DECIDERS}."
        raise Unfit(f"/{field}", message) from None


class _Started(Struct, frozen=True, kw_only=True):
    """What expressions see as `trigger` in a run that a node started."""

    body: Raw
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    method: str = "RUN"
    content_type: str = "application/json"
    received_at: str


def started_by_a_run(body: Raw, at: datetime) -> Raw:
    """The whole of it, with this body."""
    return Raw(encode(_Started(body=body, received_at=at.isoformat())))


def _run_workflow(config: Mapping[str, Any], given: Given, at: datetime) -> Called:
    body = Raw(encode(config["input"])) if "input" in config else given.json()
    return Called(
        workflow=config["workflow"],
        version=config.get("version", 0),
        input=Inline(value=started_by_a_run(body, at)),
        waits=config.get("mode", "wait") == "wait",
        due=_after(config, "timeout_seconds", at),
    )


def _stop(config: Mapping[str, Any], _given: Given, _at: datetime) -> Failure:
    return Failure(code="stopped", message=_line(config["message"]))


_MESSAGE_CHARS: Final = 2_000
"""As much as a `Failure` may hold."""


def _line(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Unfit("/message", f"A message is a text; the expression gave {_kind(value)}.")
    return value[:_MESSAGE_CHARS]


def _pass_on(_config: Mapping[str, Any], given: Given, _at: datetime) -> Passed:
    return Passed(output=given.payload())


def _map(config: Mapping[str, Any], _given: Given, _at: datetime) -> Fanned:
    items = config["items"]
    if not isinstance(items, list):
        raise Unfit("/items", f"A map goes through a list; the expression gave {_kind(items)}.")
    size = config.get("batch_size")
    if size is not None:
        items = [items[start : start + size] for start in range(0, len(items), size)]
    if len(items) > ITEMS:
        raise Unfit("/items", f"The list has {len(items)} items; a map has at most {ITEMS}.")
    return Fanned(
        count=len(items),
        pages=tuple(
            Inline(value=Raw(encode(items[start : start + ITEMS_PER_PAGE])))
            for start in range(0, len(items), ITEMS_PER_PAGE)
        ),
    )


def _loop(_config: Mapping[str, Any], given: Given, _at: datetime) -> Looped:
    return Looped(input=given.payload())


def goes_on(condition: object) -> bool:
    """Whether a loop's condition asks for another round."""
    return not _truth(condition, "/until")


def _duration(value: object, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit(field, f"A delay is a number of seconds; the expression gave {_kind(value)}.")
    if not 0 <= value <= DELAY_SECONDS:
        raise Unfit(field, f"A delay is between 0 and {DELAY_SECONDS} seconds.")
    return value


def _moment(value: object) -> datetime:
    if not isinstance(value, str):
        raise Unfit("/until", f"A moment is a text such as 2026-11-20T12:00:00Z; this is {_kind(value)}.")
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


_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_TOKEN_TEXT: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,4096}")


def _respond(config: Mapping[str, Any], given: Given, _at: datetime) -> Answered:
    status = config.get("status", 200)
    if isinstance(status, float) and status.is_integer():
        status = int(status)
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise Unfit("/status", "An answer's status is a whole number from 200 to 599.")
    body = Inline(value=Raw(encode(config["body"]))) if "body" in config else given.payload()
    return Answered(status=status, headers=_headers(config.get("headers", {})), body=body)


def _headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, dict):
        raise Unfit("/headers", f"Headers are an object; the expression gave {_kind(headers)}.")
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            raise Unfit("/headers", "The name of a header has a character that it must not have.")
        if not isinstance(value, str) or not _TOKEN_TEXT.fullmatch(value):
            raise Unfit(f"/headers/{name}", "The value of a header is one line of text.")
        if name.lower() in _OURS:
            raise Unfit(f"/headers/{name}", "This header is the server's own.")
    return headers


_OURS: Final = frozenset(
    {"connection", "content-length", "date", "server", "trailer", "transfer-encoding", "upgrade"}
)

_PERFORM: Final[Mapping[str, Callable[[Mapping[str, Any], Given, datetime], Outcome | Failure]]] = {
    "filter": _filter,
    "if": _if,
    "switch": _switch,
    "set": _set,
    "merge": _merge,
    "delay": _delay,
    "wait.signal": _wait_signal,
    "wait.webhook": _wait_webhook,
    "wait.approval": _wait_approval,
    "workflow.run": _run_workflow,
    "stop": _stop,
    "noop": _pass_on,
    "map": _map,
    "loop": _loop,
    "respond": _respond,
}
