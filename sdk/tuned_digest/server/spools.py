"""Where a process holds request bodies: in memory, beyond a part of that in files, and all within a total."""

from __future__ import annotations

__all__ = ["BodyLimits", "BodyRoom", "Spool", "process_room"]

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .._runtime.forks import PerProcess
from ..errors import ArgumentError

_MIB = 1024 * 1024

_BITE = 64 * 1024  # bytes: less is written to a file only when memory is full; what servers read at once


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Bound what is held of request bodies, and how long they are waited for.

    A body of 64 KiB or more goes to a file when half of `memory` is taken, a smaller one when all of it is.

    Args:
        max_body: The largest body taken, bytes; more is answered 413.
        deadline: Seconds that a body may take in all; more is answered 408. 16 MiB take a line of 2.3 Mbit/s.
        least_rate: Bytes a second that a client has to send; less is answered 408.
        grace: Seconds that a client may fall behind this rate.
        memory: Bytes of all bodies of the process that are kept in memory.
        total: Bytes of all bodies of the process, those in files too; more is answered 503.
        spool_dir: Where the files are made, None for the system's place for temporary files. They have no
            name there, and nobody else can open them.

    Raises:
        ArgumentError: If `max_body` is negative, or another number is not positive.
    """

    max_body: int = 16 * _MIB
    deadline: float = 60.0
    least_rate: float = 1024.0
    grace: float = 10.0
    memory: int = 64 * _MIB
    total: int = 1024 * _MIB
    spool_dir: Path | str | None = None

    def __post_init__(self) -> None:
        if self.max_body < 0:
            raise ArgumentError("max_body is not negative")
        if min(self.deadline, self.least_rate, self.grace, self.memory, self.total) <= 0:
            raise ArgumentError("deadline, least_rate, grace, memory and total are positive")


class BodyRoom:
    """Count the bytes that a process holds of request bodies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.memory = 0
        """Bytes in memory."""
        self.total = 0
        """Bytes in memory and in files."""

    def take(self, size: int, limit: int) -> bool:
        """Take room in memory.

        Args:
            size: Bytes.
            limit: Bytes that there may be in all.

        Returns:
            False where there is not so much room; none is taken then.
        """
        with self._lock:
            if self.total + size > limit:
                return False
            self.memory += size
            self.total += size
            return True

    def give_back(self, *, memory: int = 0, spooled: int = 0) -> None:
        """Give room back.

        Args:
            memory: Bytes that are in memory no more.
            spooled: Bytes that are in a file no more.
        """
        with self._lock:
            self.memory -= memory
            self.total -= memory + spooled

    def move(self, size: int) -> None:
        """Note that bytes went from memory to a file.

        Args:
            size: How many.
        """
        with self._lock:
            self.memory -= size


_room = PerProcess(BodyRoom)  # a forked child holds none of its parent's bodies


def process_room() -> BodyRoom:
    """Find the room of this process.

    Returns:
        The room, the same for all applications in it.
    """
    return _room.get()


class Spool:
    """Hold one body: add to it until it is whole, then read it once.

    A file is private and has no name. `write` and `load` may block; nothing else does.

    Args:
        limits: How much may be held.
        room: Where it is counted.
    """

    def __init__(self, limits: BodyLimits, room: BodyRoom) -> None:
        self._limits = limits
        self._room = room
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._written = self._read = 0
        self._loaded: bytes | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def size(self) -> int:
        """Count the bytes added."""
        return self._written + len(self._memory)

    @property
    def has_more(self) -> bool:
        """Tell whether bytes are left to read."""
        return self._read < self.size

    @property
    def is_due(self) -> bool:
        """Tell whether `write` is to be called before anything is added."""
        if len(self._memory) < _BITE:
            return self._room.memory > self._limits.memory
        return self._file is not None or self._room.memory > self._limits.memory // 2

    @property
    def blocks(self) -> bool:
        """Tell whether the next chunk comes from the file."""
        return self._loaded is None and self._read < self._written

    def add(self, piece: bytes) -> bool:
        """Add to the end, in memory.

        Args:
            piece: What to add.

        Returns:
            False where the process has no room for it; nothing is added then.
        """
        has_room = self._room.take(len(piece), self._limits.total)
        if has_room:
            self._memory += piece
        return has_room

    def write(self) -> None:
        """Move what is in memory to the file.

        Raises:
            OSError: If that cannot be done, as on a full disk.
        """
        file = self._file
        if file is None:
            file = self._file = tempfile.TemporaryFile(buffering=0, dir=self._limits.spool_dir)  # noqa: SIM115
        done = 0
        with memoryview(self._memory) as rest:
            while done < len(rest):
                done += file.write(rest[done:])
        with self._lock:
            if self._is_closed:  # meanwhile, by somebody who did not wait: all was given back
                file.close()
                return
            self._written += done
            self._memory = bytearray()
            self._room.move(done)

    def load(self) -> None:
        """Read the next chunk, for `next_chunk` to give: a reader that is cancelled in between loses nothing.

        Raises:
            OSError: If that cannot be done.
        """
        if self._file is None or self._read >= self._written:
            start = self._read - self._written
            with memoryview(self._memory) as memory:
                self._loaded = bytes(memory[start : start + _MIB])
            return
        self._file.seek(self._read)
        self._loaded = self._file.read(min(_MIB, self._written - self._read))

    def next_chunk(self) -> bytes:
        """Give the next chunk, 1 MiB at most.

        Returns:
            The chunk, empty at the end.
        """
        if self._loaded is None:
            self.load()
        chunk, self._loaded = self._loaded or b"", None
        self._read += len(chunk)
        return chunk

    def close(self) -> None:
        """Let everything go; a second time does nothing."""
        with self._lock:
            self._is_closed = True
            if self.size:
                self._room.give_back(memory=len(self._memory), spooled=self._written)
                self._memory = bytearray()
                self._written = self._read = 0
            if self._file is not None:
                self._file.close()
                self._file = None
