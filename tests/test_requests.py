"""What is requests' own: sessions, hooks, adapters, pickling."""

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
from tuned_digest.requests import TunedDigestAuth

from .field_server import decided, scripted, verified
from .ledger import Ledger, nonce_of
from .raw_server import Issuer, Recorded, Wire, record
from .serving import QUICK, Served, serve

CHALLENGE = ("WWW-Authenticate", f"tuned-digest-signature nonce=AAAA;algorithm={QUICK};actions=read")


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session that is closed after the test."""
    with requests.Session() as session:
        yield session


def test_a_sessions_auth_is_used_for_every_request(
    server: Served, session: requests.Session, signer: Ed25519Signer
) -> None:
    """With `Session.auth` a chain of requests costs one round trip each."""
    session.auth = TunedDigestAuth(server.url, signer)
    assert [session.get(server.url).status_code for _ in range(3)] == [200, 200, 200]
    assert server.statuses == [401, 200, 200, 200]


def test_the_retry_is_sent_as_the_request_was(
    server: Served, session: requests.Session, signer: Ed25519Signer, tmp_path: Path
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


def test_a_response_pickles(server: Served, session: requests.Session, signer: Ed25519Signer) -> None:
    """A response with its history and request pickles, and what comes back signs nothing."""
    auth = TunedDigestAuth(server.url, signer)
    restored = pickle.loads(pickle.dumps(session.get(server.url, auth=auth)))
    assert (restored.status_code, [earlier.status_code for earlier in restored.history]) == (200, [401])
    before = len(server.requests)
    del restored.request.headers["Authorization"]
    assert session.send(restored.request).status_code == 401
    assert len(server.requests) == before + 1


def test_a_prepared_request_sent_twice_is_answered_twice(
    server: Served, session: requests.Session, signer: Ed25519Signer
) -> None:
    """A prepared request that is sent again recovers from its spent nonce."""
    session.auth = TunedDigestAuth(server.url, signer)
    session.get(server.url)
    prepared = session.prepare_request(requests.Request("GET", server.url))
    assert [session.send(prepared).status_code for _ in range(2)] == [200, 200]
    assert server.statuses == [401, 200, 200, 401, 200]


def test_no_nonce_stays_on_a_request_that_was_sent(
    server: Served, session: requests.Session, signer: Ed25519Signer
) -> None:
    """A prepared request keeps no field of ours for its next send; the response's own copy shows it."""
    session.auth = TunedDigestAuth(server.url, signer)
    session.get(server.url)
    prepared = session.prepare_request(requests.Request("GET", server.url))
    responses = [session.send(prepared) for _ in range(2)]
    assert "Authorization" not in prepared.headers
    sent = [response.request.headers["Authorization"] for response in responses]
    assert sent[0] != sent[1]


def test_a_url_that_cannot_be_parsed_is_requests_own_matter(
    session: requests.Session, signer: Ed25519Signer
) -> None:
    """A URL that urllib3 refuses is left to requests, unsigned."""
    for url in ("http://[::g]/", "http://a\u3002b/"):
        prepared = session.prepare_request(requests.Request("GET", "http://localhost/"))
        prepared.url = url
        assert "Authorization" not in TunedDigestAuth("*", signer)(prepared).headers


@pytest.mark.parametrize("body", ["\u00e9" * 50, "ascii"])
def test_a_text_stream_has_the_length_of_its_bytes(
    server: Served, session: requests.Session, signer: Ed25519Signer, body: str
) -> None:
    """Requests counts characters where bytes are sent: the length is corrected, and nothing is left over."""
    session.auth = TunedDigestAuth(server.url, signer)
    echo = session.patch(server.url, data=io.StringIO(body)).json()
    assert echo["length"] == str(len(body.encode())) == str(echo["size"])
    assert server.statuses == [401, 200]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_holds_bytes_is_a_body(
    server: Served, session: requests.Session, signer: Ed25519Signer, kind: Any
) -> None:
    """A bytearray and a memoryview are sent as their bytes."""
    auth = TunedDigestAuth(server.url, signer)
    assert session.patch(server.url, data=kind(b"abc"), auth=auth).json()["size"] == 3


def test_a_rejection_is_whole_in_its_raw_stream(session: requests.Session, signer: Ed25519Signer) -> None:
    """With ``stream=True`` a rejection's raw stream gives all of it, from the beginning."""
    nonces = iter(f"nonce{number}" for number in range(10))

    def refuse(scope: Any, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        return 401, [(CHALLENGE[0], CHALLENGE[1].replace("AAAA", next(nonces)))], b"x" * 90_000

    with (
        serve(decided(refuse)) as server,
        session.get(server.url, auth=TunedDigestAuth(server.url, signer), stream=True) as response,
    ):
        assert [len(response.raw.read(amount)) for amount in (10, 65526, None)] == [10, 65526, 24464]


def test_the_next_request_of_a_redirect_can_be_sent_by_hand(
    server: Served, session: requests.Session, signer: Ed25519Signer
) -> None:
    """`response.next` carries no spent nonce, and is signed when it is sent."""
    session.auth = TunedDigestAuth(server.url, signer)
    session.get(server.url)
    response = session.get(f"{server.url}/redirect?status=302&to=/target", allow_redirects=False)
    assert response.next is not None
    assert "Authorization" not in response.next.headers
    assert session.send(response.next).status_code == 200


def test_a_retry_below_us_is_recovered_from(session: requests.Session, signer: Ed25519Signer) -> None:
    """When urllib3 sends a request again with its spent nonce, the 401 to that is answered."""
    seen: list[str] = []
    nonces = iter(f"nonce{number}" for number in range(10))

    def respond(scope: Any, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        sent = [value.decode() for key, value in scope["headers"] if key == b"authorization"]
        fresh = (CHALLENGE[0], CHALLENGE[1].replace("AAAA", next(nonces)))
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


def test_session_cookies_of_a_401_are_kept(session: requests.Session, signer: Ed25519Signer) -> None:
    """A cookie that a 401 sets is in the session afterwards, and on the retry."""
    asked = (401, [CHALLENGE, ("Set-Cookie", "node=b; Path=/")], b"")
    with serve(scripted(asked, (200, [], b""))) as server:
        session.cookies.set("mine", "1")
        session.get(server.url, auth=TunedDigestAuth(server.url, signer))
    assert session.cookies.get("node") == "b"
    assert server.requests[1].field("Cookie") == ["mine=1; node=b"]


def test_a_text_body_is_sent_as_it_was_digested(
    server: Served, session: requests.Session, signer: Ed25519Signer
) -> None:
    """A str body beyond ASCII goes out in UTF-8, as it was signed."""
    auth = TunedDigestAuth(server.url, signer)
    assert session.patch(server.url, data="\u2713", auth=auth).json()["size"] == 3


def test_a_text_file_is_sent_as_it_was_digested(
    server: Served, session: requests.Session, signer: Ed25519Signer, tmp_path: Path
) -> None:
    """A file opened as text goes out in UTF-8, as it was signed."""
    (tmp_path / "file").write_text("ascii text")
    with (tmp_path / "file").open() as file:
        auth = TunedDigestAuth(server.url, signer)
        with pytest.warns(requests.exceptions.FileModeWarning):
            response = session.patch(server.url, data=file, auth=auth)
    assert response.json()["size"] == 10


def test_errors_pickle_and_name_request_and_response(
    session: requests.Session, signer: Ed25519Signer
) -> None:
    """An error out of a session has request and response, and pickles without them."""
    too_dear = (CHALLENGE[0], CHALLENGE[1].replace("m=64", "m=4194304"))
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
    session: requests.Session, signer: Ed25519Signer
) -> None:
    """A 401 cut short is a `requests.ConnectionError`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(CHALLENGE[0].encode(), CHALLENGE[1].encode()), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"short", "more_body": True})
        # Returning here closes the connection before the body is whole.

    with serve(app, log_config=None) as server, pytest.raises(requests.ConnectionError):
        session.get(server.url, auth=TunedDigestAuth(server.url, signer))


def test_an_adapter_of_another_make_is_served(session: requests.Session, signer: Ed25519Signer) -> None:
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
    session: requests.Session, signer: Ed25519Signer
) -> None:
    """A URL of another kind than http is handed on unsigned."""
    with pytest.raises(requests.exceptions.InvalidSchema):
        session.get("ftp://localhost/", auth=TunedDigestAuth("*", signer))


def netrc_for(server: Served, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a ``.netrc`` with a password for a server's host."""
    (folder / "netrc").write_text(f"machine {urlsplit(server.url).hostname} login user password secret\n")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))


def test_a_netrc_does_not_take_the_place_of_auth(
    server: Served,
    session: requests.Session,
    signer: Ed25519Signer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A password in ``.netrc`` for the served host is not sent where an auth object was given."""
    netrc_for(server, tmp_path, monkeypatch)
    session.auth = TunedDigestAuth(server.url, signer)
    assert session.get(server.url).status_code == 200
    assert server.statuses == [401, 200]
    assert server.requests[0].field("Authorization") == []


def test_a_netrc_does_not_take_the_place_of_auth_after_a_redirect(
    server: Served,
    session: requests.Session,
    signer: Ed25519Signer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ``.netrc`` password that requests puts on a redirect's request is replaced at the served origin."""
    netrc_for(server, tmp_path, monkeypatch)
    session.auth = TunedDigestAuth(server.url, signer)
    assert session.get(f"{server.url}/redirect?status=302&to=/target").status_code == 200


def test_a_netrc_is_used_elsewhere_after_a_redirect(
    server: Served,
    session: requests.Session,
    signer: Ed25519Signer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At another origin a redirect carries what ``.netrc`` has for it, and its answer goes to the caller."""
    netrc_for(server, tmp_path, monkeypatch)
    session.auth = TunedDigestAuth(server.url, signer)
    with serve(scripted((401, [CHALLENGE], b""))) as other:
        assert session.get(f"{server.url}/redirect?status=302&to={other.url}/").status_code == 401
    (sent,) = [seen.field("Authorization") for seen in other.requests]
    assert [value.partition(" ")[0] for value in sent] == ["Basic"]


def test_auth_of_a_call_comes_before_the_sessions(
    server: Served, session: requests.Session, signer: Ed25519Signer
) -> None:
    """Auth given with a call is used in place of `Session.auth`, and None means the session's."""
    caller = Ed25519Signer.generate()
    session.auth = TunedDigestAuth(server.url, signer)
    called = session.get(server.url, auth=TunedDigestAuth(server.url, caller))
    assert called.json()["caller"] == caller.identity
    assert session.get(server.url, auth=None).json()["caller"] == signer.identity


def test_hooks_of_the_callers_own_see_the_answer(
    server: Served, session: requests.Session, signer: Ed25519Signer
) -> None:
    """A session's and a call's response hooks run once, after ours, on what the caller gets."""
    seen: list[tuple[str, int]] = []

    def noting(name: str) -> Any:
        return lambda response, **sending: seen.append((name, response.status_code))

    session.auth = TunedDigestAuth(server.url, signer)
    session.hooks["response"].append(noting("session"))
    session.get(server.url, hooks={"response": noting("call")})
    assert sorted(seen) == [("call", 200)] or sorted(seen) == [("call", 200), ("session", 200)]
    assert server.statuses == [401, 200]


@pytest.mark.parametrize("body", ["bytes", "generator", "file"])
def test_a_retry_below_us_sends_a_body_whole(
    session: requests.Session, signer: Ed25519Signer, body: str, tmp_path: Path
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
    nonces = [nonce_of(value) for recorded in server.requests for value in recorded.field("Authorization")]
    assert [nonces.count(nonce) for nonce in dict.fromkeys(nonces)] == [2, 1]


@pytest.mark.parametrize("body", ["bytes", "generator"])
def test_the_next_request_of_a_redirect_has_its_body(
    session: requests.Session, ledger: Ledger, signer: Ed25519Signer, body: str
) -> None:
    """`response.next` of a 307 sends the body again, whole, with a nonce of its own."""
    with ledger.watch(serve(verified())) as server:
        session.auth = TunedDigestAuth(server.url, signer)
        data: Any = b"whole" if body == "bytes" else iter([b"who", b"le"])
        url = f"{server.url}/redirect?status=307&to=/target"
        response = session.patch(url, data=data, allow_redirects=False)
        assert response.next is not None
        assert session.send(response.next).json()["size"] == 5
    assert server.statuses == [401, 307, 401, 200]


def test_a_session_that_does_not_trust_the_environment_signs(
    server: Served, session: requests.Session, signer: Ed25519Signer
) -> None:
    """With ``trust_env`` off a redirect is signed as ever."""
    session.trust_env = False
    session.auth = TunedDigestAuth(server.url, signer)
    assert session.get(f"{server.url}/redirect?status=302&to=/target").status_code == 200
