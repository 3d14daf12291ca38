"""Request hooks of httpx that change a request after it was signed: what counts is what was sent."""

from collections.abc import Callable

import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import TunedDigestAuth

from .field_server import verified
from .serving import Served, serve

Change = Callable[[httpx.Request], None]


def _to(url: httpx.URL) -> Change:
    def change(request: httpx.Request) -> None:
        request.url = url.join(request.url.raw_path.decode("ascii"))

    return change


def _elsewhere_in_path(request: httpx.Request) -> None:
    request.url = request.url.copy_with(path="/elsewhere")


def _with_another_method(request: httpx.Request) -> None:
    request.method = "DELETE"


@pytest.mark.parametrize("change", [_elsewhere_in_path, _with_another_method])
def test_a_request_changed_by_a_hook_is_answered_as_it_was_sent(
    server: Served, signer: Ed25519Signer, change: Change
) -> None:
    """A challenge to a changed request is answered for the method and path that were challenged."""
    with httpx.Client(auth=TunedDigestAuth(server.url, signer), event_hooks={"request": [change]}) as client:
        assert client.get(f"{server.url}/here").status_code == 200
    assert server.statuses == [401, 200]


def test_a_request_sent_elsewhere_by_a_hook_gets_nothing_of_ours(
    server: Served, signer: Ed25519Signer
) -> None:
    """Where a hook sends a request to another origin, its challenge is left unanswered."""
    with serve(verified()) as other:
        hooks = [_to(httpx.URL(other.url))]
        with httpx.Client(auth=TunedDigestAuth(server.url, signer), event_hooks={"request": hooks}) as client:
            assert client.get(server.url).status_code == 401
            hooks.clear()
        assert [seen.field("Authorization") for seen in other.requests] == [[]]
    assert server.requests == []
