"""Test runs and cases over HTTP."""

from datetime import UTC, datetime
from typing import Any, Final

from litestar import Request, Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler

from contracts.cases import Outline
from gateway.callers import Caller
from gateway.cases.store import Cases
from gateway.cases.trying import Trying
from gateway.cases.values import shown
from gateway.cases.views import (
    CaseList,
    CaseView,
    KeepCase,
    KeptCase,
    RecordCase,
    RunCase,
    SampleList,
    SampleView,
    StartedTest,
    StartTest,
    Verdict,
)
from gateway.parameters import IdempotencyKey, checked_key
from gateway.runs.routes import told
from gateway.triggers.redelivery import Redelivery


@post("/workflows/{workflow_id:str}/tests", status_code=202)
async def start_test(
    caller: NamedDependency[Caller],
    trying: NamedDependency[Trying],
    request: Request[Any, Any, Any],
    workflow_id: FromPath[str],
    data: JSONBody[StartTest],
    idempotency_key: IdempotencyKey = None,
) -> Response[StartedTest]:
    """Try a version out, published or not: the whole of it, or a part, with pins for what is not to be done.

    What is not pinned really acts; the answer says which nodes do. The run is marked as a test and can be watched like any.
    """
    key = checked_key(idempotency_key)
    started = await trying.start(caller, workflow_id, data, key, await request.body())
    return told(started, started.status)


@post("/workflows/{workflow_id:str}/tests/outline", status_code=200)
async def outline_test(
    caller: NamedDependency[Caller],
    trying: NamedDependency[Trying],
    workflow_id: FromPath[str],
    data: JSONBody[StartTest],
) -> Outline:
    """Which nodes would act, which would be decided, which are pinned and which left out. Nothing runs."""
    return await trying.outline(caller, workflow_id, data)


@get("/workflows/{workflow_id:str}/cases")
async def list_cases(
    caller: NamedDependency[Caller], cases: NamedDependency[Cases], workflow_id: FromPath[str]
) -> CaseList:
    """The workflow's test cases, by name."""
    return await cases.list(caller.org, workflow_id)


@post("/workflows/{workflow_id:str}/cases")
async def record_case(
    caller: NamedDependency[Caller],
    cases: NamedDependency[Cases],
    workflow_id: FromPath[str],
    data: JSONBody[RecordCase],
) -> KeptCase:
    """Make a case of a run that has ended. Its nodes that act are pinned to what came of them then."""
    return await cases.record(caller, workflow_id, data)


@get("/workflows/{workflow_id:str}/cases/{case_name:str}")
async def get_case(
    caller: NamedDependency[Caller],
    cases: NamedDependency[Cases],
    workflow_id: FromPath[str],
    case_name: FromPath[str],
) -> CaseView:
    """One case, whole."""
    return await cases.get(caller.org, workflow_id, case_name)


@put("/workflows/{workflow_id:str}/cases/{case_name:str}")
async def keep_case(
    caller: NamedDependency[Caller],
    cases: NamedDependency[Cases],
    workflow_id: FromPath[str],
    case_name: FromPath[str],
    data: JSONBody[KeepCase],
) -> KeptCase:
    """Write a case, or change what is named of one."""
    return await cases.keep(caller, workflow_id, case_name, data)


@delete("/workflows/{workflow_id:str}/cases/{case_name:str}")
async def remove_case(
    caller: NamedDependency[Caller],
    cases: NamedDependency[Cases],
    workflow_id: FromPath[str],
    case_name: FromPath[str],
) -> None:
    """Remove a case. What was kept of it stays in the workflow's history."""
    await cases.remove(caller, workflow_id, case_name)


@post("/workflows/{workflow_id:str}/cases/{case_name:str}/runs", status_code=202)
async def run_case(
    caller: NamedDependency[Caller],
    cases: NamedDependency[Cases],
    workflow_id: FromPath[str],
    case_name: FromPath[str],
    data: JSONBody[RunCase],
) -> Response[StartedTest]:
    """Run a case."""
    started = await cases.start(caller, workflow_id, case_name, data.version)
    return told(started, started.status)


@get("/workflows/{workflow_id:str}/cases/{case_name:str}/runs/{run_id:str}")
async def judge_case(
    caller: NamedDependency[Caller],
    cases: NamedDependency[Cases],
    workflow_id: FromPath[str],
    case_name: FromPath[str],
    run_id: FromPath[str],
) -> Verdict:
    """What came of a run of a case: it goes on, or everything is as expected, or what is not."""
    return await cases.verdict(caller.org, workflow_id, case_name, run_id)


@get("/triggers/{trigger_id:str}/samples")
async def list_samples(
    caller: NamedDependency[Caller],
    redelivery: NamedDependency[Redelivery],
    trigger_id: FromPath[str],
) -> SampleList:
    """What was captured at the trigger's test address last, the newest first: a test may start with it."""
    captured = await redelivery.samples(caller.org, trigger_id)
    return SampleList(
        items=[
            SampleView(
                receipt=each.receipt,
                time=datetime.fromtimestamp(each.time, UTC),
                method=each.method,
                size=each.size,
                trigger=shown(each.body),
            )
            for each in captured
        ]
    )


ROUTES: Final[list[ControllerRouterHandler]] = [
    start_test,
    outline_test,
    list_cases,
    record_case,
    get_case,
    keep_case,
    remove_case,
    run_case,
    judge_case,
    list_samples,
]
