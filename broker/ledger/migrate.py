"""Bring a ledger's tables to this version of the broker, by Alembic, when it is opened for writing.

The revisions ship inside the package; nobody runs `alembic` by hand. A ledger from a newer broker is refused.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine

from broker.errors import ConfigError

_SCRIPTS: Final = "broker.ledger:migrations"


def head() -> str:
    """The revision that this broker writes."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


@cache
def schema_of_head() -> Mapping[str, str | None]:
    """The tables and indexes of an empty ledger on SQLite: `table events` -> its SQL (None for an automatic index)."""
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            upgrade(connection)
            rows = connection.exec_driver_sql("SELECT type || ' ' || name, sql FROM sqlite_schema")
            return {row[0]: row[1] for row in rows}
    finally:
        engine.dispose()


def upgrade(connection: Connection) -> None:
    """Apply what is missing, in the connection's transaction. Raises ConfigError for a ledger of a newer broker."""
    config = _config()
    config.attributes["connection"] = connection
    if MigrationContext.configure(connection).get_current_revision() == head():
        return
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"the ledger's schema is not known to this broker ({error}); run the version that wrote it, or a newer one"
        ) from None


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _SCRIPTS)
    config.set_main_option("path_separator", "os")
    return config
