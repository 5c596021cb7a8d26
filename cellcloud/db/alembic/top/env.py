"""Runs the top database's migrations in the transaction that the caller opened."""

from alembic import context

from cellcloud.db.top_schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
