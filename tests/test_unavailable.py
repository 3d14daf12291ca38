"""A store that cannot do its part: requests are refused with 503, and nothing is let through."""

import logging
from collections.abc import Callable

import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.errors import StoreUnavailableError
from tuned_digest.server import Grant, MemoryNonceStore, Verifier
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
