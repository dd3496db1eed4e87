"""The real servers of the embedded stack, from wheels: nats-server, Postgres, Redis and a mail server.

Importing this package imports none of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from deploy.data_directory import DataDirectory
from deploy.keys import Keys
from deploy.servers import postgres
from deploy.servers.mail import Mail
from deploy.servers.nats import Nats, NatsOptions
from deploy.servers.postgres import Postgres
from deploy.servers.postgres_home import OUTSIDE
from deploy.servers.redis import Redis
from deploy.supervisor import Child, Say


class PostgresAddress(Struct, frozen=True, kw_only=True):
    """What a connection to Postgres needs."""

    host: str
    """A host name, or the folder of the unix socket."""
    port: int
    database: str
    user: str
    password_file: str

    def password(self) -> str:
        return Path(self.password_file).read_text().strip()

    def login(self) -> dict[str, Any]:
        """The same by asyncpg's names."""
        return {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password(),
        }


class Servers(Struct, frozen=True, kw_only=True):
    """Where the servers are: all that a test or a service needs to know of them."""

    nats_url: str
    nats_monitor_url: str
    nats_version: str
    nats_staging: str
    """Whether atomic batches are staged in memory, and why not; for `doctor` and the benchmarks."""
    postgres: PostgresAddress
    redis_url: str
    smtp_host: str
    """Empty, and the port 0, when there is no mail server."""
    smtp_port: int


class ServerOptions(Struct, frozen=True, kw_only=True):
    """What can be decided about the servers."""

    nats: NatsOptions = NatsOptions()
    smtp_port: int | None = 0
    """0: wherever a port is free; none: no mail server."""
    outside: Path = OUTSIDE


class EmbeddedServers:
    """The servers of one data directory; `children` for a supervisor, `facts` once they are ready."""

    def __init__(
        self, data: DataDirectory, *, options: ServerOptions, env: Mapping[str, str], say: Say
    ) -> None:
        self._password_file = Keys(data).postgres_password(postgres.SUPERUSER)
        self._nats = Nats(data, options=options.nats, env=env, say=say)
        self._postgres = Postgres(
            data, password_file=self._password_file, env=env, say=say, outside=options.outside
        )
        self._redis = Redis(data, env=env)
        self._mail = None if options.smtp_port is None else Mail(data, port=options.smtp_port, env=env)

    def children(self) -> list[Child]:
        servers = [self._nats.child(), self._postgres.child(), self._redis.child()]
        return servers if self._mail is None else [*servers, self._mail.child()]

    def link_staging(self) -> None:
        """After streams were made: their staging folders move into memory too."""
        self._nats.link_staging()

    def forget_staging(self) -> None:
        """After nats-server has ended."""
        self._nats.staging.forget()

    def facts(self) -> Servers:
        return Servers(
            nats_url=self._nats.url,
            nats_monitor_url=self._nats.monitor_url,
            nats_version=self._nats.version,
            nats_staging=self._nats.staging.state,
            postgres=PostgresAddress(
                host=str(self._postgres.socket_folder),
                port=postgres.PORT,
                database=postgres.DATABASE,
                user=postgres.SUPERUSER,
                password_file=str(self._password_file),
            ),
            redis_url=self._redis.url,
            smtp_host="127.0.0.1" if self._mail else "",
            smtp_port=self._mail.port if self._mail else 0,
        )
