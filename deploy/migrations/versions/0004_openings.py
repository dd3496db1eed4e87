"""Rows of reopened runs say what the engine says."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    execute(sql_file("openings"))
