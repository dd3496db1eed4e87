"""The reference of every message, generated from the types: JSON Schema and an AsyncAPI 3 document.

Written to docs/reference by `python -m contracts.reference`; a test fails when what is committed is stale.
Sources: JSON Schema 2020-12, https://www.asyncapi.com/docs/reference/specification/v3.0.0.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from contracts import commits, gates, messages, nodes, pauses, plans, runs, schedules, triggers, workflows
from contracts.cloudevents import DOMAIN_COMMITTED, GATE_COMMITTED, RUN_COMMITTED, SCHEDULE_COMMITTED
from contracts.codec import AGGREGATES
from contracts.streams import OWNERS, STREAMS
from contracts.upcasts import CURRENT

SCHEMA_FILE: Final = "messages.schema.json"
ASYNCAPI_FILE: Final = "asyncapi.json"
VERSION: Final = "0.1.0"

_DOMAIN: Final = {
    "workflow": workflows.WorkflowEvent,
    "trigger": triggers.TriggerEvent,
    "org": workflows.OrgEvent,
    "secret": workflows.SecretEvent,
    "key": workflows.KeyEvent,
    "pauses": pauses.PauseEvent,
}


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the commits of an aggregate lie."""

    address: str
    id: str
    stream: str
    kind: str


_PLACES: Final = {
    "run": _Place(address="run.{org}.{run}", id="run", stream="RUNS", kind=RUN_COMMITTED),
    "schedule": _Place(
        address="sched.{org}.{schedule}", id="schedule", stream="SCHEDULES", kind=SCHEDULE_COMMITTED
    ),
    "gate": _Place(address="gate.{org}.{gate}", id="gate", stream="GATES", kind=GATE_COMMITTED),
}


def event_types(union: Any) -> list[type[msgspec.Struct]]:
    """The structs of a tagged union."""
    return list(get_args(union) or (union,))


def every_event() -> dict[str, list[type[msgspec.Struct]]]:
    """The event types of every aggregate, `run` first."""
    return {
        "run": event_types(runs.RunEvent),
        **{name: event_types(_DOMAIN[name]) for name in AGGREGATES},
        "schedule": event_types(schedules.ScheduleEvent),
        "gate": event_types(gates.GateEvent),
    }


def schemas() -> dict[str, Any]:
    """One JSON Schema of all that crosses a boundary, by type name."""
    kinds = [kind for kinds in every_event().values() for kind in kinds]
    kinds += event_types(messages.Said)
    kinds += [
        messages.Answer,
        messages.Responded,
        messages.Task,
        messages.EffectClaim,
        messages.CancelAttempts,
        schedules.ScheduleCommit,
        gates.GateCommit,
        pauses.Held,
    ]
    kinds += [triggers.Hook, nodes.NodeSpec, plans.Plan, workflows.Workflow, workflows.Fault]
    _, components = msgspec.json.schema_components(
        [*kinds, commits.Commit[runs.RunEvent]], ref_template="#/$defs/{name}"
    )
    named = {_name(name): part for name, part in components.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": dict(sorted(named.items()))}


def _name(name: str) -> str:
    """`Commit[RunStarted | …]` is called `Commit`."""
    return name.partition("[")[0].partition("_")[0] if name.startswith("Commit") else name


def asyncapi() -> dict[str, Any]:
    """What may be subscribed to, where, and in which shape."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for aggregate, kinds in every_event().items():
        place = _PLACES.get(aggregate) or _Place(
            address=f"evt.{{org}}.{aggregate}.{{id}}", id="id", stream="DOMAIN", kind=DOMAIN_COMMITTED
        )
        names = [_tag(kind) for kind in kinds]
        channels[aggregate] = {
            "address": place.address,
            "title": f"Commits of every {aggregate}",
            "description": "One message is one commit of 1..n events, a CloudEvent in binary mode.",
            "parameters": {"org": {}, place.id: {}},
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            "x-stream": place.stream,
            "x-ce-type": place.kind,
        }
        operations[f"follow-{aggregate}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{aggregate}"},
            "summary": f"Follow every commit of every {aggregate}, in order.",
        }
        for kind, name in zip(kinds, names, strict=True):
            parts[name] = {
                "name": name,
                "title": kind.__name__,
                "summary": (kind.__doc__ or "").strip().partition("\n")[0],
                "contentType": "application/json",
                "payload": {"$ref": f"{SCHEMA_FILE}#/$defs/{kind.__name__}"},
                "x-schema-version": CURRENT.get(name, 1),
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "AutomateOS events",
            "version": VERSION,
            "description": "Every fact about a run, as it lies in the log.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": parts},
        "x-streams": [
            {"name": s.name, "subjects": list(s.subjects), "what": s.what, "writer": s.writer}
            for s in STREAMS
        ],
        "x-consumers": [{"stream": c.stream, "name": c.name, "filter": c.filter} for c in OWNERS],
    }


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def documents() -> dict[str, str]:
    """File name → text, as committed under docs/reference."""
    return {
        SCHEMA_FILE: json.dumps(schemas(), indent=1, sort_keys=True, ensure_ascii=False) + "\n",
        ASYNCAPI_FILE: json.dumps(asyncapi(), indent=1, ensure_ascii=False) + "\n",
    }


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
