"""Engines of SQLAlchemy for a registry: every wait has a deadline, every pool a bound."""

from __future__ import annotations

__all__ = ["LOCK_TIMEOUT", "make_engine_of", "shorten_log"]

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError as NoURL
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import QueuePool

from ...errors import ArgumentError, MissingExtraError
from ..stores._sqlite_file import create_private

LOCK_TIMEOUT = 5  # seconds that a statement waits for others

_CONNECTIONS = 8  # open at most in one process; PostgreSQL allows 100 for all clients
_POOL_TIMEOUT = 5  # seconds that a thread waits for one of them
_LOG_SIZE = 4 * 1024 * 1024  # bytes of the -wal file; about SQLite's own 1,000 pages
_PAUSE = 0.001  # seconds between two tries to reach WAL mode, which SQLite does not wait for

# libpq's own parameters (postgresql.org/docs/current/libpq-connect.html). A server that vanished is noticed
# after about 10 s; one that holds a lock for a process that was stopped lets it go after 10 s.
_POSTGRESQL = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "tuned-digest",
    "client_encoding": "utf8",
}
_POSTGRESQL_OPTIONS = (
    f"-c statement_timeout={LOCK_TIMEOUT}s -c lock_timeout={LOCK_TIMEOUT}s "
    "-c idle_in_transaction_session_timeout=10s"
)
_LIBPQ = ("psycopg", "psycopg2")  # drivers that take them


def make_engine_of(database: str | os.PathLike[str]) -> tuple[Callable[[], Engine], str | None]:
    """Tell how to make an engine; nothing is opened yet.

    Args:
        database: The path of an SQLite file, or the URL of a database of PostgreSQL or SQLite.

    Returns:
        What makes an engine, and the absolute path of the file, if it is one.

    Raises:
        ArgumentError: If it is neither.
        MissingExtraError: If the driver is not installed.
    """
    text = os.fspath(database)
    url = _url(text) if isinstance(database, str) and "://" in text else None
    if url is None or url.get_backend_name() == "sqlite":
        path = str(Path(text if url is None else _path_in(url)).absolute())
        return lambda: _sqlite_engine(path), path
    if url.get_backend_name() != "postgresql" or url.get_driver_name() not in _LIBPQ:
        raise ArgumentError(
            f"{url.drivername} is not served: give the path of an SQLite file, a URL that begins with "
            "postgresql+psycopg://, or an Engine"
        )
    try:
        create_engine(url)  # connects to nothing
    except ImportError as error:
        raise MissingExtraError(
            f"{url.get_driver_name()} is not installed: pip install 'psycopg[binary]'", extra="accounts"
        ) from error
    return lambda: _postgresql_engine(url), None


def shorten_log(path: str) -> None:
    """Move the content of a long -wal file into the file, so that the next write begins the log anew.

    A connection of its own keeps writers out meanwhile: before SQLite 3.51.3 a commit that begins the log
    anew during a checkpoint can damage the file (sqlite.org/wal.html, "The WAL Reset Bug"). SQLite's own
    checkpoints keep nobody out, and are therefore turned off. Where others are at work, a later write does
    it.

    Args:
        path: The file.
    """
    with suppress(OSError, sqlite3.Error):
        if os.stat(f"{path}-wal").st_size <= _LOG_SIZE:  # noqa: PTH116  # a Path takes ten times as long
            return
        with closing(_connected(path, 0)) as guard, closing(_connected(path, 0)) as mover:
            guard.execute("BEGIN IMMEDIATE")
            mover.execute("PRAGMA wal_checkpoint(PASSIVE)")
            guard.rollback()


def _url(text: str) -> URL:
    try:
        url = make_url(text)
        url.get_dialect()
    except (NoURL, NoSuchModuleError, ValueError):
        raise ArgumentError(
            "the registry's URL cannot be read, or is of a kind that SQLAlchemy does not know"
        ) from None
    return url


def _path_in(url: URL) -> str:
    if not url.database or url.database == ":memory:" or url.query:
        raise ArgumentError("a registry's SQLite URL names a file, sqlite:///PATH, and nothing else")
    return url.database


def _postgresql_engine(url: URL) -> Engine:
    chosen = {name: value for name, value in _POSTGRESQL.items() if name not in url.query}
    options = f"{_POSTGRESQL_OPTIONS} {url.query.get('options', '')}"  # the later one of a name is valid
    return _engine(url, connect_args={**chosen, "options": options})


def _sqlite_engine(path: str) -> Engine:
    return _engine("sqlite://", creator=lambda: _opened(path), poolclass=QueuePool)


def _engine(url: URL | str, **options: object) -> Engine:
    """Make an engine that reads without transactions, and hides what is kept from SQLAlchemy's log."""
    return create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,  # whoever begins a transaction ends it
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT,
        pool_use_lifo=True,
        hide_parameters=True,
        **options,
    )


def _opened(path: str) -> sqlite3.Connection:
    create_private(path)
    connection = _connected(path, LOCK_TIMEOUT)
    try:
        _enter_wal_mode(connection, path)
        connection.execute("PRAGMA synchronous = FULL")  # a revocation survives a power failure
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")  # cuts a log that begins anew
    except BaseException:
        connection.close()
        raise
    return connection


def _enter_wal_mode(connection: sqlite3.Connection, path: str) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE)
    if mode != "wal":
        raise ArgumentError(f"{path} cannot be in WAL mode: give a path on a disk of this machine")


def _connected(path: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
