"""Request objects of httpx: sent by their owner more than once, in several tasks, and left as they were."""

from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import TunedDigestAuth

from .field_server import verified
from .ledger import Ledger
from .serving import Served, serve


@pytest.fixture
def server(ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`."""
    ledger.forwards_on_redirect = True
    with ledger.watch(serve(verified())) as served:
        yield served


class Watched:
    """A request that is compared with what it was."""

    def __init__(self, request: httpx.Request) -> None:
        self._request = request
        self._attributes = dict(vars(request))
        self._fields = list(request.headers.raw)
        self._extensions = dict(request.extensions)

    def changes(self) -> set[str]:
        """Name the attributes that are other objects now, or hold something else."""
        changed = {
            name for name, value in vars(self._request).items() if value is not self._attributes.get(name)
        }
        if list(self._request.headers.raw) != self._fields:
            changed.add("headers")
        if dict(self._request.extensions) != self._extensions:
            changed.add("extensions")
        return changed


class TestSentAgain:
    def test_a_request_object_sent_twice_is_signed_twice(self, server: Served, signer: Ed25519Signer) -> None:
        """A request that carries our own field from before gets a fresh one, chained or challenged."""
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            request = client.build_request("GET", server.url)
            assert [client.send(request).status_code for _ in range(3)] == [200, 200, 200]
        assert server.statuses == [401, 200, 200, 200]

    def test_a_request_whose_nonce_was_lost_is_not_sent_with_it_again(self, signer: Ed25519Signer) -> None:
        """Without a nonce to sign with, a field of ours from before is taken off."""
        with serve(verified()) as server:
            request = httpx.Request("GET", server.url)
            with httpx.Client() as client:
                client.send(request, auth=TunedDigestAuth(server.url, signer))
                client.send(request, auth=TunedDigestAuth(server.url, signer))
        assert server.statuses == [401, 200, 401, 200]
        assert server.requests[2].field("Authorization") == []

    def test_a_request_object_in_several_tasks_is_signed_in_each(
        self, server: Served, signer: Ed25519Signer
    ) -> None:
        """One request under way four times at once carries four nonces."""

        async def run() -> None:
            async def pause(request: httpx.Request) -> None:
                await anyio.lowlevel.checkpoint()

            auth = TunedDigestAuth(server.url, signer)
            async with httpx.AsyncClient(auth=auth, event_hooks={"request": [pause]}) as client:
                request = client.build_request("PATCH", server.url, content=iter([b"x" * 70_000] * 3))
                await client.send(request)
                async with anyio.create_task_group() as group:
                    for _ in range(4):
                        group.start_soon(client.send, request)

        anyio.run(run)
        sent = [value for seen in server.requests for value in seen.field("Authorization")]
        assert len(sent) == len(set(sent)) == 5
        assert server.statuses.count(200) == 5

    def test_a_body_that_can_be_read_once_is_sent_each_time(
        self, server: Served, signer: Ed25519Signer
    ) -> None:
        """A one-shot body is sent whole each time: the request's stream is replaced, and nothing else."""
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            request = client.build_request("PATCH", server.url, content=iter([b"one ", b"two"]))
            watched = Watched(request)
            assert [client.send(request).json()["size"] for _ in range(3)] == [7, 7, 7]
        assert watched.changes() == {"stream"}
        assert server.statuses == [401, 200, 200, 200]


class TestOwners:
    @pytest.mark.parametrize("target", ["/target", "/redirect?status=307&to=/target"])
    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_a_request_is_left_as_it_was(
        self, server: Served, signer: Ed25519Signer, target: str, is_async: bool
    ) -> None:
        """Challenged, redirected or under a chained nonce, the caller's own request object is not changed."""
        auth = TunedDigestAuth(server.url, signer)
        request = httpx.Request(
            "PATCH",
            server.url + target,
            content=b"whole",
            headers={"X-Own": "1"},
            extensions={"trace": None, "timeout": httpx.Timeout(30).as_dict()},
        )
        watched = Watched(request)

        async def send() -> list[int]:
            async with httpx.AsyncClient(auth=auth, follow_redirects=True) as client:
                return [(await client.send(request)).status_code for _ in range(2)]

        if is_async:
            assert anyio.run(send) == [200, 200]
        else:
            with httpx.Client(auth=auth, follow_redirects=True) as client:
                assert [client.send(request).status_code for _ in range(2)] == [200, 200]
        assert watched.changes() == set()

    def test_a_hook_does_not_reach_the_callers_extensions(
        self, server: Served, signer: Ed25519Signer
    ) -> None:
        """Extensions are copied: what a hook adds to the request that is sent is not on the caller's own."""

        def note(request: httpx.Request) -> None:
            request.extensions["noted"] = True

        hooks = {"request": [note]}
        with httpx.Client(auth=TunedDigestAuth(server.url, signer), event_hooks=hooks) as client:
            request = client.build_request("GET", server.url, extensions={"own": 1})
            response = client.send(request)
        assert response.request.extensions["noted"] is True
        assert response.request.extensions["own"] == 1
        assert "noted" not in request.extensions

    def test_a_target_of_the_callers_own_is_signed(self, server: Served, signer: Ed25519Signer) -> None:
        """The request target in the extensions is what is sent, and what is signed."""
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            response = client.get(server.url, extensions={"target": b"/elsewhere"})
        assert response.json()["path"] == "/elsewhere"


class TestSubclasses:
    def test_a_subclass_of_a_request_survives(self, server: Served, signer: Ed25519Signer) -> None:
        """A request of the caller's own class is sent as one, with what it holds, unsigned and signed."""
        sent: list[tuple[type, object, bool]] = []

        class Marked(httpx.Request):
            def __init__(self, mark: object, *arguments: Any) -> None:
                super().__init__(*arguments)
                self.mark = mark

        def note(request: httpx.Request) -> None:
            sent.append((type(request), getattr(request, "mark", None), "Authorization" in request.headers))

        mark, hooks = object(), {"request": [note]}
        with httpx.Client(auth=TunedDigestAuth(server.url, signer), event_hooks=hooks) as client:
            for _ in range(2):
                response = client.send(Marked(mark, "GET", server.url))
                assert response.status_code == 200
                assert isinstance(response.request, Marked)
        assert sent == [(Marked, mark, False), (Marked, mark, True), (Marked, mark, True)]
