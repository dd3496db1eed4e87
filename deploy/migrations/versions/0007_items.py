"""Rows of maps and loops say how far they are."""

from alembic import op

from deploy.database import sql_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    _execute(sql_file("items"))


def _execute(script: str) -> None:
    """Run a whole file: more than the one statement that SQLAlchemy's driver would prepare."""
    op.get_bind().connection.dbapi_connection.run_async(lambda asyncpg: asyncpg.execute(script))  # type: ignore[union-attr]  # asyncpg's adapter has it.
