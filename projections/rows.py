"""The rows of the read models and of the archive. The fields are the columns, in their order.

A row is worked on by one fold at a time, which copies what it is given before it changes anything.
"""

from datetime import date, datetime, timedelta
from typing import Any

from msgspec import Struct, field


class RunRow(Struct, kw_only=True):
    """`read.runs`. What stands before `status` never changes after the first commit."""

    org: str
    id: str
    workflow: str = ""
    version: int = 0
    plan: str = ""
    trigger: str | None = None
    receipt: str = ""
    cause: str = ""
    cause_id: str = ""
    parent_run: str | None = None
    parent_step: str | None = None
    parent_waits: bool = False
    """Whether the parent's step waits for its end."""
    dedupe: str | None = None
    request: str | None = None
    actor: str = ""
    key_id: str = ""
    input_preview: str = ""
    input_size: int = 0
    input_blob: str | None = None
    week: date
    started: datetime
    status: str = "running"
    opening: int = 1
    ended: datetime | None = None
    deadline: datetime | None = None
    last_time: datetime
    last_event: str = ""
    events: int = 0
    head_version: int = 0
    head_hash: bytes = b""
    folded_version: int = 0
    epoch: int = 0
    sequence: int = 0
    steps_total: int = 0
    steps_done: int = 0
    steps_running: int = 0
    steps_in_doubt: int = 0
    error_code: str | None = None
    error_message: str | None = None
    error_step: str | None = None
    unfinished: str | None = None
    waits: str = "[]"
    waiting_since: datetime | None = None
    next_due: datetime | None = None
    look_at: datetime | None = None
    parked_reason: str | None = None
    needs_release: str | None = None
    responded_status: int | None = None
    output_preview: str | None = None
    output_size: int | None = None
    output_blob: str | None = None
    opened: datetime | None = None
    """When it was started, or last reopened."""
    handlers: str = ""
    """The runs of its error workflow, one for each time that it failed, with commas between; the newest last."""
    handler_error: str | None = None
    """Why there is none."""
    undone: str | None = None
    """What came of undoing what it had done; nothing yet while it does."""
    mode: str = "live"
    gates: str = ""
    """At which gates it waits or is inside, as JSON; empty: at none."""

    @property
    def stuck(self) -> bool:
        """A commit came that this release cannot fold; those after it wait in the archive."""
        return self.folded_version < self.head_version


class StepRow(Struct, kw_only=True):
    """`read.steps`."""

    org: str
    run: str
    path: str
    node: str
    node_type: str | None = None
    position: int
    status: str = "pending"
    attempt: int = 0
    pool: str | None = None
    scheduled: datetime | None = None
    ended: datetime | None = None
    took_ms: int | None = None
    ports: str | None = None
    error: str | None = None
    error_code: str | None = None
    output_preview: str | None = None
    output_size: int | None = None
    output_blob: str | None = None
    repeat: str | None = None
    effect: str | None = None
    """What an attempt that was under way when the run stopped did to the world."""
    items_total: int | None = None
    """Items of a map; None for a loop, which does not know."""
    items_done: int | None = None
    """Items that are over, failed ones too; None for a step that has none."""
    items_failed: int | None = None
    asks: str | None = None
    """What people are asked to decide, as JSON, while they are."""
    asked: datetime | None = None
    """Since when."""
    child: str | None = None
    """The run that it started last."""
    awaits: bool = False
    """Whether it waits for that run's end."""


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """`read.deliveries`."""

    org: str
    receipt: str
    trigger: str
    workflow: str | None = None
    time: datetime
    result: str
    method: str = ""
    run: str | None = None
    reason: str = ""
    address: str = ""
    size: int = 0
    preview: str = ""
    stream: str
    epoch: int
    sequence: int


class UsageRow(Struct, kw_only=True):
    """`read.usage_daily`, or what is to be added to it."""

    org: str
    day: date
    runs_started: int = 0
    runs_completed: int = 0
    runs_failed: int = 0
    runs_cancelled: int = 0
    steps: int = 0
    deliveries: int = 0


class CommitRow(Struct, frozen=True, kw_only=True):
    """`archive.commits`."""

    week: date
    org: str
    run: str
    version: int
    epoch: int
    sequence: int
    time: datetime
    ended: bool
    hash: bytes
    body: bytes


class RunIdRow(Struct, frozen=True, kw_only=True):
    """`archive.run_ids`, but for what retention writes."""

    org: str
    run: str
    week: date
    receipt: str
    keyed: bool
    request: str | None
    ended: datetime | None
    version: int
    hash: bytes
    epoch: int
    sequence: int


class Asks(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An open approval as it stands in `steps.asks`."""

    question: str
    details: str = ""
    form: dict[str, Any] = {}
    deciders: tuple[str, ...] = ()
    by_link: bool = True
    escalate_to: tuple[str, ...] = ()
    due: datetime | None = None
    escalates: datetime | None = None
    escalated: datetime | None = None


class SeamRow(Struct, frozen=True, kw_only=True):
    """`archive.seams`, but for what retention writes."""

    org: str
    run: str
    version: int
    week: date
    segment: int
    events: int
    epoch: int
    sequence: int
    time: datetime


class Wait(Struct, frozen=True, kw_only=True):
    """One open wait as it stands in `runs.waits`."""

    name: str
    kind: str
    due: datetime | None
    step: str | None
    since: datetime


def week_of(time: datetime) -> date:
    """The Monday of the week: which part of the archive a run lies in."""
    day = time.date()
    return date.min if day.toordinal() < 7 else day - timedelta(days=day.weekday())


class WorkflowRow(Struct, kw_only=True):
    """`read.workflows`."""

    org: str
    id: str
    name: str = ""
    latest_version: int = 0
    published_version: int | None = None
    plan: str | None = None
    created: datetime
    created_by: str = ""
    updated: datetime
    deleted: datetime | None = None
    head_version: int = 0
    epoch: int = 0
    sequence: int = 0


class VersionRow(Struct, kw_only=True):
    """`read.workflow_versions`."""

    org: str
    workflow: str
    version: int
    definition: bytes | None
    definition_blob: str | None
    definition_size: int
    drafted: datetime
    drafted_by: str = ""
    plan: str | None = None
    published: datetime | None = None


class TriggerRow(Struct, kw_only=True):
    """`read.triggers`."""

    org: str
    id: str
    name: str = ""
    workflow: str = ""
    webhook: str = "{}"
    token: str = ""
    test_token: str = ""
    version: int | None = None
    plan: str | None = None
    enabled: bool = True
    created: datetime
    created_by: str = ""
    updated: datetime
    deleted: datetime | None = None
    head_version: int = 0
    epoch: int = 0
    sequence: int = 0
    kind: str = "webhook"
    schedule: str | None = None
    occasion: str | None = None


class ScheduleRow(Struct, kw_only=True):
    """`read.schedules`."""

    org: str
    id: str
    revision: int = 0
    next: datetime | None = None
    trouble: str = ""
    last: datetime | None = None
    last_run: str | None = None
    last_result: str = ""
    last_error: str = ""
    last_missed: datetime | None = None
    fired: int = 0
    missed: int = 0
    refused: int = 0
    updated: datetime
    look_at: datetime | None = None
    head_version: int = 0
    epoch: int = 0
    sequence: int = 0


class SecretRow(Struct, kw_only=True):
    """`read.secrets`: what may be known of a secret; its value is in the vault."""

    org: str
    id: str
    name: str = ""
    kind: str = ""
    allowed_hosts: list[str] = field(default_factory=list)
    created: datetime
    created_by: str = ""
    updated: datetime
    deleted: datetime | None = None
    head_version: int = 0
    epoch: int = 0
    sequence: int = 0


class ApiKeyRow(Struct, kw_only=True):
    """`read.api_keys`."""

    org: str
    id: str
    name: str = ""
    scopes: list[str] = field(default_factory=list)
    created: datetime
    created_by: str = ""
    revoked: datetime | None = None
    head_version: int = 0
    epoch: int = 0
    sequence: int = 0


class OrgRow(Struct, kw_only=True):
    """`read.orgs`."""

    org: str
    id: str
    name: str = ""
    vars: str = "{}"
    created: datetime
    updated: datetime
    head_version: int = 0
    epoch: int = 0
    sequence: int = 0


class DomainCommitRow(Struct, frozen=True, kw_only=True):
    """`archive.domain_commits`."""

    org: str
    aggregate: str
    id: str
    version: int
    epoch: int
    sequence: int
    time: datetime
    hash: bytes
    body: bytes


class LogRecordRow(Struct, frozen=True, kw_only=True):
    """`read.log_records`: some lines of one attempt."""

    org: str
    time: datetime
    """Of the first of them."""
    epoch: int
    sequence: int
    run: str
    level: int
    """The highest of them, by its place in `contracts.logs.LEVELS`."""
    body: str


class DeadLetterRow(Struct, frozen=True, kw_only=True):
    """`read.dead_letters`."""

    org: str
    id: str
    stream: str
    run: str
    time: datetime
    reason: str
    source: str
    size: int
    body: bytes
    epoch: int
    sequence: int
