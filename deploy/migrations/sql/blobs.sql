-- Which objects of the object store something names. What nothing names is collected a day after it was stored.

create table archive.blob_refs (
    org text not null,
    sha256 text not null,
    -- `run.<id>`, `domain.<aggregate>.<id>`, `hook.<sequence>`, `dlq.<sequence>` or `inbox`.
    holder text not null,
    -- When the holder stops to count; null: while it is there.
    until timestamptz,
    primary key (org, sha256, holder)
);
create index blob_refs_by_name on archive.blob_refs (sha256);
create index blob_refs_by_holder on archive.blob_refs (org, holder);
create index blob_refs_ending on archive.blob_refs (until) where until is not null;
-- Referenced, and by its type it may name others: not looked into yet.
create table archive.blobs_unread (
    org text not null,
    sha256 text not null,
    primary key (org, sha256)
);
-- What a stored value names; a child `''` says that the parent was looked into.
create table archive.blob_links (
    org text not null,
    parent text not null,
    child text not null,
    primary key (org, parent, child)
);
create index blob_links_by_child on archive.blob_links (child);
create index blob_links_by_parent on archive.blob_links (parent);
-- How far the collector has read each stream.
create table archive.collected (
    org text not null,
    stream text not null,
    epoch bigint not null,
    sequence bigint not null,
    primary key (org, stream)
);

do $$
declare
    name text;
begin
    foreach name in array array['blob_refs', 'blobs_unread', 'blob_links', 'collected'] loop
        execute format('alter table archive.%I enable row level security', name);
        execute format('alter table archive.%I force row level security', name);
        execute format('create policy projector_writes on archive.%I to projector using (true) with check (true)', name);
        execute format('grant select, insert, update, delete on archive.%I to projector', name);
    end loop;
end
$$;
