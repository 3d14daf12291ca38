"""A store that cannot do its part: requests are refused with 503, and nothing is let through."""

import logging
import threading
from collections.abc import Callable

import anyio
import anyio.to_thread
import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest._runtime.drivers import run_anyio
from tuned_digest.errors import RequestRejectedError, StoreUnavailableError
from tuned_digest.server import Grant, IncomingRequest, MemoryNonceStore, Verifier, effects
from tuned_digest.server.asgi import TunedDigestMiddleware

from .clients import Connect
from .driving import Server
from .field_server import POLICY, field
from .serving import serve
from .verifying import issued, written


class Failing(MemoryNonceStore):
    """A store whose server can be out of reach, for issuing and for taking."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_to_issue = self.fails_to_take = False

    def issue(self, *grants: Grant) -> list[str]:
        """Issue nonces, or fail."""
        if self.fails_to_issue:
            raise StoreUnavailableError("cannot reach nonces.example:6379", retry_after=2.5)
        return super().issue(*grants)

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce, or fail."""
        if self.fails_to_take:
            raise StoreUnavailableError("cannot reach nonces.example:6379", retry_after=2.5)
        return super().take(nonce)


class FailingAsync:
    """The same, reached by awaiting."""

    def __init__(self, store: Failing) -> None:
        self._store = store

    async def issue(self, *grants: Grant) -> list[str]:
        """Issue nonces, or fail."""
        return self._store.issue(*grants)

    async def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce, or fail."""
        return self._store.take(nonce)


def test_no_challenge_can_be_issued() -> None:
    """A request without credentials is answered with 503 while no nonce can be issued."""
    store = Failing()
    store.fails_to_issue = True
    refusal = Server(store).refusal("GET", "/a", [])
    assert refusal.status == 503
    assert dict(refusal.fields)["Retry-After"] == "3"
    assert b"nonces.example" not in refusal.body
    assert b"the nonce store is unavailable: try again in 3 s" in refusal.body


def test_nothing_is_let_through_while_no_nonce_can_be_taken() -> None:
    """A signed request is refused while its nonce cannot be taken, and is good once that works again."""
    store = Failing()
    to = Server(store)
    value = written(issued(to))
    store.fails_to_take = True
    assert to.refusal("GET", "/a", [value]).status == 503
    assert "read" not in to.story
    store.fails_to_take = False
    assert to.verify("GET", "/a", [value]).action == "read"


def test_a_response_goes_out_without_next_nonces() -> None:
    """A request that was accepted is answered as usual; its response brings no nonce."""
    store = Failing()
    to = Server(store)
    store.fails_to_issue = True
    assert to.grant_next() == ()
    store.fails_to_issue = False
    assert to.grant_next() != ()


def test_the_log_says_once_that_nothing_can_be_issued(caplog: pytest.LogCaptureFixture) -> None:
    """A store that takes and does not issue, as a full one, is logged once, and not with each request."""
    store = Failing()
    to = Server(store)
    values = [written(issued(to)) for _ in range(3)]
    store.fails_to_issue = True
    with caplog.at_level(logging.WARNING, "tuned_digest.server"):
        for value in values:
            to.refusal("GET", "/a", [])
            to.verify("GET", "/a", [value])
            to.grant_next()
    assert len(caplog.records) == 1


def test_a_store_that_hangs_is_waited_for_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that finds all places taken is refused after a while, and takes no thread of others."""
    monkeypatch.setattr(effects, "_STORE_THREADS", 1)
    monkeypatch.setattr(effects, "_STORE_PATIENCE", 0.01)
    hangs, released = threading.Event(), threading.Event()

    class Hanging(MemoryNonceStore):
        blocks = True

        def issue(self, *grants: Grant) -> list[str]:
            hangs.set()
            assert released.wait(30)
            return super().issue(*grants)

    verifier = Verifier(Hanging(), policy=POLICY)
    answers: list[object] = []

    async def ask() -> None:
        try:
            await run_anyio(verifier.verify(IncomingRequest("GET", "/a"), lambda: b""))
        except RequestRejectedError as rejection:
            answers.append(rejection.status)

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.to_thread.run_sync(hangs.wait, 30)
            await ask()
            assert answers == [503]
            released.set()

    anyio.run(both)
    assert answers == [503, 401]


def test_the_log_says_when_the_store_fails_and_works_again(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line when the store fails, however many requests do, and one when it works again."""
    store = Failing()
    to = Server(store)
    values = [written(issued(to)) for _ in range(2)]
    store.fails_to_take = store.fails_to_issue = True
    with caplog.at_level(logging.WARNING, "tuned_digest.server"):
        for _ in range(3):
            to.refusal("GET", "/a", [values[0]])
        to.grant_next()
        store.fails_to_take = store.fails_to_issue = False
        for value in values:
            to.verify("GET", "/a", [value])
            to.grant_next()
    assert [record.message for record in caplog.records] == [
        "requests are answered with 503: cannot reach nonces.example:6379",
        "the nonce store works again",
    ]


@pytest.mark.parametrize("make", [lambda store: store, FailingAsync])
def test_clients_get_a_503_and_go_on_afterwards(
    make: Callable[[Failing], MemoryNonceStore], connect: Connect, signer: Ed25519Signer
) -> None:
    """Behind a real server a failing store is a 503 with Retry-After, and later requests succeed."""
    store = Failing()
    app = TunedDigestMiddleware(field, Verifier(make(store), policy=POLICY))
    with serve(app) as server, connect(server.url, signer) as client:
        assert client.send("GET", f"{server.url}/a").status == 200
        store.fails_to_take = store.fails_to_issue = True
        refused = client.send("GET", f"{server.url}/a")
        assert (refused.status, refused.headers["retry-after"]) == (503, "3")
        assert httpx.get(f"{server.url}/a").status_code == 503
        store.fails_to_take = store.fails_to_issue = False
        assert client.send("GET", f"{server.url}/a").status == 200
