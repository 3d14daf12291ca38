"""401s that are endless, huge once unpacked, or come byte by byte: no more is read of them than is needed."""

import gzip
import itertools
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.server.asgi import Receive, Scope, Send

from .clients import Connect
from .field_server import answer, challenge, encoded, is_signed, read, scripted
from .serving import serve


def hurried() -> Callable[[], float]:
    """A clock by which an hour passes between two looks: of a 401 only what comes at once is waited for."""
    return map(float, itertools.count(step=3600)).__next__


class TestChallenges:
    def test_an_endless_401_is_cut_off(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Of a challenge's 401 no more than 64 KiB is read, and then it is answered."""
        cut_off = threading.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            if is_signed(scope):
                await answer(send, 200, [], b"")
                return
            await send(
                {"type": "http.response.start", "status": 401, "headers": encoded([challenge("AAAA")])}
            )
            gone = False
            while not gone:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                gone = cut_off.is_set() or await _is_disconnected(receive)
            cut_off.set()

        with serve(app, lifespan="off") as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).status == 200
            assert cut_off.wait(30)

    def test_a_trickled_401_is_cut_off(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A challenge whose 401 never ends is answered after the first that came of it."""
        cut_off = threading.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            if is_signed(scope):
                await answer(send, 200, [], b"")
                return
            await send(
                {"type": "http.response.start", "status": 401, "headers": encoded([challenge("AAAA")])}
            )
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            while not await _is_disconnected(receive):
                pass
            cut_off.set()

        with (
            serve(app, lifespan="off") as served,
            connect(served.url, signer, _clock=hurried()) as client,
        ):
            assert client.send("GET", served.url).status == 200
            assert cut_off.wait(30)

    def test_a_compressed_bomb_in_a_401_is_not_unpacked(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """What a challenge's 401 unpacks to does not matter: it is answered without."""
        bomb = gzip.compress(b"\x00" * 50_000_000)
        asked = (401, [challenge("AAAA"), ("Content-Encoding", "gzip")], bomb)
        with serve(scripted(asked, (200, [], b""))) as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
            assert result.status == 200
            assert len(result.raw.history[0].content) <= 65536


class TestRejections:
    @pytest.mark.parametrize("coding", ["identity", "gzip"])
    def test_a_trickled_rejection_goes_to_the_caller_whole(
        self, connect: Connect, signer: Ed25519Signer, coding: str
    ) -> None:
        """A rejection that comes in pieces is not cut off, whatever was looked at of it."""
        whole = b'{"reason": "unknown identity"}' + b" " * 100_000
        content = gzip.compress(whole) if coding == "gzip" else whole
        looked_at, watch = anyio.Event(), _Watch()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            if not is_signed(scope):
                await answer(send, 401, encoded([challenge("AAAA")]), b"")
                return
            headers = encoded([challenge("BBBB"), ("Content-Encoding", coding)])
            watch.tell(looked_at)
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": content[:70], "more_body": True})
            await looked_at.wait()
            await send({"type": "http.response.body", "body": content[70:90], "more_body": True})
            await send({"type": "http.response.body", "body": content[90:]})

        with serve(app, lifespan="off") as served, connect(served.url, signer, _clock=watch) as client:
            result = client.send("GET", served.url)
        assert (result.status, result.content) == (401, whole)


class _Watch:
    """A hurried clock that tells a server's loop when the beginning of a body was looked at.

    The client looks at its clock when it begins to read a 401, and again after each piece of it.
    """

    def __init__(self) -> None:
        self._seconds = hurried()
        self._loop: Any = None
        self._looks = itertools.count()

    def tell(self, event: anyio.Event) -> None:
        """Set an event of this loop once the client has looked at what comes next."""
        self._event, self._loop = event, anyio.lowlevel.current_token()

    def __call__(self) -> float:
        if self._loop is not None and next(self._looks) == 1:
            anyio.from_thread.run_sync(self._event.set, token=self._loop)
        return self._seconds()


async def _is_disconnected(receive: Receive) -> bool:
    message = await receive()
    return bool(message["type"] == "http.disconnect")
