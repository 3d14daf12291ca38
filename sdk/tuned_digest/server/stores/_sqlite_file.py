"""One SQLite file as a process has it open: private, in WAL mode, bounded, its errors ours."""

from __future__ import annotations

__all__ = ["SQLiteFile"]

import contextlib
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
_LOG_SIZE = 4 * _MIB  # as SQLite itself, whose pages have 4 KiB, of which it lets 1,000 come together
# Seconds between two tries while another process writes, which takes it about 0.0004. SQLite itself waits up
# to 0.1, and so finds the file free too seldom: with 4 busy processes about one call in 2,000 took a second.
_PAUSE = 0.001

_IN_USE = "was in use for longer than busy_timeout: does a shell, a backup or a stopped process hold it?"
_DAMAGED = "is damaged, or no SQLite database: stop the server, and remove it and its -wal and -shm files"
_NO_RIGHT = "cannot be opened for writing: make its directory, and let the server write to both"
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
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})
_MISTAKES = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
)
_SHORTAGES = frozenset({errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EIO})


class SQLiteFile:
    """Open a file when it is first used, and let one thread at a time work on it.

    Args:
        path: The file, absolute.
        max_mib: Its largest size, MiB.
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
        self._checkpointer: sqlite3.Connection | None = None

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
        full: sqlite3.Error | None = None
        while True:
            try:
                connection = self._connection = self._connection or self._opened()
                if full is not None and not make_room(connection):
                    raise StoreUnavailableError(self._explained(full))
                full = None
                with connection:
                    answer = work(connection)
                self._empty_log(connection)
                return answer
            except sqlite3.Error as error:
                if _code(error) not in _PASSING or time.monotonic() >= deadline:
                    raise
                if _code(error) == sqlite3.SQLITE_FULL:
                    full = error
                else:  # also where room was to be made, which is then tried again
                    time.sleep(_PAUSE)

    def _empty_log(self, connection: sqlite3.Connection) -> None:
        """Write what a large ``-wal`` file holds into the file, so that the next writer begins it anew.

        Nobody writes meanwhile: before 3.51.3 SQLite may lose what is written during a checkpoint
        (sqlite.org/wal.html#walresetbug), so its own checkpoints are off, and this one takes the lock for
        writing first. Where another process has it, a later call does this.
        """
        try:
            if os.stat(f"{self._path}-wal").st_size <= _LOG_SIZE:  # noqa: PTH116  # a tenth of a Path's time
                return
            connection.execute("BEGIN IMMEDIATE")
        except (OSError, sqlite3.Error):
            return
        try:
            with contextlib.suppress(sqlite3.Error):  # what was asked for is done
                self._checkpointer = self._checkpointer or self._connected()
                self._checkpointer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.execute("ROLLBACK")

    def _close(self) -> None:
        for connection in (self._checkpointer, self._connection):
            if connection is not None:
                connection.close()
        self._checkpointer = self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ArgumentError(
                f"SQLiteNonceStore needs SQLite 3.35 or later, and this Python has {sqlite3.sqlite_version}"
            )
        _create_private(self._path)
        connection = self._connected()
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._is_new(connection)  # another application's file is left as it is
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise ArgumentError(f"{self._path} cannot be in WAL mode: give a path on a disk of this machine")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 0")  # whoever begins the log anew cuts it short
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


def _create_private(path: str) -> None:
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
        raise kind(f"{path} cannot be made: {error.strerror}. {path} {_NO_RIGHT}") from None
    except ValueError as error:  # a NUL, or what the system cannot encode
        raise ArgumentError(f"{path!r} is not a path: {error}") from None


_creating = PerProcess(threading.Lock)


def _code(error: sqlite3.Error) -> int:
    """Give the primary result code (sqlite.org/rescode.html), 0 where the error is Python's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
