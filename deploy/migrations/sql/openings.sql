-- What a reopened run's row needs to say what the engine says: since when it is open, and which steps are in doubt again.
-- A database made by this release has the columns already.

alter table read.runs add column if not exists opened timestamptz;
alter table read.steps add column if not exists repeat text;
alter table read.steps add column if not exists effect text;
-- Of a run that was never reopened it is known; the owner may not look at rows otherwise.
alter table read.runs no force row level security;
update read.runs set opened = started where opening = 1 and opened is null;
alter table read.runs force row level security;
