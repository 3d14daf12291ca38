"""What becomes of a 401 to an answer, and of refusals that are not ours to answer."""

import gzip
import json
from collections.abc import Callable, Iterator

import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.server.asgi import Receive, Scope, Send

from .clients import Connect
from .field_server import (
    answer,
    challenge,
    decided,
    encoded,
    next_nonce,
    read,
    scripted,
    sent_nonce,
)
from .serving import serve

Response = tuple[int, list[tuple[str, str]], bytes]


def refusing(body: bytes, *fields: tuple[str, str]) -> Callable[[Scope, bytes], Response]:
    """Answer everything with a 401 and an ever new nonce."""
    fresh = nonces()
    return lambda scope, sent: (401, [challenge(next(fresh)), *fields], body)


def nonces() -> Iterator[str]:
    """Name nonces, each another."""
    return (f"nonce{number}" for number in range(1000))


class TestSecondAnswers:
    @pytest.mark.parametrize("reason", ["unknown nonce", "scope mismatch"])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_passing_reason_is_answered_once_more(
        self, connect: Connect, signer: Ed25519Signer, reason: str, framing: str
    ) -> None:
        """A 401 to an answer is answered again after a reason that another worker may have caused."""
        body = json.dumps({"reason": reason, "action": "read"}).encode()
        fresh = nonces()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            headers = encoded([challenge(next(fresh))])
            if framing == "length":
                await answer(send, 401, headers, body)
                return
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": body[:5], "more_body": True})
            await send({"type": "http.response.body", "body": body[5:]})

        with serve(app, lifespan="off") as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
        assert (result.status, result.content) == (401, body)
        assert len(served.requests) == 3

    def test_the_second_answer_may_be_the_good_one(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A request whose nonce another worker did not know is accepted under its second."""
        stale = b'{"reason": "unknown nonce"}'
        app = scripted((401, [challenge("AAAA")], b""), (401, [challenge("BBBB")], stale), (200, [], b"fine"))
        with serve(app) as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
        assert (result.status, result.content, result.history) == (200, b"fine", [401, 401])

    @pytest.mark.parametrize(("reason", "sends"), [("", 2), ("unknown identity", 2), ("unknown nonce", 3)])
    def test_a_server_that_never_accepts_is_given_up(
        self, connect: Connect, signer: Ed25519Signer, reason: str, sends: int
    ) -> None:
        """401 for ever, with ever new nonces, ends after two sends, or three where the reason may pass."""
        app = decided(refusing(json.dumps({"reason": reason}).encode()))
        with serve(app) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).status == 401
        assert len(served.requests) == sends


class TestNoncesOnceEach:
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
        fresh = nonces()

        def respond(scope: Scope, body: bytes) -> Response:
            sent = sent_nonce(scope)
            if not sent:
                return 401, [challenge(next(fresh))], b""
            seen.append(sent)
            return 200, [next_nonce("AAAA")], b""

        with serve(decided(respond)) as served, connect(served.url, signer) as client:
            for _ in range(4):
                assert client.send("GET", served.url).status == 200
        assert seen == ["nonce0", "AAAA", "nonce1", "nonce2"]


class TestToTheCaller:
    @pytest.mark.parametrize(
        "body", [b"", b'{"reason": "unknown identity"}', b"x" * 200_000, b"\x00\xff" * 40_000]
    )
    def test_a_rejection_goes_to_the_caller_whole(
        self, connect: Connect, signer: Ed25519Signer, body: bytes
    ) -> None:
        """A 401 to an answer is returned with its body, however long."""
        with serve(decided(refusing(body))) as served, connect(served.url, signer) as client:
            result = client.send("GET", served.url)
        assert (result.status, result.content) == (401, body)
        assert result.history == [401]
        assert len(served.requests) == 2

    def test_a_compressed_rejection_goes_to_the_caller_whole(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A compressed 401 is decoded for the caller as any other response."""
        app = decided(refusing(gzip.compress(b"x" * 300_000), ("Content-Encoding", "gzip")))
        with serve(app) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).content == b"x" * 300_000

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
