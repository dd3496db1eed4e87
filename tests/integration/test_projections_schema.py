"""What the database promises: one truth about columns, closed to everybody but the org that was named."""

import re
from pathlib import Path

import asyncpg
import pytest

from chassis.ports import Ambiguous, Away
from chassis.postgres import as_org, connected, facts, pool
from chassis.settings import Settings
from chassis.tables import METADATA
from deploy.database import ROLES, head, migrate, sql_file
from deploy.refusals import Refused
from deploy.servers import PostgresAddress
from projections import queries, rows
from projections.queries import ROW_TYPES, Shape
from tests.migrated import migrated, password_files

_TYPES = {
    "TEXT": "text",
    "BIGINT": "int8",
    "INTEGER": "int4",
    "DATETIME": "timestamptz",
    "DATE": "date",
    "BOOLEAN": "bool",
    "BLOB": "bytea",
    "ARRAY": "_text",
}
_OPEN = """
select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('read', 'archive', 'vault') and c.relkind in ('r', 'p')
and not (c.relrowsecurity and c.relforcerowsecurity)
"""
_OWNERS_VIEWS = """
select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('read', 'archive', 'vault') and c.relkind in ('v', 'm')
and not coalesce(c.reloptions @> array['security_invoker=true'], false)
"""


@pytest.fixture
async def roles(database: PostgresAddress, tmp_path: Path) -> dict[str, Settings]:
    return await migrated(database, tmp_path / "passwords")


@pytest.fixture
async def superuser(database: PostgresAddress, roles: dict[str, Settings]):
    connection = await asyncpg.connect(**database.login())
    yield connection
    await connection.close()


async def test_tables_py_says_what_the_database_has(superuser) -> None:
    found: dict[str, list[tuple[str, str, bool]]] = {}
    for row in await superuser.fetch(
        "select table_schema || '.' || table_name as place, column_name, udt_name, is_nullable = 'YES' as null "
        "from information_schema.columns where table_schema in ('read', 'archive', 'vault') order by ordinal_position"
    ):
        found.setdefault(row["place"], []).append((row["column_name"], row["udt_name"], row["null"]))
    told = {
        name: [(column.name, _TYPES[str(column.type.__visit_name__).upper().replace("LARGE_BINARY", "BLOB")
                .replace("BIG_INTEGER", "BIGINT")], bool(column.nullable)) for column in table.columns]
        for name, table in METADATA.tables.items()
    }  # fmt: skip
    assert told == found


async def test_tables_py_says_which_columns_are_the_key(superuser) -> None:
    keys: dict[str, list[str]] = {}
    for row in await superuser.fetch(
        "select c.oid::regclass::text as place, a.attname from pg_index i join pg_class c on c.oid = i.indrelid "
        "join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid "
        "and a.attnum = any(i.indkey) where i.indisprimary and n.nspname in ('read', 'archive', 'vault')"
    ):
        keys.setdefault(row["place"].replace('"', ""), []).append(row["attname"])
    assert {name: {c.name for c in table.primary_key} for name, table in METADATA.tables.items()} == {
        name: set(columns) for name, columns in keys.items()
    }


@pytest.mark.parametrize("shape", [each for each in vars(queries).values() if isinstance(each, Shape)])
def test_rows_have_the_fields_that_their_tables_have(shape: Shape) -> None:
    schema = "archive" if shape.table in ("commits", "seams", "run_ids", "domain_commits") else "read"
    columns = [column.name for column in METADATA.tables[f"{schema}.{shape.table}"].columns]
    of_retention = {rows.RunIdRow: {"purged", "forgotten", "dropped"}, rows.SeamRow: {"purged"}}.get(
        shape.row, set()
    )
    assert {*shape.columns, *of_retention} == set(columns)


_COLUMNS = """
select column_name, udt_name, is_nullable from information_schema.columns
where table_schema = 'read' and table_name = 'log_records' order by ordinal_position
"""
_POLICIES = "select policyname, roles, cmd, qual, with_check from pg_policies where tablename = 'log_records' order by 1"


async def test_a_database_of_an_older_release_gets_the_table_of_log_records_as_a_new_one_has_it(
    superuser,
) -> None:
    looks = (
        _COLUMNS,
        _POLICIES,
        "select indexdef from pg_indexes where tablename = 'log_records' order by 1",
    )
    fresh = [await superuser.fetch(look) for look in looks]
    await superuser.execute("drop table read.log_records; set role owner")
    for _ in range(2):
        await superuser.execute(sql_file("log_records"))
    await superuser.execute("reset role")
    assert [await superuser.fetch(look) for look in looks] == fresh
    assert await superuser.fetch(_OPEN) == []


async def test_every_table_is_closed_and_every_view_asks_as_its_caller(superuser) -> None:
    await superuser.execute("select archive.make_week('2026-11-20')")
    assert await superuser.fetch(_OPEN) == []
    assert await superuser.fetch(_OWNERS_VIEWS) == []


async def test_the_lint_finds_what_it_looks_for(superuser) -> None:
    await superuser.execute(
        "create table read.planted (org text); create table archive.half (org text);"
        "alter table archive.half enable row level security; create view vault.planted as select 1;"
        "create view read.fine with (security_invoker = true) as select 1"
    )
    assert {row[0] for row in await superuser.fetch(_OPEN)} == {"read.planted", "archive.half"}
    assert [row[0] for row in await superuser.fetch(_OWNERS_VIEWS)] == ["vault.planted"]


async def test_the_migration_is_done_once_and_at_once(
    database: PostgresAddress, roles: dict[str, Settings], tmp_path: Path, superuser
) -> None:
    files = password_files(tmp_path / "passwords")
    before = await superuser.fetchval("select pg_current_wal_insert_lsn()")
    await migrate(database, files)
    after = await superuser.fetchval("select pg_current_wal_insert_lsn()")
    assert await superuser.fetchval("select pg_wal_lsn_diff($1, $2)", after, before) < 1_000
    assert await superuser.fetchval("select version_num from migrations.alembic_version") == head()


async def test_a_migration_that_fails_leaves_nothing(database: PostgresAddress, tmp_path: Path) -> None:
    connection = await asyncpg.connect(**database.login())
    try:
        await connection.execute("create schema read")
        with pytest.raises(Exception, match="already exists"):
            await migrated(database, tmp_path / "passwords")
        schemas = await connection.fetch(
            "select nspname from pg_namespace where nspname in ('vault', 'archive')"
        )
        assert schemas == []
        await connection.execute("drop schema read")
        await migrated(database, tmp_path / "passwords")
    finally:
        await connection.close()


async def test_a_newer_schema_is_refused(
    database: PostgresAddress, roles: dict[str, Settings], tmp_path: Path, superuser
) -> None:
    await superuser.execute("update migrations.alembic_version set version_num = '9999'")
    with pytest.raises(Refused, match="newer release"):
        await migrate(database, password_files(tmp_path / "passwords"))


async def test_no_role_of_a_service_may_go_round_the_policies(superuser) -> None:
    found = await superuser.fetch(
        "select rolname from pg_roles where rolname = any($1::text[]) and (rolsuper or rolbypassrls or rolcreaterole)",
        ROLES,
    )
    assert found == []


async def test_a_role_that_lost_its_settings_gets_them_back(
    database: PostgresAddress, roles: dict[str, Settings], tmp_path: Path, superuser
) -> None:
    await superuser.execute("alter role projector reset synchronous_commit")
    await migrate(database, password_files(tmp_path / "passwords"))
    projector = await asyncpg.connect(**facts(roles["projector"]))
    assert await projector.fetchval("show synchronous_commit") == "off"
    await projector.close()
    gateway = await asyncpg.connect(**facts(roles["gateway"]))
    assert await gateway.fetchval("show statement_timeout") == "10s"
    await gateway.close()


async def test_a_password_that_changed_is_set_anew(
    database: PostgresAddress, roles: dict[str, Settings], tmp_path: Path
) -> None:
    files = password_files(tmp_path / "passwords")
    other = tmp_path / "other"
    other.write_text("quite another one")
    try:
        await migrate(database, {**files, "executor": other})
        changed = facts(roles["executor"]) | {"password": "quite another one"}
        await (await asyncpg.connect(**changed)).close()
    finally:
        await migrate(database, files)
    await (await asyncpg.connect(**facts(roles["executor"]))).close()


async def test_an_org_sees_its_own_rows_and_writes_none(roles: dict[str, Settings]) -> None:
    async with pool(roles["projector"]) as projector:
        for org in ("org_a", "org_b"):
            await projector.execute(
                "insert into read.usage_daily (org, day, steps) values ($1, '2026-11-20', 1)", org
            )
        assert await projector.fetchval("select count(*) from read.usage_daily") == 2
    async with pool(roles["gateway"]) as gateway:
        async with as_org(gateway, "org_a") as connection:
            assert await connection.fetchval("select org from read.usage_daily") == "org_a"
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute("update read.usage_daily set steps = 5")
        async with connected(gateway) as connection:
            assert await connection.fetchval("select count(*) from read.usage_daily") == 0
            assert await connection.fetchval("select count(*) from read.positions") == 0


async def test_the_projector_makes_the_types_of_its_rows_where_nobody_else_may_make_any(
    database: PostgresAddress, superuser, roles: dict[str, Settings]
) -> None:
    await superuser.execute(f'revoke temporary on database "{database.database}" from public')
    async with pool(roles["projector"], begins_with=ROW_TYPES) as projector:
        assert await projector.fetchval("select count(*) from unnest('{}'::pg_temp.runs_row[])") == 0
    async with pool(roles["gateway"]) as gateway:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await gateway.execute("create type pg_temp.mine as (a text)")


async def test_a_partition_cannot_be_read_past_its_parent(roles: dict[str, Settings]) -> None:
    async with pool(roles["projector"]) as projector:
        await projector.execute("select archive.make_week('2026-11-20')")
        await projector.execute(
            "insert into archive.commits values ('2026-11-16', 'org_a', 'r', 1, 1, 1, now(), false, '', '')"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await projector.fetch("select * from archive.commits_20261116")
    async with pool(roles["gateway"]) as gateway, as_org(gateway, "org_b") as connection:
        assert await connection.fetch("select * from archive.commits") == []


async def test_a_week_with_rows_is_not_dropped(roles: dict[str, Settings]) -> None:
    async with pool(roles["projector"]) as projector:
        await projector.execute("select archive.make_week('2026-11-20')")
        await projector.execute(
            "insert into archive.commits values ('2026-11-16', 'org_a', 'r', 1, 1, 1, now(), false, '', '')"
        )
        assert await projector.fetchval("select archive.drop_week('2026-11-16')") is False
        await projector.execute("delete from archive.commits")
        assert await projector.fetchval("select archive.drop_week('2026-11-16')") is True
        assert await projector.fetchval("select archive.drop_week('2026-11-16')") is False


async def test_postgres_away_is_told_as_away(tmp_path: Path) -> None:
    nowhere = Settings(postgres_host=str(tmp_path))
    async with pool(nowhere) as gone:
        with pytest.raises(Away):
            async with connected(gone):
                pass


async def test_a_connection_that_breaks_in_use_is_told_as_ambiguous(
    roles: dict[str, Settings], superuser
) -> None:
    async with pool(roles["gateway"]) as gateway:
        with pytest.raises(Ambiguous):
            async with connected(gateway) as connection:
                await superuser.execute("select pg_terminate_backend($1)", connection.get_server_pid())
                await connection.fetchval("select 1")
        with pytest.raises(asyncpg.DataError):
            async with connected(gateway) as connection:
                await connection.fetchval("select $1::int", "no number")
        async with connected(gateway) as connection:
            assert await connection.fetchval("select 1") == 1


def test_the_read_models_are_made_under_any_name() -> None:
    assert not re.search(r"\bread\.", sql_file("read"))
