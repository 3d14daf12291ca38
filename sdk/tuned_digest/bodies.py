"""A request body that can be digested, and sent again (section 3).

A challenge means a second send, and a redirect may mean a third. Bytes can be sent any number of times;
everything else is read once into a spool, digested on the way, and sent from there.
"""

from __future__ import annotations

__all__ = ["Body", "BytesBody", "LostBody", "SpooledBody"]

import os
import tempfile
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Protocol

import anyio.to_thread
from blake3 import blake3

from .canonical import body_digest
from .errors import BodyError

_CHUNK = 64 * 1024  # bytes read from a spool at a time

# BLAKE3 takes under 1 ms for this many bytes; more is digested in a worker thread by async clients.
_INLINE_DIGEST = 1024 * 1024

# Chunks of an async body are written to the spool together, so that one hop to a thread serves many.
_WRITE = 1024 * 1024


class Body(Protocol):
    """Offer a request's body to the exchange."""

    def digest(self) -> bytes:
        """Digest the body, reading it if it was not read yet; may block.

        Returns:
            BLAKE3-256 of it, 32 bytes.
        """
        ...

    async def adigest(self) -> bytes:
        """Digest the body without blocking the event loop.

        Returns:
            BLAKE3-256 of it, 32 bytes.
        """
        ...


class BytesBody:
    """Hold a body that is in memory.

    Args:
        content: The bytes as sent.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._digest: bytes | None = None

    def digest(self) -> bytes:
        """Digest the body, on the first call.

        Returns:
            BLAKE3-256 of it, 32 bytes.
        """
        if self._digest is None:
            self._digest = body_digest(self._content)
        return self._digest

    async def adigest(self) -> bytes:
        """Digest the body, in a worker thread when it is large.

        Returns:
            BLAKE3-256 of it, 32 bytes.
        """
        if self._digest is not None or len(self._content) <= _INLINE_DIGEST:
            return self.digest()
        return await anyio.to_thread.run_sync(self.digest)


class LostBody:
    """Stand for a body that was sent already, and that nobody kept."""

    def digest(self) -> bytes:
        """Refuse: what is left of the body is not what was meant.

        Raises:
            BodyError: Always.
        """
        raise BodyError(
            "the body was sent elsewhere and was not kept: send it to the origin that asks for a signature"
        )

    async def adigest(self) -> bytes:
        """Refuse like `digest`.

        Raises:
            BodyError: Always.
        """
        return self.digest()


class SpooledBody:
    """Read a body once, keep it in memory or a temporary file, and send it any number of times.

    Iterating rewinds. The temporary file has no name and goes with this object.

    Args:
        source: The chunks, sync or async; text chunks are sent as UTF-8.
        memory_kib: How much is kept in memory, KiB, before a temporary file is used.
        directory: Where the temporary file goes, None for the system's choice.
    """

    def __init__(
        self,
        source: Iterable[bytes | str] | AsyncIterable[bytes | str],
        *,
        memory_kib: int,
        directory: str | os.PathLike[str] | None,
    ) -> None:
        self._source: Iterable[bytes | str] | AsyncIterable[bytes | str] | None = source
        self._memory = memory_kib * 1024
        folder = None if directory is None else os.fspath(directory)
        self._spool = tempfile.SpooledTemporaryFile(max_size=self._memory, dir=folder)  # noqa: SIM115
        self._digest: bytes | None = None
        self._hasher = blake3()
        self._reading = threading.Lock()
        self.size = 0
        """Bytes in the body, once it was digested."""

    def digest(self) -> bytes:
        """Read the source to its end on the first call, and digest it.

        Returns:
            BLAKE3-256 of the body, 32 bytes.

        Raises:
            BodyError: If the source is async, or cannot be spooled.
        """
        if self._digest is None:
            source = self._opened()
            if not isinstance(source, Iterable):
                raise BodyError("an async body needs an async client")
            for chunk in source:
                self._write(chunk)
            self._digest = self._hasher.digest()
        return self._digest

    async def adigest(self) -> bytes:
        """Read the source to its end on the first call, and digest it, off the event loop.

        Returns:
            BLAKE3-256 of the body, 32 bytes.

        Raises:
            BodyError: If the source cannot be spooled.
        """
        if self._digest is not None:
            return self._digest
        if isinstance(self._source, Iterable):
            return await anyio.to_thread.run_sync(self.digest)
        source = self._opened()
        assert isinstance(source, AsyncIterable)
        pending, size = list[bytes | str](), 0
        async for chunk in source:
            pending.append(chunk)
            size += len(chunk)
            if size >= _WRITE:
                await anyio.to_thread.run_sync(self._write_all, pending)
                pending, size = [], 0
        await anyio.to_thread.run_sync(self._write_all, pending)
        self._digest = self._hasher.digest()
        return self._digest

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
        for offset in range(0, self.size, _CHUNK):
            yield self._read(offset)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for offset in range(0, self.size, _CHUNK):
            if self.size <= self._memory:
                yield self._read(offset)
            else:
                yield await anyio.to_thread.run_sync(self._read, offset)

    def __del__(self) -> None:
        self._spool.close()

    def _read(self, offset: int) -> bytes:
        with self._reading:  # the same request may be under way twice
            self._spool.seek(offset)
            return self._spool.read(_CHUNK)

    def _write(self, chunk: bytes | str) -> None:
        octets = chunk.encode() if isinstance(chunk, str) else chunk
        self._hasher.update(octets)
        self.size += len(octets)
        try:
            self._spool.write(octets)
        except OSError as error:
            raise BodyError(
                f"the body could not be spooled after {self.size} bytes: {error.strerror or error}; "
                "free space, or name another place with Resources(spool_dir=...)"
            ) from None

    def _write_all(self, chunks: list[bytes | str]) -> None:
        for chunk in chunks:
            self._write(chunk)

    def _opened(self) -> Iterable[bytes | str] | AsyncIterable[bytes | str]:
        """Give the source once: what failed half-way cannot be told from what is whole a second time."""
        source, self._source = self._source, None
        if source is None:
            raise BodyError("the body is being read elsewhere, or failed half-way: make the request anew")
        return source
