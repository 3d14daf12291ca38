"""What holds for every nonce store, by itself and behind a real server."""

import base64
import inspect
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from tuned_digest import Ed25519Signer, SearchCost, Work
from tuned_digest.server import Grant, Verifier
from tuned_digest.server.asgi import TunedDigestMiddleware

from .clients import Connect
from .every_store import STORES, AnyStore
from .field_server import POLICY, field
from .serving import QUICK, QUICK_CREATE, serve
from .verifying import BOTH, EVERY_ACTION, written

NEXT = Grant(BOTH, EVERY_ACTION - {"create"}, chained=True, identity="A" * 43)
CREATE = Grant(BOTH, frozenset({"create"}), chained=True, identity="A" * 43)
CHALLENGE = Grant(BOTH, frozenset({"read"}), chained=False)

NONCE = "(?P<nonce>[A-Za-z0-9+/]{43,128})"
CHALLENGES = re.compile(
    rf"""tuned-digest-signature nonce={NONCE};algorithm=\$argon2d\$v=19\$m=64,t=1,p=1;actions=read
asym-tuned-digest-signature nonce=(?P=nonce);algorithm=blake3\$1;actions=read"""
)
"""Both challenges of a 401 to a read (section 1), a line each."""

NEXT_NONCES = re.compile(
    rf"""nextnonce={NONCE};argon=\$argon2d\$v=19\$m=64,t=1,p=1;scopes=read,update,delete,debug,proxy
nextnonce=(?P=nonce);blake3=1;scopes=read,update,delete,debug,proxy
nextnonce={NONCE.replace("nonce", "create")};argon=\$argon2d\$v=19\$m=128,t=1,p=1;scopes=create
nextnonce=(?P=create);blake3=1;scopes=create"""
)
"""The next nonces of a response (section 6), a line each."""

AUTHORIZATION = re.compile(
    r"(asym-)?tuned-digest-signature identity=[A-Za-z0-9+/]{43};nonce=[A-Za-z0-9+/]{43,128};"
    r"response=([A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}|blake3\$[0-9]+\$[A-Za-z0-9+/]{43,128});"
    r"signature=[A-Za-z0-9+/]{86}"
)
"""The field that answers (section 5)."""


class Called:
    """A store's methods, called alike whether they are async or not."""

    def __init__(self, store: AnyStore, run: Callable[..., Any]) -> None:
        self.store: Any = store
        self._run = run

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.store, name)
        if not inspect.iscoroutinefunction(method):
            return method  # type: ignore[no-any-return]
        return lambda *arguments: self._run(method, *arguments)


@pytest.fixture(params=STORES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    """One store after the other, each empty."""
    with STORES[request.param](request, tmp_path) as store:
        yield store


@pytest.fixture
def store(made: AnyStore) -> Iterator[Called]:
    """The same, called from a thread of the test's; async methods run on one event loop."""
    with start_blocking_portal() as portal:
        yield Called(made, portal.call)


@pytest.mark.parametrize("grant", [NEXT, CREATE, CHALLENGE])
def test_a_nonce_is_taken_once(store: Called, grant: Grant) -> None:
    """A nonce gives its grant to the first who presents it and nothing to any other."""
    (nonce,) = store.issue(grant)
    assert store.take(nonce) == grant
    assert store.take(nonce) is None


def test_a_response_brings_all_its_nonces_at_once(store: Called) -> None:
    """Several nonces are issued in one call, in the order of their grants, and are taken one by one."""
    one, two = store.issue(NEXT, CREATE)
    assert one != two
    assert store.take(two) == CREATE
    assert store.take(one) == NEXT


def test_a_nonce_has_32_to_96_bytes(store: Called) -> None:
    """Nonces are base64 of the standard alphabet without padding, and no two are the same."""
    nonces = [nonce for _ in range(50) for nonce in store.issue(NEXT, CREATE)]
    assert len(set(nonces)) == 100
    for nonce in nonces:
        assert re.fullmatch(r"[A-Za-z0-9+/]+", nonce)
        assert 32 <= len(base64.b64decode(nonce + "=" * (-len(nonce) % 4))) <= 96


@pytest.mark.parametrize("nonce", ["", "A", "AAAA", "A" * 43, "A" * 128, "A" * 512, "=", "_-", "+/" * 30])
def test_a_nonce_that_was_not_issued_is_unknown(store: Called, nonce: str) -> None:
    """What was never issued gives nothing, and is no error."""
    assert store.take(nonce) is None


def test_a_nonce_is_compared_as_text(store: Called) -> None:
    """The same bytes in another spelling are not the nonce (section 8)."""
    (nonce,) = store.issue(NEXT)
    for other in (nonce + "=", nonce[:-1], nonce.swapcase(), f" {nonce}"):
        assert store.take(other) is None
    assert store.take(nonce) == NEXT


def test_a_nonce_presented_at_once_by_many_is_taken_once(store: Called) -> None:
    """Of 32 who present a nonce at the same time one gets the grant."""
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            (nonce,) = store.issue(NEXT)
            taken = list(threads.map(store.take, [nonce] * 32))
            assert [grant for grant in taken if grant is not None] == [NEXT]


def test_a_name_is_spent_once(store: Called) -> None:
    """What remembers spent names does so once for each, under one epoch."""
    if not hasattr(store.store, "spend"):
        pytest.skip("this store remembers nothing by name")
    epoch = store.spend("a", 60)
    assert re.fullmatch(r"[!-~]{1,64}", epoch)
    assert store.spend("a", 60) is None
    assert store.spend("b", 60) == epoch
    with ThreadPoolExecutor(8) as threads:
        assert sorted(map(bool, threads.map(store.spend, ["c"] * 32, [60] * 32))) == [False] * 31 + [True]


def test_clients_are_served_under_every_store(
    made: AnyStore, connect: Connect, signer: Ed25519Signer
) -> None:
    """The first request is challenged, later ones are chained, a create too, and a replay is refused."""
    app = TunedDigestMiddleware(field, Verifier(made, policy=POLICY))
    with serve(app) as server:
        with connect(server.url, signer) as client:
            assert client.send("GET", f"{server.url}/a").status == 200
            assert client.send("PATCH", f"{server.url}/a", body=b"x").status == 200
            assert client.send("POST", f"{server.url}/", body=b"x").status == 200
            last = client.send("GET", f"{server.url}/b")
            assert last.status == 200
        replayed = httpx.get(f"{server.url}/b", headers={"Authorization": last.sent["authorization"]})
    assert (replayed.status_code, replayed.json()["reason"]) == (401, "unknown nonce")


def exchange(url: str, method: str, path: str, *lines: str) -> tuple[int, Callable[[str], str]]:
    """Send one request over a socket; give the status, and a field's values by its name, a line each."""
    host, port = url.removeprefix("http://").split(":")
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *lines, "", ""]
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join(head).encode("ascii"))
        with connection.makefile("rb") as stream:
            status, *fields = stream.read().partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    pairs = [line.split(": ", 1) for line in fields]
    return int(status.split()[1]), lambda name: "\n".join(
        value for key, value in pairs if key.lower() == name
    )


def test_the_bytes_of_the_protocol_are_served_under_every_store(
    made: AnyStore, signer: Ed25519Signer
) -> None:
    """A socket that knows the protocol's page alone is challenged, let through, chained, and not replayed."""
    with serve(TunedDigestMiddleware(field, Verifier(made, policy=POLICY))) as server:

        def answer(nonce: str, work: Work, method: str = "GET") -> tuple[int, Callable[[str], str]]:
            value = written(nonce, work, method=method, signer=signer)
            assert AUTHORIZATION.fullmatch(value)
            lines = (f"Authorization: {value}", "Content-Length: 0")
            answers = [exchange(server.url, method, "/a", *lines) for _ in range(2)]
            assert answers[1][0] == 401
            return answers[0]

        status, challenged = exchange(server.url, "GET", "/a")
        challenges = CHALLENGES.fullmatch(challenged("www-authenticate"))
        assert status == 401
        assert challenges is not None
        assert challenged("uno-www-authn") == challenges[0].split("\n")[1]
        nonce, create = challenges["nonce"], ""
        for work in (QUICK, SearchCost(1), QUICK):
            status, answered = answer(nonce, work)
            following = NEXT_NONCES.fullmatch(answered("authentication-info"))
            assert status == 200
            assert following is not None
            assert answered("uno-authn-info") == "\n".join(following[0].split("\n")[1::2])
            nonce, create = following["nonce"], following["create"]
        assert answer(create, QUICK_CREATE, "POST")[0] == 200
