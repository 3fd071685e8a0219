"""Alembic's environment: migrates the connection it is handed, in one transaction."""

from alembic import context

from scalerl_lab.store.tables import VERSION_TABLE, Count, Table


def _render(kind, item, _autogen):
    # A migration says what the column is in SQL; it must not change with the lab's classes.
    return f"sa.String(length={item.impl.length})" if kind == "type" and isinstance(item, Count) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
