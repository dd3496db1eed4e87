"""The control nodes as compiler, gateway and builder see them: the part of the catalogue that no executor announces."""

from collections.abc import Mapping
from typing import Any, Final

from contracts.limits import DELAY_SECONDS, ITEMS, ITEMS_AT_ONCE, MAX_INTEGER, WEBHOOK_BODY_BYTES
from contracts.nodes import NodeSpec, Port
from orchestrator.asking import APPROVAL, AUTHENTICATION

AT_ONCE: Final = 10
"""Items of a map under way at a time, where its builder names no number."""
ROUNDS: Final = 100
"""The most rounds of a loop, where its builder names no number."""
STARTS_RUNS: Final = "workflow.run"
"""The type of the node whose step is a run of another workflow."""
NOTE: Final = "note"
"""The type of what only people read: no plan has it, so no run knows of it."""
_CONDITION: Final = {
    "type": "string",
    "title": "Condition",
    "description": "An expression that gives true or false, such as trigger.body.amount > 100.",
    "minLength": 1,
    "maxLength": 4096,
    "x-expression": "condition",
}

_TIMEOUT: Final = {
    "type": "number",
    "title": "Give up after",
    "description": "Seconds after which it goes on by `timeout` with its input; without it, it waits for ever.",
    "minimum": 0,
    "maximum": DELAY_SECONDS,
}


def _spec(  # A row of a table.
    kind: str,
    title: str,
    text: str,
    icon: str,
    properties: Mapping[str, Any],
    *,
    required: tuple[str, ...] = (),
    **more: Any,
) -> NodeSpec:
    return NodeSpec(
        type=kind,
        title=title,
        help=text,
        icon=icon,
        category="Control",
        place="orchestrator",
        repeat="yes",
        config={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": dict(properties),
            "required": list(required),
            "additionalProperties": False,
        }
        | more.pop("rule", {}),
        **more,
    )


SPECS: Final[Mapping[str, NodeSpec]] = {
    spec.type: spec
    for spec in (
        _spec(
            "filter",
            "Filter",
            "Goes on when the condition holds; else everything behind it is skipped.",
            "filter",
            {"condition": _CONDITION},
            required=("condition",),
        ),
        _spec(
            "if",
            "If",
            "Goes on by `true` or by `false`.",
            "split",
            {"condition": _CONDITION},
            required=("condition",),
            outputs=(Port(name="true", title="True"), Port(name="false", title="False")),
        ),
        _spec(
            "switch",
            "Switch",
            "Goes on by the port of the first case that holds, or by `default`.",
            "route",
            {
                "cases": {
                    "type": "array",
                    "title": "Cases",
                    "minItems": 1,
                    "maxItems": 63,
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {
                                "type": "string",
                                "title": "Port",
                                "pattern": "^[a-z][a-z0-9_]{0,63}$",
                                "x-expression": "none",
                            },
                            "when": _CONDITION,
                        },
                        "required": ["name", "when"],
                        "additionalProperties": False,
                    },
                }
            },
            required=("cases",),
            outputs=(Port(name="default", title="Otherwise"),),
            outputs_from="/cases",
        ),
        _spec(
            "set",
            "Set",
            "Gives an object with the fields that you name.",
            "pencil",
            {
                "fields": {
                    "type": "object",
                    "title": "Fields",
                    "description": "Name and value of each field; values may be templates.",
                },
                "keep_input": {
                    "type": "boolean",
                    "title": "Keep the input's fields",
                    "default": False,
                    "x-expression": "none",
                },
            },
            required=("fields",),
        ),
        _spec(
            "merge",
            "Merge",
            "Brings branches together: waits for all that can still come, or goes on as soon as one is there.",
            "merge",
            {
                "mode": {
                    "enum": ["all", "any", "first"],
                    "title": "Wait for",
                    "description": "`all`: every branch that can still come. `any`: one; gives what is there by then, as `output` says. "
                    "`first`: one; gives its output alone, as it is.",
                    "default": "all",
                    "x-expression": "none",
                },
                "output": {
                    "enum": ["object", "list", "append", "by_position", "by_key"],
                    "title": "Give",
                    "description": "`object`: the outputs by node id. `list`: the outputs in a list. The others take lists: "
                    "`append` one behind the other; `by_position` joins the objects in the same place; `by_key` those with "
                    "the same value in a field. Of two fields of one name the later branch's stays.",
                    "default": "object",
                    "x-expression": "none",
                },
                "key": {
                    "type": "string",
                    "title": "Field",
                    "description": "By which objects are joined.",
                    "minLength": 1,
                    "maxLength": 200,
                    "x-expression": "none",
                },
            },
            rule={
                "allOf": [
                    {
                        "if": {"properties": {"output": {"const": "by_key"}}, "required": ["output"]},
                        "then": {"required": ["key"]},
                    },
                    {
                        "if": {"properties": {"mode": {"const": "first"}}, "required": ["mode"]},
                        "then": {"properties": {"output": {"not": {}}}},
                    },
                ]
            },
        ),
        _spec(
            "delay",
            "Delay",
            "Goes on after some time, or at a moment. Survives restarts; waiting costs nothing.",
            "clock",
            {
                "seconds": {
                    "type": "number",
                    "title": "Seconds",
                    "minimum": 0,
                    "maximum": DELAY_SECONDS,
                },
                "until": {
                    "type": "string",
                    "title": "Until",
                    "description": "A moment such as 2026-11-20T12:00:00Z.",
                    "minLength": 1,
                },
            },
            rule={"oneOf": [{"required": ["seconds"]}, {"required": ["until"]}]},
        ),
        _spec(
            "wait.signal",
            "Wait for a signal",
            "Goes on with what somebody says to this run under the signal's name, by the API or the command line, also before.",
            "bell",
            {
                "signal": {
                    "type": "string",
                    "title": "Signal",
                    "pattern": "^[a-z][a-z0-9_-]{0,63}$",
                    "x-expression": "none",
                },
                "timeout_seconds": _TIMEOUT,
            },
            required=("signal",),
            outputs=(Port(name="main", title="Said"), Port(name="timeout", title="Too late")),
        ),
        _spec(
            "wait.webhook",
            "Wait for a call",
            "Waits until its resumption address is called, and gives what came: body, headers, query, method. Other nodes "
            "know the address as `steps.<this node>.resume_url`. A call that comes too early is held for some seconds.",
            "webhook",
            {
                "methods": {
                    "type": "array",
                    "title": "Methods",
                    "items": {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE"]},
                    "minItems": 1,
                    "maxItems": 5,
                    "uniqueItems": True,
                    "default": ["POST"],
                    "x-expression": "none",
                },
                "authentication": AUTHENTICATION,
                "body_bytes": {
                    "type": "integer",
                    "title": "Largest body",
                    "minimum": 1,
                    "maximum": WEBHOOK_BODY_BYTES,
                    "default": WEBHOOK_BODY_BYTES,
                    "x-expression": "none",
                },
                "status": {
                    "type": "integer",
                    "title": "Status of the answer",
                    "minimum": 200,
                    "maximum": 299,
                    "default": 200,
                    "x-expression": "none",
                },
                "body": {"title": "Answer", "description": "Any value; without one, that it was received."},
                "timeout_seconds": _TIMEOUT,
            },
            outputs=(Port(name="main", title="Called"), Port(name="timeout", title="Too late")),
        ),
        _spec(
            "wait.approval",
            "Approval",
            "Waits until somebody decides. Gives `decision`, `fields`, `by`, `at` and `comment` (by link also the `name` that was given), "
            "by the port of the decision. "
            "Other nodes know the address of its page as `steps.<this node>.resume_url`.",
            "check",
            APPROVAL,
            required=("question",),
            outputs=(
                Port(name="approved", title="Approved"),
                Port(name="rejected", title="Rejected"),
                Port(name="timeout", title="Too late"),
            ),
        ),
        _spec(
            STARTS_RUNS,
            "Run a workflow",
            "Starts a run of another workflow and waits for its end, or goes on as soon as it has begun.",
            "workflow",
            {
                "workflow": {
                    "type": "string",
                    "title": "Workflow",
                    "description": "The id of the workflow.",
                    "pattern": "^[A-Za-z0-9_-]{1,64}$",
                    "x-expression": "none",
                },
                "version": {
                    "type": "integer",
                    "title": "Version",
                    "description": "A version that was published; without it, the one that is published when the node is reached.",
                    "minimum": 1,
                    "maximum": MAX_INTEGER,
                    "x-expression": "none",
                },
                "input": {
                    "title": "Input",
                    "description": "What the run sees as trigger.body: any value; without one, the node's input.",
                },
                "mode": {
                    "enum": ["wait", "start"],
                    "title": "Then",
                    "description": "`wait`: goes on with what the run gives, and fails when it does not end well. `start`: goes on "
                    "with its id, as soon as it has begun.",
                    "default": "wait",
                    "x-expression": "none",
                },
                "timeout_seconds": {
                    "type": "number",
                    "title": "Give up after",
                    "description": "Seconds after which the node fails, and the run that it waits for is cancelled; without it, "
                    "it waits for ever.",
                    "minimum": 0,
                    "maximum": DELAY_SECONDS,
                },
            },
            required=("workflow",),
        ),
        _spec(
            "map",
            "For each",
            "Does the nodes inside once for each item of a list, several at a time. Gives the results in the items' order.",
            "layers",
            {
                "items": {
                    "title": "Items",
                    "description": "A list, such as {{ steps.fetch.output.rows }}. Inside, `item` is the item and `index` "
                    "its place, counted from 0.",
                    "anyOf": [{"type": "array"}, {"type": "string"}],
                },
                "at_once": {
                    "type": "integer",
                    "title": "At once",
                    "description": "So many items are under way at a time.",
                    "minimum": 1,
                    "maximum": ITEMS_AT_ONCE,
                    "default": AT_ONCE,
                    "x-expression": "none",
                },
                "on_item_error": {
                    "enum": ["fail", "continue"],
                    "title": "When an item fails",
                    "description": "`fail`: so does the node. `continue`: the other items go on; its result is null, and "
                    "`errors` says why.",
                    "default": "fail",
                    "x-expression": "none",
                },
                "batch_size": {
                    "type": "integer",
                    "title": "Batches of",
                    "description": "Hands on lists of so many items instead of single ones.",
                    "minimum": 1,
                    "maximum": ITEMS,
                    "x-expression": "none",
                },
            },
            required=("items",),
            contains=True,
        ),
        _spec(
            "loop",
            "Repeat until",
            "Does the nodes inside again and again, each round with what the one before gave, until the condition holds.",
            "repeat",
            {
                "until": {
                    **_CONDITION,
                    "description": "Looked at after each round: `item` is what the round gave, `index` its number, "
                    "counted from 0.",
                },
                "most_rounds": {
                    "type": "integer",
                    "title": "At most",
                    "description": "Rounds after which the node fails when the condition still does not hold.",
                    "minimum": 1,
                    "maximum": ITEMS,
                    "default": ROUNDS,
                    "x-expression": "none",
                },
            },
            required=("until",),
            contains=True,
        ),
        _spec(
            "stop",
            "Stop with an error",
            "Fails on purpose, with your own message; its error path takes over when it has one.",
            "octagon",
            {
                "message": {
                    "type": "string",
                    "title": "Message",
                    "minLength": 1,
                    "maxLength": 2000,
                }
            },
            required=("message",),
        ),
        _spec("noop", "Do nothing", "Passes its input on.", "dot", {}),
        _spec(
            NOTE,
            "Note",
            "Text beside the other nodes, for whoever reads the workflow. No edge leads to it, and runs know nothing of it.",
            "note",
            {
                "text": {
                    "type": "string",
                    "title": "Text",
                    "maxLength": 10_000,
                    "x-expression": "none",
                },
                "colour": {
                    "title": "Colour",
                    "enum": ["yellow", "blue", "green", "red", "grey"],
                    "default": "yellow",
                },
            },
            required=("text",),
            inputs=(),
            outputs=(),
        ),
        _spec(
            "respond",
            "Respond",
            "Answers the caller of a webhook in mode respond. The first answer of a run counts.",
            "reply",
            {
                "status": {
                    "type": "integer",
                    "title": "Status",
                    "minimum": 200,
                    "maximum": 599,
                    "default": 200,
                },
                "headers": {
                    "type": "object",
                    "title": "Headers",
                    "maxProperties": 50,
                    "additionalProperties": {"type": "string"},
                },
                "body": {"title": "Body", "description": "Any value; without one, the input."},
            },
        ),
    )
}
"""The node types that every AutomateOS has, without any executor."""
