-- What is asked for, folded from the log. Losing this schema costs the time of a rebuild and nothing else.
-- Names are unqualified: the same file makes `read` and, for a rebuild beside it, `read_next` (by search_path).

create table runs (
    org text not null,
    id text not null,
    workflow text not null default '',
    version bigint not null default 0,
    plan text not null default '',
    trigger text,
    receipt text not null default '',
    cause text not null default '',
    cause_id text not null default '',
    parent_run text,
    parent_step text,
    parent_waits boolean not null default false,
    dedupe text,
    request text,
    actor text not null default '',
    key_id text not null default '',
    input_preview text not null default '',
    input_size bigint not null default 0,
    input_blob text,
    week date not null,
    started timestamptz not null,
    -- What changes while the run goes on.
    status text not null,
    opening integer not null default 1,
    ended timestamptz,
    deadline timestamptz,
    last_time timestamptz not null,
    last_event text not null default '',
    events bigint not null default 0,
    head_version bigint not null,
    head_hash bytea not null,
    folded_version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    steps_total integer not null default 0,
    steps_done integer not null default 0,
    steps_running integer not null default 0,
    steps_in_doubt integer not null default 0,
    error_code text,
    error_message text,
    error_step text,
    unfinished text,
    waits text not null default '[]',
    waiting_since timestamptz,
    next_due timestamptz,
    look_at timestamptz,
    parked_reason text,
    needs_release text,
    responded_status integer,
    output_preview text,
    output_size bigint,
    output_blob text,
    opened timestamptz,
    handlers text not null default '',
    handler_error text,
    undone text,
    mode text not null default 'live',
    gates text not null default '',
    primary key (org, id)
) with (fillfactor = 80);
create index runs_by_time on runs (org, started, id);
create index runs_by_workflow on runs (org, workflow, started, id);
create index runs_open on runs (org, started, id) where ended is null;
create index runs_due on runs (org, id) where ended is null;
create index runs_by_parent on runs (org, parent_run, started, id) where parent_run is not null;
create index runs_awaited on runs (org, id) where parent_waits and ended is null;
create index runs_handled on runs (ended) where handlers <> '';
create index runs_at_gates on runs (org, id) where gates <> '';
create index runs_failed on runs (org, started, id) where status = 'failed';
comment on column runs.events is 'How many events the history has: the number of the last one.';
comment on column runs.head_version is 'The newest commit in the archive.';
comment on column runs.folded_version is 'The newest commit in this row; behind head_version while a newer release is needed.';
comment on column runs.waits is 'Every open wait as JSON: name, kind, due, step, since.';
comment on column runs.gates is 'At which gates it waits or is inside, as JSON; empty: at none.';
comment on column runs.look_at is 'When the sweeper has the run looked at unless it moves before; null: never.';

create table steps (
    org text not null,
    run text not null,
    path text not null,
    node text not null,
    node_type text,
    position bigint not null,
    status text not null,
    attempt integer not null default 0,
    pool text,
    scheduled timestamptz,
    ended timestamptz,
    took_ms bigint,
    ports text,
    error text,
    error_code text,
    output_preview text,
    output_size bigint,
    output_blob text,
    repeat text,
    effect text,
    items_total integer,
    items_done integer,
    items_failed integer,
    asks text,
    asked timestamptz,
    child text,
    awaits boolean not null default false,
    primary key (org, run, path)
) with (fillfactor = 80);
create index steps_asking on steps (org, asked, (run || '/' || path)) where asks is not null;
create index steps_awaiting on steps (org, run) where awaits;
comment on column steps.child is 'The run that it started last; awaits: whether it waits for that run''s end.';
comment on column steps.position is 'The number of the event that first named the step: steps are listed in this order.';
comment on column steps.error is 'A contracts.errors.Failure as JSON.';
comment on column steps.asks is 'What people are asked to decide, as JSON, while they are.';

create table deliveries (
    org text not null,
    receipt text not null,
    trigger text not null,
    workflow text,
    time timestamptz not null,
    result text not null,
    method text not null default '',
    run text,
    reason text not null default '',
    address text not null default '',
    size bigint not null default 0,
    preview text not null default '',
    stream text not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (org, receipt)
);
create index deliveries_by_trigger on deliveries (org, trigger, time, receipt);
create index deliveries_of_hooks on deliveries (org, trigger, sequence) where stream = 'HOOKS';
create index deliveries_by_run on deliveries (org, run) where run is not null;
comment on column deliveries.sequence is 'Where the whole delivery lies in `stream`, while it lies there.';

create table usage_daily (
    org text not null,
    day date not null,
    runs_started bigint not null default 0,
    runs_completed bigint not null default 0,
    runs_failed bigint not null default 0,
    runs_cancelled bigint not null default 0,
    steps bigint not null default 0,
    deliveries bigint not null default 0,
    primary key (org, day)
);

create table workflows (
    org text not null,
    id text not null,
    name text not null,
    latest_version bigint not null default 0,
    published_version bigint,
    plan text,
    created timestamptz not null,
    created_by text not null default '',
    updated timestamptz not null,
    deleted timestamptz,
    head_version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (org, id)
);
create index workflows_by_time on workflows (org, created, id);

create table workflow_versions (
    org text not null,
    workflow text not null,
    version bigint not null,
    definition bytea,
    definition_blob text,
    definition_size bigint not null,
    drafted timestamptz not null,
    drafted_by text not null default '',
    plan text,
    published timestamptz,
    primary key (org, workflow, version)
);
comment on column workflow_versions.definition is 'The JSON as it was saved; null when it lies in the object store under definition_blob.';

create table triggers (
    org text not null,
    id text not null,
    name text not null,
    workflow text not null,
    webhook text not null,
    token text not null,
    test_token text not null,
    version bigint,
    plan text,
    enabled boolean not null default true,
    created timestamptz not null,
    created_by text not null default '',
    updated timestamptz not null,
    deleted timestamptz,
    head_version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    kind text not null default 'webhook',
    schedule text,
    occasion text,
    primary key (org, id)
);
create index triggers_by_time on triggers (org, created, id);
create index triggers_by_workflow on triggers (org, workflow, id);
comment on column triggers.webhook is 'A contracts.triggers.Webhook as JSON.';
comment on column triggers.schedule is 'A contracts.schedules.Schedule as JSON; null for an address.';
comment on column triggers.occasion is 'A contracts.triggers.Occasion as JSON; null for an address and for a schedule.';

create table schedules (
    org text not null,
    id text not null,
    revision bigint not null,
    next timestamptz,
    trouble text not null default '',
    last timestamptz,
    last_run text,
    last_result text not null default '',
    last_error text not null default '',
    last_missed timestamptz,
    fired bigint not null default 0,
    missed bigint not null default 0,
    refused bigint not null default 0,
    updated timestamptz not null,
    look_at timestamptz,
    head_version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (org, id)
);
create index schedules_to_look_at on schedules (look_at) where look_at is not null;
comment on column schedules.look_at is 'Its owner should have looked by then: the planned time, or soon after a run was asked for.';
comment on column schedules.revision is 'The version of the trigger that its owner knows.';

create table secrets (
    org text not null,
    id text not null,
    name text not null,
    kind text not null,
    allowed_hosts text[] not null default '{}',
    created timestamptz not null,
    created_by text not null default '',
    updated timestamptz not null,
    deleted timestamptz,
    head_version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (org, id)
);

create table api_keys (
    org text not null,
    id text not null,
    name text not null,
    scopes text[] not null default '{}',
    created timestamptz not null,
    created_by text not null default '',
    revoked timestamptz,
    head_version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (org, id)
);

create table orgs (
    org text not null,
    id text not null,
    name text not null default '',
    vars text not null default '{}',
    created timestamptz not null,
    updated timestamptz not null,
    head_version bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (org, id)
);
comment on column orgs.vars is 'The variables of the org as a JSON object.';

create table dead_letters (
    org text not null,
    id text not null,
    stream text not null,
    run text not null,
    time timestamptz not null,
    reason text not null default '',
    source text not null default '',
    size bigint not null default 0,
    body bytea not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (org, id)
);
create index dead_letters_by_time on dead_letters (org, time, id);
comment on column dead_letters.source is 'Where the message lay before: stream, epoch and sequence.';

create table log_records (
    org text not null,
    time timestamptz not null,
    epoch bigint not null,
    sequence bigint not null,
    run text not null,
    level bigint not null,
    body text not null,
    primary key (org, time, epoch, sequence)
);
create index log_records_by_sequence on log_records (epoch, sequence);
comment on column log_records.time is 'When the first of the lines was said.';
comment on column log_records.level is 'The highest of the lines: 0 debug, 1 info, 2 warning, 3 error.';
comment on column log_records.body is 'A contracts.logs.LogRecord as JSON.';

create table positions (
    projection text not null,
    stream text not null,
    epoch bigint not null,
    sequence bigint not null,
    created text not null,
    generation text not null,
    time timestamptz not null,
    primary key (projection, stream)
);
comment on column positions.created is 'When the stream was made: another value means another stream under the same name.';
comment on column positions.generation is 'Which making of these tables this is: a swap changes it, and whoever remembers rows forgets them.';
comment on column positions.time is 'When the last message that was read came to lie in the stream.';

-- Every table is closed but for one org at a time; only the projector writes, for all orgs.
do $$
declare
    name text;
    here text := current_schema();
begin
    for name in select tablename from pg_tables where schemaname = here loop
        execute format('alter table %I.%I enable row level security', here, name);
        execute format('alter table %I.%I force row level security', here, name);
        if name = 'positions' then
            execute format('create policy everyone_reads on %I.%I for select using (true)', here, name);
            -- Whoever swaps these tables for others says so here, under a lock.
            execute format('create policy owner_swaps on %I.%I to %I using (true)', here, name, current_user);
        else
            execute format(
                'create policy org_only on %I.%I for select using (org = nullif(current_setting(''app.org'', true), ''''))',
                here, name);
        end if;
        execute format('create policy projector_writes on %I.%I to projector using (true) with check (true)', here, name);
        execute format('grant select on %I.%I to gateway', here, name);
        execute format('grant select, insert, update, delete on %I.%I to projector', here, name);
    end loop;
    execute format('grant usage on schema %I to gateway, projector, orchestrator', here);
    -- Where a run's history lies, for commands that reopen one.
    execute format('grant select on %I.runs to orchestrator', here);
end
$$;
