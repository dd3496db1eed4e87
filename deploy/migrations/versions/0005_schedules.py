"""When schedules fire next, and what became of their planned times."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    execute(sql_file("schedules"))
