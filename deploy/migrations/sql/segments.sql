-- Where each segment of a long history begins: readers begin there, and what is before it may leave the log.

create table archive.seams (
    org text not null,
    run text not null,
    -- Of the commit that begins the segment.
    version bigint not null,
    week date not null,
    segment bigint not null,
    -- So many events stand before it.
    events bigint not null,
    epoch bigint not null,
    sequence bigint not null,
    time timestamptz not null,
    -- When what is before it was allowed to leave the log.
    purged timestamptz,
    primary key (org, run, version)
);
create index seams_to_purge on archive.seams (time, org, run, version) where purged is null;

alter table archive.seams enable row level security;
alter table archive.seams force row level security;
create policy org_only on archive.seams for select using (org = nullif(current_setting('app.org', true), ''));
create policy projector_writes on archive.seams to projector using (true) with check (true);
grant select on archive.seams to gateway, orchestrator;
grant select, insert, update, delete on archive.seams to projector;
