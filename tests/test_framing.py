"""How long a body is, said once and rightly on every send: asserted on raw bytes, for every adapter."""

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tuned_digest import Ed25519Signer

from .clients import Connect
from .issuing import accepting, at
from .ledger import Ledger
from .raw_server import Issuer, Respond, record

CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)
LARGE = bytes(range(256)) * 1024  # more than one read of a file, more than a socket takes at once

Make = Callable[[Path], dict[str, Any]]


class Iterable:
    """An iterable that is no iterator: it says neither how long it is nor where it stands."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(CHUNKS)


class LengthlessFile:
    """A file-like object that can be read and iterated over, and nothing else."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.read = self._file.read

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)


def opened(content: bytes, offset: int = 0) -> Make:
    """Make an open file that was read up to an offset."""

    def make(folder: Path) -> dict[str, Any]:
        (folder / "file").write_bytes(content)
        file = (folder / "file").open("rb")
        file.seek(offset)
        return {"body": file}

    return make


def in_memory(file: io.BytesIO, offset: int = 0) -> Make:
    """Make a file in memory that was read up to an offset."""

    def make(folder: Path) -> dict[str, Any]:
        copy = io.BytesIO(file.getvalue())
        copy.seek(offset)
        return {"body": copy}

    return make


def temporary(content: bytes, offset: int = 0, *, max_size: int = 0) -> Make:
    """Make a temporary file, spooled in memory up to a size."""

    def make(folder: Path) -> dict[str, Any]:
        file = tempfile.SpooledTemporaryFile(max_size=max_size, dir=str(folder))  # noqa: SIM115
        file.write(content)
        file.seek(offset)
        return {"body": file}

    return make


BODIES: dict[str, tuple[Make, bytes | None]] = {
    "none": (lambda folder: {}, b""),
    "bytes": (lambda folder: {"body": WHOLE}, WHOLE),
    "large bytes": (lambda folder: {"body": LARGE}, LARGE),
    "no bytes": (lambda folder: {"body": b""}, b""),
    "text": (lambda folder: {"body": "na\u00efve \u2713"}, "na\u00efve \u2713".encode()),
    "json": (lambda folder: {"json": {"a": [1, 2], "b": "\u00e9"}}, None),
    "form": (lambda folder: {"form": {"a": "1", "b": "x y"}}, b"a=1&b=x+y"),
    "multipart": (lambda folder: {"files": {"part": ("name.txt", WHOLE)}}, None),
    "multipart with a file": (lambda folder: {"files": {"part": opened(LARGE)(folder)["body"]}}, None),
    "file": (opened(LARGE), LARGE),
    "file not at its start": (opened(b"skipped " + WHOLE, 8), WHOLE),
    "file at its end": (opened(WHOLE, len(WHOLE)), b""),
    "empty file": (opened(b""), b""),
    "BytesIO": (in_memory(io.BytesIO(WHOLE)), WHOLE),
    "BytesIO not at its start": (in_memory(io.BytesIO(b"skipped " + WHOLE), 8), WHOLE),
    "spooled file in memory": (temporary(WHOLE, max_size=1 << 20), WHOLE),
    "spooled file on disk": (temporary(LARGE, max_size=1), LARGE),
    "spooled file not at its start": (temporary(b"skipped " + WHOLE, 8, max_size=1 << 20), WHOLE),
    "file without a length": (lambda folder: {"body": LengthlessFile(WHOLE)}, WHOLE),
    "generator": (lambda folder: {"body": (chunk for chunk in CHUNKS)}, WHOLE),
    "empty generator": (lambda folder: {"body": (chunk for chunk in CHUNKS[:0])}, b""),
    "generator with empty chunks": (
        lambda folder: {"body": (chunk for chunk in [b"", *CHUNKS, b"", b"end"])},
        WHOLE + b"end",
    ),
    "iterator": (lambda folder: {"body": iter(CHUNKS)}, WHOLE),
    "iterable": (lambda folder: {"body": Iterable()}, WHOLE),
    "generator with a length of the caller's": (
        lambda folder: {
            "body": (chunk for chunk in CHUNKS),
            "headers": {"Content-Length": str(len(WHOLE))},
        },
        WHOLE,
    ),
    "generator with a wrong length of the caller's": (
        lambda folder: {"body": (chunk for chunk in CHUNKS), "headers": {"Content-Length": "5"}},
        WHOLE,
    ),
    "bytes with a coding of the caller's": (
        lambda folder: {"body": WHOLE, "headers": {"Transfer-Encoding": "chunked"}},
        WHOLE,
    ),
    "generator with a coding of the caller's": (
        lambda folder: {"body": (chunk for chunk in CHUNKS), "headers": {"Transfer-Encoding": "chunked"}},
        WHOLE,
    ),
    "bytes with a length and a coding of the caller's": (
        lambda folder: {"body": WHOLE, "headers": {"Content-Length": "13", "Transfer-Encoding": "chunked"}},
        WHOLE,
    ),
    "generator with a length and a coding of the caller's": (
        lambda folder: {
            "body": (chunk for chunk in CHUNKS),
            "headers": {"Transfer-Encoding": "chunked", "Content-Length": "13"},
        },
        WHOLE,
    ),
}


@pytest.fixture(params=BODIES)
def kind(request: pytest.FixtureRequest) -> str:
    """One kind of body after the other."""
    kind: str = request.param
    return kind


class TestEverySend:
    def test_a_body_is_framed_once_and_whole(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, kind: str, tmp_path: Path
    ) -> None:
        """Challenged, redirected or under a chained nonce, a body is sent as the same bytes, framed once."""
        make, expected = BODIES[kind]
        with (
            ledger.watch(record(redirecting(Issuer()))) as server,
            connect(server.url, signer) as client,
        ):
            for _ in range(2):
                options = make(tmp_path)
                assert client.send("PUT", f"{server.url}/first", **options).status == 200
                close(options)
        assert server.statuses == [401, 307, 401, 200, 307, 401, 200]
        framings = [len(recorded.framing) for recorded in server.requests]
        assert framings == [min(framings[0], 1) if expected == b"" else 1] * 7
        bodies = [recorded.body for recorded in server.requests]
        if expected is not None:
            assert bodies == [expected] * 7
        else:  # a boundary is drawn for each request
            assert bodies == [bodies[0]] * 4 + [bodies[4]] * 3
            assert len(bodies[0]) == len(bodies[4]) > len(WHOLE)
        first, second = (recorded.headers for recorded in server.requests[:2])
        assert [field for field in second if field[0] != b"authorization"] == first


class TestLengths:
    def test_a_length_is_the_number_of_bytes_that_follow(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A file read in part is sent with the length of its rest, where the library counts all of it."""
        with ledger.watch(record(Issuer())) as server, connect(server.url, signer) as client:
            options = opened(b"skipped " + WHOLE, 8)(tmp_path)
            assert client.send("PUT", server.url, **options).status == 200
            close(options)
        assert [recorded.framing for recorded in server.requests] == [[f"content-length: {len(WHOLE)}"]] * 2

    def test_a_get_has_no_body_to_frame(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A GET is sent without either field, signed or not."""
        with ledger.watch(record(Issuer())) as server, connect(server.url, signer) as client:
            client.send("GET", server.url)
        assert [recorded.framing for recorded in server.requests] == [[], []]

    @pytest.mark.parametrize("kind", ["bytes", "file", "generator"])
    def test_a_redirect_that_makes_a_get_takes_the_framing_along(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, kind: str, tmp_path: Path
    ) -> None:
        """After a 303 the target is sent and signed without a body and without its framing."""
        with (
            ledger.watch(record(redirecting(Issuer(), 303))) as server,
            connect(server.url, signer) as client,
        ):
            options = BODIES[kind][0](tmp_path)
            assert client.send("PUT", f"{server.url}/first", **options).status == 200
            close(options)
        assert [recorded.method for recorded in server.requests] == ["PUT", "PUT", "GET", "GET"]
        assert [recorded.framing for recorded in server.requests[2:]] == [[], []]


def redirecting(issuer: Issuer, status: int = 307) -> Respond:
    """Redirect what is accepted at ``/first`` to ``/second``."""
    redirect = accepting(issuer, lambda wire: wire.answer(status, [("Location", "/second")]))
    return at("/first", redirect, issuer)


def close(options: dict[str, Any]) -> None:
    """Close the files that a test has opened."""
    for body in (options.get("body"), options.get("files", {}).get("part")):
        if isinstance(body, io.IOBase | tempfile.SpooledTemporaryFile):
            body.close()
