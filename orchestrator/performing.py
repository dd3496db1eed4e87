"""What each control node does, with its expressions evaluated."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Raw, Struct

from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import (
    ITEMS,
    ITEMS_PER_PAGE,
)
from contracts.payloads import Inline
from contracts.plans import PlanNode
from orchestrator.control import (
    Answered,
    Called,
    Fanned,
    Given,
    Looped,
    Outcome,
    Passed,
    Unfit,
    kind_of,
)
from orchestrator.merging import Unmergeable, merged
from orchestrator.performing_waits import after, delay, marked, wait_approval, wait_signal, wait_webhook


def perform(node: PlanNode, config: Mapping[str, Any], given: Given, at: datetime) -> Outcome | Failure:
    """What the node does, with its expressions evaluated in `config`."""
    try:
        outcome = _PERFORM[node.type](config, given, at)
    except Unfit as unfit:
        return Failure(code="expression", message=str(unfit), node=node.id, field=unfit.field)
    if not node.sensitive or isinstance(outcome, Failure):
        return outcome
    return marked(outcome, node.sensitive)


def _truth(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise Unfit(field, f"The condition gave {kind_of(value)}, not true or false.")
    return value


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
    if config.get("mode") == "first":
        return Passed(output=given.first())
    try:
        value = merged(given.by_node(), config.get("output", "object"), config.get("key", ""))
    except Unmergeable as error:
        raise Unfit("/output", str(error)) from None
    return Passed(output=Inline(value=Raw(encode(value))))


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
        due=after(config, "timeout_seconds", at),
    )


def _stop(config: Mapping[str, Any], _given: Given, _at: datetime) -> Failure:
    return Failure(code="stopped", message=_line(config["message"]))


_MESSAGE_CHARS: Final = 2_000
"""As much as a `Failure` may hold."""


def _line(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Unfit("/message", f"A message is a text; the expression gave {kind_of(value)}.")
    return value[:_MESSAGE_CHARS]


def _pass_on(_config: Mapping[str, Any], given: Given, _at: datetime) -> Passed:
    return Passed(output=given.payload())


def _map(config: Mapping[str, Any], _given: Given, _at: datetime) -> Fanned:
    items = config["items"]
    if not isinstance(items, list):
        raise Unfit("/items", f"A map goes through a list; the expression gave {kind_of(items)}.")
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
        raise Unfit("/headers", f"Headers are an object; the expression gave {kind_of(headers)}.")
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
    "delay": delay,
    "wait.signal": wait_signal,
    "wait.webhook": wait_webhook,
    "wait.approval": wait_approval,
    "workflow.run": _run_workflow,
    "stop": _stop,
    "noop": _pass_on,
    "map": _map,
    "loop": _loop,
    "respond": _respond,
}
