"""What the API takes and tells about triggers and their deliveries."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Raw, Struct

from chassis.secret import SecretValue
from contracts.limits import FIRES_SHOWN, Id, Name
from contracts.schedules import Schedule
from contracts.triggers import Webhook
from gateway.secrets.views import WEEK_SECONDS


class CreateTrigger(Struct, frozen=True, kw_only=True):
    """What starts runs of a workflow: an address, or with `schedule` the clock.

    Where the authentication names a secret, `"secret": "generate"` makes a new one; its text is told once.
    """

    name: Name
    workflow: Id
    webhook: Webhook | None = None
    schedule: Schedule | None = None


class ChangeTrigger(Struct, frozen=True, kw_only=True):
    """The whole of its settings. The address stays; an address stays one, and a schedule one."""

    name: Name
    webhook: Webhook | None = None
    schedule: Schedule | None = None


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
    """Null for a schedule."""
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
    """`webhook` or `schedule`."""
    webhook: Raw | None
    """The settings, as `Webhook`; null for a schedule."""
    schedule: Raw | None
    """The settings, as `Schedule`; null for an address."""
    fires: Fires | None
    """Null for an address, and until the schedule's owner has looked at it."""
    enabled: bool
    bound_version: int | None
    created: datetime
    created_by: str
    updated: datetime


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
