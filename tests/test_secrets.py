"""No nonce, salt, response, signature, private key or body is ever shown by an object of this package.

One session of every client runs against real servers, with challenges, next nonces, redirects, refusals and
errors. Whatever the package has in memory on the way, on either side, is shown; so is every class that does
not come by itself.
"""

import base64
import dataclasses
import gc
import importlib
import inspect
import io
import logging
import pkgutil
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio
from blake3 import blake3

import tuned_digest
from tuned_digest import (
    ArgumentError,
    Ed25519Signer,
    KeyFileWarning,
    NextNonce,
    Origin,
    Resources,
    SearchCost,
    Terms,
    TunedDigestError,
    Tuning,
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
from tuned_digest._wire.credentials import Credentials, read_credentials, write_credentials
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
    MemoryNonceStore,
    Policy,
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
from .serving import serve

SEED = bytes(range(7, 39))
SEALING_KEY = bytes(range(60, 92))
BODY = b"a body that nobody may see, of some length"
QUICK, LONG = Tuning("argon2d", 64, 1, 1), Tuning("argon2d", 1024, 1, 1)


def forms(secret: str | bytes) -> Iterator[str]:
    """Write a secret in the ways in which it could be shown."""
    if isinstance(secret, str):
        yield secret
        return
    yield secret.hex()
    yield repr(secret)[2:-1]
    yield repr(bytearray(secret))[12:-2]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).decode().rstrip("=")


OURS: dict[type, tuple[type, ...]] = {}


def ours(thing: object) -> tuple[type, ...]:
    """List the classes of this package that an object is one of."""
    kind = type(thing)
    if kind not in OURS:
        OURS[kind] = tuple(
            base for base in kind.__mro__ if str(base.__module__).split(".")[0] == "tuned_digest"
        )
    return OURS[kind]


@dataclass
class Watch:
    """Collect what was secret, and what was shown."""

    secrets: dict[str, set[str | bytes]] = field(default_factory=dict)
    shown: dict[str, type] = field(default_factory=dict)
    seen: set[type] = field(default_factory=set)
    """The classes of this package of which there was an object, those they derive from included."""
    looks: Counter[str] = field(default_factory=Counter)

    def keep(self, kind: str, *secrets: str | bytes) -> None:
        """Take something for a secret."""
        self.secrets.setdefault(kind, set()).update(secrets)

    def keep_authorization(self, value: str) -> None:
        """Take what is in an Authorization field for secrets."""
        credentials = read_credentials([value])
        assert credentials is not None
        self.keep("nonce", credentials.nonce)
        self.keep("signature", credentials.signature)
        self.keep("response", credentials.response)

    def show(self, thing: object) -> None:
        """Note how one object shows itself."""
        if ours(thing):
            self.seen.update(ours(thing))
            for text in (repr(thing), str(thing)):
                self.shown.setdefault(text, type(thing))

    def look(self, moment: str) -> None:
        """Note how every object of this package that is in memory shows itself, twice for each moment."""
        self.looks[moment] += 1
        if self.looks[moment] <= 2:
            for thing in gc.get_objects():
                if ours(thing):
                    self.show(thing)

    def leaks(self, kind: str) -> list[tuple[type, str]]:
        """List what shows a secret of one kind."""
        texts = [text for secret in self.secrets[kind] for text in forms(secret)]
        return [
            (shower, shown) for shown, shower in self.shown.items() if any(text in shown for text in texts)
        ]


class WatchedStore(MemoryNonceStore):
    """Take every nonce issued for a secret."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def issue(self, *grants: Grant) -> list[str]:
        """Issue nonces."""
        nonces = super().issue(*grants)
        for nonce in nonces:
            self._watch.keep("nonce", nonce)
        return nonces


class WatchedPolicy(Policy):
    """Look around while a request is verified."""

    def __init__(self, watch: Watch, name: str, **options: Any) -> None:
        super().__init__(**options)
        self._watch = watch
        self._name = name

    def action(self, method: str, path: str) -> str:
        """Say that each request is an update, but for reading."""
        self._watch.look(f"{self._name} {method} is verified")
        return {"GET": "read", "HEAD": "read"}.get(method, "update")


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
            for error in (caught.value, caught.value.__cause__):
                watch.show(error)
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
        *(_Pace(BodyLimits(), 0.0), Service(QUICK, LONG, None, "redis://:password@localhost")),
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


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Everything, once."""
    watching, handler = Watch(), logging.StreamHandler(io.StringIO())
    logger = logging.getLogger("tuned_digest")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        watching.keep("private key", SEED, Ed25519Signer.from_seed(SEED).to_pem().splitlines()[1])
        watching.keep("body", BODY)
        for name in CLIENTS:
            run_session(name, watching)
        run_by_hand(watching)
        run_server_by_hand(watching, tmp_path_factory.mktemp("stores"))
        watching.shown[handler.stream.getvalue()] = logging.Logger
        yield watching
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


KINDS = ["nonce", "salt", "response", "signature", "private key", "body", "sealing key"]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_shows_a_secret(watch: Watch, kind: str) -> None:
    """No object of the package, in any state of a session, has one in its repr or str; nor has the log."""
    assert len(watch.secrets[kind]) >= 1
    assert watch.leaks(kind) == []


def package_classes() -> Iterator[type]:
    """Walk all classes of the package."""
    for found in pkgutil.walk_packages(tuned_digest.__path__, "tuned_digest."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            for thing in vars(module).values():
                if inspect.isclass(thing) and thing.__module__ == module.__name__:
                    yield thing


# What no session makes: the demonstration's own, and the command's.
ELSEWHERE = {"_Answer", "_Demo", "_Outcome", "_Server"}


def test_every_class_was_seen(watch: Watch) -> None:
    """There was an object of every class of the package that can have one."""
    unseen = {kind for kind in package_classes() if kind not in watch.seen and not is_protocol(kind)}
    assert {kind.__name__ for kind in unseen} == ELSEWHERE


def is_protocol(kind: type) -> bool:
    """Tell whether a class only describes others."""
    return bool(getattr(kind, "_is_protocol", False))


def test_no_dataclass_shows_a_field_that_is_named_for_a_secret() -> None:
    """Where a class writes its own repr from its fields, those that hold secrets are left out."""
    named = {"authorization", "body", "fields", "nonce", "password", "response", "salt", "signature"}
    shown = [
        f"{kind.__module__}.{kind.__name__}.{one.name}"
        for kind in package_classes()
        if dataclasses.is_dataclass(kind)
        for one in dataclasses.fields(kind)
        if one.name in named and one.repr
    ]
    assert shown == []


def test_the_watch_sees_what_is_shown() -> None:
    """A secret in any of the usual spellings, shown by an object that is somewhere in memory, is found."""
    secret = bytes(range(200, 216))
    for text in (secret.hex(), repr(secret), repr(bytearray(secret)), base64.b64encode(secret).decode()):
        watching, somewhere = Watch(), [ArgumentError(f"a salt is not {text}")]
        watching.keep("salt", secret)
        watching.look("now")
        assert {kind for kind, _ in watching.leaks("salt")} == {ArgumentError}
        assert watching.seen >= {ArgumentError, TunedDigestError}
        somewhere.clear()
