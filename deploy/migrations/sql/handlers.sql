-- Which runs were told that a run has failed. A database made by this release has it all already.

alter table read.runs add column if not exists handlers text not null default '';
alter table read.runs add column if not exists handler_error text;
create index if not exists runs_handled on read.runs (ended) where handlers <> '';
