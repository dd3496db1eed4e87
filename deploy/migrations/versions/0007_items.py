"""Rows of maps and loops say how far they are."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    execute(sql_file("items"))
