"""Every exception that may reach the API's edge, as a problem. What is not listed here is a defect of ours."""

from typing import Any, Final

import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.types import ExceptionHandlersMap

from chassis.edge.problems import CONTENT_TYPE, Complaint, Problem, problem_body, unavailable
from chassis.ports import Away, Full
from chassis.telemetry import trace_id
from chassis.vault import NoSuchSecret, VaultAway
from contracts.codec import Unknown
from gateway.rejected import Rejected

log = structlog.get_logger()


def problem_of(error: Exception) -> Problem | None:
    """The answer to whoever caused it; None for a defect."""
    match error:
        case Problem():
            return error
        case Rejected():
            return Problem(error.code, error.detail)
        case NoSuchSecret():
            return Problem("not_found", "There is no such secret.")
        case Full():
            return unavailable("The log's disk is full; nothing was accepted.", 5)
        case Away():
            return unavailable("A part of the system does not answer; nothing is known to be accepted.")
        case VaultAway():
            return unavailable("The vault does not answer.")
        case Unknown():
            return unavailable(f"This was written by a newer release: {error}.", 60)
        case _:
            return _framework(error)


def _framework(error: Exception) -> Problem | None:
    match error:
        case NotFoundException():
            return Problem("not_found")
        case MethodNotAllowedException():
            return Problem("method_not_allowed", headers=error.headers)
        case ValidationException():
            return Problem("malformed", "The request does not fit.", errors=_complaints(error.extra))
        case HTTPException() if error.status_code == 400:
            return Problem("malformed")
        case _:
            return None


def _complaints(extra: Any) -> list[Complaint]:
    """What Litestar says of parameters. Bodies never come this far."""
    listed = extra if isinstance(extra, list) else []
    return [
        Complaint(pointer=str(each.get("key", "")), message=str(each.get("message", "")))
        for each in listed
        if isinstance(each, dict)
    ]


def answered(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """One handler for everything that is raised inside the API."""
    trace = trace_id(request.scope["state"].get("trace", ""))
    problem = problem_of(error)
    if problem is None:
        log.error("gateway.defect", trace=trace, method=request.method, exc_info=error)
        problem = Problem("internal")
    return Response(
        problem_body(problem, trace),
        status_code=problem.status,
        media_type=CONTENT_TYPE,
        headers=problem.headers,
    )


HANDLERS: Final[ExceptionHandlersMap] = {Exception: answered, HTTPException: answered}
