"""A wrong argument is refused where it is given, with an error that says what to pass instead."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests

import tuned_digest.requests
from tuned_digest import ArgumentError, Ed25519Signer, MemoryNonceCache, Origin
from tuned_digest._client.records import Records
from tuned_digest.httpx import TunedDigestAuth
from tuned_digest.server import MemoryNonceStore, Policy, Verifier
from tuned_digest.server.asgi import TunedDigestMiddleware

from .field_server import challenge, decided, field, verified
from .serving import serve

ORIGIN = "https://api.example.com"
SIGNER = Ed25519Signer.generate()


class _Signer:
    """A signer whose answers are given."""

    def __init__(self, public_key: Any, signature: bytes = b"") -> None:
        self.public_key = public_key
        self._signature = signature

    def sign(self, message: bytes, /) -> bytes:
        return self._signature


# The constructors as seen by someone without a type checker.
untyped: Any = SimpleNamespace(
    TunedDigestAuth=TunedDigestAuth,
    Ed25519Signer=Ed25519Signer,
    Policy=Policy,
    Verifier=Verifier,
    TunedDigestMiddleware=TunedDigestMiddleware,
)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: untyped.TunedDigestAuth(ORIGIN, "key.pem"), r"Ed25519Signer\.from_file"),
        (lambda: untyped.TunedDigestAuth(ORIGIN, Ed25519Signer), r"Ed25519Signer\.from_file"),
        (lambda: untyped.TunedDigestAuth(ORIGIN, _Signer(SIGNER.identity)), "32 bytes"),
        (lambda: untyped.TunedDigestAuth(ORIGIN, _Signer(b"short")), "32 bytes"),
        (lambda: untyped.TunedDigestAuth(SIGNER, SIGNER), "origin is text"),
        (lambda: untyped.TunedDigestAuth(None, SIGNER), "origin is text"),
        (lambda: untyped.TunedDigestAuth([], SIGNER), "origin is text"),
        (lambda: untyped.TunedDigestAuth([httpx.URL(ORIGIN)], SIGNER), "origin is text"),
        (lambda: untyped.TunedDigestAuth(ORIGIN + "/v1", SIGNER), f"pass '{ORIGIN}'"),
        (lambda: untyped.TunedDigestAuth("api.example.com", SIGNER), "begins with https://"),
        (lambda: untyped.TunedDigestAuth("https://*.example.com", SIGNER), "not a host"),
        (lambda: untyped.TunedDigestAuth(ORIGIN, SIGNER, nonces=MemoryNonceCache), r"MemoryNonceCache\(\)"),
        (lambda: untyped.TunedDigestAuth(ORIGIN, SIGNER, schemes="tuned-digest-signature"), "is a sequence"),
        (lambda: TunedDigestAuth("*", SIGNER, schemes=["digest"]), "schemes"),
        (lambda: TunedDigestAuth("*", SIGNER).for_action("write"), "action"),
        (lambda: untyped.Ed25519Signer.from_pem("key.pem"), "from_file"),
        (lambda: Policy(create=None, create_cost=None), "tuning or a search cost"),
        (lambda: untyped.Policy(exists={"a"}), "function"),
        (lambda: untyped.Verifier(Policy()), r"MemoryNonceStore\(\)"),
        (lambda: untyped.Verifier(MemoryNonceStore), r"MemoryNonceStore\(\)"),
        (lambda: untyped.Verifier(MemoryNonceStore(), policy=MemoryNonceStore()), r"Policy\(\)"),
        (lambda: untyped.Verifier(MemoryNonceStore(), accounts={}), r"accounts\.get"),
        (lambda: untyped.TunedDigestMiddleware(Verifier(MemoryNonceStore()), field), "Verifier"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(make: Callable[[], Any], hint: str) -> None:
    """The error is an `ArgumentError`, and says what to pass instead."""
    with pytest.raises(ArgumentError, match=hint):
        make()


def test_plain_http_beyond_loopback_is_refused() -> None:
    """An origin of plain http elsewhere needs `allow_http`."""
    with pytest.raises(ArgumentError, match="allow_http"):
        TunedDigestAuth("http://api.example.com", SIGNER)
    TunedDigestAuth("http://api.example.com", SIGNER, allow_http=True)
    TunedDigestAuth(["http://localhost:1", "http://[::1]"], SIGNER)


def test_an_auth_object_of_another_library_is_named() -> None:
    """The requests object in an httpx client says which one to import."""
    auth: Any = tuned_digest.requests.TunedDigestAuth(ORIGIN, SIGNER)
    with httpx.Client() as client, pytest.raises(ArgumentError, match=r"tuned_digest\.httpx"):
        client.get(ORIGIN, auth=auth)


def test_a_signature_of_another_size_is_not_sent() -> None:
    """A signer that gives fewer than 64 bytes is heard before the request is sent again."""
    app = decided(lambda scope, body: (401, [challenge("AAAA")], b""))
    with serve(app) as server, httpx.Client() as client:
        auth = TunedDigestAuth(server.url, _Signer(SIGNER.public_key, b"short"))
        with pytest.raises(ArgumentError, match="64 bytes"):
            client.get(server.url, auth=auth)
        assert len(server.requests) == 1


def test_an_action_the_policy_made_up_is_the_servers_error() -> None:
    """A policy's action that is none is an error of the server, not a malformed challenge."""

    class Wrong(Policy):
        def action(self, method: str, path: str) -> str:
            return "creat"

    with serve(verified(policy=Wrong()), log_config=None) as server:
        assert requests.get(server.url, timeout=30).status_code == 500


def test_origins_that_could_not_be_primed_are_noted_within_bounds() -> None:
    """Of origins where priming brings nothing so many are remembered, and those beyond are tried again."""
    records = Records()
    origins = [Origin("https", f"host{number}.example", 443) for number in range(300)]
    for origin in origins:
        records.note_priming(origin, is_primed=False)
    noted = [records.brings_no_nonce(origin) for origin in origins]
    assert noted == [True] * 256 + [False] * 44


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limits": {"max_memory_kib": 1}}, "limits are Limits"),
        ({"resources": {"work_timeout": 1}}, "resources are Resources"),
        ({"nonces": {}}, "nonces is a cache"),
        ({"action": "create"}, "for one action, call auth.for_action"),
        ({"signed_path": "/"}, "signed_path is a function"),
        ({"on_event": "x"}, "on_event is a function"),
    ],
)
def test_what_is_of_another_kind_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    """A setting of another kind is an ArgumentError of the constructor, not of the first request."""
    with pytest.raises(ArgumentError, match=said):
        TunedDigestAuth("https://api.example.com", Ed25519Signer.generate(), **options)
