"""A run that failed names the run of its error workflow."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    execute(sql_file("handlers"))
