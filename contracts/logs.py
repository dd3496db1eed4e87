"""What nodes say while an attempt is made: for people who look at a run. No part of its history; kept for days."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.limits import LOG_LINES, LOG_TEXT_CHARS, AttemptNumber, Count, Id, NodeId, OrgId, StepPath

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogText: TypeAlias = Annotated[str, Meta(max_length=LOG_TEXT_CHARS)]
LogTime: TypeAlias = Annotated[float, Meta(ge=0, le=253_402_300_799)]
"""Unix seconds, up to the end of the year 9999."""
MissingWhy: TypeAlias = Literal["line", "attempt", "run", "unstored", "marked"]
LEVELS: Final[tuple[LogLevel, ...]] = ("debug", "info", "warning", "error")
"""The least first."""


class Missing(Struct, frozen=True, kw_only=True):
    """How much was said and is not there. What was cut before it came to us is not counted.

    `line`: of this line itself. Else of all that was said so far: beyond the bound of its `attempt` or its `run`, or
    `unstored`, because there was no room or no log. `marked`: all that the node said in an attempt that brought nothing, so
    that nobody knows what is sensitive in it.
    """

    why: MissingWhy
    lines: Count = 0
    chars: Count = 0
    fields: Count = 0


class LogLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. What is known to be secret has been blanked out of it."""

    time: LogTime
    """By the executor's clock."""
    level: LogLevel = "info"
    text: LogText
    fields: dict[str, Any] = {}
    missing: Missing | None = None


class LogRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of LOGS: some lines of one attempt."""

    org: OrgId
    run: Id
    step: StepPath
    node: NodeId
    attempt: AttemptNumber
    executor: Annotated[str, Meta(max_length=128)]
    lines: Annotated[tuple[LogLine, ...], Meta(min_length=1, max_length=LOG_LINES)]
