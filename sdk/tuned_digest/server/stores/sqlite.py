"""Issued nonces and spent names in one SQLite file, which the processes of one machine share."""

from __future__ import annotations

__all__ = ["SQLiteNonceStore"]

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from blake3 import blake3

from ..._base64 import encode_base64
from ..._runtime.forks import PerProcess
from ...errors import ArgumentError
from ..grants import Grant
from ._sqlite_file import SQLiteFile

_NONCE_SIZE = 32  # bytes, section 1
_EPOCH_SIZE = 16  # bytes
_KEY_SIZE = 16  # bytes; to hit a nonce without knowing it is to find a second preimage of 128 bits
_OWNER_SIZE = 8  # bytes, an integer of SQLite's; two owners of one number share a quota
_LONGEST = 10**9  # seconds, 31 years

_SWEPT = 16  # stale rows that a call removes: several times what it adds
# Rows dropped at once when the file is full. In grants_by_owner they are neighbours, about 110 to a page of
# 4 KiB, so that a whole bite frees a page; in the table they are scattered.
_BITE = 256

_SWEEP = """DELETE FROM {table} WHERE key IN
    (SELECT key FROM {table} WHERE expiry <= ? ORDER BY expiry LIMIT ?)"""
_SWEEP_GRANTS = _SWEEP.format(table="grants")
_SWEEP_SPENT = _SWEEP.format(table="spent")
# Of an owner that has two bites: its latest nonces stay, which it is about to use.
_DROP_OLDEST_OF = """DELETE FROM grants WHERE key IN
    (SELECT key FROM grants WHERE owner = ?1 ORDER BY expiry LIMIT ?2)
    AND EXISTS (SELECT 1 FROM grants WHERE owner = ?1 LIMIT 1 OFFSET 2 * ?2 - 1)"""
_DROP_OLDEST_BUT = """DELETE FROM grants WHERE key IN
    (SELECT key FROM grants WHERE owner <> ? ORDER BY expiry LIMIT ?)"""
_DROP_OLDEST = "DELETE FROM grants WHERE key IN (SELECT key FROM grants ORDER BY expiry LIMIT ?)"
_DROP_BEYOND = """DELETE FROM grants WHERE key IN
    (SELECT key FROM grants WHERE owner = ? ORDER BY expiry DESC LIMIT ? OFFSET ?)"""
_PUT = "INSERT INTO grants (key, owner, expiry, encoded) VALUES (?, ?, ?, ?)"
_TAKE = "DELETE FROM grants WHERE key = ? RETURNING expiry, encoded"
_SPEND = """INSERT INTO spent (key, expiry) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET expiry = excluded.expiry WHERE expiry <= ?
    RETURNING (SELECT epoch FROM meta)"""


class SQLiteNonceStore:
    """Keep issued nonces in a file, for all processes of one machine; they survive a restart.

    Every change is on the disk before it is answered for. A nonce itself is never written, only a digest of
    it. Never put an older copy of the file in place: nonces that were taken since would be good again. Delete
    the file instead, and its ``-wal`` and ``-shm`` files, while no process has it open.

    A full file drops what is stale. If nothing is, it drops the oldest challenges. If there are only a few
    hundred challenges, it drops the oldest next nonces: those of the key that calls if it has many, else of
    all keys. A client that loses a nonce is challenged once more. Spent names are never dropped: a file full
    of them is unavailable.

    Args:
        path: The file, on a disk of this machine: WAL mode does not work over a network. It is made, private
            to its owner, where it is not there; its directory is not.
        namespace: Stores of different namespaces in one file know nothing of each other.
        lifetime: Seconds a next nonce is good for (section 7).
        challenge_lifetime: Seconds the nonce of a challenge is good for: longer than the dearest work.
        quota: Next nonces kept for one key and scope; beyond it the key's own oldest go.
        max_mib: Largest size of the file, MiB; a GiB holds about 7 million nonces. The ``-wal`` file comes on
            top: 4 MiB, and one call of each process. While another program reads the file for long (a shell,
            a backup), it can have ``max_mib`` more; then the store is unavailable until that program ends.
        busy_timeout: Seconds to wait for other threads and processes before the store is unavailable.
        clock: Gives seconds since the epoch, the same in all processes.
        randomness: Gives that many random bytes.

    Raises:
        ArgumentError: If a number is not positive or too large.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        namespace: str = "",
        lifetime: float = 86400,
        challenge_lifetime: float = 300,
        quota: int = 1024,
        max_mib: int = 1024,
        busy_timeout: float = 1,
        clock: Callable[[], float] = time.time,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not all(0 < number < _LONGEST for number in (lifetime, challenge_lifetime, quota, busy_timeout)):
            raise ArgumentError(f"lifetimes, quota and busy_timeout are above 0 and below {_LONGEST}")
        if not 1 <= max_mib < _LONGEST:
            raise ArgumentError("max_mib is at least 1")
        self._lifetimes = {True: lifetime, False: challenge_lifetime}
        self._quota = quota
        self._clock = clock
        self._randomness = randomness
        self._namespace = blake3(namespace.encode("utf-8", "surrogatepass")).digest()
        self._challenges = self._number("challenges")

        absolute = str(Path(path).absolute())

        def make() -> SQLiteFile:
            file = SQLiteFile(
                absolute,
                max_mib=max_mib,
                busy_timeout=busy_timeout,
                make_epoch=lambda: encode_base64(randomness(_EPOCH_SIZE)),
            )
            self._made.append(file)
            return file

        # A child neither uses nor closes its parent's connection (sqlite.org/howtocorrupt.html, section 2.6).
        self._made: list[SQLiteFile] = []
        self._file = PerProcess(make)

    def start(self) -> None:
        """Open the file, and make it where it is not there.

        Raises:
            ArgumentError: If it cannot be opened, and will not be without somebody's help.
            StoreUnavailableError: If it cannot be opened now.
        """
        self._file.get().run(lambda connection: None)

    def close(self) -> None:
        """Close the file in this process; the next use opens it again."""
        self._file.get().close()

    def issue(self, *grants: Grant) -> list[str]:
        """Make nonces and keep what they are good for, all in one transaction.

        Args:
            grants: What they are good for.

        Returns:
            A nonce for each.

        Raises:
            ArgumentError: If the file cannot be opened, and will not be without somebody's help.
            StoreUnavailableError: If it cannot be written now, or has no room.
        """
        nonces = [encode_base64(self._randomness(_NONCE_SIZE)) for _ in grants]
        now = self._clock()
        rows = [self._row(nonce, grant, now) for nonce, grant in zip(nonces, grants, strict=True)]

        def put(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SWEEP_GRANTS, (_milliseconds(now), _SWEPT))
            for row in rows:
                if row[1] != self._challenges:
                    connection.execute(_DROP_BEYOND, (row[1], _SWEPT, self._quota - 1))
                connection.execute(_PUT, row)

        owners = list(dict.fromkeys([self._challenges, *(row[1] for row in rows)]))
        self._file.get().run(put, lambda connection: _has_dropped(connection, now, owners))
        return nonces

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce out, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale, was taken before, or was kept by a
            version that wrote grants in another way.

        Raises:
            ArgumentError: If the file cannot be opened, and will not be without somebody's help.
            StoreUnavailableError: If it cannot be written now.
        """
        key = self._digest("nonce", nonce, _KEY_SIZE)
        now = _milliseconds(self._clock())
        taken = self._file.get().run(lambda connection: connection.execute(_TAKE, (key,)).fetchall())
        return next((_read(encoded) for expiry, encoded in taken if expiry > now), None)

    def spend(self, name: str, seconds: float, /) -> str | None:
        """Remember a name, atomically, unless it is remembered already.

        Args:
            name: What is spent.
            seconds: How long to remember it.

        Returns:
            The file's epoch: a new file begins another one. None when the name was spent before.

        Raises:
            ArgumentError: If the file cannot be opened, and will not be without somebody's help.
            StoreUnavailableError: If it cannot be written now, or has no room.
        """
        now = self._clock()
        expiry = _milliseconds(now + min(seconds, _LONGEST))
        row = (self._digest("name", name, _KEY_SIZE), expiry, _milliseconds(now))

        def put(connection: sqlite3.Connection) -> list[tuple[str]]:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SWEEP_SPENT, (_milliseconds(now), _SWEPT))
            return connection.execute(_SPEND, row).fetchall()

        challenges = [self._challenges]
        spent = self._file.get().run(put, lambda connection: _has_dropped(connection, now, challenges))
        return spent[0][0] if spent else None

    def _row(self, nonce: str, grant: Grant, now: float) -> tuple[bytes, int, int, bytes]:
        owner = self._challenges
        if grant.chained:
            owner = self._number(f"{grant.identity} {' '.join(sorted(grant.scope))}")
        expiry = _milliseconds(now + self._lifetimes[grant.chained])
        return self._digest("nonce", nonce, _KEY_SIZE), owner, expiry, grant.encode()

    def _number(self, owner: str) -> int:
        return int.from_bytes(self._digest("owner", owner, _OWNER_SIZE), signed=True)

    def _digest(self, kind: str, text: str, size: int) -> bytes:
        return blake3(self._namespace + f"{kind} {text}".encode("utf-8", "surrogatepass")).digest(size)


def _has_dropped(connection: sqlite3.Connection, now: float, owners: Sequence[int]) -> bool:
    """Drop a bite of the first kind there is; the first owner is that of challenges."""
    stale = (_milliseconds(now), _BITE)
    drops: list[tuple[str, tuple[int, ...]]] = [(_SWEEP_GRANTS, stale), (_SWEEP_SPENT, stale)]
    drops += [(_DROP_OLDEST_OF, (owner, _BITE)) for owner in owners]
    drops += [(_DROP_OLDEST_BUT, (owners[0], _BITE)), (_DROP_OLDEST, (_BITE,))]
    return any(connection.execute(statement, values).rowcount for statement, values in drops)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _read(encoded: object) -> Grant | None:
    try:
        return Grant.decode(encoded) if isinstance(encoded, bytes) else None
    except ArgumentError:
        return None
