"""Tombstones leave the log: the archive's list of ids says all that a second start needs to know."""

from alembic import op

from deploy.database import sql_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _execute(sql_file("tombstones"))


def _execute(script: str) -> None:
    """Run a whole file: more than the one statement that SQLAlchemy's driver would prepare."""
    op.get_bind().connection.dbapi_connection.run_async(lambda asyncpg: asyncpg.execute(script))  # type: ignore[union-attr]  # asyncpg's adapter has it.
