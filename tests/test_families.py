"""A library of the httpx family gets its leaf in a few lines: tried with a renamed copy of httpx."""

import importlib
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

import tuned_digest.httpx
from tuned_digest import Ed25519Signer, LimitExceededError, Resources
from tuned_digest.events import Report

from .field_server import challenge, scripted, verified
from .issuing import challenging
from .ledger import Ledger
from .raw_server import Issuer, Recorded, Wire, record
from .serving import Served, serve

LEAF = '''
"""Sign the requests of the copy's clients."""

import httpx_copy

from tuned_digest._client.families.httpx import FamilyAuth, HttpxFamily


class TunedDigestAuth(FamilyAuth, httpx_copy.Auth):
    """Sign every request to the served origins."""

    _family = HttpxFamily(httpx_copy)

    def prime(self, client, *, method=None, path=None):
        """Get a nonce for every scope of each served origin."""
        return self._prime(client, method, path)
'''

CHUNKS = [b"one ", b"two ", b"three"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of httpx under another name, and the copy's leaf."""
    folder = tmp_path_factory.mktemp("copy")
    (original,) = httpx.__path__
    shutil.copytree(original, folder / "httpx_copy", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (folder / "httpx_copy").rglob("*.py"):
        source = re.sub(r"(?m)^( *(?:import|from) )httpx\b", r"\1httpx_copy", file.read_text("utf-8"))
        file.write_text(source.replace('"__module__", "httpx"', '"__module__", "httpx_copy"'), "utf-8")
    (folder / "httpx_copy_leaf.py").write_text(LEAF.lstrip())
    return folder


@pytest.fixture(scope="module")
def library(folder: Path) -> Iterator[ModuleType]:
    """The copy, imported until the last of these tests."""
    sys.path.insert(0, str(folder))
    yield importlib.import_module("httpx_copy")
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.startswith("httpx_copy")]:
        del sys.modules[name]


@pytest.fixture
def leaf(library: ModuleType) -> Any:
    """The copy's leaf."""
    return importlib.import_module("httpx_copy_leaf")


@dataclass
class Connected:
    """A client of the copy, and how its calls are run: at once, or on an event loop."""

    client: Any
    run: Callable[[Callable[[], Any]], Any] = lambda call: call()
    is_async: bool = False

    def send(self, method: str, url: str, **options: Any) -> Any:
        """Send one request."""
        return self.run(lambda: self.client.request(method, url, **options))

    def streamed(self, chunks: list[bytes]) -> Iterator[bytes] | AsyncIterator[bytes]:
        """Give chunks once, as such a client takes them."""
        return in_turn(chunks) if self.is_async else iter(chunks)


async def in_turn(chunks: list[bytes]) -> AsyncIterator[bytes]:
    """Give chunks to an async client."""
    for chunk in chunks:
        yield chunk


Connect = Callable[..., AbstractContextManager[Connected]]


@pytest.fixture(params=["sync", "asyncio", "trio"])
def connect(request: pytest.FixtureRequest, library: Any, ledger: Ledger) -> Connect:
    """Connect a client of the copy: a blocking one, and an async one under either event loop."""
    backend = request.param
    ledger.forwards_on_redirect = True

    @contextmanager
    def connecting(auth: Any, timeout: float = 30) -> Iterator[Connected]:
        options = {"auth": auth, "follow_redirects": True, "timeout": timeout}
        if backend == "sync":
            with library.Client(**options) as client:
                yield Connected(client)
            return
        with start_blocking_portal(backend) as portal:
            client = library.AsyncClient(**options)
            with portal.wrap_async_context_manager(client):
                yield Connected(client, portal.call, is_async=True)

    return connecting


@pytest.fixture
def server(ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`."""
    with ledger.watch(serve(verified())) as served:
        yield served


def test_a_leaf_is_30_lines_at_most() -> None:
    """All that a library of the family needs of its own fits in 30 lines."""
    assert len(LEAF.strip().splitlines()) <= 30


def test_the_copy_shares_no_class_with_httpx(library: ModuleType) -> None:
    """Of httpx's classes none is the copy's, so that what holds below holds without httpx."""
    names = [name for name in httpx.__all__ if isinstance(getattr(httpx, name), type)]
    assert len(names) > 50
    assert not [name for name in names if getattr(library, name) is getattr(httpx, name)]


def test_a_challenge_is_answered_and_a_chain_goes_on(
    connect: Connect, leaf: Any, server: Served, signer: Ed25519Signer
) -> None:
    """The first request is challenged, and those after it take one round trip each."""
    with connect(leaf.TunedDigestAuth(server.url, signer)) as client:
        responses = [client.send("GET", f"{server.url}/{number}") for number in range(3)]
    assert [response.json()["caller"] for response in responses] == [signer.identity] * 3
    assert server.statuses == [401, 200, 200, 200]
    reports = [response.extensions["tuned_digest"] for response in responses]
    assert [(type(report), report.round_trips) for report in reports] == [
        (Report, 2),
        (Report, 1),
        (Report, 1),
    ]


def test_a_redirect_is_signed_afresh(
    connect: Connect, library: Any, leaf: Any, server: Served, signer: Ed25519Signer
) -> None:
    """The target of a redirect gets a signature of its own, on a request of the copy's own class."""
    with connect(leaf.TunedDigestAuth(server.url, signer)) as client:
        response = client.send("GET", f"{server.url}/redirect?status=302&to=/target")
    assert response.json()["path"] == "/target"
    assert type(response.request) is library.Request
    assert server.statuses == [401, 302, 401, 200]


def test_a_streamed_body_goes_through_a_challenge_and_a_redirect(
    connect: Connect, leaf: Any, server: Served, signer: Ed25519Signer
) -> None:
    """A body that can be read only once is sent whole, four times."""
    with connect(leaf.TunedDigestAuth(server.url, signer)) as client:
        response = client.send(
            "PUT", f"{server.url}/redirect?status=307&to=/target", content=client.streamed(CHUNKS)
        )
    assert response.json()["size"] == len(b"".join(CHUNKS))
    assert server.statuses == [401, 307, 401, 200]


def test_a_large_body_waits_for_priming(
    connect: Connect, leaf: Any, server: Served, signer: Ed25519Signer
) -> None:
    """Before a large body a request without one gets a nonce, and the body is sent once."""
    auth = leaf.TunedDigestAuth(server.url, signer, resources=Resources(prime_above_kib=1))
    with connect(auth) as client:
        assert client.send("PATCH", f"{server.url}/target", content=bytes(5000)).json()["size"] == 5000
    assert server.story == ["HEAD / 401", "HEAD / 200", "PATCH /target 200"]


def test_priming_goes_through_a_client_of_the_copy(
    connect: Connect, leaf: Any, server: Served, signer: Ed25519Signer
) -> None:
    """`prime` tells a blocking client of the copy from an async one."""
    auth = leaf.TunedDigestAuth(server.url, signer)
    with connect(auth) as client:
        assert client.run(lambda: auth.prime(client.client)) is True
        assert client.send("GET", f"{server.url}/target").status_code == 200
    assert server.story == ["HEAD / 401", "HEAD / 200", "GET /target 200"]


def test_an_error_is_one_of_the_copys_own(
    connect: Connect, library: Any, leaf: Any, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """What cannot be signed raises an error of the copy, which names its request and pickles."""
    too_dear = challenge("AAAA", "$argon2d$v=19$m=4194304,t=1,p=1")
    with (
        ledger.watch(serve(scripted((401, [too_dear], b"")))) as server,
        connect(leaf.TunedDigestAuth(server.url, signer)) as client,
        pytest.raises(LimitExceededError) as raised,
    ):
        client.send("GET", server.url)
    error: Any = raised.value
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert isinstance(one, library.RequestError)
        assert not isinstance(one, httpx.RequestError)
        assert one.asked == 4194304
    assert type(error.request) is library.Request


def test_a_challenge_that_breaks_off_is_the_copys_error(
    connect: Connect, library: Any, leaf: Any, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """A reset inside a 401's body is an error of the copy, with its request."""
    issuer = Issuer()

    def respond(wire: Wire, recorded: Recorded) -> None:
        wire.begin(401, [issuer.challenge(), ("Content-Length", "100")], b"short")
        wire.close()

    with (
        ledger.watch(record(respond)) as server,
        connect(leaf.TunedDigestAuth(server.url, signer)) as client,
        pytest.raises(library.TransportError) as raised,
    ):
        client.send("GET", server.url)
    assert type(raised.value.request) is library.Request


def test_a_challenge_that_stops_is_answered(
    connect: Connect, leaf: Any, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """A 401 whose body stops half-way runs into the copy's own timeout, and is answered."""
    issuer = Issuer()

    def stopping(wire: Wire) -> None:
        wire.begin(401, [issuer.challenge(), ("Content-Length", "100")], b"short")
        wire.wait_until_gone()

    with (
        ledger.watch(record(challenging(issuer, stopping))) as server,
        connect(leaf.TunedDigestAuth(server.url, signer), timeout=0.5) as client,
    ):
        assert client.send("GET", server.url).status_code == 200


def test_a_cookie_of_a_challenge_is_sent_with_the_answer(
    connect: Connect, leaf: Any, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """What a 401 sets by its Set-Cookie field goes out with the copy's next request."""
    asked = (401, [challenge("AAAA"), ("Set-Cookie", "node=b; Path=/")], b"")
    with (
        ledger.watch(serve(scripted(asked, (200, [], b"")))) as server,
        connect(leaf.TunedDigestAuth(server.url, signer)) as client,
    ):
        assert client.send("GET", server.url).status_code == 200
    assert server.requests[1].field("Cookie") == ["node=b"]


def test_each_library_refuses_the_auth_of_the_other(library: Any, leaf: Any, signer: Ed25519Signer) -> None:
    """An auth object in a client of the other library is that library's own error, at once."""
    with pytest.raises(TypeError, match="auth"):
        httpx.Client(auth=leaf.TunedDigestAuth("*", signer))
    with pytest.raises(TypeError, match="auth"):
        library.Client(auth=tuned_digest.httpx.TunedDigestAuth("*", signer))


WITHOUT_HTTPX = """
import sys
sys.modules["httpx"] = None
import anyio, httpx_copy, httpx_copy_leaf
from tuned_digest import Ed25519Signer

url = sys.argv[1]

def auth():
    return httpx_copy_leaf.TunedDigestAuth(url, Ed25519Signer.generate())

async def put():
    async def chunks():
        yield bytes(2_000_000)
    async with httpx_copy.AsyncClient(auth=auth(), follow_redirects=True) as client:
        return await client.put(url + "/redirect?status=307&to=/target", content=chunks())

with httpx_copy.Client(auth=auth(), follow_redirects=True) as client:
    response = client.put(url + "/redirect?status=307&to=/target", content=iter([bytes(2_000_000)]))
print(response.json()["size"], anyio.run(put).json()["size"])
"""


def test_the_family_works_where_httpx_is_not_installed(folder: Path, server: Served, ledger: Ledger) -> None:
    """Where httpx cannot be imported the copy's leaf primes, answers, follows redirects, sync and async."""
    ledger.forwards_on_redirect = True
    command = [sys.executable, "-c", WITHOUT_HTTPX, server.url]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.stdout, ended.stderr) == ("2000000 2000000\n", "")
    assert server.statuses == [401, 200, 307, 401, 200] * 2
