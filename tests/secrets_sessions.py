"""Sessions of the challenge scheme, every object of the package watched, and what they do not make."""

import inspect
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio
from blake3 import blake3

from tuned_digest import (
    Ed25519Signer,
    KeyFileWarning,
    NextNonce,
    Origin,
    Resources,
    SearchCost,
    Terms,
    TunedDigestError,
    errors,
)
from tuned_digest._cli.blobs import BlobStore
from tuned_digest._cli.service import Service
from tuned_digest._client.bodies import LostBody
from tuned_digest._client.cookies import FreshCookies
from tuned_digest._client.exchange import Received
from tuned_digest._client.library_errors import as_library_error
from tuned_digest._runtime.limiter import process_limiter
from tuned_digest._runtime.steps import Either, Here, InThread, Limited, Pause
from tuned_digest._wire.challenge import Challenge, Dropped
from tuned_digest._wire.credentials import Credentials, write_credentials
from tuned_digest._wire.grammar import read_parameters
from tuned_digest.events import WorkProgressed
from tuned_digest.proof import Job
from tuned_digest.proof.engines import Portable
from tuned_digest.proof.native import Native
from tuned_digest.server import (
    AdaptivePolicy,
    AsyncStatelessNonceStore,
    BodyLimits,
    Caller,
    CheckQueue,
    Decision,
    Grant,
    SQLiteNonceStore,
    StatelessNonceStore,
    Verifier,
)
from tuned_digest.server.asgi import Application, TunedDigestMiddleware
from tuned_digest.server.bodies import ClientGoneError, _Pace
from tuned_digest.server.checks import Check
from tuned_digest.server.effects import InStoreThread
from tuned_digest.server.stores._sealing import Sealed, Sealer
from tuned_digest.server.stores.redis import AsyncRedisNonceStore, RedisNonceStore
from tuned_digest.server.turns import Standing, Ticket

from .clients import CLIENTS, Client
from .field_server import challenge, scripted
from .field_server import field as echo
from .secrets_watch import BODY, LONG, PASSWORD, QUICK, Watch, WatchedPolicy, WatchedStore
from .serving import serve

SEED = bytes(range(7, 39))
SEALING_KEY = bytes(range(60, 92))


def run_session(name: str, watch: Watch) -> None:
    """Run one client through everything that can happen to a request."""

    def draw(size: int) -> bytes:
        salt = blake3(f"{name} {len(watch.secrets.get('salt', ()))}".encode()).digest(length=size)
        watch.keep("salt", salt)
        return salt

    def heard(event: object) -> None:
        watch.show(event)
        watch.look(f"{name} {type(event).__name__}")

    @contextmanager
    def connected(app: Application, **options: Any) -> Iterator[tuple[Client, str]]:
        signer, resources = Ed25519Signer.from_seed(SEED), Resources(prime_above_kib=1)
        options = {"_randomness": draw, "on_event": heard, "resources": resources, **options}
        with serve(app) as server, CLIENTS[name](server.url, signer, **options) as client:
            yield client, server.url
            watch.look(f"{name} is done")
        for seen in server.requests:
            for value in seen.field("Authorization"):
                watch.keep_authorization(value)

    policy = AdaptivePolicy(WatchedPolicy(watch, name, access=QUICK, create=LONG, access_cost=12))
    app = TunedDigestMiddleware(echo, Verifier(WatchedStore(watch), policy=policy))
    with connected(app) as (client, url):
        for method, path, body in (
            ("GET", "/a", None),
            ("PATCH", "/a", BODY),
            ("PATCH", "/a", iter([BODY])),
            ("PATCH", "/a", io.BytesIO(BODY)),
            ("GET", "/redirect?status=302&to=/b", None),
            ("PATCH", "/redirect?status=307&to=/b", BODY),
        ):
            result = client.send(method, f"{url}{path}", **({} if body is None else {"body": body}))
            assert result.status == 200
            watch.show(result.report)
            watch.look(f"{name} {method} {path} is answered")
    with connected(app, schemes=[SearchCost.scheme]) as (client, url):  # a large body: primed where it can be
        assert client.send("PATCH", f"{url}/a", body=BODY * 100).status == 200
    answers = [
        (401, [challenge("ZGVhcg", "$argon2d$v=19$m=999999,t=9,p=1")], b""),
        (401, [("WWW-Authenticate", "tuned-digest-signature nonce=YnJva2Vu;nonce=x")], b""),
        (401, [challenge("c2VhcmNo", "scrypt$1")], b""),
        (401, [challenge("cmVqZWN0ZWQ")], b""),
        (401, [challenge("cmVqZWN0ZWQ")], b'{"reason": "unknown identity"}'),
        (200, [("Authentication-Info", "nextnonce=ZHJvcHBlZA;blake3=0;scopes=read")], b""),
    ]
    with connected(scripted(*answers)) as (client, url):
        for _ in range(3):
            with pytest.raises(TunedDigestError) as caught:
                client.send("PATCH", f"{url}/a", body=BODY)
            watch.show_error(caught.value)
        assert client.send("PATCH", f"{url}/a", body=BODY).status == 401
        assert client.send("GET", f"{url}/a").status == 200
    watch.keep("nonce", "ZGVhcg", "YnJva2Vu", "c2VhcmNo", "cmVqZWN0ZWQ", "ZHJvcHBlZA")


def run_by_hand(watch: Watch) -> None:
    """Make what a session does not, or not for long enough to be seen."""
    nonce, salt, response = "aGFuZG1hZGU", bytes(range(130, 146)), "c2FsdA$aGFzaG1hZGU"
    signature, works = bytes(range(64, 128)), {QUICK.scheme: QUICK}
    watch.keep("nonce", nonce)
    watch.keep("salt", salt)
    watch.keep("response", response)
    watch.keep("signature", signature)
    credentials = Credentials(QUICK.scheme, bytes(32), nonce, "deployed", response, signature)
    asked = Challenge(QUICK.scheme, nonce, str(QUICK), QUICK, frozenset({"read"}))
    following = NextNonce(nonce, Terms(works, frozenset({"read"})))
    value = write_credentials(credentials)
    pieces = LONG.prove(BODY, nonce=nonce, salt=salt, job=Job())
    rejection = errors.RequestRejectedError("no", status=401, fields=(("A", value),), body=BODY)
    made: list[object] = [
        credentials,
        asked,
        following,
        Received([following], asked),
        Dropped("Authentication-Info", "what was wrong with it"),
        read_parameters(value.partition(" ")[2], "Authorization"),
        Here(lambda: value),
        InThread(lambda: value),
        Either(lambda: value, lambda: awaited(value)),
        Pause(1),
        InStoreThread(lambda: value),
        Limited(pieces, LONG, share=None),
        rejection,
        as_library_error(rejection, httpx.RequestError),
        Ed25519Signer.from_seed(SEED),
        FreshCookies(),
        LostBody(),
        KeyFileWarning("others can read it"),
        WorkProgressed(Origin("https", "api.example.com", 443), SearchCost(20), 65536),
        BlobStore(),
        Portable(),
        Native(SimpleNamespace(kernel=lambda: "none")),  # type: ignore[arg-type]  # a companion
    ]
    for thing in made:
        watch.show(thing)
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, TunedDigestError):
            watch.show(kind("what happened"))
    # Of two pieces of work that run alone the second is queued while the first looks around.
    queued = [process_limiter().submit(looking(watch), SearchCost(20)) for _ in range(2)]
    for future in queued:
        future.result(60)


def run_server_by_hand(watch: Watch, directory: Path) -> None:
    """Make what a server has besides: its other stores, its queue, and what it tells its owner."""
    watch.keep("sealing key", SEALING_KEY)
    grant = Grant({QUICK.scheme: QUICK}, frozenset({"read"}), chained=True)
    file = SQLiteNonceStore(directory / "nonces.db")
    shared = AsyncRedisNonceStore(redis.asyncio.Redis(socket_timeout=1))
    sealing = StatelessNonceStore([SEALING_KEY], several_processes=True)
    stores = (file, sealing, StatelessNonceStore([SEALING_KEY], spent=file))
    for store in stores:
        nonces = store.issue(grant, grant)
        watch.keep("nonce", *nonces)
        watch.look("nonces were issued")
        assert store.take(nonces[0]) == grant
    sealer = Sealer([SEALING_KEY], "")
    sealed = Sealed(sealer.new_instance(bytes), 1, 2**31, bytes(8), grant)
    watch.keep("nonce", sealer.seal(sealed))
    queue = CheckQueue(places=1)
    checks = [Check(lambda: watch.look("work is checked"), LONG, name, "192.0.2.1", False) for name in "abc"]
    futures = [queue.submit(check) for check in checks]
    made: list[object] = [
        *stores,
        *checks,
        *(shared, RedisNonceStore(redis.Redis(socket_timeout=1))),
        *(AsyncStatelessNonceStore([SEALING_KEY], spent=shared), sealer, sealed, Sealed),
        *(queue, queue.step(checks[0]), Ticket("a", "b", Standing.STRANGER, 1), Verifier(file).counters()),
        *(Caller("a", None, "read"), Decision(0, "", "read", "a"), ClientGoneError("gone")),
        *(_Pace(BodyLimits(), 0.0), Service(QUICK, LONG, None, f"redis://:{PASSWORD}@localhost")),
    ]
    for thing in made:
        watch.show(thing)
    for future in futures:
        future.result(60)
    file.close()


def looking(watch: Watch) -> Generator[None, None, None]:
    """Look around, as work of one piece."""
    yield from ()
    watch.look("work is done")


async def awaited(value: str) -> str:
    """Give it."""
    return value
