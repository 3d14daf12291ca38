"""A body that can be read once is kept, in memory or in a temporary file, and sent from there."""

import contextlib
import gc
import os
import sys
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import BodyError
from tuned_digest._client.bodies import SpooledBody

from .sources import CHUNK, LARGE, Chunks, collected, trickle
from .working import BACKENDS


def spooled(
    source: Chunks | AsyncIterator[bytes | str], memory_kib: int = 8, directory: str | None = None
) -> SpooledBody:
    """Spool a source, a few KiB in memory."""
    return SpooledBody(source, memory_kib=memory_kib, directory=directory)


class Made:
    """Make temporary files, and note them.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self.before: Callable[[], object] = lambda: None
        self.spools: list[Callable[[], Any]] = []
        """Weak references to them."""
        self.folders: list[object] = []

    def __call__(self, **options: Any) -> object:
        """Make one."""
        self.before()
        spool = self._make(**options)
        self.spools.append(weakref.ref(spool))
        self.folders.append(options["dir"])
        return spool


@given(st.lists(st.binary(max_size=5000) | st.text(max_size=200), max_size=8))
def test_a_spool_gives_back_what_was_read(chunks: list[bytes | str]) -> None:
    """A body read once is digested as sent, and sent any number of times, text as UTF-8."""
    content = b"".join(chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks)
    body = spooled(iter(chunks))
    assert body.digest() == body.digest() == blake3(content).digest()
    assert body.size == len(content)
    for _ in range(2):
        assert b"".join(body) == content


@pytest.mark.parametrize("backend", BACKENDS)
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


def test_two_sends_of_one_body_do_not_disturb_each_other() -> None:
    """Each iteration has a place of its own in the spool."""
    body = spooled(iter([LARGE]))
    body.digest()
    first, second = iter(body), iter(body)
    turns = [next(one) for _ in range(2) for one in (first, second)]
    assert b"".join(turns[::2]) == b"".join(turns[1::2]) == LARGE[: 2 * CHUNK]


def test_an_async_file_is_spooled(tmp_path: Path) -> None:
    """A file that is read by awaiting it is spooled like any other async body."""
    (tmp_path / "large").write_bytes(LARGE)

    async def main() -> None:
        async with await anyio.open_file(tmp_path / "large", "rb") as file:
            assert await spooled(cast("AsyncIterator[bytes]", file)).adigest() == blake3(LARGE).digest()

    anyio.run(main)


class ShortReads(tempfile.SpooledTemporaryFile[bytes]):
    """A temporary file that gives seven bytes at a time at most."""

    def read(self, *size: int) -> bytes:
        """Read less than was asked for."""
        return super().read(min([7, *size]))


@given(st.lists(st.binary(max_size=50)), st.integers(1, 4), st.data())
def test_any_order_of_reading_gives_every_reader_all(
    chunks: list[bytes], readers: int, data: st.DataObject
) -> None:
    """However many read a spool and in whatever turns, each gets all of its bytes in their order."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "SpooledTemporaryFile", ShortReads)
        body = spooled(iter(chunks), memory_kib=1)
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


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """The temporary files that bodies make in a test."""
    made = Made(tempfile.SpooledTemporaryFile)
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", made)
    return made


@pytest.mark.parametrize("size", [1, len(LARGE)])
@pytest.mark.usefixtures("full_disk")
def test_a_spool_goes_without_a_word(
    size: int, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that goes in a cycle, as an error's traceback makes one, closes its file itself."""
    complaints = list[object]()
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    made.before = lambda: gc.collect(0)  # the body is of an older generation, and looked at after its file
    body: Any = spooled([bytes(size)], directory=str(tmp_path))
    with contextlib.suppress(BodyError):
        body.digest()
    body.itself = body
    del body
    gc.collect()
    assert [spool() for spool in made.spools] == [None]
    assert complaints == []


def test_a_spool_goes_with_its_body(tmp_path: Path, made: Made) -> None:
    """A temporary file has no name while it is used, and is closed once nobody can send the body."""
    body = spooled([LARGE], directory=str(tmp_path))
    body.digest()
    spool, sending = made.spools[0](), iter(body)
    assert spool is not None
    next(sending)
    del body
    is_closed_while_it_is_sent = spool.closed
    del sending
    assert (is_closed_while_it_is_sent, spool.closed) == (False, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "is_there", "expected"),
    [
        ({}, True, "/var/tmp"),
        ({}, False, None),
        ({"TMPDIR": "."}, True, None),
        ({"TEMP": "."}, True, None),
        ({"TMP": "."}, True, None),
        ({"TMPDIR": ""}, True, "/var/tmp"),
    ],
)
def test_temporary_files_go_where_the_user_says_or_to_a_disk(
    variables: dict[str, str],
    is_there: bool,
    expected: str | None,
    made: Made,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``TMPDIR`` and its like decide; without them ``/var/tmp`` where it is there, else the system does."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asked = list[object]()

    def access(path: object, mode: int) -> bool:
        asked.append((path, mode))
        return is_there

    monkeypatch.setattr(os, "access", access)
    spooled([])
    assert made.folders == [expected]
    assert set(asked) <= {("/var/tmp", os.W_OK)}


def test_a_temporary_file_goes_where_the_setting_says(tmp_path: Path, made: Made) -> None:
    """A folder that was named is taken, whatever the environment says."""
    spooled([], directory=str(tmp_path))
    assert made.folders == [str(tmp_path)]


def test_the_systems_choice_is_taken_where_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the user says so in ``TMPDIR``, a body that cannot be spooled there is an error."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(BodyError, match="No such file"):
        spooled([LARGE]).digest()


@pytest.mark.parametrize("backend", BACKENDS)
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
