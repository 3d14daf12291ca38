"""What cannot be answered, or not be signed, is an error that either family of `except` clauses catches."""

from typing import Any

import pytest

from tuned_digest import (
    Ed25519Signer,
    LimitExceededError,
    MalformedFieldError,
    TunedDigestError,
    UnsupportedAlgorithmError,
    events,
)

from .clients import Connect
from .field_server import challenge, next_nonce, scripted
from .ledger import nonce_of
from .serving import QUICK, serve


class TestChallenges:
    @pytest.mark.parametrize(
        ("fields", "kind", "message"),
        [
            ([challenge("AAAA", "$argon2d$v=19$m=4194304,t=3,p=8")], LimitExceededError, "max_memory_kib"),
            ([challenge("AAAA", "$argon2d$v=19$m=65536,t=17,p=8")], LimitExceededError, "max_passes"),
            ([challenge("AAAA", "$scrypt$")], UnsupportedAlgorithmError, "scrypt"),
            ([("WWW-Authenticate", "tuned-digest-signature nonce=AAAA")], MalformedFieldError, "algorithm"),
        ],
    )
    def test_what_cannot_be_answered_is_an_error_of_both_families(
        self,
        connect: Connect,
        signer: Ed25519Signer,
        fields: list[tuple[str, str]],
        kind: type[TunedDigestError],
        message: str,
    ) -> None:
        """A challenge that is malformed, unsupported or too dear raises what either family catches."""
        with serve(scripted((401, fields, b""))) as served, connect(served.url, signer) as client:
            with pytest.raises(kind, match=message) as raised:
                client.send("GET", served.url)
            assert isinstance(raised.value, client.library_error)
            error: Any = raised.value
            assert str(error.request.url).rstrip("/") == served.url
            assert error.response.status_code == 401
        assert len(served.requests) == 1

    def test_an_error_at_the_target_of_a_redirect_names_that(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """The request of an error is the one whose challenge cannot be answered, redirects followed."""
        app = scripted((302, [("Location", "/there")], b""), (401, [challenge("AAAA", "$scrypt$")], b""))
        with serve(app) as served, connect(served.url, signer) as client:
            with pytest.raises(UnsupportedAlgorithmError) as raised:
                client.send("GET", f"{served.url}/here")
            assert isinstance(raised.value, client.library_error)
            error: Any = raised.value
            assert str(error.request.url) == f"{served.url}/there"
        assert served.story == ["GET /here 302", "GET /there 401"]

    def test_a_client_goes_on_after_an_error(self, connect: Connect, signer: Ed25519Signer) -> None:
        """After a challenge that cannot be answered, the next one is answered on the same client."""
        app = scripted(
            (401, [challenge("AAAA", "$scrypt$")], b"x" * 200_000),
            (401, [challenge("BBBB")], b""),
            (200, [], b"fine"),
        )
        with serve(app) as served, connect(served.url, signer) as client:
            with pytest.raises(UnsupportedAlgorithmError):
                client.send("GET", served.url)
            assert client.send("GET", served.url).content == b"fine"
        assert served.statuses == [401, 401, 200]


class TestNextNonces:
    def test_next_nonces_beside_a_bad_challenge_are_kept(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A 401 that ends in an error still brings its next nonces."""
        bad = ("WWW-Authenticate", "tuned-digest-signature nonce=AAAA")
        app = scripted((401, [bad, next_nonce("BBBB")], b""), (200, [], b""))
        with serve(app) as served, connect(served.url, signer) as client:
            with pytest.raises(MalformedFieldError):
                client.send("GET", served.url)
            assert client.send("GET", served.url).status == 200
        assert [nonce_of(value) for value in served.requests[1].field("Authorization")] == ["BBBB"]

    def test_a_bad_next_nonce_never_turns_success_into_an_error(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A malformed, an unsupported and a too dear next nonce are dropped and reported."""
        bad = [
            ("Authentication-Info", f"nextnonce=????;argon={QUICK};scopes=read"),
            ("Authentication-Info", "nextnonce=AAAA;argon=$argon9$;scopes=read"),
            ("Authentication-Info", "nextnonce=BBBB;argon=$argon2d$v=19$m=4194304,t=3,p=8;scopes=read"),
            ("Authentication-Info", 'nextnonce="CCCC", qop=auth'),
        ]
        reported: list[events.Event] = []
        with (
            serve(scripted((200, bad, b"fine"))) as served,
            connect(served.url, signer, on_event=reported.append) as client,
        ):
            assert [client.send("GET", served.url).content for _ in range(2)] == [b"fine"] * 2
        assert [seen.field("Authorization") for seen in served.requests] == [[], []]
        assert [type(event) for event in reported] == [events.NextNonceDropped] * 6
