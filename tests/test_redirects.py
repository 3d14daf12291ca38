"""Redirects: each hop on the origin is signed for what it is, and none elsewhere."""

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tuned_digest import BodyError, Ed25519Signer

from .clients import Client, Connect
from .field_server import decided, scripted, verified
from .ledger import Ledger, nonce_of
from .serving import Served, serve

CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)
ACTIONS = {"GET": "read", "POST": "create", "PATCH": "update"}


class TestHops:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
    @pytest.mark.parametrize("body", ["bytes", "generator"])
    def test_the_target_is_signed_for_what_it_is(
        self, client: Client, server: Served, status: int, method: str, body: str
    ) -> None:
        """A redirect on the origin is followed with its hop's method and body, one extra trip each."""
        client.send("GET", f"{server.url}/first")
        before = len(server.requests)
        sent = None if method == "GET" else WHOLE if body == "bytes" else iter(CHUNKS)
        result = client.send(
            method,
            f"{server.url}/redirect?status={status}&to=/target",
            body=sent,
            auth=client.auth.for_action(ACTIONS[method]),
        )
        assert result.status == 200
        keeps_method = status in (307, 308) or (status == 301 and method != "POST")
        keeps_body = status in (307, 308) or (keeps_method and client.keeps_body_on_301)
        echo = json.loads(result.content)
        assert echo["method"] == (method if keeps_method else "GET")
        arrived = WHOLE if sent is not None and keeps_body else b""
        assert echo["sha256"] == hashlib.sha256(arrived).hexdigest()
        assert server.statuses[before:] == [status, 401, 200]
        nonces = [nonce_of(value) for seen in server.requests for value in seen.field("Authorization")]
        # Where a library forwards the field of the first hop, it does so once (section 7).
        assert len(nonces) - len(set(nonces)) == client.forwards_on_redirect

    def test_redirect_hops_bring_nonces(self, client: Client, server: Served) -> None:
        """The next nonces of a redirect are kept: the request after a chain costs one round trip."""
        client.send("GET", f"{server.url}/redirect?status=302&to=/target")
        before = len(server.requests)
        for _ in range(2):
            client.send("GET", f"{server.url}/after")
        assert len(server.requests) - before == 2

    def test_redirects_that_are_not_followed_are_returned(self, client: Client, server: Served) -> None:
        """With redirects off, the signed request's 302 goes to the caller."""
        result = client.send("GET", f"{server.url}/redirect?status=302&to=/target", follow=False)
        assert result.status == 302
        assert server.statuses == [401, 302]

    def test_a_loop_ends(self, connect: Connect, signer: Ed25519Signer, ledger: Ledger) -> None:
        """In a redirect loop a target is answered twice, and its third challenge goes to the caller."""
        with ledger.watch(serve(verified())) as server, connect(server.url, signer) as client:
            result = client.send("GET", f"{server.url}/redirect?status=302&to=/loop")
        assert result.status == 401
        assert server.story == [
            "GET /redirect?status=302&to=/loop 401",
            "GET /redirect?status=302&to=/loop 302",
            *["GET /loop 401", "GET /loop 302"] * 2,
            "GET /loop 401",
        ]

    def test_a_redirect_back_is_answered_again(
        self, connect: Connect, signer: Ed25519Signer, ledger: Ledger
    ) -> None:
        """A target that a redirect leads back to is signed anew."""
        pages = iter(
            [(302, [("Location", "/page")], b""), (302, [("Location", "/start")], b""), (200, [], b"")]
        )
        around = verified(decided(lambda scope, body: next(pages)))
        with ledger.watch(serve(around)) as server, connect(server.url, signer) as client:
            assert client.send("GET", f"{server.url}/start").status == 200
        assert server.story == [
            *["GET /start 401", "GET /start 302"],
            *["GET /page 401", "GET /page 302"],
            *["GET /start 401", "GET /start 200"],
        ]

    @pytest.mark.parametrize("path", ["/a%2fb", "/a[b]", "/a%c3%bc", "/a%20b|c"])
    def test_the_target_of_a_redirect_is_signed_as_it_is_sent(
        self, client: Client, server: Served, path: str
    ) -> None:
        """What a library makes of a Location is what is signed."""
        location = ("Location", f"{server.url}{path}")
        with serve(scripted((302, [location], b""))) as other:
            assert client.send("GET", other.url).status == 200


class TestOtherOrigins:
    @pytest.mark.parametrize("status", [302, 307])
    def test_another_origin_gets_nothing_from_us(
        self, client: Client, server: Served, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A redirect to another origin carries no field of ours, and its challenge is left unanswered."""
        with serve(verified()) as other:
            caplog.set_level(logging.WARNING, "tuned_digest")
            for _ in range(2):
                result = client.send("GET", f"{server.url}/redirect?status={status}&to={other.url}/target")
                assert result.status == 401
        assert [seen.field("Authorization") for seen in other.requests] == [[], []]
        assert [record.message for record in caplog.records if other.url in record.message] == [
            f"{other.url}: a challenge is left unanswered: the auth object serves {server.url}"
        ]

    def test_any_origin_does_not_mean_wherever_a_redirect_leads(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """With "*" a redirect to another origin is not signed; a request of its own there is."""
        with serve(verified()) as other, connect("*", signer) as client:
            assert client.send("GET", f"{server.url}/redirect?status=302&to={other.url}/target").status == 401
            assert client.send("GET", f"{other.url}/target").status == 200

    def test_an_origin_that_is_listed_is_served_after_a_redirect(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """A redirect between two listed origins is signed at both."""
        with serve(verified()) as other, connect([server.url, other.url], signer) as client:
            assert client.send("GET", f"{server.url}/redirect?status=302&to={other.url}/target").status == 200


class TestBodiesThatWereSentElsewhere:
    @pytest.mark.parametrize("status", [307, 308])
    def test_a_stream_is_not_signed_as_what_is_left_of_it(
        self, client: Client, server: Served, status: int
    ) -> None:
        """A stream that another origin got before its redirect to ours is an error, never an empty body."""
        location = ("Location", f"{server.url}/put")
        body: Any = _AsyncChunks() if client.is_async else iter(CHUNKS)
        with serve(scripted((status, [location], b""))) as other:
            with pytest.raises(BodyError, match="redirect") as raised:
                client.send("PATCH", other.url, body=body)
            assert isinstance(raised.value, client.library_error)
        assert other.statuses == [status]
        assert server.story == ["PATCH /put 401"]

    def test_bytes_are_signed(self, client: Client, server: Served) -> None:
        """Bytes survive a redirect from another origin to ours."""
        with serve(scripted((307, [("Location", f"{server.url}/put")], b""))) as other:
            result = client.send("PATCH", other.url, body=WHOLE)
        assert json.loads(result.content)["size"] == len(WHOLE)


class _AsyncChunks:
    """An async iterable that can be read once, and is then empty: httpx knows it for no generator."""

    def __init__(self) -> None:
        self._chunks: Iterator[bytes] = iter(CHUNKS)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration
