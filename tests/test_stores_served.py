"""Stores of one's own behind real servers: who calls them where, and what their nonces may be."""

import base64
import os
import secrets
import threading

import anyio.lowlevel
import httpx
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tuned_digest import Ed25519Signer
from tuned_digest.server import AsyncNonceStore, Grant, NonceStore, Verifier
from tuned_digest.server.asgi import Receive, Scope, Send, TunedDigestMiddleware

from .clients import Connect
from .field_server import POLICY, answer, read
from .ledger import nonce_of
from .serving import Served, serve

_IV_SIZE = 12  # bytes
_SEALED_SIZE = 96  # bytes, the longest of section 1


class Shelf:
    """Keep grants, and note which threads call; like every store that says nothing, it may block."""

    def __init__(self) -> None:
        self.callers: set[int] = set()
        self.issued = 0
        self._grants: dict[str, bytes] = {}

    def issue(self, *grants: Grant) -> list[str]:
        """Keep grants, and count them."""
        self.callers.add(threading.get_ident())
        self.issued += len(grants)
        nonces = [secrets.token_urlsafe(32) for _ in grants]
        self._grants.update((nonce, grant.encode()) for nonce, grant in zip(nonces, grants, strict=True))
        return nonces

    def take(self, nonce: str, /) -> Grant | None:
        """Give a grant away."""
        self.callers.add(threading.get_ident())
        encoded = self._grants.pop(nonce, None)
        return None if encoded is None else Grant.decode(encoded)


class PromptShelf(Shelf):
    """A shelf that says that it never blocks."""

    blocks = False


class SlowShelf(Shelf):
    """A shelf that says that it blocks."""

    blocks = True


class AwaitedShelf:
    """A shelf that is reached by awaiting."""

    def __init__(self) -> None:
        self._shelf = Shelf()
        self.callers = self._shelf.callers

    async def issue(self, *grants: Grant) -> list[str]:
        """Keep grants, on an event loop."""
        await anyio.lowlevel.checkpoint()
        return self._shelf.issue(*grants)

    async def take(self, nonce: str, /) -> Grant | None:
        """Give a grant away, on an event loop."""
        await anyio.lowlevel.checkpoint()
        return self._shelf.take(nonce)


class Sealing:
    """Keep nothing of a nonce but that it was taken: what it is good for is sealed inside.

    The sealed value says which of the grants it is that this server has ever made, which are few.
    """

    blocks = False

    def __init__(self) -> None:
        self._cipher = AESGCM(AESGCM.generate_key(128))
        self._grants: list[bytes] = []
        self._taken: set[str] = set()

    def issue(self, *grants: Grant) -> list[str]:
        """Seal grants."""
        return [self._sealed(grant) for grant in grants]

    def _sealed(self, grant: Grant) -> str:
        encoded = grant.encode()
        if encoded not in self._grants:
            self._grants.append(encoded)
        number = self._grants.index(encoded).to_bytes(4)
        iv = os.urandom(_IV_SIZE)
        padding = bytes(_SEALED_SIZE - _IV_SIZE - 16 - len(number))
        return base64.b64encode(iv + self._cipher.encrypt(iv, number + padding, None)).decode()

    def take(self, nonce: str, /) -> Grant | None:
        """Open a nonce, unless it was taken before."""
        sealed = base64.b64decode(nonce)
        try:
            number = self._cipher.decrypt(sealed[:_IV_SIZE], sealed[_IV_SIZE:], None)[:4]
        except InvalidTag:
            return None
        if nonce in self._taken:
            return None
        self._taken.add(nonce)
        return Grant.decode(self._grants[int.from_bytes(number)])


class Application:
    """Answer every request, and note which thread the event loop runs in."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            self.threads.add(threading.get_ident())
            await read(receive)
            await answer(send, 200, [], b"")


def exchanged(
    store: NonceStore | AsyncNonceStore, connect: Connect, signer: Ed25519Signer
) -> tuple[Served, set[int]]:
    """Serve three requests of a real client: the first is challenged, the others are chained.

    Then the last one is replayed. Gives the server, and the event loop's thread.
    """
    app = Application()
    with serve(TunedDigestMiddleware(app, Verifier(store, policy=POLICY))) as server:
        with connect(server.url, signer) as client:
            assert client.send("GET", f"{server.url}/a").status == 200
            assert client.send("PATCH", f"{server.url}/a", body=b"x").status == 200
            last = client.send("GET", f"{server.url}/b")
            assert last.status == 200
        replayed = httpx.get(f"{server.url}/b", headers={"Authorization": last.sent["authorization"]})
        assert (replayed.status_code, replayed.json()["reason"]) == (401, "unknown nonce")
        assert server.statuses == [401, 200, 200, 200, 401]
    assert len(app.threads) == 1
    return server, app.threads


@pytest.mark.parametrize("make", [Shelf, SlowShelf])
def test_a_store_that_may_block_is_kept_off_the_event_loop(
    make: type[Shelf], connect: Connect, signer: Ed25519Signer
) -> None:
    """A store is called in worker threads, and never in the event loop's, unless it says otherwise."""
    store = make()
    _, loop = exchanged(store, connect, signer)
    assert store.callers
    assert not store.callers & loop


def test_a_store_that_never_blocks_is_called_on_the_event_loop(
    connect: Connect, signer: Ed25519Signer
) -> None:
    """A store that says so with ``blocks = False`` costs no hop to a thread."""
    store = PromptShelf()
    _, loop = exchanged(store, connect, signer)
    assert store.callers == loop


def test_an_async_store_is_awaited_on_the_event_loop(connect: Connect, signer: Ed25519Signer) -> None:
    """A store with async methods may use what belongs to the event loop."""
    store = AwaitedShelf()
    _, loop = exchanged(store, connect, signer)
    assert store.callers == loop


def test_a_store_makes_nonces_of_its_own(connect: Connect, signer: Ed25519Signer) -> None:
    """A sealed nonce of 96 bytes goes out and comes back unchanged, in challenges and in next nonces."""
    server, _ = exchanged(Sealing(), connect, signer)
    nonces = [nonce_of(value) for seen in server.requests for value in seen.field("Authorization")]
    assert len(nonces) == 4
    assert len(set(nonces)) == 3
    assert {len(base64.b64decode(nonce)) for nonce in nonces} == {_SEALED_SIZE}


def test_a_store_issues_what_is_written(connect: Connect, signer: Ed25519Signer) -> None:
    """A challenge takes one nonce of a store and a granting response one for each scope, no more."""
    store = PromptShelf()
    exchanged(store, connect, signer)
    assert store.issued == 2 + 3 * len(POLICY.scopes())
