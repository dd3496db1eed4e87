"""How a case is written down: one line for what fits into one, and the events that today's engine has for it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from contracts.plans import Plan
from tests.conformance.case import Case
from tests.conformance.compare import Ended, ended, shown
from tests.conformance.stage import compiled, play

WIDTH: Final = 110
LEFT_OUT: Final = frozenset(
    {
        *("node", "node_type", "key", "pool", "repeat", "timeout_s", "kind"),
        *("plan", "workflow", "version", "trigger", "receipt", "cause", "input", "org_vars", "rules", "mode"),
        *("took_ms", "by", "detail", "request", "child", "state"),
    }
)
"""Fields that say nothing about most behaviours. A case that is about one of them names it by hand."""
OF_AN_ERROR: Final = ("code", "field", "position")
_ANSWERS: Final = ("then", "refused", "answer")


def text(value: Any, indent: int = 0, *, inline: bool = True) -> str:
    """JSON for people: an object or a list stands in one line where it fits, and fields keep their order."""
    line = json.dumps(value, ensure_ascii=False)
    crowded = isinstance(value, list) and len(value) > 1 and all(isinstance(each, dict) for each in value)
    if not isinstance(value, dict | list) or (inline and not crowded and len(line) + indent <= WIDTH):
        return line
    inner, pad = indent + 2, " " * (indent + 2)
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {text(each, inner)}" for name, each in value.items()]
        return "{\n" + ",\n".join(pad + part for part in parts) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + text(each, inner) for each in value) + "\n" + " " * indent + "]"


def whole(drawn: Mapping[str, Any]) -> str:
    """A case as its file has it."""
    return text(dict(drawn), inline=False) + "\n"


def filled(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The case with what the engine does today in place of what it expected. Whoever keeps it signs for it: read it."""
    asked = {name: value for name, value in drawn.items() if name not in ("expected", "faults")}
    script = [_without(each, _ANSWERS) for each in asked.get("script", [])]
    case = msgspec.json.decode(json.dumps(asked | {"script": script}), type=Case)
    plan = compiled(case)
    if not isinstance(plan, Plan):
        return _without(asked, ("script",)) | {"faults": [_brief(fault, ("message",)) for fault in plan]}
    played = play(case)
    for entry, turn in zip(script, played.turns, strict=True):
        if turn.refused:
            entry["refused"] = turn.refused
        elif turn.answer and entry["happens"] == "delivery":
            entry["answer"] = turn.answer
        events = [(event, shown(event, played.run.id, played.began)) for event in turn.events]
        entry["then"] = [_event(event, fields, plan) for event, fields in events]
    return {**asked, "script": script, "expected": _end(ended(played))}


def _without(drawn: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in drawn.items() if name not in names}


def _event(event: Any, fields: dict[str, Any], plan: Plan) -> str | dict[str, Any]:
    """The event with what is worth a look; the type alone where nothing is."""
    defaults = _brief_defaults(event) | {"config": _config(plan, fields.get("node", ""))}
    told = {
        name: _BRIEF[name](value) if name in _BRIEF else value
        for name, value in fields.items()
        if name not in LEFT_OUT and value is not None and value != defaults.get(name, ...)
    }
    if told["type"] in ("step.reported", "run.completed"):
        told.pop("output", None)  # It stands in the happening, or among what is expected at the end.
    return told["type"] if told.keys() == {"type"} else told


def _config(plan: Plan, name: str) -> dict[str, Any] | None:
    """A node's configuration as it was written: an attempt at it says nothing new."""
    return next((node.config for node in plan.nodes if node.id == name), None)


def _brief_defaults(event: Any) -> dict[str, Any]:
    """What a field is where nobody said anything."""
    made: dict[str, Any] = {"headers": {}}
    for found in msgspec.structs.fields(event):
        if isinstance(found.default, tuple):
            made[found.name] = list(found.default)
        elif found.default is not msgspec.NODEFAULT:
            made[found.name] = found.default
    return made


def _brief(struct: Struct, left_out: tuple[str, ...]) -> dict[str, Any]:
    return _without(msgspec.to_builtins(struct), left_out)


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    return {name: error[name] for name in OF_AN_ERROR if name in error}


def _unfinished(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_without(step, ("detail",)) for step in steps]


_BRIEF: Final[Mapping[str, Callable[[Any], Any]]] = {"error": _error, "unfinished": _unfinished}


def _end(end: Ended) -> dict[str, Any]:
    told: dict[str, Any] = {"status": end.status, "steps": end.steps}
    if end.output is not UNSET:
        told["output"] = end.output
    if end.error:
        told["error"] = _error(end.error)
    if end.answer:
        told["answer"] = end.answer
    if end.waiting_for:
        told["waiting_for"] = list(end.waiting_for)
    return told
