"""Accounts and self-signed tokens, every object of the package watched: devices, and clients that sign.

One server has the accounts application, and behind a middleware of both schemes an application that takes
bound tokens once, and one that takes any.
"""

import functools
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tuned_digest import (
    AsyncSigner,
    Ed25519Signer,
    PrivateKeySigner,
    PublicKey,
    Signer,
)
from tuned_digest._cli.account_client import AccountClient, Enrolled, ListedKey, Pending
from tuned_digest._cli.service import Service
from tuned_digest._cli.signed_calls import SignedCalls, UnansweredError
from tuned_digest._tokens.reading import Expected
from tuned_digest.errors import ClockError, EnrolmentError, PrivateKeyError, StoreUnavailableError
from tuned_digest.server import Decision, EnrolledKey, MemoryKeyRegistry, TokenVerifier, Verifier
from tuned_digest.server.accounts import codes, devices, wsgi
from tuned_digest.server.accounts.asgi import AccountsApplication
from tuned_digest.server.accounts.enrolment import Enrolment
from tuned_digest.server.accounts.registry import Candidate, Code
from tuned_digest.server.accounts.sql import SQLKeyRegistry
from tuned_digest.server.asgi import Application, Message, Receive, Scope, Send, TunedDigestMiddleware

from .clients import CLIENTS
from .enrolling import quick_hashes
from .field_server import field as echo
from .secrets_watch import BODY, LONG, PASSWORD, QUICK, Watch, WatchedPolicy, WatchedStore
from .serving import Served, serve
from .token_serving import signed_in

ACCOUNT = "acme"
WRONG = "0000-1111-2222-3333-4444-5555-6666"
"""A code that nobody made: perhaps somebody has mistyped their own."""

NOWHERE = f"postgresql+psycopg://somebody:{PASSWORD}@127.0.0.1:1/accounts"
"""A registry that cannot be reached."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class WatchedRegistry:
    """Look around whenever a registry is asked for something, and take what is to be kept for secrets.

    Args:
        registry: The registry.
        watch: What looks.
    """

    def __init__(self, registry: Any, watch: Watch) -> None:
        self._registry = registry
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._registry, name)

        def asked(*arguments: Any, **details: Any) -> Any:
            told = [*arguments, *details.get("codes", ())]
            for thing in [*told, *(one for some in told if isinstance(some, list) for one in some)]:
                if isinstance(thing, Code):
                    self._watch.keep_hash(thing.hash)
                if isinstance(thing, Candidate):
                    self._watch.keep("enrolment nonce", thing.nonce)
            self._watch.look(f"{type(self._registry).__name__} {name}")
            found = method(*arguments, **details)
            self._watch.look(f"{type(self._registry).__name__} has done {name}")
            return found

        return asked


class _Held:
    """A key that is held elsewhere; it looks around while a token is signed."""

    algorithm = "ES256"

    def __init__(self, signer: PrivateKeySigner, watch: Watch) -> None:
        self.public_key = signer.public_key
        self._signer = signer
        self._watch = watch

    def sign(self, message: bytes, /) -> bytes:
        self._watch.look("a token is signed")
        return self._signer.sign(message)


class _AwaitedHeld(_Held):
    """The same, reached by awaiting."""

    async def sign(self, message: bytes, /) -> bytes:  # type: ignore[override]
        self._watch.look("a token is signed elsewhere")
        return self._signer.sign(message)


@dataclass
class Place:
    """A server of accounts.

    Args:
        served: What it was asked.
        rules: Its operator's way to the registry.
    """

    served: Served
    rules: Enrolment

    @property
    def accounts(self) -> str:
        """Where the accounts application is mounted."""
        return f"{self.served.url}/account"


def keep_private_key(watch: Watch, key: PrivateKey) -> None:
    """Take a private key for a secret: its numbers, and the file it comes in, a line at a time."""
    private = key.private_numbers()
    numbers = (
        [private.d, private.p, private.q]
        if isinstance(private, rsa.RSAPrivateNumbers)
        else [private.private_value]
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    watch.keep("private key", *pem.splitlines()[1:-1])
    for number in numbers:
        octets = number.to_bytes(-(-number.bit_length() // 8), "big")
        watch.keep("private key", octets, str(number))


def encrypted(key: PrivateKey) -> bytes:
    """Write the file of a key, encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))


@contextmanager
def serving(watch: Watch, registry: Any) -> Iterator[Place]:
    """Serve accounts, and what they are for, until the block ends; then take what was sent for secrets."""
    made: dict[str, Application] = {}

    async def serve_all(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
            return
        place = scope["path"].split("/")[1]

        async def send_watched(message: Message) -> None:
            watch.look(f"{place} {scope['method']} is answered {message.get('status')}")
            await send(message)

        await made.get(place, made[""])(scope, receive, send_watched)

    with serve(serve_all) as served:
        store, kind = WatchedStore(watch), type(registry).__name__
        watched: Any = WatchedRegistry(registry, watch)
        rules = Enrolment(watched, registration="open")

        def decided(decision: Decision) -> None:
            watch.show(decision)
            watch.look(f"{kind} is asked: {decision.reason}")

        policy = WatchedPolicy(watch, kind, access=QUICK, create=QUICK)
        challenging = Verifier(store, policy=policy, accounts=watched, on_decision=decided)
        strict = TokenVerifier(watched, served.url, single_use=store, policy=policy, on_decision=decided)
        loose = TokenVerifier(watched, served.url, single_use=None, require_bound=False, on_decision=decided)
        accounts = AccountsApplication(rules, served.url, single_use=store, on_decision=decided)
        made[""] = TunedDigestMiddleware(echo, [challenging, strict])
        made["loose"] = TunedDigestMiddleware(echo, loose)
        made["account"] = _mounted(accounts)
        yield Place(served, rules)
        for thing in (wsgi.AccountsApplication(rules, served.url, single_use=store), strict.counters()):
            watch.show(thing)
    for seen in served.requests:
        for value in seen.field("Authorization"):
            watch.keep_authorization(value)


def _mounted(app: Application) -> Application:
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/account"}, receive, send)

    return mounted


def run_accounts(watch: Watch, folder: Path) -> None:
    """Run devices and clients over registries in memory and in a file."""
    keys: list[PrivateKey] = [
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    ]
    for key in keys:
        keep_private_key(watch, key)
    file = SQLKeyRegistry(folder / "keys.db")
    file.start()
    registries: list[tuple[Any, Sequence[str]]] = [(MemoryKeyRegistry(), list(CLIENTS)), (file, ["httpx"])]
    with pytest.MonkeyPatch.context() as patch:
        quick_hashes(patch)
        for registry, clients in registries:
            with serving(watch, registry) as place:
                run_devices(watch, place, keys)
                for name in clients:
                    run_tokens(name, watch, place)
            watch.look("accounts are done")
    file.close()


def run_devices(watch: Watch, place: Place, keys: Sequence[PrivateKey]) -> None:
    """Let devices enrol by every way, with all that can go wrong."""

    def device(signer: Any, account: str = ACCOUNT) -> AccountClient:
        watch.show(signer)
        return AccountClient(place.accounts, account, signer)

    def noted(thing: Any) -> Any:
        if isinstance(thing, Enrolled):
            watch.keep_codes(*thing.codes)
        watch.show(thing)
        watch.look(f"devices have {type(thing).__name__}")
        return thing

    def refused(ask: Callable[[], object]) -> str:
        with pytest.raises(EnrolmentError) as caught:
            ask()
        watch.show_error(caught.value)
        watch.look(f"devices are refused: {caught.value.reason}")
        return caught.value.reason

    laptop = device(PrivateKeySigner(keys[0]))
    phone = device(Ed25519Signer.generate())
    tablet = device(PrivateKeySigner.from_pem(encrypted(keys[1]), password=PASSWORD))
    invitation = place.rules.invite(ACCOUNT)
    watch.keep_codes(invitation, WRONG)
    for code, reason in ((WRONG, "code refused"), (f"{WRONG}-7", "bad request")):
        assert refused(functools.partial(laptop.enrol, "laptop", invitation=code)) == reason
    first = noted(laptop.enrol("laptop", invitation=invitation.lower()))
    assert noted(laptop.enrol("laptop")).was_before
    assert refused(lambda: tablet.enrol("tablet", invitation=invitation)) == "code refused"

    pending = noted(phone.enrol("phone"))
    assert isinstance(noted(phone.enrol("phone", nonce=pending.nonce)), Pending)
    (waiting,) = laptop.candidates()
    refused(lambda: laptop.approve(ListedKey(waiting.thumbprint, "another", nonce=waiting.nonce)))
    laptop.approve(noted(waiting))
    assert isinstance(noted(phone.enrol("phone", nonce=pending.nonce)), Enrolled)
    assert refused(lambda: device(Ed25519Signer.generate()).enrol("x", nonce=pending.nonce)) == "not approved"

    assert refused(lambda: tablet.enrol("tablet", recovery_code=WRONG)) == "code refused"
    noted(tablet.enrol("tablet", recovery_code=first.codes[0]))
    watch.keep_codes(*laptop.renew_recovery_codes())
    renewed = SignedCalls(place.accounts, ACCOUNT, PrivateKeySigner(keys[0])).send(
        "POST", "/recovery-codes", wanted=(201,)
    )
    watch.keep_codes(*renewed.members["recovery_codes"])
    noted(renewed)
    other = device(Ed25519Signer.generate())
    assert refused(lambda: other.enrol("other", recovery_code=first.codes[1])) == "code refused"
    listed = {key.thumbprint: key for key in laptop.enrolled_keys()}
    laptop.revoke(noted(listed[tablet.key.thumbprint]))
    assert refused(tablet.enrolled_keys) == "token refused"
    noted(device(Ed25519Signer.generate(), "free").enrol("first"))
    for kind in ("invitation", "recovery"):
        for kept in place.rules.registry.codes(ACCOUNT, kind):
            watch.show(kept)
    for entry in place.rules.registry.audit():
        watch.show(entry)


def run_tokens(name: str, watch: Watch, place: Place) -> None:
    """Run one client through everything that can happen to a request with a token."""
    heard: list[str] = []

    def hear(event: object) -> None:
        heard.append(type(event).__name__)
        watch.show(event)
        watch.look(f"{name} {type(event).__name__}")

    def claims(request: object) -> dict[str, object]:
        watch.show(request)
        watch.look(f"{name} asks for claims")
        return {}

    seed = bytes(range(100, 132))
    own, revoked = Ed25519Signer.from_seed(seed), Ed25519Signer.generate()
    key = ec.generate_private_key(ec.SECP256R1())
    keep_private_key(watch, key)
    watch.keep("private key", seed, own.to_pem().splitlines()[1])
    make = _AwaitedHeld if name.startswith("httpx-") else _Held
    held = cast("Signer | AsyncSigner", make(PrivateKeySigner(key), watch))
    for one in (own, revoked, held):
        public = PublicKey.of(cast("Signer", one))
        watch.show(public)
        if place.rules.registry.find(public.thumbprint) is None:
            place.rules.add(ACCOUNT, public, name)
    place.rules.revoke(PublicKey.of(revoked).thumbprint)

    ways: list[tuple[str, int, Any, dict[str, Any]]] = [
        ("fresh", 200, own, {}),
        ("loose", 200, own, {"bind": False}),
        ("loose", 200, own, {"bind": False, "reuse": True}),
        ("fresh", 200, held, {}),
        ("fresh", 200, own, {"_clock": lambda: time.time() + 600}),
        ("fresh", 401, revoked, {}),
        ("fresh", 401, own, {"audience": "https://elsewhere.example"}),
    ]
    url = place.served.url
    for number, (path, status, signer, way) in enumerate(ways):
        told = {"account": ACCOUNT, "on_event": hear, "claims": claims, **way}
        with signed_in(name, url, signer, **told) as client:
            for method, target, body in (
                ("GET", f"{url}/{path}", None),
                ("PUT", f"{url}/{path}", BODY),
                ("PUT", f"{url}/redirect?status=307&to=/{path}", BODY),
            ):
                if path == "loose" and "redirect" in target:
                    continue
                result = client.send(method, target, **({"body": body} if body else {}))
                assert result.status == status
                watch.show(result.report)
                watch.look(f"{name} {number} {method} is answered")
            watch.show(client.auth)
    assert "ClockAdjusted" in heard

    replayed = httpx.get(
        f"{url}/fresh", headers={"Authorization": place.served.requests[-1].field("Authorization")[0]}
    )
    assert replayed.status_code == 401
    ahead = {"account": ACCOUNT, "_clock": lambda: time.time() + 86400, "on_event": hear}
    with signed_in(name, url, own, **ahead) as client, pytest.raises(ClockError) as caught:
        client.send("GET", f"{url}/fresh")
    watch.show_error(caught.value)
    with CLIENTS[name](url, own, on_event=hear) as client:  # the other scheme, by the same registry
        assert client.send("PUT", f"{url}/fresh", body=BODY).status == 200


def run_accounts_by_hand(watch: Watch) -> None:
    """Make what a session does not, or not for long enough to be seen."""
    key = ec.generate_private_key(ec.SECP384R1())
    keep_private_key(watch, key)
    signer = PrivateKeySigner(key)
    written = codes.make_code(lambda size: bytes(range(40, 40 + size)))
    watch.keep_codes(written.text)
    nonce, public = "ZW5yb2xtZW50IG5vbmNl", PublicKey.of(signer)
    watch.keep("enrolment nonce", nonce)
    row = EnrolledKey(public.thumbprint, ACCOUNT, public.jwk, "x", 0)
    candidate = Candidate(public.thumbprint, ACCOUNT, public.jwk, "x", nonce, 600)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        nobody = f"http://127.0.0.1:{listening.getsockname()[1]}"
    away = SQLKeyRegistry(NOWHERE)
    calls: list[tuple[type[Exception], Callable[[], object]]] = [
        (UnansweredError, lambda: AccountClient(nobody, ACCOUNT, signer).enrol("x", invitation=written.text)),
        (StoreUnavailableError, away.start),
        (StoreUnavailableError, lambda: Enrolment(away).invite(ACCOUNT)),
        (PrivateKeyError, lambda: PrivateKeySigner.from_pem(encrypted(key), password=f"{PASSWORD}1")),
        (EnrolmentError, lambda: codes.read_code(f"{written.text}-X")),
        (EnrolmentError, lambda: codes.check_secret(codes.UNKNOWN_HASH, written.secret)),
    ]
    for kind, call in calls:
        with pytest.raises(kind) as caught:
            call()
        watch.show_error(caught.value)
    for thing in (
        signer,
        public,
        written,
        devices.Enrolled(row, [written.text]),
        devices.Waiting(candidate, 600),
        away,
        Expected("https://api.example.com", ACCOUNT, 1_800_000_000, 10, 300),
        Service(QUICK, LONG, None, accounts=NOWHERE),
    ):
        watch.show(thing)
    away.close()
