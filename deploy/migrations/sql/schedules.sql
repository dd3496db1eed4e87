-- Triggers that the clock is, and what became of their planned times. A database made by this release has it all already.

alter table read.triggers add column if not exists kind text not null default 'webhook';
alter table read.triggers add column if not exists schedule text;

do $$
begin
    if to_regclass('read.schedules') is not null then
        return;
    end if;
    create table read.schedules (
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
    create index schedules_to_look_at on read.schedules (look_at) where look_at is not null;
    comment on column read.schedules.look_at is 'Its owner should have looked by then: the planned time, or soon after a run was asked for.';
    comment on column read.schedules.revision is 'The version of the trigger that its owner knows.';
    alter table read.schedules enable row level security;
    alter table read.schedules force row level security;
    create policy org_only on read.schedules for select using (org = nullif(current_setting('app.org', true), ''));
    create policy projector_writes on read.schedules to projector using (true) with check (true);
    grant select on read.schedules to gateway;
    grant select, insert, update, delete on read.schedules to projector;
end
$$;
