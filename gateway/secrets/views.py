"""What the API takes and tells about secrets. No value ever comes out."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from chassis.secret import SecretValue
from contracts.limits import Name

Hosts = Annotated[tuple[Annotated[str, Meta(max_length=255)], ...], Meta(max_length=100)]
WEEK_SECONDS = 7 * 24 * 3600


class StoreSecret(Struct, frozen=True, kw_only=True):
    """A name, a value, and the hosts to which it may go. No host: it goes nowhere (signatures need none)."""

    name: Name
    value: SecretValue
    allowed_hosts: Hosts = ()


class RotateSecret(Struct, frozen=True, kw_only=True):
    """A new value. The one before opens as well for a while, so that both ends can change in peace."""

    value: SecretValue
    keep_previous_s: Annotated[float, Meta(ge=0, le=WEEK_SECONDS)] = 24 * 3600.0


class TrySecret(Struct, frozen=True, kw_only=True):
    """Without a URL it is only opened. With one it is sent there, and the status of the answer is told."""

    url: Annotated[str, Meta(max_length=2_000)] | None = None


class TriedSecret(Struct, frozen=True, kw_only=True):
    kind: str
    allowed_hosts: tuple[str, ...]
    status: int | None = None
    """The HTTP status of the answer."""
    error: str | None = None
    """Why there was none."""


class SecretView(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    kind: str
    allowed_hosts: tuple[str, ...]
    created: datetime
    rotated: datetime | None
    last_used: datetime | None
    previous_until: datetime | None
    revision: int


class SecretList(Struct, frozen=True, kw_only=True):
    items: list[SecretView]
