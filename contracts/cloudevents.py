"""CloudEvents 1.0 attributes of a commit as NATS headers (NATS binding, binary mode), and the trace that caused it.

Source: cloudevents/spec, bindings/nats-protocol-binding.md; W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from contracts.commits import Commit, DomainCommit
from contracts.gates import GateCommit
from contracts.schedules import ScheduleCommit

RUN_COMMITTED: Final = "run.committed"
DOMAIN_COMMITTED: Final = "domain.committed"
SCHEDULE_COMMITTED: Final = "schedule.committed"
GATE_COMMITTED: Final = "gate.committed"
TRACE: Final = "traceparent"
EVENT_TYPES: Final = "ao-types"
RUN_ENDED: Final = "Run-Ended"
"""Marks a terminal commit: the tombstone that is kept when a history moves to the archive."""

RUN_SEAM: Final = "Run-Seam"
"""Where the commit lies that begins the segment of this one: epoch and sequence, a hint for who reads on from there."""

ENDING: Final = frozenset({"run.completed", "run.failed", "run.cancelled"})

_SAFE: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


def headers_of(
    commit: Commit[Any] | DomainCommit[Any] | ScheduleCommit | GateCommit, trace: str = ""
) -> dict[str, str]:
    """The headers of one commit. Values are percent-encoded as the binding asks."""
    types = dict.fromkeys(str(type(event).__struct_config__.tag) for event in commit.events)
    if isinstance(commit, Commit):
        kind, source = RUN_COMMITTED, f"/orgs/{commit.org}/runs/{commit.run}"
    elif isinstance(commit, ScheduleCommit):
        kind, source = SCHEDULE_COMMITTED, f"/orgs/{commit.org}/triggers/{commit.schedule}"
    elif isinstance(commit, GateCommit):
        kind, source = GATE_COMMITTED, f"/orgs/{commit.org}/gates/{commit.gate}"
    else:
        kind, source = DOMAIN_COMMITTED, f"/orgs/{commit.org}/{commit.aggregate}s/{commit.aggregate_id}"
    headers = {
        "ce-specversion": "1.0",
        "ce-type": kind,
        "ce-id": commit.id,
        "ce-source": quote(source, safe=_SAFE),
        "ce-time": commit.time.isoformat(),
        "content-type": "application/json",
        EVENT_TYPES: ",".join(types),
    }
    if trace:
        headers[TRACE] = trace
    if not ENDING.isdisjoint(types):
        headers[RUN_ENDED] = "1"
    return headers


def seam_place(epoch: int, sequence: int) -> str:
    """What a commit's `Run-Seam` says."""
    return f"{epoch}-{sequence}"


def seam_in(headers: Mapping[str, str], epoch: int) -> int:
    """The sequence that a commit's `Run-Seam` names in this epoch of the log; 0 where it names none. Only a hint."""
    said, _, sequence = headers.get(RUN_SEAM, "").partition("-")
    return int(sequence) if said == str(epoch) and sequence.isdecimal() else 0


def attribute(headers: Mapping[str, str], name: str) -> str:
    """One CloudEvents attribute, decoded; empty when it is not there."""
    return unquote(headers.get(f"ce-{name}", ""))
