"""Priming where the caller asks for it, and libraries whose auth objects cannot prime by themselves."""

import pytest

from tuned_digest import ArgumentError, Ed25519Signer, MalformedFieldError, Resources
from tuned_digest.server.asgi import Receive, Scope, Send

from .clients import CLIENTS, UNPRIMED, Client, Connect
from .field_server import answer, field, read, scripted, verified
from .serving import Served, serve

SMALL = Resources(prime_above_kib=1)
"""Every body of more than 1 KiB is a large one."""

UPLOAD = b"large" * 1000
MALFORMED = ("WWW-Authenticate", "tuned-digest-signature nonce=AAAA")


class TestUnprimed:
    @pytest.mark.parametrize("name", sorted(UNPRIMED))
    def test_an_upload_is_sent_to_be_challenged(
        self, name: str, server: Served, signer: Ed25519Signer
    ) -> None:
        """A library that cannot prime by itself sends a large body twice, and once after `prime`."""
        with CLIENTS[name](server.url, signer, resources=SMALL) as client:
            assert client.send("PATCH", f"{server.url}/up", body=UPLOAD).status == 200
        assert server.story == ["PATCH /up 401", "PATCH /up 200"]


class TestPrimeOnDemand:
    def test_a_nonce_is_held_for_every_scope(self, client: Client, server: Served) -> None:
        """After `prime` an upload, and one that creates, go out once each."""
        assert client.prime() is True
        for action in ("update", "create"):
            auth = client.auth.for_action(action)
            method = {"update": "PATCH", "create": "POST"}[action]
            assert client.send(method, f"{server.url}/up", body=UPLOAD, auth=auth).status == 200
        assert server.story == ["HEAD / 401", "HEAD / 200", "PATCH /up 200", "POST /up 200"]

    def test_method_and_path_are_settings(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """What is sent is what the call says, else what `Resources` say."""
        resources = Resources(prime_method="OPTIONS", prime_path="/a")
        with connect(server.url, signer, resources=resources) as client:
            assert client.prime()
            assert client.prime(method="GET", path="/b")
        assert server.story == ["OPTIONS /a 401", "OPTIONS /a 200", "GET /b 200"]

    def test_every_origin_is_primed(self, connect: Connect, server: Served, signer: Ed25519Signer) -> None:
        """Each origin that is named gets a request, and one that brings no nonce is told."""
        with serve(verified()) as second, serve(field) as plain:
            with connect([server.url, second.url], signer) as client:
                assert client.prime() is True
            with connect([server.url, plain.url], signer) as client:
                assert client.prime() is False
        assert server.statuses == [401, 200, 401, 200]
        assert second.story == ["HEAD / 401", "HEAD / 200"]
        assert plain.story == ["HEAD / 200", "GET / 200"]

    def test_any_origin_names_none(self, connect: Connect, signer: Ed25519Signer) -> None:
        """An auth object for any origin does not know where to ask."""
        with connect("*", signer) as client, pytest.raises(ArgumentError, match="name the origins to prime"):
            client.prime()

    def test_a_get_follows_where_a_head_brings_nothing(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A server that answers HEAD without the scheme is asked with GET."""
        inner = verified()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == "HEAD":
                await read(receive)
                await answer(send, 405, [], b"")
            else:
                await inner(scope, receive, send)

        with serve(app) as served, connect(served.url, signer) as client:
            assert client.prime() is True
            assert client.prime(method="GET") is True
        assert served.story == ["HEAD / 405", "GET / 401", "GET / 200", "GET / 200"]

    def test_redirects_are_not_followed(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A redirect brings its nonces, and what it points to is not asked."""
        fields = [(b"location", b"/elsewhere")]

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            await answer(send, 302, fields, b"")

        with serve(verified(app)) as served, connect(served.url, signer) as client:
            assert client.prime() is True
        assert served.story == ["HEAD / 401", "HEAD / 302"]

    def test_what_cannot_be_answered_is_an_error_of_both_families(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A malformed challenge to a request that was asked for raises what either family catches."""
        with serve(scripted((401, [MALFORMED], b""))) as served, connect(served.url, signer) as client:
            with pytest.raises(MalformedFieldError, match="algorithm") as raised:
                client.prime()
            assert isinstance(raised.value, client.library_error)
