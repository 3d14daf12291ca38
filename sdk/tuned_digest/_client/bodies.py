"""A request body that can be digested, and sent again (section 3).

A challenge means a second send, and a redirect may mean a third. Bytes can be sent any number of times,
and so can what is read from a file that can be rewound; everything else is read once into a spool,
digested on the way, and sent from there.
"""

from __future__ import annotations

__all__ = [
    "Body",
    "BytesBody",
    "Hasher",
    "LostBody",
    "RepeatableBody",
    "SpooledBody",
    "file_chunks",
    "is_rewindable",
]

import os
import tempfile
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import IO, Any, NoReturn, Protocol

import anyio.to_thread
from blake3 import blake3

from .._runtime.steps import Either, InThread, Step
from ..errors import BodyError

# Bytes read and sent at a time: at 256 KiB reading a file adds 5 % to digesting it, at 64 KiB 20 %.
_CHUNK = 256 * 1024

# BLAKE3 takes under 1 ms for this many bytes; more is digested in a worker thread by async clients.
_INLINE_DIGEST = 1024 * 1024

# Chunks of an async body are written to the spool together, so that one hop to a thread serves many.
_WRITE = 1024 * 1024

_LARGE_FILES = "/var/tmp"  # noqa: S108  # file-hierarchy(7): on a disk, where /tmp is often in memory

# Bytes digested between two chances to be cancelled, a few milliseconds.
_TURN = 16 * 1024 * 1024


class _Hash(Protocol):
    def update(self, octets: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


Hasher = Callable[..., _Hash]
"""Begins a digest: ``blake3``, ``hashlib.sha256``."""


class Body(Protocol):
    """Offer a request's body to the exchange."""

    size: int
    """Bytes in the body, once it was digested."""

    def digested(self, hasher: Hasher = blake3) -> bytes | Step:
        """Digest the body, on the first call.

        Args:
            hasher: Begins the digest.

        Returns:
            The digest, or a step that is answered with it.
        """
        ...


class BytesBody:
    """Hold a body that is in memory.

    Args:
        content: The bytes as sent.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._digests: dict[Hasher, bytes] = {}
        self.size = len(content)

    def digested(self, hasher: Hasher = blake3) -> bytes | Step:
        """Digest the body, on the first call, in a worker thread when it is large; see `Body.digested`."""
        if hasher in self._digests or self.size <= _INLINE_DIGEST:
            return self._digested(hasher)
        return InThread(partial(self._digested, hasher))

    def _digested(self, hasher: Hasher) -> bytes:
        digest = self._digests.get(hasher)
        if digest is None:
            digest = self._digests[hasher] = hasher(self._content).digest()
        return digest


class LostBody:
    """Stand for a body that was sent already, and that nobody kept."""

    size = 0

    def digested(self, hasher: Hasher = blake3) -> NoReturn:
        """Refuse: what is left of the body is not what was meant.

        Args:
            hasher: Ignored.

        Raises:
            BodyError: Always.
        """
        raise BodyError(
            "a redirect consumed this one-shot body: request the final origin directly, or pass bytes"
        )


class RepeatableBody:
    """Send a body any number of times, each time from its beginning.

    Args:
        chunks: Begins to read it: gives an iterator of its own to each that sends the body.
    """

    def __init__(self, chunks: Callable[[], Iterator[bytes]]) -> None:
        self._chunks = chunks
        self._digests: dict[Hasher, bytes] = {}
        self.size = 0
        """Bytes in the body, once it was digested."""

    def digested(self, hasher: Hasher = blake3) -> bytes | Step:
        """Digest the body, on the first call; see `Body.digested`."""
        if hasher in self._digests:
            return self._digests[hasher]
        return Either(partial(self.digest, hasher), partial(self.adigest, hasher))

    def digest(self, hasher: Hasher = blake3) -> bytes:
        """Digest the body, on the first call.

        Args:
            hasher: Begins the digest.

        Returns:
            The digest.

        Raises:
            BodyError: If it cannot be read, or not be sent again.
        """
        for _ in self._digesting(hasher):
            pass
        return self._digests[hasher]

    async def adigest(self, hasher: Hasher = blake3) -> bytes:
        """Digest the body on the first call, off the event loop.

        Args:
            hasher: Begins the digest.

        Returns:
            The digest.

        Raises:
            BodyError: If it cannot be read, or not be sent again.
        """
        turns = self._digesting(hasher)
        while not await anyio.to_thread.run_sync(next, turns, True):
            pass
        return self.digest(hasher)

    def seek(self, position: int, whence: int = 0) -> int:
        """Do nothing: iterating rewinds; its presence tells requests that a redirect may send this again.

        Args:
            position: Ignored.
            whence: Ignored.

        Returns:
            0.
        """
        return 0

    def __iter__(self) -> Iterator[bytes]:
        if not self._digests:
            self.digest()  # of what was not read to its end nothing is sent
        missing = self.size
        for chunk in self._chunks():
            missing -= len(chunk)
            if missing < 0:
                break
            yield chunk
        if missing:
            raise self._error(
                "the body has changed since it was digested: leave it as it is until it is sent"
            )

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = iter(self)
        while chunk := await anyio.to_thread.run_sync(_gather, chunks):
            yield chunk

    def _digesting(self, hasher: Hasher) -> Iterator[bool]:
        """Digest the body if that was not done, so many bytes at each turn."""
        if hasher in self._digests:
            return
        # One thread: several would be a pool of the whole process, which a forked child does not have.
        begun, size, turn = hasher(), 0, _TURN
        for chunk in self._chunks() if self._digests else self._first_pass():
            begun.update(chunk)
            size += len(chunk)
            if size >= turn:
                turn = size + _TURN
                yield False
        self.size, self._digests[hasher] = size, begun.digest()

    def _first_pass(self) -> Iterator[bytes]:
        return self._chunks()

    def _error(self, message: str) -> Exception:
        """Make the error of a body that fails while a client library is sending it."""
        return BodyError(message)


class SpooledBody(RepeatableBody):
    """Read a body once, keep it in memory or a temporary file, and send it any number of times.

    The temporary file has no name and goes with this object.

    Args:
        source: The chunks, sync or async; text chunks are sent as UTF-8.
        memory_kib: How much is kept in memory, KiB, before a temporary file is used.
        directory: Where the temporary file goes, None for ``TMPDIR``, else ``/var/tmp``, else the system's
            choice.
    """

    def __init__(
        self,
        source: Iterable[bytes | str] | AsyncIterable[bytes | str],
        *,
        memory_kib: int,
        directory: str | os.PathLike[str] | None,
    ) -> None:
        self._source: Iterable[bytes | str] | AsyncIterable[bytes | str] | None = source
        folder = _temporary_folder() if directory is None else os.fspath(directory)
        self._spool = tempfile.SpooledTemporaryFile(max_size=memory_kib * 1024, dir=folder)  # noqa: SIM115
        weakref.finalize(self, _close, self._spool)
        super().__init__(file_chunks(self._spool))

    async def adigest(self, hasher: Hasher = blake3) -> bytes:
        """Read the source to its end on the first call, and digest it, off the event loop.

        Args:
            hasher: Begins the digest.

        Returns:
            The digest.

        Raises:
            BodyError: If the source cannot be spooled.
        """
        if isinstance(self._source, AsyncIterable) and not isinstance(self._source, Iterable):
            source, self._source = self._source, None
            pending, size = list[bytes | str](), 0
            async for chunk in source:
                # Copied, where it is no bytes: the source may use its buffer again.
                pending.append(chunk if isinstance(chunk, str) else bytes(chunk))
                size += len(pending[-1])
                if size >= _WRITE:
                    await anyio.to_thread.run_sync(self._write, pending)
                    pending, size = [], 0
            self._source = pending
        return await super().adigest(hasher)

    def _first_pass(self) -> Iterator[bytes]:
        # Given away once: what failed half-way cannot be told from what is whole a second time.
        source, self._source = self._source, None
        if source is None:
            raise BodyError("the body is being read elsewhere, or failed half-way: make the request anew")
        if not isinstance(source, Iterable):
            raise BodyError("an async body needs an async client")
        yield from self._chunks()  # what an async client has spooled
        for chunk in source:
            octets = chunk.encode() if isinstance(chunk, str) else bytes(chunk)
            self._write((octets,))
            yield octets
        self._write((), flush=True)

    def _write(self, chunks: Iterable[bytes | str], *, flush: bool = False) -> None:
        try:
            for chunk in chunks:
                self._spool.write(chunk.encode() if isinstance(chunk, str) else chunk)
            if flush:
                self._spool.flush()
        except OSError as error:
            raise BodyError(
                f"the body could not be spooled: {error.strerror or error}; "
                "free space, or name another place with Resources(spool_dir=...)"
            ) from None


def _close(spool: IO[bytes]) -> None:
    with suppress(OSError):  # what a full disk did not take is not missed here
        spool.close()


def is_rewindable(file: Any) -> bool:
    """Tell whether a file can be read in bytes, and again from where it stands.

    Args:
        file: Anything a client library takes as a body.

    Returns:
        False for text files, pipes, and what is no file.
    """
    if isinstance(file, AsyncIterable) or not all(hasattr(file, name) for name in ("read", "seek", "tell")):
        return False
    try:
        file.seek(file.tell())
        return isinstance(file.read(0), bytes)
    except Exception:  # files have many ways to say that they cannot
        return False


def file_chunks(file: Any) -> Callable[[], Iterator[bytes]]:
    """Make a reader of a file from where it stands, that can be begun any number of times.

    Args:
        file: A file that can be rewound, in bytes.

    Returns:
        A function that begins to read it; several may be under way at once.
    """
    start: int = file.tell()
    reading = threading.Lock()

    def chunks() -> Iterator[bytes]:
        offset = start
        while True:
            with reading:
                file.seek(offset)
                chunk: bytes | None = file.read(_CHUNK)
            if chunk is None:
                raise BodyError("the file has no bytes at the moment: open it in blocking mode")
            if not chunk:
                return
            offset += len(chunk)
            yield chunk

    return chunks


def _gather(chunks: Iterator[bytes]) -> bytes:
    """Join chunks until they are worth a hop to a thread; empty at the end."""
    gathered = list[bytes]()
    size = 0
    for chunk in chunks:
        gathered.append(chunk)
        size += len(chunk)
        if size >= _CHUNK:
            break
    return b"".join(gathered)


def _temporary_folder() -> str | None:
    """Name the place for large temporary files: what the user says, and where nobody does, no memory."""
    if any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")) or not os.access(
        _LARGE_FILES, os.W_OK
    ):
        return None
    return _LARGE_FILES
