"""What many tests begin with."""

from typing import Any

from tests.gateway.fakes import Office

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
