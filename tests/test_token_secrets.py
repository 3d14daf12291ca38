"""No token, signature, ``jti`` or private key is ever shown: not by a log, an event, a repr or an error."""

import functools
import gc
import io
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tuned_digest import ArgumentError, ClockError, Ed25519Signer, PrivateKeySigner, PublicKey

from .clients import CLIENTS
from .secrets_watch import Watch, forms, ours
from .token_serving import auth_of, claims_of, every_client, serving_tokens, signed_in

SEED = bytes(range(7, 39))
BODY = b"a body that nobody may see, of some length"
KEY = "a key for another service"
NOW = 1_800_000_000.0


def private_bytes(key: Any) -> list[str]:
    """Write a private key, a line at a time."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode().splitlines()[1:-1]


def run_session(name: str, watch: Watch) -> None:
    """Send requests of every kind, and look around at every step."""

    def heard(event: object) -> None:
        watch.show(event)
        watch.look(type(event).__name__)

    def claims(request: object) -> dict[str, object]:
        watch.show(request)
        watch.look("claims are asked for")
        return {}

    def drawn(size: int) -> bytes:
        octets = bytes(range(size)) if size != 16 else bytes(range(200, 216))
        watch.keep("jti", octets)
        return octets

    signer = Ed25519Signer.from_seed(SEED)
    second = auth_of(name, "https://a.example", signer, field="X-Second", bind=False, _randomness=drawn)
    ways: list[dict[str, Any]] = [
        {},
        {"bind": False},
        {"bind": False, "reuse": True},
        {"field": "X-Token", "scheme": "", "fields": {"X-Api-Key": KEY}, "also": [second]},
    ]
    for number, way in enumerate(ways):
        options = {"_randomness": drawn, "_clock": lambda: NOW, "on_event": heard, "claims": claims, **way}
        server_options = {
            "carrier": way.get("field", "Authorization"),
            "scheme": way.get("scheme", "Bearer"),
            "is_bound": False,
            "is_single_use": False,
            "clock": lambda: NOW + 600,
        }
        with (
            serving_tokens(signer, **server_options) as (server, served),
            signed_in(name, served.url, signer, **options) as client,
        ):
            for method, path, body in (
                ("GET", "/a", None),
                ("PUT", "/a", BODY),
                ("PUT", "/a", iter([BODY])),
                ("GET", "/redirect?status=302&to=/b", None),
                ("PUT", "/redirect?status=307&to=/b", BODY),
            ):
                if client.is_async and not isinstance(body, bytes | None):
                    continue
                watch.show(
                    client.send(method, f"{served.url}{path}", **({"body": body} if body else {})).report
                )
                watch.look(f"{number} {method} is answered")
            watch.show(client.auth)
            server.clock = lambda: NOW + 86400
            send = functools.partial(client.send, "GET", served.url)
            with pytest.raises(ClockError) as caught:
                [send() for _ in range(2)]
            for error in (caught.value, caught.value.__cause__):
                watch.show(error)
            watch.look(f"{number} is done")
        for seen in served.requests:
            for value in seen.field(server_options["carrier"]) + seen.field("X-Second"):
                keep_token(watch, value)


def keep_token(watch: Watch, value: str) -> None:
    """Take a token, and what is in it, for secrets."""
    token = value.rpartition(" ")[2]
    watch.keep("token", token)
    watch.keep("signature", token.rpartition(".")[2])
    if "jti" in claims_of(token):
        watch.keep("jti", claims_of(token)["jti"])


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    """Everything, once."""
    watching, handler = Watch(), logging.StreamHandler(io.StringIO())
    logger = logging.getLogger("tuned_digest")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        keys: list[Any] = [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)]
        watching.keep("private key", SEED, *private_bytes(keys[0]), *private_bytes(keys[1]))
        watching.keep("body", BODY)
        watching.keep("api key", KEY)
        for key in keys:
            signer = PrivateKeySigner(key)
            watching.show(signer)
            watching.show(PublicKey.of(signer))
        for name in CLIENTS:
            run_session(name, watching)
        watching.shown[handler.stream.getvalue()] = logging.Logger
        yield watching
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@pytest.mark.parametrize("kind", ["token", "signature", "jti", "private key", "body", "api key"])
def test_nothing_shows_a_secret(watch: Watch, kind: str) -> None:
    """No object of the package, at any step of a session, has one in its repr or str; nor has the log."""
    assert len(watch.secrets[kind]) >= 1
    assert watch.leaks(kind) == []


def test_what_is_kept_was_looked_at(watch: Watch) -> None:
    """The classes that hold a token are among those that were shown."""
    names = {kind.__name__ for kind in watch.seen}
    assert names >= {"_Kept", "TokenSettings", "TokenFlow", "Carriage", "TokenRequest", "ClockAdjusted"}
    assert list(forms("x")) == ["x"]
    assert ours(gc) == ()


class TestErrors:
    @every_client
    @pytest.mark.parametrize("kind", [ClockError, ArgumentError])
    def test_an_error_pickles(self, name: str, kind: type[Exception], signer: Ed25519Signer) -> None:
        """It comes back with its message and evidence, of both families; the exchange stays behind."""
        options: dict[str, Any] = {"claims": {"a": b""}} if kind is ArgumentError else {}
        ahead = {"clock": lambda: NOW + 86400}
        with (
            serving_tokens(signer, **ahead) as (_, served),
            signed_in(name, served.url, signer, _clock=lambda: NOW, **options) as client,
        ):
            with pytest.raises(kind) as raised:
                client.send("GET", f"{served.url}/x")
            error: Any = raised.value
            assert error.request is not None
            restored = pickle.loads(pickle.dumps(error))
            assert isinstance(restored, client.library_error)
        assert type(restored) is type(error)
        assert str(restored) == str(error)
        if kind is ClockError:
            assert (restored.origin, restored.seconds) == (served.url, 86400)

    @every_client
    def test_a_response_pickles(self, name: str, signer: Ed25519Signer) -> None:
        """A response that took a correction and a redirect pickles, with its content."""
        with (
            serving_tokens(signer, clock=lambda: NOW + 600) as (_, served),
            signed_in(name, served.url, signer, _clock=lambda: NOW) as client,
        ):
            result = client.send("PUT", f"{served.url}/redirect?status=307&to=/b", body=BODY)
            restored = pickle.loads(pickle.dumps(result.raw))
        assert (restored.status_code, restored.content) == (200, result.content)

    @every_client
    def test_an_auth_object_does_not_pickle(self, name: str, signer: Ed25519Signer) -> None:
        """The key stays where it is, and the error says what to do."""
        with pytest.raises(ArgumentError, match="load it in the child process"):
            pickle.dumps(auth_of(name, "https://a.example", signer))
