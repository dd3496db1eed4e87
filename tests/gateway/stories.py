"""What many tests begin with."""

from typing import Any

from msgspec import structs

from chassis.ports import Stored
from contracts.codec import decode_commit, encode
from contracts.runs import RunParked
from tests.gateway.fakes import MemoryLog, Office

ECHO = {"nodes": [{"id": "a", "type": "echo", "config": {"value": "{{ trigger.body }}"}}]}


async def created(office: Office, **more: Any) -> str:
    """A workflow with one version."""
    reply = await office.api("POST", "/workflows", {"name": "orders", "definition": ECHO}, **more)
    assert reply.status == 201, reply.body
    return str(reply.json["id"])


async def published(office: Office, **more: Any) -> str:
    """A workflow whose first version is published."""
    workflow = await created(office, **more)
    reply = await office.api("POST", f"/workflows/{workflow}/versions/1/publish", **more)
    assert reply.status == 200, reply.body
    return workflow


async def triggered(office: Office, workflow: str, **more: Any) -> Any:
    """A trigger of the workflow: the answer to its creation."""
    reply = await office.api("POST", "/triggers", {"name": "push", "workflow": workflow}, **more)
    assert reply.status == 201, reply.body
    return reply.json


async def started(office: Office, workflow: str, value: Any = None, **more: Any) -> str:
    """A run of the workflow."""
    reply = await office.api("POST", "/runs", {"workflow": workflow, "input": value}, **more)
    assert reply.status == 202, reply.body
    return str(reply.json["run"])


def begins_parked(log: MemoryLog) -> None:
    """The run whose start is the newest commit began parked, as one does whose plan cannot be read."""
    last = log.messages[-1]
    commit = decode_commit(last.body)
    events = (RunParked(reason="Its plan cannot be read."), *commit.events)
    body = encode(structs.replace(commit, events=events))
    log.messages[-1] = Stored(last.subject, last.sequence, body, last.headers, last.time)
