"""Runs the migrations on the connection that `database.migrate` hands over."""

from alembic import context

from ainode.node.keeping.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
