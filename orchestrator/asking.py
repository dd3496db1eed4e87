"""What the nodes that ask people and programs outside are configured with, as JSON Schema."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from chassis.questions import flaws
from contracts.forms import questions_in
from contracts.limits import (
    DECIDERS,
    DELAY_SECONDS,
    DETAILS_CHARS,
    FORM_CHOICES,
    FORM_PROPERTIES,
    FORM_TEXT_CHARS,
    NAME_CHARS,
    QUESTION_CHARS,
)

WITH_LINKS: Final = frozenset({"wait.webhook", "wait.approval"})
"""Node types that are answered by a resumption link."""

_HEADER: Final = {"type": "string", "title": "Header", "pattern": "^[A-Za-z0-9-]{1,64}$"}
_SECRET: Final = {"title": "Secret", "x-secret": True}


def _scheme(*names: str, required: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"scheme": {"enum": list(names)}, **fields},
        "required": ["scheme", *required],
        "additionalProperties": False,
    }


AUTHENTICATION: Final = {
    "title": "Authentication",
    "description": "What a caller has to prove beside knowing the address, as a webhook's.",
    "x-expression": "none",
    "anyOf": [
        _scheme("none", required=()),
        _scheme(
            "basic",
            "standard_webhooks",
            "github",
            "stripe",
            "slack",
            required=("secret",),
            secret=_SECRET,
        ),
        _scheme("header_token", required=("header", "secret"), header=_HEADER, secret=_SECRET),
        _scheme(
            "hmac",
            required=("header", "secret"),
            header=_HEADER,
            secret=_SECRET,
            algorithm={"enum": ["sha256", "sha1", "sha512"]},
            encoding={"enum": ["hex", "base64"]},
            prefix={"type": "string", "maxLength": 32},
            timestamp_header=_HEADER,
        ),
    ],
}

_BOUND: Final = {"type": "number", "minimum": -1e15, "maximum": 1e15}
_FIELD: Final = {
    "type": "object",
    "properties": {
        "type": {"enum": ["string", "number", "integer", "boolean"]},
        "title": {"type": "string", "maxLength": NAME_CHARS},
        "description": {"type": "string", "maxLength": 2_000},
        "enum": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": NAME_CHARS},
            "minItems": 1,
            "maxItems": FORM_CHOICES,
            "uniqueItems": True,
        },
        "format": {"enum": ["date", "email", "uri", "multiline"]},
        "minLength": {"type": "integer", "minimum": 0, "maximum": FORM_TEXT_CHARS},
        "maxLength": {"type": "integer", "minimum": 1, "maximum": FORM_TEXT_CHARS},
        "minimum": _BOUND,
        "maximum": _BOUND,
    },
    "required": ["type"],
    "additionalProperties": False,
}
_DECIDERS: Final = {
    "description": "`key:<id>` each. Without any, whoever has the scope approvals:decide.",
    "anyOf": [
        {"type": "array", "items": {"type": "string"}, "maxItems": DECIDERS},
        {"type": "string"},
    ],
}
_SECONDS: Final = {"type": "number", "minimum": 0, "maximum": DELAY_SECONDS}


def asked_by_default(config: dict[str, Any]) -> dict[str, Any]:
    """Where people are named a link decides nothing, unless the node says that it does.

    Settled when a workflow is compiled, so that what runs by an older plan asks as it always did.
    """
    return config | {"by_link": False} if config.get("deciders") and "by_link" not in config else config


APPROVAL: Final[dict[str, Any]] = {
    "question": {
        "type": "string",
        "title": "Question",
        "description": "What is to be decided, such as: Pay {{ trigger.body.sum }} € to {{ trigger.body.to }}?",
        "minLength": 1,
        "maxLength": QUESTION_CHARS,
    },
    "details": {
        "type": "string",
        "title": "Details",
        "description": "What one should know to decide.",
        "minLength": 1,
        "maxLength": DETAILS_CHARS,
    },
    "form": {
        "type": "object",
        "title": "Form",
        "description": "What is filled in with the decision: the JSON Schema of an object whose fields are numbers, truths, choices "
        "(`enum`) or texts, which may be a date, an address or have lines (`format`).",
        "properties": {
            "type": {"const": "object"},
            "properties": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
                "maxProperties": FORM_PROPERTIES,
                "additionalProperties": _FIELD,
            },
            "required": {"type": "array", "items": {"type": "string"}, "maxItems": FORM_PROPERTIES},
        },
        "required": ["type", "properties"],
        "additionalProperties": False,
        "x-expression": "none",
    },
    "deciders": {"title": "Who decides", **_DECIDERS},
    "by_link": {
        "type": "boolean",
        "title": "By its link",
        "description": "Whether whoever has the link may decide. When it is not said: yes, unless it is said who decides.",
        "x-expression": "none",
    },
    "timeout_seconds": {
        "title": "Give up after",
        "description": "Seconds after which it goes on by `timeout`; without it, it waits for ever.",
        **_SECONDS,
    },
    "escalate_after_seconds": {
        "title": "Escalate after",
        "description": "Seconds after which others may decide as well; the history and the list of approvals say so.",
        **_SECONDS,
    },
    "escalate_to": {"title": "Who may decide then", **_DECIDERS},
}


def flaws_of_approval(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What nobody could fill in, of an approval whose configuration fits its schema: a JSON pointer into it, and why."""
    for pointer, message in flaws(questions_in(config.get("form", {}))):
        yield f"/form{pointer}", message
