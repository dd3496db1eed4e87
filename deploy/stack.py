"""What an embedded stack is made of: its services, what each is told, and where it can be reached."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from chassis.settings import PREFIX, Settings, environment_of
from deploy.data_directory import DataDirectory, holder, write_whole
from deploy.keys import Keys, NatsUser
from deploy.ports import Wanted
from deploy.process import is_alive, marks
from deploy.readiness import near
from deploy.servers import Servers
from deploy.servers.postgres import SUPERUSER

BATCH_FROM_STAGED: Final = 3
"""Batches that are staged in memory pay from so many commits on (measured: docs/performance.md)."""
SINK_HOST: Final = "127.0.0.1"
"""The mail server of the stack. `localhost` as AUTOMATEOS_SMTP_HOST means one that runs here already."""
_FACTS_FILE: Final = "run/stack.json"
_REFUSAL_FILE: Final = "run/refused"


class Service(Struct, frozen=True, kw_only=True):
    """One of our services, as the stack starts it."""

    name: str
    """The package that `python -m` runs, the user at nats-server, and what the port's setting begins with."""
    postgres_role: str = ""
    """The role that it works as; empty: it has no business with Postgres."""
    opens_secrets: bool = False
    signs: bool = False
    public: bool = False
    """Its port is for the world: it speaks TLS when the settings name a certificate."""
    argv: tuple[str, ...] = ()
    """Instead of `python -m <name>`."""

    def port(self, settings: Settings) -> int:
        port: int = getattr(settings, f"{self.name}_port")
        return port


SERVICES: Final = (
    Service(name="ingress", postgres_role="ingress", opens_secrets=True, public=True),
    Service(name="orchestrator", postgres_role="orchestrator"),
    Service(name="executor", postgres_role="executor", opens_secrets=True),
    Service(name="projections", postgres_role="projector", opens_secrets=True, signs=True),
    Service(name="gateway", postgres_role="gateway", opens_secrets=True, public=True),
)


def wanted_ports(settings: Settings, services: Sequence[Service] = SERVICES) -> list[Wanted]:
    """Every port that a stack with these settings listens on, but those that nobody chooses."""
    wanted = [
        Wanted(setting=f"{service.name}_port", host=settings.host, port=service.port(settings))
        for service in services
    ]
    if settings.grpc_port:
        wanted.append(Wanted(setting="grpc_port", host=settings.host, port=settings.grpc_port))
    if settings.smtp_host == SINK_HOST:
        wanted.append(Wanted(setting="smtp_port", host=SINK_HOST, port=settings.smtp_port))
    return wanted


def local_url(settings: Settings, port: int) -> str:
    """Where a service with a public port is reached on this machine."""
    return f"{'https' if settings.tls_certificate_file else 'http'}://{near(settings.host)}:{port}"


def public_url(settings: Settings) -> str:
    """What the operator set; else where ingress really listens, which need not be its usual port."""
    usual = Settings().public_url
    return settings.public_url if settings.public_url != usual else local_url(settings, settings.ingress_port)


def own_urls(settings: Settings) -> str:
    """What the operator set; and where ingress and the API really listen on this machine."""
    named = [] if settings.own_urls == Settings().own_urls else [settings.own_urls]
    local = (local_url(settings, port) for port in (settings.ingress_port, settings.gateway_port))
    return ",".join([*named, *local])


class Stack(Struct, frozen=True, kw_only=True):
    """A data directory whose servers run: what the hooks get to work with."""

    data: DataDirectory
    servers: Servers
    settings: Settings
    """What the operator set; the addresses in it are not filled in (see `settings_as`)."""
    users: Mapping[str, NatsUser]

    def settings_as(self, nats_user: str, *, postgres_role: str = SUPERUSER) -> Settings:
        """The settings of whoever works as these two; without users at nats-server everybody may do everything."""
        address = self.servers.postgres
        user = self.users[nats_user] if self.users else None
        return msgspec.structs.replace(
            self.settings,
            public_url=public_url(self.settings),
            own_urls=own_urls(self.settings),
            data_dir=str(self.data.root),
            nats_url=self.servers.nats_url,
            nats_monitor_url=self.servers.nats_monitor_url,
            nats_seed_file=str(user.seed_file) if user else "",
            batch_from=BATCH_FROM_STAGED
            if self.servers.nats_staging.startswith("in memory")
            else self.settings.batch_from,
            postgres_host=address.host,
            postgres_port=address.port,
            postgres_database=address.database,
            postgres_user=postgres_role,
            postgres_password_file=str(Keys(self.data).postgres_password(postgres_role)),
            redis_url=self.servers.redis_url,
            smtp_host=self.servers.smtp_host or self.settings.smtp_host,
            smtp_port=self.servers.smtp_port or self.settings.smtp_port,
            master_key_file=str(Keys(self.data).master_key),
            signing_key_file=str(Keys(self.data).signing_key),
        )

    def environment_for(self, service: Service, environ: Mapping[str, str]) -> dict[str, str]:
        """All that a service is told: its settings, and of the rest what is not ours. No key that it does not need."""
        settings = self.settings_as(service.name, postgres_role=service.postgres_role or SUPERUSER)
        needless = {
            "postgres_user": service.postgres_role == "",
            "postgres_password_file": service.postgres_role == "",
            "master_key_file": not service.opens_secrets,
            "signing_key_file": not service.signs,
        }
        told = msgspec.structs.replace(settings, **{name: "" for name, drop in needless.items() if drop})
        return {
            name: value for name, value in environ.items() if not name.startswith(PREFIX)
        } | environment_of(told)


Hook: TypeAlias = Callable[[Stack], Awaitable[None]]


class Hooks(Struct, frozen=True, kw_only=True):
    """What other parts of the system do while the stack starts. Each is safe to run at every start."""

    migrate: Hook
    """Bring the database to this release: roles with the passwords of `Keys`, schemas, rights."""
    reconcile: Hook
    """Make streams, consumers and buckets what this release declares."""
    first_key: Callable[[Stack], Awaitable[str]]
    """Make the first API key when there is none; returns the file it stands in, or nothing."""
    nats_users: tuple[str, ...] = ()
    """The names of the users at nats-server; each gets an nkey, and the services must be among them."""
    nats_accounts: Callable[[Mapping[str, str]], str] = lambda _keys: ""
    """From names to public keys, what each may do: the text for nats-server's configuration."""
    before_service: Callable[[Stack, str], Awaitable[None]] | None = None
    """Before each start of a service, also after its death: give up what a dead one still holds."""


class Running(Struct, frozen=True, kw_only=True):
    """A stack that is ready, for whoever wants to use it: the demo, the benchmarks, the doctor."""

    pid: int
    gateway_url: str
    ingress_url: str
    public_url: str
    first_key_file: str
    ports: dict[str, int]
    servers: Servers
    unsafe_fast: bool


def pids(data_dir: Path) -> dict[str, int]:
    """The processes of a stack by name: servers and services, those that live at this moment."""
    return {name: known.pid for name, known in marks(data_dir / "run").items() if is_alive(known)}


def write_running(data: DataDirectory, running: Running) -> None:
    write_whole(data.root / _FACTS_FILE, msgspec.json.encode(running))
    (data.root / _REFUSAL_FILE).unlink(missing_ok=True)


def forget_running(data: DataDirectory) -> None:
    (data.root / _FACTS_FILE).unlink(missing_ok=True)


def write_last_refusal(data: DataDirectory, reason: Exception) -> None:
    """Keep what the terminal is told, for whoever asks later why nothing runs here."""
    with contextlib.suppress(
        OSError
    ):  # The disk is full, say, which may be the reason itself: it is told anyway.
        write_whole(data.root / _REFUSAL_FILE, " ".join(str(reason).split()).encode())


def last_refusal(data_dir: Path) -> str:
    """Why the last stack here ended by itself or did not start; empty when one has been ready since."""
    try:
        return (data_dir / _REFUSAL_FILE).read_text()
    except FileNotFoundError:
        return ""


def running_stack(data_dir: Path) -> Running | None:
    """The stack that is ready in this data directory; none while it starts, stops or does not run."""
    pid = holder(data_dir)
    if pid is None:
        return None
    try:
        running = msgspec.json.decode((data_dir / _FACTS_FILE).read_bytes(), type=Running)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return running if running.pid == pid else None
