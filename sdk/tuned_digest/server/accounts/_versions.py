"""The version of a database's tables, and the way to the newest."""

from __future__ import annotations

__all__ = ["is_newest", "migrate"]

import threading
from pathlib import Path

from sqlalchemy import ColumnClause, Connection, column, inspect, select, table

from ..._runtime.forks import PerProcess
from ...errors import ArgumentError, MissingExtraError
from .schema import VERSION, VERSION_TABLE

_MIGRATIONS = Path(__file__).with_name("migrations")


def is_newest(connection: Connection) -> bool:
    """Say whether a database's tables are those of this release.

    Args:
        connection: A connection to it.

    Returns:
        True if they are.
    """
    return _version(connection) == VERSION


def migrate(connection: Connection, place: str) -> None:
    """Bring a database to the newest version, while nobody else does.

    Args:
        connection: A connection to it, in a transaction.
        place: The database, as errors call it.

    Raises:
        ArgumentError: If its version is not one of this release's.
        MissingExtraError: If Alembic is needed and not installed.
    """
    try:
        from alembic import command  # noqa: PLC0415  # only where there is something to do
        from alembic.config import Config  # noqa: PLC0415
        from alembic.script import ScriptDirectory  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "Alembic is not installed: pip install 'tuned-digest[accounts]'", extra="accounts"
        ) from error
    config = Config(attributes={"connection": connection, "version_table": VERSION_TABLE})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    version = _version(connection)
    if version not in {None, *known}:
        raise ArgumentError(
            f"{place} has tables of version {version}, and this release of tuned-digest knows "
            f"{VERSION} as the newest: install a newer release"
        )
    with _one_at_a_time.get():
        command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    number: ColumnClause[str] = column("version_num")
    versions = connection.scalars(select(number).select_from(table(VERSION_TABLE)))
    return ", ".join(sorted(versions)) or None


_one_at_a_time = PerProcess(threading.Lock)  # Alembic's `context` and `op` are the process's
