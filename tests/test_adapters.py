"""What holds for every adapter, over real sockets: one suite, parametrised by client."""

import base64
import gzip
import hashlib
import io
import json
import logging
import pickle
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import httpx
import pytest
import requests

from tuned_digest import (
    ArgumentError,
    BodyError,
    Ed25519Signer,
    LimitExceededError,
    Limits,
    MalformedFieldError,
    MemoryNonceCache,
    Resources,
    TunedDigestError,
    UnsupportedAlgorithmError,
    Work,
    _auth,
    _drivers,
    _journey,
    events,
)
from tuned_digest._work import WorkLimiter
from tuned_digest.challenge import NextNonce
from tuned_digest.errors import WorkTimeoutError
from tuned_digest.origins import Origin
from tuned_digest.server.asgi import Receive, Scope, Send

from .clients import ASYNC, CLIENTS, Client, Connect
from .field_server import answer, challenge, decided, field, next_nonce, read, scripted, verified
from .serving import QUICK, Served, serve

LONG_SEARCH = "long35"
"""A nonce under which the search for 17 zero bits takes between 131,072 and 196,608 tries for ``GET /``."""

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())


class TestVectors:
    @pytest.mark.parametrize(
        "vector", VECTORS["argon2"] + VECTORS["blake3"], ids=lambda vector: vector["name"]
    )
    def test_known_answers_leave_every_client_to_the_last_character(
        self, connect: Connect, vector: dict[str, Any]
    ) -> None:
        """Every vector's challenge is answered with the vector's Authorization field."""
        signer = Ed25519Signer.from_seed(_decoded(vector["seed"]))
        salt = _decoded(vector.get("salt", "A" * 22))
        asked = (401, [("WWW-Authenticate", vector["www_authenticate"])], b"")
        with (
            serve(scripted(asked, (200, [], b""))) as served,
            connect(served.url, signer, _randomness=lambda size: salt) as client,
        ):
            client.send(vector["method"], served.url + vector["path"], body=_decoded(vector["body"]))
        assert [seen.target for seen in served.requests] == [vector["path"]] * 2
        assert served.requests[0].field("Authorization") == []
        assert served.requests[1].field("Authorization") == [vector["authorization"]]


class TestRoundTrips:
    def test_a_chain_costs_one_round_trip_each(self, client: Client, server: Served) -> None:
        """200 requests after the first cost exactly 200 round trips, 401s counted."""
        client.send("GET", f"{server.url}/first")
        before = len(server.requests)
        for number in range(200):
            assert client.send("GET", f"{server.url}/{number}").status == 200
        assert len(server.requests) - before == 200

    def test_concurrent_workers_are_challenged_once_each_at_most(
        self, client: Client, server: Served
    ) -> None:
        """32 workers doing 640 requests cost at most 640 + 32 round trips."""
        statuses: list[int] = []

        def work() -> None:
            statuses.extend(client.send("GET", f"{server.url}/{number}").status for number in range(20))

        workers = [threading.Thread(target=work) for _ in range(32)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert statuses == [200] * 640
        assert len(server.requests) <= 640 + 32

    def test_a_view_for_an_action_shares_nonces(self, blobs: Served, connect: Connect) -> None:
        """A create under `for_action` uses the create nonce that an ordinary response brought."""
        with connect(blobs.url, Ed25519Signer.generate()) as client:
            client.send("GET", f"{blobs.url}/blobs/welcome")
            created = client.send(
                "PUT", f"{blobs.url}/blobs/new", body=b"x", auth=client.auth.for_action("create")
            )
            assert client.send("GET", f"{blobs.url}/blobs/new").content == b"x"
        assert created.status == 201
        assert blobs.statuses == [401, 200, 201, 200]

    def test_a_wrong_guess_costs_one_more(self, connect: Connect, blobs: Served) -> None:
        """A PUT taken for an update is challenged once when the server finds it a create."""
        with connect(blobs.url, Ed25519Signer.generate()) as client:
            client.send("GET", f"{blobs.url}/blobs/welcome")
            assert client.send("PUT", f"{blobs.url}/blobs/new", body=b"x").status == 201
            assert client.send("PATCH", f"{blobs.url}/blobs/new", body=b"y").status == 200
            assert client.send("POST", f"{blobs.url}/blobs", body=b"z").status == 201
            assert client.send("DELETE", f"{blobs.url}/blobs/new").status == 204
        assert blobs.statuses == [401, 200, 401, 201, 200, 401, 201, 204]

    @pytest.mark.parametrize("status", [200, 204, 400, 404, 429])
    def test_next_nonces_are_harvested_whatever_the_status(
        self, client: Client, server: Served, status: int
    ) -> None:
        """A response of any status but 401 and 5xx brings the nonce of the next request."""
        assert client.send("GET", f"{server.url}/status?status={status}").status == status
        assert client.send("GET", f"{server.url}/after").status == 200
        assert server.statuses == [401, status, 200]

    def test_a_server_error_costs_the_chain(self, client: Client, server: Served) -> None:
        """A 500 brings no next nonce, and the next request recovers with one more round trip."""
        client.send("GET", f"{server.url}/status?status=500")
        assert client.send("GET", f"{server.url}/after").status == 200
        assert server.statuses == [401, 500, 401, 200]

    def test_a_restarted_server_costs_one_round_trip(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A chained nonce the server does not know is answered with a challenge, and that once."""
        apps = [verified(), verified()]

        async def restarting(scope: Scope, receive: Receive, send: Send) -> None:
            await apps[0](scope, receive, send)

        with serve(restarting) as served, connect(served.url, signer) as client:
            client.send("GET", f"{served.url}/before")
            apps.pop(0)
            assert client.send("GET", f"{served.url}/after").status == 200
        assert served.statuses == [401, 200, 401, 200]


class TestDialectsAndSchemes:
    @pytest.mark.parametrize("dialect", ["deployed", "list"])
    @pytest.mark.parametrize("scheme", ["tuned-digest-signature", "asym-tuned-digest-signature"])
    def test_both_schemes_are_spoken_in_both_dialects(
        self, connect: Connect, signer: Ed25519Signer, dialect: str, scheme: str
    ) -> None:
        """A server writing either dialect is answered in kind under either scheme."""
        with (
            serve(verified(dialect=dialect)) as served,
            connect(served.url, signer, schemes=[scheme]) as client,
        ):
            assert client.send("GET", f"{served.url}/first").status == 200
            assert client.send(
                "POST", f"{served.url}/second", body=b"x", auth=client.auth.for_action("create")
            )
        assert served.statuses == [401, 200, 200]
        for seen in served.requests[1:]:
            (value,) = seen.field("Authorization")
            assert value.lower().startswith(scheme)
            assert (", " in value) == (dialect == "list")

    def test_an_unknown_algorithm_is_passed_over(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Where one challenge is of an unknown algorithm, the other is answered."""
        search = (
            "WWW-Authenticate",
            "asym-tuned-digest-signature nonce=AAAA;algorithm=blake3$1;actions=read",
        )
        asked = (401, [challenge("AAAA", "$argon3$v=1$m=1"), search], b"")
        with serve(scripted(asked, (200, [], b""))) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).status == 200
        assert served.requests[1].field("Authorization")[0].startswith("asym-")

    def test_the_fallback_field_is_read(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A challenge in uno-www-authn alone is answered."""
        asked = (
            401,
            [("uno-www-authn", "asym-tuned-digest-signature nonce=AAAA;algorithm=blake3$1;actions=read")],
            b"",
        )
        with serve(scripted(asked, (200, [], b""))) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).status == 200

    def test_a_prefix_is_left_out_of_the_signature(self, connect: Connect, blobs: Served) -> None:
        """With `signed_path` a server that verifies the path behind its prefix accepts the request."""
        with connect(
            blobs.url, Ed25519Signer.generate(), signed_path=lambda path: path.removeprefix("/v2")
        ) as client:
            assert client.send("GET", f"{blobs.url}/v2/blobs/welcome").status == 200
        with connect(blobs.url, Ed25519Signer.generate()) as client:
            assert client.send("GET", f"{blobs.url}/v2/blobs/welcome").status == 401

    def test_paths_are_signed_as_on_the_wire(self, client: Client, server: Served) -> None:
        """Percent-encoding, parameters and a query leave the signature good."""
        for path in ("/caf%C3%A9/a%20b/%2F:x;y=1?q=%20&r=1", "/", "/?", "/a//b", "/%7Euser", "/a'(b)*!"):
            assert client.send("GET", server.url + path).status == 200, path


def _async_chunks() -> AsyncIterator[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk

    return chunks()


CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)


class TestBodies:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            pytest.param({"body": WHOLE}, WHOLE, id="bytes"),
            pytest.param({"body": "na\u00efve \u2713"}, "na\u00efve \u2713".encode(), id="text"),
            pytest.param({"json": {"a": [1, 2]}}, None, id="json"),
            pytest.param({"form": {"a": "1", "b": "x y"}}, b"a=1&b=x+y", id="form"),
            pytest.param({"files": {"part": ("name.txt", WHOLE)}}, None, id="multipart"),
            pytest.param({}, b"", id="none"),
        ],
    )
    def test_bodies_in_memory_are_sent_twice_alike(
        self, client: Client, server: Served, options: dict[str, Any], expected: bytes | None
    ) -> None:
        """A body in memory arrives whole after a challenge, and verifies."""
        self._check(client, server, options, expected)

    def test_an_open_file_is_sent_from_where_it_stands(
        self, client: Client, server: Served, tmp_path: Path
    ) -> None:
        """A file opened and read in part is sent from there, with the right length, twice."""
        (tmp_path / "file").write_bytes(b"skipped " + WHOLE)
        with (tmp_path / "file").open("rb") as file:
            file.seek(8)
            echo = self._check(client, server, {"body": file}, WHOLE)
        assert echo["length"] == str(len(WHOLE))
        assert echo["coding"] is None

    def test_a_file_part_is_sent_twice_alike(self, client: Client, server: Served, tmp_path: Path) -> None:
        """A multipart upload of an open file arrives whole after a challenge."""
        (tmp_path / "file").write_bytes(WHOLE)
        with (tmp_path / "file").open("rb") as file:
            self._check(client, server, {"files": {"part": file}}, None)

    def test_an_unseekable_file_part_is_sent_twice_alike(self, client: Client, server: Served) -> None:
        """A part that can be read once is not lost on the second send."""

        class Unseekable(io.BytesIO):
            def seekable(self) -> bool:
                return False

            def seek(self, *args: Any) -> int:
                raise io.UnsupportedOperation

            def tell(self) -> int:
                raise io.UnsupportedOperation

        first = self._check(client, server, {"files": {"part": ("f", Unseekable(WHOLE))}}, None)
        assert first["size"] > len(WHOLE)

    def test_a_generator_is_sent_twice_alike(self, client: Client, server: Served) -> None:
        """A generator is read once, and sent twice, chunked."""
        echo = self._check(client, server, {"body": (chunk for chunk in CHUNKS)}, WHOLE)
        assert (echo["length"], echo["coding"]) == (None, "chunked")

    def test_an_iterator_that_is_no_generator_is_sent_twice_alike(
        self, client: Client, server: Served
    ) -> None:
        """A plain iterator, which libraries send empty the second time, is sent whole."""
        self._check(client, server, {"body": iter(CHUNKS)}, WHOLE)

    def test_a_body_beyond_the_spool_goes_to_a_file(
        self, connect: Connect, server: Served, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A generator larger than the spool is sent whole, and leaves no file behind."""
        resources = Resources(spool_kib=64, spool_dir=str(tmp_path))
        chunks = [bytes([number]) * 50_000 for number in range(40)]
        with connect(server.url, signer, resources=resources) as client:
            self._check(client, server, {"body": iter(chunks)}, b"".join(chunks))
        assert list(tmp_path.iterdir()) == []

    def test_a_spool_that_cannot_be_written_is_our_error(
        self, connect: Connect, server: Served, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A missing spool directory is reported before anything is sent."""
        resources = Resources(spool_kib=1, spool_dir=str(tmp_path / "missing"))
        with connect(server.url, signer, resources=resources) as client:
            with pytest.raises(BodyError, match="spool_dir") as raised:
                client.send("POST", server.url, body=iter([b"x" * 4096]))
            assert isinstance(raised.value, client.library_error)
        assert server.requests == []

    def test_the_second_request_sends_a_body_once(self, client: Client, server: Served) -> None:
        """Under a chained nonce a generator is sent once."""
        client.send("GET", server.url)
        self._check(client, server, {"body": iter(CHUNKS)}, WHOLE, method="PATCH")
        assert server.statuses == [401, 200, 200]

    def _check(
        self,
        client: Client,
        server: Served,
        options: dict[str, Any],
        expected: bytes | None,
        method: str = "POST",
    ) -> dict[str, Any]:
        result = client.send(method, f"{server.url}/echo", **options)
        assert result.status == 200
        echo: dict[str, Any] = json.loads(result.content)
        if expected is not None:
            assert echo["sha256"] == hashlib.sha256(expected).hexdigest()
        return echo


class TestAsyncBodies:
    @pytest.mark.parametrize("name", ASYNC)
    def test_an_async_generator_is_sent_twice_alike(
        self, name: str, server: Served, signer: Ed25519Signer
    ) -> None:
        """An async generator is read once, and sent twice."""
        with CLIENTS[name](server.url, signer) as client:
            result = client.send("PATCH", server.url, body=_async_chunks())
        assert json.loads(result.content)["sha256"] == hashlib.sha256(WHOLE).hexdigest()
        assert server.statuses == [401, 200]

    def test_an_async_body_in_a_blocking_client_is_our_error(
        self, server: Served, signer: Ed25519Signer
    ) -> None:
        """A blocking client refuses an async generator before anything is sent."""
        with CLIENTS["httpx"](server.url, signer) as client, pytest.raises(BodyError, match="async client"):
            client.send("PATCH", server.url, body=_async_chunks())
        assert server.requests == []


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
    @pytest.mark.parametrize("body", ["bytes", "generator"])
    def test_the_target_is_signed_for_what_it_is(
        self, client: Client, server: Served, status: int, method: str, body: str
    ) -> None:
        """A redirect on the origin is followed with its hop's method and body, one extra trip at most."""
        client.send("GET", f"{server.url}/first")
        before = len(server.requests)
        sent = None if method == "GET" else WHOLE if body == "bytes" else iter(CHUNKS)
        auth = client.auth.for_action(
            "create" if method == "POST" else "update" if method == "PATCH" else "read"
        )
        result = client.send(
            method, f"{server.url}/redirect?status={status}&to=/target", body=sent, auth=auth
        )
        assert result.status == 200
        echo = json.loads(result.content)
        keeps_method = status in (307, 308) or method == "GET" or (status == 301 and method == "PATCH")
        assert echo["method"] == (method if keeps_method else "GET") or (method, status) == ("PATCH", 302)
        if echo["method"] == method and method != "GET":
            assert echo["sha256"] in {hashlib.sha256(WHOLE).hexdigest(), hashlib.sha256(b"").hexdigest()}
            if status in (307, 308):
                assert echo["size"] == len(WHOLE)
        assert len(server.requests) - before <= 3
        nonces = [_nonce(value) for seen in server.requests for value in seen.field("Authorization")]
        # httpx forwards the field of the first hop (section 7); nothing else is sent twice.
        repeated = len(nonces) - len(set(nonces))
        assert repeated <= (1 if "httpx" in type(client).__name__.lower() else 0)

    def test_redirect_hops_bring_nonces(self, client: Client, server: Served) -> None:
        """The next nonces of a redirect are kept: the request after a chain costs one round trip."""
        client.send("GET", f"{server.url}/redirect?status=302&to=/target")
        before = len(server.requests)
        for _ in range(2):
            client.send("GET", f"{server.url}/after")
        assert len(server.requests) - before == 2

    def test_redirects_that_are_not_followed_are_returned(self, client: Client, server: Served) -> None:
        """With redirects off, the signed request's 302 goes to the caller."""
        result = client.send("GET", f"{server.url}/redirect?status=302&to=/target", follow=False)
        assert result.status == 302
        assert server.statuses == [401, 302]

    def test_a_loop_ends(self, client: Client, server: Served) -> None:
        """A redirect loop ends: in the library's own error, or where its limit counts us in, in a 401."""
        try:
            status = client.send("GET", f"{server.url}/redirect?status=302&to=/loop").status
        except (httpx.TooManyRedirects, requests.TooManyRedirects):
            status = 302
        assert status in (302, 401)
        assert len(server.requests) <= 2 * 31  # the most redirects a library follows, each challenged

    @pytest.mark.parametrize("status", [302, 307])
    def test_another_origin_gets_nothing_from_us(
        self, client: Client, server: Served, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A redirect to another origin carries no field of ours, and its challenge is left unanswered."""
        with serve(verified()) as other:
            caplog.set_level(logging.WARNING, "tuned_digest")
            for _ in range(2):
                result = client.send("GET", f"{server.url}/redirect?status={status}&to={other.url}/target")
                assert result.status == 401
        assert [seen.field("Authorization") for seen in other.requests] == [[], []]
        assert [record.message for record in caplog.records if other.url in record.message] == [
            f"{other.url}: a challenge is left unanswered: the auth object serves {server.url}"
        ]

    def test_any_origin_does_not_mean_wherever_a_redirect_leads(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """With "*" a redirect to another origin is not signed; a request of its own there is."""
        with serve(verified()) as other, connect("*", signer) as client:
            assert client.send("GET", f"{server.url}/redirect?status=302&to={other.url}/target").status == 401
            assert client.send("GET", f"{other.url}/target").status == 200

    def test_an_origin_that_is_listed_is_served_after_a_redirect(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """A redirect between two listed origins is signed at both."""
        with serve(verified()) as other, connect([server.url, other.url], signer) as client:
            assert client.send("GET", f"{server.url}/redirect?status=302&to={other.url}/target").status == 200


class TestLateSigning:
    @pytest.mark.parametrize("status", [307, 308])
    def test_a_body_that_was_sent_elsewhere_is_not_signed_as_what_is_left(
        self, client: Client, server: Served, status: int
    ) -> None:
        """A stream that another origin got before its redirect to ours is an error, never an empty body."""
        # A blocking stream to an origin that is not served is httpx's own matter in an async client.
        expected = (BodyError, httpx.StreamConsumed, RuntimeError)
        location = ("Location", f"{server.url}/put")
        with serve(scripted((status, [location], b""))) as other, pytest.raises(expected):
            client.send("PATCH", other.url, body=iter(CHUNKS))
        assert 200 not in server.statuses

    def test_bytes_that_were_sent_elsewhere_are_signed(self, client: Client, server: Served) -> None:
        """Bytes survive a redirect from another origin to ours."""
        with serve(scripted((307, [("Location", f"{server.url}/put")], b""))) as other:
            result = client.send("PATCH", other.url, body=WHOLE)
        assert json.loads(result.content)["size"] == len(WHOLE)

    @pytest.mark.parametrize("path", ["/a%2fb", "/a[b]", "/a%c3%bc", "/a%20b|c"])
    def test_the_target_of_a_redirect_is_signed_as_it_is_sent(
        self, client: Client, server: Served, path: str
    ) -> None:
        """What a library makes of a Location is what is signed."""
        location = ("Location", f"{server.url}{path}")
        with serve(scripted((302, [location], b""))) as other:
            assert client.send("GET", other.url).status == 200

    def test_a_shared_cache_does_not_carry_work_past_the_limits(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """A nonce that another auth object stored is left out where its work is beyond our limits."""
        cache = MemoryNonceCache()
        with connect(server.url, signer, nonces=cache) as client:
            client.send("GET", server.url)
        search_only = {"schemes": ["asym-tuned-digest-signature"], "limits": Limits(max_memory_kib=8)}
        with connect(server.url, signer, nonces=cache, **search_only) as client:
            assert client.send("GET", server.url).status == 200
        with (
            connect(server.url, signer, nonces=cache, limits=Limits(max_memory_kib=8)) as client,
            pytest.raises(LimitExceededError),
        ):
            client.send("GET", server.url)

    def test_a_signed_path_that_is_empty_is_the_root(self, connect: Connect, signer: Ed25519Signer) -> None:
        """With the prefix alone as path, both ends sign ``/``."""

        def strip(path: str) -> str:
            return path.removeprefix("/v2")

        with (
            serve(verified(signed_path=strip)) as server,
            connect(server.url, signer, signed_path=strip) as client,
        ):
            assert client.send("GET", f"{server.url}/v2").status == 200

    def test_a_cookie_beyond_ascii_is_left_out(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A Set-Cookie that no request could carry does not keep the challenge from being answered."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            signed = any(key == b"authorization" for key, _ in scope["headers"])
            cookie = (b"set-cookie", "a=\u00e9".encode("latin-1"))
            await answer(send, 200 if signed else 401, [*_encoded([challenge("AAAA")]), cookie], b"")

        with serve(app) as server, connect(server.url, signer) as client:
            assert client.send("GET", server.url).status == 200


class TestRejections:
    @pytest.mark.parametrize("reason", ["unknown nonce", "scope mismatch"])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_passing_reason_is_answered_once_more(
        self, connect: Connect, signer: Ed25519Signer, reason: str, framing: str
    ) -> None:
        """A 401 to an answer is answered again after a reason that another worker may have caused."""
        body = json.dumps({"reason": reason, "action": "read"}).encode()
        nonces = iter(f"nonce{number}" for number in range(10))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = _encoded([challenge(next(nonces))])
            if framing == "length":
                await answer(send, 401, headers, body)
                return
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": body[:5], "more_body": True})
            await send({"type": "http.response.body", "body": body[5:]})

        with serve(app) as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
        assert (result.status, result.content) == (401, body)
        assert len(served.requests) == 3

    @pytest.mark.parametrize(
        "body", [b"", b'{"reason": "unknown identity"}', b"x" * 200_000, b"\x00\xff" * 40_000]
    )
    def test_a_rejection_goes_to_the_caller_whole(
        self, connect: Connect, signer: Ed25519Signer, body: bytes
    ) -> None:
        """A 401 to an answer is returned with its body, however long."""
        nonces = iter(f"nonce{number}" for number in range(10))
        app = decided(lambda scope, sent: (401, [challenge(next(nonces))], body))
        with serve(app) as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
        assert (result.status, result.content) == (401, body)
        assert result.history == [401]
        assert len(served.requests) == 2

    def test_a_compressed_rejection_goes_to_the_caller_whole(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A compressed 401 is decoded for the caller as any other response."""
        nonces = iter(f"nonce{number}" for number in range(10))
        encoded = gzip.compress(b"x" * 300_000)
        app = decided(
            lambda scope, sent: (401, [challenge(next(nonces)), ("Content-Encoding", "gzip")], encoded)
        )
        with serve(app) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).content == b"x" * 300_000

    def test_a_repeated_nonce_ends_it(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A challenge that repeats the nonce just sent is not answered again."""
        body = b'{"reason": "unknown nonce"}'
        with (
            serve(scripted((401, [challenge("AAAA")], body))) as served,
            connect(served.url, signer) as client,
        ):
            assert client.send("GET", served.url).status == 401
        assert len(served.requests) == 2

    def test_a_replayed_response_gives_no_nonce_twice(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A nonce that was spent is not stored again when a cache repeats the response that brought it."""
        seen: list[str] = []
        fresh = iter(f"fresh{number}" for number in range(100))

        def respond(scope: Scope, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            sent = [value.decode() for key, value in scope["headers"] if key == b"authorization"]
            if not sent:
                return 401, [challenge(next(fresh))], b""
            seen.append(_nonce(sent[0]))
            return 200, [next_nonce("AAAA")], b""

        with serve(decided(respond)) as served, connect(served.url, signer) as client:
            for _ in range(4):
                assert client.send("GET", served.url).status == 200
        assert len(seen) == len(set(seen)) == 4

    @pytest.mark.parametrize("reason", ["", "unknown nonce"])
    def test_a_server_that_never_accepts_is_given_up(
        self, connect: Connect, signer: Ed25519Signer, reason: str
    ) -> None:
        """401 for ever, with ever new nonces, ends after three sends."""
        nonces = iter(f"nonce{number}" for number in range(100))
        body = json.dumps({"reason": reason}).encode()
        app = decided(lambda scope, sent: (401, [challenge(next(nonces))], body))
        with serve(app) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).status == 401
        assert len(served.requests) <= 3

    def test_an_endless_401_is_cut_off(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Of a challenge's 401 no more than 64 KiB is read, and then it is answered."""
        cut_off = threading.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            if any(key == b"authorization" for key, _ in scope["headers"]):
                await answer(send, 200, [], b"")
                return
            headers = _encoded([challenge("AAAA")])
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            gone = False
            while not gone:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                gone = cut_off.is_set() or await _is_disconnected(receive)
            cut_off.set()

        with serve(app) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).status == 200
            assert cut_off.wait(30)

    def test_a_compressed_bomb_in_a_401_is_not_unpacked(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """What a challenge's 401 unpacks to does not matter: it is answered without."""
        bomb = gzip.compress(b"\x00" * 50_000_000)
        asked = (401, [challenge("AAAA"), ("Content-Encoding", "gzip")], bomb)
        with serve(scripted(asked, (200, [], b""))) as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
            assert result.status == 200
            assert len(result.raw.history[0].content) <= 65536

    def test_a_401_without_a_challenge_of_ours_goes_to_the_caller(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A Basic challenge is not ours to answer."""
        asked = (401, [("WWW-Authenticate", 'Basic realm="a, tuned-digest-signature nonce=x"')], b"no")
        with serve(scripted(asked)) as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
        assert (result.status, result.content, len(served.requests)) == (401, b"no", 1)

    @pytest.mark.parametrize("status", [403, 407, 429, 503])
    def test_other_refusals_go_to_the_caller(
        self, connect: Connect, signer: Ed25519Signer, status: int
    ) -> None:
        """A refusal that is not a 401 is left to the caller, whatever fields it has."""
        asked = (status, [challenge("AAAA"), ("Retry-After", "1")], b"")
        with serve(scripted(asked)) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).status == status
        assert len(served.requests) == 1


class TestErrors:
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
        assert len(served.requests) == 1

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
        assert _nonce(served.requests[1].field("Authorization")[0]) == "BBBB"

    def test_a_cheaper_scheme_is_not_fallen_back_to(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A tuning beyond the limits is an error though the other scheme could be answered."""
        search = (
            "WWW-Authenticate",
            "asym-tuned-digest-signature nonce=AAAA;algorithm=blake3$1;actions=read",
        )
        asked = (401, [challenge("AAAA"), search], b"")
        with (
            serve(scripted(asked)) as served,
            connect(served.url, signer, limits=Limits(max_memory_kib=8)) as client,
            pytest.raises(LimitExceededError, match=r"Limits\(max_memory_kib=64\)"),
        ):
            client.send("GET", served.url)

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

    def test_an_async_signer_needs_an_async_client(self, connect: Connect, server: Served) -> None:
        """An `AsyncSigner` signs in async clients, and is refused with an error in blocking ones."""
        signer = _AsyncSigner()
        with connect(server.url, signer) as client:
            if hasattr(client, "portal"):
                assert client.send("GET", server.url).status == 200
            else:
                with pytest.raises(ArgumentError, match="async client"):
                    client.send("GET", server.url)

    def test_a_signer_that_fails_is_heard(self, connect: Connect, server: Served) -> None:
        """An error of the caller's own signer reaches the caller as it is."""

        class Broken(_ForeignSigner):
            def sign(self, message: bytes, /) -> bytes:
                raise ConnectionRefusedError("the agent is gone")

        with connect(server.url, Broken()) as client, pytest.raises(ConnectionRefusedError):
            client.send("GET", server.url)


class TestOwnFields:
    def test_a_field_of_the_callers_own_is_kept(
        self, client: Client, server: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A request with an Authorization field of its own is not signed, and one warning says so."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        for _ in range(2):
            assert client.send("GET", server.url, headers={"Authorization": "Bearer x"}).status == 401
        assert [seen.field("Authorization") for seen in server.requests] == [["Bearer x"], ["Bearer x"]]
        assert [record.message for record in caplog.records] == [
            f"{server.url}: a request has an Authorization field of its own: it is kept, and not signed"
        ]

    def test_cookies_of_the_401_are_carried_to_the_retry(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """Cookies that a 401 sets, and the caller's own, are both on the retry, the newer value winning."""
        asked = (
            401,
            [challenge("AAAA"), ("Set-Cookie", "node=b; Path=/"), ("Set-Cookie", "far=1; Path=/far")],
            b"",
        )
        with serve(scripted(asked, (200, [], b""))) as served, connect(served.url, signer) as client:
            client.send("GET", f"{served.url}/near", headers={"Cookie": "mine=1; node=a"})
        assert served.requests[1].field("Cookie") == ["mine=1; node=b"]

    def test_a_malformed_field_of_ours_is_replaced(self, client: Client, server: Served) -> None:
        """A field of our schemes that nobody could have meant is overwritten when the request is signed."""
        sent = client.send("GET", server.url, headers={"Authorization": "tuned-digest-signature nonsense"})
        assert sent.status == 200

    def test_trace_is_not_signed(self, client: Client, server: Served) -> None:
        """TRACE is sent without a signature (section 3)."""
        assert client.send("TRACE", server.url).status == 400
        assert server.requests[0].field("Authorization") == []

    def test_nothing_is_left_on_a_request_that_is_sent_elsewhere(
        self, client: Client, server: Served, signer: Ed25519Signer
    ) -> None:
        """A request to an origin that is not served is sent as it was made."""
        with serve(field) as other:
            result = client.send("POST", f"{other.url}/x", body=WHOLE)
        assert result.status == 200
        assert "authorization" not in result.sent

    def test_another_schemes_challenge_elsewhere_is_no_news(
        self, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A 401 of an origin that is not served, with no challenge of ours, is returned without a warning."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with serve(scripted((401, [("WWW-Authenticate", "Basic realm=x")], b""))) as other:
            assert client.send("GET", other.url).status == 401
        assert caplog.records == []

    def test_a_cookie_for_elsewhere_is_not_carried(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A cookie that a 401 sets for another path is not on the retry."""
        asked = (401, [challenge("AAAA"), ("Set-Cookie", "far=1; Path=/far")], b"")
        with serve(scripted(asked, (200, [], b""))) as served, connect(served.url, signer) as client:
            client.send("GET", f"{served.url}/near")
        assert served.requests[1].field("Cookie") == []


class _ForeignSigner:
    """A key somewhere else: it notes which thread it is asked in."""

    def __init__(self) -> None:
        self._key = Ed25519Signer.generate()
        self.threads: list[int] = []

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    def sign(self, message: bytes, /) -> bytes:
        self.threads.append(threading.get_ident())
        return self._key.sign(message)


class _AsyncSigner:
    def __init__(self) -> None:
        self._key = Ed25519Signer.generate()

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    async def sign(self, message: bytes, /) -> bytes:
        return self._key.sign(message)


class _ForeignCache(MemoryNonceCache):
    """Not ours, as far as the adapter can tell: it notes which thread it is asked in."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def take(self, origin: Origin, action: str) -> NextNonce | None:
        self.threads.append(threading.get_ident())
        return super().take(origin, action)


class TestOffTheLoop:
    @pytest.mark.parametrize("name", ASYNC)
    def test_foreign_signers_and_caches_are_asked_in_worker_threads(self, name: str, server: Served) -> None:
        """What may call a network or a disk does not run on the event loop."""
        signer, cache = _ForeignSigner(), _ForeignCache()
        with CLIENTS[name](server.url, signer, nonces=cache) as client:
            assert client.send("GET", server.url).status == 200
            loop = client.portal.call(threading.get_ident)  # type: ignore[attr-defined]
        assert signer.threads
        assert loop not in signer.threads
        assert cache.threads
        assert loop not in cache.threads


class TestReports:
    def test_a_response_tells_what_it_took(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """A challenged request took two round trips and the work of one, a chained one a single trip."""
        seconds = iter([1.0, 1.5, 10.0, 10.25])
        with connect(server.url, signer, _clock=seconds.__next__) as client:
            reports = [client.send("GET", server.url).report for _ in range(2)]
        scheme = "tuned-digest-signature"
        assert reports == [
            events.Report(2, scheme, QUICK, seconds=0.5, reason="", next_nonces=2),
            events.Report(1, scheme, QUICK, seconds=0.25, reason="", next_nonces=2),
        ]

    def test_a_rejection_says_why(
        self, connect: Connect, signer: Ed25519Signer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The reason of a 401 to a signed request is in its report and, without secrets, in the log."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with (
            serve(verified(accounts=lambda identity: None)) as served,
            connect(served.url, signer) as client,
        ):
            result = client.send("GET", f"{served.url}/a%20b?token=hidden")
        assert result.status == 401
        assert result.report is not None
        assert (result.report.round_trips, result.report.reason) == (2, "unknown identity")
        message = f"{served.url}: GET /a%20b was rejected: unknown identity"
        assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", message)]

    def test_a_rejection_that_does_not_say_why_is_logged_too(
        self, connect: Connect, signer: Ed25519Signer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A 401 whose body says nothing is a rejection without a reason."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        app = scripted((401, [challenge("AAAA")], b""), (401, [challenge("BBBB")], b"go away"))
        with serve(app) as served, connect(served.url, signer) as client:
            result = client.send("POST", served.url)
        assert result.report is not None
        assert result.report.reason == ""
        assert [record.message for record in caplog.records] == [
            f"{served.url}: POST / was rejected: no reason given"
        ]

    @pytest.mark.parametrize("status", [401, 403])
    def test_what_was_never_signed_is_not_called_rejected(
        self, connect: Connect, signer: Ed25519Signer, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A refusal without a challenge of ours is reported as one trip, unsigned, and not logged."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with serve(scripted((status, [], b""))) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).report == events.Report(round_trips=1)
        assert caplog.records == []

    def test_no_report_is_made_for_others(self, client: Client) -> None:
        """The response of an origin that is not served has none."""
        with serve(field) as other:
            assert client.send("GET", other.url).report is None

    @pytest.mark.parametrize("trips", [2, 1], ids=["challenged", "chained"])
    def test_a_response_is_pickled_without_its_report(
        self, client: Client, server: Served, trips: int
    ) -> None:
        """A response pickles as its library says, its 401 with it, without a report."""
        results = [client.send("GET", server.url) for _ in range(2)]
        result = next(result for result in results if result.report and result.report.round_trips == trips)
        assert client.report(pickle.loads(pickle.dumps(result.raw))) is None

    def test_an_error_has_the_report_on_its_response(self, connect: Connect, signer: Ed25519Signer) -> None:
        """The response of a challenge that cannot be answered tells what it took until then."""
        asked = (401, [challenge("AAAA", "$scrypt$"), next_nonce("BBBB")], b"")
        with serve(scripted(asked)) as served, connect(served.url, signer) as client:
            with pytest.raises(UnsupportedAlgorithmError) as raised:
                client.send("GET", served.url)
            error: Any = raised.value
            assert client.report(error.response) == events.Report(round_trips=1, next_nonces=1)

    def test_a_redirects_target_has_a_report_of_its_own(self, client: Client, server: Served) -> None:
        """The report of a redirected request is about its last hop."""
        report = client.send("GET", f"{server.url}/redirect?status=302&to=/target").report
        assert report is not None
        assert (report.scheme, report.reason, report.next_nonces) == ("tuned-digest-signature", "", 2)


class TestMemory:
    def test_work_beyond_the_processs_memory_is_refused(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A tuning that alone takes more than `Resources` allow is an error that says how to allow it."""
        with (
            serve(scripted((401, [challenge("AAAA")], b""))) as served,
            connect(served.url, signer, resources=Resources(memory_kib=63)) as client,
        ):
            with pytest.raises(LimitExceededError, match=r"resources=Resources\(memory_kib=64\)") as raised:
                client.send("GET", served.url)
            assert isinstance(raised.value, client.library_error)
        assert (raised.value.limit, raised.value.asked, raised.value.allowed) == ("memory_kib", 64, 63)
        assert len(served.requests) == 1

    def test_a_next_nonce_beyond_the_processs_memory_is_dropped(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A next nonce that could not be answered is reported, and not used."""
        dropped: list[events.Event] = []
        with (
            serve(scripted((200, [next_nonce("AAAA")], b""))) as served,
            connect(
                served.url, signer, resources=Resources(memory_kib=63), on_event=dropped.append
            ) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [200, 200]
        assert [seen.field("Authorization") for seen in served.requests] == [[], []]
        assert [type(event) for event in dropped] == [events.NextNonceDropped] * 2
        assert all("memory_kib=64" in str(event) for event in dropped)


@pytest.fixture
def occupied(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkLimiter]:
    """A process whose one place for work is taken."""
    limiter, released = WorkLimiter(1), threading.Event()
    monkeypatch.setattr(_drivers, "process_limiter", lambda: limiter)
    running = limiter.submit(lambda: released.wait(60), QUICK)
    yield limiter
    released.set()
    assert running.result(60)


class TestTimeouts:
    @pytest.mark.parametrize("algorithm", ["$argon2d$v=19$m=64,t=1,p=8", "blake3$7"])
    def test_work_that_takes_too_long_is_an_error_of_both_families(
        self, connect: Connect, signer: Ed25519Signer, occupied: WorkLimiter, algorithm: str
    ) -> None:
        """Where no place comes free in time the request says how to allow more, and leaves the queue."""
        asked = challenge("AAAA", algorithm)
        if algorithm.startswith("blake3"):
            asked = asked[0], f"asym-{asked[1]}"
        with (
            serve(scripted((401, [asked], b""))) as served,
            connect(served.url, signer, resources=Resources(work_timeout=0.01)) as client,
        ):
            with pytest.raises(WorkTimeoutError, match=r"0\.01 seconds.*work_timeout") as raised:
                client.send("GET", served.url)
            assert isinstance(raised.value, TimeoutError)
            assert isinstance(raised.value, client.library_error)
            assert raised.value.seconds == 0.01
        assert len(served.requests) == 1
        assert not occupied._hashes
        assert not occupied._searches

    @pytest.mark.parametrize("name", ASYNC)
    def test_a_cancelled_request_leaves_the_queue(
        self, name: str, signer: Ed25519Signer, occupied: WorkLimiter
    ) -> None:
        """A task that is cancelled while its work waits for a place takes the work with it."""
        scopes: list[anyio.CancelScope] = []

        def cancel(event: events.Event) -> None:
            if isinstance(event, events.WorkStarted):
                scopes[0].cancel()

        asked = challenge("AAAA", "$argon2d$v=19$m=64,t=1,p=8")
        with (
            serve(scripted((401, [asked], b""))) as served,
            CLIENTS[name](served.url, signer, on_event=cancel) as client,
        ):

            async def cancelled() -> bool:
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    await client.client.get(served.url)  # type: ignore[attr-defined]
                return scope.cancelled_caught

            assert client.portal.call(cancelled)  # type: ignore[attr-defined]
        assert not occupied._hashes


class TestProgress:
    @pytest.mark.usefixtures("portable")
    def test_a_search_tells_how_far_it_is(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Every 65,536 tries the thread that searches reports, after an estimate of how long it takes."""
        seen: list[events.Event] = []
        threads: dict[type[events.Event], str] = {}

        def note(event: events.Event) -> None:
            seen.append(event)
            threads[type(event)] = threading.current_thread().name

        asked = (
            "WWW-Authenticate",
            f"asym-tuned-digest-signature nonce={LONG_SEARCH};algorithm=blake3$17;actions=read",
        )
        with (
            serve(scripted((401, [asked], b""), (200, [], b""))) as served,
            connect(served.url, signer, on_event=note) as client,
        ):
            assert client.send("GET", served.url).status == 200
        assert [event.tried for event in seen if isinstance(event, events.WorkProgressed)] == [65536, 131072]
        assert threads[events.WorkProgressed] == "tuned-digest-work" != threads[events.WorkStarted]
        assert [event.estimate > 0 for event in seen if isinstance(event, events.WorkStarted)] == [True]

    def test_the_estimate_is_made_where_it_stops_nobody(
        self, connect: Connect, server: Served, signer: Ed25519Signer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Work is estimated off the event loop, and not at all where nobody listens."""
        threads: list[int] = []

        def estimate(work: Work) -> float:
            threads.append(threading.get_ident())
            return 7.0

        monkeypatch.setattr(_auth, "estimate_seconds", estimate)
        with connect(server.url, signer) as client:
            client.send("GET", server.url)
        assert threads == []
        seen: list[events.Event] = []
        with connect(server.url, signer, on_event=seen.append) as client:
            client.send("GET", server.url)
            portal = getattr(client, "portal", None)
            sender = portal.call(threading.get_ident) if portal else threading.get_ident()
        assert (threads == [sender]) == (portal is None)
        assert [event.estimate for event in seen if isinstance(event, events.WorkStarted)] == [7.0]


class TestTrickledBodies:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a 401 only what comes at once is waited for."""
        monkeypatch.setattr(_journey, "_HEAD_SECONDS", 0)

    def test_a_trickled_401_is_cut_off(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A challenge whose 401 never ends is answered after the first that came of it."""
        cut_off = threading.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            if any(key == b"authorization" for key, _ in scope["headers"]):
                await answer(send, 200, [], b"")
                return
            await send(
                {"type": "http.response.start", "status": 401, "headers": _encoded([challenge("AAAA")])}
            )
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            while not await _is_disconnected(receive):
                pass
            cut_off.set()

        with serve(app) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).status == 200
            assert cut_off.wait(30)

    @pytest.mark.parametrize("coding", ["identity", "gzip"])
    def test_a_trickled_rejection_goes_to_the_caller_whole(
        self, connect: Connect, signer: Ed25519Signer, coding: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A rejection that comes in pieces is not cut off, whatever was looked at of it."""
        looked_at = anyio.Event()
        is_full, loops = _journey.Head.is_full, list[Any]()

        def noting(head: _journey.Head, chunk: bytes) -> bool:
            if loops:
                anyio.from_thread.run_sync(looked_at.set, token=loops[0])
            return is_full(head, chunk)

        monkeypatch.setattr(_journey.Head, "is_full", noting)
        whole = b'{"reason": "unknown identity"}' + b" " * 100_000
        content = gzip.compress(whole) if coding == "gzip" else whole

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            is_signed = any(key == b"authorization" for key, _ in scope["headers"])
            headers = _encoded([challenge("BBBB" if is_signed else "AAAA"), ("Content-Encoding", coding)])
            if not is_signed:
                await answer(send, 401, headers[:1], b"")
                return
            loops.append(anyio.lowlevel.current_token())
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": content[:70], "more_body": True})
            await looked_at.wait()
            await send({"type": "http.response.body", "body": content[70:90], "more_body": True})
            await send({"type": "http.response.body", "body": content[90:]})

        with serve(app) as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
        assert (result.status, result.content) == (401, whole)


def _encoded(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in fields]


async def _is_disconnected(receive: Receive) -> bool:
    message = await receive()
    return bool(message["type"] == "http.disconnect")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _nonce(authorization: str) -> str:
    return authorization.partition("nonce=")[2].strip('"').partition(";")[0].partition('"')[0]
