"""A database with this release's schema, and settings for each role that speaks to it."""

from pathlib import Path

import asyncpg

from chassis.settings import Settings
from deploy.database import ROLES, migrate
from deploy.servers import PostgresAddress


def password_files(folder: Path) -> dict[str, Path]:
    """The same for every test of a server: roles belong to the server, not to a database."""
    folder.mkdir(exist_ok=True)
    files = {role: folder / f"{role}.password" for role in ROLES}
    for role, path in files.items():
        path.write_text(f"{role} of the tests")
    return files


async def migrated(address: PostgresAddress, folder: Path) -> dict[str, Settings]:
    """Migrate an empty database; the settings with which each role connects to it."""
    files = password_files(folder)
    await migrate(address, files)
    return {
        role: Settings(
            postgres_host=address.host,
            postgres_port=address.port,
            postgres_database=address.database,
            postgres_user=role,
            postgres_password_file=str(path),
        )
        for role, path in files.items()
    }


async def analyzed(address: PostgresAddress, *tables: str) -> None:
    """Have the planner know what lies there. Only the tables' owner may ask for it: anybody else is passed over with a warning."""
    connection = await asyncpg.connect(**address.login())
    try:
        for table in tables:
            await connection.execute(f"vacuum analyze {table}")
    finally:
        await connection.close()
