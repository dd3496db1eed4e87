"""Issues and revokes API keys. The vault decides who gets in; the log remembers who let them."""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from chassis.clock import Clock
from chassis.edge.problems import Complaint, Problem
from chassis.vault import ApiKey, IssuedKey
from contracts.subjects import DOMAIN
from gateway.callers import Caller
from gateway.domain import Cause, Domain, cause_of
from gateway.keys import rules
from gateway.keys.rules import KEY
from gateway.keys.views import KeyView
from gateway.places import Places
from gateway.rejected import Rejected


class KeyKeeper(Protocol):
    """The vault, as far as API keys go."""

    async def issue_key(  # As the vault has it.
        self,
        org: str,
        key_id: str,
        *,
        name: str,
        scopes: Sequence[str],
        expires: datetime | None = None,
        environment: str = "live",
    ) -> IssuedKey: ...

    async def list_keys(self, org: str) -> list[ApiKey]: ...

    async def revoke_key(self, org: str, key_id: str) -> bool: ...


def new_key_id() -> str:
    """Short, and without the `_` that separates the parts of a key's text."""
    return secrets.token_hex(8)


class Keys:
    def __init__(
        self,
        vault: KeyKeeper,
        domain: Domain,
        places: Places,
        clock: Clock,
        new_id: Callable[[], str] = new_key_id,
    ) -> None:
        self._vault, self._domain, self._places = vault, domain, places
        self._clock, self._new_id = clock, new_id

    async def issue(
        self, caller: Caller, name: str, scopes: Sequence[str], expires: datetime | None
    ) -> IssuedKey:
        """The fact first: a key that works but is in no history would be worse than a fact without a key."""
        if expires is not None and expires <= self._clock.now():
            raise Problem("malformed", errors=[Complaint(pointer="/expires", message="The time is past.")])
        key_id, wanted = self._new_id(), frozenset(scopes)
        cause = cause_of(caller)
        changed = await self._domain.change(
            KEY, key_id, lambda state: rules.issue(state, name, wanted, caller.scopes), cause
        )
        self._places.wrote(caller.org, DOMAIN, changed.place)
        return await self._vault.issue_key(
            caller.org, key_id, name=name, scopes=sorted(wanted), expires=expires
        )

    async def list(self, org: str) -> list[KeyView]:
        return [
            KeyView(**{name: getattr(key, name) for name in KeyView.__struct_fields__})
            for key in await self._vault.list_keys(org)
        ]

    async def revoke(self, caller: Caller, key_id: str) -> None:
        """The vault first: the door shuts before anybody is told."""
        shut = await self._vault.revoke_key(caller.org, key_id)
        cause = cause_of(caller)
        try:
            await self._record(cause, key_id)
        except Rejected as rejected:
            # The key of the first start was never asked for through the API.
            if rejected.code != "not_found" or not shut:
                raise

    async def _record(self, cause: Cause, key_id: str) -> None:
        changed = await self._domain.change(KEY, key_id, rules.revoke, cause)
        self._places.wrote(cause.org, DOMAIN, changed.place)
