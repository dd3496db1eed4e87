"""Who may do what: one table of every route and the scope it asks for. What is not in the table is refused."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from contracts.pools import WORKERS

PUBLIC: Final = ""
"""No key is asked for."""

API: Final = "/api/v1"

_ROUTES: Final[Mapping[str, Mapping[tuple[str, str], str]]] = {
    API: {
        ("GET", "/workflows"): "workflows:read",
        ("POST", "/workflows"): "workflows:write",
        ("POST", "/workflows/validate"): "workflows:read",
        ("GET", "/workflows/{workflow_id}"): "workflows:read",
        ("DELETE", "/workflows/{workflow_id}"): "workflows:write",
        ("PUT", "/workflows/{workflow_id}/name"): "workflows:write",
        ("GET", "/workflows/{workflow_id}/versions"): "workflows:read",
        ("POST", "/workflows/{workflow_id}/versions"): "workflows:write",
        ("GET", "/workflows/{workflow_id}/versions/{version}"): "workflows:read",
        ("POST", "/workflows/{workflow_id}/versions/{version}/validate"): "workflows:read",
        ("POST", "/workflows/{workflow_id}/versions/{version}/publish"): "workflows:publish",
        ("POST", "/workflows/{workflow_id}/tests"): "tests:write",
        ("POST", "/workflows/{workflow_id}/tests/outline"): "tests:read",
        ("GET", "/workflows/{workflow_id}/cases"): "tests:read",
        ("POST", "/workflows/{workflow_id}/cases"): "tests:write",
        ("GET", "/workflows/{workflow_id}/cases/{case_name}"): "tests:read",
        ("PUT", "/workflows/{workflow_id}/cases/{case_name}"): "tests:write",
        ("DELETE", "/workflows/{workflow_id}/cases/{case_name}"): "tests:write",
        ("POST", "/workflows/{workflow_id}/cases/{case_name}/runs"): "tests:write",
        ("GET", "/workflows/{workflow_id}/cases/{case_name}/runs/{run_id}"): "tests:read",
        ("GET", "/triggers"): "triggers:read",
        ("POST", "/triggers"): "triggers:write",
        ("POST", "/triggers/preview-schedule"): "triggers:read",
        ("GET", "/triggers/{trigger_id}"): "triggers:read",
        ("GET", "/triggers/{trigger_id}/coming"): "triggers:read",
        ("PUT", "/triggers/{trigger_id}"): "triggers:write",
        ("DELETE", "/triggers/{trigger_id}"): "triggers:write",
        ("POST", "/triggers/{trigger_id}/enable"): "triggers:write",
        ("POST", "/triggers/{trigger_id}/disable"): "triggers:write",
        ("POST", "/triggers/{trigger_id}/rotate-token"): "triggers:write",
        ("POST", "/triggers/{trigger_id}/rotate-secret"): "triggers:write",
        ("GET", "/triggers/{trigger_id}/deliveries"): "triggers:read",
        ("GET", "/triggers/{trigger_id}/samples"): "triggers:read",
        ("POST", "/triggers/{trigger_id}/deliveries/{receipt}/redeliver"): "runs:write",
        ("POST", "/triggers/{trigger_id}/test"): "tests:write",
        ("POST", "/triggers/{trigger_id}/run-again"): "runs:write",
        ("GET", "/runs"): "runs:read",
        ("POST", "/runs"): "runs:write",
        ("GET", "/runs/{run_id}"): "runs:read",
        ("GET", "/runs/{run_id}/steps"): "runs:read",
        ("GET", "/runs/{run_id}/children"): "runs:read",
        ("GET", "/runs/{run_id}/events"): "runs:read",
        ("GET", "/runs/{run_id}/state"): "runs:read",
        ("GET", "/runs/{run_id}/waiting"): "runs:read",
        ("GET", "/runs/{run_id}/logs"): "runs:read",
        ("GET", "/runs/{run_id}/logs/live"): "runs:read",
        ("GET", "/runs/{run_id}/live"): "runs:read",
        ("POST", "/runs/{run_id}/cancel"): "runs:write",
        ("POST", "/runs/{run_id}/retry"): "runs:write",
        ("POST", "/runs/{run_id}/resolve"): "runs:write",
        ("POST", "/runs/{run_id}/signals"): "runs:write",
        ("GET", "/workflows/{workflow_id}/ports"): "runs:read",
        ("GET", "/approvals"): "approvals:read",
        ("POST", "/approvals/{run_id}/decide"): "approvals:decide",
        ("GET", "/logs"): "runs:read",
        ("GET", "/live"): "runs:read",
        ("GET", "/node-types"): "nodes:read",
        ("GET", "/node-types/{node_type}"): "nodes:read",
        ("GET", "/apis"): "nodes:read",
        ("POST", "/apis"): "nodes:write",
        ("GET", "/apis/{api_name}"): "nodes:read",
        ("DELETE", "/apis/{api_name}"): "nodes:write",
        ("GET", "/apis/{api_name}/versions/{version}"): "nodes:read",
        ("GET", "/pools"): "pools:read",
        ("GET", "/pools/{pool}"): "pools:read",
        ("POST", "/pools/{pool}/pause"): "pools:write",
        ("POST", "/pools/{pool}/resume"): "pools:write",
        ("POST", "/pools/{pool}/executors/{executor}/drain"): "pools:write",
        ("POST", "/pools/{pool}/drain"): "pools:write",
        ("POST", "/pools/{pool}/tokens"): "pools:write",
        ("POST", "/worker/types"): "workers:serve",
        ("POST", "/worker/poll"): "workers:serve",
        ("POST", "/worker/keep"): "workers:serve",
        ("POST", "/worker/begin"): "workers:serve",
        ("POST", "/worker/fetch"): "workers:serve",
        ("POST", "/worker/report"): "workers:serve",
        ("GET", "/pauses"): "pauses:read",
        ("POST", "/pauses/begin"): "pauses:write",
        ("POST", "/pauses/end"): "pauses:write",
        ("GET", "/gates"): "runs:read",
        ("GET", "/gates/{gate_id}"): "runs:read",
        ("GET", "/vars"): "vars:read",
        ("PUT", "/vars"): "vars:write",
        ("GET", "/limits"): "limits:read",
        ("PUT", "/limits"): "limits:write",
        ("GET", "/secrets"): "secrets:read",
        ("POST", "/secrets"): "secrets:write",
        ("GET", "/secrets/{secret_id}"): "secrets:read",
        ("PUT", "/secrets/{secret_id}"): "secrets:write",
        ("DELETE", "/secrets/{secret_id}"): "secrets:write",
        ("POST", "/secrets/{secret_id}/rotate"): "secrets:write",
        ("POST", "/secrets/{secret_id}/test"): "secrets:write",
        ("GET", "/keys"): "keys:read",
        ("POST", "/keys"): "keys:write",
        ("DELETE", "/keys/{key_id}"): "keys:write",
    },
    "": {
        ("GET", "/healthz"): PUBLIC,
        ("GET", "/readyz"): PUBLIC,
        ("GET", "/metrics"): "metrics:read",
        ("GET", "/docs"): PUBLIC,
        ("GET", "/docs/style.css"): PUBLIC,
        ("GET", "/docs/openapi.json"): PUBLIC,
        ("GET", "/docs/openapi.yaml"): PUBLIC,
    },
}

PERMISSIONS: Final[Mapping[tuple[str, str], str]] = {
    (method, prefix + path): scope
    for prefix, routes in _ROUTES.items()
    for (method, path), scope in routes.items()
}

SCOPES: Final = frozenset(PERMISSIONS.values()) - {PUBLIC}

WORKS: Final = "workers:serve"
"""What opens the worker API, together with the name of one pool."""
_POOL: Final = re.compile(rf"pool:({WORKERS}[a-z0-9-]{{1,28}})")


def pool_in(scopes: Iterable[str]) -> str:
    """The one pool of workers that a key's scopes name; empty when they name none, or several."""
    named = {found[1] for scope in scopes if (found := _POOL.fullmatch(scope))}
    return named.pop() if len(named) == 1 else ""


def token_scopes(pool: str) -> tuple[str, ...]:
    """What a token of a pool may do: nothing but serve it."""
    return f"pool:{pool}", WORKS


def scope_of(method: str, path_template: str) -> str | None:
    """The scope that a route asks for; None: nobody may. HEAD is a GET without its body."""
    return PERMISSIONS.get(("GET" if method == "HEAD" else method, path_template))
