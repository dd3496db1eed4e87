-- How far the maps and loops of a run are. A database made by this release has the columns already.

alter table read.steps add column if not exists items_total integer;
alter table read.steps add column if not exists items_done integer;
alter table read.steps add column if not exists items_failed integer;
