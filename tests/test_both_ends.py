"""The client's core and the server's, joined in memory."""

import pytest

from tuned_digest._wire.grammar import Dialect
from tuned_digest.errors import RequestRejectedError, UnsupportedAlgorithmError
from tuned_digest.server import Caller

from .driving import Client, Server, quick_policy, send
from .verifying import ARGON, SEARCH, issued, written


def without_prefix(path: str) -> str:
    """Give the path that a router behind a prefix sees."""
    return path.removeprefix("/v2")


@pytest.mark.parametrize("dialect", ["deployed", "list"])
@pytest.mark.parametrize("schemes", [None, (ARGON,), (SEARCH,), (SEARCH, ARGON)])
def test_client_and_server_understand_each_other(schemes: tuple[str, ...] | None, dialect: Dialect) -> None:
    """The first request is challenged, every later one succeeds at once, under either scheme and dialect."""
    client, to = Client(options={"schemes": schemes}), Server(dialect=dialect)
    assert send(client, to, "GET", "/a?b=c") == ([401, 200], Caller(client.signer.identity, None, "read"))
    for method, action in (("GET", "read"), ("PATCH", "update"), ("DELETE", "delete"), ("HEAD", "read")):
        assert send(client, to, method, "/a%20b", b"body") == (
            [200],
            Caller(client.signer.identity, None, action),
        )


def test_a_wrong_guess_of_the_action_costs_one_challenge() -> None:
    """A client that takes a PUT for an update is challenged to create, and then holds a nonce for it."""
    client, to = Client(), Server()
    send(client, to, "GET", "/a")
    assert send(client, to, "PUT", "/new", b"x")[0] == [401, 200]
    client.options["action"] = lambda method, path: "create"
    assert send(client, to, "PUT", "/other", b"x")[0] == [200]


def test_both_sides_can_sign_another_path() -> None:
    """Behind a prefix the signed path is the one the router sees, where both sides are told so."""
    client, to = Client(options={"signed_path": without_prefix}), Server(signed_path=without_prefix)
    assert send(client, to, "GET", "/v2/a")[0] == [401, 200]
    assert to.verify("GET", "/v2/a", [written(issued(to), path="/a")]).action == "read"
    with pytest.raises(RequestRejectedError, match="challenge verification failed"):
        send(Client(), to, "GET", "/v2/a")


def test_the_search_alone_is_answered_where_it_is_named() -> None:
    """A server without Argon2 is answered by a client that names the search, and by no other."""
    to = Server(policy=quick_policy(access=None))
    assert send(Client(options={"schemes": (SEARCH,)}), to, "GET", "/a")[0] == [401, 200]
    with pytest.raises(UnsupportedAlgorithmError, match=r"schemes=\['asym-tuned-digest-signature'\]"):
        send(Client(), to, "GET", "/a")
