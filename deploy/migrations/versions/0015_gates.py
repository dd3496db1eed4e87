"""Who is inside of gates, and who waits there."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    execute(sql_file("gates"))
