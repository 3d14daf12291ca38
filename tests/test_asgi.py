"""The middleware on a real server: what it answers, what it lets through, what it adds."""

import os
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import TunedDigestAuth
from tuned_digest.server import BodyLimits, MemoryNonceStore, Policy, Verifier
from tuned_digest.server.asgi import Application, Receive, Scope, Send, TunedDigestMiddleware

from .field_server import POLICY, answer, field, read, verified
from .serving import QUICK, QUICK_CREATE, Served, serve

Lines = list[tuple[bytes, bytes]]


def test_a_challenge_is_written_as_deployed_clients_read_it(server: Served) -> None:
    """A 401 carries one nonce under both schemes, repeats the second, and is not to be stored."""
    response = httpx.get(server.url)
    argon, search = response.headers.get_list("www-authenticate")
    nonce = argon.partition("nonce=")[2].partition(";")[0]
    assert argon == f"tuned-digest-signature nonce={nonce};algorithm={QUICK};actions=read"
    assert search == f"asym-tuned-digest-signature nonce={nonce};algorithm=blake3$1;actions=read"
    assert response.headers.get_list("uno-www-authn") == [search]
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == {"reason": "authorization required", "action": "read"}
    assert len(nonce) == 43


def test_next_nonces_are_written_in_the_order_deployed_clients_need(
    server: Served, signer: Ed25519Signer
) -> None:
    """A verified response brings everything but create first, then create, each under both schemes."""
    with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        response = client.get(server.url)
    values = [value.partition(";") for value in response.headers.get_list("authentication-info")]
    assert [value[2] for value in values] == [
        f"argon={QUICK};scopes=read,update,delete,debug,proxy",
        "blake3=1;scopes=read,update,delete,debug,proxy",
        f"argon={QUICK_CREATE};scopes=create",
        "blake3=1;scopes=create",
    ]
    nonces = [value[0] for value in values]
    assert nonces[0] == nonces[1] != nonces[2] == nonces[3]
    assert response.headers.get_list("uno-authn-info") == [
        value
        for value in response.headers.get_list("authentication-info")
        if value.partition(";")[2].startswith("blake3")
    ]


def test_the_browsers_fields_can_be_switched_off(signer: Ed25519Signer) -> None:
    """Without `repeat_fields` neither uno-www-authn nor uno-authn-info is written."""
    with serve(verified(repeat_fields=False)) as server:
        assert "uno-www-authn" not in httpx.get(server.url).headers
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            assert "uno-authn-info" not in client.get(server.url).headers


def test_the_application_learns_who_called(server: Served, signer: Ed25519Signer) -> None:
    """The `Caller` in the scope has the identity that signed."""
    with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        assert client.get(server.url).json()["caller"] == signer.identity


@pytest.mark.parametrize("is_async", [False, True])
def test_accounts_are_looked_up(signer: Ed25519Signer, is_async: bool) -> None:
    """A registered identity gets through with its account, another one is an unknown identity."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["tuned_digest"].account)
        await answer(send, 200, [], b"")

    registered = {signer.identity: "alice"}

    async def find(identity: str) -> object:
        return registered.get(identity)

    with serve(verified(app, accounts=find if is_async else registered.get)) as server:
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            assert client.get(server.url).status_code == 200
        with httpx.Client(auth=TunedDigestAuth(server.url, Ed25519Signer.generate())) as client:
            refused = client.get(server.url)
    assert (refused.status_code, refused.json()["reason"]) == (401, "unknown identity")
    assert seen == ["alice"]


def test_an_async_exists_function_is_awaited(signer: Ed25519Signer) -> None:
    """A policy may look a resource up asynchronously."""

    async def exists(path: str) -> bool:
        return path == "/there"

    policy = Policy(access=QUICK, create=QUICK_CREATE, exists=exists)
    with serve(verified(policy=policy)) as server:
        assert httpx.put(f"{server.url}/there").json()["action"] == "update"
        assert httpx.put(f"{server.url}/not-there").json()["action"] == "create"


def test_a_body_over_the_limit_is_refused(signer: Ed25519Signer) -> None:
    """A body over the limit is answered 413, announced or not, and brings no nonce."""
    app = TunedDigestMiddleware(
        field, Verifier(MemoryNonceStore(), policy=POLICY), bodies=BodyLimits(max_body=1000)
    )
    with serve(app) as server, httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        assert client.patch(server.url, content=b"x" * 1000).status_code == 200
        for body in (b"x" * 1001, iter([b"x" * 600] * 2)):
            refused = client.patch(server.url, content=body)
            assert refused.status_code == 413
            assert "authentication-info" not in refused.headers
        assert client.patch(server.url, content=iter([b"x" * 500] * 2)).json()["size"] == 1000


def test_a_path_that_cannot_be_signed_is_a_bad_request(signer: Ed25519Signer) -> None:
    """Where a prefix comes off a path that only looks like it, the request is refused before its body."""
    app = verified(signed_path=lambda path: path.removeprefix("/v2"))
    with serve(app) as server, httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        assert client.get(f"{server.url}/v2%2Fx").status_code == 400


@pytest.mark.parametrize(
    "value",
    [
        "tuned-digest-signature nonce=AAAA",
        "tuned-digest-signature nonce=AAAA;nonce=AAAA",
        "Basic x, tuned-digest-signature nonce=AAAA",
        "tuned-digest-signature " + "x" * 8192,
        "tuned-digest-signature " + ";".join(f"x{n}=1" for n in range(33)),
    ],
)
def test_a_malformed_credential_is_a_bad_request(server: Served, value: str) -> None:
    """A credential of ours that cannot be read is 400, says why in JSON, and brings nothing."""
    response = httpx.get(server.url, headers={"Authorization": value})
    assert response.status_code == 400
    assert response.json()["message"]
    assert not {"www-authenticate", "authentication-info"} & set(response.headers)


def test_two_credentials_are_a_bad_request(server: Served) -> None:
    """Two Authorization fields, one of ours among them, are 400."""
    headers = [("Authorization", "Basic x"), ("Authorization", "tuned-digest-signature nonce=AAAA")]
    assert httpx.get(server.url, headers=headers).status_code == 400


def test_another_scheme_is_challenged(server: Served) -> None:
    """A bearer token is answered with a challenge."""
    assert httpx.get(server.url, headers={"Authorization": "Bearer x"}).status_code == 401


def test_a_replayed_request_is_refused(server: Served, signer: Ed25519Signer) -> None:
    """The same request sent a second time finds its nonce burned."""
    with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        authorization = client.get(server.url).request.headers["Authorization"]
    replayed = httpx.get(server.url, headers={"Authorization": authorization})
    assert (replayed.status_code, replayed.json()["reason"]) == (401, "unknown nonce")


@pytest.mark.parametrize(
    "lines",
    [
        [(b"Cache-Control", b"public, max-age=60")],
        [(b"cache-control", b"s-maxage=9")],
        [(b"Cache-Control", b"must-revalidate")],
        [(b"cdn-cache-control", b"public")],
        [(b"Surrogate-Control", b"public"), (b"Cache-Control", b"private")],
    ],
)
@pytest.mark.parametrize("shape", [list, iter], ids=["list", "iterator"])
def test_what_a_shared_cache_may_keep_brings_no_nonce(
    signer: Ed25519Signer, shape: Callable[[Lines], Any], lines: Lines
) -> None:
    """A response that is publicly cacheable carries no next nonce, however its fields are given."""
    with serve(verified(responding(shape, lines))) as server:
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            response = client.get(server.url)
        assert "authentication-info" not in response.headers
        assert "uno-authn-info" not in response.headers
        assert server.statuses == [401, 200]


@pytest.mark.parametrize("shape", [list, tuple, iter], ids=["list", "tuple", "iterator"])
def test_the_applications_fields_are_kept(signer: Ed25519Signer, shape: Callable[[Lines], Any]) -> None:
    """Every field of the application's reaches the client, repeated ones too, and next nonces besides."""
    cookies = [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")]
    lines = [cookies[0], (b"X-Other", b"y"), cookies[1], (b"Cache-Control", b"no-store")]
    with serve(verified(responding(shape, lines))) as server:
        with httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
            response = client.get(server.url)
            assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
            assert (response.headers["x-other"], response.headers["cache-control"]) == ("y", "no-store")
            assert client.get(server.url).request.headers["Cookie"] == "a=1; b=2"
        assert server.statuses == [401, 200, 200]


def responding(shape: Callable[[Lines], Any], lines: Lines) -> Application:
    """Make an application that gives its header fields in one shape."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = shape([*lines, (b"content-length", b"0")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    return app


def test_the_lifespan_reaches_the_application() -> None:
    """Start-up and shutdown messages go to the application."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        await field(scope, receive, send) if scope["type"] == "http" else None

    with serve(verified(app), lifespan="on") as server:
        httpx.get(server.url)
    assert seen == ["lifespan"]


def test_a_path_is_encoded_where_a_server_gives_only_the_decoded_one(signer: Ed25519Signer) -> None:
    """Without raw_path, a path with ordinary encoding still verifies."""

    async def without_raw_path(scope: Scope, receive: Receive, send: Send) -> None:
        inner = {name: value for name, value in scope.items() if name != "raw_path"}
        await verified_plain(inner, receive, send)

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        await answer(send, 200, [], b"")

    verified_plain = verified(plain)
    with serve(without_raw_path) as server, httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client:
        assert client.get(f"{server.url}/caf%C3%A9/a%20b:c@d").status_code == 200


def test_the_body_reaches_the_application_once(signer: Ed25519Signer) -> None:
    """The application reads the whole body, and after it what the server says next."""
    types: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        types.append((await receive())["type"])
        await answer(send, 200, [], b"")
        types.append((await receive())["type"])

    with (
        serve(verified(app), lifespan="off") as own,
        httpx.Client(auth=TunedDigestAuth(own.url, signer)) as client,
    ):
        client.patch(own.url, content=os.urandom(100_000))
    assert types == ["http.request", "http.disconnect"]


def test_a_failing_store_lets_nobody_in(signer: Ed25519Signer) -> None:
    """An error of the store is a 500, and the application is not called."""

    class Broken(MemoryNonceStore):
        def take(self, nonce: str, /) -> None:
            raise OSError("the disk is gone")

    app = TunedDigestMiddleware(_unreachable, Verifier(Broken(), policy=POLICY))
    with (
        serve(app, log_config=None) as server,
        httpx.Client(auth=TunedDigestAuth(server.url, signer)) as client,
    ):
        assert client.get(server.url).status_code == 500


async def _unreachable(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the application was called")
