-- What the list of ids must say once a run's last commit has left the log too.

alter table archive.run_ids
    -- Whether a dedupe key names it: then its id refuses a second start for ever. Of a run from before this release nobody
    -- has written it down, so it counts as having one.
    add column keyed boolean not null default true,
    -- Hash of the request that asked for it: the same key with another one is refused.
    add column request text,
    -- When its last commit left the log.
    add column forgotten timestamptz;
create index run_ids_to_forget on archive.run_ids (keyed, ended, org, run) where purged is not null and forgotten is null;
create index run_ids_forgotten on archive.run_ids (org) where keyed and forgotten is not null;
