"""Runs over HTTP: started once per key, told what people want, shown from their history."""

import asyncio
import json
from typing import Any

import pytest

from chassis.ids import digest, run_id
from chassis.ports import Proposal
from chassis.sealing import open_document
from contracts.codec import decode_commit, encode
from contracts.errors import Failure
from contracts.gates import OrgLimit
from contracts.limits import API_BODY_BYTES, INLINE_BYTES
from contracts.messages import Answer, CancelRun, ResolveDoubt, RetryRun, SendSignal, StartRun
from contracts.payloads import Blob, Inline
from contracts.runs import AttemptDoubted, CancelRequested, RunReopened, RunStarted, RunStopping
from contracts.subjects import run as run_subject
from gateway.domain import Place
from tests.gateway.fakes import Office, commit_of
from tests.gateway.stories import begins_parked, published, started

ORG = "org_default"


def last_start(office: Office) -> StartRun:
    start = office.engine.heard[-1]
    assert isinstance(start, StartRun)
    return start


async def test_a_run_follows_the_published_plan_with_the_orgs_variables_of_now(office: Office) -> None:
    await office.api("PUT", "/vars", {"vars": {"region": "eu"}})
    workflow = await published(office)
    await office.directory.reached(len(office.domain_log.messages))
    reply = await office.api("POST", "/runs", {"workflow": workflow, "input": {"n": 1}})
    assert (reply.status, reply.json["status"]) == (202, "accepted")
    assert reply.headers["automateos-position"] == "DOMAIN:1-3, RUNS:1-1"
    start = last_start(office)
    state = office.directory.workflow(ORG, workflow)
    assert state is not None
    assert (start.plan, start.version, start.workflow) == (state.plan, 1, workflow)
    assert (start.org_vars, start.org_limit) == ({"region": "eu"}, None)
    assert (start.actor.split(":")[0], start.cause.kind) == ("key", "api")
    assert isinstance(start.input, Inline)
    trigger = json.loads(bytes(start.input.value))
    assert (trigger["body"], trigger["method"], trigger["headers"]) == ({"n": 1}, "API", {})


async def test_a_run_knows_what_the_org_says_of_all_its_runs_now(office: Office) -> None:
    workflow, said = await published(office), {"mail": {"queue": 3}, "all-runs": {"at_once": 2}}
    for limits, limit in ((said, OrgLimit(at_once=2)), ({}, None)):
        assert (await office.api("PUT", "/limits", {"limits": limits})).status == 200
        await office.directory.reached(len(office.domain_log.messages))
        assert (await office.api("POST", "/runs", {"workflow": workflow})).status == 202
        assert last_start(office).org_limit == limit


async def test_an_input_is_opaque_and_keeps_its_text(office: Office) -> None:
    workflow = await published(office)
    raw = b'{"workflow":"%s","input":{"n":1.10,"z":-0.0,"\\u0000":"\\u0000"}}' % workflow.encode()
    assert (await office.api("POST", "/runs", raw=raw)).status == 202
    given = last_start(office).input
    assert isinstance(given, Inline)
    assert b'{"n":1.10,"z":-0.0,"\\u0000":"\\u0000"}' in bytes(given.value)


MARKED = {
    "nodes": [{"id": "a", "type": "echo"}],
    "sensitive": ["/card"],
}


async def of(office: Office, definition: Any) -> str:
    """A workflow of which this is published."""
    body = {"name": "marked", "definition": definition}
    workflow = str((await office.api("POST", "/workflows", body)).json["id"])
    assert (await office.api("POST", f"/workflows/{workflow}/versions/1/publish")).status == 200
    await office.directory.reached(len(office.domain_log.messages))
    return workflow


async def test_what_a_workflow_marks_of_its_input_is_sealed_for_the_run(office: Office) -> None:
    workflow = await of(office, MARKED)
    run = await started(office, workflow, {"card": "4111 CANARY", "sum": 5})
    start = last_start(office)
    assert isinstance(start.input, Inline)
    body = json.loads(bytes(start.input.value))["body"]
    opener = await office.vault.opener(ORG, run, start.key_id)
    assert (open_document(body, opener), body["sum"]) == ({"card": "4111 CANARY", "sum": 5}, 5)
    assert b"CANARY" not in encode(start)


async def test_a_marked_request_is_known_again_by_a_hash_that_tells_nothing(office: Office) -> None:
    workflow = await of(office, MARKED)
    body = {"workflow": workflow, "input": {"card": "0007"}}
    first = await office.api("POST", "/runs", body, idempotency_key="order 7")
    assert last_start(office).request != digest(json.dumps(body).encode())
    again = await office.api("POST", "/runs", body, idempotency_key="order 7")
    assert (again.json["run"], again.json["status"]) == (first.json["run"], "duplicate")
    other = {"workflow": workflow, "input": {"card": "0008"}}
    refused = await office.api("POST", "/runs", other, idempotency_key="order 7")
    assert (refused.status, refused.json["code"]) == (422, "idempotency_mismatch")


async def test_a_version_without_marks_replaces_one_that_had_some_and_asks_for_no_key(office: Office) -> None:
    workflow = await of(office, MARKED)
    unmarked = {"definition": {"nodes": MARKED["nodes"]}}
    assert (await office.api("POST", f"/workflows/{workflow}/versions", unmarked)).status == 201
    assert (await office.api("POST", f"/workflows/{workflow}/versions/2/publish")).status == 200
    await office.directory.reached(len(office.domain_log.messages))
    before = dict(office.vault.salts)
    await started(office, workflow, {"card": "4111"})
    start = last_start(office)
    assert (start.key_id, office.vault.salts) == ("", before)
    assert isinstance(start.input, Inline)
    assert json.loads(bytes(start.input.value))["body"] == {"card": "4111"}


async def test_a_large_input_is_on_disk_before_the_run_is_accepted(office: Office) -> None:
    workflow = await published(office)
    await started(office, workflow, "x" * INLINE_BYTES)
    given = last_start(office).input
    assert isinstance(given, Blob)
    assert given.sha256 in office.blobs.kept


async def test_the_same_key_and_request_is_the_same_run(office: Office) -> None:
    workflow = await published(office)
    body = {"workflow": workflow, "input": 1}
    first = await office.api("POST", "/runs", body, idempotency_key="order 7")
    again = await office.api("POST", "/runs", body, idempotency_key="order 7")
    assert (first.status, again.status) == (202, 200)
    assert (again.json["run"], again.json["receipt"]) == (first.json["run"], first.json["receipt"])
    assert first.json["run"] == run_id(ORG, f"api:{workflow}", "idempotency:order 7")
    assert len(office.runs_log.messages) == 1


async def test_the_same_key_with_another_request_is_refused(office: Office) -> None:
    workflow = await published(office)
    await office.api("POST", "/runs", {"workflow": workflow, "input": 1}, idempotency_key="k")
    reply = await office.api("POST", "/runs", {"workflow": workflow, "input": 2}, idempotency_key="k")
    assert (reply.status, reply.json["code"]) == (422, "idempotency_mismatch")
    assert len(office.runs_log.messages) == 1


async def test_a_thousand_equal_requests_at_once_are_one_run(office: Office) -> None:
    workflow = await published(office)
    body = {"workflow": workflow, "input": 1}
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(office.api("POST", "/runs", body, idempotency_key="k")) for _ in range(1_000)
        ]
    replies = [each.result() for each in asked]
    assert len({reply.json["run"] for reply in replies}) == 1
    assert sorted(reply.status for reply in replies) == [200] * 999 + [202]
    assert len(office.runs_log.messages) == 1


async def test_keys_of_two_orgs_and_two_workflows_have_nothing_to_do_with_each_other(office: Office) -> None:
    key = await office.key_for("other")
    workflows = [await published(office), await published(office), await published(office, key=key)]
    runs = set()
    for workflow, more in zip(workflows, ({}, {}, {"key": key}), strict=True):
        reply = await office.api("POST", "/runs", {"workflow": workflow}, idempotency_key="k", **more)
        runs.add(reply.json["run"])
    assert len(runs) == 3


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é"])
async def test_a_key_is_printable_and_bounded(office: Office, key: str) -> None:
    workflow = await published(office)
    reply = await office.api("POST", "/runs", {"workflow": workflow}, idempotency_key=key)
    assert (reply.status, reply.json["code"]) == (400, "malformed")


async def test_while_no_owner_answers_a_start_is_queued_on_disk(office: Office) -> None:
    workflow = await published(office)
    office.engine.away = True
    reply = await office.api("POST", "/runs", {"workflow": workflow}, idempotency_key="k")
    assert (reply.status, reply.json["status"]) == (202, "queued")
    assert "RUNS" not in reply.headers["automateos-position"]
    assert len(office.engine.inbox) == 1


async def test_a_queued_start_still_notices_that_its_key_was_used(office: Office) -> None:
    workflow = await published(office)
    body = {"workflow": workflow, "input": 1}
    first = await office.api("POST", "/runs", body, idempotency_key="k")
    office.engine.away = True
    again = await office.api("POST", "/runs", body, idempotency_key="k")
    assert (again.status, again.json["status"]) == (200, "duplicate")
    assert again.json["receipt"] == first.json["receipt"]
    other = await office.api("POST", "/runs", {**body, "input": 2}, idempotency_key="k")
    assert (other.status, other.json["code"]) == (422, "idempotency_mismatch")


async def test_a_queued_start_notices_a_run_that_began_parked(office: Office) -> None:
    workflow = await published(office)
    body = {"workflow": workflow, "input": 1}
    first = await office.api("POST", "/runs", body, idempotency_key="k")
    begins_parked(office.runs_log)
    office.engine.away = True
    again = await office.api("POST", "/runs", body, idempotency_key="k")
    assert (again.json["status"], again.json["receipt"]) == ("duplicate", first.json["receipt"])


async def test_while_the_log_is_nearly_full_no_run_starts(office: Office) -> None:
    workflow = await published(office)
    office.disk_is_full = True
    reply = await office.api("POST", "/runs", {"workflow": workflow})
    assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "unavailable", "5")
    assert office.engine.heard == []


# --- Wishes -----------------------------------------------------------------------------------

WISHES = [
    ("cancel", {"reason": "wrong"}, CancelRun),
    ("retry", {"steps": ["a"]}, RetryRun),
    ("resolve", {"step": "a", "resolution": "done", "output": {"id": 7}}, ResolveDoubt),
    ("signals", {"signal": "paid", "body": {"id": 7}}, SendSignal),
]


@pytest.mark.parametrize(("verb", "body", "kind"), WISHES)
async def test_a_wish_reaches_the_runs_owner_with_whoever_has_it(
    office: Office, verb: str, body: dict[str, Any], kind: Any
) -> None:
    run = await started(office, await published(office))
    reply = await office.api("POST", f"/runs/{run}/{verb}", body)
    assert (reply.status, reply.json) == (202, {"run": run, "status": "accepted"})
    heard: Any = office.engine.heard[-1]
    assert type(heard) is kind
    assert (heard.org, heard.run, heard.actor.split(":")[0]) == (ORG, run, "key")
    for name, value in body.items():
        given = getattr(heard, name)
        opaque = name in ("output", "body")
        assert json.loads(bytes(given.value)) == value if opaque else list(given) == list(value)


@pytest.mark.parametrize(("verb", "body", "_"), WISHES)
async def test_a_wish_that_the_runs_state_forbids_is_refused_by_name(
    office: Office, verb: str, body: dict[str, Any], _: type
) -> None:
    run = await started(office, await published(office))
    failure = Failure(code="run.ended", message="The run has ended: it is completed.")
    office.engine.answer_with = Answer(run="", result="refused", epoch=1, sequence=1, error=failure)
    reply = await office.api("POST", f"/runs/{run}/{verb}", body)
    assert (reply.status, reply.json["code"], reply.json["detail"]) == (409, "run.ended", failure.message)


async def test_a_wish_for_what_is_already_so_changes_nothing(office: Office) -> None:
    run = await started(office, await published(office))
    office.engine.answer_with = Answer(run="", result="nothing", epoch=1, sequence=1)
    reply = await office.api("POST", f"/runs/{run}/cancel", {})
    assert (reply.status, reply.json["status"]) == (200, "unchanged")


async def test_a_wish_names_the_opening_and_the_attempt_that_it_means(office: Office) -> None:
    """Heard twice and late, it must not mean what came after."""
    run = await started(office, await published(office))
    error = Failure(code="unreachable", message="no answer")
    await extended(office, run, AttemptDoubted(step="a", attempt=2, error=error))
    await extended(office, run, RunReopened(by="key:k1", steps=("a",)))
    await extended(office, run, AttemptDoubted(step="a", attempt=4, error=error))
    for verb, body, named in (
        ("cancel", {}, {"opening": 2}),
        ("retry", {}, {"opening": 2}),
        ("retry", {"opening": 1}, {"opening": 1}),
        ("resolve", {"step": "a", "resolution": "retry"}, {"attempt": 4}),
        ("resolve", {"step": "a", "resolution": "retry", "attempt": 2}, {"attempt": 2}),
        ("resolve", {"step": "b", "resolution": "retry"}, {"attempt": 0}),
    ):
        await office.api("POST", f"/runs/{run}/{verb}", body)
        heard = office.engine.heard[-1]
        assert {name: getattr(heard, name) for name in named} == named


async def test_a_wish_that_no_owner_hears_now_is_queued(office: Office) -> None:
    run = await started(office, await published(office))
    office.engine.away = True
    reply = await office.api("POST", f"/runs/{run}/cancel", {})
    assert (reply.status, reply.json["status"]) == (202, "queued")
    assert len(office.engine.inbox) == 1


async def test_a_signals_key_says_that_it_is_the_same_and_its_request_that_nothing_else_is_meant(
    office: Office,
) -> None:
    run = await started(office, await published(office))
    for key, total in (("k", 5), ("k", 5), ("other", 5), ("k", 6)):
        said = {"signal": "paid", "body": {"sum": total}}
        reply = await office.api("POST", f"/runs/{run}/signals", said, idempotency_key=key)
        assert (reply.status, reply.json) == (202, {"run": run, "status": "accepted"})
    first, again, other, changed = (each for each in office.engine.heard[-4:] if isinstance(each, SendSignal))
    assert (first.key, first.request) == (again.key, again.request)
    assert (first.key != other.key, first.request) == (True, other.request)
    assert (first.key, first.request != changed.request) == (changed.key, True)


LISTENS = {
    "nodes": [
        {"id": "a", "type": "wait.signal", "config": {"signal": "paid"}, "sensitive": ["/card"]},
        {"id": "b", "type": "wait.signal", "config": {"signal": "paid"}, "sensitive": ["/pin"]},
        {"id": "c", "type": "echo", "config": {"signal": 5}, "sensitive": ["/token"]},
    ]
}


def not_sealed(office: Office) -> None:
    """The owner refuses what was not sealed, as it does where something is marked."""
    take = office.engine._take

    async def answer(message: Any) -> Answer:
        told = await take(message)
        if isinstance(message, SendSignal) and not message.is_sealed:
            return Answer(
                run=message.run, result="refused", error=Failure(code="signal.not_sealed", message="")
            )
        return told

    office.engine._take = answer  # type: ignore[method-assign]  # Of this office's engine.


async def test_what_a_run_marks_of_a_signal_is_sealed_whoever_will_hear_it(office: Office) -> None:
    run = await started(office, await of(office, LISTENS))
    not_sealed(office)
    said = {"signal": "paid", "body": {"card": "CANARY", "pin": "CANARY", "sum": 5}}
    reply = await office.api("POST", f"/runs/{run}/signals", said, idempotency_key="k")
    assert (reply.status, reply.json["status"]) == (202, "accepted")
    again = await office.api("POST", f"/runs/{run}/signals", said, idempotency_key="k")
    assert again.status == 202
    sealed, *_, other = (
        each for each in office.engine.heard if isinstance(each, SendSignal) and each.is_sealed
    )
    assert (sealed.key, sealed.request) == (other.key, other.request)
    assert b"CANARY" not in encode(sealed)
    assert isinstance(sealed.body, Inline)
    opener = await office.vault.opener(ORG, run, f"salt_{run}")
    assert open_document(json.loads(bytes(sealed.body.value)), opener) == said["body"]


async def test_what_is_kept_of_a_signal_for_an_owner_who_is_away_or_is_large_is_sealed_too(
    office: Office,
) -> None:
    run = await started(office, await of(office, LISTENS))
    office.engine.away = True
    said = {"signal": "paid", "body": {"card": "CANARY"}}
    assert (await office.api("POST", f"/runs/{run}/signals", said)).json["status"] == "queued"
    [kept] = office.engine.inbox
    assert (b"CANARY" in kept, b"$sealed" in kept) == (False, True)
    said = {"signal": "paid", "body": {"card": "CANARY" * 20_000}}
    assert (await office.api("POST", f"/runs/{run}/signals", said)).json["status"] == "queued"
    assert b"CANARY" not in b"".join((*office.engine.inbox, *office.blobs.kept.values()))


async def test_a_signal_that_an_owner_took_costs_no_look_into_the_plan(office: Office) -> None:
    run = await started(office, await published(office))
    office.blobs.kept.clear()
    assert (await office.api("POST", f"/runs/{run}/signals", {"signal": "paid"})).status == 202
    office.engine.away = True
    gone = await office.api("POST", f"/runs/{run}/signals", {"signal": "paid"})
    assert gone.json["code"] == "payload.missing", "nobody knows what has to be sealed"
    assert office.engine.inbox == []


@pytest.mark.parametrize(("step", "mark"), [("c", "/token"), ("each[3].c", "/token"), ("other", None)])
async def test_an_output_that_a_person_gives_is_sealed_by_the_nodes_marks(
    office: Office, step: str, mark: str | None
) -> None:
    run = await started(office, await of(office, LISTENS))
    done = {"step": step, "resolution": "done", "output": {"token": "CANARY", "n": 1}}
    assert (await office.api("POST", f"/runs/{run}/resolve", done)).status == 202
    heard = office.engine.heard[-1]
    assert isinstance(heard, ResolveDoubt)
    assert (b"CANARY" in encode(heard)) == (mark is None)
    assert isinstance(heard.output, Inline)
    opener = await office.vault.opener(ORG, run, f"salt_{run}")
    assert open_document(json.loads(bytes(heard.output.value)), opener) == done["output"]


async def test_without_a_key_every_call_says_something_of_its_own(office: Office) -> None:
    run = await started(office, await published(office))
    for _ in range(2):
        await office.api("POST", f"/runs/{run}/signals", {"signal": "paid"})
    first, second = (each for each in office.engine.heard[-2:] if isinstance(each, SendSignal))
    assert (first.key != second.key, first.request, second.request) == (True, None, None)


@pytest.mark.parametrize(
    ("result", "code", "status", "told"),
    [
        ("nothing", None, 200, "unchanged"),
        ("refused", "idempotency_mismatch", 422, "idempotency_mismatch"),
        ("refused", "signal.too_many", 409, "signal.too_many"),
    ],
)
async def test_what_the_owner_answers_to_a_signal_is_told(
    office: Office, result: Any, code: str | None, status: int, told: str
) -> None:
    run = await started(office, await published(office))
    error = Failure(code=code, message="Why.") if code else None
    office.engine.answer_with = Answer(run="", result=result, epoch=1, sequence=1, error=error)
    reply = await office.api("POST", f"/runs/{run}/signals", {"signal": "paid"}, idempotency_key="k")
    assert (reply.status, reply.json.get("status" if error is None else "code")) == (status, told)


@pytest.mark.parametrize(
    "body",
    [{}, {"signal": ""}, {"signal": "Not a name"}, {"signal": "x" * 65}, {"signal": "paid", "key": "k"}],
)
async def test_a_signal_that_is_none_is_malformed(office: Office, body: dict[str, Any]) -> None:
    run = await started(office, await published(office))
    before = len(office.engine.heard)
    reply = await office.api("POST", f"/runs/{run}/signals", body)
    assert (reply.status, reply.json["code"], len(office.engine.heard)) == (400, "malformed", before)


async def test_what_a_signal_says_is_bounded_and_lies_apart_when_it_is_large(office: Office) -> None:
    run = await started(office, await published(office))
    large = await office.api("POST", f"/runs/{run}/signals", {"signal": "paid", "body": "x" * INLINE_BYTES})
    heard = office.engine.heard[-1]
    assert (large.status, isinstance(heard, SendSignal)) == (202, True)
    assert isinstance(heard, SendSignal)
    assert isinstance(heard.body, Blob)
    assert heard.body.sha256 in office.blobs.kept
    endless = {"signal": "paid", "body": ["x" * 1_000] * (API_BODY_BYTES // 1_000)}
    reply = await office.api("POST", f"/runs/{run}/signals", endless)
    assert (reply.status, reply.json["code"]) == (413, "too_large")
    assert office.engine.heard[-1] is heard


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_signals_key_is_printable_and_bounded(office: Office, key: str) -> None:
    run = await started(office, await published(office))
    reply = await office.api("POST", f"/runs/{run}/signals", {"signal": "paid"}, idempotency_key=key)
    assert (reply.status, reply.json["code"]) == (400, "malformed")


# --- Reading ----------------------------------------------------------------------------------


async def extended(office: Office, run: str, *events: Any) -> None:
    """One more commit of a run."""
    before = await office.runs_log.history(run_subject(ORG, run))
    commit = commit_of(ORG, run, events, version=len(before) + 1, actor="key:k1")
    proposal = Proposal(run_subject(ORG, run), encode(commit), before[-1].sequence)
    await office.runs_log.append([proposal])


async def test_a_history_is_told_event_by_event_with_numbers_and_live_ids(office: Office) -> None:
    run = await started(office, await published(office))
    await extended(office, run, CancelRequested(by="key:k1", reason="no"), RunStopping(outcome="cancelled"))
    told = (await office.api("GET", f"/runs/{run}/events")).json
    assert [(each["number"], each["id"], each["version"], each["type"]) for each in told["items"]] == [
        (1, "1-1-0", 1, "run.started"),
        (2, "1-2-0", 2, "run.cancel-requested"),
        (3, "1-2-1", 2, "run.stopping"),
    ]
    assert told["items"][1]["event"]["reason"] == "no"
    assert told["items"][1]["actor"] == "key:k1"
    assert told["next"] is None


async def test_a_long_history_comes_in_parts(office: Office) -> None:
    run = await started(office, await published(office))
    for _ in range(3):
        await extended(office, run, CancelRequested(by="key:k1"))
    first = (await office.api("GET", f"/runs/{run}/events?limit=3")).json
    assert ([each["number"] for each in first["items"]], first["next"]) == ([1, 2, 3], 3)
    rest = (await office.api("GET", f"/runs/{run}/events?limit=3&after=3")).json
    assert ([each["number"] for each in rest["items"]], rest["next"]) == ([4], None)


async def test_an_event_from_a_newer_release_is_told_like_any_other(office: Office) -> None:
    run = await started(office, await published(office))
    stored = office.runs_log.messages[-1]
    body = json.loads(stored.body)
    body["version"] = 2
    body["events"] = [{"type": "run.teleported", "schema_version": 3, "where": "mars"}]
    await office.runs_log.append([Proposal(stored.subject, json.dumps(body).encode(), stored.sequence)])
    told = (await office.api("GET", f"/runs/{run}/events")).json["items"][-1]
    assert (told["type"], told["event"]["where"]) == ("run.teleported", "mars")


async def test_the_engine_tells_the_state_at_any_event_and_what_the_run_waits_for(office: Office) -> None:
    run = await started(office, await published(office))
    state = await office.api("GET", f"/runs/{run}/state?at=2")
    assert state.json == {"run": run, "at": 2, "state": {"org": ORG, "run": run, "at": 2}}
    waiting = await office.api("GET", f"/runs/{run}/waiting")
    assert waiting.json == {"run": run, "waiting_for": [{"kind": "attempt"}]}


# --- Read-your-writes -------------------------------------------------------------------------


async def test_a_read_waits_until_the_read_model_has_what_the_org_wrote(office: Office) -> None:
    office.positions.away = False
    await started(office, await published(office))
    reading = asyncio.ensure_future(office.api("GET", "/runs"))  # Watched while it waits.
    while office.positions.asked < 2:
        await asyncio.sleep(0.001)
    assert not reading.done()
    office.positions.at = {"RUNS": Place(1, 1)}
    assert (await reading).status == 503  # It was let through to Postgres, which no unit test has.
    assert office.places.gave_up == 0


async def test_a_read_of_another_org_waits_for_nothing(office: Office) -> None:
    office.positions.away = False
    await started(office, await published(office))
    assert (await office.api("GET", "/runs", key=await office.key_for("other"))).status == 503
    assert office.positions.asked == 0


@pytest.mark.parametrize(
    ("said", "waits"),
    [
        ("RUNS:1-5", True),
        ("DOMAIN:1-9, RUNS:1-5", True),
        ("RUNS:2-1", True),
        ("RUNS:1-3", False),
        ("RUNS:0-9", False),
        ("DOMAIN:1-5", False),
        ("nonsense", False),
        ("RUNS:" + "9" * 400, False),
    ],
)
async def test_who_has_written_elsewhere_may_say_so(office: Office, said: str, waits: bool) -> None:
    office.positions.away = False
    office.positions.at = {"RUNS": Place(1, 3)}
    reading = asyncio.ensure_future(office.api("GET", "/runs", automateos_position=said))
    if waits:
        while office.positions.asked < 3:
            await asyncio.sleep(0.001)
        assert not reading.done()
        office.positions.at = {"RUNS": Place(2, 5)}
    assert (await reading).status == 503
    assert office.places.gave_up == 0


async def test_while_postgres_is_away_nobody_is_kept_waiting(office: Office) -> None:
    await started(office, await published(office))
    reply = await office.api("GET", "/runs")
    assert (reply.status, office.places.gave_up) == (503, 1)


async def test_what_starts_a_run_is_what_the_log_says(office: Office) -> None:
    run = await started(office, await published(office), {"n": 1})
    (stored,) = office.runs_log.messages
    (event,) = decode_commit(stored.body).events
    assert isinstance(event, RunStarted)
    assert stored.subject == f"run.{ORG}.{run}"
