"""A run that was undone says what came of that."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    execute(sql_file("undone"))
