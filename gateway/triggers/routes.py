"""Triggers and their deliveries over HTTP."""

from typing import Annotated, Final, Literal

from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.types import ControllerRouterHandler

from contracts.limits import FIRES_SHOWN
from contracts.subjects import DOMAIN, RUNS
from gateway.callers import Caller
from gateway.pages import DEFAULT_ROWS, Page
from gateway.parameters import Cursor, IdempotencyKey, Limit, checked_key
from gateway.places import Places
from gateway.runs.routes import told
from gateway.runs.views import StartedRun
from gateway.triggers.queries import TriggerQueries
from gateway.triggers.redelivery import Redelivery
from gateway.triggers.retroactive import Retroactive
from gateway.triggers.store import Triggers
from gateway.triggers.trials import Trials
from gateway.triggers.views import (
    Address,
    ChangedTrigger,
    ChangeTrigger,
    Coming,
    CreatedTrigger,
    CreateTrigger,
    DeliveryView,
    PreviewSchedule,
    RanAgain,
    RotatedSecret,
    RotateTriggerSecret,
    RunAgain,
    TestedTrigger,
    TestTrigger,
    TriggerView,
)

Result = Literal["accepted", "duplicate", "refused", "unmatched", "captured", "missed"]


@get("/triggers")
async def list_triggers(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    trigger_queries: NamedDependency[TriggerQueries],
    workflow: Annotated[str | None, QueryParameter(max_length=64)] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[TriggerView]:
    """The org's triggers, the newest first."""
    await places.caught_up(caller, DOMAIN)
    return await trigger_queries.list(caller.org, workflow, cursor, limit)


@post("/triggers")
async def create_trigger(
    caller: NamedDependency[Caller], triggers: NamedDependency[Triggers], data: JSONBody[CreateTrigger]
) -> CreatedTrigger:
    """Create an address or a schedule. An address' URLs and a secret that is made for it are told this once."""
    return await triggers.create(caller, data)


@get("/triggers/{trigger_id:str}")
async def get_trigger(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    trigger_queries: NamedDependency[TriggerQueries],
    trigger_id: FromPath[str],
) -> TriggerView:
    """One trigger."""
    await places.caught_up(caller, DOMAIN)
    return await trigger_queries.get(caller.org, trigger_id)


@put("/triggers/{trigger_id:str}")
async def change_trigger(
    caller: NamedDependency[Caller],
    triggers: NamedDependency[Triggers],
    trigger_id: FromPath[str],
    data: JSONBody[ChangeTrigger],
) -> ChangedTrigger:
    """Replace its settings. The address stays."""
    return await triggers.change(caller, trigger_id, data)


@post("/triggers/preview-schedule", status_code=200)
async def preview_schedule(
    caller: NamedDependency[Caller],
    triggers: NamedDependency[Triggers],
    data: JSONBody[PreviewSchedule],
) -> Coming:
    """When would a schedule fire? Nothing is stored."""
    return triggers.preview(data)


@get("/triggers/{trigger_id:str}/coming")
async def list_coming(
    caller: NamedDependency[Caller],
    triggers: NamedDependency[Triggers],
    trigger_id: FromPath[str],
    count: Annotated[int, QueryParameter(ge=1, le=FIRES_SHOWN)] = 10,
) -> Coming:
    """When a schedule will fire next."""
    return await triggers.coming(caller.org, trigger_id, count)


@delete("/triggers/{trigger_id:str}")
async def delete_trigger(
    caller: NamedDependency[Caller], triggers: NamedDependency[Triggers], trigger_id: FromPath[str]
) -> None:
    """Delete it: its address answers 404 from now on; a schedule fires no more."""
    await triggers.delete(caller, trigger_id)


@post("/triggers/{trigger_id:str}/enable", status_code=204)
async def enable_trigger(
    caller: NamedDependency[Caller], triggers: NamedDependency[Triggers], trigger_id: FromPath[str]
) -> None:
    """Take deliveries again, or fire again. What a schedule would have fired meanwhile was not missed."""
    await triggers.enable(caller, trigger_id)


@post("/triggers/{trigger_id:str}/disable", status_code=204)
async def disable_trigger(
    caller: NamedDependency[Caller], triggers: NamedDependency[Triggers], trigger_id: FromPath[str]
) -> None:
    """Take no deliveries: the address answers 404 until it is enabled. A schedule does not fire."""
    await triggers.disable(caller, trigger_id)


@post("/triggers/{trigger_id:str}/rotate-token", status_code=200)
async def rotate_trigger_token(
    caller: NamedDependency[Caller], triggers: NamedDependency[Triggers], trigger_id: FromPath[str]
) -> Address:
    """New addresses; the old ones answer 404 at once."""
    return await triggers.rotate_token(caller, trigger_id)


@post("/triggers/{trigger_id:str}/rotate-secret", status_code=200)
async def rotate_trigger_secret(
    caller: NamedDependency[Caller],
    triggers: NamedDependency[Triggers],
    trigger_id: FromPath[str],
    data: JSONBody[RotateTriggerSecret],
) -> RotatedSecret:
    """A new secret beside the old one, which is taken for a while longer."""
    return await triggers.rotate_secret(caller, trigger_id, data.value, data.keep_previous_s)


@get("/triggers/{trigger_id:str}/deliveries")
async def list_deliveries(  # noqa: PLR0913  # Filters of a list.
    *,
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    trigger_queries: NamedDependency[TriggerQueries],
    trigger_id: FromPath[str],
    result: FromQuery[Result | None] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_ROWS,
) -> Page[DeliveryView]:
    """What came to its address or was fired, newest first; also duplicates, what was refused and what was missed."""
    await places.caught_up(caller, DOMAIN)
    await places.caught_up(caller, RUNS)
    return await trigger_queries.deliveries(caller.org, trigger_id, result, cursor, limit)


@post("/triggers/{trigger_id:str}/deliveries/{receipt:str}/redeliver", status_code=202)
async def redeliver(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    redelivery: NamedDependency[Redelivery],
    trigger_id: FromPath[str],
    receipt: FromPath[str],
    idempotency_key: IdempotencyKey = None,
) -> Response[StartedRun]:
    """Start a new run with what that delivery brought, by the version that is published now."""
    await places.caught_up(caller, RUNS)
    started = await redelivery.redeliver(caller, trigger_id, receipt, checked_key(idempotency_key))
    return told(started, started.status)


@post("/triggers/{trigger_id:str}/test", status_code=200)
async def test_trigger(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    trials: NamedDependency[Trials],
    trigger_id: FromPath[str],
    data: JSONBody[TestTrigger],
) -> TestedTrigger:
    """Start it once in test mode, with a sample or a recorded delivery; or hear why it would start nothing."""
    await places.caught_up(caller, RUNS)
    return await trials.attempt(caller, trigger_id, data)


@post("/triggers/{trigger_id:str}/run-again", status_code=200)
async def run_again(
    caller: NamedDependency[Caller],
    places: NamedDependency[Places],
    retroactive: NamedDependency[Retroactive],
    trigger_id: FromPath[str],
    data: JSONBody[RunAgain],
) -> RanAgain:
    """Past deliveries through the version that is published now, or another workflow: count them, then run them."""
    await places.caught_up(caller, RUNS)
    return await retroactive.page(caller, trigger_id, data)


ROUTES: Final[list[ControllerRouterHandler]] = [
    list_triggers,
    create_trigger,
    get_trigger,
    change_trigger,
    preview_schedule,
    list_coming,
    delete_trigger,
    enable_trigger,
    disable_trigger,
    rotate_trigger_token,
    rotate_trigger_secret,
    list_deliveries,
    redeliver,
    test_trigger,
    run_again,
]
