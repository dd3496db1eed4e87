-- Every commit's bytes as they were stored in the log. Text and jsonb refuse what JSON allows; bytea refuses nothing.

create schema archive;

-- Partitioned by the week in which the run began, so that a run lies in one partition and old weeks leave as a whole.
create table archive.commits (
    week date not null,
    org text not null,
    run text not null,
    version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    time timestamptz not null,
    ended boolean not null,
    hash bytea not null,
    body bytea not null,
    primary key (week, org, run, version)
) partition by range (week);
comment on column archive.commits.version is 'Below 1: not a commit, but something that lay among them; told apart by its epoch and sequence.';
create index commits_by_sequence on archive.commits (epoch, sequence);

-- Everything else with a history; never dropped.
create table archive.domain_commits (
    org text not null,
    aggregate text not null,
    id text not null,
    version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    time timestamptz not null,
    hash bytea not null,
    body bytea not null,
    primary key (org, aggregate, id, version)
);
create index domain_commits_by_sequence on archive.domain_commits (epoch, sequence);

-- One row per run that ended, kept for ever: the index of dedupe past the horizon of tombstones.
create table archive.run_ids (
    org text not null,
    run text not null,
    week date not null,
    receipt text not null,
    -- Null again while the run is reopened.
    ended timestamptz,
    version bigint not null,
    hash bytea not null,
    epoch bigint not null,
    sequence bigint not null,
    -- When its commits before the last one left the log, and when its bytes left the archive.
    purged timestamptz,
    dropped timestamptz,
    primary key (org, run)
);
create index run_ids_to_purge on archive.run_ids (ended) where purged is null;
create index run_ids_to_drop on archive.run_ids (ended) where dropped is null;

-- Days up to this one have lost runs to retention: their usage cannot be counted anew.
create table archive.dropped (
    org text primary key,
    through date not null
);

create function archive.make_week(asked date) returns void
language plpgsql security definer set search_path = pg_catalog
as $$
declare
    first date := date_trunc('week', asked::timestamp)::date;
    name text := 'commits_' || to_char(first, 'YYYYMMDD');
begin
    if to_regclass(format('archive.%I', name)) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext('archive.make_week'));
    if to_regclass(format('archive.%I', name)) is not null then
        return;
    end if;
    -- Rows only come, and a week leaves as a whole: a vacuum for the sake of new rows would read each once more, and write it
    -- with its page into the write-ahead log.
    execute format('create table archive.%I (like archive.commits including defaults including constraints) '
                   'with (autovacuum_vacuum_insert_threshold = -1)', name);
    execute format('alter table archive.%I enable row level security', name);
    execute format('alter table archive.%I force row level security', name);
    -- So that drop_week, which works as the owner, sees whether rows are left. All others come through the parent.
    execute format('create policy owner_looks on archive.%I for select to %I using (true)', name, current_user);
    execute format('alter table archive.commits attach partition archive.%I for values from (%L) to (%L)',
                   name, first, first + 7);
end
$$;

-- Removes a week whose runs have all left. Answers whether it did.
create function archive.drop_week(asked date) returns boolean
language plpgsql security definer set search_path = pg_catalog
as $$
declare
    first date := date_trunc('week', asked::timestamp)::date;
    name text := 'commits_' || to_char(first, 'YYYYMMDD');
    occupied boolean;
begin
    if to_regclass(format('archive.%I', name)) is null then
        return false;
    end if;
    execute format('lock table archive.%I in access exclusive mode', name);
    execute format('select exists (select from archive.%I)', name) into occupied;
    if occupied then
        return false;
    end if;
    execute format('drop table archive.%I', name);
    return true;
end
$$;

do $$
declare
    name text;
begin
    foreach name in array array['commits', 'domain_commits', 'run_ids', 'dropped'] loop
        execute format('alter table archive.%I enable row level security', name);
        execute format('alter table archive.%I force row level security', name);
        execute format(
            'create policy org_only on archive.%I for select using (org = nullif(current_setting(''app.org'', true), ''''))',
            name);
        execute format('create policy projector_writes on archive.%I to projector using (true) with check (true)', name);
        execute format('grant select on archive.%I to gateway', name);
        execute format('grant select, insert, update, delete on archive.%I to projector', name);
    end loop;
end
$$;
-- At acceptance and at a first commit, past the horizon of tombstones; a history for commands that reopen a run.
grant select on archive.run_ids to ingress, orchestrator;
grant select on archive.commits to orchestrator;
grant usage on schema archive to gateway, projector, ingress, orchestrator;
revoke all on function archive.make_week(date), archive.drop_week(date) from public;
grant execute on function archive.make_week(date), archive.drop_week(date) to projector;
