"""What is httpx's own: hooks, transports, streams, HTTP/2, auth of a client and of a call."""

import pickle
import ssl
from collections.abc import Iterator
from typing import Any, Self

import anyio
import httpx
import pytest
import respx

from tuned_digest import ArgumentError, Ed25519Signer, LimitExceededError, Resources, TunedDigestError
from tuned_digest.httpx import TunedDigestAuth

from .certificates import Certificate
from .field_server import challenge, next_nonce, scripted, verified
from .issuing import at
from .ledger import Ledger
from .raw_server import Issuer, record
from .serving import Served, serve, serve_http2

CHALLENGE = dict([challenge("AAAA")])


class TestHooks:
    def test_event_hooks_see_every_send(self, server: Served, signer: Ed25519Signer) -> None:
        """Request hooks run for the unsigned request and the signed one; response hooks may read the 401."""
        sent: list[bool] = []

        def note(request: httpx.Request) -> None:
            sent.append("Authorization" in request.headers)

        hooks = {"request": [note], "response": [lambda response: response.read()]}
        with httpx.Client(auth=TunedDigestAuth(server.url, signer), event_hooks=hooks) as client:
            assert client.get(server.url).status_code == 200
        assert sent == [False, True]

    def test_a_401_read_by_an_async_hook_is_answered(self, server: Served, signer: Ed25519Signer) -> None:
        """A response that a hook of an async client has read is answered from what is in memory."""

        async def run() -> int:
            async def read(response: httpx.Response) -> None:
                await response.aread()

            auth = TunedDigestAuth(server.url, signer)
            async with httpx.AsyncClient(auth=auth, event_hooks={"response": [read]}) as client:
                return (await client.get(server.url)).status_code

        assert anyio.run(run) == 200

    def test_a_401_closed_by_a_hook_is_httpxs_own_matter(self, server: Served, signer: Ed25519Signer) -> None:
        """A hook that closes a 401 has httpx say so, and not us."""
        hooks = {"response": [lambda response: response.close()]}
        auth = TunedDigestAuth(server.url, signer)
        # What httpx itself reads of a response before it goes on is not there any more.
        with httpx.Client(auth=auth, event_hooks=hooks) as client, pytest.raises(httpx.StreamClosed):
            client.get(server.url)

    def test_event_hooks_see_every_hop(self, ledger: Ledger, signer: Ed25519Signer) -> None:
        """Hooks run for each send of a redirect: the field that httpx forwards, and the fresh one."""
        ledger.forwards_on_redirect = True
        seen: list[tuple[str, bool, int]] = []

        def note(response: httpx.Response) -> None:
            request = response.request
            seen.append((request.url.path, "Authorization" in request.headers, response.status_code))

        with (
            ledger.watch(serve(verified())) as server,
            httpx.Client(
                auth=TunedDigestAuth(server.url, signer),
                event_hooks={"response": [note]},
                follow_redirects=True,
            ) as client,
        ):
            assert client.get(f"{server.url}/redirect?status=302&to=/target").status_code == 200
        assert seen == [
            ("/redirect", False, 401),
            ("/redirect", True, 302),
            ("/target", True, 401),
            ("/target", True, 200),
        ]

    def test_a_hook_that_raises_for_a_401_is_heard(self, server: Served, signer: Ed25519Signer) -> None:
        """A hook that raises for status does so for a challenge too; under a nonce it has no reason to."""
        hooks = {"response": [lambda response: response.raise_for_status()]}
        auth = TunedDigestAuth(server.url, signer)
        with httpx.Client(auth=auth, event_hooks=hooks) as client, pytest.raises(httpx.HTTPStatusError):
            client.get(server.url)
        with httpx.Client(auth=auth) as client:
            client.get(server.url)
        with httpx.Client(auth=auth, event_hooks=hooks) as client:
            assert client.get(server.url).status_code == 200


class TestTransports:
    def test_a_mock_transport_is_answered(self, signer: Ed25519Signer) -> None:
        """A 401 that is in memory already is answered like any other."""
        statuses = iter([httpx.Response(401, headers=CHALLENGE), httpx.Response(200)])
        transport = httpx.MockTransport(lambda request: next(statuses))
        auth = TunedDigestAuth("https://api.example.com", signer)
        with httpx.Client(auth=auth, transport=transport) as client:
            assert client.get("https://api.example.com/").status_code == 200

    def test_an_upgrade_to_https_is_signed_afresh(self, signer: Ed25519Signer) -> None:
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

    def test_a_client_over_a_transport_without_origins_is_left_alone(self, signer: Ed25519Signer) -> None:
        """A URL that has no http origin is sent as it is."""
        transport = httpx.MockTransport(lambda request: httpx.Response(401, headers=CHALLENGE))
        with httpx.Client(auth=TunedDigestAuth("*", signer), mounts={"unix://": transport}) as client:
            assert client.get("unix://socket/").status_code == 401

    @respx.mock
    def test_a_lost_connection_costs_its_nonce_and_nothing_else(self, signer: Ed25519Signer) -> None:
        """After a timeout the nonce that was sent is never sent again, and the next request goes through."""
        seen: list[str | None] = []

        def respond(request: httpx.Request) -> httpx.Response:
            seen.append(request.headers.get("Authorization"))
            if len(seen) == 1:
                return httpx.Response(200, headers=dict([next_nonce("AAAA")]))
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

    def test_a_transport_that_tries_again_sends_no_nonce_again(
        self, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A transport's retries are for connecting: what was sent and broke off is not sent again."""
        with (
            ledger.watch(record(at("/fault", lambda wire, recorded: wire.reset(), Issuer()))) as server,
            httpx.Client(
                auth=TunedDigestAuth(server.url, signer), transport=httpx.HTTPTransport(retries=3)
            ) as client,
        ):
            client.get(server.url)
            with pytest.raises(httpx.TransportError):
                client.get(f"{server.url}/fault")
            assert client.get(server.url).status_code == 200
        assert server.statuses == [401, 200, 0, 401, 200]

    @pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
    def test_priming_over_a_transport_in_memory(self, signer: Ed25519Signer, is_async: bool) -> None:
        """Responses to priming that are in memory already are let go of like any other."""
        sent: list[str] = []

        def respond(request: httpx.Request) -> httpx.Response:
            sent.append(request.method)
            if "Authorization" not in request.headers:
                return httpx.Response(401, headers=CHALLENGE)
            return httpx.Response(200, headers=dict([next_nonce("BBBB")]))

        transport, url = httpx.MockTransport(respond), "https://api.example.com/"
        auth = TunedDigestAuth(url, signer, resources=Resources(prime_above_kib=1))

        async def upload() -> int:
            async with httpx.AsyncClient(auth=auth, transport=transport) as client:
                return (await client.patch(url, content=bytes(2000))).status_code

        with httpx.Client(auth=auth, transport=transport) as client:
            status = anyio.run(upload) if is_async else client.patch(url, content=bytes(2000)).status_code
        assert (status, sent) == (200, ["HEAD", "HEAD", "PATCH"])

    def test_a_stream_that_is_no_generator_is_closed(self, signer: Ed25519Signer) -> None:
        """A 401's body that was read in part is closed, whatever kind of iterator it is read with."""

        class Chunks(httpx.AsyncByteStream):
            closed = False

            def __aiter__(self) -> Self:
                return self

            async def __anext__(self) -> bytes:
                return bytes(65536)

            async def aclose(self) -> None:
                self.closed = True

        chunks = Chunks()
        request = httpx.Request("GET", "https://api.example.com/")

        async def drive() -> httpx.Request:
            # By hand: a client wraps each stream in one that is read with a generator.
            auth = TunedDigestAuth("https://api.example.com", signer)
            flow = auth.async_auth_flow(request)
            sent = await anext(flow)
            answer: httpx.Request = await flow.asend(
                httpx.Response(401, headers=CHALLENGE, stream=chunks, request=sent)
            )
            return answer

        assert "Authorization" in anyio.run(drive).headers
        assert chunks.closed


class TestAuth:
    def test_auth_none_sends_unsigned(self, server: Served, signer: Ed25519Signer) -> None:
        """`auth=None` on a call switches signing off for it."""
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            assert client.get(server.url, auth=None).status_code == 401
        assert server.requests[0].field("Authorization") == []

    def test_auth_of_a_call_comes_before_the_clients(self, server: Served, signer: Ed25519Signer) -> None:
        """Auth given with a call is used in place of the client's."""
        caller = Ed25519Signer.generate()
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            client.get(server.url)
            response = client.get(server.url, auth=TunedDigestAuth(server.url, caller))
        assert response.json()["caller"] == caller.identity

    def test_a_streamed_response_is_not_read(self, signer: Ed25519Signer) -> None:
        """A successful response that is streamed reaches the caller unread."""
        with (
            serve(scripted((401, [challenge("AAAA")], b""), (200, [], b"x" * 100_000))) as server,
            httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client,
            client.stream("GET", server.url) as response,
        ):
            assert not response.is_stream_consumed
            assert len(response.read()) == 100_000

    def test_a_plain_function_that_gives_an_awaitable_may_sign(
        self, server: Served, signer: Ed25519Signer
    ) -> None:
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

    def test_a_flow_that_does_not_say_whether_it_may_block_is_refused(self, signer: Ed25519Signer) -> None:
        """Composing with `auth_flow` fails loudly, rather than sending requests unsigned."""
        with pytest.raises(ArgumentError, match="sync_auth_flow"):
            TunedDigestAuth("*", signer).auth_flow(httpx.Request("GET", "https://api.example.com"))

    def test_an_action_function_that_makes_one_up_is_an_error(
        self, server: Served, signer: Ed25519Signer
    ) -> None:
        """An action that is none is reported before anything is sent."""
        auth = TunedDigestAuth(server.url, signer, action=lambda method, path: "write")
        with httpx.Client(auth=auth) as client, pytest.raises(TunedDigestError, match="write"):
            client.get(server.url)
        assert server.requests == []


class TestErrors:
    def test_a_401_that_breaks_off_names_its_request(self, signer: Ed25519Signer) -> None:
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

    def test_errors_pickle_and_keep_their_evidence(self, signer: Ed25519Signer) -> None:
        """An error out of a client pickles, without the request, and is still of both families."""
        too_dear = dict([challenge("AAAA", "$argon2d$v=19$m=4194304,t=1,p=1")])
        transport = httpx.MockTransport(lambda request: httpx.Response(401, headers=too_dear))
        auth = TunedDigestAuth("*", signer)
        with (
            httpx.Client(auth=auth, transport=transport) as client,
            pytest.raises(LimitExceededError) as raised,
        ):
            client.get("https://api.example.com/")
        restored = pickle.loads(pickle.dumps(raised.value))
        assert isinstance(restored, LimitExceededError)
        assert isinstance(restored, httpx.RequestError)
        assert (restored.limit, restored.asked, restored.allowed) == ("max_memory_kib", 4194304, 524288)
        assert str(restored) == str(raised.value)


class TestHttp2:
    @pytest.fixture
    def http2(self, certificate: Certificate, ledger: Ledger) -> Iterator[Served]:
        """The verified application of `field_server`, over HTTP/2."""
        ledger.forwards_on_redirect = True
        server = serve_http2(verified(), certfile=certificate.path, keyfile=certificate.key_path)
        with ledger.watch(server) as served:
            yield served

    @pytest.fixture
    def options(self, certificate: Certificate, http2: Served, signer: Ed25519Signer) -> dict[str, Any]:
        """What a client of that server is made with."""
        trusted = ssl.create_default_context(cafile=certificate.path)
        auth = TunedDigestAuth(http2.url, signer)
        return {"http2": True, "verify": trusted, "auth": auth, "follow_redirects": True, "timeout": 30}

    def test_a_chain_goes_over_http2(self, http2: Served, options: dict[str, Any]) -> None:
        """Over HTTP/2 requests with and without bodies are signed, redirected and chained."""
        with httpx.Client(**options) as client:
            for content in (None, b"bytes", iter([b"one ", b"two"])):
                response = client.patch(f"{http2.url}/echo?q=1", content=content)
                assert (response.status_code, response.http_version) == (200, "HTTP/2")
            response = client.patch(
                f"{http2.url}/redirect?status=307&to=/target", content=iter([b"one ", b"two"])
            )
            assert response.json()["size"] == 7
        assert http2.statuses == [401, 200, 200, 200, 307, 401, 200]

    def test_requests_at_once_share_one_http2_connection(
        self, http2: Served, options: dict[str, Any]
    ) -> None:
        """Sixteen requests on one connection at once carry sixteen nonces."""
        statuses: list[int] = []

        async def run() -> None:
            async with httpx.AsyncClient(**options) as client:

                async def send(number: int) -> None:
                    statuses.append((await client.get(f"{http2.url}/{number}")).status_code)

                for _ in range(2):
                    async with anyio.create_task_group() as group:
                        for number in range(16):
                            group.start_soon(send, number)

        anyio.run(run)
        assert statuses == [200] * 32
        assert http2.statuses.count(401) == 16
