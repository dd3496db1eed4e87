"""How alembic reaches the database: on the connection that `deploy.database` hands it, as the owner of the schemas."""

from typing import Final

from alembic import context
from sqlalchemy import Connection

CONNECTION: Final[Connection] = context.config.attributes["connection"]

context.configure(connection=CONNECTION, version_table_schema="migrations", transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
