"""`automateos init`: the one-shot steps of compose.yaml, before its servers and before its services."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deploy.commands.here import Asked

app = App(name="init", help="The one-shot steps of compose.yaml.")


@app.command
def keys(
    *,
    into: Annotated[Path, Parameter(help="The folder with one folder for each container.")] = Path("/handed"),
    nats_store: Annotated[
        str, Parameter(help="Where nats-server keeps its streams, as its container sees it.")
    ] = "/nats/store",
    here: Asked,
) -> None:
    """Make the keys, once, and hand every container its own, with the configurations of the servers."""
    from deploy.data_directory import open_data_directory
    from deploy.handover import Places, hand_over
    from deploy.wiring import accounts

    settings = here.settings()
    with open_data_directory(here.data_dir()) as data:
        hand_over(data, settings, accounts(data), Places(root=into, nats_store=nats_store))
    here.say(f"keys and configurations lie in {into}")


@app.command
async def stores(*, here: Asked) -> None:
    """Bring the database and the streams to this release, and make the first API key."""
    import msgspec

    from deploy.data_directory import open_data_directory
    from deploy.keys import Keys
    from deploy.servers import PostgresAddress
    from deploy.servers.postgres import SUPERUSER
    from deploy.wiring import FIRST_KEY, OPERATOR, bring_database, bring_streams, make_first_key

    settings = here.settings()
    with open_data_directory(here.data_dir()) as data:
        made = Keys(data)
        address = PostgresAddress(
            host=settings.postgres_host,
            port=settings.postgres_port,
            database=settings.postgres_database,
            user=SUPERUSER,
            password_file=str(made.postgres_password(SUPERUSER)),
        )
        await bring_database(address, made)
        here.say("database ready")
        operator = msgspec.structs.replace(
            settings,
            nats_seed_file=str(made.nats_users([OPERATOR])[OPERATOR].seed_file),
            postgres_user="gateway",
            postgres_password_file=str(made.postgres_password("gateway")),
            master_key_file=str(made.master_key),
        )
        await bring_streams(operator)
        here.say("streams ready")
        await make_first_key(operator, data.secrets / FIRST_KEY)
        here.say(f"API key in {data.secrets / FIRST_KEY}")
