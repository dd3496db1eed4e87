"""A recorded delivery starts a new run: with what it brought, sealed for the new run where it was sealed."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Raw

from chassis.archive import Lying
from chassis.ids import run_id
from chassis.ports import Stored
from chassis.sealing import open_document, seal_paths
from contracts.codec import decode_commit, encode
from contracts.limits import INLINE_BYTES
from contracts.messages import StartRun
from contracts.payloads import NULL, Blob, Inline, Payload
from contracts.runs import Cause, RunStarted
from contracts.triggers import Hook
from gateway.runs.histories import first_of
from gateway.triggers.queries import TriggerQueries
from tests.gateway.fakes import Office
from tests.gateway.stories import begins_parked, published, triggered

ORG = "org_default"


class Rows(TriggerQueries):
    """The rows of deliveries that a test says there are."""

    def __init__(self) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}

    async def delivery(self, org: str, trigger_id: str, receipt: str) -> Any:
        return self.rows[receipt]


class Bench:
    """An office with a bound trigger and its deliveries."""

    def __init__(self, office: Office, rows: Rows, workflow: str, trigger: str) -> None:
        self.office, self.rows, self.workflow, self.trigger = office, rows, workflow, trigger

    async def delivered(self, given: Payload, key_id: str = "", run: str = "") -> str:
        """A delivery that started a run."""
        run = run or run_id(ORG, self.trigger, "receipt:d1")
        start = StartRun(
            org=ORG,
            run=run,
            plan="0" * 64,
            workflow=self.workflow,
            version=1,
            receipt="d1",
            cause=Cause(kind="webhook", id="d1"),
            input=given,
            trigger=self.trigger,
            key_id=key_id,
        )
        await self.office.engine.start(start)
        self.rows.rows["d1"] = {"run": run, "result": "accepted", "sequence": 1}
        return run

    async def redeliver(self, receipt: str = "d1", **headers: str) -> Any:
        return await self.office.api(
            "POST", f"/triggers/{self.trigger}/deliveries/{receipt}/redeliver", **headers
        )

    async def first(self, run: str) -> Lying:
        lying = await first_of(self.office.parts.histories, ORG, run)
        assert lying is not None
        return lying

    async def started(self, run: str) -> RunStarted:
        event = decode_commit((await self.first(run)).body).events[0]
        assert isinstance(event, RunStarted)
        return event


@pytest.fixture
async def bench(office: Office) -> Bench:
    rows = Rows()
    office.parts.redelivery._queries = rows
    workflow = await published(office)
    return Bench(office, rows, workflow, (await triggered(office, workflow))["id"])


async def test_the_new_run_has_the_input_of_then_and_the_plan_of_now(bench: Bench) -> None:
    given = Inline(value=Raw(b'{"body":{"n":1.10},"method":"POST"}'))
    old = await bench.delivered(given)
    reply = await bench.redeliver()
    assert (reply.status, reply.json["status"]) == (202, "accepted")
    assert reply.json["run"] != old
    started = await bench.started(reply.json["run"])
    state = await bench.office.parts.triggers.state(ORG, bench.trigger)
    assert (started.input, started.plan, started.trigger) == (given, state.plan, bench.trigger)
    assert started.cause == Cause(kind="redelivery", id="d1")


async def test_a_delivery_whose_run_began_parked_is_delivered_again(bench: Bench) -> None:
    given = Inline(value=Raw(b'{"body":{"n":2},"method":"POST"}'))
    await bench.delivered(given)
    begins_parked(bench.office.runs_log)
    reply = await bench.redeliver()
    assert reply.status == 202
    assert (await bench.started(reply.json["run"])).input == given


async def test_each_wish_starts_a_run_unless_it_comes_with_a_key(bench: Bench) -> None:
    await bench.delivered(NULL)
    first, second = await bench.redeliver(), await bench.redeliver()
    assert first.json["run"] != second.json["run"]
    keyed, again = await bench.redeliver(idempotency_key="k"), await bench.redeliver(idempotency_key="k")
    assert (keyed.status, again.status) == (202, 200)
    assert (keyed.json["run"], again.json["status"]) == (again.json["run"], "duplicate")


async def test_the_same_key_for_another_delivery_is_refused(bench: Bench) -> None:
    await bench.delivered(NULL)
    bench.rows.rows["d2"] = bench.rows.rows["d1"]
    await bench.redeliver(idempotency_key="k")
    reply = await bench.redeliver("d2", idempotency_key="k")
    assert (reply.status, reply.json["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize("large", [False, True])
async def test_sealed_values_are_sealed_anew_for_the_new_run(bench: Bench, large: bool) -> None:
    vault = bench.office.vault
    old = run_id(ORG, bench.trigger, "receipt:d1")
    key_id, sealer = await vault.sealer(ORG, old)
    document: Any = {"body": {"card": "4111 CANARY", "n": [1]}, "method": "POST"}
    if large:
        document["body"]["text"] = "x" * INLINE_BYTES
    sealed: Any = seal_paths(document, ["/body/card"], sealer)
    sealed["raw"] = {"in": "blob", "sha256": "0" * 64, "size": 1, "content_type": "x"}
    data = encode(sealed)
    given: Payload = await bench.office.blobs.put(data) if large else Inline(value=Raw(data))
    await bench.delivered(given, key_id, old)
    reply = await bench.redeliver()
    run = reply.json["run"]
    started = await bench.started(run)
    assert isinstance(started.input, Blob if large else Inline)
    kept = json.loads(
        await bench.office.blobs.get(started.input)
        if isinstance(started.input, Blob)
        else bytes(started.input.value)
    )
    assert b"CANARY" not in encode(kept)
    assert kept["body"]["card"] != sealed["body"]["card"]
    assert "raw" not in kept
    commit = decode_commit((await bench.first(run)).body)
    assert commit.key_id != key_id
    assert open_document(kept, await vault.opener(ORG, run, commit.key_id)) == document


async def test_a_sealed_body_of_bytes_is_not_delivered_again(bench: Bench) -> None:
    old = run_id(ORG, bench.trigger, "receipt:d1")
    key_id, _ = await bench.office.vault.sealer(ORG, old)
    await bench.delivered(Inline(value=Raw(b'{"body":{"blob":{}}}')), key_id, old)
    assert (await bench.redeliver()).status == 409


async def test_a_captured_sample_starts_a_run_too(bench: Bench) -> None:
    sample = Inline(value=Raw(b'{"body":"sample"}'))
    hook = Hook(
        receipt="d1", org=ORG, trigger=bench.trigger, time=0.0, result="captured", method="POST", body=sample
    )
    bench.office.hooks_log.messages.append(Stored(f"hook.{ORG}.{bench.trigger}", 1, encode(hook)))
    bench.rows.rows["d1"] = {"receipt": "d1", "run": None, "result": "captured", "sequence": 1}
    reply = await bench.redeliver()
    assert (await bench.started(reply.json["run"])).input == sample


async def test_what_is_no_longer_kept_is_told_so(bench: Bench) -> None:
    bench.rows.rows["d1"] = {"receipt": "d1", "run": None, "result": "captured", "sequence": 1}
    reply = await bench.redeliver()
    assert (reply.status, reply.json["code"]) == (404, "not_found")


@pytest.mark.parametrize("result", ["refused", "unmatched"])
async def test_a_delivery_that_proved_nothing_starts_nothing(bench: Bench, result: str) -> None:
    bench.rows.rows["d1"] = {"receipt": "d1", "run": None, "result": result, "sequence": 1}
    reply = await bench.redeliver()
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert bench.office.runs_log.messages == []
