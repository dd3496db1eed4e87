-- How many steps of a run were undone, and which were not. A database made by this release has it already.

alter table read.runs add column if not exists undone text;
