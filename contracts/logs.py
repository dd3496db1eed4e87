"""What nodes say while an attempt is made: for people who look at a run. No part of its history; kept for days."""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from contracts.limits import LOG_LINES, LOG_TEXT_CHARS, AttemptNumber, Id, NodeId, OrgId, StepPath

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogText: TypeAlias = Annotated[str, Meta(max_length=LOG_TEXT_CHARS)]


class LogLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. What is known to be secret has been blanked out of it."""

    time: float
    """Unix seconds, by the executor's clock."""
    level: LogLevel = "info"
    text: LogText
    fields: dict[str, Any] = {}


class LogRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message of LOGS: some lines of one attempt."""

    org: OrgId
    run: Id
    step: StepPath
    node: NodeId
    attempt: AttemptNumber
    executor: Annotated[str, Meta(max_length=128)]
    lines: Annotated[tuple[LogLine, ...], Meta(min_length=1, max_length=LOG_LINES)]
