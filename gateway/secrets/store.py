"""Takes secrets in and lets them be tried. The value goes to the vault; the log learns that there is one."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

import msgspec

from chassis.edge.problems import Complaint, Problem
from chassis.egress import Credential, Egress, EgressError, Request
from chassis.secret import SecretValue
from chassis.vault import NameTaken, OpenedSecret, SecretDescription
from contracts.subjects import DOMAIN
from gateway.callers import Caller
from gateway.domain import Cause, Changed, Domain, cause_of
from gateway.places import Places
from gateway.rejected import Rejected
from gateway.secrets import rules
from gateway.secrets.rules import SECRET, SecretState
from gateway.secrets.views import SecretView, TriedSecret

TEST_SECONDS: Final = 10.0
TEST_BYTES: Final = 64 * 1024


class Keeper(Protocol):
    """The vault, as far as secrets go."""

    async def put_secret(  # As the vault has it.
        self,
        org: str,
        secret_id: str,
        *,
        name: str,
        value: SecretValue,
        allowed_hosts: Sequence[str] = (),
        keep_previous_for: timedelta = timedelta(0),
    ) -> SecretDescription: ...

    async def open(self, org: str, secret_id: str) -> OpenedSecret: ...

    async def describe(self, org: str, secret_id: str) -> SecretDescription: ...

    async def list_secrets(self, org: str) -> list[SecretDescription]: ...

    async def delete_secret(self, org: str, secret_id: str) -> bool: ...


class Secrets:
    def __init__(self, vault: Keeper, domain: Domain, places: Places, egress: Egress) -> None:
        self._vault, self._domain, self._places, self._egress = vault, domain, places, egress

    async def put(  # What a secret is made of.
        self,
        cause: Cause,
        secret_id: str,
        name: str,
        value: SecretValue,
        allowed_hosts: Sequence[str],
        keep_previous_s: float = 0.0,
    ) -> SecretView:
        """Store or replace. The vault first: a fact about a value that is nowhere would be a lie."""
        try:
            stored = await self._vault.put_secret(
                cause.org,
                secret_id,
                name=name,
                value=value,
                allowed_hosts=allowed_hosts,
                keep_previous_for=timedelta(seconds=keep_previous_s),
            )
        except NameTaken:
            raise Rejected("conflict", "Another secret has this name.") from None
        except ValueError as error:
            complaint = Complaint(pointer="/allowed_hosts", message=str(error))
            raise Problem("malformed", errors=[complaint]) from None
        events = rules.stored(stored.name, stored.kind, stored.allowed_hosts)
        changed = await self._domain.change(SECRET, secret_id, lambda _: events, cause)
        self._wrote(cause, changed)
        return view_of(stored)

    async def replace(
        self, caller: Caller, secret_id: str, name: str, value: SecretValue, hosts: Sequence[str]
    ) -> SecretView:
        await self._vault.describe(caller.org, secret_id)
        return await self.put(cause_of(caller), secret_id, name, value, hosts)

    async def rotate(
        self, caller: Caller, secret_id: str, value: SecretValue, keep_previous_s: float
    ) -> SecretView:
        known = await self._vault.describe(caller.org, secret_id)
        return await self.put(
            cause_of(caller), secret_id, known.name, value, known.allowed_hosts, keep_previous_s
        )

    async def delete(self, caller: Caller, secret_id: str) -> None:
        cause = cause_of(caller)
        known = await self._domain.load(SECRET, caller.org, secret_id)
        rules.delete(known)
        await self._vault.delete_secret(caller.org, secret_id)
        self._wrote(cause, await self._domain.change(SECRET, secret_id, rules.delete, cause))

    async def list(self, org: str) -> list[SecretView]:
        return [view_of(each) for each in await self._vault.list_secrets(org)]

    async def describe(self, org: str, secret_id: str) -> SecretView:
        return view_of(await self._vault.describe(org, secret_id))

    async def test(self, caller: Caller, secret_id: str, url: str | None) -> TriedSecret:
        """Open it; with a URL, send it there if that is one of its hosts. Of the answer only the status is told."""
        opened = await self._vault.open(caller.org, secret_id)
        tested = TriedSecret(kind=opened.kind, allowed_hosts=opened.allowed_hosts)
        if url is None:
            return tested
        credential = Credential(value=opened.value, allowed_hosts=opened.allowed_hosts)
        request = Request(
            method="GET", url=url, credential=credential, timeout_s=TEST_SECONDS, max_bytes=TEST_BYTES
        )
        try:
            response = await self._egress.request(request)
        except EgressError as error:
            return msgspec.structs.replace(tested, error=str(error))
        return msgspec.structs.replace(tested, status=response.status)

    def _wrote(self, cause: Cause, changed: Changed[SecretState]) -> None:
        self._places.wrote(cause.org, DOMAIN, changed.place)


def view_of(description: SecretDescription) -> SecretView:
    return SecretView(**{name: getattr(description, name) for name in SecretView.__struct_fields__})
