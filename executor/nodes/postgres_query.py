"""Asks a PostgreSQL database, or changes what is in it, through the egress guard."""

import asyncio
import re
from typing import Annotated, Any, ClassVar, Final, Literal

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.prepared_stmt import PreparedStatement
from asyncpg.transaction import Transaction
from msgspec import Meta, Struct

from chassis.egress import POSTGRES_PORTS, Credential
from chassis.secret import BasicSecret
from contracts.limits import (
    DATABASE_ARGUMENTS,
    DATABASE_BYTES,
    DATABASE_ROWS,
    DATABASE_STATEMENTS,
    MIB,
)
from contracts.nodes import NodeSpec, Repeat
from executor.asking import Listener
from executor.database_values import Unfit, given, speak_text, strangers, told
from executor.errors import BadConfig, Refused, StepError, TookTooLong, TooLarge, Unreachable
from executor.forms import form
from executor.node import Context, Result, SecretField
from executor.wires import CONNECT_SECONDS, Door, Place, Wire, through_a_door, wired

_WISH: Final = (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"S")
"""SSLRequest, and the one letter that says yes."""
_PARTING_SECONDS: Final = 1.0
_ENDS: Final = frozenset(
    {"BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PREPARE TRANSACTION"}
)
_WORD: Final = re.compile(r"[A-Za-z]*")
_AHEAD: Final = re.compile(r"[\s;]+|--[^\r\n]*")
_COMMENT: Final = re.compile(r"/\*|\*/")
_CONTROL: Final = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "copy"}
)
_AGAIN: Final = ("40", "53", "55P03")
"""Classes and codes of refusals that may pass: lost against another transaction, no room, locked."""
_STOPPED: Final = "57014"
_AWAY: Final = ("57P", "58")

Sql = Annotated[
    str,
    Meta(
        title="SQL",
        description="One statement. Values stand in it as $1, $2, … and in the parameters; templates are not filled in here.",
        min_length=1,
        max_length=100_000,
        extra_json_schema={"x-expression": "none"},
    ),
]
Parameters = Annotated[
    tuple[Any, ...], Meta(title="Parameters", description="For $1, $2, …", max_length=DATABASE_ARGUMENTS)
]


class Statement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sql: Sql
    parameters: Parameters = ()


class PostgresQuery(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    port: Annotated[int, Meta(title="Port", ge=1, le=65_535)] = 5432
    database: Annotated[str, Meta(title="Database", min_length=1, max_length=63)]
    auth: Annotated[
        SecretField,
        Meta(
            title="Account",
            description="A secret of the kind `basic`; goes only to the hosts that it allows.",
        ),
    ] = None
    sql: Sql
    parameters: Parameters = ()
    then: Annotated[
        tuple[Statement, ...],
        Meta(
            title="Further statements",
            description="In the same transaction: all of them hold, or none.",
            max_length=DATABASE_STATEMENTS - 1,
        ),
    ] = ()
    read_only: Annotated[
        bool,
        Meta(
            title="Only read",
            description="The database refuses every change, so the step may be repeated without asking.",
            extra_json_schema={"x-expression": "none"},
        ),
    ] = False
    isolation: Annotated[
        Literal["read_committed", "repeatable_read", "serializable"], Meta(title="Isolation")
    ] = "read_committed"
    max_rows: Annotated[
        int,
        Meta(title="Most rows", description="Of each statement. More are an error.", ge=1, le=DATABASE_ROWS),
    ] = 1_000
    max_bytes: Annotated[
        int, Meta(title="Largest answer", description="In bytes, all together.", ge=1, le=DATABASE_BYTES)
    ] = 4 * MIB
    timeout_s: Annotated[
        float, Meta(title="Timeout", description="Seconds, for all statements.", gt=0, le=3_600)
    ] = 30.0


class PostgresQueryNode:
    """Reading repeats without asking; a change whose COMMIT was not answered leaves doubt."""

    spec: ClassVar = NodeSpec(
        type="postgres.query",
        title="PostgreSQL",
        help="Runs SQL in one transaction and hands on the rows. Big and exact numbers come as texts, moments as "
        "2026-11-20T12:00:00Z, bytes as Base64.",
        icon="database",
        category="Databases",
        repeat="no",
        config=form(PostgresQuery),
    )
    config: ClassVar = PostgresQuery

    def repeat(self, config: PostgresQuery) -> Repeat:
        return "yes" if config.read_only else "no"

    async def run(self, config: PostgresQuery, context: Context) -> Result:
        statements = (Statement(sql=config.sql, parameters=config.parameters), *config.then)
        for place, statement in enumerate(statements):
            _check(statement, place)
        credential, account = await _account(config, context)

        async def line() -> Wire:
            return await wired(
                context.egress,
                config,
                config.port,
                usual=POSTGRES_PORTS,
                credential=credential,
                greeting=_WISH,
            )

        listener = Listener(encrypted=config.tls != "disable")

        async def work(door: Door) -> list[dict[str, Any]]:
            return await _Talk(config, context, door, listener).all_of(statements, account)

        began = asyncio.get_running_loop().time()
        results = await through_a_door(line, work, name=".s.PGSQL.5432", most=config.max_bytes, hear=listener)
        took = round((asyncio.get_running_loop().time() - began) * 1000)
        rows = sum(len(result["rows"]) for result in results)
        context.log("answered", rows=rows, statements=len(results), ms=took)
        return Result(output=results[0] | ({"then": results[1:]} if config.then else {}))


class _Talk:
    """One transaction."""

    def __init__(self, config: PostgresQuery, context: Context, door: Door, listener: Listener) -> None:
        self._config, self._context, self._door, self._listener = config, context, door, listener
        self._place = 0
        self._committing = False

    async def all_of(self, statements: tuple[Statement, ...], account: BasicSecret) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(self._config.timeout_s + CONNECT_SECONDS):
                return await self._connected(statements, account)
        except TimeoutError:
            raise TookTooLong("The database did not answer in time.", touched=self._committing) from None
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
            if self._listener.refused:
                raise Refused(
                    "The database wants the password in the clear on a line without encryption, so it was not sent."
                ) from None
            if self._door.overflowed:
                raise TooLarge("The database says more than the limit.", touched=self._committing) from None
            raise Unreachable("The line to the database broke.", touched=self._committing) from error
        except asyncpg.PostgresError as error:
            raise _refusal(error, self._place) from None

    async def _connected(
        self, statements: tuple[Statement, ...], account: BasicSecret
    ) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(
            host=str(self._door.folder),
            port=5432,
            database=self._config.database,
            user=account.user,
            password=account.password.reveal_text(),
            ssl=False,  # The door's line is the encrypted one.
            timeout=CONNECT_SECONDS,
            command_timeout=self._config.timeout_s,
            statement_cache_size=0,
            target_session_attrs=SessionAttribute.any,
            server_settings={"application_name": "AutomateOS", "TimeZone": "UTC", "DateStyle": "ISO"},
        )
        try:
            if self._config.read_only:
                return await self._transaction(connection, statements)
            async with self._context.effect():
                return await self._transaction(connection, statements)
        finally:
            # Also tells the server to stop what is still under way.
            await connection.close(timeout=_PARTING_SECONDS)

    async def _transaction(
        self, connection: "asyncpg.Connection[Any]", statements: tuple[Statement, ...]
    ) -> list[dict[str, Any]]:
        transaction: Transaction = connection.transaction(
            isolation=self._config.isolation, readonly=self._config.read_only
        )
        await transaction.start()
        # Whatever reads fixes the snapshot: from here on a transaction that only reads cannot be made one that writes.
        await connection.execute(
            "SELECT pg_catalog.set_config('statement_timeout', $1, true)",
            str(int(self._config.timeout_s * 1000)),
        )
        results = []
        for self._place, statement in enumerate(statements):
            results.append(await self._one(connection, statement))
        self._committing = not self._config.read_only
        await transaction.commit()
        return results

    async def _one(self, connection: "asyncpg.Connection[Any]", statement: Statement) -> dict[str, Any]:
        prepared: PreparedStatement[Any] = await connection.prepare(statement.sql)
        columns = prepared.get_attributes()
        kinds = [*prepared.get_parameters(), *(column.type for column in columns)]
        if unknown := strangers(kinds):
            await speak_text(unknown, connection.set_type_codec)
            prepared = await connection.prepare(statement.sql)
        values = self._values(prepared, statement)
        try:
            if columns:
                cursor = await prepared.cursor(*values)
                rows = await cursor.fetch(self._config.max_rows + 1)
                command = ""
            else:
                rows = await prepared.fetch(*values)
                command = prepared.get_statusmsg() or ""
        except asyncpg.DataError as error:
            if error.severity is None:  # Said by the library: a number out of its type's range and the like.
                raise BadConfig(
                    "A parameter does not fit its type.", field=f"{_at(self._place)}/parameters"
                ) from None
            raise
        if not connection.is_in_transaction() or command in _ENDS:
            raise Refused("The statement ended the transaction.", touched=not self._config.read_only)
        if len(rows) > self._config.max_rows:
            raise TooLarge(f"There are more than {self._config.max_rows} rows.", field="/max_rows")
        number = command.rpartition(" ")[2]
        names = _names([column.name for column in columns])
        kinds = [column.type for column in columns]
        return {
            "columns": [{"name": name, "type": kind.name} for name, kind in zip(names, kinds, strict=True)],
            "rows": [
                {name: told(value, kind) for name, value, kind in zip(names, row, kinds, strict=True)}
                for row in rows
            ],
            "count": int(number) if number.isdecimal() else len(rows),
        }

    def _values(self, prepared: "PreparedStatement[Any]", statement: Statement) -> list[Any]:
        kinds, at = prepared.get_parameters(), f"{_at(self._place)}/parameters"
        if len(kinds) != len(statement.parameters):
            raise BadConfig(
                f"The statement has {len(kinds)} parameters, and {len(statement.parameters)} are given.",
                field=at,
            )
        values = []
        for number, (value, kind) in enumerate(zip(statement.parameters, kinds, strict=True)):
            try:
                values.append(given(value, kind))
            except Unfit as error:
                raise BadConfig(str(error), field=f"{at}/{number}") from None
        return values


def _names(columns: list[str]) -> list[str]:
    """One name for each column: the second `id` is `id_2`, so that no value hides another."""
    names: dict[str, None] = {}
    for column in columns:
        candidates = (column, *(f"{column}_{number}" for number in range(2, len(columns) + 2)))
        names[next(name for name in candidates if name not in names)] = None
    return list(names)


def _at(place: int) -> str:
    return f"/then/{place - 1}" if place else ""


def _check(statement: Statement, place: int) -> None:
    if "\0" in statement.sql or first_word(statement.sql) in _CONTROL:
        raise BadConfig(
            "The node begins and ends the transaction; a statement cannot, and nothing is copied.",
            field=f"{_at(place)}/sql",
        )


def first_word(sql: str) -> str:
    """What a statement begins with, behind blanks and comments (which contain each other); in one walk over the text."""
    at = 0
    while at < len(sql):
        if sql.startswith("/*", at):
            at = _behind_comment(sql, at)
        elif blank := _AHEAD.match(sql, at):
            at = blank.end()
        else:
            break
    word = _WORD.match(sql, at)
    return word[0].lower() if word else ""


def _behind_comment(sql: str, at: int) -> int:
    depth = 0
    for mark in _COMMENT.finditer(sql, at):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(sql)


async def _account(config: PostgresQuery, context: Context) -> tuple[Credential, BasicSecret]:
    if config.auth is None:
        raise BadConfig("An account is needed.", field="/auth")
    credential = await context.open(config.auth)
    if not isinstance(credential.value, BasicSecret):
        raise BadConfig("The secret is not of the kind `basic`.", field="/auth")
    return credential, credential.value


def _refusal(error: asyncpg.PostgresError, place: int) -> StepError:
    """What the database said, by its code and the names of things.

    Its words come along only where they are about the SQL itself, in which no value stands.
    """
    state = error.sqlstate or ""
    if state == _STOPPED:
        return TookTooLong("The database did not answer in time.")
    if state.startswith(_AWAY):
        return Unreachable(f"The database is not there (SQLSTATE {state}).")
    names = [
        f"{what} {name}"
        for what in ("table", "column", "constraint")
        if (name := getattr(error, f"{what}_name", None))
    ]
    words = (
        str(error.args[0])[:300]
        if state.startswith("42") and error.args
        else type(error).__name__.removesuffix("Error")
    )
    about = f": {', '.join(names)}" if names else ""
    return Refused(
        f"The database refused: {words}{about} (SQLSTATE {state}).",
        retryable=state.startswith(_AGAIN),
        field=f"{_at(place)}/sql",
    )


node = PostgresQueryNode()
