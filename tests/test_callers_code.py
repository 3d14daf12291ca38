"""What callers bring: signers, caches and listeners, called where they may take their time."""

import threading

import pytest

from tuned_digest import (
    ArgumentError,
    Ed25519Signer,
    MemoryNonceCache,
    NextNonce,
    Origin,
    Tuning,
    events,
)

from .clients import ASYNC, CLIENTS, Connect
from .serving import Served

BLOCKING = [name for name in CLIENTS if name not in ASYNC]


class ForeignSigner:
    """A key somewhere else: it notes which thread it is asked in."""

    def __init__(self) -> None:
        self._key = Ed25519Signer.generate()
        self.threads: list[int] = []

    @property
    def public_key(self) -> bytes:
        """Give the public key."""
        return self._key.public_key

    def sign(self, message: bytes, /) -> bytes:
        """Sign."""
        self.threads.append(threading.get_ident())
        return self._key.sign(message)


class AwaitedSigner:
    """A key that signs when it is awaited."""

    def __init__(self) -> None:
        self._key = Ed25519Signer.generate()

    @property
    def public_key(self) -> bytes:
        """Give the public key."""
        return self._key.public_key

    async def sign(self, message: bytes, /) -> bytes:
        """Sign."""
        return self._key.sign(message)


class ForeignCache(MemoryNonceCache):
    """Not ours, as far as the adapter can tell: it notes which thread it is asked in."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def take(self, origin: Origin, action: str) -> NextNonce | None:
        """Give away one nonce for good."""
        self.threads.append(threading.get_ident())
        return super().take(origin, action)


class TestSigners:
    @pytest.mark.parametrize("name", ASYNC)
    def test_an_async_signer_signs_in_async_clients(self, name: str, server: Served) -> None:
        """An `AsyncSigner` signs in async clients."""
        with CLIENTS[name](server.url, AwaitedSigner()) as client:
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 200]

    @pytest.mark.parametrize("name", BLOCKING)
    def test_an_async_signer_is_refused_in_blocking_clients(self, name: str, server: Served) -> None:
        """An `AsyncSigner` in a blocking client is an error of both families, and nothing is signed."""
        with CLIENTS[name](server.url, AwaitedSigner()) as client:
            with pytest.raises(ArgumentError, match="async client") as raised:
                client.send("GET", server.url)
            assert isinstance(raised.value, client.library_error)
        assert server.statuses == [401]

    def test_a_signer_that_fails_is_heard(self, connect: Connect, server: Served) -> None:
        """An error of the caller's own signer reaches the caller as it is."""

        class Broken(ForeignSigner):
            def sign(self, message: bytes, /) -> bytes:
                raise ConnectionRefusedError("the agent is gone")

        with (
            connect(server.url, Broken()) as client,
            pytest.raises(ConnectionRefusedError, match="the agent is gone"),
        ):
            client.send("GET", server.url)


class TestThreads:
    @pytest.mark.parametrize("name", ASYNC)
    def test_foreign_signers_and_caches_are_asked_in_worker_threads(self, name: str, server: Served) -> None:
        """What may call a network or a disk does not run on the event loop."""
        signer, cache = ForeignSigner(), ForeignCache()
        with CLIENTS[name](server.url, signer, nonces=cache) as client:
            assert client.send("GET", server.url).status == 200
            loop = client.portal.call(threading.get_ident)  # type: ignore[attr-defined]
        assert signer.threads
        assert loop not in signer.threads
        assert cache.threads
        assert loop not in cache.threads

    def test_the_estimate_is_made_where_it_stops_nobody(
        self, connect: Connect, server: Served, signer: Ed25519Signer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Work is estimated off the event loop, and not at all where nobody listens."""
        threads: list[int] = []

        def estimate(work: Tuning) -> float:
            threads.append(threading.get_ident())
            return 7.0

        monkeypatch.setattr(Tuning, "estimate", estimate)
        with connect(server.url, signer) as client:
            client.send("GET", server.url)
        assert threads == []
        seen: list[events.Event] = []
        with connect(server.url, signer, on_event=seen.append) as client:
            client.send("GET", server.url)
            portal = getattr(client, "portal", None)
            sender = portal.call(threading.get_ident) if portal else threading.get_ident()
        assert [thread == sender for thread in threads] == [not client.is_async]
        assert [event.estimate for event in seen if isinstance(event, events.WorkStarted)] == [7.0]
