-- What nodes say, to be searched. A database made by this release has the table already.

create table if not exists read.log_records (
    org text not null,
    time timestamptz not null,
    epoch bigint not null,
    sequence bigint not null,
    run text not null,
    level bigint not null,
    body text not null,
    primary key (org, time, epoch, sequence)
);
create index if not exists log_records_by_sequence on read.log_records (epoch, sequence);
comment on column read.log_records.time is 'When the first of the lines was said.';
comment on column read.log_records.level is 'The highest of the lines: 0 debug, 1 info, 2 warning, 3 error.';
comment on column read.log_records.body is 'A contracts.logs.LogRecord as JSON.';
alter table read.log_records enable row level security;
alter table read.log_records force row level security;
drop policy if exists org_only on read.log_records;
drop policy if exists projector_writes on read.log_records;
create policy org_only on read.log_records for select using (org = nullif(current_setting('app.org', true), ''));
create policy projector_writes on read.log_records to projector using (true) with check (true);
grant select on read.log_records to gateway;
grant select, insert, update, delete on read.log_records to projector;
