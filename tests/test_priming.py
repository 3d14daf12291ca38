"""Priming: a request without a body brings the nonce that a large upload needs to be sent once."""

import io
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tuned_digest import Ed25519Signer, Origin, Resources, Tuning
from tuned_digest._client import auth
from tuned_digest._client.records import Records
from tuned_digest.server.asgi import Application, Message, Receive, Scope, Send

from .clients import PRIMING, Client, Connect
from .field_server import (
    answer,
    challenge,
    decided,
    field,
    is_signed,
    next_nonce,
    read,
    scripted,
    verified,
)
from .ledger import Ledger
from .raw_server import Issuer, Recorded, Wire, record
from .serving import QUICK, Served, serve

SMALL = Resources(prime_above_kib=1)
"""Every body of more than 1 KiB is a large one."""

UPLOAD = b"large" * 1000
CHALLENGE = ("WWW-Authenticate", f"tuned-digest-signature nonce=AAAA;algorithm={QUICK};actions=update")
MALFORMED = ("WWW-Authenticate", "tuned-digest-signature nonce=AAAA")
TOO_DEAR = ("WWW-Authenticate", CHALLENGE[1].replace(str(QUICK), str(Tuning("argon2d", 2**31, 1, 1))))

Fields = list[tuple[str, str]]


@pytest.fixture(params=PRIMING)
def priming(request: pytest.FixtureRequest) -> Connect:
    """Connect one after the other of the clients that prime by themselves."""
    connect: Connect = PRIMING[request.param]
    return connect


@pytest.fixture
def primer(priming: Connect, server: Served, signer: Ed25519Signer) -> Iterator[Client]:
    """A client that primes before it sends more than 1 KiB."""
    with priming(server.url, signer, resources=SMALL) as client:
        yield client


def by_method(**answers: tuple[int, Fields]) -> Application:
    """Answer each method in its own way, and a signed request of any with 200."""

    def respond(scope: Scope, body: bytes) -> tuple[int, Fields, bytes]:
        return (200, [], b"") if is_signed(scope) else (*answers.get(scope["method"], (404, [])), b"")

    return decided(respond)


class Unseekable(io.BytesIO):
    """A file that can be read once."""

    def _refuse(self, *args: Any) -> int:
        raise io.UnsupportedOperation

    seek = tell = _refuse


class TestPriming:
    @pytest.mark.parametrize("kind", ["bytes", "generator", "file", "form", "spooled form"])
    def test_a_large_upload_is_sent_once(self, primer: Client, server: Served, kind: str) -> None:
        """Where no nonce is held a request without a body is challenged, and the upload goes out once."""
        upload: dict[str, dict[str, Any]] = {
            "bytes": {"body": UPLOAD},
            "generator": {"body": itertools.repeat(b"x" * 1000, 5)},
            "file": {"body": io.BytesIO(UPLOAD)},
            "form": {"files": {"part": io.BytesIO(UPLOAD)}},
            "spooled form": {"files": {"part": ("name", Unseekable(UPLOAD))}},
        }
        echo = json.loads(primer.send("PATCH", f"{server.url}/up?a=b", **upload[kind]).content)
        assert server.story == ["HEAD / 401", "HEAD / 200", "PATCH /up?a=b 200"]
        assert echo["size"] >= len(UPLOAD)

    def test_with_a_nonce_held_nothing_is_primed(self, primer: Client, server: Served) -> None:
        """An upload after any other request goes out once by itself."""
        primer.send("GET", server.url)
        for _ in range(2):
            assert primer.send("PATCH", server.url, body=UPLOAD).status == 200
        assert server.story == ["GET / 401", "GET / 200", "PATCH / 200", "PATCH / 200"]

    @pytest.mark.parametrize(
        ("limit", "body"), [(1, b"x" * 1024), (1, b""), (5, UPLOAD), (1024, UPLOAD), (None, UPLOAD)]
    )
    def test_a_small_upload_is_not_primed(
        self, priming: Connect, server: Served, signer: Ed25519Signer, limit: int | None, body: bytes
    ) -> None:
        """A body up to the limit, or any where there is no limit, is sent to be challenged."""
        with priming(server.url, signer, resources=Resources(prime_above_kib=limit)) as client:
            assert client.send("PATCH", server.url, body=body).status == 200
        assert server.story == ["PATCH / 401", "PATCH / 200"]

    def test_the_priming_request_is_the_callers_choice(
        self, priming: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """Method and path of the request that asks are settings."""
        resources = Resources(prime_above_kib=1, prime_method="OPTIONS", prime_path="/ping?a=b")
        with priming(server.url, signer, resources=resources) as client:
            assert client.send("PATCH", f"{server.url}/up", body=UPLOAD).status == 200
        assert server.story == ["OPTIONS /ping?a=b 401", "OPTIONS /ping?a=b 200", "PATCH /up 200"]

    def test_an_endless_answer_to_priming_is_not_read(self, priming: Connect, signer: Ed25519Signer) -> None:
        """A GET follows a HEAD that brought nothing, its body is not read, and the upload goes out."""
        closed = threading.Event()
        ordinary = by_method(PATCH=(401, [CHALLENGE]))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] != "GET":
                await ordinary(scope, receive, send)
                return
            await read(receive)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while (await _next_unless_gone(receive, send))["type"] != "http.disconnect":
                pass
            closed.set()

        async def _next_unless_gone(receive: Receive, send: Send) -> Message:
            for _ in range(100):
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            return await receive()

        with serve(app) as served, priming(served.url, signer, resources=SMALL) as client:
            assert client.send("PATCH", f"{served.url}/up", body=UPLOAD).status == 200
            assert served.story == ["HEAD / 404", "GET / 200", "PATCH /up 401", "PATCH /up 200"]
            assert closed.wait(30)

    def test_a_server_that_does_not_know_the_scheme_gets_the_upload(
        self, priming: Connect, signer: Ed25519Signer
    ) -> None:
        """Where nothing brings a nonce the upload goes out unsigned."""
        with serve(field) as served, priming(served.url, signer, resources=SMALL) as client:
            assert client.send("PATCH", f"{served.url}/up", body=UPLOAD).status == 200
        assert served.story == ["HEAD / 200", "GET / 200", "PATCH /up 200"]
        assert served.requests[-1].field("Authorization") == []

    @pytest.mark.parametrize("bad", [MALFORMED, TOO_DEAR], ids=["malformed", "too dear"])
    def test_a_challenge_to_priming_that_cannot_be_answered_does_not_stop_the_upload(
        self, priming: Connect, signer: Ed25519Signer, bad: tuple[str, str]
    ) -> None:
        """What is wrong with the answer to a request that nobody made is no error; the upload's own is."""
        challenges = [CHALLENGE, bad]
        app = by_method(HEAD=(401, [bad]), GET=(401, [bad]), PATCH=(401, challenges[:1]))
        with serve(app) as served, priming(served.url, signer, resources=SMALL) as client:
            assert client.send("PATCH", f"{served.url}/up", body=UPLOAD).status == 200
        assert served.story == ["HEAD / 401", "GET / 401", "PATCH /up 401", "PATCH /up 200"]
        app = by_method(HEAD=(401, [bad]), GET=(401, [bad]), PATCH=(401, challenges[1:]))
        with (
            serve(app) as served,
            priming(served.url, signer, resources=SMALL) as client,
            pytest.raises(client.library_error),
        ):
            client.send("PATCH", f"{served.url}/up", body=UPLOAD)
        assert served.story == ["HEAD / 401", "GET / 401", "PATCH /up 401"]

    def test_cookies_of_priming_are_on_the_upload(self, priming: Connect, signer: Ed25519Signer) -> None:
        """The upload goes to the node that its nonce is from: cookies set on the way are on it."""
        inner = verified()

        async def sticky(scope: Scope, receive: Receive, send: Send) -> None:
            cookies = [f"signed{is_signed(scope):d}=1; Path=/", "node=b; Path=/", "far=1; Path=/far"]

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    fields = [(b"set-cookie", cookie.encode()) for cookie in cookies]
                    message = {**message, "headers": [*message["headers"], *fields]}
                await send(message)

            await inner(scope, receive, sending)

        with serve(sticky) as served, priming(served.url, signer, resources=SMALL) as client:
            client.send("PATCH", f"{served.url}/up", body=UPLOAD, headers={"Cookie": "mine=1; node=a"})
        assert served.story == ["HEAD / 401", "HEAD / 200", "PATCH /up 200"]
        assert served.requests[-1].field("Cookie") == ["mine=1; signed0=1; node=b; signed1=1"]

    def test_priming_says_who_asks_and_nothing_of_the_upload(self, primer: Client, server: Served) -> None:
        """Of the upload's fields the priming request has those of every request: no key, no cookie."""
        shared = {"Accept": "application/json", "User-Agent": "mine", "Host": "api.localhost"}
        own = {
            "X-Api-Key": "secret",
            "Cookie": "session=secret",
            "X-HTTP-Method-Override": "DELETE",
            "Content-Type": "text/x-mine",
            "If-Match": '"a"',
            "Range": "bytes=0-1",
            "Idempotency-Key": "one",
            "Expect": "100-continue",
        }
        body = itertools.repeat(b"x" * 1000, 5)
        assert primer.send("PATCH", f"{server.url}/up", body=body, headers={**shared, **own}).status == 200
        assert server.story == ["HEAD / 401", "HEAD / 200", "PATCH /up 200"]
        *asked, sent = server.requests
        for name, value in shared.items():
            assert [seen.field(name) for seen in server.requests] == [[value]] * 3, name
        for name in (*own, "Transfer-Encoding", "Content-Length"):
            assert [seen.field(name) for seen in asked] == [[], []], name
        assert [sent.field(name) for name in own] == [[value] for value in own.values()]
        assert sent.field("Transfer-Encoding") == ["chunked"]

    def test_cookies_of_elsewhere_stay_there(self, priming: Connect, signer: Ed25519Signer) -> None:
        """Where the priming request is redirected to another origin, no cookie of that is on the upload."""
        foreign = [("Set-Cookie", "theirs=1; Path=/")]
        with serve(scripted((200, foreign, b""))) as other:
            away = (302, [("Location", f"{other.url}/")], b"")
            asked = (401, [challenge("AAAA", actions="update")], b"")
            with (
                serve(scripted(away, away, asked, (200, [], b""))) as served,
                priming(served.url, signer, resources=SMALL) as client,
            ):
                assert client.send("PATCH", f"{served.url}/up", body=UPLOAD).status == 200
        assert served.story == ["HEAD / 302", "GET / 302", "PATCH /up 401", "PATCH /up 200"]
        assert [seen.field("Cookie") for seen in served.requests] == [[], [], [], []]

    def test_priming_that_brings_nothing_is_not_tried_again(
        self, priming: Connect, signer: Ed25519Signer
    ) -> None:
        """A server that sends no next nonces is asked once, until it sends some."""
        bare: tuple[int, list[tuple[str, str]], bytes] = (404, [], b"")
        asked = [(401, [challenge(nonce, actions="update")], b"") for nonce in ("AAAA", "BBBB")]
        answers = [
            bare,
            bare,
            asked[0],
            (200, [], b""),
            asked[1],
            (200, [next_nonce("CCCC", "read")], b""),
            bare,
        ]
        with serve(scripted(*answers)) as served, priming(served.url, signer, resources=SMALL) as client:
            for _ in range(3):
                client.send("PATCH", f"{served.url}/up", body=UPLOAD)
        challenged = ["PATCH /up 401", "PATCH /up 200"]
        unprimed = ["HEAD / 404", "GET / 404"]
        assert served.story == [*unprimed, *challenged, *challenged, *unprimed, "PATCH /up 404"]

    def test_priming_is_tried_again_where_no_more_origins_are_noted(
        self, priming: Connect, signer: Ed25519Signer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is noted of servers that send no next nonces is bounded: one too many is asked each time."""
        full = Records()
        for number in range(256):
            full.note_priming(Origin("https", f"h{number}", 443), is_primed=False)
        monkeypatch.setattr(auth, "Records", lambda: full)
        bare: tuple[int, list[tuple[str, str]], bytes] = (404, [], b"")
        asked = [(401, [challenge(nonce, actions="update")], b"") for nonce in ("AAAA", "BBBB")]
        answers = [bare, bare, asked[0], (200, [], b""), bare, bare, asked[1], (200, [], b"")]
        with serve(scripted(*answers)) as served, priming(served.url, signer, resources=SMALL) as client:
            for _ in range(2):
                client.send("PATCH", f"{served.url}/up", body=UPLOAD)
        assert served.story == 2 * ["HEAD / 404", "GET / 404", "PATCH /up 401", "PATCH /up 200"]

    def test_priming_that_is_never_answered_is_not_tried_again(
        self, priming: Connect, signer: Ed25519Signer, ledger: Ledger
    ) -> None:
        """After priming that broke off the error is the caller's, and the next try goes without."""
        issuer = Issuer()

        def respond(wire: Wire, recorded: Recorded) -> None:
            if recorded.method == "HEAD":
                wire.reset()
            else:
                issuer(wire, recorded)

        with (
            ledger.watch(record(respond)) as server,
            priming(server.url, signer, resources=SMALL) as client,
        ):
            with pytest.raises(client.library_error):
                client.send("PATCH", f"{server.url}/up", body=UPLOAD)
            assert client.send("PATCH", f"{server.url}/up", body=UPLOAD).status == 200
        assert [seen.method for seen in server.requests] == ["HEAD", "PATCH", "PATCH"]

    @pytest.mark.parametrize("target", ["/", "/other"])
    def test_a_redirect_of_the_upload_is_signed(self, primer: Client, server: Served, target: str) -> None:
        """An upload that is answered with a redirect to what was primed is followed and signed."""
        upload = f"/redirect?status=303&to={target}"
        result = primer.send("PATCH", server.url + upload, body=UPLOAD)
        assert result.status == 200
        story = ["HEAD / 401", "HEAD / 200", f"PATCH {upload} 303", f"GET {target} 401", f"GET {target} 200"]
        assert server.story == story

    def test_an_upload_to_where_priming_goes_is_not_its_own_priming(
        self, priming: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """A request that is what would be asked with is sent as any other, its body with it."""
        with priming(server.url, signer, resources=SMALL) as client:
            assert json.loads(client.send("GET", server.url, body=UPLOAD).content)["size"] == len(UPLOAD)
        assert server.story == ["HEAD / 401", "HEAD / 200", "GET / 200"]
        only_get = Resources(prime_above_kib=1, prime_method="GET")
        with priming(server.url, signer, resources=only_get) as client:
            assert json.loads(client.send("GET", server.url, body=UPLOAD).content)["size"] == len(UPLOAD)
        assert server.story[3:] == ["GET / 401", "GET / 200"]

    @pytest.mark.parametrize("follow", [True, False])
    def test_a_redirect_of_priming_still_primes(
        self, priming: Connect, signer: Ed25519Signer, follow: bool
    ) -> None:
        """A HEAD that is redirected brings a nonce all the same, and the upload goes out once."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] != "/":
                await field(scope, receive, send)
                return
            await read(receive)
            await answer(send, 302, [(b"location", b"/home")], b"")

        with serve(verified(app)) as served, priming(served.url, signer, resources=SMALL) as client:
            assert client.send("PATCH", f"{served.url}/up", body=UPLOAD, follow=follow).status == 200
        assert served.story[:2] == ["HEAD / 401", "HEAD / 302"]
        assert served.story[-1] == "PATCH /up 200"
        assert [line for line in served.story if "up" in line] == ["PATCH /up 200"]

    def test_other_origins_are_not_primed(
        self, priming: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """A large body to an origin that is not served goes there alone."""
        with serve(field) as other, priming(server.url, signer, resources=SMALL) as client:
            assert client.send("PATCH", other.url, body=UPLOAD).status == 200
        assert other.story == ["PATCH / 200"]
