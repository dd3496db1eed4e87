"""Runs that our own runs ask for over the API: they stand behind them, and a workflow that asks for itself is stopped and named."""

import pytest

from contracts.limits import CAUSES_ALIKE
from contracts.messages import StartRun
from tests.gateway.fakes import Office
from tests.gateway.stories import published, triggered
from tests.gateway.test_again_api import ORG, Bench, Rows

FOREIGN = "org_other"


@pytest.fixture
async def bench(office: Office) -> Bench:
    rows = Rows()
    office.parts.redelivery._queries = office.parts.retroactive._queries = rows
    workflow = await published(office)
    return Bench(office, rows, workflow, (await triggered(office, workflow))["id"])


def said(office: Office, *chain: str, org: str = ORG) -> str:
    return office.chains.said(org, "run-9", len(chain), chain)


def starts(office: Office) -> list[StartRun]:
    return [heard for heard in office.engine.heard if isinstance(heard, StartRun)]


async def test_a_run_that_a_run_asks_for_stands_behind_it(office: Office) -> None:
    workflow = await published(office)
    reply = await office.api(
        "POST", "/runs", {"workflow": workflow}, automateos_cause=said(office, "other", workflow)
    )
    assert reply.status == 202
    cause = starts(office)[-1].cause
    assert (cause.kind, cause.depth, cause.chain, cause.run) == ("api", 2, ("other", workflow), "run-9")


async def test_a_workflow_that_asks_for_itself_is_stopped_and_named(office: Office) -> None:
    workflow = await published(office)
    for runs in range(1, CAUSES_ALIKE + 1):
        reply = await office.api(
            "POST", "/runs", {"workflow": workflow}, automateos_cause=said(office, *(workflow,) * runs)
        )
        assert reply.status == (409 if runs == CAUSES_ALIKE else 202)
    assert reply.json["code"] == "cause.too_deep"
    assert f"{workflow} → {workflow}" in reply.json["detail"]
    assert "retry-after" not in reply.headers
    assert len(starts(office)) == CAUSES_ALIKE - 1


async def test_what_strangers_say_there_changes_nothing(office: Office) -> None:
    workflow = await published(office)
    chain = (workflow,) * CAUSES_ALIKE
    for text in ("", "nonsense", said(office, *chain, org=FOREIGN), f"{said(office, *chain)}x", "x" * 9_000):
        reply = await office.api("POST", "/runs", {"workflow": workflow}, automateos_cause=text)
        assert reply.status == 202
    assert {(start.cause.kind, start.cause.depth, start.cause.chain) for start in starts(office)} == {
        ("api", 0, ())
    }


async def test_a_key_of_another_org_is_not_behind_a_run_of_ours(office: Office) -> None:
    theirs = await office.key_for(FOREIGN)
    workflow = await published(office, key=theirs)
    reply = await office.api(
        "POST",
        "/runs",
        {"workflow": workflow},
        key=theirs,
        automateos_cause=said(office, *(workflow,) * CAUSES_ALIKE),
    )
    assert reply.status == 202
    assert starts(office)[-1].cause.depth == 0


async def test_a_delivery_that_a_run_has_started_again_and_a_trial_stand_behind_it_too(bench: Bench) -> None:
    office = bench.office
    await bench.delivered("d1")
    body = {"name": "again", "since": "2026-11-20T00:00:00Z", "until": "2026-11-22T00:00:00Z"}
    asked: list[tuple[str, object]] = [
        (f"/triggers/{bench.trigger}/deliveries/d1/redeliver", None),
        (f"/triggers/{bench.trigger}/test", {}),
        (f"/triggers/{bench.trigger}/run-again", body | {"dry_run": False}),
    ]
    for path, given in asked:
        for runs, status in ((1, (200, 202)), (CAUSES_ALIKE, (409,))):
            reply = await office.api(
                "POST", path, given, automateos_cause=said(office, *(bench.workflow,) * runs)
            )
            assert reply.status in status, (path, reply.body)
    found = [start.cause for start in starts(office)]
    assert [(cause.kind, cause.depth, cause.run) for cause in found] == [
        ("redelivery", 1, "run-9"),
        ("test", 1, "run-9"),
        ("redelivery", 1, "run-9"),
    ]
