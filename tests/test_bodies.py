"""Section 3: a body that can be digested and sent again."""

import contextlib
import gc
import gzip
import io
import itertools
import os
import sys
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import anyio
import anyio.from_thread
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import bodies
from tuned_digest.bodies import BytesBody, LostBody, RepeatableBody, SpooledBody, file_chunks, is_rewindable
from tuned_digest.errors import BodyError

LARGE = bytes(range(256)) * 8192
CHUNK = 256 * 1024
Chunks = Iterable[bytes | str]


async def trickle(chunks: Chunks) -> AsyncIterator[bytes | str]:
    """Give chunks as an async body does."""
    for chunk in chunks:
        yield chunk


async def collected(body: RepeatableBody) -> bytes:
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


FILES: dict[str, Callable[[Path], IO[bytes]]] = {
    "memory": lambda path: io.BytesIO(path.read_bytes()),
    "buffered": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "gzip": lambda path: cast(
        "IO[bytes]", gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(path.read_bytes())))
    ),
}


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """A file of 2 MiB."""
    (tmp_path / "large").write_bytes(LARGE)
    return tmp_path / "large"


@pytest.mark.parametrize("start", [0, 7, CHUNK, len(LARGE)])
@pytest.mark.parametrize("opened", FILES.values(), ids=list(FILES))
def test_a_file_is_sent_from_where_it_stands(
    opened: Callable[[Path], IO[bytes]], start: int, large_file: Path
) -> None:
    """A file of any make is digested from where it stands, and sent from there by two at once."""
    with opened(large_file) as file:
        file.seek(start)
        assert is_rewindable(file)
        body = RepeatableBody(file_chunks(file))
        assert body.digest() == blake3(LARGE[start:]).digest()
        assert body.size == len(LARGE) - start
        turns = list(itertools.zip_longest(body, body, fillvalue=b""))
        assert [b"".join(sent) for sent in zip(*turns, strict=True)] == ([LARGE[start:]] * 2 if turns else [])
        assert b"".join(body) == LARGE[start:]
        assert anyio.run(collected, body) == LARGE[start:]


class Lying(io.BytesIO):
    """A file that has the methods, and keeps none of their promises."""

    def __init__(self, **promises: Callable[..., object]) -> None:
        super().__init__(LARGE)
        vars(self).update(promises)


def fail(*_: object) -> None:
    """Say that it cannot be done."""
    raise io.UnsupportedOperation("seek")


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(None, id="nothing"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param([b"chunks"], id="chunks"),
        pytest.param(io.StringIO("text"), id="text"),
        pytest.param(Lying(seek=fail), id="seek fails"),
        pytest.param(Lying(tell=fail), id="tell fails"),
        pytest.param(Lying(tell=lambda: None), id="tell tells nothing"),
        pytest.param(Lying(read=lambda: b"all of it"), id="read takes no size"),
        pytest.param(Lying(read=lambda size: "text"), id="read gives text"),
        pytest.param(Lying(read=lambda size: None), id="read gives nothing"),
        pytest.param(Lying(seek=None), id="seek is none"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_rewound_is_told(file: object) -> None:
    """Text files, files that cannot seek, and what is no file are read once and no more."""
    assert not is_rewindable(file)


def test_files_the_system_cannot_rewind_are_told(tmp_path: Path) -> None:
    """A pipe, a file open for writing, a text file and a closed one cannot be rewound."""
    path = tmp_path / "file"
    path.write_text("text")
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb") as pipe,
        os.fdopen(writing, "wb"),
        path.open() as text,
        path.open("ab") as log,
    ):
        assert not any(map(is_rewindable, [pipe, text, log]))
    assert not is_rewindable(pipe)


def test_an_async_file_is_spooled(large_file: Path) -> None:
    """A file that is read by awaiting it is spooled like any other async body."""

    async def main() -> None:
        async with await anyio.open_file(large_file, "rb") as file:
            assert await spooled(cast("AsyncIterator[bytes]", file)).adigest() == blake3(LARGE).digest()

    anyio.run(main)


def test_an_async_file_is_not_touched() -> None:
    """Of a file that is read by awaiting it nothing is called that would then have to be awaited."""
    called = list[str]()

    class Awaited(anyio.AsyncFile[bytes]):
        def __getattribute__(self, name: str) -> Any:
            if name in ("tell", "seek", "read"):
                return lambda *_: called.append(name)
            return super().__getattribute__(name)

    assert not is_rewindable(Awaited(io.BytesIO()))
    assert called == []


@pytest.mark.parametrize("size", [0, 1, CHUNK, len(LARGE) - 1, len(LARGE) + 1, 2 * len(LARGE)])
def test_a_file_that_changed_since_it_was_digested_is_not_sent_as_if_it_had_not(
    size: int, large_file: Path
) -> None:
    """A file that has become shorter or longer is an error, and no byte more than was digested is sent."""
    with large_file.open("rb") as file:
        body = RepeatableBody(file_chunks(file))
        body.digest()
        os.truncate(large_file, size)
        sent = list[bytes]()
        with pytest.raises(BodyError, match="has changed since it was digested"):
            sent.extend(body)
        assert len(b"".join(sent)) <= min(size, len(LARGE))
        with pytest.raises(BodyError, match="has changed since it was digested"):
            anyio.run(collected, body)


def test_a_body_is_digested_in_as_many_turns_as_it_takes() -> None:
    """A body of several times 16 MiB has one digest, blocking or not."""

    def chunks() -> Iterator[bytes]:
        return itertools.repeat(LARGE, 20)

    expected = blake3(LARGE * 20).digest()
    assert RepeatableBody(chunks).digest() == anyio.run(RepeatableBody(chunks).adigest) == expected


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_large_body_leaves_the_loop_free(backend: str, large_file: Path) -> None:
    """A file is read, for its digest and for each send, in worker threads alone."""
    threads = set[int]()

    class Noting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            threads.add(threading.get_ident())
            return super().read(size)

    async def main() -> None:
        body = RepeatableBody(file_chunks(Noting(LARGE)))
        assert await body.adigest() == blake3(LARGE).digest()
        assert await collected(body) == LARGE
        assert threads
        assert threading.get_ident() not in threads

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", ["file", "spool"])
def test_a_digest_is_cancelled_between_its_turns(kind: str, backend: str, tmp_path: Path) -> None:
    """A task that is cancelled while it digests an endless body reads 16 MiB on at most."""
    read = list[int]()

    async def main() -> None:
        with anyio.CancelScope() as scope:

            def endless() -> Iterator[bytes]:
                while True:
                    if not read:
                        anyio.from_thread.run_sync(scope.cancel)
                    read.append(1)
                    yield LARGE

            body = RepeatableBody(endless) if kind == "file" else spooled(endless(), directory=str(tmp_path))
            await body.adigest()
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    assert len(read) == 16 * 1024 * 1024 // len(LARGE)


@given(st.lists(st.binary(max_size=50)), st.integers(1, 4), st.data())
def test_any_order_of_reading_gives_every_reader_all(
    chunks: list[bytes], readers: int, data: st.DataObject
) -> None:
    """However many read a spool and in whatever turns, each gets all of its bytes in their order."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bodies, "_CHUNK", 7)
        body = SpooledBody(iter(chunks), memory_kib=1, directory=None)
        body.digest()
        under_way = {reader: iter(body) for reader in range(readers)}
        received = dict.fromkeys(range(readers), b"")
        while under_way:
            reader = data.draw(st.sampled_from(sorted(under_way)))
            chunk = next(under_way[reader], None)
            if chunk is None:
                del under_way[reader]
            else:
                received[reader] += chunk
        assert set(received.values()) == {b"".join(chunks)}


@pytest.fixture
def full_disk() -> Iterator[None]:
    """A system on which no file grows beyond 1 MiB."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("source", [iter, trickle], ids=["sync", "async"])
@pytest.mark.parametrize("size", [40, len(LARGE)])
def test_a_full_disk_is_our_error(
    source: Callable[[Chunks], Iterator[bytes]], size: int, tmp_path: Path, full_disk: None
) -> None:
    """Where the disk takes no more the error names the setting, and what was spooled is not sent."""
    chunks = [bytes([number % 256]) * size for number in range(2 * len(LARGE) // size)]
    body = spooled(source(chunks), directory=str(tmp_path))
    with pytest.raises(BodyError, match=r"could not be spooled: File too large.*spool_dir"):
        anyio.run(body.adigest)
    with pytest.raises(BodyError, match="failed half-way"):
        body.digest()
    del body
    gc.collect()


@pytest.mark.parametrize("size", [1, len(LARGE)])
def test_a_spool_goes_without_a_word(
    size: int, tmp_path: Path, full_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that goes in a cycle, as an error's traceback makes one, closes its file itself."""
    complaints = list[object]()
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    make = tempfile.SpooledTemporaryFile

    def made_later(**options: Any) -> object:
        gc.collect(0)  # the body is of an older generation now, and looked at after its file
        return make(**options)

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", made_later)
    body: Any = spooled([bytes(size)], directory=str(tmp_path))
    with contextlib.suppress(BodyError):
        body.digest()
    spool, body.itself = weakref.ref(body._spool), body
    del body
    gc.collect()
    assert spool() is None
    assert complaints == []


def test_a_spool_goes_with_its_body(tmp_path: Path) -> None:
    """A temporary file has no name while it is used, and is closed once nobody can send the body."""
    body = spooled([LARGE], directory=str(tmp_path))
    body.digest()
    spool, sending = body._spool, iter(body)
    next(sending)
    del body
    is_open_while_it_is_sent = not spool.closed
    del sending
    assert (is_open_while_it_is_sent, spool.closed) == (True, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "large", "expected"),
    [
        ({}, "large", "large"),
        ({}, "missing", "system"),
        ({"TMPDIR": "."}, "large", "system"),
        ({"TEMP": "."}, "large", "system"),
        ({"TMP": "."}, "large", "system"),
        ({"TMPDIR": ""}, "large", "large"),
    ],
)
def test_temporary_files_go_where_the_user_says_or_to_a_disk(
    variables: dict[str, str], large: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``TMPDIR`` and its like decide; without them ``/var/tmp`` where it is there, else the system does."""
    for folder in ("large", "system"):
        (tmp_path / folder).mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "system"))
    assert bodies._LARGE_FILES == "/var/tmp"
    monkeypatch.setattr(bodies, "_LARGE_FILES", str(tmp_path / large))
    body = spooled([LARGE])
    (tmp_path / expected).rmdir()
    with pytest.raises(BodyError, match="No such file"):
        body.digest()


def test_a_file_without_bytes_for_now_is_refused() -> None:
    """A file that is opened not to wait, and has nothing yet, is not taken for one that ends here."""

    class NotYet(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(size) if size == 0 else None  # type: ignore[return-value]

    with pytest.raises(BodyError, match="no bytes for now"):
        RepeatableBody(file_chunks(NotYet(b"abc"))).digest()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_source_may_use_its_buffer_again(backend: str) -> None:
    """What an async source gives is kept as it was given, whatever becomes of its buffer."""

    async def refilled() -> AsyncIterator[bytes]:
        buffer = bytearray(3)
        for number in range(3):
            buffer[:] = bytes([number]) * 3
            yield memoryview(buffer)  # type: ignore[misc]

    body = spooled(refilled())
    anyio.run(body.adigest, backend=backend)
    assert b"".join(body) == bytes([0, 0, 0, 1, 1, 1, 2, 2, 2])


def test_of_what_was_not_read_to_its_end_nothing_is_sent() -> None:
    """A body whose source failed is not sent as the part that there is."""

    def broken() -> Iterator[bytes]:
        yield b"x"
        raise KeyError

    body = spooled(broken())
    with pytest.raises(KeyError):
        body.digest()
    with pytest.raises(BodyError, match="failed half-way"):
        list(body)
