"""Run by Alembic for every command: our tables, on the connection that `database.migrate` gave."""

from alembic import context

from sipagent.records.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    transaction_per_migration=False,
)
# No transaction of Alembic's own: the caller's holds the lock, and all of a migration is seen or nothing.
context.run_migrations()
