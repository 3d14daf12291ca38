"""Section 3: a body that can be digested and sent again."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import anyio
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest.bodies import BytesBody, LostBody, SpooledBody
from tuned_digest.errors import BodyError

LARGE = bytes(range(256)) * 8192
CHUNK = 256 * 1024
Chunks = Iterable[bytes | str]


async def trickle(chunks: Chunks) -> AsyncIterator[bytes | str]:
    """Give chunks as an async body does."""
    for chunk in chunks:
        yield chunk


async def collected(body: SpooledBody) -> bytes:
    """Read a body as an async client sends it."""
    return b"".join([chunk async for chunk in body])


def spooled(
    source: Chunks | AsyncIterator[bytes | str], memory_kib: int = 8, directory: str | None = None
) -> SpooledBody:
    """Spool a source, a few KiB in memory."""
    return SpooledBody(source, memory_kib=memory_kib, directory=directory)


@pytest.mark.parametrize("content", [b"", b"abc", LARGE])
def test_bytes_are_digested(content: bytes) -> None:
    """A body in memory has one digest, blocking or not, large or small."""
    body = BytesBody(content)
    assert body.digest() == anyio.run(BytesBody(content).adigest) == blake3(content).digest()


@given(st.lists(st.binary(max_size=5000) | st.text(max_size=200), max_size=8))
def test_a_spool_gives_back_what_was_read(chunks: list[bytes | str]) -> None:
    """A body read once is digested as sent, and sent any number of times, text as UTF-8."""
    content = b"".join(chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks)
    body = spooled(iter(chunks))
    assert body.digest() == body.digest() == blake3(content).digest()
    assert body.size == len(content)
    for _ in range(2):
        assert b"".join(body) == content


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("source", [iter, trickle], ids=["sync", "async"])
@pytest.mark.parametrize(
    "chunks", [[], [b"ab", "c\u00e9"], [LARGE, b"x", LARGE]], ids=["empty", "small", "large"]
)
def test_an_async_client_spools_either_kind(
    chunks: list[bytes | str], source: Callable[[Chunks], Iterator[bytes | str]], backend: str
) -> None:
    """A sync or async source is digested and sent again on any event loop."""
    content = b"".join(chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks)
    body = spooled(source(chunks))

    async def main() -> None:
        assert await body.adigest() == await body.adigest() == blake3(content).digest()
        assert body.size == len(content)
        assert await collected(body) == await collected(body) == content

    anyio.run(main, backend=backend)
    assert body.digest() == blake3(content).digest()


def test_an_async_source_needs_an_async_client() -> None:
    """A blocking client refuses a body it cannot read, before anything is sent."""
    with pytest.raises(BodyError, match="async body needs an async client"):
        spooled(trickle([b"x"])).digest()


def test_a_source_is_let_go_once_it_was_read() -> None:
    """A source that was read to its end is not read again."""
    reads = []

    class Source:
        def __iter__(self) -> Iterator[bytes]:
            reads.append(1)
            return iter([b"abc"])

    body = spooled(Source())
    body.digest()
    body.digest()
    assert list(body) == [b"abc"]
    assert reads == [1]


def test_an_error_of_the_source_is_the_callers_own() -> None:
    """What a source raises comes through unchanged, and half a body is never taken for a whole one."""

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("the caller's own")

    body = spooled(broken())
    with pytest.raises(KeyError, match="the caller's own"):
        body.digest()
    with pytest.raises(BodyError, match="failed half-way"):
        body.digest()


def test_an_error_of_an_async_source_is_the_callers_own() -> None:
    """What an async source raises comes through unchanged, and half a body is not digested."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("the caller's own")

    body = spooled(broken())
    with pytest.raises(KeyError, match="the caller's own"):
        anyio.run(body.adigest)
    with pytest.raises(BodyError, match="failed half-way"):
        anyio.run(body.adigest)


def test_a_body_that_cannot_be_spooled_is_refused(tmp_path: Path) -> None:
    """Where a temporary file cannot be written the error says so and names the setting."""
    body = spooled([LARGE], directory=str(tmp_path / "missing"))
    with pytest.raises(BodyError, match=r"could not be spooled: No such file.*spool_dir"):
        body.digest()


def test_large_bodies_are_sent_in_chunks() -> None:
    """A spool never gives more than 256 KiB at once."""
    body = spooled([LARGE])
    body.digest()
    assert max(map(len, body)) == CHUNK
    assert b"".join(body) == LARGE


def test_seeking_does_nothing() -> None:
    """A client library may rewind a body by any position: iterating rewinds it."""
    body = spooled([b"abc"])
    body.digest()
    assert body.seek(7) == body.seek(0, 2) == 0
    assert b"".join(body) == b"abc"


def test_a_lost_body_is_never_digested() -> None:
    """A body that nobody kept is an error, blocking or not."""
    with pytest.raises(BodyError, match="not kept"):
        LostBody().digest()
    with pytest.raises(BodyError, match="not kept"):
        anyio.run(LostBody().adigest)


def test_two_sends_of_one_body_do_not_disturb_each_other() -> None:
    """Each iteration has a place of its own in the spool."""
    body = spooled(iter([LARGE]))
    body.digest()
    first, second = iter(body), iter(body)
    turns = [next(one) for _ in range(2) for one in (first, second)]
    assert b"".join(turns[::2]) == b"".join(turns[1::2]) == LARGE[: 2 * CHUNK]
