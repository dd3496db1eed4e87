"""Triggers that are neither an address nor a schedule."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    execute(sql_file("occasions"))
