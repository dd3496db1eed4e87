"""Runs and the steps that started them are linked both ways."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    execute(sql_file("children"))
