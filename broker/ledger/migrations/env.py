"""Alembic's environment: it runs on the connection that broker.ledger.migrate hands over, and only there."""

from alembic import context

from broker.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    render_as_batch=True,  # SQLite changes a table by writing a new one
)
with context.begin_transaction():
    context.run_migrations()
