"""Section 3: a body that can be digested and sent again, from memory or from a file."""

import gzip
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

import anyio
import anyio.from_thread
import pytest
from blake3 import blake3

from tuned_digest import BodyError
from tuned_digest._client.bodies import (
    Body,
    BytesBody,
    LostBody,
    RepeatableBody,
    SpooledBody,
    file_chunks,
    is_rewindable,
)
from tuned_digest._runtime.steps import Step, Steps

from .sources import CHUNK, LARGE, collected
from .working import BACKENDS, DRIVERS, Run


def digested(body: Body) -> Steps[bytes]:
    """Digest a body as an exchange does."""
    digest = body.digested()
    return (yield digest) if isinstance(digest, Step) else digest


@pytest.mark.parametrize("run", DRIVERS)
@pytest.mark.parametrize("content", [b"", b"abc", LARGE], ids=["empty", "small", "large"])
def test_bytes_are_digested(content: bytes, run: Run) -> None:
    """A body in memory has one digest, blocking or not, large or small."""
    body = BytesBody(content)
    assert body.size == len(content)
    assert run(digested(body)) == run(digested(body)) == blake3(content).digest()


def test_bytes_are_digested_at_once_where_that_takes_no_time() -> None:
    """Up to 1 MiB in memory is digested where it stands, more in a thread, and nothing twice."""
    assert isinstance(BytesBody(LARGE[: 1024 * 1024]).digested(), bytes)
    body = BytesBody(LARGE)
    step = body.digested()
    assert isinstance(step, Step)
    assert step.blocking() == body.digested() == blake3(LARGE).digest()


@pytest.mark.parametrize("run", DRIVERS)
def test_a_file_is_digested_once(run: Run) -> None:
    """A body that can be read again has one digest, blocking or not, and is read once for it."""
    reads = list[int]()

    def chunks() -> Iterator[bytes]:
        reads.append(1)
        return iter([b"ab", b"c"])

    body = RepeatableBody(chunks)
    assert run(digested(body)) == body.digested() == blake3(b"abc").digest()
    assert (body.size, len(reads)) == (3, 1)


def test_a_lost_body_is_never_digested() -> None:
    """A body that nobody kept is an error that says what to do."""
    with pytest.raises(BodyError, match="consumed this one-shot body: request the final origin directly"):
        LostBody().digested()


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


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize("backend", BACKENDS)
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

            body = (
                RepeatableBody(endless)
                if kind == "file"
                else SpooledBody(endless(), memory_kib=8, directory=tmp_path)
            )
            await body.adigest()
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    assert len(read) == 16 * 1024 * 1024 // len(LARGE)


def test_a_file_without_bytes_for_now_is_refused() -> None:
    """A file that is opened not to wait, and has nothing yet, is not taken for one that ends here."""

    class NotYet(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(size) if size == 0 else None  # type: ignore[return-value]

    with pytest.raises(BodyError, match="no bytes at the moment"):
        RepeatableBody(file_chunks(NotYet(b"abc"))).digest()
