-- What people are asked to decide, with an index of its own: of very many waiting runs the newest questions are found at once.
-- A database made by this release has all of it already.

alter table read.steps add column if not exists asks text;
alter table read.steps add column if not exists asked timestamptz;
create index if not exists steps_asking on read.steps (org, asked, (run || '/' || path)) where asks is not null;
