"""What may happen to an API key."""

from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct, structs

from contracts.workflows import KeyEvent, KeyIssued, KeyRevoked
from gateway.domain import Aggregate
from gateway.permissions import SCOPES, WORKS, pool_in
from gateway.rejected import Rejected, absent

MAKES_TOKENS: Final = "pools:write"
"""Who may say what is done with a pool may let workers in."""


class KeyState(Struct, frozen=True, kw_only=True):
    issued: bool = False
    revoked: bool = False


def evolve(state: KeyState, event: KeyEvent) -> KeyState:
    match event:
        case KeyIssued():
            return structs.replace(state, issued=True)
        case KeyRevoked():
            return structs.replace(state, revoked=True)


def issue(state: KeyState, name: str, scopes: AbstractSet[str], held: AbstractSet[str]) -> list[KeyEvent]:
    """Nobody gives what they do not have: `held` are the scopes of whoever issues."""
    if state.issued:
        return []
    pools = {scope for scope in scopes if pool_in([scope])}
    if pools and MAKES_TOKENS in held:
        held = held | pools | {WORKS}
    unknown = sorted(scopes - SCOPES - pools)
    if unknown:
        raise Rejected("malformed", f"{unknown[0][:64]!r} is not a scope.")
    excess = sorted(scopes - held)
    if excess:
        raise Rejected("forbidden", f"Your key lacks the scope {excess[0]}, so it cannot give it.")
    return [KeyIssued(name=name, scopes=tuple(sorted(scopes)))]


def revoke(state: KeyState) -> list[KeyEvent]:
    if not state.issued:
        raise absent("key")
    return [] if state.revoked else [KeyRevoked()]


KEY: Final = Aggregate[KeyState, KeyEvent](name="key", new=KeyState(), evolve=evolve)
