"""Long histories are read from their seams, and leave the log up to them."""

from deploy.database import sql_file
from deploy.migrations.scripts import execute

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    execute(sql_file("segments"))
