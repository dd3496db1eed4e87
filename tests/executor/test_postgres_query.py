"""What the node for PostgreSQL asks, gives and refuses; against the real server of the embedded stack, through the guard."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import trustme

from chassis.egress import POSTGRES_PORTS
from chassis.egress.addresses import may_reach, parse_allowed
from chassis.secret import BasicSecret, BearerSecret, Secret
from contracts.codec import decode_json, encode
from contracts.messages import Outcome, StepBroken, StepDone, StepInDoubt, StepLetGo, Task
from contracts.payloads import Inline
from deploy.servers import PostgresAddress
from executor.nodes.postgres_query import first_word, node
from tests.executor.bridges import Bridge, bridged
from tests.executor.fakes import STEP, World, scheduled, task, until

PASSWORD = "c4nary-pässword'"


@pytest.fixture
async def account(database: PostgresAddress) -> AsyncIterator["Account"]:
    """A database, and somebody who may do everything in it but came by a password."""
    admin = await connected(database)
    user = f"u_{database.database}"
    try:
        await admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
        await admin.execute(f"GRANT ALL ON SCHEMA public TO {user}")
        yield Account(database, user, admin)
        await admin.execute(f"DROP OWNED BY {user}; DROP ROLE {user}")
    finally:
        await admin.close()


async def connected(address: PostgresAddress) -> Any:
    return await asyncpg.connect(**address.login())


class Account:
    def __init__(self, address: PostgresAddress, user: str, admin: Any) -> None:
        self.address, self.user, self.admin = address, user, admin

    @property
    def path(self) -> str:
        return f"{self.address.host}/.s.PGSQL.{self.address.port}"

    def world(self, *hosts: str, password: str = PASSWORD) -> World:
        world = World(allow="127.0.0.0/8:*")
        world.safe.keep(
            "s1", BasicSecret(user=self.user, password=Secret(password)), *(hosts or ("127.0.0.1",))
        )
        return world

    def config(self, port: int, sql: str, *parameters: Any, **more: Any) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": port,
            "tls": "disable",
            "database": self.address.database,
            "auth": {"$secret": "s1"},
            "sql": sql,
            "parameters": list(parameters),
            **more,
        }

    async def attempted(self, sql: str, *parameters: Any, world: World | None = None, **more: Any) -> Outcome:
        """The outcome of one attempt."""
        world = world or self.world()
        async with bridged(self.path) as bridge, world.executor():
            config = self.config(bridge.port, sql, *parameters, **more)
            world.source.put(query(config))
            await until(lambda: world.outcomes)
        assert PASSWORD not in str(world.outcomes)
        assert PASSWORD not in str(world.said)
        return world.outcomes[0]


def query(config: dict[str, Any], **more: Any) -> Task:
    return task(config, node_type="postgres.query", repeat="no", secrets=("/auth",), timeout_s=20.0, **more)


def output(outcome: Outcome) -> Any:
    assert isinstance(outcome, StepDone), outcome
    assert isinstance(outcome.output, Inline)
    return decode_json(outcome.output.value)


def broken(outcome: Outcome) -> StepBroken:
    assert isinstance(outcome, StepBroken), outcome
    return outcome


# --- Values ---------------------------------------------------------------------------------------


TYPES: list[tuple[str, Any, Any]] = [
    ("bool", True, True),
    ("int2", 7, 7),
    ("int4", "7", 7),
    ("int8", 2**53 - 1, 2**53 - 1),
    ("int8", str(2**53), str(2**53)),
    ("float8", 1.5, 1.5),
    ("float8", "NaN", "nan"),
    ("numeric", "12345678901234567890.10", "12345678901234567890.10"),
    ("numeric", 7, "7"),
    ("text", "grüß' -- \\", "grüß' -- \\"),
    ("text", 7, "7"),
    ("uuid", "b2c31a9e-3a1c-4d4f-9d2f-000000000001", "b2c31a9e-3a1c-4d4f-9d2f-000000000001"),
    ("date", "2026-11-20", "2026-11-20"),
    ("time", "12:00:00.5", "12:00:00.5"),
    ("timestamptz", "2026-11-20T14:00:00.25+02:00", "2026-11-20T12:00:00.25Z"),
    ("timestamp", "2026-11-20 12:00:00", "2026-11-20T12:00:00"),
    ("timestamptz", "infinity", "infinity"),
    ("timestamptz", "0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"),
    ("interval", "1 month 2 days", "1 mon 2 days"),
    ("jsonb", {"a": [1, None, "x"]}, {"a": [1, None, "x"]}),
    ("json", "text", "text"),
    ("bytea", "AP8=", "AP8="),
    ("inet", "10.0.0.1/8", "10.0.0.1/8"),
    ("money", "$1.50", "$1.50"),
    ("int4[]", [1, None, [2]][:2], [1, None]),
    ("text[]", [["a", "b"], ["c", "d"]], [["a", "b"], ["c", "d"]]),
    ("timestamptz[]", ["2026-11-20T12:00:00Z"], ["2026-11-20T12:00:00Z"]),
    ("jsonb[]", [{"a": 1}, [2]], [{"a": 1}, [2]]),
    ("text", None, None),
]


async def test_every_type_goes_in_and_comes_out_as_the_table_says(account: Account) -> None:
    columns = ", ".join(f"${number}::{kind} AS c{number}" for number, (kind, _, _) in enumerate(TYPES, 1))
    values = [value for _, value, _ in TYPES]
    [row] = output(await account.attempted(f"SELECT {columns}", *values, read_only=True))["rows"]
    assert list(zip(TYPES, row.values(), strict=True)) == [(case, case[2]) for case in TYPES]


async def test_what_has_a_shape_of_its_own_is_told_by_its_parts(account: Account) -> None:
    got = output(
        await account.attempted(
            "SELECT int4range(1, 5) AS r, ROW(1, 'x'::text) AS c, 'empty'::int4range AS e, 1 AS id, 2 AS id, NULL AS n"
        )
    )
    [row] = got["rows"]
    assert row["r"] == {"lower": 1, "upper": 5, "lower_inc": True, "upper_inc": False}
    assert (row["e"], row["id"], row["id_2"], row["n"]) == ({"empty": True}, 1, 2, None)
    assert row["c"] == "(1,x)"
    assert [column["name"] for column in got["columns"]] == ["r", "c", "e", "id", "id_2", "n"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int4", "x"), ("int4", 1.5), ("int4", True), ("int2", 70_000), ("bool", "yes"), ("text", {"a": 1}),
     ("bytea", "no base64!"), ("int4[]", 1), ("int4range", [1, 2])],
)  # fmt: skip
async def test_a_value_that_is_none_of_its_type_is_refused_by_its_place(
    account: Account, kind: str, value: Any
) -> None:
    told = broken(await account.attempted(f"SELECT $1::{kind}", value)).error
    assert told.code == "workflow.bad_config"
    assert (told.field or "").startswith("/parameters")


async def test_what_is_given_is_never_sql(account: Account) -> None:
    await account.admin.execute("CREATE TABLE t (a text)")
    await account.admin.execute(f"GRANT ALL ON t TO {account.user}")
    hostile = "'); DROP TABLE t; --"
    assert output(await account.attempted("INSERT INTO t VALUES ($1)", hostile))["count"] == 1
    assert await account.admin.fetchval("SELECT a FROM t") == hostile


@pytest.mark.parametrize(
    ("sql", "parameters", "field"),
    [("SELECT $1::int", [], "/parameters"), ("SELECT 1", [1], "/parameters"), ("  -- x\n/* y */ COMMIT", [], "/sql"),
     ("copy t TO STDOUT", [], "/sql"), ("/* /* */ */ COMMIT", [], "/sql"), ("-- x\rCOMMIT", [], "/sql"), ("; ;End", [], "/sql"), ("SELECT 1\0", [], "/sql")],
)  # fmt: skip
async def test_a_statement_that_does_not_fit_is_refused(
    account: Account, sql: str, parameters: list[Any], field: str
) -> None:
    told = broken(await account.attempted(sql, *parameters)).error
    assert (told.code, told.field) == ("workflow.bad_config", field)


@pytest.mark.parametrize("part", ["/*", "/**/", "--\n", ";", "/* ", "/* */ */", " ", "-"])
def test_what_a_statement_begins_with_is_found_in_one_walk(part: str) -> None:
    assert first_word(part * (100_000 // len(part)) + "!") == ""


# --- Transactions -----------------------------------------------------------------------------------


@pytest.fixture
async def table(account: Account) -> Account:
    await account.admin.execute("CREATE TABLE t (a int UNIQUE)")
    await account.admin.execute(f"GRANT ALL ON t TO {account.user}")
    return account


async def kept(account: Account) -> list[int]:
    return [row["a"] for row in await account.admin.fetch("SELECT a FROM t ORDER BY a")]


async def test_statements_hold_together(table: Account) -> None:
    more = [
        {"sql": "INSERT INTO t VALUES ($1) RETURNING a", "parameters": [2]},
        {"sql": "SELECT count(*) AS n FROM t"},
    ]
    got = output(await table.attempted("INSERT INTO t VALUES (1)", then=more))
    assert got["count"] == 1
    assert [result["rows"] for result in got["then"]] == [[{"a": 2}], [{"n": 2}]]
    assert await kept(table) == [1, 2]


async def test_when_one_is_refused_none_holds(table: Account) -> None:
    more = [{"sql": "INSERT INTO t VALUES (1)"}]
    told = broken(await table.attempted("INSERT INTO t VALUES (1)", then=more)).error
    assert (
        told.message == "The database refused: UniqueViolation: table t, constraint t_a_key (SQLSTATE 23505)."
    )
    assert (told.field, told.retryable) == ("/then/0/sql", False)
    assert await kept(table) == []


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("INSERT INTO t VALUES (1)", None),
        ("SET TRANSACTION READ WRITE", "INSERT INTO t VALUES (1)"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "INSERT INTO t VALUES (1)"),
        ("/* /* */ */ COMMIT AND CHAIN", "INSERT INTO t VALUES (1)"),
        ("/* /* */ */ COMMIT", "INSERT INTO t VALUES (1)"),
    ],
)
async def test_what_only_reads_can_by_no_way_write(table: Account, first: str, then: str | None) -> None:
    more = [{"sql": then}] if then else []
    broken(await table.attempted(first, then=more, read_only=True))
    assert await kept(table) == []


@pytest.mark.parametrize("end", ["COMMIT", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"])
async def test_a_statement_that_ended_the_transaction_all_the_same_leaves_doubt(
    table: Account, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.nodes.postgres_query._CONTROL", frozenset())
    more = [{"sql": end}, {"sql": "INSERT INTO t VALUES (2)"}]
    assert isinstance(await table.attempted("INSERT INTO t VALUES (1)", then=more), StepInDoubt)
    assert 2 not in await kept(table)


async def test_a_wrong_statement_is_told_in_the_databases_words_and_a_wrong_value_is_not(
    table: Account,
) -> None:
    told = broken(await table.attempted("SELEC 1")).error
    assert told.message == 'The database refused: syntax error at or near "SELEC" (SQLSTATE 42601).'
    told = broken(await table.attempted("SELECT $1::text::int", "s3cret")).error
    assert told.message == "The database refused: InvalidTextRepresentation (SQLSTATE 22P02)."


# --- Bounds -----------------------------------------------------------------------------------------


async def test_rows_bytes_and_time_are_bounded(account: Account) -> None:
    rows = "SELECT n FROM generate_series(1, $1::int) n"
    assert len(output(await account.attempted(rows, 5, max_rows=5))["rows"]) == 5
    told = broken(await account.attempted(rows, 6, max_rows=5)).error
    assert (told.code, told.field) == ("payload.too_large", "/max_rows")
    told = broken(await account.attempted("SELECT repeat('x', 1000000)", max_bytes=100_000)).error
    assert told.code == "payload.too_large"
    told = broken(await account.attempted("SELECT pg_sleep(60)", timeout_s=0.2)).error
    assert told.code == "attempt.timeout"
    await nothing_sleeps(account)


async def nothing_sleeps(account: Account) -> None:
    async with asyncio.timeout(30):
        while await account.admin.fetchval(sleeping, account.user):
            await asyncio.sleep(0.01)


sleeping = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND query LIKE '%pg_sleep%' AND state = 'active'"


# --- Where it goes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1"])
async def test_a_private_address_is_refused_before_anything_connects(account: Account, host: str) -> None:
    world = World(allow="127.0.0.0/8 10.0.0.0/8")  # Opened for calls: not for databases.
    world.safe.keep("s1", BasicSecret(user="u", password=Secret(PASSWORD)), host)
    async with bridged(account.path) as bridge, world.executor():
        for number, port in enumerate((bridge.port, 5432)):
            config = account.config(port, "SELECT 1", host=host)
            world.source.put(query(config, step=f"call[{number}]"))
        await until(lambda: len(world.outcomes) == 2)
        assert bridge.connections == 0
    assert {broken(outcome).error.code for outcome in world.outcomes} == {"unreachable"}


def test_a_network_opened_for_calls_is_not_opened_for_databases() -> None:
    assert not may_reach("10.0.0.1", 5432, POSTGRES_PORTS, parse_allowed("10.0.0.0/8"))
    assert may_reach("10.0.0.1", 5432, POSTGRES_PORTS, parse_allowed("10.0.0.0/8:5432"))
    assert may_reach("93.184.216.34", 5432, POSTGRES_PORTS, ())
    assert not may_reach("93.184.216.34", 22, POSTGRES_PORTS, ())


async def test_an_account_goes_to_its_own_hosts_only(account: Account) -> None:
    world = account.world("db.example.com")
    told = broken(await account.attempted("SELECT 1", world=world)).error
    assert told.code == "secret.not_allowed"


async def test_a_wrong_password_is_told_without_it(account: Account) -> None:
    world = account.world(password="wr0ng")
    told = broken(await account.attempted("SELECT 1", world=world)).error
    assert told.message == "The database refused: InvalidPassword (SQLSTATE 28P01)."
    assert "wr0ng" not in str(world.said)


async def test_a_secret_of_another_kind_and_none_are_refused(account: Account) -> None:
    world = account.world()
    world.safe.keep("s1", BearerSecret(token=Secret("t")), "127.0.0.1")
    for more in ({}, {"auth": None}):
        told = broken(await account.attempted("SELECT 1", world=world, **more)).error
        assert (told.code, told.field) == ("workflow.bad_config", "/auth")


@pytest.mark.parametrize(
    ("tls", "trusted", "code"),
    [("verify-full", True, None), ("verify-full", False, "refused"), ("require", False, None)],
)
async def test_the_line_is_encrypted_as_it_was_asked_for(
    account: Account, tls: str, trusted: bool, code: str | None
) -> None:
    authority, world = trustme.CA(), account.world()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ca = authority.cert_pem.bytes().decode() if trusted else ""
    async with bridged(account.path, context, asks_first=True) as bridge, world.executor():
        world.source.put(query(account.config(bridge.port, "SELECT 1 AS a", tls=tls, ca=ca)))
        await until(lambda: world.outcomes)
    [outcome] = world.outcomes
    assert (broken(outcome).error.code if code else output(outcome)["rows"]) == (code or [{"a": 1}])


async def test_a_server_without_encryption_is_not_told_the_password(account: Account) -> None:
    told = broken(await account.attempted("SELECT 1", tls="require")).error
    assert (told.code, told.message) == ("unreachable", "No encrypted connection came about.")
    told = broken(await account.attempted("SELECT 1", tls="verify-full", ca="x")).error
    assert (told.code, told.field) == ("workflow.bad_config", "/ca")


ASKS: bytes = b"R\0\0\0\x08\0\0\0\x03"
NOTICE: bytes = b"N\0\0\0\x0cSWARNING\0"


@pytest.mark.parametrize("pieces", [[ASKS], [NOTICE + ASKS], [NOTICE[:7], NOTICE[7:] + ASKS[:3], ASKS[3:]]])
async def test_a_password_is_not_sent_in_the_clear(account: Account, pieces: list[bytes]) -> None:
    heard: list[bytes] = []

    async def rogue(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1_000))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        while data := await reader.read(1_000):
            heard.append(data)
        writer.close()

    world = account.world()
    server = await asyncio.start_server(rogue, "127.0.0.1", 0)
    async with server, world.executor():
        world.source.put(query(account.config(server.sockets[0].getsockname()[1], "SELECT 1")))
        await until(lambda: world.outcomes)
    assert broken(world.outcomes[0]).error.message.startswith("The database wants the password in the clear")
    assert PASSWORD.encode() not in b"".join(heard)
    assert len(heard) == 1


# --- Doubt ------------------------------------------------------------------------------------------


async def in_the_middle(account: Account, bridge: Bridge, world: World, config: dict[str, Any]) -> None:
    world.source.put(query(config))

    async def asleep() -> bool:
        return bool(await account.admin.fetchval(sleeping, account.user))

    async with asyncio.timeout(60):
        while not await asleep():
            await asyncio.sleep(0.01)


async def test_a_commit_that_nobody_answered_leaves_doubt(table: Account) -> None:
    world = table.world()
    async with bridged(table.path) as bridge, world.executor():
        bridge.loses = lambda data: b"COMMIT;" in data
        world.source.put(query(table.config(bridge.port, "INSERT INTO t VALUES (1)")))
        await until(lambda: world.outcomes)
    assert isinstance(world.outcomes[0], StepInDoubt)
    assert await kept(table) == [1]


async def test_a_line_that_breaks_before_the_commit_leaves_none(table: Account) -> None:
    world = table.world()
    async with bridged(table.path) as bridge, world.executor():
        bridge.loses = lambda data: b"INSERT" in data
        world.source.put(query(table.config(bridge.port, "INSERT INTO t VALUES (1)")))
        await until(lambda: world.outcomes)
    told = broken(world.outcomes[0]).error
    assert (told.code, told.retryable) == ("unreachable", True)
    assert await kept(table) == []


async def test_killed_in_the_middle_of_a_change_nobody_knows_and_of_reading_it_is_done_again(
    table: Account,
) -> None:
    for read_only in (False, True):
        world = table.world()
        world.runs.commit(scheduled())
        world.source.connected_since = 1e12
        async with bridged(table.path) as bridge:
            config = table.config(bridge.port, "SELECT pg_sleep(3)", read_only=read_only)
            async with world.executor() as first:
                await in_the_middle(table, bridge, world, config)
                await first.kill()
            assert world.outcomes == []
            async with world.executor():
                world.source.put(query(config))
                await until(lambda: world.outcomes)  # noqa: B023  # Used before the next turn.
        assert isinstance(world.outcomes[0], StepDone if read_only else StepInDoubt)
        await nothing_sleeps(table)


async def test_stopping_the_run_stops_the_statement(table: Account) -> None:
    world = table.world()
    async with bridged(table.path) as bridge, world.executor():
        await in_the_middle(table, bridge, world, table.config(bridge.port, "SELECT pg_sleep(60)"))
        world.owner.cancel((STEP, 1))
        await until(lambda: world.outcomes)
        [outcome] = world.outcomes
        assert isinstance(outcome, StepLetGo)
        assert outcome.effect == "possible"
        await nothing_sleeps(table)


def test_sql_is_no_template_and_the_account_a_secret() -> None:
    assert node.spec.config["properties"]["sql"]["x-expression"] == "none"
    assert b"x-secret" in encode(node.spec.config["properties"]["auth"])
