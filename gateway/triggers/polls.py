"""The small workflow of a poll: call, and select what was found. Its plan is made by the engine that will run it."""

from typing import Any, Final

from chassis.edge.problems import Problem
from contracts.codec import encode
from contracts.triggers import Poll
from contracts.workflows import Fault
from gateway.triggers.occasions import CODE
from gateway.workflows.compiling import Compiler, request_of

_PLACES: Final = (
    ("/nodes/0/config", "/on/request"),
    ("/nodes/0/sensitive", "/on/sensitive"),
    ("/nodes/1/config/fields/items", "/on/items"),
    ("/nodes/1/config/fields/cursor", "/on/cursor"),
)


def definition(poll: Poll) -> dict[str, Any]:
    """As a builder would draw it. The key stands in the same expression as the items that it is a key of."""
    selected = f"({poll.items}).map(entry, {{'key': string({poll.key}), 'item': entry}})"
    fields = {
        "items": f"{{{{ {selected} }}}}",
        "cursor": f"{{{{ {poll.cursor} }}}}" if poll.cursor else None,
    }
    return {
        "nodes": [
            {"id": "fetch", "type": "http.request", "config": poll.request, "sensitive": poll.sensitive},
            {"id": "select", "type": "set", "config": {"fields": fields}},
        ],
        "edges": [{"source": "fetch", "target": "select"}],
    }


async def plan_of(compiler: Compiler, org: str, trigger_id: str, poll: Poll) -> str:
    """The hash of its plan, which is stored. Raises `Problem` with the places of what is wrong."""
    request = request_of(org, trigger_id, 1, encode(definition(poll)), keep=True)
    compiled = await compiler.compile(request)
    if compiled.plan is not None:
        return compiled.plan
    faults = [
        Fault(code=CODE, pointer=_place(fault.pointer), message=fault.message) for fault in compiled.faults
    ]
    raise Problem(CODE, faults[0].message if faults else "It cannot be compiled.", faults=faults)


def _place(pointer: str) -> str:
    for ours, theirs in _PLACES:
        if pointer.startswith(ours):
            return theirs + pointer.removeprefix(ours)
    return "/on"
