"""What is requests' own: sessions, adapters, bodies, hooks, errors."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.util import Retry

from tuned_digest import Ed25519Signer, LimitExceededError
from tuned_digest._client.families.requests_messages import Messages
from tuned_digest.requests import TunedDigestAuth

from .field_server import challenge, decided, scripted
from .ledger import nonce_of
from .raw_server import Issuer, Recorded, Wire, record
from .serving import Served, serve

CHALLENGE = challenge("AAAA")


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session that is closed after the test."""
    with requests.Session() as session:
        yield session


class TestSessions:
    def test_a_sessions_auth_is_used_for_every_request(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """With `Session.auth` a chain of requests costs one round trip each."""
        session.auth = TunedDigestAuth(server.url, signer)
        assert [session.get(server.url).status_code for _ in range(3)] == [200, 200, 200]
        assert server.statuses == [401, 200, 200, 200]

    def test_auth_of_a_call_comes_before_the_sessions(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """Auth given with a call is used in place of `Session.auth`, and None means the session's."""
        caller = Ed25519Signer.generate()
        session.auth = TunedDigestAuth(server.url, signer)
        called = session.get(server.url, auth=TunedDigestAuth(server.url, caller))
        assert called.json()["caller"] == caller.identity
        assert session.get(server.url, auth=None).json()["caller"] == signer.identity

    @pytest.mark.parametrize("given", ["session", "call"])
    def test_hooks_of_the_callers_own_see_the_answer(
        self, server: Served, session: requests.Session, signer: Ed25519Signer, given: str
    ) -> None:
        """A response hook of the session's or the call's runs once, after ours, on what the caller gets."""
        seen: list[int] = []

        def note(response: requests.Response, **sending: object) -> None:
            seen.append(response.status_code)

        session.auth = TunedDigestAuth(server.url, signer)
        if given == "session":
            session.hooks["response"].append(note)
            session.get(server.url)
        else:
            session.get(server.url, hooks={"response": note})
        assert seen == [200]
        assert server.statuses == [401, 200]

    def test_session_cookies_of_a_401_are_kept(
        self, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """A cookie that a 401 sets is in the session afterwards, and on the retry."""
        asked = (401, [CHALLENGE, ("Set-Cookie", "node=b; Path=/")], b"")
        with serve(scripted(asked, (200, [], b""))) as server:
            session.cookies.set("mine", "1")
            session.get(server.url, auth=TunedDigestAuth(server.url, signer))
        assert session.cookies.get("node") == "b"
        assert server.requests[1].field("Cookie") == ["mine=1; node=b"]

    def test_a_session_that_does_not_trust_the_environment_signs(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """With ``trust_env`` off a redirect is signed as ever."""
        session.trust_env = False
        session.auth = TunedDigestAuth(server.url, signer)
        assert session.get(f"{server.url}/redirect?status=302&to=/target").status_code == 200

    def test_a_rejection_is_whole_in_its_raw_stream(
        self, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """With ``stream=True`` a rejection's raw stream gives all of it, from the beginning."""
        nonces = iter(f"nonce{number}" for number in range(10))

        def refuse(scope: Any, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            return 401, [challenge(next(nonces))], b"x" * 90_000

        with (
            serve(decided(refuse)) as server,
            session.get(server.url, auth=TunedDigestAuth(server.url, signer), stream=True) as response,
        ):
            assert [len(response.raw.read(amount)) for amount in (10, 65526, None)] == [10, 65526, 24464]


class TestAdapters:
    def test_the_retry_is_sent_as_the_request_was(
        self, server: Served, session: requests.Session, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """Timeout, verify, cert, proxies and stream are the same when a challenge is answered."""
        sendings: list[dict[str, Any]] = []

        class Noting(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
                sendings.append(options)
                return super().send(request, **options)

        session.mount("http://", Noting())
        options: dict[str, Any] = {"timeout": 7, "verify": False, "stream": True}
        with session.get(server.url, auth=TunedDigestAuth(server.url, signer), **options) as response:
            assert response.status_code == 200
        assert len(sendings) == 2
        assert sendings[0] == sendings[1]
        assert {name: sendings[1][name] for name in options} == options

    def test_a_retry_below_us_is_recovered_from(
        self, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """When urllib3 sends a request again with its spent nonce, the 401 to that is answered."""
        seen: list[str] = []
        nonces = iter(f"nonce{number}" for number in range(10))

        def respond(scope: Any, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            sent = [value.decode() for key, value in scope["headers"] if key == b"authorization"]
            fresh = challenge(next(nonces))
            seen.extend(sent)
            if not sent or seen.count(sent[0]) > 1:
                return 401, [fresh], b'{"reason": "unknown nonce"}'
            return (503 if len(set(seen)) == 1 else 200), [], b""

        session.mount("http://", HTTPAdapter(max_retries=Retry(1, status_forcelist=[503], backoff_factor=0)))
        with serve(decided(respond)) as server:
            session.auth = TunedDigestAuth(server.url, signer)
            response = session.get(server.url)
        assert response.status_code == 200
        assert [seen.count(value) for value in dict.fromkeys(seen)] == [2, 1]

    @pytest.mark.parametrize("body", ["bytes", "generator", "file"])
    def test_a_retry_below_us_sends_a_body_whole(
        self, session: requests.Session, signer: Ed25519Signer, body: str, tmp_path: Path
    ) -> None:
        """When urllib3 sends a body again after a 503 it is whole, and the 401 to that is answered."""
        issuer = Issuer()
        failing = iter(range(1))

        def respond(wire: Wire, recorded: Recorded) -> None:
            if recorded.field("Authorization") and next(failing, None) is not None:
                assert issuer.takes(recorded)
                wire.answer(503)
            else:
                issuer(wire, recorded)

        retry = Retry(1, status_forcelist=[503], backoff_factor=0, allowed_methods=None)
        session.mount("http://", HTTPAdapter(max_retries=retry))
        (tmp_path / "file").write_bytes(b"skipped whole")
        with (tmp_path / "file").open("rb") as file, record(respond) as server:
            file.seek(8)
            data: Any = {"bytes": b"whole", "generator": iter([b"who", b"le"]), "file": file}[body]
            response = session.patch(server.url, data=data, auth=TunedDigestAuth(server.url, signer))
        assert response.status_code == 200
        assert server.statuses == [401, 503, 401, 200]
        assert [recorded.body for recorded in server.requests] == [b"whole"] * 4
        nonces = [
            nonce_of(value) for recorded in server.requests for value in recorded.field("Authorization")
        ]
        assert [nonces.count(nonce) for nonce in dict.fromkeys(nonces)] == [2, 1]

    def test_an_adapter_of_another_make_is_served(
        self, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """Where a response did not come from urllib3, its merged fields are read."""

        class InMemory(BaseAdapter):
            def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
                response = requests.Response()
                response.status_code = 200 if "Authorization" in request.headers else 401
                response.headers.update({"WWW-Authenticate": f"Basic realm=x, {CHALLENGE[1]}"})
                response.raw, response.request, response.url = _Raw(), request, str(request.url)
                response.connection = self  # type: ignore[assignment]
                return response

            def close(self) -> None:
                return

        class _Raw(io.BytesIO):
            def read(self, size: int | None = -1, decode_content: bool | None = None) -> bytes:
                return super().read(size)

        session.mount("https://", InMemory())
        auth = TunedDigestAuth("https://api.example.com", signer)
        assert session.get("https://api.example.com/", auth=auth).status_code == 200

    def test_a_url_without_an_origin_is_left_to_its_adapter(
        self, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """A URL of another kind than http is handed on unsigned."""
        with pytest.raises(requests.exceptions.InvalidSchema):
            session.get("ftp://localhost/", auth=TunedDigestAuth("*", signer))

    def test_a_url_that_cannot_be_parsed_is_requests_own_matter(
        self, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """A URL that urllib3 refuses is left to requests, unsigned."""
        for url in ("http://[::g]/", "http://a\u3002b/"):
            prepared = session.prepare_request(requests.Request("GET", "http://localhost/"))
            prepared.url = url
            assert "Authorization" not in TunedDigestAuth("*", signer)(prepared).headers


class TestBodies:
    @pytest.mark.parametrize("body", ["\u00e9" * 50, "ascii"])
    def test_a_text_stream_has_the_length_of_its_bytes(
        self, server: Served, session: requests.Session, signer: Ed25519Signer, body: str
    ) -> None:
        """Requests counts characters where bytes are sent: the length is corrected, nothing is left over."""
        session.auth = TunedDigestAuth(server.url, signer)
        echo = session.patch(server.url, data=io.StringIO(body)).json()
        assert echo["length"] == str(len(body.encode())) == str(echo["size"])
        assert server.statuses == [401, 200]

    @pytest.mark.parametrize("kind", [bytearray, memoryview])
    def test_what_holds_bytes_is_a_body(
        self, server: Served, session: requests.Session, signer: Ed25519Signer, kind: Any
    ) -> None:
        """A bytearray and a memoryview are sent as their bytes."""
        auth = TunedDigestAuth(server.url, signer)
        assert session.patch(server.url, data=kind(b"abc"), auth=auth).json()["size"] == 3

    def test_a_text_body_is_sent_as_it_was_digested(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """A str body beyond ASCII goes out in UTF-8, as it was signed."""
        auth = TunedDigestAuth(server.url, signer)
        assert session.patch(server.url, data="\u2713", auth=auth).json()["size"] == 3

    def test_a_text_file_is_sent_as_it_was_digested(
        self, server: Served, session: requests.Session, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A file opened as text goes out in UTF-8, as it was signed."""
        (tmp_path / "file").write_text("ascii text")
        with (tmp_path / "file").open() as file:
            auth = TunedDigestAuth(server.url, signer)
            with pytest.warns(requests.exceptions.FileModeWarning):
                response = session.patch(server.url, data=file, auth=auth)
        assert response.json()["size"] == 10


class TestErrors:
    def test_errors_pickle_and_name_request_and_response(
        self, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """An error out of a session has request and response, and pickles without them."""
        too_dear = challenge("AAAA", "$argon2d$v=19$m=4194304,t=1,p=1")
        with serve(scripted((401, [too_dear], b""))) as server, pytest.raises(LimitExceededError) as raised:
            session.get(server.url, auth=TunedDigestAuth(server.url, signer))
        error: Any = raised.value
        assert error.request.url.startswith(server.url)
        assert error.response.status_code == 401
        restored = pickle.loads(pickle.dumps(error))
        assert isinstance(restored, LimitExceededError)
        assert isinstance(restored, requests.RequestException)
        assert restored.asked == 4194304

    def test_a_connection_that_breaks_in_a_401_is_requests_own_error(
        self, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """A 401 cut short is a `requests.ConnectionError`."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(CHALLENGE[0].encode(), CHALLENGE[1].encode()), (b"content-length", b"100")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b"short", "more_body": True})
            # Returning here closes the connection before the body is whole.

        with serve(app, log_config=None) as server, pytest.raises(requests.ConnectionError):
            session.get(server.url, auth=TunedDigestAuth(server.url, signer))


class TestNetrc:
    @pytest.fixture(autouse=True)
    def netrc(self, server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A ``.netrc`` with a password for the server's host."""
        entry = f"machine {urlsplit(server.url).hostname} login user password secret\n"
        (tmp_path / "netrc").write_text(entry)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def test_a_netrc_does_not_take_the_place_of_auth(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """A password in ``.netrc`` for the served host is not sent where an auth object was given."""
        session.auth = TunedDigestAuth(server.url, signer)
        assert session.get(server.url).status_code == 200
        assert server.statuses == [401, 200]
        assert server.requests[0].field("Authorization") == []

    def test_a_netrc_does_not_take_the_place_of_auth_after_a_redirect(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """The ``.netrc`` password that requests puts on a redirect is replaced at the served origin."""
        session.auth = TunedDigestAuth(server.url, signer)
        assert session.get(f"{server.url}/redirect?status=302&to=/target").status_code == 200
        assert server.statuses == [401, 302, 401, 200]

    def test_a_netrc_is_used_elsewhere_after_a_redirect(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """At another origin a redirect carries what ``.netrc`` has for it; its answer goes to the caller."""
        session.auth = TunedDigestAuth(server.url, signer)
        with serve(scripted((401, [challenge("AAAA")], b""))) as other:
            assert session.get(f"{server.url}/redirect?status=302&to={other.url}/").status_code == 401
        (sent,) = [seen.field("Authorization") for seen in other.requests]
        assert [value.partition(" ")[0] for value in sent] == ["Basic"]


class TestTargets:
    @pytest.mark.parametrize(("joins", "signed"), [(True, "/a//b"), (False, "//a//b")])
    def test_slashes_at_the_beginning(
        self, *, joins: bool, signed: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The path is signed as it is sent: older versions make one of the slashes that it begins with."""
        family = TunedDigestAuth._family
        monkeypatch.setattr(family, "joins_slashes", joins)
        auth = TunedDigestAuth("http://localhost", Ed25519Signer.generate())
        messages = Messages(family, auth._carriage(), None)
        target = messages.target(requests.Request("GET", "http://localhost//a//b").prepare())
        assert target is not None
        assert target.path == signed
