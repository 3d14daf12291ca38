"""Auth objects that are copied or shared between threads, and responses that are pickled."""

import copy
import pickle
from collections.abc import Iterator

import pytest

from tuned_digest import Ed25519Signer

from .clients import Client, Connect
from .field_server import challenge, next_nonce, scripted, verified
from .ledger import Ledger
from .serving import Served, serve
from .together import at_once

WHOLE = b"one two three"


@pytest.fixture
def server(ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`."""
    with ledger.watch(serve(verified())) as served:
        yield served


class TestAuthObjects:
    def test_a_deep_copy_starts_without_nonces(self, client: Client, server: Served) -> None:
        """A deep copy of an auth object signs, and has a chain of its own."""
        client.send("GET", server.url)
        copied = copy.deepcopy(client.auth)
        assert client.send("GET", server.url, auth=copied).status == 200
        assert client.send("GET", server.url).status == 200
        assert client.send("GET", server.url, auth=copied).status == 200
        assert server.statuses == [401, 200, 401, 200, 200, 200]

    def test_a_shallow_copy_shares_the_chain(self, client: Client, server: Served) -> None:
        """A copy that is not deep is a view: what one gets the other uses."""
        client.send("GET", server.url)
        copied = copy.copy(client.auth)
        assert client.send("GET", server.url, auth=copied).status == 200
        assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 200, 200, 200]

    def test_threads_share_an_auth_object(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """Four clients in four threads share one auth object: no nonce goes out twice, the chain goes on."""
        with connect(server.url, signer) as owner:

            def send_four() -> list[int]:
                with connect(server.url, signer) as client:
                    return [client.send("GET", server.url, auth=owner.auth).status for _ in range(4)]

            assert at_once(*[send_four] * 4) == [[200] * 4] * 4
            assert server.statuses.count(200) == 16
            assert 1 <= server.statuses.count(401) <= 4  # once for each thread at most
            before = len(server.requests)
            assert [owner.send("GET", server.url).status for _ in range(4)] == [200] * 4
        assert server.statuses[before:] == [200] * 4

    def test_threads_copy_an_auth_object(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """An auth object that is in use in other threads can be deep-copied: each copy has its own chain."""
        with connect(server.url, signer) as owner:
            owner.send("GET", server.url)

            def send_two() -> list[int]:
                copied = copy.deepcopy(owner.auth)
                with connect(server.url, signer) as client:
                    return [client.send("GET", server.url, auth=copied).status for _ in range(2)]

            def send_own() -> list[int]:
                return [owner.send("GET", server.url).status for _ in range(2)]

            assert at_once(send_two, send_own, send_two, send_two) == [[200, 200]] * 4
        assert server.statuses.count(401) == 4


class TestResponses:
    def test_a_response_pickles(self, client: Client, server: Served) -> None:
        """A response that took a challenge and a redirect pickles, with its content and request."""
        url = f"{server.url}/redirect?status=307&to=/target"
        result = client.send("PATCH", url, body=WHOLE)
        restored = pickle.loads(pickle.dumps(result.raw))
        assert (restored.status_code, restored.content) == (result.status, result.content)
        assert restored.request.headers["Authorization"] == result.sent["authorization"]

    @pytest.mark.parametrize("status", [200, 403])
    def test_a_response_pickles_after_a_cookie(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, status: int
    ) -> None:
        """A challenge that sets a cookie, and an answer that sets another, leave a response that pickles."""
        asked = (401, [challenge("AAAA"), ("Set-Cookie", "node=b; Path=/")], b"")
        given = (status, [next_nonce("BBBB"), ("Set-Cookie", "seen=1; Path=/")], b"content")
        with (
            ledger.watch(serve(scripted(asked, given))) as server,
            connect(server.url, signer) as client,
        ):
            result = client.send("GET", server.url)
            restored = pickle.loads(pickle.dumps(result.raw))
        assert (restored.status_code, restored.content) == (status, b"content")
        assert [earlier.status_code for earlier in restored.history] == [401]
        assert restored.history[0].headers["Set-Cookie"] == "node=b; Path=/"
        assert restored.request.headers["Cookie"] == "node=b"
        assert server.requests[1].field("Cookie") == ["node=b"]
