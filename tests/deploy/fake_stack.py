"""The embedded stack with its real servers and services that only say that they are ready.

Run as `fake_stack.py`, with the settings in the environment. FAKE_<SERVICE> says how a service behaves (fake_service.py).
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from chassis.settings import InvalidSettings, settings_from
from deploy.local import up
from deploy.stack import SERVICES, Hooks, Service, Stack

FAKE = Path(__file__).with_name("fake_service.py")
ADMIN = "deploy"


async def migrate(stack: Stack) -> None:
    import asyncpg

    settings = stack.settings_as(ADMIN)
    connection = await asyncpg.connect(
        host=settings.postgres_host,
        database=settings.postgres_database,
        user=settings.postgres_user,
        password=Path(settings.postgres_password_file).read_text(),
    )
    await connection.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz DEFAULT now())")
    await connection.execute("INSERT INTO starts DEFAULT VALUES")
    sys.stdout.write(f"starts: {await connection.fetchval('SELECT count(*) FROM starts')}\n")
    await connection.close()


async def reconcile(stack: Stack) -> None:
    import nats

    settings = stack.settings_as(ADMIN)
    client = await nats.connect(settings.nats_url, nkeys_seed=settings.nats_seed_file)
    await client.request(
        "$JS.API.STREAM.CREATE.RUNS",
        json.dumps({"name": "RUNS", "subjects": ["run.*"], "storage": "file", "allow_atomic": True}).encode(),
    )
    stored = await client.jetstream().publish("run.started", b"1")
    sys.stdout.write(f"stored: {stored.seq}\n")
    await client.close()


async def first_key(stack: Stack) -> str:
    path = stack.data.secrets / "first-key"
    path.write_text("ao_test")
    return str(path)


async def before_service(stack: Stack, name: str) -> None:
    sys.stdout.write(f"{name} is about to start with {stack.servers.nats_url}\n")


def accounts(keys: Mapping[str, str]) -> str:
    users = ", ".join(f"{{ nkey: {key} }}" for key in keys.values())
    return f"accounts {{ APP {{ jetstream: enabled, users: [ {users} ] }} }}"


def services_for(environ: Mapping[str, str]) -> list[Service]:
    try:
        settings = settings_from(environ)
    except InvalidSettings:
        return []  # The stack itself says what is wrong.
    return [
        msgspec.structs.replace(
            service,
            argv=(
                sys.executable,
                str(FAKE),
                service.name,
                str(service.port(settings)),
                environ.get(f"FAKE_{service.name.upper()}", ""),
            ),
        )
        for service in SERVICES
    ]


def main(environ: Mapping[str, str]) -> int:
    hooks = Hooks(
        migrate=migrate,
        reconcile=reconcile,
        first_key=first_key,
        nats_users=(ADMIN, *(service.name for service in SERVICES)),
        nats_accounts=accounts,
        before_service=before_service,
    )
    watch = environ.get("FAKE_WATCH")
    return up(
        environ,
        hooks,
        services=services_for(environ),
        batch_streams=("RUNS",),
        watch=Path(watch) if watch else None,
    )


if __name__ == "__main__":
    sys.exit(main(os.environ))
