"""The gateway's HTTP app: routes, and the layers in front of them."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from litestar import Litestar, Request, Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from chassis.edge.guard import Guard
from chassis.edge.problems import Problem
from chassis.http import App, Ready, Receive, Scope, Send, health_answer
from chassis.telemetry import Metrics, Tracer
from gateway import docs
from gateway.apis.routes import ROUTES as API_ROUTES
from gateway.apis.store import Apis
from gateway.approvals.queries import ApprovalQueries
from gateway.approvals.routes import ROUTES as APPROVAL_ROUTES
from gateway.approvals.store import Approvals
from gateway.authentication import Authentication, Callers, WholeBody, permitted
from gateway.callers import Caller
from gateway.cases.routes import ROUTES as CASE_ROUTES
from gateway.cases.store import Cases
from gateway.cases.trying import Trying
from gateway.commands import Command
from gateway.domain import Domain
from gateway.gates.queries import GateQueries
from gateway.gates.routes import ROUTES as GATE_ROUTES
from gateway.keys.routes import ROUTES as KEY_ROUTES
from gateway.keys.store import Keys
from gateway.live.streams import Live
from gateway.logs.live import LogStreams
from gateway.logs.reading import Logs
from gateway.logs.routes import ROUTES as LOG_ROUTES
from gateway.logs.search import LogSearch
from gateway.nodes.routes import ROUTES as NODE_ROUTES
from gateway.nodes.routes import Catalogue
from gateway.openapi import document, operations
from gateway.orgs.routes import ROUTES as ORG_ROUTES
from gateway.pauses.routes import ROUTES as PAUSE_ROUTES
from gateway.pauses.store import OrgPauses
from gateway.permissions import API
from gateway.places import HEADER, Places
from gateway.pools.routes import ROUTES as POOL_ROUTES
from gateway.pools.store import Pools
from gateway.ports.routes import ROUTES as PORT_ROUTES
from gateway.ports.store import Ports
from gateway.problems import HANDLERS
from gateway.runs.histories import Histories
from gateway.runs.inspection import Inspector
from gateway.runs.queries import RunQueries
from gateway.runs.routes import ROUTES as RUN_ROUTES
from gateway.runs.routes import Reading
from gateway.runs.store import Runs
from gateway.secrets.routes import ROUTES as SECRET_ROUTES
from gateway.secrets.store import Secrets
from gateway.triggers.queries import TriggerQueries
from gateway.triggers.redelivery import Redelivery
from gateway.triggers.retroactive import Retroactive
from gateway.triggers.routes import ROUTES as TRIGGER_ROUTES
from gateway.triggers.store import Triggers
from gateway.triggers.trials import Trials
from gateway.workers.desk import Desk
from gateway.workers.routes import ROUTES as WORKER_ROUTES
from gateway.workers.types import Types
from gateway.workflows.queries import WorkflowQueries
from gateway.workflows.routes import ROUTES as WORKFLOW_ROUTES
from gateway.workflows.store import Workflows

ROUTES: Final[list[ControllerRouterHandler]] = [
    *WORKFLOW_ROUTES,
    *CASE_ROUTES,
    *TRIGGER_ROUTES,
    *RUN_ROUTES,
    *APPROVAL_ROUTES,
    *PORT_ROUTES,
    *LOG_ROUTES,
    *NODE_ROUTES,
    *API_ROUTES,
    *POOL_ROUTES,
    *WORKER_ROUTES,
    *ORG_ROUTES,
    *PAUSE_ROUTES,
    *GATE_ROUTES,
    *SECRET_ROUTES,
    *KEY_ROUTES,
]


class Parts(Struct, frozen=True, kw_only=True):
    """What the routes work with; a handler names the ones it wants as parameters."""

    domain: Domain
    places: Places
    workflows: Workflows
    workflow_queries: WorkflowQueries
    trying: Trying
    cases: Cases
    triggers: Triggers
    trigger_queries: TriggerQueries
    redelivery: Redelivery
    retroactive: Retroactive
    trials: Trials
    runs: Runs
    run_queries: RunQueries
    reading: Reading
    approvals: Approvals
    approval_queries: ApprovalQueries
    gate_queries: GateQueries
    ports: Ports
    histories: Histories
    inspector: Inspector
    logs: Logs
    log_streams: LogStreams
    log_search: LogSearch
    live: Live
    secrets: Secrets
    keys: Keys
    catalogue: Catalogue
    apis: Apis
    pools: Pools
    desk: Desk
    worker_types: Types
    pauses: OrgPauses


@get("/healthz", include_in_schema=False)
async def get_health(probes: "NamedDependency[Probes]") -> Response[bytes]:
    """Alive."""
    return await probes.answer("/healthz")


@get("/readyz", include_in_schema=False)
async def get_readiness(probes: "NamedDependency[Probes]") -> Response[bytes]:
    """Ready, or why not."""
    return await probes.answer("/readyz")


@get("/metrics", include_in_schema=False)
async def get_metrics(probes: "NamedDependency[Probes]") -> Response[bytes]:
    """Figures for Prometheus."""
    return await probes.answer("/metrics")


class Probes:
    """What operators look at."""

    def __init__(self, ready: Ready, metrics: Metrics, notes: Sequence[str] = ()) -> None:
        self._ready, self._metrics, self._notes = ready, metrics, notes

    async def answer(self, path: str) -> Response[bytes]:
        answer = await health_answer(path, self._ready, self._metrics, self._notes)
        if answer is None:
            raise Problem("not_found")
        status, content_type, body = answer
        return Response(body, status_code=status, media_type=content_type.decode())


_WRITES: Final = frozenset({"POST", "PUT", "DELETE"})
_POSITION: Final = HEADER.lower().encode()


class WithParts:
    """Puts the parts beside each request, where the routes' parameters are filled from; tells writers where they wrote."""

    def __init__(self, app: App, parts: Parts, probes: Probes) -> None:
        self._app, self._places = app, parts.places
        self._given = {name: getattr(parts, name) for name in parts.__struct_fields__} | {"probes": probes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["state"]["parts"] = self._given
        if scope["method"] not in _WRITES or "caller" not in scope["state"]:
            await self._app(scope, receive, send)
            return
        org = scope["state"]["caller"].org

        async def telling(message: Any) -> None:
            if message["type"] == "http.response.start" and (position := self._places.header(org)):
                message["headers"] = [*message.get("headers", ()), (_POSITION, position.encode())]
            await send(message)

        await self._app(scope, receive, telling)


def framework(release: str) -> Litestar:
    """The routes alone: what they work with comes with each request."""

    @cache
    def told() -> docs.Reference:
        """Drawn when somebody first asks: a service that starts has better things to do."""
        return docs.reference(document(operations(app), release))

    app = Litestar(
        route_handlers=[
            Router(path=API, route_handlers=ROUTES, dto=Command, return_dto=None),
            *docs.ROUTES,
            get_health,
            get_readiness,
            get_metrics,
        ],
        dependencies={
            "caller": Provide(_caller, sync_to_thread=False),
            "docs": Provide(told, sync_to_thread=False),
            **{name: _given(name) for name in (*Parts.__struct_fields__, "probes")},
        },
        guards=[permitted],
        exception_handlers=HANDLERS,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )
    return app


def gateway_app(  # noqa: PLR0913  # The composition root names every part once.
    routes: App,
    parts: Parts,
    *,
    callers: Callers,
    ready: Ready,
    metrics: Metrics,
    tracer: Tracer,
    notes: Sequence[str] = (),
    trusted_proxies: int = 0,
) -> Guard:
    """Everything, outermost first: guard, authentication, rate limit, the body, the routes."""
    inner = WithParts(WholeBody(routes), parts, Probes(ready, metrics, notes))
    guard = Guard(Authentication(inner, callers), tracer=tracer, trusted_proxies=trusted_proxies)
    metrics.counters("gateway_answers_total", "Answers by class of status.", "status", lambda: guard.answers)
    metrics.gauge(
        "gateway_requests_under_way", "Requests that are not answered yet.", lambda: guard.under_way
    )
    metrics.counter("gateway_keys_refused_total", "Calls without a valid key.", lambda: callers.refused)
    return guard


def _given(name: str) -> Provide:
    def part(request: Request[Any, Any, Any]) -> Any:
        return request.scope["state"]["parts"][name]

    return Provide(part, sync_to_thread=False)


def _caller(request: Request[Any, Any, Any]) -> Caller:
    caller: Caller = request.scope["state"]["caller"]
    return caller


def contract(release: str) -> dict[str, Any]:
    """The OpenAPI document of this code."""
    return document(operations(framework(release)), release)
