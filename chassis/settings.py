"""Settings, read once at the composition root and passed on as a value."""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

PREFIX = "AUTOMATEOS_"
_FOR_TESTS = "AUTOMATEOS_TEST_"
Port = Annotated[int, Meta(ge=0, le=65535)]


class InvalidSettings(Exception):
    """A variable has a value that cannot be used; the message names it."""


class Settings(Struct, frozen=True, kw_only=True, rename=lambda name: PREFIX + name.upper()):
    """Every knob of every service. `.env.example` and the docs are generated from here.

    A docstring under a field is what the operator reads.
    """

    # Where the stores are
    data_dir: str = "data"
    """Where the embedded stack keeps its state."""
    nats_url: str = "nats://127.0.0.1:4222"
    """Of a cluster the nodes, separated by commas."""
    nats_seed_file: str = ""
    """File with this service's nkey seed; empty: no authentication (tests only)."""
    nats_monitor_url: str = ""
    """nats-server's monitoring address, for the disk thresholds; empty: they are read from the account's limits."""
    postgres_host: str = "127.0.0.1"
    """Host name, or the directory of the unix socket."""
    postgres_port: Port = 5432
    postgres_database: str = "automateos"
    postgres_user: str = "automateos"
    postgres_password_file: str = ""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """`unix:///path/redis.sock` in the embedded stack."""
    master_key_file: str = ""
    """32 bytes in base64, mode 0600. Wraps the org's data keys. Back it up apart from the data."""
    signing_key_file: str = ""
    """Ed25519 private key in base64, mode 0600; signs the anchors of the histories."""
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    """Copies of every stream; 1 on a single nats-server, 3 in a cluster."""

    # Where the services listen
    host: str = "127.0.0.1"
    ingress_port: Port = 8400
    gateway_port: Port = 8401
    orchestrator_port: Port = 8402
    executor_port: Port = 8403
    projections_port: Port = 8404
    grpc_port: Port = 0
    """Where the gateway offers the worker API over gRPC, besides HTTPS; 0: nowhere."""
    public_url: str = "http://127.0.0.1:8400"
    """The address under which the world reaches ingress; webhook URLs begin with it."""
    own_urls: str = "http://127.0.0.1:8401"
    """Further addresses of this installation, separated by commas: the API's, and those by which its own workflows call it. A workflow that calls itself there is stopped, as at the public address; elsewhere it is nobody's loop."""
    tls_certificate_file: str = ""
    tls_key_file: str = ""
    trusted_proxies: Annotated[int, Meta(ge=0, le=10)] = 0
    """How many proxies stand in front; only their X-Forwarded-For entries are believed."""
    ingress_processes: Annotated[int, Meta(ge=1, le=1000)] = 1
    """How many ingress processes share a trigger's rate limit while Redis is away."""

    most_starts: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """Deliveries per ingress process that may be on their way into the history at once; what is beyond is refused with 503, and fewer are let in until that stops."""
    most_waiting: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    """Deliveries per ingress process that may wait for their run's own answer (mode `respond`)."""
    most_backlog: Annotated[int, Meta(ge=1, le=10_000_000)] = 5_000
    """Attempts that may wait for an executor before starts are refused with 503; and of one org, that may be held before its own are, with 429."""

    # How the services work
    pools: str = "default"
    """The pools this executor takes tasks from, separated by commas."""
    pool_capacity: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """Attempts at once per executor and pool."""
    pool_labels: str = ""
    """What `automateos pools list` tells of this executor: `zone=a,gpu=l4`."""
    egress_allow: str = ""
    """Private targets that workflows may reach: `10.0.0.0/8:443,127.0.0.1/32:8080`. Empty: none. Without a port those of the web are meant (80, 443, 8000-8999); a database or a Redis needs its port named, as a public one does on other ports than the usual."""
    smtp_host: str = "127.0.0.1"
    """The mail server that `email.send` hands its mail to. Empty: there is none, and `email.send` fails and says so."""
    smtp_port: Port = 2525
    smtp_from: str = "automateos@localhost"
    retention_days: Annotated[float, Meta(ge=0)] | Literal["never"] = 7.0
    """Days that an ended run stays in JetStream after it is in the archive. An executor that stood still for longer than that may make a call a second time: an hour (0.05) is the least that is sensible."""
    archive_days: Annotated[float, Meta(ge=0)] | Literal["never"] = 90.0
    """Days that an ended run stays in the archive."""
    tombstones: Annotated[int, Meta(ge=0)] | Literal["never"] = 500_000
    """So many ended runs with a dedupe key keep their last commit in JetStream (350-860 B of RAM each). Past that the oldest leave, and a start with a key asks Postgres first. `never`: all stay."""
    batch_from: Annotated[int, Meta(ge=2, le=256)] = 16
    """From how many commits at once they go as one atomic batch; 3 where nats-server stages batches in memory."""
    nats_max_file_store: str = ""
    """The log's quota, such as `40GB`; empty: 80 % of the volume."""
    unsafe_fast: bool = False
    """nats-server syncs lazily: a power cut loses what was accepted. Shown wherever the state is shown."""
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 10.0

    # What it tells about itself
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str = ""
    """OTLP/HTTP collector for traces; empty: tracing is off."""
    trace_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.01


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Fail at start-up with the name of the bad variable, or never."""
    known = {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIX) and not name.startswith(_FOR_TESTS)
    }
    fields = set(Settings.__struct_encode_fields__)
    unknown = sorted(known.keys() - fields)
    if unknown:
        raise InvalidSettings(f"{unknown[0]} is not a setting.")
    try:
        return msgspec.convert(known, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettings(str(error)) from error


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables that give exactly these settings: how the supervisor tells its children."""
    return {name: _text(value) for name, value in msgspec.to_builtins(settings).items()}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
