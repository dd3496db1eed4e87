"""What the API takes and tells about triggers and their deliveries."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct, field

from chassis.secret import SecretValue
from contracts.limits import FIRES_SHOWN, PAGE_ROWS, Id, Name
from contracts.schedules import Schedule
from contracts.triggers import Filter, Occasion, Webhook
from gateway.secrets.views import WEEK_SECONDS


class CreateTrigger(Struct, frozen=True, kw_only=True):
    """What starts runs of a workflow: an address, with `schedule` the clock, with `on` what happens in the org.

    Where the authentication names a secret, `"secret": "generate"` makes a new one; its text is told once.
    """

    name: Name
    workflow: Id
    webhook: Webhook | None = None
    schedule: Schedule | None = None
    on: Occasion | None = None


class ChangeTrigger(Struct, frozen=True, kw_only=True):
    """The whole of its settings. The address stays, and so does the kind of trigger that it is."""

    name: Name
    webhook: Webhook | None = None
    schedule: Schedule | None = None
    on: Occasion | None = None


class PreviewSchedule(Struct, frozen=True, kw_only=True):
    """A schedule of which somebody wants to know when it would fire."""

    schedule: Schedule
    after: Annotated[datetime, Meta(tz=True)] | None = None
    """Null: now."""
    count: Annotated[int, Meta(ge=1, le=FIRES_SHOWN)] = 10


class Coming(Struct, frozen=True, kw_only=True):
    """Planned times, the next first; fewer than were asked for when there are no more."""

    fires: tuple[datetime, ...]


class RotateTriggerSecret(Struct, frozen=True, kw_only=True):
    """Without a value a new one is made and told once. Both keys are taken until the old one's time is over."""

    value: SecretValue | None = None
    keep_previous_s: Annotated[float, Meta(ge=0, le=WEEK_SECONDS)] = 24 * 3600.0


class Address(Struct, frozen=True, kw_only=True):
    """Told this once: only hashes of the tokens in them are kept."""

    url: str
    test_url: str
    """Captures a sample instead of starting a run; works before anything is published."""


class NewSecret(Struct, frozen=True, kw_only=True):
    id: str
    text: str
    """Shown this once."""


class CreatedTrigger(Struct, frozen=True, kw_only=True):
    id: str
    address: Address | None
    """Null for what is no address."""
    secret: NewSecret | None
    bound_version: int | None
    """The published version that it starts; null: none is published yet, so the address answers 404."""


class ChangedTrigger(Struct, frozen=True, kw_only=True):
    id: str
    secret: NewSecret | None = None


class RotatedSecret(Struct, frozen=True, kw_only=True):
    secret: str
    text: str | None
    """Shown this once, when it was made here."""
    previous_until: datetime | None


class Fires(Struct, frozen=True, kw_only=True):
    """What became of a schedule's planned times."""

    next: datetime | None
    last: datetime | None
    """The planned time that was fired last."""
    last_run: str | None
    last_result: str
    """`started`, `refused`, or `pending` while nobody knows; empty before the first."""
    last_error: str
    last_missed: datetime | None
    """The newest planned time at which nobody could fire."""
    fired: int
    missed: int
    """Planned times that were missed, also those that a run has made up for."""
    refused: int
    trouble: str
    """Why nothing can be planned; empty when all is well."""


class TriggerView(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    workflow: str
    kind: str
    """`webhook`, `schedule`, `run_end`, `event`, `form`, `chat` or `poll`."""
    webhook: Raw | None
    """The settings of an address, as `Webhook`."""
    schedule: Raw | None
    """The settings of a schedule, as `Schedule`."""
    on: Raw | None
    """The settings of any other kind."""
    fires: Fires | None
    """Null for what is no schedule, and until the schedule's owner has looked at it."""
    enabled: bool
    bound_version: int | None
    created: datetime
    created_by: str
    updated: datetime


class TestTrigger(Struct, frozen=True, kw_only=True):
    """What a trigger is tried out with: a delivery of its own, or a sample."""

    delivery: Id | None = None
    """The receipt of a delivery, a captured one too; then nothing else is named."""
    body: Raw = field(default_factory=lambda: Raw(b"null"))
    headers: Annotated[dict[str, str], Meta(max_length=100)] = {}
    query: Annotated[dict[str, str], Meta(max_length=100)] = {}
    start: bool = False
    """Of a poll that is tried out without a sample: whether the first thing found starts the workflow, in test mode."""


class FoundView(Struct, frozen=True, kw_only=True):
    """One of what a poll has found."""

    key: str
    item: Raw


class AskedOnce(Struct, frozen=True, kw_only=True):
    """What a poll that is tried out has found. Its cursor did not move, and nothing of it counts as found."""

    run: str
    """The run that looked."""
    status: str
    """How it ended; `running`: it goes on."""
    reason: str = ""
    """Why nothing is shown."""
    found: int = 0
    items: tuple[FoundView, ...] = ()
    """The first of them, up to 20 and 256 KiB."""
    cursor: Raw = field(default_factory=lambda: Raw(b"null"))
    """Where the next look would begin."""


class TestedTrigger(Struct, frozen=True, kw_only=True):
    run: str | None
    """Null: the trigger would have started nothing, or was only asked what it finds."""
    reason: str = ""
    asked: AskedOnce | None = None
    """Of a poll that is tried out without a sample."""


class RunAgain(Struct, frozen=True, kw_only=True):
    """Past deliveries once more, through the version of a workflow that is published now."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    """Of the whole undertaking: under the same name each delivery starts one run, however often it is asked for."""
    since: Annotated[datetime, Meta(tz=True)]
    until: Annotated[datetime, Meta(tz=True)]
    workflow: Id | None = None
    """Null: the trigger's own."""
    results: Annotated[tuple[Literal["accepted", "captured"], ...], Meta(min_length=1, max_length=2)] = (
        "accepted",
    )
    filter: Filter = ""
    """A CEL expression over `trigger`, as it was then."""
    dry_run: bool = True
    """Only count."""
    limit: Annotated[int, Meta(ge=1, le=PAGE_ROWS)] = 50
    """Deliveries that this call looks at: ask as often as you want runs to start."""
    cursor: Annotated[str, Meta(max_length=400)] | None = None


class Skipped(Struct, frozen=True, kw_only=True):
    receipt: str
    reason: str


class RanAgain(Struct, frozen=True, kw_only=True):
    """What became of one page."""

    deliveries: int
    """That were looked at."""
    wanted: int
    """Those that the filter lets through."""
    started: int
    known: int
    """Those that have a run under this name already."""
    skipped: tuple[Skipped, ...]
    """Those that cannot be run again, and why."""
    through: datetime | None
    """When the last of them came."""
    next: str | None
    """The `cursor` of the next page; null on the last one."""


class DeliveryView(Struct, frozen=True, kw_only=True):
    receipt: str
    time: datetime
    result: str
    """`accepted`, `duplicate`, `refused`, `unmatched` or `captured`; of a schedule also `missed`."""
    method: str
    run: str | None
    reason: str
    address: str
    size: int
    preview: str
