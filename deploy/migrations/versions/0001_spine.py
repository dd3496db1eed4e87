"""The vault, the archive and the read models of the first release."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    for name in ("vault", "archive"):
        execute(sql_file(name))
    execute("create schema read")
    execute(f"set local search_path to read;\n{sql_file('read')};\nset local search_path to default")
    execute(sql_file("rights"))
