"""What the API promises about pauses."""

from typing import Any

from contracts.codec import decode_domain_commit, encode
from contracts.limits import PAUSES
from contracts.pauses import Held, HeldAtGates, HeldLane
from contracts.subjects import HELD
from tests.gateway.fakes import Office
from tests.gateway.stories import created, published

ORG = "org_default"


def tell(office: Office, *lanes: HeldLane, instance: str = "o1", gates: tuple[HeldAtGates, ...] = ()) -> None:
    """An orchestrator says what it holds."""
    office.held._hear(HELD, encode(Held(instance=instance, lanes=lanes, gates=gates)), None)


def events(office: Office) -> list[Any]:
    return [
        event
        for stored in office.domain_log.messages
        if ".pauses." in stored.subject
        for event in decode_domain_commit(stored.body, "pauses").events
    ]


async def begin(office: Office, what: str, name: str, **more: Any) -> Any:
    return await office.api("POST", "/pauses/begin", {"what": what, "name": name, **more})


async def end(office: Office, what: str, name: str) -> Any:
    return await office.api("POST", "/pauses/end", {"what": what, "name": name})


async def test_a_pause_says_who_when_and_why_and_is_a_fact_of_the_log(office: Office) -> None:
    workflow = await created(office)
    reply = await begin(office, "workflow", workflow, reason="The supplier is down.")
    assert reply.status == 200
    assert (reply.json["what"], reply.json["name"]) == ("workflow", workflow)
    assert reply.json["by"].startswith("key:")
    listed = (await office.api("GET", "/pauses")).json["pauses"]
    assert listed == [reply.json]
    [event] = events(office)
    assert (event.what, event.name, event.by, event.reason) == (
        "workflow",
        workflow,
        reply.json["by"],
        "The supplier is down.",
    )


async def test_pausing_twice_changes_nothing_and_neither_does_taking_up_twice(office: Office) -> None:
    first = await begin(office, "org", ORG, reason="first")
    office.clock.moved += 60
    again = await begin(office, "org", ORG, reason="second")
    assert again.json == first.json
    assert [(await end(office, "org", ORG)).status for _ in range(2)] == [204, 204]
    assert [type(event).__name__ for event in events(office)] == ["PauseBegan", "PauseEnded"]
    assert (await office.api("GET", "/pauses")).json["pauses"] == []


async def test_only_what_the_org_has_can_be_paused(office: Office) -> None:
    for what, name in (("org", "other"), ("workflow", "w" * 36), ("pool", "Not-A-Pool")):
        assert (await begin(office, what, name)).status == 404, what
        assert (await end(office, what, name)).status == 404, what
    assert (await begin(office, "planet", "earth")).status == 400
    assert (await begin(office, "pool", "gpu", reason="x" * 501)).status == 400
    assert events(office) == []


async def test_a_workflow_that_was_deleted_while_it_was_paused_can_be_taken_up(office: Office) -> None:
    workflow = await created(office)
    await begin(office, "workflow", workflow)
    assert (await office.api("DELETE", f"/workflows/{workflow}")).status == 204
    assert (await end(office, "workflow", workflow)).status == 204


async def test_an_org_has_a_bounded_number_of_pauses(office: Office) -> None:
    for number in range(PAUSES):
        assert (await begin(office, "pool", f"p{number}")).status == 200
    refused = await begin(office, "pool", "one-more")
    assert (refused.status, refused.json["code"]) == (409, "conflict")
    assert (await begin(office, "pool", "p0")).status == 200, "it is paused already"


async def test_what_is_held_is_told_of_the_own_org_and_added_up(office: Office) -> None:
    tell(office, HeldLane(org=ORG, pool="default", waiting=3, paused=1, out=7))
    tell(
        office,
        HeldLane(org=ORG, pool="default", waiting=4, out=8),
        HeldLane(org="other", pool="default", waiting=9),
        instance="o2",
    )
    held = (await office.api("GET", "/pauses")).json["held"]
    assert held == [{"pool": "default", "waiting": 7, "paused": 1, "out": 15}]
    tell(office, instance="o1")
    office.clock.moved += 1
    assert (await office.api("GET", "/pauses")).json["held"][0]["waiting"] == 4
    office.clock.moved += 2
    assert (await office.api("GET", "/pauses")).json["held"] == [], "nobody has said so lately"


async def test_an_org_of_which_too_much_waits_begins_nothing_more_and_others_do(office: Office) -> None:
    mine = await published(office)
    key = await office.key_for("other")
    theirs = await published(office, key=key)
    tell(office, HeldLane(org=ORG, pool="default", waiting=5, out=64))
    refused = await office.api("POST", "/runs", {"workflow": mine})
    assert (refused.status, refused.json["code"]) == (429, "held.too_many")
    assert int(refused.headers["retry-after"]) > 0
    assert (await office.api("POST", "/runs", {"workflow": theirs}, key=key)).status == 202
    tell(office)
    office.clock.moved += 1
    assert (await office.api("POST", "/runs", {"workflow": mine})).status == 202


async def test_runs_that_wait_at_gates_count_too_and_less(office: Office) -> None:
    mine = await published(office)
    tell(office, gates=(HeldAtGates(org=ORG, waiting=19),))
    assert (await office.api("POST", "/runs", {"workflow": mine})).status == 202
    tell(office, gates=(HeldAtGates(org=ORG, waiting=20),))
    office.clock.moved += 1
    refused = await office.api("POST", "/runs", {"workflow": mine})
    assert (refused.status, refused.json["code"]) == (429, "held.too_many")


async def test_what_is_paused_refuses_nobody(office: Office) -> None:
    mine = await published(office)
    tell(office, HeldLane(org=ORG, pool="default", paused=5_000))
    assert (await office.api("POST", "/runs", {"workflow": mine})).status == 202


async def test_when_all_have_much_waiting_only_who_has_nothing_there_begins_more(office: Office) -> None:
    mine = await published(office)
    tell(office, *(HeldLane(org=f"org{number}", pool="default", waiting=4) for number in range(5)))
    assert (await office.api("POST", "/runs", {"workflow": mine})).status == 202
    office.clock.moved += 0.5
    tell(
        office,
        HeldLane(org=ORG, pool="default", waiting=1),
        *(HeldLane(org=f"org{number}", pool="default", waiting=4) for number in range(5)),
    )
    assert (await office.api("POST", "/runs", {"workflow": mine})).status == 429
