-- Who may touch the vault. Row-level security holds for each of them on top of this.

grant usage on schema vault to gateway, ingress, executor;
-- The gateway takes secrets in, rotates and removes them, and knows the keys of the API.
grant select, insert, update, delete on all tables in schema vault to gateway;
-- Ingress checks signatures and seals what a trigger declares sensitive; an executor opens what an attempt needs.
grant select on vault.secrets, vault.data_keys, vault.salts to ingress, executor;
grant update (last_used) on vault.secrets to ingress, executor;
grant insert on vault.data_keys, vault.salts to ingress, executor;
