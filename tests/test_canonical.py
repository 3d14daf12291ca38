"""Section 3: a request's facts become the request string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError
from tuned_digest.canonical import body_digest, is_signable, path_of, request_string


def test_the_request_string_is_that_of_the_protocol() -> None:
    """Nonce, method, path and the body's digest are joined with colons."""
    assert request_string("n", "GET", "/a%2Fb", body_digest(b"")) == (
        b"n:GET:/a%2Fb:rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI"
    )


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a", "/a"),
        ("/a?b=/c", "/a"),
        ("/a#b?c", "/a"),
        ("/a?b#c", "/a"),
        ("", "/"),
        ("?a", "/"),
        ("#a", "/"),
        ("/caf%C3%A9/../%2F;x=1:y", "/caf%C3%A9/../%2F;x=1:y"),
        ("//a", "//a"),
    ],
)
def test_the_path_is_taken_as_it_is_on_the_wire(target: str, path: str) -> None:
    """Query and fragment are left out, nothing is decoded or normalised, and nothing is ``/``."""
    assert path_of(target) == path


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
        request_string("n", "GET", path, bytes(32))


@given(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(("GET", "PUT")), st.sampled_from(("/", "/a")), st.binary()
    ),
    st.tuples(
        st.sampled_from("ab"), st.sampled_from(("GET", "PUT")), st.sampled_from(("/", "/a")), st.binary()
    ),
)
def test_two_requests_have_two_strings(
    one: tuple[str, str, str, bytes], two: tuple[str, str, str, bytes]
) -> None:
    """Requests that differ in nonce, method, path or body never share a request string."""
    strings = [request_string(*facts[:3], body_digest(facts[3])) for facts in (one, two)]
    assert (strings[0] == strings[1]) is (one == two)
