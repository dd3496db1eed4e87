"""The vault, the archive and the read models of the first release."""

from alembic import op

from deploy.database import sql_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    for name in ("vault", "archive"):
        _execute(sql_file(name))
    _execute("create schema read")
    _execute(f"set local search_path to read;\n{sql_file('read')};\nset local search_path to default")
    _execute(sql_file("rights"))


def _execute(script: str) -> None:
    """Run a whole file: more than the one statement that SQLAlchemy's driver would prepare."""
    op.get_bind().connection.dbapi_connection.run_async(lambda asyncpg: asyncpg.execute(script))  # type: ignore[union-attr]  # asyncpg's adapter has it.
