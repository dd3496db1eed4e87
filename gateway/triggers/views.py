"""What the API takes and tells about triggers and their deliveries."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Raw, Struct

from chassis.secret import SecretValue
from contracts.limits import Id, Name
from contracts.triggers import Webhook
from gateway.secrets.views import WEEK_SECONDS


class CreateTrigger(Struct, frozen=True, kw_only=True):
    """An address that starts runs of a workflow.

    Where the authentication names a secret, `"secret": "generate"` makes a new one; its text is told once.
    """

    name: Name
    workflow: Id
    webhook: Webhook = Webhook()


class ChangeTrigger(Struct, frozen=True, kw_only=True):
    """The whole of its settings. The address stays."""

    name: Name
    webhook: Webhook


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
    address: Address
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


class TriggerView(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    workflow: str
    webhook: Raw
    """The settings, as `Webhook`."""
    enabled: bool
    bound_version: int | None
    created: datetime
    created_by: str
    updated: datetime


class DeliveryView(Struct, frozen=True, kw_only=True):
    receipt: str
    time: datetime
    result: str
    """`accepted`, `duplicate`, `refused`, `unmatched` or `captured`."""
    method: str
    run: str | None
    reason: str
    address: str
    size: int
    preview: str
