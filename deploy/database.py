"""Brings a database to the shape that this release expects: roles, schemas, tables, rights.

Run before the services start, as a user that may make roles. When nothing is to do it takes one connection and imports
neither alembic nor SQLAlchemy.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from deploy.refusals import Refused
from deploy.servers import PostgresAddress

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROLES: Final = ("owner", "projector", "gateway", "ingress", "orchestrator", "executor")
"""`owner` owns the schemas and only migrates; the others are the services that speak to Postgres."""

_FOLDER: Final = Path(__file__).parent / "migrations"
_SETTINGS: Final = {
    "owner": {},
    # What a power cut takes from the projector it reads again: position and rows share a transaction.
    "projector": {"synchronous_commit": "off", "idle_in_transaction_session_timeout": "60s"},
    "gateway": {"statement_timeout": "10s", "idle_in_transaction_session_timeout": "15s"},
    "ingress": {"statement_timeout": "5s", "idle_in_transaction_session_timeout": "15s"},
    "orchestrator": {"statement_timeout": "5s", "idle_in_transaction_session_timeout": "15s"},
    "executor": {"statement_timeout": "5s", "idle_in_transaction_session_timeout": "15s"},
}
_KNOWN_ROLES: Final = """
select rolname, rolpassword, coalesce(setconfig, '{}') as settings
from pg_authid left join pg_db_role_setting on setrole = pg_authid.oid and setdatabase = 0
where rolname = any($1::text[])
"""
_LOCK: Final = 0x6175_746F
_ITERATIONS: Final = 4096
_VERIFIER: Final = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):[A-Za-z0-9+/=]+")


def head() -> str:
    """The newest revision that this release brings, told by the files' names."""
    return max(path.name.partition("_")[0] for path in (_FOLDER / "versions").glob("[0-9]*_*.py"))


def sql_file(name: str) -> str:
    return (_FOLDER / "sql" / f"{name}.sql").read_text()


async def migrate(address: PostgresAddress, password_files: Mapping[str, Path]) -> None:
    """Make roles and schemas, or bring them up to date. Safe to run again, and by two at once.

    `password_files` holds a file for each of `ROLES`. A password that changed is set anew.
    """
    passwords = {role: password_files[role].read_text().strip() for role in ROLES}
    try:
        connection = await asyncpg.connect(**address.login(), timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Refused(f"Postgres at {address.host} does not let {address.user} in: {error}.") from error
    try:
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        await _make_roles(connection, passwords)
        # What everybody may by default: the types of its rows are a session's own.
        await connection.execute(f'grant temporary on database "{address.database}" to "projector"')
        revision = await _revision(connection)
        if revision != head():
            _refuse_a_newer(revision)
            await connection.execute(
                f'grant create on database "{address.database}" to "owner";'
                'create schema if not exists migrations authorization "owner"'
            )
            await _upgrade(address, passwords["owner"])
    finally:
        await connection.close()


async def _make_roles(connection: "asyncpg.Connection[asyncpg.Record]", passwords: Mapping[str, str]) -> None:
    rows = await connection.fetch(_KNOWN_ROLES, ROLES)
    known = {row["rolname"]: row for row in rows}
    for role in ROLES:
        settings, verifier = (), None
        if role in known:
            settings, verifier = known[role]["settings"], known[role]["rolpassword"]
        else:
            await connection.execute(f'create role "{role}" login nosuperuser nobypassrls')
        for setting, value in _SETTINGS[role].items():
            if f"{setting}={value}" not in settings:
                await connection.execute(f"alter role \"{role}\" set {setting} = '{value}'")
        if not _opens(verifier, passwords[role]):
            # Hashed here: the password itself never travels in a statement that somebody may log.
            await connection.execute(f"alter role \"{role}\" password '{_verifier(passwords[role])}'")


async def _revision(connection: "asyncpg.Connection[asyncpg.Record]") -> str:
    if await connection.fetchval("select to_regclass('migrations.alembic_version')") is None:
        return ""
    return str(await connection.fetchval("select max(version_num) from migrations.alembic_version") or "")


def _refuse_a_newer(revision: str) -> None:
    if revision > head():
        raise Refused(
            f"The database has schema {revision}, this release knows {head()}: use a newer release."
        )


async def _upgrade(address: PostgresAddress, password: str) -> None:
    """Run the missing migrations in one transaction, as the owner of the schemas."""
    from sqlalchemy import URL, NullPool
    from sqlalchemy.ext.asyncio import create_async_engine

    url = URL.create("postgresql+asyncpg", username="owner", password=password, database=address.database)
    engine = create_async_engine(
        url, poolclass=NullPool, connect_args={"host": address.host, "port": address.port, "timeout": 10}
    )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run_alembic)
    finally:
        await engine.dispose()


def _run_alembic(connection: "Connection") -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _verifier(password: str) -> str:
    """What Postgres stores instead of a password (RFC 5802, RFC 7677)."""
    salt = secrets.token_bytes(16)
    stored, server = _keys(password, salt, _ITERATIONS)
    texts = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *texts)


def _opens(verifier: str | None, password: str) -> bool:
    parts = _VERIFIER.fullmatch(verifier or "")
    if parts is None:
        return False
    stored, _ = _keys(password, base64.b64decode(parts[2]), int(parts[1]))
    return hmac.compare_digest(stored, base64.b64decode(parts[3]))


def _keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
