"""One SQLite file as a process has it open: private, in WAL mode, bounded, its errors ours."""

from __future__ import annotations

__all__ = ["SQLiteFile", "create_private"]

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ..._runtime.forks import PerProcess
from ...errors import ArgumentError, StoreUnavailableError

T = TypeVar("T")

_Work = Callable[[sqlite3.Connection], T]

_OLDEST = (3, 35)  # the first with RETURNING (sqlite.org/lang_returning.html)
_APPLICATION_ID = 0x54445331  # "TDS1": the last character is the version of the schema
_SCHEMA = (
    """CREATE TABLE grants (key BLOB PRIMARY KEY, owner INTEGER NOT NULL, expiry INTEGER NOT NULL,
        encoded BLOB NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX grants_by_expiry ON grants (expiry)",
    "CREATE INDEX grants_by_owner ON grants (owner, expiry)",
    "CREATE TABLE spent (key BLOB PRIMARY KEY, expiry INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX spent_by_expiry ON spent (expiry)",
    "CREATE TABLE meta (epoch TEXT NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)
_BEGIN_EPOCH = "INSERT INTO meta (epoch) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM meta)"
_MIB = 1024 * 1024  # bytes
# Bytes of the -wal file beyond which its content is moved into the file: about SQLite's own 1,000 pages
# (sqlite.org/wal.html, section 3.1).
_LOG_SIZE = 4 * _MIB
# Seconds between two tries while another process writes, which takes it about 0.0004. SQLite itself waits up
# to 0.1, and so finds the file free too seldom: with 4 busy processes about one call in 2,000 took a second.
_PAUSE = 0.001

_IN_USE = "was in use for longer than busy_timeout: does a shell, a backup or a stopped process hold it?"
_DAMAGED = (
    "is no SQLite database, or damaged: if it holds nonces, stop the server, and remove it and its -wal and "
    "-shm files; if it is another file, give another path"
)
_IS_READ = "is read by another program, which keeps its -wal file from being shortened: end that program"
_NO_RIGHT = (
    "cannot be opened for writing: give the path of a file in a directory that is there, and let this user "
    "write to the directory and to the file"
)
_PROBLEMS = {
    sqlite3.SQLITE_BUSY: _IN_USE,
    sqlite3.SQLITE_LOCKED: _IN_USE,
    sqlite3.SQLITE_FULL: "is full: give a larger max_mib, or make room on the disk",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: _NO_RIGHT,
    sqlite3.SQLITE_READONLY: _NO_RIGHT,
    sqlite3.SQLITE_PERM: _NO_RIGHT,
}
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_PASSING = _LOCKED | {sqlite3.SQLITE_FULL}
_MISTAKES = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
)
_SHORTAGES = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EIO})


class SQLiteFile:
    """Open a file when it is first used, and let one thread at a time work on it.

    Args:
        path: The file, absolute.
        max_mib: Its largest size, MiB. The ``-wal`` file beside it is shortened when it has more than 4 MiB.
            While another program keeps that from being done, it may have ``max_mib`` more.
        busy_timeout: Seconds to wait for other threads and processes.
        make_epoch: Makes the epoch of a new file.
    """

    def __init__(
        self, path: str, *, max_mib: int, busy_timeout: float, make_epoch: Callable[[], str]
    ) -> None:
        self._path = path
        self._max_mib = max_mib
        self._busy_timeout = busy_timeout
        self._make_epoch = make_epoch
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._guard: sqlite3.Connection | None = None

    def run(self, work: _Work[T], make_room: _Work[bool] = lambda connection: False) -> T:
        """Run statements; a transaction that they begin is committed, or undone on an error.

        Args:
            work: Runs them; again when the file was locked or full.
            make_room: Drops something when the file is full, or says that there is nothing to drop.

        Returns:
            What the work returns.

        Raises:
            ArgumentError: If the file cannot be opened, and will not be without somebody's help.
            StoreUnavailableError: If it cannot be read or written now.
        """
        deadline = time.monotonic() + self._busy_timeout
        if not self._lock.acquire(timeout=self._busy_timeout):
            raise StoreUnavailableError(f"{self._path} {_IN_USE}")
        try:
            return self._run(work, make_room, deadline)
        except sqlite3.Error as error:
            is_mistake = self._connection is None and _code(error) in _MISTAKES
            if _code(error) not in _PASSING:  # the next call opens anew what may have been mended
                self._close()
            raise (ArgumentError if is_mistake else StoreUnavailableError)(self._explained(error)) from None
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._close()

    def _run(self, work: _Work[T], make_room: _Work[bool], deadline: float) -> T:
        while True:
            try:
                self._connection = self._connection or self._opened()
                self._shorten_log(self._connection)
                return _run_with_room(self._connection, work, make_room, deadline)
            except sqlite3.Error as error:
                if _code(error) not in _LOCKED or time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE)

    def _shorten_log(self, connection: sqlite3.Connection) -> None:
        """Move the content of a long -wal file into the file, so that the next write begins the log anew.

        A second connection keeps writers out meanwhile. Otherwise a checkpoint never catches up with writers
        that do not pause, and the log has no bound. And before SQLite 3.51.3 a commit that begins the log
        anew during a checkpoint can damage the file (sqlite.org/wal.html, "The WAL Reset Bug"). SQLite's own
        checkpoints keep nobody out, and are therefore turned off.
        """
        size = _size(f"{self._path}-wal")
        if size <= _LOG_SIZE:
            return
        guard = self._guard = self._guard or _connected(self._path)
        guard.execute("BEGIN IMMEDIATE")
        try:
            is_busy, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            guard.rollback()
        if (is_busy or moved < pages) and size > _LOG_SIZE + self._max_mib * _MIB:
            raise StoreUnavailableError(f"{self._path} {_IS_READ}")

    def _close(self) -> None:
        for connection in (self._guard, self._connection):
            if connection is not None:
                connection.close()
        self._guard = self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ArgumentError(
                f"SQLiteNonceStore needs SQLite 3.35 or later, and this Python has {sqlite3.sqlite_version}"
            )
        create_private(self._path)
        connection = _connected(self._path)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._is_new(connection)  # another application's file is left as it is
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise ArgumentError(f"{self._path} cannot be in WAL mode: give a path on a disk of this machine")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")  # cuts a log that begins anew
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {self._max_mib * _MIB // page_size}")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if self._is_new(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
            # Of a file that cannot be written this is the first statement that fails.
            connection.execute(_BEGIN_EPOCH, (self._make_epoch(),))

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION_ID and (application or tables):
            raise ArgumentError(
                f"{self._path} is another application's database, or another version's: give another path"
            )
        return not tables

    def _explained(self, error: sqlite3.Error) -> str:
        return f"{self._path} {_PROBLEMS.get(_code(error), 'could not be read or written')} ({error})"


def _run_with_room(
    connection: sqlite3.Connection, work: _Work[T], make_room: _Work[bool], deadline: float
) -> T:
    while True:
        try:
            with connection:
                return work(connection)
        except sqlite3.Error as error:
            is_late = time.monotonic() >= deadline
            if _code(error) != sqlite3.SQLITE_FULL or is_late or not make_room(connection):
                raise


def _connected(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  # a Path takes ten times as long
    except OSError:
        return 0


def create_private(path: str) -> None:
    """Make an empty file that its owner alone can read; SQLite makes those beside it likewise.

    A file that is there is not opened: closing it here would take the locks of this process's other
    connections to it away (sqlite.org/howtocorrupt.html, section 2.2).
    """
    try:
        with _creating.get():
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        kind = StoreUnavailableError if error.errno in _SHORTAGES else ArgumentError
        raise kind(f"{path} {_NO_RIGHT} ({error.strerror})") from None
    except ValueError as error:  # a NUL, or what the system cannot encode
        raise ArgumentError(f"{path!r} is not a path: {error}") from None


_creating = PerProcess(threading.Lock)


def _code(error: sqlite3.Error) -> int:
    """Give the primary result code (sqlite.org/rescode.html), 0 where the error is Python's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
