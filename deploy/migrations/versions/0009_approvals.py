"""Rows of steps say what people are asked to decide."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    execute(sql_file("approvals"))
