"""The vault's SQL. The org stands in every statement, although row-level security holds without it."""

NAME = "select set_config('app.org', $1, true), set_config('app.key_hash', $2, true)"
DATA_KEYS = "select generation, wrapped from vault.data_keys where org = $1 order by generation"
ADD_DATA_KEY = """
insert into vault.data_keys (org, generation, wrapped, created) values ($1, $2, $3, $4) on conflict do nothing
"""
REWRAP = "update vault.data_keys set wrapped = $3 where org = $1 and generation = $2"
ADD_SALT = """
insert into vault.salts (key_id, org, run, salt, created) values ($1, $2, $3, $4, $5) on conflict (org, run) do nothing
"""
SALT_OF_RUN = "select key_id, salt from vault.salts where org = $1 and run = $2"
SALT = "select key_id, salt from vault.salts where org = $1 and key_id = $2"
SHRED = "delete from vault.salts where org = $1 and run = $2 returning key_id"
LOCK = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
SEALED_ROW = """
select kind, salt, blob, previous_blob, previous_until, allowed_hosts, revision
from vault.secrets where org = $1 and id = $2
"""
TOUCH = """
update vault.secrets set last_used = $3
where org = $1 and id = $2 and (last_used is null or last_used < $3::timestamptz - $4::interval)
"""
DESCRIPTION = (
    "id, name, kind, allowed_hosts, created, rotated, last_used,"
    " case when previous_until > $2 then previous_until end as previous_until, revision"
)
LIST = f"select {DESCRIPTION} from vault.secrets where org = $1 order by name"  # noqa: S608  # Constants of ours.
DESCRIBE = f"select {DESCRIPTION} from vault.secrets where org = $1 and id = $3"  # noqa: S608  # Constants of ours.
PUT = """
insert into vault.secrets as old (org, id, name, kind, blob, generation, salt, allowed_hosts, created)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (org, id) do update set
    name = excluded.name, kind = excluded.kind, blob = excluded.blob, generation = excluded.generation,
    allowed_hosts = excluded.allowed_hosts, rotated = excluded.created, revision = old.revision + 1,
    previous_blob = case when $10::timestamptz is not null then old.blob end, previous_until = $10
"""
DELETE = "delete from vault.secrets where org = $1 and id = $2 returning id"
ALL_ROWS = "select id, salt, blob, previous_blob from vault.secrets where org = $1 for update"
RESEAL = """
update vault.secrets set blob = $3, previous_blob = $4, generation = $5 where org = $1 and id = $2
"""
KEY_COLUMNS = "id, org, name, scopes, created, expires, last_used, revoked"
ISSUE = """
insert into vault.api_keys (id, org, name, hash, scopes, created, expires) values ($1, $2, $3, $4, $5, $6, $7)
"""
FIND_KEY = f"select {KEY_COLUMNS} from vault.api_keys where hash = $1"  # noqa: S608  # Constants of ours.
LIST_KEYS = f"select {KEY_COLUMNS} from vault.api_keys where org = $1 order by created, id"  # noqa: S608  # Constants of ours.
TOUCH_KEY = """
update vault.api_keys set last_used = $2
where id = $1 and (last_used is null or last_used < $2::timestamptz - $3::interval)
"""
REVOKE = "update vault.api_keys set revoked = $3 where org = $1 and id = $2 and revoked is null returning id"
