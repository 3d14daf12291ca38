"""Which challenges are answered, in which dialect and under which scheme, and over which path."""

from typing import Any

import pytest

from tuned_digest import (
    Ed25519Signer,
    LimitExceededError,
    Limits,
    SearchCost,
    Tuning,
    UnsupportedAlgorithmError,
)
from tuned_digest.server import Policy

from .clients import Client, Connect
from .field_server import challenge, scripted, search_challenge, verified
from .serving import Served, serve

BOTH = [Tuning.scheme, SearchCost.scheme]

SEARCH_ONLY = Policy(access=None, create=None, access_cost=1, create_cost=1, exists=lambda path: True)


class TestDialects:
    @pytest.mark.parametrize("dialect", ["deployed", "list"])
    @pytest.mark.parametrize("scheme", BOTH)
    def test_both_schemes_are_spoken_in_both_dialects(
        self, connect: Connect, signer: Ed25519Signer, dialect: str, scheme: str
    ) -> None:
        """A server writing either dialect is answered in kind under either scheme."""
        with (
            serve(verified(dialect=dialect)) as served,
            connect(served.url, signer, schemes=[scheme]) as client,
        ):
            assert client.send("GET", f"{served.url}/first").status == 200
            created = client.send(
                "POST", f"{served.url}/second", body=b"x", auth=client.auth.for_action("create")
            )
            assert created.status == 200
        assert served.statuses == [401, 200, 200]
        for seen in served.requests[1:]:
            (value,) = seen.field("Authorization")
            assert value.lower().startswith(f"{scheme} ")
            assert (", " in value) == (dialect == "list")

    def test_the_fallback_field_is_read(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A challenge in uno-www-authn alone is answered."""
        asked = (401, [search_challenge("AAAA", field="uno-www-authn")], b"")
        with (
            serve(scripted(asked, (200, [], b""))) as served,
            connect(served.url, signer, schemes=[SearchCost.scheme]) as client,
        ):
            assert client.send("GET", served.url).status == 200
        assert len(served.requests) == 2


class TestChoice:
    def test_an_unknown_algorithm_is_passed_over(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Where one challenge is of an unknown algorithm, the other is answered."""
        asked = (401, [challenge("AAAA", "$argon3$v=1$m=1"), search_challenge("AAAA")], b"")
        with (
            serve(scripted(asked, (200, [], b""))) as served,
            connect(served.url, signer, schemes=BOTH) as client,
        ):
            assert client.send("GET", served.url).status == 200
        assert served.requests[1].field("Authorization")[0].startswith("asym-")

    @pytest.mark.parametrize("schemes", [BOTH, BOTH[::-1]], ids=["argon2 first", "search first"])
    def test_the_callers_order_decides(
        self, connect: Connect, signer: Ed25519Signer, schemes: list[str]
    ) -> None:
        """Of two challenges that could be answered, the scheme that the caller names first is."""
        asked = (401, [challenge("AAAA"), search_challenge("AAAA")], b"")
        with (
            serve(scripted(asked, (200, [], b""))) as served,
            connect(served.url, signer, schemes=schemes) as client,
        ):
            client.send("GET", served.url)
        (value,) = served.requests[1].field("Authorization")
        assert value.lower().startswith(f"{schemes[0]} ")

    def test_a_cheaper_scheme_is_not_fallen_back_to(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A tuning beyond the limits is an error though the other scheme could be answered."""
        asked = (401, [challenge("AAAA"), search_challenge("AAAA")], b"")
        with (
            serve(scripted(asked)) as served,
            connect(served.url, signer, schemes=BOTH, limits=Limits(max_memory_kib=8)) as client,
            pytest.raises(LimitExceededError, match=r"Limits\(max_memory_kib=64\)"),
        ):
            client.send("GET", served.url)
        assert len(served.requests) == 1


class TestSearchAlone:
    def test_it_is_not_answered_by_default(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A server that offers a search alone is an error of both families, and nothing more is sent."""
        with serve(verified(policy=SEARCH_ONLY)) as served, connect(served.url, signer) as client:
            with pytest.raises(UnsupportedAlgorithmError) as raised:
                client.send("GET", f"{served.url}/first")
            assert isinstance(raised.value, client.library_error)
            error: Any = raised.value
            assert error.algorithm == "blake3$1"
            assert str(error.request.url) == f"{served.url}/first"
            assert error.response.status_code == 401
        assert served.story == ["GET /first 401"]

    def test_the_default_is_not_called_dangerous(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Where a caller's schemes leave Argon2 out, the error says to add it, and blames nobody."""
        asked = (401, [challenge("AAAA")], b"")
        search = "asym-tuned-digest-signature"
        with serve(scripted(asked)) as served, connect(served.url, signer, schemes=[search]) as client:
            with pytest.raises(UnsupportedAlgorithmError, match="Add 'tuned-digest-signature'") as raised:
                client.send("GET", served.url)
            assert "hostile" not in str(raised.value)

    def test_the_error_names_what_to_pass_and_why_not(self, connect: Connect, signer: Ed25519Signer) -> None:
        """The error says what is offered, what is answered, why the search is not, and how it would be."""
        with (
            serve(verified(policy=SEARCH_ONLY)) as served,
            connect(served.url, signer) as client,
            pytest.raises(UnsupportedAlgorithmError) as raised,
        ):
            client.send("GET", served.url)
        message = str(raised.value)
        assert "the server offers asym-tuned-digest-signature with 'blake3$1'" in message
        assert "this client answers tuned-digest-signature." in message
        assert "a hostile server can fit other requests to its signature" in message
        assert "pass schemes=['asym-tuned-digest-signature']" in message

    def test_it_is_answered_where_it_is_named(self, connect: Connect, signer: Ed25519Signer) -> None:
        """With the scheme that the error names, requests are answered and chained."""
        with (
            serve(verified(policy=SEARCH_ONLY)) as served,
            connect(served.url, signer, schemes=["asym-tuned-digest-signature"]) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [200, 200]
        assert served.statuses == [401, 200, 200]

    def test_its_next_nonces_are_not_used_by_default(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A next nonce that asks for a search alone signs nothing where the search is not answered."""
        brought = ("Authentication-Info", "nextnonce=AAAA;blake3=1;scopes=read")
        with (
            serve(scripted((200, [brought], b""))) as served,
            connect(served.url, signer) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [200, 200]
        assert [seen.field("Authorization") for seen in served.requests] == [[], []]


class TestPaths:
    def test_a_prefix_is_left_out_of_the_signature(self, connect: Connect, blobs: Served) -> None:
        """With `signed_path` a server that verifies the path behind its prefix accepts the request."""
        with connect(
            blobs.url, Ed25519Signer.generate(), signed_path=lambda path: path.removeprefix("/v2")
        ) as client:
            assert client.send("GET", f"{blobs.url}/v2/blobs/welcome").status == 200
        with connect(blobs.url, Ed25519Signer.generate()) as client:
            assert client.send("GET", f"{blobs.url}/v2/blobs/welcome").status == 401

    def test_a_signed_path_that_is_empty_is_the_root(self, connect: Connect, signer: Ed25519Signer) -> None:
        """With the prefix alone as path, both ends sign ``/``."""

        def strip(path: str) -> str:
            return path.removeprefix("/v2")

        with (
            serve(verified(signed_path=strip)) as server,
            connect(server.url, signer, signed_path=strip) as client,
        ):
            assert client.send("GET", f"{server.url}/v2").status == 200

    def test_paths_are_signed_as_on_the_wire(self, client: Client, server: Served) -> None:
        """Percent-encoding, parameters and a query leave the signature good."""
        for path in ("/caf%C3%A9/a%20b/%2F:x;y=1?q=%20&r=1", "/", "/?", "/a//b", "/%7Euser", "/a'(b)*!"):
            assert client.send("GET", server.url + path).status == 200, path
