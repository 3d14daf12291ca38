"""A database as a registry uses it: one read, or a transaction that no other of its kind overlaps.

SQLite lets one transaction at a time write. In PostgreSQL a lock does the same, so that what a transaction
has looked at stays so until its end, and the numbers of the audit trail are committed in their order.
"""

from __future__ import annotations

__all__ = ["Database"]

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from blake3 import blake3
from sqlalchemy import Connection, Engine, Select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..._runtime.forks import PerProcess, generation
from ...errors import ArgumentError, StoreUnavailableError
from ._engines import LOCK_TIMEOUT, make_engine_of, shorten_log

T = TypeVar("T")

_Work = Callable[[Connection], T]

_IN_USE = "was in use for longer than 5 s: does a shell, a backup or a stopped process hold it?"
_DAMAGED = "is no SQLite database, or damaged: give another path, or put a backup in place"
_NO_RIGHT = (
    "cannot be opened for writing: give the path of a file in a directory that is there, and let this user "
    "write to the directory and to the file"
)
_READ_ONLY = "does not allow this user to write: grant it INSERT, UPDATE and DELETE, and for start CREATE"
_FULL = "is full: make room on its disk"
_PROBLEMS: dict[int | str, str] = {  # by SQLite's result code, by PostgreSQL's SQLSTATE
    sqlite3.SQLITE_BUSY: _IN_USE,
    sqlite3.SQLITE_LOCKED: _IN_USE,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: _NO_RIGHT,
    sqlite3.SQLITE_READONLY: _NO_RIGHT,
    sqlite3.SQLITE_PERM: _NO_RIGHT,
    "25006": _READ_ONLY,
    "42501": _READ_ONLY,
    "42P01": "does not have the registry's tables",
    "53100": _FULL,
    "55P03": _IN_USE,
    "57014": _IN_USE,
}
_MISTAKES: frozenset[int | str] = frozenset(
    {
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        "25006",
        "42501",
    }
)
# After these a connection may hold what is not so any more, once somebody has mended the file.
_STALE: frozenset[int | str] = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
    }
)

_ENCODINGS = "SELECT current_setting('server_encoding'), current_setting('client_encoding')"

_BEGIN = {
    "sqlite": ("BEGIN IMMEDIATE",),
    "postgresql": (
        "BEGIN ISOLATION LEVEL READ COMMITTED",  # else what it sees would be older than the lock
        "SET LOCAL lock_timeout = {milliseconds}",
        "SELECT pg_advisory_xact_lock({lock})",
    ),
}


class Database:
    """Run statements, over lost connections and forks; the errors are this package's.

    Args:
        database: The path of an SQLite file, a URL, or an engine of the owner's, which is used as it is.
        name: What tells this registry from another one in the same database.

    Raises:
        ArgumentError: If it is none of these.
        MissingExtraError: If the driver is not installed.
    """

    def __init__(self, database: str | os.PathLike[str] | Engine, name: str) -> None:
        self._path: str | None = None
        self._is_owned = not isinstance(database, Engine)
        if isinstance(database, Engine):
            make = _renewed_after_forks(database)
            self._options = {"isolation_level": "AUTOCOMMIT"}
        else:
            make, self._path = make_engine_of(database)
            self._options = {}
        self._made: list[Engine] = []

        def made() -> Engine:
            engine = make()
            self._made.append(engine)  # a child does not close its parent's connections
            return engine

        self._engine = PerProcess(made)
        url, self.dialect = self._engine.get().url, self._engine.get().dialect
        self.place = self._path or f"the database {url.database} at {url.host or 'this machine'}"
        if self.dialect.name not in _BEGIN or self.dialect.is_async:
            raise ArgumentError("the engine is of SQLite or PostgreSQL, with a driver that blocks")
        # Else a driver of PostgreSQL sends BEGIN and ROLLBACK around a read. SQLite's begins to write only.
        self._begins = self.dialect.name == "postgresql" and not self._is_owned
        self.lock = int.from_bytes(blake3(f"tuned-digest {name}".encode()).digest(8), signed=True)
        values = {"lock": self.lock, "milliseconds": int(LOCK_TIMEOUT * 1000)}
        self._begin = [statement.format(**values) for statement in _BEGIN[self.dialect.name]]
        self._start: Callable[[], None] | None = None
        self._starting = PerProcess(threading.Lock)

    def before_first_use(self, start: Callable[[], None] | None) -> None:
        """Have the tables made before they are first used, where nobody did so when the application started.

        Args:
            start: Makes them, by statements that are run as `is_start`; None once they are made.
        """
        self._start = start

    def reader(self, statement: Select[Any], parameter: str) -> Callable[[str], Sequence[Any] | None]:
        """Compile a read of one row, which costs little more than the driver's own time.

        Args:
            statement: The statement.
            parameter: The name of its only parameter.

        Returns:
            What runs it: one statement, outside of any transaction. It raises StoreUnavailableError.
        """
        compiled = statement.compile(dialect=self.dialect)
        sql, is_positional = str(compiled), compiled.positional

        def read(value: str) -> Sequence[Any] | None:
            values: Any = (value,) if is_positional else {parameter: value}
            self._make_ready()
            try:
                return self._read(sql, values)
            except self.dialect.loaded_dbapi.Error:  # once more, with all that SQLAlchemy does on errors
                return self.run(lambda connection: connection.exec_driver_sql(sql, values).one_or_none())
            except (SQLAlchemyError, ArgumentError) as error:
                self._fail(error, is_start=False)

        return read

    def run(self, work: _Work[T], *, is_start: bool = False) -> T:
        """Run statements that may be run twice, each a transaction of its own.

        Args:
            work: Runs them.
            is_start: An error that somebody has to mend is an ArgumentError.

        Returns:
            What the work returns.

        Raises:
            StoreUnavailableError: If the database cannot do it now.
            ArgumentError: If it never will, as far as that can be told.
        """
        if not is_start:
            self._make_ready()
        with self._explained(is_start):
            return _again_if_lost(lambda: self._run(work))

    def write(self, work: _Work[T], *, is_start: bool = False) -> T:
        """Run statements in one transaction, which is undone on any error.

        Args:
            work: Runs them.
            is_start: An error that somebody has to mend is an ArgumentError.

        Returns:
            What the work returns.

        Raises:
            StoreUnavailableError: If the database cannot do it now.
            ArgumentError: If it never will, as far as that can be told.
        """
        if not is_start:
            self._make_ready()
        with self._explained(is_start):
            connection = _again_if_lost(self._begun)
            try:
                result = work(connection)
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                _undo(connection)
                raise
            finally:
                connection.close()
        if self._path:
            shorten_log(self._path)
        return result

    def require_unicode(self) -> None:
        """Refuse a database that cannot keep every text.

        Raises:
            ArgumentError: If it, or the connection to it, is not in UTF-8.
            StoreUnavailableError: If that cannot be told now.
        """
        if self.dialect.name == "postgresql":
            encodings = self.run(
                lambda connection: connection.exec_driver_sql(_ENCODINGS).one(), is_start=True
            )
            if set(encodings) != {"UTF8"}:
                raise ArgumentError(f"{self.place} is not in UTF-8: make a database with ENCODING 'UTF8'")

    def close(self) -> None:
        """Close the connections that this process does not use now; the next use opens new ones."""
        if self._is_owned:
            self._engine.get().dispose()

    def _make_ready(self) -> None:
        if self._start is None:
            return
        with self._starting.get():
            if self._start is not None:
                try:
                    self._start()
                except ArgumentError as error:  # a request is answered with 503, and the log says why
                    raise StoreUnavailableError(str(error)) from None

    def _read(self, sql: str, values: Any) -> Sequence[Any] | None:
        engine = self._engine.get()
        connection = engine.raw_connection()
        driver: Any = connection.dbapi_connection
        try:
            if self._begins:
                engine.dialect.set_isolation_level(driver, "AUTOCOMMIT")
            cursor = driver.cursor()
            cursor.execute(sql, values)
            row: Sequence[Any] | None = cursor.fetchone()
            cursor.close()
            if self._begins:
                engine.dialect.reset_isolation_level(driver)
        except BaseException:
            connection.invalidate()
            raise
        finally:
            connection.close()
        return row

    def _run(self, work: _Work[T]) -> T:
        with self._connected() as connection:
            return work(connection)

    def _begun(self) -> Connection:
        connection = self._connected()
        try:
            for statement in self._begin:
                connection.exec_driver_sql(statement)
        except BaseException:
            _undo(connection)
            connection.close()
            raise
        return connection

    def _connected(self) -> Connection:
        return self._engine.get().connect().execution_options(**self._options)

    @contextmanager
    def _explained(self, is_start: bool) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ArgumentError) as error:
            self._fail(error, is_start=is_start)

    def _fail(self, error: SQLAlchemyError | ArgumentError, *, is_start: bool) -> NoReturn:
        if isinstance(error, ArgumentError):  # of opening the file
            raise (error if is_start else StoreUnavailableError(str(error))) from None
        cause = error.orig if isinstance(error, DBAPIError) else error
        code = _code(cause)
        if code in _STALE:
            self.close()
        problem = _PROBLEMS.get(code, "cannot be reached, or cannot do what it is asked")
        said = str(cause).partition("\n")[0]  # further lines of PostgreSQL's show what is kept
        kind = ArgumentError if is_start and code in _MISTAKES else StoreUnavailableError
        raise kind(f"{self.place} {problem} ({said})") from None


def _renewed_after_forks(engine: Engine) -> Callable[[], Engine]:
    """Give a child the owner's engine with a pool of its own; the parent's is kept, and so never closed."""
    first, pools = generation(), []

    def renewed() -> Engine:
        if generation() != first:
            pools.append(engine.pool)
            engine.dispose(close=False)
        return engine

    return renewed


def _again_if_lost(call: Callable[[], T]) -> T:
    """Call once more where a connection was lost; SQLAlchemy then gives up all that are as old."""
    try:
        return call()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        return call()


def _undo(connection: Connection) -> None:
    try:
        connection.exec_driver_sql("ROLLBACK")
    except SQLAlchemyError:  # it was lost, or has no transaction any more
        connection.invalidate()


def _code(error: BaseException | None) -> int | str:
    """Give SQLite's primary result code (sqlite.org/rescode.html) or PostgreSQL's SQLSTATE."""
    return getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorcode", 0) & 0xFF
