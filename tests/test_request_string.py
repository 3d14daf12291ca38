"""Section 3: a request's facts become the request string, and the deployed profile's other answers."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError
from tuned_digest._wire.credentials import Credentials, write_credentials
from tuned_digest._wire.profiles import PROFILES
from tuned_digest._wire.profiles.deployed import Deployed
from tuned_digest._wire.request import SignedRequest, is_signable, split_target
from tuned_digest._wire.work import SCHEMES

IDENTITY, SIGNATURE = bytes(range(32)), bytes(range(64))

Facts = tuple[str, str, str, bytes]


def requested(method: str = "GET", path: str = "/", body: bytes = b"", *, query: str = "") -> SignedRequest:
    """Make a request without header fields."""
    digest = blake3(body).digest()
    return SignedRequest(method, "api.example.com", path, query, path, lambda name: (), digest)


def made(nonce: str = "n") -> Credentials:
    """Make credentials for everything but the request."""
    return Credentials(SCHEMES[0], IDENTITY, nonce, "deployed", "salt$hash", SIGNATURE)


def request_string(nonce: str, method: str, path: str, body: bytes) -> bytes:
    """Build a request string."""
    return Deployed().work_string(requested(method, path, body), made(nonce))


def test_the_request_string_is_that_of_the_protocol() -> None:
    """Nonce, method, path and the body's digest are joined with colons."""
    assert request_string("n", "GET", "/a%2Fb", b"") == (
        b"n:GET:/a%2Fb:rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI"
    )


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a", "/a", ""),
        ("/a?b=/c", "/a", "b=/c"),
        ("/a?b?c", "/a", "b?c"),
        ("/a?", "/a", ""),
        ("/a#b?c", "/a", ""),
        ("/a?b#c", "/a", "b"),
        ("", "/", ""),
        ("?a", "/", "a"),
        ("#a", "/", ""),
        ("/caf%C3%A9/../%2F;x=1:y", "/caf%C3%A9/../%2F;x=1:y", ""),
        ("//a", "//a", ""),
    ],
)
def test_the_path_is_taken_as_it_is_on_the_wire(target: str, path: str, query: str) -> None:
    """Query and fragment are cut off, nothing is decoded or normalised, and an empty path is ``/``."""
    assert split_target(target) == (path, query)


@pytest.mark.parametrize(
    ("method", "path", "signable"),
    [
        ("GET", "/", True),
        ("OPTIONS", "/a", True),
        ("OPTIONS", "*", False),
        ("CONNECT", "/", False),
        ("TRACE", "/", False),
    ],
)
def test_some_requests_are_never_signed(method: str, path: str, signable: bool) -> None:
    """CONNECT, TRACE and ``OPTIONS *`` are not signed, all else is."""
    assert is_signable(method, path) is signable


@pytest.mark.parametrize("path", ["", "a", "*", "/\u00e9", "https://h/"])
def test_a_path_that_cannot_stand_on_the_wire_is_refused(path: str) -> None:
    """A signed path starts with a slash and is ASCII."""
    with pytest.raises(ArgumentError, match="a signed path starts with /"):
        request_string("n", "GET", path, b"")


def test_a_method_that_cannot_stand_on_the_wire_is_refused() -> None:
    """A method that is not ASCII is an argument error, and nothing foreign."""
    with pytest.raises(ArgumentError, match="a method is a token of ASCII characters"):
        request_string("n", "\u00c9T", "/", b"")


def facts() -> st.SearchStrategy[Facts]:
    """Draw nonce, method, path and body, often the same ones."""
    methods, paths = st.sampled_from(("GET", "PUT")), st.sampled_from(("/", "/a"))
    return st.tuples(st.sampled_from("ab"), methods, paths, st.just(b"") | st.binary())


@given(facts(), facts())
def test_two_requests_have_two_strings(one: Facts, two: Facts) -> None:
    """Requests that differ in nonce, method, path or body never share a request string."""
    assert (request_string(*one) == request_string(*two)) is (one == two)


class TestDeployed:
    """What the deployed profile answers to a client and to a server."""

    def test_it_is_the_one_that_nothing_asks_for(self) -> None:
        """It takes whatever parameters there are, asks with none, and is asked last."""
        profile = Deployed()
        for parameters in ({}, {"covers": "@method"}):
            assert profile.asked_by(parameters) is profile
        assert dict(profile.asking()) == {}
        assert isinstance(PROFILES[-1], Deployed)

    def test_argon2_alone_is_answered_unasked(self) -> None:
        """A client answers a search under this profile only where its caller names it (section 9)."""
        assert Deployed().schemes == ("tuned-digest-signature",)

    def test_the_query_and_the_host_are_not_in_the_string(self) -> None:
        """Requests that differ in their query or their host alone share a request string (section 9)."""
        one, two = requested(query="a=1"), requested(query="a=2")
        two.authority = "other.example.com"
        assert Deployed().work_string(one, made()) == Deployed().work_string(two, made())

    def test_the_signed_path_is_in_the_string(self) -> None:
        """Behind a prefix the path that the router sees is signed, and not the one on the wire."""
        request = requested(path="/v2/a")
        request.signed_path = "/a"
        assert b":GET:/a:" in Deployed().work_string(request, made())

    def test_the_response_is_signed(self) -> None:
        """The signature covers the response's bytes and nothing else (section 5)."""
        assert Deployed().signed_bytes(requested(), made()) == b"salt$hash"

    def test_one_field_carries_the_credentials(self) -> None:
        """They are written into Authorization, and read back from there alone."""
        fields = Deployed().write(requested(), made())
        assert fields == (("Authorization", write_credentials(made())),)
        written = {name: [value] for name, value in fields}
        assert Deployed().read(lambda name: written.get(name, [])) == made()
        assert (
            Deployed().read(lambda name: [] if name == "Authorization" else written["Authorization"]) is None
        )
