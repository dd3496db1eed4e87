"""What names an object is written down, so that what nothing names can be collected."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    execute(sql_file("blobs"))
