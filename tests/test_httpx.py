"""What is httpx's own: hooks, streams, clients without auth, staged faults."""

import copy
import pickle
import ssl
from collections.abc import Iterator
from typing import Any, Self

import anyio
import httpx
import pytest
import respx

from tuned_digest import (
    ArgumentError,
    Ed25519Signer,
    LimitExceededError,
    Resources,
    TunedDigestError,
)
from tuned_digest.httpx import TunedDigestAuth, _ResumedStream

from .certificates import Certificate
from .field_server import scripted, verified
from .ledger import Ledger
from .raw_server import Issuer, Recorded, Wire, record
from .serving import QUICK, Served, serve, serve_http2

CHALLENGE = {"WWW-Authenticate": f"tuned-digest-signature nonce=AAAA;algorithm={QUICK};actions=read"}


def test_auth_none_sends_unsigned(server: Served, signer: Ed25519Signer) -> None:
    """`auth=None` on a call switches signing off for it."""
    with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        assert client.get(server.url, auth=None).status_code == 401
    assert server.requests[0].field("Authorization") == []


def test_a_streamed_response_is_not_read(signer: Ed25519Signer) -> None:
    """A successful response that is streamed reaches the caller unread."""
    with (
        serve(scripted((401, list(CHALLENGE.items()), b""), (200, [], b"x" * 100_000))) as server,
        httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client,
        client.stream("GET", server.url) as response,
    ):
        assert not response.is_stream_consumed
        assert len(response.read()) == 100_000


def test_event_hooks_see_every_send(server: Served, signer: Ed25519Signer) -> None:
    """Request hooks run for the unsigned request and for the signed one, response hooks may read the 401."""
    sent: list[bool] = []

    def note(request: httpx.Request) -> None:
        sent.append("Authorization" in request.headers)

    hooks = {"request": [note], "response": [lambda response: response.read()]}
    with httpx.Client(auth=TunedDigestAuth(server.url, signer), event_hooks=hooks) as client:
        assert client.get(server.url).status_code == 200
    assert sent == [False, True]


def test_a_401_read_by_an_async_hook_is_answered(server: Served, signer: Ed25519Signer) -> None:
    """A response that a hook of an async client has read is answered from what is in memory."""

    async def run() -> int:
        async def read(response: httpx.Response) -> None:
            await response.aread()

        auth = TunedDigestAuth(server.url, signer)
        async with httpx.AsyncClient(auth=auth, event_hooks={"response": [read]}) as client:
            return (await client.get(server.url)).status_code

    assert anyio.run(run) == 200


def test_a_request_object_in_several_tasks_is_signed_in_each(server: Served, signer: Ed25519Signer) -> None:
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


def test_a_401_closed_by_a_hook_is_httpxs_own_matter(server: Served, signer: Ed25519Signer) -> None:
    """A hook that closes a 401 has httpx say so, and not us."""
    hooks = {"response": [lambda response: response.close()]}
    auth = TunedDigestAuth(server.url, signer)
    # What httpx itself reads of a response before it goes on is not there any more.
    with httpx.Client(auth=auth, event_hooks=hooks) as client, pytest.raises(httpx.StreamClosed):
        client.get(server.url)


def test_a_target_of_the_callers_own_is_signed(server: Served, signer: Ed25519Signer) -> None:
    """The request target in the extensions is what is sent, and what is signed."""
    with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        response = client.get(server.url, extensions={"target": b"/elsewhere"})
    assert response.json()["path"] == "/elsewhere"


def test_a_401_that_breaks_off_names_its_request(signer: Ed25519Signer) -> None:
    """An error of reading a 401 is httpx's own, with its request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(key.lower().encode(), value.encode()) for key, value in CHALLENGE.items()]
        headers.append((b"content-length", b"100"))
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"short", "more_body": True})

    with serve(app, log_config=None) as server:
        auth = TunedDigestAuth(server.url, signer)
        with httpx.Client(auth=auth) as client, pytest.raises(httpx.RemoteProtocolError) as raised:
            client.get(server.url)
    assert raised.value.request.url == server.url


def test_a_plain_function_that_gives_an_awaitable_may_sign(server: Served, signer: Ed25519Signer) -> None:
    """An async signer need not be written with ``async def``."""

    class Delegating:
        public_key = signer.public_key

        def sign(self, message: bytes, /) -> Any:
            async def signed() -> bytes:
                return signer.sign(message)

            return signed()

    async def run() -> int:
        async with httpx.AsyncClient(auth=TunedDigestAuth(server.url, Delegating())) as client:
            return (await client.get(server.url)).status_code

    assert anyio.run(run) == 200


def test_a_request_object_sent_twice_is_signed_twice(server: Served, signer: Ed25519Signer) -> None:
    """A request that carries our own field from before gets a fresh one, chained or challenged."""
    with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        request = client.build_request("GET", server.url)
        assert [client.send(request).status_code for _ in range(3)] == [200, 200, 200]
    assert server.statuses == [401, 200, 200, 200]


def test_a_request_whose_nonce_was_lost_is_not_sent_with_it_again(signer: Ed25519Signer) -> None:
    """Without a nonce to sign with, a field of ours from before is taken off."""
    with serve(verified()) as server:
        request = httpx.Request("GET", server.url)
        with httpx.Client() as client:
            client.send(request, auth=TunedDigestAuth(server.url, signer))
            client.send(request, auth=TunedDigestAuth(server.url, signer))
    assert server.statuses == [401, 200, 401, 200]
    assert server.requests[2].field("Authorization") == []


@respx.mock
def test_a_lost_connection_costs_its_nonce_and_nothing_else(signer: Ed25519Signer) -> None:
    """After a timeout the nonce that was sent is never sent again, and the next request goes through."""
    seen: list[str | None] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization"))
        if len(seen) == 1:
            value = f"nextnonce=AAAA;argon={QUICK};scopes=read"
            return httpx.Response(200, headers={"Authentication-Info": value})
        if len(seen) == 2:
            raise httpx.ReadTimeout("gone", request=request)
        return httpx.Response(200)

    respx.get("https://api.example.com/").mock(side_effect=respond)
    with httpx.Client(auth=TunedDigestAuth("https://api.example.com", signer)) as client:
        client.get("https://api.example.com/")
        with pytest.raises(httpx.ReadTimeout):
            client.get("https://api.example.com/")
        assert client.get("https://api.example.com/").status_code == 200
    assert seen[1] is not None
    assert (seen[0], seen[2]) == (None, None)


def test_a_mock_transport_is_answered(signer: Ed25519Signer) -> None:
    """A 401 that is in memory already is answered like any other."""
    statuses = iter([httpx.Response(401, headers=CHALLENGE), httpx.Response(200)])
    transport = httpx.MockTransport(lambda request: next(statuses))
    auth = TunedDigestAuth("https://api.example.com", signer)
    with httpx.Client(auth=auth, transport=transport) as client:
        assert client.get("https://api.example.com/").status_code == 200


def test_an_upgrade_to_https_is_signed_afresh(signer: Ed25519Signer) -> None:
    """A redirect from http to the served https origin is answered there."""

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "http":
            return httpx.Response(301, headers={"Location": "https://api.example.com/"})
        if "Authorization" not in request.headers:
            return httpx.Response(401, headers=CHALLENGE)
        return httpx.Response(200)

    auth = TunedDigestAuth("https://api.example.com", signer)
    with httpx.Client(auth=auth, transport=httpx.MockTransport(respond), follow_redirects=True) as client:
        assert client.get("http://api.example.com/").status_code == 200


def test_a_client_over_a_transport_without_origins_is_left_alone(signer: Ed25519Signer) -> None:
    """A URL that has no http origin is sent as it is."""
    transport = httpx.MockTransport(lambda request: httpx.Response(401, headers=CHALLENGE))
    with httpx.Client(auth=TunedDigestAuth("*", signer), mounts={"unix://": transport}) as client:
        assert client.get("unix://socket/").status_code == 401


def test_errors_pickle_and_keep_their_evidence(signer: Ed25519Signer) -> None:
    """An error out of a client pickles, without the request, and is still of both families."""
    too_dear = {"WWW-Authenticate": CHALLENGE["WWW-Authenticate"].replace("m=64", "m=4194304")}
    transport = httpx.MockTransport(lambda request: httpx.Response(401, headers=too_dear))
    auth = TunedDigestAuth("*", signer)
    with httpx.Client(auth=auth, transport=transport) as client, pytest.raises(LimitExceededError) as raised:
        client.get("https://api.example.com/")
    restored = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(restored, LimitExceededError)
    assert isinstance(restored, httpx.RequestError)
    assert (restored.limit, restored.asked, restored.allowed) == ("max_memory_kib", 4194304, 524288)
    assert str(restored) == str(raised.value)


def test_a_flow_that_does_not_say_whether_it_may_block_is_refused(signer: Ed25519Signer) -> None:
    """Composing with `auth_flow` fails loudly, rather than sending requests unsigned."""
    with pytest.raises(ArgumentError, match="sync_auth_flow"):
        TunedDigestAuth("*", signer).auth_flow(httpx.Request("GET", "https://api.example.com"))


def test_plain_http_beyond_loopback_is_refused(signer: Ed25519Signer) -> None:
    """An origin of plain http elsewhere needs `allow_http`."""
    with pytest.raises(ArgumentError, match="allow_http"):
        TunedDigestAuth("http://api.example.com", signer)
    TunedDigestAuth("http://api.example.com", signer, allow_http=True)
    TunedDigestAuth(["http://localhost:1", "http://[::1]"], signer)


def test_what_cannot_be_used_is_refused_when_it_is_given(signer: Ed25519Signer) -> None:
    """Unknown schemes and actions are errors at once."""
    with pytest.raises(ArgumentError, match="schemes"):
        TunedDigestAuth("*", signer, schemes=["digest"])
    with pytest.raises(ArgumentError, match="action"):
        TunedDigestAuth("*", signer).for_action("write")


def test_an_action_function_that_makes_one_up_is_an_error(server: Served, signer: Ed25519Signer) -> None:
    """An action that is none is reported before anything is sent."""
    auth = TunedDigestAuth(server.url, signer, action=lambda method, path: "write")
    with httpx.Client(auth=auth) as client, pytest.raises(TunedDigestError, match="write"):
        client.get(server.url)
    assert server.requests == []


def test_an_auth_object_is_deep_copied_without_its_nonces(server: Served, signer: Ed25519Signer) -> None:
    """A deep copy signs, and starts a chain of its own."""
    auth = TunedDigestAuth(server.url, signer)
    with httpx.Client() as client:
        client.get(server.url, auth=auth)
        assert client.get(server.url, auth=copy.deepcopy(auth)).status_code == 200
        assert client.get(server.url, auth=auth).status_code == 200
    assert server.statuses == [401, 200, 401, 200, 200]


def test_a_stream_that_is_no_generator_is_closed() -> None:
    """What was read in part is closed, whatever kind of iterator it is read with."""

    class Chunks(httpx.AsyncByteStream):
        closed = False

        def __aiter__(self) -> Self:
            return self

        async def __anext__(self) -> bytes:
            return b"chunk"

        async def aclose(self) -> None:
            self.closed = True

    chunks = Chunks()
    anyio.run(_ResumedStream(aiter(chunks), chunks).aclose)
    assert chunks.closed


@pytest.fixture
def http2(certificate: Certificate, ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`, over HTTP/2."""
    ledger.forwards_on_redirect = True
    server = serve_http2(verified(), certfile=certificate.path, keyfile=certificate.key_path)
    with ledger.watch(server) as served:
        yield served


@pytest.fixture
def http2_options(certificate: Certificate, http2: Served, signer: Ed25519Signer) -> dict[str, Any]:
    """What a client of that server is made with."""
    trusted = ssl.create_default_context(cafile=certificate.path)
    auth = TunedDigestAuth(http2.url, signer)
    return {"http2": True, "verify": trusted, "auth": auth, "follow_redirects": True, "timeout": 30}


def test_a_chain_goes_over_http2(http2: Served, http2_options: dict[str, Any]) -> None:
    """Over HTTP/2 requests with and without bodies are signed, redirected and chained."""
    with httpx.Client(**http2_options) as client:
        for content in (None, b"bytes", iter([b"one ", b"two"])):
            response = client.patch(f"{http2.url}/echo?q=1", content=content)
            assert (response.status_code, response.http_version) == (200, "HTTP/2")
        response = client.patch(
            f"{http2.url}/redirect?status=307&to=/target", content=iter([b"one ", b"two"])
        )
        assert response.json()["size"] == 7
    assert http2.statuses == [401, 200, 200, 200, 307, 401, 200]


def test_requests_at_once_share_one_http2_connection(http2: Served, http2_options: dict[str, Any]) -> None:
    """Sixteen requests on one connection at once carry sixteen nonces."""
    statuses: list[int] = []

    async def run() -> None:
        async with httpx.AsyncClient(**http2_options) as client:

            async def send(number: int) -> None:
                statuses.append((await client.get(f"{http2.url}/{number}")).status_code)

            for _ in range(2):
                async with anyio.create_task_group() as group:
                    for number in range(16):
                        group.start_soon(send, number)

    anyio.run(run)
    assert statuses == [200] * 32
    assert http2.statuses.count(401) == 16


def test_a_transport_that_tries_again_sends_no_nonce_again(ledger: Ledger, signer: Ed25519Signer) -> None:
    """A transport's retries are for connecting: what was sent and broke off is not sent again."""
    issuer = Issuer()

    def respond(wire: Wire, recorded: Recorded) -> None:
        if recorded.target == "/fault":
            wire.reset()
        else:
            issuer(wire, recorded)

    with (
        ledger.watch(record(respond)) as server,
        httpx.Client(
            auth=TunedDigestAuth(server.url, signer), transport=httpx.HTTPTransport(retries=3)
        ) as client,
    ):
        client.get(server.url)
        with pytest.raises(httpx.TransportError):
            client.get(f"{server.url}/fault")
        assert client.get(server.url).status_code == 200
    assert server.statuses == [401, 200, 0, 401, 200]


def test_event_hooks_see_every_hop(ledger: Ledger, signer: Ed25519Signer) -> None:
    """Hooks run for each send of a redirect: the field that httpx forwards, and the fresh one."""
    ledger.forwards_on_redirect = True
    seen: list[tuple[str, bool, int]] = []

    def note(response: httpx.Response) -> None:
        request = response.request
        seen.append((request.url.path, "Authorization" in request.headers, response.status_code))

    with (
        ledger.watch(serve(verified())) as server,
        httpx.Client(
            auth=TunedDigestAuth(server.url, signer), event_hooks={"response": [note]}, follow_redirects=True
        ) as client,
    ):
        assert client.get(f"{server.url}/redirect?status=302&to=/target").status_code == 200
    assert seen == [
        ("/redirect", False, 401),
        ("/redirect", True, 302),
        ("/target", True, 401),
        ("/target", True, 200),
    ]


def test_a_hook_that_raises_for_a_401_is_heard(server: Served, signer: Ed25519Signer) -> None:
    """A hook that raises for status does so for a challenge too; under a nonce it has no reason to."""
    hooks = {"response": [lambda response: response.raise_for_status()]}
    auth = TunedDigestAuth(server.url, signer)
    with httpx.Client(auth=auth, event_hooks=hooks) as client, pytest.raises(httpx.HTTPStatusError):
        client.get(server.url)
    with httpx.Client(auth=auth) as client:
        client.get(server.url)
    with httpx.Client(auth=auth, event_hooks=hooks) as client:
        assert client.get(server.url).status_code == 200


def test_auth_of_a_call_comes_before_the_clients(server: Served, signer: Ed25519Signer) -> None:
    """Auth given with a call is used in place of the client's."""
    caller = Ed25519Signer.generate()
    with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        client.get(server.url)
        response = client.get(server.url, auth=TunedDigestAuth(server.url, caller))
    assert response.json()["caller"] == caller.identity


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_priming_over_a_transport_in_memory(signer: Ed25519Signer, is_async: bool) -> None:
    """Responses to priming that are in memory already are let go of like any other."""
    sent: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        if "Authorization" not in request.headers:
            return httpx.Response(401, headers=CHALLENGE)
        value = f"nextnonce=BBBB;argon={QUICK};scopes=update"
        return httpx.Response(200, headers={"Authentication-Info": value})

    transport, url = httpx.MockTransport(respond), "https://api.example.com/"
    auth = TunedDigestAuth(url, signer, resources=Resources(prime_above_kib=1))

    async def upload() -> int:
        async with httpx.AsyncClient(auth=auth, transport=transport) as client:
            return (await client.patch(url, content=bytes(2000))).status_code

    with httpx.Client(auth=auth, transport=transport) as client:
        status = anyio.run(upload) if is_async else client.patch(url, content=bytes(2000)).status_code
    assert (status, sent) == (200, ["HEAD", "HEAD", "PATCH"])
