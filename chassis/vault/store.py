"""The vault: opens and keeps secrets, salts, data keys and API keys.

Rules that hold here: every query runs in a transaction that names its org (row-level security); what is remembered
between calls is ciphertext; while Postgres is away, what was opened before still opens and everything else is `VaultAway`.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar

import asyncpg

from chassis.clock import Clock
from chassis.postgres import Connection, Pool, give_back, told_as
from chassis.sealing import (
    DataKey,
    MasterKey,
    Opener,
    Place,
    Sealer,
    generation_of,
    new_data_key,
    new_salt,
    unwrap_data_key,
    wrap_data_key,
    wrapped_by,
)
from chassis.secret import Secret, SecretValue, decode_secret, encode_secret, host_pattern
from chassis.vault import queries
from chassis.vault.memory import Remembered
from chassis.vault.rows import (
    ApiKey,
    IssuedKey,
    NameTaken,
    NoSuchSecret,
    OpenedSecret,
    Salt,
    SealedRow,
    SecretDescription,
    Shredded,
    VaultAway,
    new_api_key,
)

K = TypeVar("K")
V = TypeVar("V")

_FIELD: Final = "value"
_QUERY_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 1.0
_KEY_SECONDS: Final = 5.0
_USED_EVERY: Final = timedelta(minutes=1)


class Vault:
    """Opens and keeps secrets. `masters` are the master key and, during its rotation, the ones before."""

    def __init__(
        self,
        pool: Pool,
        masters: MasterKey | Sequence[MasterKey],
        clock: Clock,
        *,
        fresh_s: float = 10.0,
        stale_s: float = 24 * 3600.0,
        remember: int = 10_000,
    ) -> None:
        self._pool, self._clock = pool, clock
        self._masters = (masters,) if isinstance(masters, MasterKey) else tuple(masters)
        self._keys = Remembered[str, Mapping[int, str]](clock, remember, fresh_s, stale_s)
        self._salts = Remembered[tuple[str, str], Salt](clock, remember, fresh_s, stale_s)
        self._rows = Remembered[tuple[str, str], SealedRow](clock, remember, fresh_s, stale_s)
        self._api_keys = Remembered[bytes, ApiKey](clock, remember, min(fresh_s, _KEY_SECONDS), 0.0)
        self._away_until = float("-inf")

    # --- Keys and salts of runs -------------------------------------------------------------

    async def data_key(self, org: str) -> DataKey:
        """The org's newest data key; made at its first use, by one process only."""
        wrapped = await self._wrapped(org)
        generation = max(wrapped)
        return unwrap_data_key(self._masters, org, generation, wrapped[generation])

    async def data_keys(self, org: str, generation: int = 0) -> dict[int, DataKey]:
        """Every generation of the org's data key, by number; read anew when `generation` is not known yet."""
        wrapped = await self._wrapped(org)
        if generation > max(wrapped):
            self._keys.forget(org)  # Another process rotated a moment ago.
            wrapped = await self._wrapped(org)
        return {number: unwrap_data_key(self._masters, org, number, text) for number, text in wrapped.items()}

    async def salt_for_run(self, org: str, run: str) -> Salt:
        """The run's salt; made at its first use, by one process only."""

        async def load(connection: Connection) -> Salt:
            key_id = f"salt_{secrets.token_hex(16)}"
            await connection.execute(queries.ADD_SALT, key_id, org, run, new_salt(), self._clock.now())
            row = await connection.fetchrow(queries.SALT_OF_RUN, org, run)
            if row is None:
                raise Shredded(run)
            return Salt(key_id=row["key_id"], salt=row["salt"])

        return await self._remembered(self._salts, (org, f"run {run}"), org, load)

    async def salt(self, org: str, key_id: str) -> bytes:
        """The salt that a commit's `key_id` names. Raises `Shredded` when it is gone."""

        async def load(connection: Connection) -> Salt:
            row = await connection.fetchrow(queries.SALT, org, key_id)
            if row is None:
                self._salts.forget_all(lambda salt: salt.key_id == key_id)
                raise Shredded(key_id)
            return Salt(key_id=row["key_id"], salt=row["salt"])

        return (await self._remembered(self._salts, (org, f"key {key_id}"), org, load)).salt

    async def sealer(self, org: str, run: str) -> tuple[str, Sealer]:
        """What seals values of a run, and the `key_id` that its commits carry."""
        salt = await self.salt_for_run(org, run)
        place = Place(org=org, object=run, field=_FIELD)
        return salt.key_id, Sealer(await self.data_key(org), salt.salt, "run.value", place)

    async def opener(self, org: str, run: str, key_id: str) -> Opener:
        """What opens the values that a run's sealer sealed."""
        salt = await self.salt(org, key_id)
        place = Place(org=org, object=run, field=_FIELD)
        return Opener(await self.data_keys(org), salt, "run.value", place)

    async def shred_run(self, org: str, run: str) -> bool:
        """Make everything that the run sealed unreadable for ever. False when it had sealed nothing."""
        async with self._transaction(org) as connection:
            key_id = await connection.fetchval(queries.SHRED, org, run)
        self._salts.forget_all(lambda salt: salt.key_id == key_id)
        return key_id is not None

    async def rotate_master(self, new: MasterKey, orgs: Sequence[str]) -> int:
        """Wrap these orgs' data keys with a new master key; the number of rows it changed.

        Safe to call again. Processes that know only the old key need it until they are started with the new one.
        """
        masters = (new, *(key for key in self._masters if key.id != new.id))
        changed = 0
        for org in orgs:
            async with self._transaction(org) as connection:
                for row in await connection.fetch(f"{queries.DATA_KEYS} for update", org):
                    if wrapped_by(row["wrapped"]) == new.id:
                        continue
                    key = unwrap_data_key(masters, org, row["generation"], row["wrapped"])
                    await connection.execute(queries.REWRAP, org, row["generation"], wrap_data_key(new, key))
                    changed += 1
            self._keys.forget(org)
        self._masters = masters
        return changed

    async def rotate_data_key(self, org: str) -> int:
        """Begin a new generation and seal the org's secrets with it. What runs sealed keeps its generation."""
        await self.data_key(org)
        async with self._transaction(org) as connection:
            await connection.execute(queries.LOCK, f"data key {org}")
            wrapped = {
                row["generation"]: row["wrapped"] for row in await connection.fetch(queries.DATA_KEYS, org)
            }
            keys = {
                number: unwrap_data_key(self._masters, org, number, text) for number, text in wrapped.items()
            }
            key = new_data_key(org, max(keys) + 1)
            added = wrap_data_key(self._masters[0], key)
            await connection.execute(queries.ADD_DATA_KEY, org, key.generation, added, self._clock.now())
            for row in await connection.fetch(queries.ALL_ROWS, org):
                place = _place(org, row["id"])
                opener = Opener(keys, row["salt"], "vault.secret", place)
                sealer = Sealer(key, row["salt"], "vault.secret", place)
                blobs = [
                    blob and sealer.seal(opener.open(blob)) for blob in (row["blob"], row["previous_blob"])
                ]
                await connection.execute(queries.RESEAL, org, row["id"], *blobs, key.generation)
        self._keys.forget(org)
        return key.generation

    # --- Secrets ----------------------------------------------------------------------------

    async def put_secret(
        self,
        org: str,
        secret_id: str,
        *,
        name: str,
        value: SecretValue,
        allowed_hosts: Sequence[str] = (),
        keep_previous_for: timedelta = timedelta(0),
    ) -> SecretDescription:
        """Store a secret, or replace its value; the one before opens as well for as long as `keep_previous_for` says."""
        hosts = [host_pattern(host) for host in allowed_hosts]
        key = await self.data_key(org)
        now = self._clock.now()
        async with self._transaction(org) as connection:
            # Two first writers must not seal under two salts.
            await connection.execute(queries.LOCK, f"secret {org} {secret_id}")
            old = await connection.fetchrow(queries.SEALED_ROW, org, secret_id)
            salt = old["salt"] if old else new_salt()
            blob = Sealer(key, salt, "vault.secret", _place(org, secret_id)).seal(
                encode_secret(value).reveal()
            )
            kind = str(value.__struct_config__.tag)
            until = now + keep_previous_for if keep_previous_for else None
            row = (org, secret_id, name, kind, blob, key.generation, salt, hosts, now, until)
            try:
                await connection.execute(queries.PUT, *row)
            except asyncpg.UniqueViolationError as error:
                raise NameTaken(name) from error
            stored = await connection.fetch(queries.DESCRIBE, org, now, secret_id)
        self._rows.forget((org, secret_id))
        return _description(stored[0])

    async def open(self, org: str, secret_id: str) -> OpenedSecret:
        """A secret's value, for one use in memory. Raises `NoSuchSecret`, `Unsealable` or `VaultAway`."""

        async def load(connection: Connection) -> SealedRow:
            await connection.execute(queries.TOUCH, org, secret_id, self._clock.now(), _USED_EVERY)
            row = await connection.fetchrow(queries.SEALED_ROW, org, secret_id)
            if row is None:
                self._rows.forget((org, secret_id))
                raise NoSuchSecret(secret_id)
            return _sealed_row(row)

        row = await self._remembered(self._rows, (org, secret_id), org, load)
        blobs = [row.blob]
        if row.previous_blob and row.previous_until and self._clock.now() < row.previous_until:
            blobs.append(row.previous_blob)
        keys = await self.data_keys(org, max(map(generation_of, blobs)))
        opener = Opener(keys, row.salt, "vault.secret", _place(org, secret_id))
        return OpenedSecret(
            kind=row.kind,
            values=tuple(decode_secret(Secret(opener.open(blob))) for blob in blobs),
            allowed_hosts=row.allowed_hosts,
            revision=row.revision,
        )

    async def describe(self, org: str, secret_id: str) -> SecretDescription:
        async with self._transaction(org) as connection:
            row = await connection.fetchrow(queries.DESCRIBE, org, self._clock.now(), secret_id)
        if row is None:
            raise NoSuchSecret(secret_id)
        return _description(row)

    async def list_secrets(self, org: str) -> list[SecretDescription]:
        async with self._transaction(org) as connection:
            return [_description(row) for row in await connection.fetch(queries.LIST, org, self._clock.now())]

    async def delete_secret(self, org: str, secret_id: str) -> bool:
        """Remove a secret and the salt under which it was sealed. False when there was none."""
        async with self._transaction(org) as connection:
            found = await connection.fetchval(queries.DELETE, org, secret_id)
        self._rows.forget((org, secret_id))
        return found is not None

    # --- API keys ---------------------------------------------------------------------------

    async def issue_key(
        self,
        org: str,
        key_id: str,
        *,
        name: str,
        scopes: Sequence[str],
        expires: datetime | None = None,
        environment: str = "live",
    ) -> IssuedKey:
        """Make an API key; only its hash stays."""
        text = new_api_key(key_id, environment)
        digest = hashlib.sha256(text.encode()).digest()
        async with self._transaction(org) as connection:
            await connection.execute(
                queries.ISSUE, key_id, org, name, digest, list(scopes), self._clock.now(), expires
            )
        return IssuedKey(id=key_id, text=Secret(text))

    async def find_key(self, digest: bytes) -> ApiKey | None:
        """The key with this hash while it is valid. Remembered for 5 s at the most, and never while Postgres is away."""
        key = self._api_keys.fresh(digest)
        if key is None:
            async with self._transaction("", key_hash=digest.hex()) as connection:
                row = await connection.fetchrow(queries.FIND_KEY, digest)
                if row is None:
                    return None
                key = _api_key(row)
                await connection.execute("select set_config('app.org', $1, true)", key.org)
                await connection.execute(queries.TOUCH_KEY, key.id, self._clock.now(), _USED_EVERY)
            self._api_keys.keep(digest, key)
        expired = key.expires is not None and key.expires <= self._clock.now()
        return None if expired or key.revoked else key

    async def list_keys(self, org: str) -> list[ApiKey]:
        async with self._transaction(org) as connection:
            return [_api_key(row) for row in await connection.fetch(queries.LIST_KEYS, org)]

    async def revoke_key(self, org: str, key_id: str) -> bool:
        """Refuse the key from now on (elsewhere: within 5 s). False when it does not exist or was revoked before."""
        async with self._transaction(org) as connection:
            found = await connection.fetchval(queries.REVOKE, org, key_id, self._clock.now())
        self._api_keys.forget_all(lambda key: key.id == key_id)
        return found is not None

    # --- Underneath -------------------------------------------------------------------------

    async def _wrapped(self, org: str) -> Mapping[int, str]:
        async def load(connection: Connection) -> Mapping[int, str]:
            rows = await connection.fetch(queries.DATA_KEYS, org)
            if not rows:
                first = wrap_data_key(self._masters[0], new_data_key(org, 1))
                await connection.execute(queries.ADD_DATA_KEY, org, 1, first, self._clock.now())
                rows = await connection.fetch(queries.DATA_KEYS, org)  # Ours, or that of whoever was faster.
            return {row["generation"]: row["wrapped"] for row in rows}

        return await self._remembered(self._keys, org, org, load)

    async def _remembered(
        self, memory: Remembered[K, V], key: K, org: str, load: Callable[[Connection], Awaitable[V]]
    ) -> V:
        fresh = memory.fresh(key)
        if fresh is not None:
            return fresh
        stale = memory.stale(key)
        if stale is not None and (key in memory.loading or self._clock.seconds() < self._away_until):
            return stale  # Somebody looks already, or Postgres was away a moment ago.
        memory.loading.add(key)
        try:
            async with self._transaction(org) as connection:
                value = await load(connection)
        except VaultAway:
            self._away_until = self._clock.seconds() + _PAUSE_SECONDS
            if stale is None:
                raise
            return stale
        finally:
            memory.loading.discard(key)
        memory.keep(key, value)
        return value

    @asynccontextmanager
    async def _transaction(self, org: str, key_hash: str = "") -> AsyncIterator[Connection]:
        """A bounded transaction. A connection that may be silent is dropped: asking it to roll back could wait for ever."""
        with told_as(VaultAway):
            async with asyncio.timeout(_QUERY_SECONDS):
                connection = await self._pool.acquire()
        answers = False
        try:
            with told_as(VaultAway):
                async with asyncio.timeout(_QUERY_SECONDS):
                    await connection.execute("begin")
                    await connection.execute(queries.NAME, org, key_hash)
                    try:
                        yield connection
                    except (NoSuchSecret, Shredded, NameTaken):
                        await connection.execute("rollback")
                        answers = True
                        raise
                    await connection.execute("commit")
                    answers = True
        finally:
            await give_back(self._pool, connection, answers=answers, seconds=_QUERY_SECONDS)


def _place(org: str, secret_id: str) -> Place:
    return Place(org=org, object=secret_id, field=_FIELD)


def _sealed_row(row: "asyncpg.Record") -> SealedRow:
    return SealedRow(
        kind=row["kind"],
        salt=row["salt"],
        blob=row["blob"],
        previous_blob=row["previous_blob"],
        previous_until=row["previous_until"],
        allowed_hosts=tuple(row["allowed_hosts"]),
        revision=row["revision"],
    )


def _description(row: "asyncpg.Record") -> SecretDescription:
    return SecretDescription(**{**row, "allowed_hosts": tuple(row["allowed_hosts"])})


def _api_key(row: "asyncpg.Record") -> ApiKey:
    return ApiKey(**{**row, "scopes": tuple(row["scopes"])})
