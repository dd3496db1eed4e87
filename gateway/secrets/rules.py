"""What the log may know about a secret: that it has a value, and where that may go. Never the value."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from contracts.workflows import SecretDeleted, SecretEvent, SecretStored
from gateway.domain import Aggregate
from gateway.rejected import absent


class SecretState(Struct, frozen=True, kw_only=True):
    exists: bool = False
    name: str = ""
    kind: str = ""
    allowed_hosts: tuple[str, ...] = ()


def evolve(_: SecretState, event: SecretEvent) -> SecretState:
    match event:
        case SecretStored():
            return SecretState(
                exists=True, name=event.name, kind=event.kind, allowed_hosts=event.allowed_hosts
            )
        case SecretDeleted():
            return SecretState()


def stored(name: str, kind: str, allowed_hosts: Sequence[str]) -> list[SecretEvent]:
    """A new value is a fact even when all that the log knows of it stays the same."""
    return [SecretStored(name=name, kind=kind, allowed_hosts=tuple(allowed_hosts))]


def delete(state: SecretState) -> list[SecretEvent]:
    if not state.exists:
        raise absent("secret")
    return [SecretDeleted()]


SECRET: Final = Aggregate[SecretState, SecretEvent](name="secret", new=SecretState(), evolve=evolve)
