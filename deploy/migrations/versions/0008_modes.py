"""Rows of runs say which are tests."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    execute(sql_file("modes"))
