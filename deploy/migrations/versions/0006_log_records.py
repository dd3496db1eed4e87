"""What nodes say, to be searched."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    execute(sql_file("log_records"))
