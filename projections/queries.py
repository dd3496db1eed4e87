"""The SQL of the read models and the archive. Statements over whole batches are made from the rows' own fields.

`{schema}` is `read`, or `read_next` while a rebuild fills new tables beside the live ones.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from operator import attrgetter
from types import UnionType
from typing import Any, Final, get_args, get_type_hints

from msgspec import Struct

from projections import rows

_TYPES: Final = {
    str: "text",
    int: "bigint",
    bool: "boolean",
    bytes: "bytea",
    date: "date",
    datetime: "timestamptz",
    list[str]: "text[]",
}


class Shape:
    """A table, seen through the struct of its rows."""

    def __init__(self, table: str, row: type[Struct], key: Sequence[str], first_changing: str) -> None:
        hints = get_type_hints(row)
        self.table = table
        self.row = row
        self.columns = row.__struct_fields__
        self.key = tuple(key)
        self.changing = self.columns[self.columns.index(first_changing) :]
        self._moving = (*self.key, *self.changing)
        self._types = {name: _TYPES[_plain(hints[name])] for name in self.columns}
        self.moved = attrgetter(*self._moving)
        """Of a row, what `update` takes."""

    def row_type(self) -> str:
        """Makes the type of the rows that `insert` takes; of this session alone, so that it is what this release's struct is."""
        return f"create type pg_temp.{self.table}_row as ({self._typed(self.columns)});"

    def moved_type(self) -> str:
        """Makes the type of the rows that `update` takes."""
        return f"create type pg_temp.{self.table}_moved as ({self._typed(self._moving)});"

    def insert(self, schema: str) -> str:
        """Insert whole rows out of one array."""
        return (
            f"insert into {schema}.{self.table} as old ({', '.join(self.columns)}) "  # noqa: S608  # Names of ours.
            f"select * from unnest($1::pg_temp.{self.table}_row[])"
        )

    def insert_one(self, schema: str) -> str:
        values = ", ".join(f"${number}::{kind}" for number, kind in enumerate(self._types.values(), 1))
        return (
            f"insert into {schema}.{self.table} as old ({', '.join(self.columns)}) values ({values}) "  # noqa: S608  # Names of ours.
            f"on conflict ({', '.join(self.key)}) do update set "
            + ", ".join(f"{name} = excluded.{name}" for name in self.changing)
        )

    def update(self, schema: str) -> str:
        """Update what changes of rows that exist, out of one array."""
        return (
            f"update {schema}.{self.table} as old set {', '.join(f'{name} = new.{name}' for name in self.changing)} "  # noqa: S608  # Names of ours.
            f"from unnest($1::pg_temp.{self.table}_moved[]) as new "
            f"where {' and '.join(f'old.{name} = new.{name}' for name in self.key)}"
        )

    def select(self, schema: str) -> str:
        """Rows by arrays of their keys."""
        keys = ", ".join(f"${number}::{self._types[name]}[]" for number, name in enumerate(self.key, 1))
        return (
            f"select {', '.join(f'old.{name}' for name in self.columns)} from {schema}.{self.table} as old "  # noqa: S608  # Names of ours.
            f"join unnest({keys}) as wanted({', '.join(self.key)}) using ({', '.join(self.key)})"
        )

    def _typed(self, names: Iterable[str]) -> str:
        return ", ".join(f"{name} {self._types[name]}" for name in names)


def _plain(hint: Any) -> Any:
    """The type without its None."""
    if isinstance(hint, UnionType):
        return next(each for each in get_args(hint) if each is not type(None))
    return hint


RUNS: Final = Shape("runs", rows.RunRow, ("org", "id"), "status")
STEPS: Final = Shape("steps", rows.StepRow, ("org", "run", "path"), "node")
DELIVERIES: Final = Shape("deliveries", rows.DeliveryRow, ("org", "receipt"), "trigger")
USAGE: Final = Shape("usage_daily", rows.UsageRow, ("org", "day"), "runs_started")
COMMITS: Final = Shape("commits", rows.CommitRow, ("week", "org", "run", "version"), "epoch")
SEAMS: Final = Shape("seams", rows.SeamRow, ("org", "run", "version"), "week")
RUN_IDS: Final = Shape("run_ids", rows.RunIdRow, ("org", "run"), "ended")
DEAD_LETTERS: Final = Shape("dead_letters", rows.DeadLetterRow, ("org", "id"), "stream")
LOG_RECORDS: Final = Shape("log_records", rows.LogRecordRow, ("org", "time", "epoch", "sequence"), "run")
WORKFLOWS: Final = Shape("workflows", rows.WorkflowRow, ("org", "id"), "name")
VERSIONS: Final = Shape("workflow_versions", rows.VersionRow, ("org", "workflow", "version"), "definition")
TRIGGERS: Final = Shape("triggers", rows.TriggerRow, ("org", "id"), "name")
SCHEDULES: Final = Shape("schedules", rows.ScheduleRow, ("org", "id"), "revision")
SECRETS: Final = Shape("secrets", rows.SecretRow, ("org", "id"), "name")
API_KEYS: Final = Shape("api_keys", rows.ApiKeyRow, ("org", "id"), "name")
ORGS: Final = Shape("orgs", rows.OrgRow, ("org", "id"), "name")
DOMAIN_COMMITS: Final = Shape(
    "domain_commits", rows.DomainCommitRow, ("org", "aggregate", "id", "version"), "epoch"
)

_INSERTED: Final = (
    RUNS,
    STEPS,
    DELIVERIES,
    USAGE,
    COMMITS,
    SEAMS,
    RUN_IDS,
    DEAD_LETTERS,
    LOG_RECORDS,
    SCHEDULES,
    DOMAIN_COMMITS,
)
_MOVED: Final = (RUNS, STEPS)
ROW_TYPES: Final = "".join(
    [*(shape.row_type() for shape in _INSERTED), *(shape.moved_type() for shape in _MOVED)]
)
"""What a session begins with that writes rows. As arrays of columns they took the driver and Postgres up to twice as long."""

# A receipt that started a run stands above any other record of it, whichever reader comes first.
ACCEPTED: Final = " on conflict (org, receipt) do update set " + ", ".join(
    f"{name} = excluded.{name}" for name in DELIVERIES.changing
)
DECIDED: Final = " on conflict (org, id) do update set " + ", ".join(
    f"{name} = excluded.{name}" for name in SCHEDULES.changing
)
NOT_ACCEPTED: Final = " on conflict (org, receipt) do nothing"
ADDED_USAGE: Final = " on conflict (org, day) do update set " + ", ".join(
    f"{name} = old.{name} + excluded.{name}" for name in USAGE.changing
)
ENDED: Final = (
    " on conflict (org, run) do update set "
    + ", ".join(f"{name} = excluded.{name}" for name in RUN_IDS.changing)
    + ", purged = null, forgotten = null, dropped = null"
)

KNOWN_SEAM: Final = " on conflict (org, run, version) do nothing"
KNOWN_RECORD: Final = " on conflict (org, time, epoch, sequence) do nothing"
EXPIRE_RECORDS: Final = """
delete from read.log_records r using (
    select org, time, epoch, sequence from read.log_records
    where (epoch, sequence) < ($1, $2) order by epoch, sequence limit $3
) as old
where r.org = old.org and r.time = old.time and r.epoch = old.epoch and r.sequence = old.sequence
"""

MOVE: Final = """
update {schema}.positions set epoch = $3, sequence = $4, time = $5
where projection = $1 and stream = $2 and epoch = $6 and sequence = $7 and generation = $8
"""
POSITION: Final = """
select epoch, sequence, created, generation from {schema}.positions where projection = $1 and stream = $2
"""
BEGIN: Final = """
insert into {schema}.positions (projection, stream, epoch, sequence, created, generation, time)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (projection, stream) do update set
    epoch = excluded.epoch, sequence = excluded.sequence,
    created = excluded.created, generation = excluded.generation, time = excluded.time
"""
ARCHIVE_HOLDS: Final = {
    "RUNS": "select exists (select from archive.commits)",
    "DOMAIN": "select exists (select from archive.domain_commits)",
}
PUBLISH: Final = """
update {schema}.workflow_versions as old set plan = $4, published = $5
where org = $1 and workflow = $2 and version = $3
"""
MAKE_WEEK: Final = "select archive.make_week($1)"
