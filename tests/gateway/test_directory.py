"""What a start of a run depends on, kept in memory and followed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.lifecycle import companions
from chassis.ports import Proposal
from chassis.testing.clock import HandClock
from contracts.payloads import NULL
from contracts.triggers import Webhook
from gateway.directory import Directory
from gateway.domain import Cause, Domain
from gateway.orgs.rules import ORG, set_vars
from gateway.triggers import rules as triggers
from gateway.triggers.rules import TRIGGER
from gateway.workflows import rules as workflows
from gateway.workflows.rules import WORKFLOW
from tests.gateway.fakes import MemoryLog

PLAN = "a" * 64


class Desk:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.domain = Domain(self.log, HandClock(), "0.1.0")
        self.directory = Directory(self.log)

    async def workflow(self, id_: str, *commands: workflows.Command, org: str = "acme") -> None:
        for number, command in enumerate(commands):
            cause = Cause(org=org, actor="key:k", request=f"{id_}{number}{len(self.log.messages)}")
            await self.domain.change(WORKFLOW, id_, lambda s, c=command: workflows.decide(s, c), cause)  # type: ignore[misc]  # A default binds it.

    async def trigger(self, id_: str, *commands: triggers.Command, org: str = "acme") -> None:
        for number, command in enumerate(commands):
            cause = Cause(org=org, actor="key:k", request=f"{id_}{number}{len(self.log.messages)}")
            await self.domain.change(TRIGGER, id_, lambda s, c=command: triggers.decide(s, c), cause)  # type: ignore[misc]  # A default binds it.

    async def seen(self) -> Directory:
        await self.directory.reached(len(self.log.messages))
        return self.directory


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    async with companions() as group:
        group.create_task(desk.directory.follow())
        yield desk


def hook(workflow: str) -> triggers.Create:
    return triggers.Create(
        name="h", workflow=workflow, webhook=Webhook(), token="1" * 64, test_token="2" * 64
    )


async def test_it_knows_what_is_there_and_forgets_what_is_gone(desk: Desk) -> None:
    await desk.workflow("w1", workflows.Create(name="a"))
    await desk.trigger("t1", hook("w1"))
    await desk.trigger("t2", hook("w1"))
    seen = await desk.seen()
    assert (seen.workflow("acme", "w1") is not None, seen.triggers_of("acme", "w1")) == (True, ["t1", "t2"])
    await desk.trigger("t1", triggers.Delete())
    await desk.workflow("w1", workflows.Delete())
    seen = await desk.seen()
    assert (seen.workflow("acme", "w1"), seen.trigger("acme", "t1")) == (None, None)
    assert seen.triggers_of("acme", "w1") == ["t2"]


async def test_orgs_are_apart(desk: Desk) -> None:
    await desk.workflow("w1", workflows.Create(name="a"), org="other")
    await desk.trigger("t1", hook("w1"), org="other")
    seen = await desk.seen()
    assert seen.workflow("acme", "w1") is None
    assert seen.triggers_of("acme", "w1") == []
    assert seen.triggers_of("other", "w1") == ["t1"]


async def test_a_trigger_is_unbound_until_it_follows_what_is_published(desk: Desk) -> None:
    await desk.workflow("w1", workflows.Create(name="a"))
    await desk.trigger("t1", hook("w1"))
    assert list((await desk.seen()).unbound()) == []
    await desk.workflow("w1", workflows.Draft(definition=NULL), workflows.Publish(version=1, plan=PLAN))
    assert list((await desk.seen()).unbound()) == [("acme", "w1", "t1")]
    await desk.trigger("t1", triggers.Bind(version=1, plan=PLAN))
    assert list((await desk.seen()).unbound()) == []


async def test_variables_are_those_of_the_last_time_they_were_set(desk: Desk) -> None:
    for number in (1, 2):
        cause = Cause(org="acme", actor="key:k", request=str(number))
        await desk.domain.change(ORG, "acme", lambda s, n=number: set_vars(s, {"n": n}), cause)  # type: ignore[misc]  # A default binds it.
    seen = await desk.seen()
    assert (seen.vars_of("acme"), seen.vars_of("other")) == ({"n": 2}, {})


@pytest.mark.parametrize("body", [b"\xff", b"{}", b'{"type":"x"}', b"[" * 10_000])
async def test_a_commit_that_cannot_be_read_changes_nothing_and_stops_nobody(desk: Desk, body: bytes) -> None:
    await desk.workflow("w1", workflows.Create(name="a"))
    await desk.log.append([Proposal("evt.acme.workflow.w2", body, 0)])
    await desk.workflow("w3", workflows.Create(name="c"))
    seen = await desk.seen()
    assert [seen.workflow("acme", each) is not None for each in ("w1", "w2", "w3")] == [True, False, True]
    assert seen.domain.unreadable == 1


async def test_what_it_does_not_follow_it_only_counts_past(desk: Desk) -> None:
    await desk.log.append([Proposal("evt.acme.invoice.i1", b"{}", 0)])
    async with asyncio.timeout(60):
        seen = await desk.seen()
    assert (seen.domain.sequence, seen.domain.unreadable) == (1, 0)


async def test_it_is_complete_when_the_past_has_been_read(desk: Desk) -> None:
    async with asyncio.timeout(60):
        await desk.directory.complete.wait()
