"""A pool of connections to Postgres, and the one way to see an org's rows.

Rule: no session state but what all connections of a pool begin with. The org is set for a transaction and ends with it, so a
connection that goes back to the pool remembers nothing, and nothing needs to be reset.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chassis.ports import Ambiguous, Away
from chassis.settings import Settings

Leased: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

CONNECT_SECONDS: Final = 3.0
STATEMENT_SECONDS: Final = 30.0
_SET_ORG: Final = "select set_config('app.org', $1, true)"
_LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.InternalClientError,  # A connection that the server ended while nobody used it.
)
_BY_INDEX: Final = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
_PASSING: Final = ("08", "40", "53", "55", "57", "58")
"""Classes of errors that say something about Postgres and nothing about what it was asked: trying again helps."""


@asynccontextmanager
async def pool(
    settings: Settings,
    *,
    most: int = 10,
    statement_seconds: float = STATEMENT_SECONDS,
    by_index: bool = False,
    begins_with: str = "",
) -> AsyncIterator[Pool]:
    """Connections as this service's role. Opens with Postgres away as well: each use says `Away` then.

    `by_index`: for whoever touches rows by their keys only. A plan that was made while a table was empty, and is
    remembered, reads all of it for ever. `begins_with`: what every connection is told first, and may count on until it ends.
    """

    async def begin(connection: Connection) -> None:
        if begins_with:
            await connection.execute(begins_with)

    given = facts(settings) | {"command_timeout": statement_seconds}
    if by_index:
        given["server_settings"] = given["server_settings"] | _BY_INDEX
    opened = asyncpg.create_pool(**given, min_size=0, max_size=most, init=begin, reset=_nothing)
    async with _closing(opened):
        yield opened


def facts(settings: Settings) -> dict[str, Any]:
    """What asyncpg needs to connect as this service's role."""
    return {
        "host": settings.postgres_host,
        "port": settings.postgres_port,
        "database": settings.postgres_database,
        "user": settings.postgres_user,
        "password": password(settings),
        "timeout": CONNECT_SECONDS,
        "command_timeout": STATEMENT_SECONDS,
        "server_settings": {"jit": "off"},
    }


def password(settings: Settings) -> str | None:
    if not settings.postgres_password_file:
        return None
    return Path(settings.postgres_password_file).read_text().strip()


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool. Raises `Away` when there is none to be had, `Ambiguous` when it broke in use."""
    with told_as(Away):
        connection = await pool.acquire(timeout=CONNECT_SECONDS)
    try:
        with told_as(Ambiguous):
            yield connection
    finally:
        await give_back(pool, connection)


@asynccontextmanager
async def as_org(pool: Pool, org: str) -> AsyncIterator[Connection]:
    """A transaction that sees the rows of one org and no others."""
    async with connected(pool) as connection, connection.transaction():
        await connection.execute(_SET_ORG, org)
        yield connection


async def give_back(
    pool: Pool, connection: Leased, *, answers: bool = True, seconds: float = CONNECT_SECONDS
) -> None:
    """Return a connection to its pool; one that no longer `answers` is dropped.

    What is lost by now is dropped by the pool itself: it changes nothing of what its user has heard.
    """
    with suppress(*_LOST, asyncpg.PostgresError, asyncpg.InterfaceError):
        if not answers:
            connection.terminate()
        await pool.release(connection, timeout=seconds)


@contextmanager
def told_as(kind: type[Exception]) -> Iterator[None]:
    """Whatever says something about Postgres, and nothing about what it was asked, becomes this one."""
    try:
        yield
    except _LOST as error:
        raise kind(f"Postgres: {error or type(error).__name__}") from error
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "").startswith(_PASSING):
            raise kind(f"Postgres: {error}") from error
        raise
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):
            raise  # A value that cannot be sent: ours, not the connection's.
        raise kind(f"Postgres: {error}") from error


@asynccontextmanager
async def _closing(opened: Pool) -> AsyncIterator[None]:
    await opened
    try:
        yield
    finally:
        opened.terminate()  # Whoever still uses a connection here has been cancelled already.


async def _nothing(_: object) -> None:
    """Takes the place of asyncpg's reset query: nothing outlives a transaction."""
