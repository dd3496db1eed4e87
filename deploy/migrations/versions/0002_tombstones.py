"""Tombstones leave the log: the archive's list of ids says all that a second start needs to know."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    execute(sql_file("tombstones"))
