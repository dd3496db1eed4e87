"""Every no of an API in one shape: RFC 9457 problems, with codes from `contracts.errors`."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from msgspec import Struct

from contracts.codec import encode
from contracts.errors import ERRORS

CONTENT_TYPE: Final = "application/problem+json"
URN: Final = "urn:automateos:"


class Complaint(Struct, frozen=True, kw_only=True):
    """What is wrong with one field of a request."""

    pointer: str
    """JSON pointer into the body; a bare name for a parameter of the address."""
    message: str


class Problem(Exception):
    """The answer to a request that is not granted. Says nothing that the caller may not know."""

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Complaint] = (),
        faults: Sequence[Any] = (),
    ) -> None:
        super().__init__(detail or ERRORS[code].meaning)
        self.code = code
        self.detail = detail
        self.status: int = ERRORS[code].status
        self.headers = dict(headers or {})
        self.errors = tuple(errors)
        self.faults = tuple(faults)


class ProblemBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457, with a code for programs and the id under which our log knows the request."""

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    trace_id: str = ""
    errors: tuple[Complaint, ...] = ()
    faults: tuple[Any, ...] = ()
    """`contracts.workflows.Fault`s: all that is wrong with a workflow."""


def problem_body(problem: Problem, trace_id: str = "") -> bytes:
    return encode(
        ProblemBody(
            type=URN + problem.code,
            title=ERRORS[problem.code].meaning,
            status=problem.status,
            code=problem.code,
            detail=problem.detail,
            trace_id=trace_id,
            errors=problem.errors,
            faults=problem.faults,
        )
    )


def whole_answer(problem: Problem) -> bytes:
    """Head and body for a connection that no app looks after."""
    body = problem_body(problem)
    fields = {
        "content-type": CONTENT_TYPE,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **problem.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n{head}\r\n".encode() + body


def unavailable(detail: str, seconds: int = 1) -> Problem:
    """A part of the system is away; nothing was accepted."""
    return Problem("unavailable", detail, headers={"retry-after": str(seconds)})
