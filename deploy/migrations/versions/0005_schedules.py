"""When schedules fire next, and what became of their planned times."""

from alembic import op

from deploy.database import sql_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    _execute(sql_file("schedules"))


def _execute(script: str) -> None:
    """Run a whole file: more than the one statement that SQLAlchemy's driver would prepare."""
    op.get_bind().connection.dbapi_connection.run_async(lambda asyncpg: asyncpg.execute(script))  # type: ignore[union-attr]  # asyncpg's adapter has it.
