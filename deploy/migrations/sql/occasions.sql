-- What else starts runs, besides addresses and the clock. A database made by this release has the column already.

alter table read.triggers add column if not exists occasion text;
