"""What request bodies are read from in tests."""

from collections.abc import AsyncIterator, Iterable

from tuned_digest._client.bodies import RepeatableBody

LARGE = bytes(range(256)) * 8192
"""2 MiB."""

CHUNK = 256 * 1024
"""Bytes that a body is read and sent in."""

Chunks = Iterable[bytes | str]


async def trickle(chunks: Chunks) -> AsyncIterator[bytes | str]:
    """Give chunks as an async body does."""
    for chunk in chunks:
        yield chunk


async def collected(body: RepeatableBody) -> bytes:
    """Read a body as an async client sends it."""
    return b"".join([chunk async for chunk in body])
