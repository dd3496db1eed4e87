-- The vault: what must be erasable and never in a log. Every secret here is ciphertext or a hash.
-- Safe to run again. Rights are granted where the roles are made; row-level security holds for the owner too.

create schema if not exists vault;

-- One data key per org and generation, wrapped by the master key, which is not in the database.
create table if not exists vault.data_keys (
    org text not null,
    generation integer not null check (generation > 0),
    wrapped text not null,
    created timestamptz not null,
    primary key (org, generation)
);

-- One random salt per run that sealed anything. Dropping the row shreds what the run sealed.
create table if not exists vault.salts (
    key_id text primary key,
    org text not null,
    run text not null,
    salt bytea not null check (octet_length(salt) = 32),
    created timestamptz not null,
    unique (org, run)
);

-- Credentials. `salt` belongs to the row: dropping the row shreds the secret.
-- During a rotation `previous_blob` opens as well, until `previous_until`.
create table if not exists vault.secrets (
    org text not null,
    id text not null,
    name text not null,
    kind text not null,
    blob text not null,
    generation integer not null,
    salt bytea not null check (octet_length(salt) = 32),
    allowed_hosts text[] not null default '{}',
    created timestamptz not null,
    rotated timestamptz,
    last_used timestamptz,
    previous_blob text,
    previous_until timestamptz,
    revision integer not null default 1,
    primary key (org, id),
    unique (org, name),
    check ((previous_blob is null) = (previous_until is null))
);

-- API keys: SHA-256 of the whole key text, which nobody can read back.
create table if not exists vault.api_keys (
    id text primary key,
    org text not null,
    name text not null,
    hash bytea not null unique check (octet_length(hash) = 32),
    scopes text[] not null,
    created timestamptz not null,
    expires timestamptz,
    last_used timestamptz,
    revoked timestamptz
);
create index if not exists api_keys_org on vault.api_keys (org, created);

do $$
declare
    name text;
begin
    foreach name in array array['data_keys', 'salts', 'secrets', 'api_keys'] loop
        execute format('alter table vault.%I enable row level security', name);
        execute format('alter table vault.%I force row level security', name);
        execute format('drop policy if exists org_only on vault.%I', name);
        execute format(
            'create policy org_only on vault.%I using (org = nullif(current_setting(''app.org'', true), ''''))'
            ' with check (org = nullif(current_setting(''app.org'', true), ''''))',
            name
        );
    end loop;
end
$$;

-- At sign-in the org is not known yet: whoever names the hash of a key may read that one row, and no other.
drop policy if exists by_hash on vault.api_keys;
create policy by_hash on vault.api_keys for select
    using (hash = decode(nullif(current_setting('app.key_hash', true), ''), 'hex'));
