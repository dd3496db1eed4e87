-- At which gates runs wait, and inside of which they are. A database made by this release has it already.

alter table read.runs add column if not exists gates text not null default '';
create index if not exists runs_at_gates on read.runs (org, id) where gates <> '';
comment on column read.runs.gates is 'At which gates it waits or is inside, as JSON; empty: at none.';
