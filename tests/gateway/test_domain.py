"""How a change gets into the log: once, on what was there, whoever else writes and whatever is answered."""

import pytest
from msgspec import json

from chassis.ids import digest
from chassis.ports import Ambiguous, Away, Full
from chassis.testing.clock import HandClock
from contracts.codec import decode_domain_commit
from contracts.commits import FIRST_HASH
from contracts.workflows import OrgVarsSet
from gateway.domain import Cause, Changed, Domain
from gateway.orgs.rules import ORG, OrgState, set_vars
from gateway.rejected import Rejected
from tests.gateway.fakes import MemoryLog

CAUSE = Cause(org="acme", actor="key:k1", request="req1", trace=f"00-{'1' * 32}-{'2' * 16}-00")


class Desk:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.domain = Domain(self.log, HandClock(), "0.1.0")

    async def put(self, request: str = "req1", **variables: int) -> Changed[OrgState]:
        cause = Cause(org="acme", actor="key:k1", request=request, trace=CAUSE.trace)
        return await self.domain.change(ORG, "acme", lambda state: set_vars(state, variables), cause)

    def versions(self) -> list[int]:
        return [decode_domain_commit(stored.body, "org").version for stored in self.log.messages]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_change_is_one_commit_that_says_who_and_why(desk: Desk) -> None:
    changed = await desk.put(a=1)
    (stored,) = desk.log.messages
    commit = decode_domain_commit(stored.body, "org")
    assert stored.subject == "evt.acme.org.acme"
    assert commit.events == (OrgVarsSet(vars={"a": 1}),)
    assert (commit.org, commit.aggregate, commit.aggregate_id) == ("acme", "org", "acme")
    assert (commit.actor, commit.causation_id, commit.version) == ("key:k1", "req1", 1)
    assert (changed.place.epoch, changed.place.sequence) == (1, stored.sequence)
    assert stored.headers["traceparent"] == CAUSE.trace
    assert stored.headers["ce-type"] == "domain.committed"


async def test_each_commit_names_the_hash_of_the_stored_bytes_before_it(desk: Desk) -> None:
    await desk.put(a=1)
    await desk.put(a=2)
    first, second = (decode_domain_commit(stored.body, "org") for stored in desk.log.messages)
    assert first.prev_hash == FIRST_HASH
    assert second.prev_hash == digest(desk.log.messages[0].body)


async def test_what_is_already_so_writes_nothing(desk: Desk) -> None:
    first = await desk.put(a=1)
    again = await desk.put(a=1)
    assert (again.events, again.place, len(desk.log.messages)) == ((), first.place, 1)


async def test_who_lost_the_race_decides_anew_on_what_the_winner_left(desk: Desk) -> None:
    seen: list[dict[str, int]] = []

    def decide(state: OrgState) -> list[OrgVarsSet]:
        seen.append(dict(state.vars))
        return [OrgVarsSet(vars={**state.vars, "b": 2})]

    async def rival() -> None:
        await desk.put(request="req2", a=1)

    original, raced = desk.log.append, False

    async def append(proposals):  # type: ignore[no-untyped-def]  # Stands in for the log's own.
        nonlocal raced
        if not raced:
            raced = True
            await rival()
        return await original(proposals)

    desk.log.append = append  # type: ignore[method-assign]  # In its place.
    changed = await desk.domain.change(ORG, "acme", decide, CAUSE)
    assert seen == [{}, {"a": 1}]
    assert changed.state.vars == {"a": 1, "b": 2}
    assert desk.domain.conflicts == 1
    assert desk.versions() == [1, 2]


async def test_who_loses_every_race_is_told_so(desk: Desk) -> None:
    async def append(_proposals):  # type: ignore[no-untyped-def]  # Somebody is always faster.
        return [None]

    desk.log.append = append  # type: ignore[method-assign]  # In its place.
    with pytest.raises(Rejected) as raised:
        await desk.put(a=1)
    assert raised.value.code == "conflict"


async def test_a_change_that_nobody_confirmed_but_happened_is_found_and_not_repeated(desk: Desk) -> None:
    desk.log.faults = [Ambiguous("no answer")]
    changed = await desk.put(a=1)
    assert (changed.place.sequence, len(desk.log.messages)) == (1, 1)


async def test_a_change_that_nobody_confirmed_and_another_overtook_is_decided_anew(desk: Desk) -> None:
    original, raced = desk.log.append, False

    async def append(proposals):  # type: ignore[no-untyped-def]  # As long as the test.
        nonlocal raced
        if raced:
            return await original(proposals)
        raced = True
        await desk.put(request="req2", a=1)
        raise Ambiguous("no answer, and not done")

    desk.log.append = append  # type: ignore[method-assign]  # In its place.
    await desk.put(a=2)
    assert desk.versions() == [1, 2]
    assert json.decode(desk.log.messages[1].body)["events"][0]["vars"] == {"a": 2}


@pytest.mark.parametrize("fault", [Away("down"), Full("no room")])
async def test_what_was_not_stored_is_not_said_to_be(desk: Desk, fault: Away) -> None:
    desk.log.faults = [fault]
    with pytest.raises(type(fault)):
        await desk.put(a=1)
    assert desk.log.messages == []


async def test_orgs_do_not_see_each_others_histories(desk: Desk) -> None:
    await desk.put(a=1)
    assert (await desk.domain.load(ORG, "other", "acme")).vars == {}


async def test_a_change_that_is_too_large_is_refused(desk: Desk) -> None:
    with pytest.raises(Rejected) as raised:
        await desk.domain.change(ORG, "acme", lambda _: [OrgVarsSet(vars={"a": "x" * 300_000})], CAUSE)
    assert raised.value.code == "too_large"
