-- Which runs only tried a workflow out. A database made by this release has the column already.

alter table read.runs add column if not exists mode text not null default 'live';
