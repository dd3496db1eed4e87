"""Runs the scripts of migrations, each as a whole: more than the one statement that SQLAlchemy's driver would prepare."""

from alembic import op


def execute(script: str) -> None:
    """In the transaction of the migration that is under way."""
    op.get_bind().connection.dbapi_connection.run_async(lambda asyncpg: asyncpg.execute(script))  # type: ignore[union-attr]  # asyncpg's adapter has it.
