"""The worker API: work is given once at a time, held by lease, kept, begun and reported; every step may be repeated."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from chassis.ports import Away, Given, Stored
from chassis.sealing import open_document
from contracts.codec import encode
from contracts.limits import WORKER_INPUT_BYTES, WORKER_POLLS
from contracts.messages import (
    Answer,
    CancelAttempts,
    CompileRequest,
    EffectClaim,
    Look,
    StepBroken,
    StepDone,
    StepInDoubt,
    StepLetGo,
)
from contracts.payloads import Blob, Inline
from contracts.runs import AttemptScheduled, RunCompleted, StepReported
from contracts.streams import Consumer, worker_consumer
from contracts.subjects import cancel, effect
from contracts.subjects import run as run_subject
from contracts.subjects import task as task_subject
from gateway.permissions import SCOPES, token_scopes
from gateway.workers.rules import WITHHELD
from gateway.workflows.compiling import RemoteCompiler, request_of
from tests.gateway.fakes import Office, Reply, commit_of
from tests.gateway.handing import a_task

POOL = "ext-vision"
RESIZE: dict[str, Any] = {
    "type": "work.resize",
    "title": "Resize",
    "help": "Makes an image smaller.",
    "icon": "image",
    "category": "Images",
    "repeat": "yes",
    "config": {
        "type": "object",
        "properties": {"width": {"type": "integer", "minimum": 1}},
        "required": ["width"],
        "additionalProperties": False,
    },
    "outputs": [{"name": "main", "title": "Output"}, {"name": "broken", "title": "Broken"}],
}


class Outside:
    """A worker outside: a token and what it says with it."""

    def __init__(self, office: Office, token: str) -> None:
        self.office, self.token = office, token

    async def say(self, what: str, body: Any = None, **more: Any) -> Reply:
        return await self.office.api("POST", f"/worker/{what}", body or {}, key=self.token, **more)

    async def poll(self, **asked: Any) -> list[Any]:
        reply = await self.say("poll", {"wait_s": 0.05, **asked})
        assert reply.status == 200, reply.body
        tasks: list[Any] = reply.json["tasks"]
        return tasks

    async def report(self, lease: str, **report: Any) -> Reply:
        return await self.say("report", {"lease": lease, "report": report})


async def outside(office: Office, pool: str = POOL, org: str = "org_default", *types: Any) -> Outside:
    """A worker that has announced its types. The engine takes whatever is reported."""
    worker = Outside(office, await office.key_for(org, token_scopes(pool)))
    announced = await worker.say("types", {"specs": types or [RESIZE]})
    assert announced.status == 200, announced.body
    office.engine.answer_with = Answer(run="", result="accepted")
    return worker


async def put(office: Office, number: int = 1, times: int = 0, **changes: Any) -> None:
    await office.handing.put(POOL, "org_default", a_task(number, **changes), times)


async def waits(office: Office, calls: int) -> None:
    """Until so many calls wait for work."""
    async with asyncio.timeout(60):
        while office.desk.waiting != calls:
            await asyncio.sleep(0.005)


def history(office: Office, *events: Any, number: int = 1) -> None:
    """A run, as the log has it."""
    subject = run_subject("org_default", f"run-{number}")
    body = encode(commit_of("org_default", f"run-{number}", events))
    office.runs_log.messages.append(Stored(subject, len(office.runs_log.messages) + 1, body, {}))


def scheduled() -> AttemptScheduled:
    return AttemptScheduled(
        step="call", node="call", node_type="work.resize", attempt=1, key="k", pool=POOL, repeat="yes",
        timeout_s=60.0, config=Inline(value=Raw(b"{}")),
    )  # fmt: skip


def lies_there(office: Office, body: bytes) -> None:
    """The task in TASKS, where it stays until its outcome is accepted."""
    subject = task_subject(POOL, "org_default", "run-1", "call", 1)
    office.tasks_log.messages.append(Stored(subject, len(office.tasks_log.messages) + 1, body))


def claimed_by(office: Office, owner: str) -> None:
    claim = EffectClaim(org="org_default", run="run-1", step="call", attempt=1, executor=owner, at=1.0)
    subject = effect("org_default", "run-1", "call", 1)
    office.effects_log.messages.append(Stored(subject, len(office.effects_log.messages) + 1, encode(claim)))


# --- From the announcement to the outcome ---------------------------------------------------------


async def test_a_type_that_was_announced_is_offered_to_its_org_and_to_nobody_else(office: Office) -> None:
    worker = await outside(office)
    assert (await worker.say("types", {"specs": [RESIZE]})).json == {"pool": POOL, "types": ["work.resize"]}
    listed = (await office.api("GET", "/node-types")).json["items"]
    [spec] = [each for each in listed if each["type"] == "work.resize"]
    assert (spec["pool"], spec["title"]) == (POOL, "Resize")
    assert (await office.api("GET", "/node-types/work.resize@1")).json["pool"] == POOL
    assert (await office.api("GET", "/node-types/work.resize@2")).status == 404
    stranger = await office.key_for("other")
    assert (await office.api("GET", "/node-types/work.resize", key=stranger)).status == 404
    # Said again it is no change; said anew it is what counts.
    before = len(office.domain_log.messages)
    assert (await worker.say("types", {"specs": [RESIZE]})).status == 200
    assert len(office.domain_log.messages) == before
    assert (await worker.say("types", {"specs": [RESIZE | {"type": "work.crop"}]})).status == 200
    assert (await office.api("GET", "/node-types/work.resize")).status == 404


async def test_the_compiler_is_told_the_types_of_the_pools_that_a_workflow_names(office: Office) -> None:
    await outside(office)
    asked: list[CompileRequest] = []

    class Orchestrator:
        async def request(self, _subject: str, body: bytes, _timeout: float) -> bytes:
            asked.append(_decode(body))
            return encode({"plan": "0" * 64})

    compiler = RemoteCompiler(Orchestrator(), office.apis, office.parts.worker_types)  # type: ignore[arg-type]  # What it asks.
    for kind, pools in (("work.resize", 1), ("work.crop", 0), ("echo", 0)):
        drawn = encode({"nodes": [{"id": "a", "type": kind}]})
        await compiler.compile(request_of("org_default", "w", 1, drawn, keep=False))
        assert len(asked[-1].workers) == pools
    await compiler.compile(
        request_of("other", "w", 1, encode({"nodes": [{"id": "a", "type": "work.resize"}]}), keep=False)
    )
    assert asked[-1].workers == ()


def _decode(body: bytes) -> CompileRequest:
    return msgspec.json.decode(body, type=CompileRequest)


async def test_an_attempt_is_given_and_its_output_is_told(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    [task] = await worker.poll()
    assert task | {"lease": ""} == {
        "lease": "", "lease_s": 30.0, "run": "run-1", "step": "call", "node": "call", "type": "work.resize",
        "attempt": 1, "key": "run-1/call", "repeat": "yes", "timeout_s": 60.0, "config": {"width": 100},
    }  # fmt: skip
    assert office.handing.asked[-1] == worker_consumer("org_default", POOL)
    assert await worker.poll() == []
    told = await worker.report(task["lease"], kind="succeeded", output={"ok": True}, ports=["broken"])
    assert told.json == {"result": "accepted"}
    [outcome] = office.engine.heard
    assert isinstance(outcome, StepDone)
    assert (outcome.org, outcome.run, outcome.step, outcome.attempt) == ("org_default", "run-1", "call", 1)
    assert isinstance(outcome.output, Inline)
    assert (bytes(outcome.output.value), outcome.ports) == (b'{"ok": true}', ("broken",))
    assert len(office.handing.done_with) == 1


async def test_a_poll_waits_for_work(office: Office) -> None:
    worker = await outside(office)
    waiting = asyncio.get_running_loop().create_task(worker.poll(wait_s=5))
    await waits(office, 1)
    await put(office)
    assert len(await waiting) == 1
    assert office.desk.waiting == 0


async def test_whoever_asked_while_the_pool_was_held_is_given_work_when_it_goes_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.workers.waiting.ANEW_SECONDS", 0.05)
    worker = await outside(office)
    fetch = office.handing.fetch
    held = asyncio.Event()

    async def given_to_later_questions(consumer: Consumer, most: int, seconds: float) -> list[Given]:
        if held.is_set():
            return await fetch(consumer, most, seconds)
        await asyncio.sleep(seconds)
        held.set()
        return []

    monkeypatch.setattr(office.handing, "fetch", given_to_later_questions)
    await put(office)
    assert len(await worker.poll(wait_s=5)) == 1


async def test_a_large_output_and_a_large_configuration_go_by_reference(office: Office) -> None:
    worker = await outside(office)
    config = encode({"width": 1, "text": "x" * 100_000})
    await put(office, config=await office.blobs.put(config))
    [task] = await worker.poll()
    assert task["config"]["text"] == "x" * 100_000
    await worker.report(task["lease"], kind="succeeded", output="y" * 100_000)
    [outcome] = office.engine.heard
    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Blob)
    assert office.blobs.kept[outcome.output.sha256] == encode("y" * 100_000)


async def test_a_failure_is_told_with_its_reason(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    [task] = await worker.poll()
    await worker.report(
        task["lease"], kind="failed", message="no\x07such\x1bimage", retryable=True, retry_after_s=3
    )
    [outcome] = office.engine.heard
    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable, outcome.error.node) == (
        "worker.failed",
        True,
        "call",
    )
    assert outcome.error.message == "nosuchimage"
    assert outcome.retry_after_s == 3


async def test_work_is_given_back(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    history(office, scheduled())
    [task] = await worker.poll()
    assert (await worker.report(task["lease"], kind="gave_back")).json == {"result": "accepted"}
    assert not office.engine.heard
    [again] = await worker.poll()
    assert again["run"] == "run-1"


# --- Once, or in doubt ------------------------------------------------------------------------


async def test_what_must_not_be_repeated_counts_as_begun_when_it_is_given(office: Office) -> None:
    worker = await outside(office)
    await put(office, repeat="no")
    history(office, scheduled())
    [task] = await worker.poll()
    await office.handing.lapse()
    assert await worker.poll() == [], "nobody is given it a second time"
    [outcome] = office.engine.heard
    assert isinstance(outcome, StepInDoubt)
    assert task["lease"]


async def test_a_worker_that_says_when_it_begins_may_die_before(office: Office) -> None:
    worker = await outside(office)
    await put(office, repeat="no")
    history(office, scheduled())
    [first] = await worker.poll(begins=True)
    await office.handing.lapse()
    [second] = await worker.poll(begins=True)
    assert (await worker.say("begin", {"lease": second["lease"]})).json == {"begun": True}
    assert (await worker.say("begin", {"lease": second["lease"]})).json == {"begun": True}, "said again"
    assert (await worker.say("begin", {"lease": first["lease"]})).json == {"begun": False}
    await office.handing.lapse()
    assert await worker.poll(begins=True) == []
    [outcome] = office.engine.heard
    assert isinstance(outcome, StepInDoubt)


async def test_that_nothing_happened_is_believed_only_of_who_keeps_others_from_it(office: Office) -> None:
    worker = await outside(office)
    await put(office, repeat="no")
    history(office, scheduled())
    [first] = await worker.poll(begins=True)
    await office.handing.lapse()
    [second] = await worker.poll(begins=True)
    # The first denies: from then on the second may not begin.
    await worker.report(first["lease"], kind="failed", message="no such image")
    assert isinstance(office.engine.heard[-1], StepBroken)
    assert (await worker.say("begin", {"lease": second["lease"]})).json == {"begun": False}
    await worker.report(second["lease"], kind="failed", message="I did nothing")
    assert isinstance(office.engine.heard[-1], StepInDoubt)


@pytest.mark.parametrize(
    ("repeat", "begins", "report", "wanted"),
    [
        ("no", True, {"kind": "failed", "message": "x", "touched": True}, StepInDoubt),
        ("no", True, {"kind": "failed", "message": "x"}, StepBroken),
        ("no", True, {"kind": "in_doubt", "message": "x"}, StepInDoubt),
        ("no", True, {"kind": "gave_back"}, StepInDoubt),
        ("no", True, {"kind": "let_go", "effect": "none"}, StepLetGo),
        ("yes", False, {"kind": "failed", "message": "x", "touched": True}, StepBroken),
        ("yes", False, {"kind": "in_doubt", "message": "x"}, StepBroken),
        ("by-key", False, {"kind": "let_go", "effect": "possible"}, StepLetGo),
    ],
)
async def test_what_a_report_means_depends_on_the_promise(
    office: Office, repeat: str, begins: bool, report: Any, wanted: Any
) -> None:
    worker = await outside(office)
    await put(office, repeat=repeat)
    [task] = await worker.poll(begins=begins)
    if begins:
        await worker.say("begin", {"lease": task["lease"]})
    assert (await worker.report(task["lease"], **report)).status == 200
    assert type(office.engine.heard[-1]) is wanted


async def test_what_is_marked_of_an_output_is_sealed_for_its_run_before_anything_is_told(
    office: Office,
) -> None:
    worker = await outside(office)
    await put(office, sensitive=("/card",))
    [task] = await worker.poll()
    output = {"card": "CANARY", "large": "CANARY" * 20_000, "n": 1}
    assert (
        await worker.report(task["lease"], kind="succeeded", output={"card": "CANARY", "n": 1})
    ).status == 200
    done = office.engine.heard[-1]
    assert isinstance(done, StepDone)
    assert b"CANARY" not in encode(done)
    assert isinstance(done.output, Inline)
    opener = await office.vault.opener("org_default", done.run, f"salt_{done.run}")
    assert open_document(json.loads(bytes(done.output.value)), opener) == {"card": "CANARY", "n": 1}
    await put(office, number=2, sensitive=("",))
    [task] = await worker.poll()
    assert (await worker.report(task["lease"], kind="succeeded", output=output)).status == 200
    assert b"CANARY" not in b"".join(office.blobs.kept.values())


@pytest.mark.parametrize(
    "report",
    [
        {"kind": "failed", "message": "CANARY"},
        {"kind": "failed", "message": "CANARY", "touched": True},
        {"kind": "in_doubt", "message": "CANARY"},
        {"kind": "let_go", "effect": "none", "message": "CANARY"},
    ],
)
async def test_a_worker_that_brings_nothing_of_what_is_marked_is_not_quoted(
    office: Office, report: Any
) -> None:
    worker = await outside(office)
    await put(office, repeat="no", sensitive=("/card",))
    [task] = await worker.poll(begins=True)
    await worker.say("begin", {"lease": task["lease"]})
    assert (await worker.report(task["lease"], **report)).status == 200
    told = encode(office.engine.heard[-1])
    assert (b"CANARY" in told, WITHHELD.encode() in told) == (False, True)


async def test_what_was_claimed_by_an_executor_is_not_given(office: Office) -> None:
    worker = await outside(office)
    claimed_by(office, "executor:1.1")
    await put(office, repeat="no")
    assert await worker.poll() == []
    assert isinstance(office.engine.heard[-1], StepInDoubt)


async def test_an_echo_is_not_given_and_its_run_is_looked_at(office: Office) -> None:
    worker = await outside(office)
    history(office, scheduled())
    history(office, StepReported(step="call", attempt=1, output=Inline(value=Raw(b"1"))))
    await put(office, times=1)
    assert await worker.poll() == []
    assert isinstance(office.engine.heard[-1], Look)
    assert len(office.handing.done_with) == 1


async def test_a_report_that_comes_too_late_is_told_so(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    [task] = await worker.poll()
    office.engine.answer_with = Answer(run="", result="nothing")
    assert (await worker.report(task["lease"], kind="succeeded", output=1)).json == {"result": "lost"}


async def test_a_report_that_nobody_takes_is_not_accepted_and_the_task_stays(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    [task] = await worker.poll()
    office.engine.away = True

    async def no_inbox(_number: int, _bundle: bytes) -> None:
        raise Away("INBOX")

    office.engine.put = no_inbox  # type: ignore[method-assign]  # INBOX is away, too.
    assert (await worker.report(task["lease"], kind="succeeded", output=1)).status == 503
    assert not office.handing.done_with
    office.engine.away = False
    assert (await worker.report(task["lease"], kind="succeeded", output=1)).status == 200


# --- Keeping --------------------------------------------------------------------------------------


async def test_a_lease_is_kept_and_what_nobody_wants_is_told(office: Office) -> None:
    worker = await outside(office)
    for number in (1, 2, 3):
        await put(office, number)
        history(office, scheduled(), number=number)
    tasks = await worker.poll(most=3)
    leases = [task["lease"] for task in tasks]
    assert (await worker.say("keep", {"leases": leases})).json == {"gone": [], "lease_s": 30.0}
    assert len(office.handing.kept) == 3
    office.signals.publish(
        cancel("org_default", "run-2"),
        encode(CancelAttempts(org="org_default", run="run-2", attempts=(("call", 1),))),
    )
    history(office, RunCompleted(output=Inline(value=Raw(b"1"))), number=3)
    told = (await worker.say("keep", {"leases": leases})).json["gone"]
    assert [(leases.index(each["lease"]) + 1, each["why"]) for each in told] == [
        (2, "cancelled"),
        (3, "ended"),
    ]
    await worker.report(leases[1], kind="let_go", effect="none")
    assert isinstance(office.engine.heard[-1], StepLetGo)


async def test_an_attempt_that_takes_too_long_is_told_for_its_worker(office: Office) -> None:
    worker = await outside(office)
    await put(office, 1, repeat="yes")
    await put(office, 2, repeat="no")
    for number in (1, 2):
        history(office, scheduled(), number=number)
    leases = [task["lease"] for task in await worker.poll(most=2)]
    office.clock.moved += 61
    told = (await worker.say("keep", {"leases": leases})).json["gone"]
    assert [each["why"] for each in told] == ["late", "late"]
    first, second = office.engine.heard
    assert isinstance(first, StepBroken)
    assert first.error.code == "attempt.timeout"
    assert first.error.retryable
    assert isinstance(second, StepInDoubt)


async def test_a_gateway_that_was_away_looks_what_became_of_an_attempt(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    history(office, scheduled())
    [task] = await worker.poll()
    history(office, StepReported(step="call", attempt=1, output=Inline(value=Raw(b"1"))))
    history(office, StepReported(step="other", attempt=1, output=Inline(value=Raw(b"1"))))
    keeping = {"leases": [task["lease"]]}
    assert (await worker.say("keep", keeping)).json["gone"] == [], "the newest commit does not say it"
    office.handing.connected_since = 4_000_000_000.0
    assert [each["why"] for each in (await worker.say("keep", keeping)).json["gone"]] == ["ended"]


async def test_an_attempt_that_was_cancelled_before_it_was_given_is_let_go(office: Office) -> None:
    worker = await outside(office)
    office.signals.publish(
        cancel("org_default", "run-1"),
        encode(CancelAttempts(org="org_default", run="run-1", attempts=(("call", 1),))),
    )
    await put(office)
    assert await worker.poll() == []
    [outcome] = office.engine.heard
    assert isinstance(outcome, StepLetGo)
    assert outcome.effect == "none"


# --- What cannot be given -------------------------------------------------------------------------


async def test_a_type_that_the_pool_does_not_offer_is_told_so(office: Office) -> None:
    worker = await outside(office)
    await put(office, node_type="http.request")
    assert await worker.poll() == []
    [outcome] = office.engine.heard
    assert isinstance(outcome, StepBroken)
    assert outcome.error.code == "workflow.unknown_node_type"


async def test_a_configuration_that_is_gone_or_too_large_fails_the_attempt(office: Office) -> None:
    worker = await outside(office)
    await put(office, 1, config=Blob(sha256="0" * 64, size=10))
    await put(office, 2, config=Blob(sha256="1" * 64, size=WORKER_INPUT_BYTES + 1))
    assert await worker.poll(most=2) == []
    codes = [outcome.error.code for outcome in office.engine.heard if isinstance(outcome, StepBroken)]
    assert codes == ["payload.missing", "payload.too_large"]


async def test_one_answer_has_so_many_bytes_and_the_rest_is_for_the_next(office: Office) -> None:
    worker = await outside(office)
    for number in range(3):
        config = encode({"width": number, "text": "x" * (WORKER_INPUT_BYTES // 2)})
        await put(office, number, config=await office.blobs.put(config))
        history(office, scheduled(), number=number)
    assert len(await worker.poll(most=3)) == 1
    assert len(office.handing.given_back) == 2
    assert len(await worker.poll(most=3)) == 1


async def test_a_task_that_cannot_be_read_is_kept_where_people_look(office: Office) -> None:
    worker = await outside(office)
    await office.handing.put(POOL, "org_default", b"poison")
    assert await worker.poll() == []
    assert office.letters.letters == [("dlq.TASKS.org_default._", b"poison")]
    assert len(office.handing.done_with) == 1


async def test_what_fails_in_the_middle_is_there_for_others(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    office.vault.away = True
    reply = await worker.say("poll", {"wait_s": 0})
    assert reply.status == 503
    office.vault.away = False
    office.handing.given_back.clear()
    assert len(await worker.poll()) == 1


async def test_an_output_that_no_history_can_keep_is_refused(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    [task] = await worker.poll()
    reply = await worker.report(task["lease"], kind="succeeded", output=1, ports=["nowhere"])
    assert (reply.status, reply.json["code"]) == (400, "malformed")
    body = f'{{"lease":"{task["lease"]}","report":{{"kind":"succeeded","output":{"[" * 65 + "]" * 65}}}}}'
    assert (await office.api("POST", "/worker/report", key=worker.token, raw=body.encode())).status == 400
    assert not office.engine.heard


async def test_bytes_that_the_configuration_names_are_fetched_and_no_others(office: Office) -> None:
    worker = await outside(office)
    image, other = await office.blobs.put(b"\x89PNG", "image/png"), await office.blobs.put(b"another's")
    large = Blob(sha256="2" * 64, size=WORKER_INPUT_BYTES + 1)
    gone = Blob(sha256="3" * 64, size=5)
    named = [{"blob": msgspec.to_builtins(each)} for each in (image, large, gone)]
    config = Inline(value=Raw(encode({"width": 1, "images": [{"deep": named}], "blob": "no reference"})))
    await put(office, config=config)
    lies_there(office, a_task(config=config))
    [task] = await worker.poll()

    async def fetched(sha256: str, asks: Outside = worker) -> Reply:
        return await asks.say("fetch", {"lease": task["lease"], "sha256": sha256})

    told = await fetched(image.sha256)
    assert (told.status, told.json) == (200, {"content_type": "image/png", "data": "iVBORw=="})
    assert (await fetched(other.sha256)).status == 404
    assert (await fetched(large.sha256)).status == 413
    assert ((await fetched(gone.sha256)).json["code"]) == "payload.missing"
    stranger = await outside(office, POOL, "other")
    assert (await fetched(image.sha256, stranger)).status == 404
    office.tasks_log.messages.clear()
    assert (await fetched(image.sha256)).status == 404, "the attempt has ended"


# --- Who may ask --------------------------------------------------------------------------------------


async def test_a_token_opens_its_pool_and_nothing_else(office: Office) -> None:
    issued = await office.api("POST", f"/pools/{POOL}/tokens", {"name": "gpu box"})
    assert issued.status == 201, issued.body
    token = issued.json["key"]
    for method, path in (("GET", "/workflows"), ("GET", "/pools"), ("GET", "/keys"), ("GET", "/node-types")):
        assert (await office.api(method, path, key=token)).status == 403
    assert (await office.api("POST", "/worker/types", {"specs": [RESIZE]}, key=token)).json["pool"] == POOL
    listed = (await office.api("GET", "/keys")).json["items"]
    [key] = [each for each in listed if each["id"] == issued.json["id"]]
    assert key["scopes"] == [f"pool:{POOL}", "workers:serve"]
    await office.api("DELETE", f"/keys/{issued.json['id']}")
    assert (await office.api("POST", "/worker/poll", {"wait_s": 0}, key=token)).status == 401


async def test_a_key_without_a_pool_or_with_two_is_no_token(office: Office) -> None:
    two = await office.key_for("org_default", ("workers:serve", "pool:ext-a", "pool:ext-b"))
    for key in (office.key, two):
        reply = await office.api("POST", "/worker/poll", {"wait_s": 0}, key=key)
        assert (reply.status, reply.json["code"]) == (403, "forbidden")


async def test_who_may_not_say_what_is_done_with_pools_makes_no_token(office: Office) -> None:
    clerk = await office.key_for("org_default", sorted(SCOPES - {"pools:write"}))
    assert (await office.api("POST", f"/pools/{POOL}/tokens", {"name": "x"}, key=clerk)).status == 403
    wanted = {"name": "x", "scopes": [f"pool:{POOL}", "workers:serve"]}
    assert (await office.api("POST", "/keys", wanted, key=clerk)).status == 403
    assert (await office.api("POST", "/keys", wanted)).status == 201
    for pool in ("default", "ext-", "ext-" + "x" * 40, "ext_a"):
        assert (await office.api("POST", f"/pools/{pool}/tokens", {"name": "x"})).status in (400, 404)


async def test_a_lease_means_nothing_to_another_pool_or_org(office: Office) -> None:
    worker = await outside(office)
    await put(office)
    [task] = await worker.poll()
    other_pool = await outside(office, "ext-other", "org_default", RESIZE | {"type": "work.other"})
    other_org = await outside(office, POOL, "other")
    changed = task["lease"][:-2] + ("AA" if task["lease"][-2:] != "AA" else "BB")
    for stranger, lease in ((other_pool, task["lease"]), (other_org, task["lease"]), (worker, changed)):
        for reply in (
            await stranger.say("begin", {"lease": lease}),
            await stranger.say("keep", {"leases": [lease]}),
            await stranger.report(lease, kind="succeeded", output=1),
        ):
            assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert not office.engine.heard
    assert await other_org.poll() == [] == await other_pool.poll()


async def test_a_worker_asks_only_after_it_has_announced(office: Office) -> None:
    token = await office.key_for("org_default", token_scopes("ext-silent"))
    reply = await office.api("POST", "/worker/poll", {"wait_s": 0}, key=token)
    assert (reply.status, reply.json["code"]) == (409, "worker.not_announced")


async def test_so_many_may_wait_at_once(office: Office) -> None:
    worker = await outside(office)
    waiting = [
        asyncio.get_running_loop().create_task(worker.say("poll", {"wait_s": 5})) for _ in range(WORKER_POLLS)
    ]
    await waits(office, WORKER_POLLS)
    one_more = await worker.say("poll", {"wait_s": 0})
    assert (one_more.status, one_more.headers["retry-after"]) == (429, "1")
    office.desk.close()
    for each in waiting:
        assert (await each).json == {"tasks": []}


async def test_a_worker_that_has_gone_is_given_nothing(office: Office) -> None:
    from tests.gateway.fakes import Exchange, scope_of

    worker = await outside(office)
    exchange = Exchange(json.dumps({"wait_s": 20}).encode())
    headers = {"authorization": f"Bearer {worker.token}", "content-type": "application/json"}
    scope = scope_of("POST", "/api/v1/worker/poll", headers, exchange.cut)
    asking = asyncio.get_running_loop().create_task(office.app(scope, exchange.receive, exchange.send))  # type: ignore[arg-type]  # A coroutine.
    await waits(office, 1)
    exchange.cut()
    await asyncio.wait_for(asking, 15)
    assert office.desk.waiting == 0
    await put(office)
    assert not office.handing.held


# --- What may be announced ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"type": "http.request"}, "/specs/0/type"),
        ({"type": "work"}, "/specs/0/type"),
        ({"config": {"type": "string"}}, "/specs/0/config/type"),
        ({"config": {"type": "object", "properties": {"a": {"pattern": "(a+)+$"}}}}, "/specs/0/config/properties/a/pattern"),
        ({"config": {"type": "object", "$ref": "http://127.0.0.1/"}}, "/specs/0/config/$ref"),
        (
            {"config": {"type": "object", "properties": {"key": {"type": "object", "x-secret": True}}}},
            "/specs/0/config/properties/key/x-secret",
        ),
        ({"config": {"type": "object", "properties": {"a": {"items": {"items": {"type": "x"}}}}}}, "/specs/0/config/properties/a/items/items/type"),
        ({"config": {"type": "object", "properties": {str(n): {} for n in range(501)}}}, "/specs/0/config"),
        ({"config": {"type": "object", "title": "x" * 70_000}}, "/specs/0/config"),
        ({"outputs_from": "/cases"}, "/specs/0/outputs_from"),
    ],
)  # fmt: skip
async def test_a_type_that_may_not_be_offered_is_refused_with_its_place(
    office: Office, change: Any, pointer: str
) -> None:
    token = await office.key_for("org_default", token_scopes(POOL))
    reply = await office.api("POST", "/worker/types", {"specs": [RESIZE | change]}, key=token)
    assert (reply.status, reply.json["code"]) == (422, "worker.bad_types")
    assert pointer in [each["pointer"] for each in reply.json["errors"]]


async def test_a_type_is_offered_by_one_pool(office: Office) -> None:
    await outside(office)
    token = await office.key_for("org_default", token_scopes("ext-other"))
    reply = await office.api("POST", "/worker/types", {"specs": [RESIZE]}, key=token)
    assert (reply.status, reply.json["code"]) == (409, "conflict")
    assert (await office.api("POST", "/worker/types", {"specs": [RESIZE, RESIZE]}, key=token)).status == 422


async def test_a_pool_of_the_type_is_its_own_whatever_it_says(office: Office) -> None:
    await outside(office, POOL, "org_default", RESIZE | {"pool": "default", "place": "orchestrator"})
    told = (await office.api("GET", "/node-types/work.resize")).json
    assert (told["pool"], told.get("place", "executor")) == (POOL, "executor")
