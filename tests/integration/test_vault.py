"""What the vault promises on a real Postgres: sealed, kept apart by org, rotated under load, open while Postgres is away."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import Struct

from chassis.postgres import pool
from chassis.sealing import MasterKey, Unsealable, open_document, seal_paths
from chassis.secret import (
    BasicSecret,
    BearerSecret,
    HeaderSecret,
    HmacSecret,
    QuerySecret,
    Secret,
    SecretValue,
    SmtpSecret,
    TextSecret,
)
from chassis.testing.clock import HandClock
from chassis.vault import NameTaken, NoSuchSecret, OpenedSecret, Shredded, Vault, VaultAway, api_key_hash
from deploy.servers import PostgresAddress
from tests.migrated import migrated

SQL = Path(__file__).parents[2] / "deploy/migrations/sql/vault.sql"
CANARY = "CANARY-8d0c51"
MASTER = MasterKey(Secret(b"m" * 32))
_roles = itertools.count(1)


class Wire:
    """A unix socket in front of Postgres that can be cut or made silent, and mended."""

    def __init__(self, target: str, folder: Path, port: int) -> None:
        self._target, self._path = target, folder / f".s.PGSQL.{port}"
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.silent = False
        self.left = math.inf
        """After so many pieces, in both directions together, every line through it is lost."""
        self.tried = 0

    async def mend(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_unix_server(self._carry, self._path)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tried += 1
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, inner_writer}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, inner_writer))
                both.create_task(self._copy(inner_reader, writer))
        finally:
            self._writers -= {writer, inner_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.left -= 1
                if self.left < 0:
                    await self.cut()
                elif not self.silent:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass  # Cut: what the other side makes of it is the test.
        finally:
            writer.transport.abort()


class Setting(Struct, frozen=True):
    """A database with the vault in it, reached as a role that owns nothing."""

    address: PostgresAddress
    role: str
    clock: HandClock
    folder: Path

    async def superuser(self) -> "asyncpg.Connection[asyncpg.Record]":
        return await asyncpg.connect(**facts(self.address))

    @asynccontextmanager
    async def vault(
        self, masters: Any = MASTER, host: str | None = None, **options: Any
    ) -> AsyncIterator[Vault]:
        arguments = {
            **facts(self.address),
            "user": self.role,
            "password": "pw",
            "host": host or self.address.host,
        }
        async with asyncpg.create_pool(**arguments, min_size=0, max_size=10) as pool:
            yield Vault(pool, masters, self.clock, **options)


def facts(address: PostgresAddress) -> dict[str, Any]:
    return {
        "host": address.host,
        "port": address.port,
        "database": address.database,
        "user": address.user,
        "password": address.password(),
    }


@pytest.fixture
async def setting(database: PostgresAddress, tmp_path: Path) -> AsyncIterator[Setting]:
    role = f"vault_{database.database}_{next(_roles)}"
    connection = await asyncpg.connect(**facts(database))
    try:
        for _ in range(2):  # Running it again changes nothing.
            await connection.execute(SQL.read_text())
        await connection.execute(
            f"create role {role} login password 'pw' nosuperuser nobypassrls; grant usage on schema vault to {role};"
            f"grant select, insert, update, delete on all tables in schema vault to {role}"
        )
        yield Setting(database, role, HandClock(), tmp_path)
        await connection.execute(f"drop owned by {role}; drop role {role}")
    finally:
        await connection.close()


@pytest.fixture
async def vault(setting: Setting) -> AsyncIterator[Vault]:
    async with setting.vault() as opened:
        yield opened


EVERY_KIND: list[SecretValue] = [
    HeaderSecret(name="X-Api-Key", value=Secret(CANARY)),
    BasicSecret(user="ann", password=Secret(CANARY)),
    BearerSecret(token=Secret(CANARY)),
    QuerySecret(name="key", value=Secret(CANARY)),
    HmacSecret(key=Secret(CANARY)),
    SmtpSecret(user="ann", password=Secret(CANARY)),
    TextSecret(text=Secret(CANARY)),
]


def text(value: str) -> TextSecret:
    return TextSecret(text=Secret(value))


# --- Secrets ----------------------------------------------------------------------------------


async def test_every_kind_of_secret_comes_back_as_it_went_in(vault: Vault) -> None:
    for number, value in enumerate(EVERY_KIND):
        described = await vault.put_secret(
            "org_a",
            f"s{number}",
            name=f"n{number}",
            value=value,
            allowed_hosts=["API.example.com.", "*.x.io"],
        )
        assert (described.revision, described.rotated) == (1, None)
        opened = await vault.open("org_a", f"s{number}")
        assert type(opened.value) is type(value)
        assert opened.kind == described.kind
        assert opened.allowed_hosts == ("api.example.com", "*.x.io")
        assert CANARY.encode() in opened.keys[0].reveal()
        assert CANARY not in repr(opened)
    listed = await vault.list_secrets("org_a")
    assert [each.id for each in listed] == [f"s{number}" for number in range(len(EVERY_KIND))]
    assert CANARY not in repr(listed)


async def test_the_database_never_sees_a_secret_or_a_salt_beside_its_key(setting: Setting) -> None:
    async with setting.vault() as vault:
        for number, value in enumerate(EVERY_KIND):
            await vault.put_secret("org_a", f"s{number}", name=f"n{number}", value=value)
        issued = await vault.issue_key("org_a", "k1", name="ci", scopes=["runs:read"])
    connection = await setting.superuser()
    dump = ""
    for table in ("data_keys", "salts", "secrets", "api_keys"):
        dump += "".join(str(dict(row)) for row in await connection.fetch(f"select * from vault.{table}"))
    await connection.close()
    assert "v1|1|" in dump
    assert CANARY not in dump
    assert issued.text.reveal_text() not in dump
    assert issued.text.reveal_text().split("_")[-2] not in dump


async def test_a_secret_that_is_not_there_is_said_to_be_so(vault: Vault) -> None:
    for ask in (vault.open, vault.describe):
        with pytest.raises(NoSuchSecret):
            await ask("org_a", "s1")
    assert not await vault.delete_secret("org_a", "s1")


async def test_a_deleted_secret_does_not_open_again(vault: Vault) -> None:
    await vault.put_secret("org_a", "s1", name="n", value=text("x"))
    await vault.open("org_a", "s1")
    assert await vault.delete_secret("org_a", "s1")
    with pytest.raises(NoSuchSecret):
        await vault.open("org_a", "s1")


async def test_a_name_belongs_to_one_secret_of_an_org(vault: Vault) -> None:
    await vault.put_secret("org_a", "s1", name="github", value=text("x"))
    with pytest.raises(NameTaken):
        await vault.put_secret("org_a", "s2", name="github", value=text("x"))
    await vault.put_secret("org_b", "s2", name="github", value=text("x"))


async def test_a_host_pattern_that_is_too_wide_is_refused_before_anything_is_stored(vault: Vault) -> None:
    with pytest.raises(ValueError, match="host"):
        await vault.put_secret("org_a", "s1", name="n", value=text("x"), allowed_hosts=["*"])
    assert await vault.list_secrets("org_a") == []


async def test_during_a_rotations_window_both_values_open(setting: Setting, vault: Vault) -> None:
    await vault.put_secret("org_a", "s1", name="n", value=text("old"))
    described = await vault.put_secret(
        "org_a", "s1", name="n", value=text("new"), keep_previous_for=timedelta(hours=1)
    )
    assert described.revision == 2
    assert described.previous_until == setting.clock.now() + timedelta(hours=1)
    assert [key.reveal() for key in (await vault.open("org_a", "s1")).keys] == [b"new", b"old"]
    setting.clock.moved += 3_599
    assert len((await vault.open("org_a", "s1")).keys) == 2
    setting.clock.moved += 1
    assert [key.reveal() for key in (await vault.open("org_a", "s1")).keys] == [b"new"]
    assert (await vault.describe("org_a", "s1")).previous_until is None


async def test_without_a_window_the_old_value_is_gone_at_once(vault: Vault) -> None:
    for value in ("one", "two", "three"):
        await vault.put_secret("org_a", "s1", name="n", value=text(value))
        assert [key.reveal() for key in (await vault.open("org_a", "s1")).keys] == [value.encode()]


async def test_two_first_writers_leave_one_secret_that_opens(setting: Setting) -> None:
    async with setting.vault() as one, setting.vault() as two:
        async with asyncio.TaskGroup() as group:
            for number, each in enumerate([one, two] * 8):
                group.create_task(
                    each.put_secret(
                        "org_a",
                        "s1",
                        name="n",
                        value=text(f"v{number}"),
                        keep_previous_for=timedelta(hours=1),
                    )
                )
        assert (await one.describe("org_a", "s1")).revision == 16
        assert len((await one.open("org_a", "s1")).keys) == 2


async def test_another_process_sees_a_new_value_after_a_few_seconds(setting: Setting) -> None:
    async with setting.vault() as one, setting.vault() as two:
        await one.put_secret("org_a", "s1", name="n", value=text("old"))
        await two.open("org_a", "s1")
        await one.put_secret("org_a", "s1", name="n", value=text("new"))
        setting.clock.moved += 10
        assert (await two.open("org_a", "s1")).keys[0].reveal() == b"new"


async def test_use_is_noted_but_not_at_every_use(setting: Setting, vault: Vault) -> None:
    await vault.put_secret("org_a", "s1", name="n", value=text("x"))
    assert (await vault.describe("org_a", "s1")).last_used is None
    first = setting.clock.now()
    for seconds in (0, 11, 11, 50):
        setting.clock.moved += seconds
        await vault.open("org_a", "s1")
        noted = (await vault.describe("org_a", "s1")).last_used
        assert noted == (first if seconds < 50 else setting.clock.now())


# --- Rows that were tampered with ---------------------------------------------------------------


@pytest.mark.parametrize(
    "tamper",
    [
        "update vault.secrets set blob = (select blob from vault.secrets where id = 's2') where id = 's1'",
        "update vault.secrets s set blob = o.blob, salt = o.salt from vault.secrets o where o.id = 's2' and s.id = 's1'",
        "update vault.secrets set salt = decode(repeat('00', 32), 'hex') where id = 's1'",
        "update vault.secrets set blob = overlay(blob placing 'AAAA' from 25) where id = 's1'",
        "update vault.secrets set blob = 'v1|1|x' where id = 's1'",
        "delete from vault.secrets where org = 'org_b'; update vault.secrets set org = 'org_b' where id = 's1'",
        "update vault.data_keys d set wrapped = o.wrapped from vault.data_keys o where o.org = 'org_b' and d.org = 'org_a'",
    ],
)
async def test_a_row_that_was_copied_or_changed_does_not_open(setting: Setting, tamper: str) -> None:
    async with setting.vault() as vault:
        for org, secret in (("org_a", "s1"), ("org_a", "s2"), ("org_b", "s3")):
            await vault.put_secret(org, secret, name=secret, value=text(CANARY))
    connection = await setting.superuser()
    await connection.execute(tamper)
    moved = await connection.fetchval("select org from vault.secrets where id = 's1'")
    await connection.close()
    async with setting.vault() as vault:
        with pytest.raises(Unsealable):
            await vault.open(moved, "s1")


async def test_without_the_master_key_nothing_opens(setting: Setting) -> None:
    async with setting.vault() as vault:
        await vault.put_secret("org_a", "s1", name="n", value=text("x"))
    async with setting.vault(MasterKey(Secret(b"x" * 32))) as stranger:
        with pytest.raises(Unsealable, match="unknown key"):
            await stranger.open("org_a", "s1")


# --- Runs ---------------------------------------------------------------------------------------

BODY = {"user": {"name": "Ann", "password": CANARY}}


async def test_a_run_seals_and_another_process_opens(setting: Setting) -> None:
    async with setting.vault() as ingress, setting.vault() as executor:
        key_id, sealer = await ingress.sealer("org_a", "run_1")
        sealed = seal_paths(BODY, ["/user/password"], sealer)
        assert CANARY not in str(sealed)
        assert (await ingress.sealer("org_a", "run_1"))[0] == key_id
        assert open_document(sealed, await executor.opener("org_a", "run_1", key_id)) == BODY
        with pytest.raises(Unsealable):
            open_document(sealed, await executor.opener("org_a", "run_2", key_id))
        with pytest.raises(Shredded):
            await executor.opener("org_b", "run_1", key_id)


async def test_dropping_one_row_shreds_one_run(setting: Setting) -> None:
    async with setting.vault() as vault:
        (key_1, _), (key_2, sealer_2) = [await vault.sealer("org_a", run) for run in ("run_1", "run_2")]
        sealed_2 = seal_paths(BODY, ["/user"], sealer_2)
        assert await vault.shred_run("org_a", "run_1")
        assert not await vault.shred_run("org_a", "run_1")
        for process in (vault, Vault(vault._pool, MASTER, setting.clock)):
            with pytest.raises(Shredded):
                await process.opener("org_a", "run_1", key_1)
            assert open_document(sealed_2, await process.opener("org_a", "run_2", key_2)) == BODY


async def test_first_uses_at_once_make_one_data_key_and_one_salt(setting: Setting) -> None:
    async with setting.vault() as one, setting.vault() as two:
        async with asyncio.TaskGroup() as group:
            keys = [group.create_task(each.data_key("org_a")) for each in [one, two] * 10]
            salts = [group.create_task(each.salt_for_run("org_a", "run_1")) for each in [one, two] * 10]
        assert len({(key.result().generation, key.result().key.reveal()) for key in keys}) == 1
        assert len({(salt.result().key_id, salt.result().salt) for salt in salts}) == 1


# --- Rotation -----------------------------------------------------------------------------------

NEW_MASTER = MasterKey(Secret(b"n" * 32))


async def test_a_rotated_master_key_opens_everything_and_the_old_one_nothing(setting: Setting) -> None:
    async with setting.vault() as vault:
        for org in ("org_a", "org_b"):
            await vault.put_secret(org, "s1", name="n", value=text("x"))
        assert await vault.rotate_master(NEW_MASTER, ["org_a", "org_b"]) == 2
        assert await vault.rotate_master(NEW_MASTER, ["org_a", "org_b"]) == 0
        await vault.put_secret("org_c", "s1", name="n", value=text("x"))
    async with setting.vault(NEW_MASTER) as new, setting.vault(MASTER) as old:
        for org in ("org_a", "org_b", "org_c"):
            assert (await new.open(org, "s1")).keys[0].reveal() == b"x"
            with pytest.raises(Unsealable, match="unknown key"):
                await old.open(org, "s1")


async def test_a_rotation_that_stopped_half_way_opens_with_both_master_keys(setting: Setting) -> None:
    async with setting.vault() as vault:
        for org in ("org_a", "org_b"):
            await vault.put_secret(org, "s1", name="n", value=text("x"))
        await vault.rotate_master(NEW_MASTER, ["org_a"])
    async with setting.vault([NEW_MASTER, MASTER]) as both:
        for org in ("org_a", "org_b"):
            assert (await both.open(org, "s1")).keys[0].reveal() == b"x"


async def test_a_new_data_key_seals_secrets_anew_and_the_old_one_still_opens_runs(setting: Setting) -> None:
    async with setting.vault() as vault, setting.vault() as other:
        await vault.put_secret("org_a", "s1", name="n", value=text("old"))
        await vault.put_secret(
            "org_a", "s1", name="n", value=text("new"), keep_previous_for=timedelta(hours=1)
        )
        key_id, sealer = await vault.sealer("org_a", "run_1")
        sealed = seal_paths(BODY, ["/user"], sealer)
        await other.open("org_a", "s1")
        assert await vault.rotate_data_key("org_a") == 2
        assert (await vault.data_key("org_a")).generation == 2
        assert [key.reveal() for key in (await vault.open("org_a", "s1")).keys] == [b"new", b"old"]
        assert open_document(sealed, await vault.opener("org_a", "run_1", key_id)) == BODY
        # Another process remembers generation 1 and meets a row of generation 2.
        other._rows.forget(("org_a", "s1"))
        assert [key.reveal() for key in (await other.open("org_a", "s1")).keys] == [b"new", b"old"]
    connection = await setting.superuser()
    rows = await connection.fetch("select generation, blob, previous_blob from vault.secrets")
    await connection.close()
    assert [(r["generation"], r["blob"][:5], r["previous_blob"][:5]) for r in rows] == [(2, "v1|2|", "v1|2|")]


async def test_rotating_both_keys_under_load_fails_no_one(setting: Setting) -> None:
    opened = 0
    done = asyncio.Event()
    secrets = [f"s{number}" for number in range(5)]

    async def use(vault: Vault, secret: str) -> None:
        nonlocal opened
        while not done.is_set():
            value = (await vault.open("org_a", secret)).keys[0].reveal()
            assert value.startswith(secret.encode())
            key_id, sealer = await vault.sealer("org_a", f"run_{secret}")
            sealed = seal_paths(BODY, ["/user"], sealer)
            assert open_document(sealed, await vault.opener("org_a", f"run_{secret}", key_id)) == BODY
            opened += 1

    async def write(vault: Vault) -> None:
        for number in range(20):
            for secret in secrets:
                await vault.put_secret("org_a", secret, name=secret, value=text(f"{secret} {number}"))

    async def rotate(vault: Vault) -> None:
        try:
            for _ in range(5):
                await vault.rotate_data_key("org_a")
                await vault.rotate_master(NEW_MASTER, ["org_a"])
                await asyncio.sleep(0.05)
        finally:
            done.set()

    both = [MASTER, NEW_MASTER]
    async with setting.vault(both, fresh_s=0.0) as one, setting.vault(both, fresh_s=0.0) as two:
        for secret in secrets:
            await one.put_secret("org_a", secret, name=secret, value=text(secret))
        async with asyncio.TaskGroup() as group:
            for secret in secrets:
                group.create_task(use(one, secret))
                group.create_task(use(two, secret))
            group.create_task(write(two))
            group.create_task(rotate(one))
        assert (await one.data_key("org_a")).generation == 6
    assert opened >= 10


# --- Row-level security ---------------------------------------------------------------------------


async def test_a_role_sees_only_the_org_that_its_transaction_names(setting: Setting) -> None:
    async with setting.vault() as vault:
        for org in ("org_a", "org_b"):
            await vault.put_secret(org, "s1", name="n", value=text("x"))
            await vault.sealer(org, "run_1")
            await vault.issue_key(org, f"k_{org}", name="n", scopes=[])
        async with vault._pool.acquire() as connection:
            for table in ("data_keys", "salts", "secrets", "api_keys"):
                count = f"select count(*) filter (where org = 'org_a') + 10 * count(*) from vault.{table}"
                assert await connection.fetchval(count) == 0
                async with connection.transaction():
                    await connection.execute("select set_config('app.org', 'org_a', true)")
                    assert await connection.fetchval(count) == 11  # One row, and it is of org_a.
                    assert (
                        await connection.execute(f"delete from vault.{table} where org = 'org_b'")
                        == "DELETE 0"
                    )
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        async with connection.transaction():
                            await connection.execute(f"update vault.{table} set org = 'org_b'")
                assert await connection.fetchval(count) == 0


async def test_even_the_owner_of_the_tables_is_bound(setting: Setting) -> None:
    connection = await setting.superuser()
    rows = await connection.fetch(
        "select relname, relrowsecurity and relforcerowsecurity as bound from pg_class"
        " where relnamespace = 'vault'::regnamespace and relkind = 'r'"
    )
    assert {row["relname"]: row["bound"] for row in rows} == dict.fromkeys(
        ("data_keys", "salts", "secrets", "api_keys"), True
    )
    async with setting.vault() as vault:
        await vault.put_secret("org_a", "s1", name="n", value=text("x"))
    await connection.execute(f"grant create on schema vault to {setting.role}")
    await connection.execute(f"alter table vault.secrets owner to {setting.role}; set role {setting.role}")
    assert await connection.fetchval("select count(*) from vault.secrets") == 0
    await connection.close()


async def test_a_keys_hash_shows_its_own_row_and_no_other(setting: Setting) -> None:
    async with setting.vault() as vault:
        issued = [await vault.issue_key(org, f"k_{org}", name="n", scopes=[]) for org in ("org_a", "org_b")]
        digest = api_key_hash(issued[0].text.reveal_text())
        assert digest
        async with vault._pool.acquire() as connection, connection.transaction():
            await connection.execute("select set_config('app.key_hash', $1, true)", digest.hex())
            assert [row["id"] for row in await connection.fetch("select id from vault.api_keys")] == [
                "k_org_a"
            ]
            assert await connection.execute("delete from vault.api_keys") == "DELETE 0"
            assert await connection.execute("update vault.api_keys set scopes = '{admin}'") == "UPDATE 0"


async def test_each_service_has_the_rights_that_its_part_needs_and_no_more(
    database: PostgresAddress, tmp_path: Path
) -> None:
    roles = await migrated(database, tmp_path)
    clock = HandClock()
    async with (
        pool(roles["gateway"]) as gateway_pool,
        pool(roles["ingress"]) as ingress_pool,
        pool(roles["executor"]) as executor_pool,
        pool(roles["projector"]) as projector_pool,
    ):
        gateway, ingress, executor, projector = (
            Vault(each, MASTER, clock) for each in (gateway_pool, ingress_pool, executor_pool, projector_pool)
        )
        key_id, sealer = await ingress.sealer("org_a", "run_1")
        sealed = seal_paths(BODY, ["/user"], sealer)
        assert open_document(sealed, await executor.opener("org_a", "run_1", key_id)) == BODY
        await gateway.put_secret("org_a", "s1", name="n", value=text("x"))
        for each in (ingress, executor, gateway):
            assert (await each.open("org_a", "s1")).keys[0].reveal() == b"x"
        digest = api_key_hash(
            (await gateway.issue_key("org_a", "k1", name="n", scopes=[])).text.reveal_text()
        )
        assert digest
        assert await gateway.find_key(digest)
        assert await gateway.rotate_data_key("org_a") == 2
        assert await gateway.shred_run("org_a", "run_1")
        for each in (ingress, executor):
            for refused in (
                each.delete_secret("org_a", "s1"),
                each.find_key(digest),
                each.shred_run("org_a", "run_1"),
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await refused
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await projector.open("org_a", "s1")


# --- API keys -------------------------------------------------------------------------------------


async def test_an_issued_key_is_found_until_it_is_revoked_or_expires(setting: Setting, vault: Vault) -> None:
    for_ever = await vault.issue_key("org_a", "k1", name="ci", scopes=["runs:read", "runs:write"])
    expires = setting.clock.now() + timedelta(hours=1)
    hour = await vault.issue_key("org_a", "k2", name="hour", scopes=[], expires=expires)
    hashes = [api_key_hash(each.text.reveal_text()) for each in (for_ever, hour)]
    assert hashes[0]
    assert hashes[1]
    found = await vault.find_key(hashes[0])
    assert found
    assert (found.id, found.org, found.name, found.scopes) == (
        "k1",
        "org_a",
        "ci",
        ("runs:read", "runs:write"),
    )
    assert await vault.find_key(hashes[1])
    setting.clock.moved += 3_600
    assert await vault.find_key(hashes[1]) is None
    assert await vault.revoke_key("org_a", "k1")
    assert not await vault.revoke_key("org_a", "k1")
    assert await vault.find_key(hashes[0]) is None
    assert await vault.find_key(b"\0" * 32) is None
    assert [key.revoked is not None for key in await vault.list_keys("org_a")] == [True, False]
    assert await vault.list_keys("org_b") == []
    assert not await vault.revoke_key("org_b", "k2")


async def test_a_key_revoked_elsewhere_is_refused_within_five_seconds(setting: Setting) -> None:
    async with setting.vault() as one, setting.vault() as two:
        digest = api_key_hash((await one.issue_key("org_a", "k1", name="n", scopes=[])).text.reveal_text())
        assert digest
        assert await two.find_key(digest)
        await one.revoke_key("org_a", "k1")
        setting.clock.moved += 5
        assert await two.find_key(digest) is None


async def test_a_keys_text_has_a_prefix_a_name_and_a_checksum(vault: Vault) -> None:
    issued = await vault.issue_key("org_a", "k1", name="n", scopes=[], environment="test")
    shown = issued.text.reveal_text()
    assert shown.startswith("ao_test_k1_")
    assert api_key_hash(shown)
    for wrong in (
        shown[:-1],
        shown + "0",
        shown.upper(),
        shown.replace("k1", "k2"),
        "",
        "ao_",
        "ao__00000000",
        "é" + shown,
        shown + "é",
    ):
        assert api_key_hash(wrong) is None


# --- Postgres away ----------------------------------------------------------------------------------


@pytest.fixture
async def wire(setting: Setting) -> AsyncIterator[Wire]:
    target = f"{setting.address.host}/.s.PGSQL.{setting.address.port}"
    wire = Wire(target, setting.folder, setting.address.port)
    await wire.mend()
    yield wire
    await wire.cut()


async def test_after_a_warm_start_secrets_open_while_postgres_is_away(setting: Setting, wire: Wire) -> None:
    async with setting.vault(host=str(setting.folder)) as vault:
        await vault.put_secret("org_a", "s1", name="n", value=text("x"))
        key_id, _ = await vault.sealer("org_a", "run_1")
        await vault.open("org_a", "s1")
        await vault.opener("org_a", "run_1", key_id)
        await wire.cut()
        for seconds in (0, 60, 3_600, 12 * 3_600):
            setting.clock.moved += seconds
            assert (await vault.open("org_a", "s1")).keys[0].reveal() == b"x"
            await vault.opener("org_a", "run_1", key_id)
        for refused in (
            vault.open("org_a", "never opened"),
            vault.sealer("org_a", "run_2"),
            vault.put_secret("org_a", "s1", name="n", value=text("y")),
            vault.list_secrets("org_a"),
            vault.issue_key("org_a", "k", name="n", scopes=[]),
        ):
            with pytest.raises(VaultAway):
                await refused
        setting.clock.moved += 24 * 3_600
        with pytest.raises(VaultAway):
            await vault.open("org_a", "s1")
        await wire.mend()
        assert (await vault.open("org_a", "s1")).keys[0].reveal() == b"x"


async def test_after_a_cold_start_nothing_opens_without_postgres(setting: Setting, wire: Wire) -> None:
    await wire.cut()
    async with setting.vault(host=str(setting.folder)) as vault:
        with pytest.raises(VaultAway):
            await vault.open("org_a", "s1")


async def test_wherever_a_line_is_lost_nobody_hears_of_it_but_that_the_vault_is_away(
    setting: Setting, wire: Wire
) -> None:
    async with setting.vault() as vault:
        await vault.put_secret("org_a", "s1", name="n", value=text("x"))
    broken = 0
    for pieces in range(0, 120, 3):
        await wire.mend()
        wire.left = pieces
        async with setting.vault(host=str(setting.folder)) as vault:
            said = await asyncio.gather(
                *(vault.open("org_a", "s1") for _ in range(8)), return_exceptions=True
            )
            assert all(isinstance(each, OpenedSecret | VaultAway) for each in said), (pieces, said)
            broken += any(isinstance(each, VaultAway) for each in said)
            wire.left = math.inf
            await wire.mend()
            opened = await vault.open("org_a", "s1")
        assert opened.keys[0].reveal() == b"x"
    assert broken > 10


async def test_no_api_key_is_believed_while_postgres_is_away(setting: Setting, wire: Wire) -> None:
    async with setting.vault(host=str(setting.folder)) as vault:
        digest = api_key_hash((await vault.issue_key("org_a", "k1", name="n", scopes=[])).text.reveal_text())
        assert digest
        assert await vault.find_key(digest)
        await wire.cut()
        setting.clock.moved += 5
        with pytest.raises(VaultAway):
            await vault.find_key(digest)


async def test_a_silent_postgres_is_asked_once_and_not_by_every_caller(setting: Setting, wire: Wire) -> None:
    async with setting.vault(host=str(setting.folder)) as vault:
        await vault.put_secret("org_a", "s1", name="n", value=text("x"))
        await vault.open("org_a", "s1")
        wire.silent = True
        tried = wire.tried
        setting.clock.moved += 60
        async with asyncio.TaskGroup() as group:
            opened = [group.create_task(vault.open("org_a", "s1")) for _ in range(200)]
        assert {task.result().keys[0].reveal() for task in opened} == {b"x"}
        assert wire.tried - tried <= 4
        await wire.cut()


async def test_a_backend_that_an_operator_ended_is_no_error_of_the_caller(
    setting: Setting, wire: Wire
) -> None:
    async with setting.vault() as vault:
        await vault.put_secret("org_a", "s1", name="n", value=text("x"))
        connection = await setting.superuser()
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", setting.role
        )
        await connection.close()
        for _ in range(3):
            try:
                await vault.list_secrets("org_a")
            except VaultAway:
                continue
            break
        else:
            pytest.fail("it never came back")


# --- What is remembered -----------------------------------------------------------------------------


def held(value: object, seen: set[int]) -> Iterator[bytes | str]:
    """Every text that can be reached from a value without a call."""
    if id(value) in seen or isinstance(value, type | asyncpg.Pool):
        return
    seen.add(id(value))
    if isinstance(value, str | bytes):
        yield value
        return
    parts: list[object] = list(getattr(value, "__dict__", {}).values())
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        parts += [getattr(value, slot, None) for slot in ((slots,) if isinstance(slots, str) else slots)]
    if isinstance(value, dict):
        parts += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts += list(value)
    for part in parts:
        yield from held(part, seen)


async def test_what_is_remembered_between_calls_is_ciphertext(setting: Setting, vault: Vault) -> None:
    await vault.put_secret("org_a", "s1", name="n", value=text(CANARY))
    await vault.open("org_a", "s1")
    data_key = (await vault.data_key("org_a")).key.reveal()
    texts = list(held(vault, set()))
    assert any(isinstance(each, str) and each.startswith("v1|1|") for each in texts), (
        "the walk finds what is held"
    )
    for each in texts:
        raw = each.encode("utf-8", "surrogatepass") if isinstance(each, str) else each
        assert CANARY.encode() not in raw
        assert data_key not in raw
    planted = list(held({"a": [(vault, Secret(CANARY))]}, set()))
    assert CANARY.encode() in planted, "the walk would find a plaintext"


async def test_memory_is_bounded(setting: Setting) -> None:
    async with setting.vault(remember=5) as vault:
        for number in range(12):
            await vault.put_secret("org_a", f"s{number}", name=f"n{number}", value=text("x"))
            await vault.open("org_a", f"s{number}")
        assert len(vault._rows._entries) == 5
        assert (await vault.open("org_a", "s0")).keys[0].reveal() == b"x"
