"""The columns of every table, once: list queries are composed from here and a test compares them with the database.

The tables themselves are made by `deploy/migrations/sql`.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY

METADATA: Final = MetaData()


def _text(name: str, *, key: bool = False, null: bool = False) -> Column[str]:
    return Column(name, Text(), primary_key=key, nullable=null)


def _long(name: str, *, key: bool = False, null: bool = False) -> Column[int]:
    return Column(name, BigInteger(), primary_key=key, nullable=null, autoincrement=False)


def _int(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, Integer(), nullable=null)


def _time(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=null)


def _date(name: str, *, key: bool = False) -> Column[object]:
    return Column(name, Date(), primary_key=key, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean(), nullable=False)


def _bytes(name: str, *, null: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary(), nullable=null)


def _texts(name: str) -> Column[list[str]]:
    return Column(name, ARRAY(Text()), nullable=False)


RUNS: Final = Table(
    "runs",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _text("workflow"),
    _long("version"),
    _text("plan"),
    _text("trigger", null=True),
    _text("receipt"),
    _text("cause"),
    _text("cause_id"),
    _text("parent_run", null=True),
    _text("parent_step", null=True),
    _flag("parent_waits"),
    _text("dedupe", null=True),
    _text("request", null=True),
    _text("actor"),
    _text("key_id"),
    _text("input_preview"),
    _long("input_size"),
    _text("input_blob", null=True),
    _date("week"),
    _time("started"),
    _text("status"),
    _int("opening"),
    _time("ended", null=True),
    _time("deadline", null=True),
    _time("last_time"),
    _text("last_event"),
    _long("events"),
    _long("head_version"),
    _bytes("head_hash"),
    _long("folded_version"),
    _long("epoch"),
    _long("sequence"),
    _int("steps_total"),
    _int("steps_done"),
    _int("steps_running"),
    _int("steps_in_doubt"),
    _text("error_code", null=True),
    _text("error_message", null=True),
    _text("error_step", null=True),
    _text("unfinished", null=True),
    _text("waits"),
    _time("waiting_since", null=True),
    _time("next_due", null=True),
    _time("look_at", null=True),
    _text("parked_reason", null=True),
    _text("needs_release", null=True),
    _int("responded_status", null=True),
    _text("output_preview", null=True),
    _long("output_size", null=True),
    _text("output_blob", null=True),
    _time("opened", null=True),
    _text("handlers"),
    _text("handler_error", null=True),
    _text("undone", null=True),
    _text("mode"),
    _text("gates"),
    schema="read",
)

STEPS: Final = Table(
    "steps",
    METADATA,
    _text("org", key=True),
    _text("run", key=True),
    _text("path", key=True),
    _text("node"),
    _text("node_type", null=True),
    _long("position"),
    _text("status"),
    _int("attempt"),
    _text("pool", null=True),
    _time("scheduled", null=True),
    _time("ended", null=True),
    _long("took_ms", null=True),
    _text("ports", null=True),
    _text("error", null=True),
    _text("error_code", null=True),
    _text("output_preview", null=True),
    _long("output_size", null=True),
    _text("output_blob", null=True),
    _text("repeat", null=True),
    _text("effect", null=True),
    _int("items_total", null=True),
    _int("items_done", null=True),
    _int("items_failed", null=True),
    _text("asks", null=True),
    _time("asked", null=True),
    _text("child", null=True),
    _flag("awaits"),
    schema="read",
)

DELIVERIES: Final = Table(
    "deliveries",
    METADATA,
    _text("org", key=True),
    _text("receipt", key=True),
    _text("trigger"),
    _text("workflow", null=True),
    _time("time"),
    _text("result"),
    _text("method"),
    _text("run", null=True),
    _text("reason"),
    _text("address"),
    _long("size"),
    _text("preview"),
    _text("stream"),
    _long("epoch"),
    _long("sequence"),
    schema="read",
)

USAGE_DAILY: Final = Table(
    "usage_daily",
    METADATA,
    _text("org", key=True),
    _date("day", key=True),
    _long("runs_started"),
    _long("runs_completed"),
    _long("runs_failed"),
    _long("runs_cancelled"),
    _long("steps"),
    _long("deliveries"),
    schema="read",
)

WORKFLOWS: Final = Table(
    "workflows",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _text("name"),
    _long("latest_version"),
    _long("published_version", null=True),
    _text("plan", null=True),
    _time("created"),
    _text("created_by"),
    _time("updated"),
    _time("deleted", null=True),
    _long("head_version"),
    _long("epoch"),
    _long("sequence"),
    schema="read",
)

WORKFLOW_VERSIONS: Final = Table(
    "workflow_versions",
    METADATA,
    _text("org", key=True),
    _text("workflow", key=True),
    _long("version", key=True),
    _bytes("definition", null=True),
    _text("definition_blob", null=True),
    _long("definition_size"),
    _time("drafted"),
    _text("drafted_by"),
    _text("plan", null=True),
    _time("published", null=True),
    schema="read",
)

TRIGGERS: Final = Table(
    "triggers",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _text("name"),
    _text("workflow"),
    _text("webhook"),
    _text("token"),
    _text("test_token"),
    _long("version", null=True),
    _text("plan", null=True),
    _flag("enabled"),
    _time("created"),
    _text("created_by"),
    _time("updated"),
    _time("deleted", null=True),
    _long("head_version"),
    _long("epoch"),
    _long("sequence"),
    _text("kind"),
    _text("schedule", null=True),
    _text("occasion", null=True),
    schema="read",
)

SCHEDULES: Final = Table(
    "schedules",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _long("revision"),
    _time("next", null=True),
    _text("trouble"),
    _time("last", null=True),
    _text("last_run", null=True),
    _text("last_result"),
    _text("last_error"),
    _time("last_missed", null=True),
    _long("fired"),
    _long("missed"),
    _long("refused"),
    _time("updated"),
    _time("look_at", null=True),
    _long("head_version"),
    _long("epoch"),
    _long("sequence"),
    schema="read",
)

SECRETS: Final = Table(
    "secrets",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _text("name"),
    _text("kind"),
    _texts("allowed_hosts"),
    _time("created"),
    _text("created_by"),
    _time("updated"),
    _time("deleted", null=True),
    _long("head_version"),
    _long("epoch"),
    _long("sequence"),
    schema="read",
)

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _text("name"),
    _texts("scopes"),
    _time("created"),
    _text("created_by"),
    _time("revoked", null=True),
    _long("head_version"),
    _long("epoch"),
    _long("sequence"),
    schema="read",
)

ORGS: Final = Table(
    "orgs",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _text("name"),
    _text("vars"),
    _time("created"),
    _time("updated"),
    _long("head_version"),
    _long("epoch"),
    _long("sequence"),
    schema="read",
)

DEAD_LETTERS: Final = Table(
    "dead_letters",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _text("stream"),
    _text("run"),
    _time("time"),
    _text("reason"),
    _text("source"),
    _long("size"),
    _bytes("body"),
    _long("epoch"),
    _long("sequence"),
    schema="read",
)

LOG_RECORDS: Final = Table(
    "log_records",
    METADATA,
    _text("org", key=True),
    Column("time", DateTime(timezone=True), primary_key=True, nullable=False),
    _long("epoch", key=True),
    _long("sequence", key=True),
    _text("run"),
    _long("level"),
    _text("body"),
    schema="read",
)

POSITIONS: Final = Table(
    "positions",
    METADATA,
    _text("projection", key=True),
    _text("stream", key=True),
    _long("epoch"),
    _long("sequence"),
    _text("created"),
    _text("generation"),
    _time("time"),
    schema="read",
)

COMMITS: Final = Table(
    "commits",
    METADATA,
    _date("week", key=True),
    _text("org", key=True),
    _text("run", key=True),
    _long("version", key=True),
    _long("epoch"),
    _long("sequence"),
    _time("time"),
    _flag("ended"),
    _bytes("hash"),
    _bytes("body"),
    schema="archive",
)

DOMAIN_COMMITS: Final = Table(
    "domain_commits",
    METADATA,
    _text("org", key=True),
    _text("aggregate", key=True),
    _text("id", key=True),
    _long("version", key=True),
    _long("epoch"),
    _long("sequence"),
    _time("time"),
    _bytes("hash"),
    _bytes("body"),
    schema="archive",
)

SEAMS: Final = Table(
    "seams",
    METADATA,
    _text("org", key=True),
    _text("run", key=True),
    _long("version", key=True),
    _date("week"),
    _long("segment"),
    _long("events"),
    _long("epoch"),
    _long("sequence"),
    _time("time"),
    _time("purged", null=True),
    schema="archive",
)

RUN_IDS: Final = Table(
    "run_ids",
    METADATA,
    _text("org", key=True),
    _text("run", key=True),
    _date("week"),
    _text("receipt"),
    _time("ended", null=True),
    _long("version"),
    _bytes("hash"),
    _long("epoch"),
    _long("sequence"),
    _time("purged", null=True),
    _time("dropped", null=True),
    _flag("keyed"),
    _text("request", null=True),
    _time("forgotten", null=True),
    schema="archive",
)

BLOB_REFS: Final = Table(
    "blob_refs",
    METADATA,
    _text("org", key=True),
    _text("sha256", key=True),
    _text("holder", key=True),
    _time("until", null=True),
    schema="archive",
)

BLOBS_UNREAD: Final = Table(
    "blobs_unread",
    METADATA,
    _text("org", key=True),
    _text("sha256", key=True),
    schema="archive",
)

BLOB_LINKS: Final = Table(
    "blob_links",
    METADATA,
    _text("org", key=True),
    _text("parent", key=True),
    _text("child", key=True),
    schema="archive",
)

COLLECTED: Final = Table(
    "collected",
    METADATA,
    _text("org", key=True),
    _text("stream", key=True),
    _long("epoch"),
    _long("sequence"),
    schema="archive",
)

DROPPED: Final = Table(
    "dropped",
    METADATA,
    _text("org", key=True),
    _date("through"),
    schema="archive",
)

DATA_KEYS: Final = Table(
    "data_keys",
    METADATA,
    _text("org", key=True),
    Column("generation", Integer(), primary_key=True, autoincrement=False),
    _text("wrapped"),
    _time("created"),
    schema="vault",
)

SALTS: Final = Table(
    "salts",
    METADATA,
    _text("key_id", key=True),
    _text("org"),
    _text("run"),
    _bytes("salt"),
    _time("created"),
    schema="vault",
)

VAULT_SECRETS: Final = Table(
    "secrets",
    METADATA,
    _text("org", key=True),
    _text("id", key=True),
    _text("name"),
    _text("kind"),
    _text("blob"),
    _int("generation"),
    _bytes("salt"),
    _texts("allowed_hosts"),
    _time("created"),
    _time("rotated", null=True),
    _time("last_used", null=True),
    _text("previous_blob", null=True),
    _time("previous_until", null=True),
    _int("revision"),
    schema="vault",
)

VAULT_API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    _text("id", key=True),
    _text("org"),
    _text("name"),
    _bytes("hash"),
    _texts("scopes"),
    _time("created"),
    _time("expires", null=True),
    _time("last_used", null=True),
    _time("revoked", null=True),
    schema="vault",
)
