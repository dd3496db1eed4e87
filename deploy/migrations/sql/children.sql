-- Which run a step has started, and which step waits for a run. A database made by this release has it all already.

alter table read.runs add column if not exists parent_waits boolean not null default false;
alter table read.steps add column if not exists child text;
alter table read.steps add column if not exists awaits boolean not null default false;
create index if not exists runs_by_parent on read.runs (org, parent_run, started, id) where parent_run is not null;
create index if not exists runs_awaited on read.runs (org, id) where parent_waits and ended is null;
create index if not exists steps_awaiting on read.steps (org, run) where awaits;
