"""Tokens and thumbprints mean the same to this package, PyJWT, joserfc and the npm library jose."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwk
from joserfc import jwt as joserfc_jwt
from starlette.responses import PlainTextResponse

from tuned_digest import Ed25519Signer, PrivateKeySigner, PublicKey
from tuned_digest._tokens.making import base64url
from tuned_digest._tokens.reading import Expected, check_binding, check_claims, check_digest, read_token
from tuned_digest.errors import TokenError
from tuned_digest.httpx import SelfSignedTokenAuth
from tuned_digest.server import EnrolledKey, MemoryKeyRegistry, MemoryNonceStore, TokenVerifier
from tuned_digest.server.asgi import TunedDigestMiddleware

from .jose_library import Jose, Task

pytestmark = pytest.mark.filterwarnings(
    "ignore:EdDSA is deprecated"  # joserfc says so of the older name, which some services ask for
)

ORIGIN = "https://api.example.com"
ACCOUNT = "z\u00fcrich-42"
BODY = b"hello"
DIGEST = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"  # of "hello", by openssl
KINDS: dict[str, Literal["OKP", "EC", "RSA"]] = {
    "Ed25519": "OKP",
    "EdDSA": "OKP",
    "ES256": "EC",
    "ES384": "EC",
    "PS256": "RSA",
    "RS256": "RSA",
}
ALGORITHMS = (*KINDS,)
TO_PYJWT = ALGORITHMS[1:]  # it does not know the newer name of EdDSA


@dataclass(frozen=True)
class Key:
    """One private key, for this package and for each library."""

    algorithm: str
    pem: bytes

    @property
    def signer(self) -> Ed25519Signer | PrivateKeySigner:
        """The key as this package takes it."""
        if KINDS[self.algorithm] == "OKP":
            return Ed25519Signer.from_pem(self.pem)
        return PrivateKeySigner.from_pem(self.pem, algorithm=self.algorithm)

    @property
    def public(self) -> PublicKey:
        """The public key as a server of this package enrols it."""
        return PublicKey.of(self.signer)

    @property
    def jose_key(self) -> Any:
        """The private key as joserfc takes it."""
        return jwk.import_key(self.pem, KINDS[self.algorithm])

    @property
    def header(self) -> dict[str, str]:
        """The header of its tokens."""
        return {"alg": self.algorithm, "typ": "JWT", "kid": self.public.thumbprint}


@pytest.fixture(scope="module")
def keys() -> Mapping[str, Key]:
    """A key for each algorithm."""
    made: dict[str, Any] = {
        "Ed25519": Ed25519PrivateKey.generate(),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "ES384": ec.generate_private_key(ec.SECP384R1()),
        "RS256": rsa.generate_private_key(65537, 2048),
    }
    made |= {"EdDSA": made["Ed25519"], "PS256": made["RS256"]}
    return {
        name: Key(name, made[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        for name in ALGORITHMS
    }


def token_by(key: Key, *, bind: bool) -> str:
    """Give the token of a request that a client sends."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    algorithm = "EdDSA" if key.algorithm == "EdDSA" else None
    auth = SelfSignedTokenAuth(ORIGIN, key.signer, account=ACCOUNT, bind=bind, algorithm=algorithm)
    with httpx.Client(transport=httpx.MockTransport(answer), auth=auth) as client:
        client.put(f"{ORIGIN}/vaults/abc?rev=7", content=BODY)
    scheme, token = sent[0].headers["Authorization"].split()
    assert scheme == "Bearer"
    return str(token)


def expected_claims(claims: Mapping[str, Any], *, bind: bool) -> None:
    """Check what a library read from a token of `token_by`."""
    assert (claims["iss"], claims["sub"], claims["aud"]) == (ACCOUNT, ACCOUNT, ORIGIN)
    assert claims["exp"] - claims["iat"] == 65
    binding = {name: claims[name] for name in ("htm", "htu", "query", "content_digest") if name in claims}
    assert binding == (
        {"htm": "PUT", "htu": f"{ORIGIN}/vaults/abc", "query": "rev=7", "content_digest": DIGEST}
        if bind
        else {}
    )


def public_jwk(key: Key) -> dict[str, str]:
    """Give the public JWK without our ``alg``, which says Ed25519 where a token may say EdDSA."""
    members: dict[str, str] = json.loads(key.public.jwk)
    del members["alg"]
    return members


@pytest.mark.parametrize("bind", [True, False], ids=["bound", "unbound"])
class TestOursByTheirs:
    @pytest.mark.parametrize("algorithm", TO_PYJWT)
    def test_pyjwt(self, keys: Mapping[str, Key], algorithm: str, bind: bool) -> None:
        """PyJWT verifies a client's token, its audience and its times."""
        key = keys[algorithm]
        token = token_by(key, bind=bind)
        public = jwt.PyJWK.from_dict(public_jwk(key), algorithm)
        claims = jwt.decode(token, public, algorithms=[algorithm], audience=ORIGIN, issuer=ACCOUNT)
        expected_claims(claims, bind=bind)
        assert jwt.get_unverified_header(token) == key.header

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_joserfc(self, keys: Mapping[str, Key], algorithm: str, bind: bool) -> None:
        """The library joserfc verifies a client's token with a key that it read from PEM itself."""
        key = keys[algorithm]
        token = joserfc_jwt.decode(token_by(key, bind=bind), key.jose_key, algorithms=[algorithm])
        expected_claims(token.claims, bind=bind)
        assert token.header == key.header

    def test_jose(self, keys: Mapping[str, Key], jose: Jose, bind: bool) -> None:
        """The library jose verifies a client's tokens of every algorithm, and their times."""
        tasks = [
            (
                "verified",
                {"token": token_by(key, bind=bind), "jwk": public_jwk(key), "algorithm": key.algorithm},
            )
            for key in keys.values()
        ]
        for key, read in zip(keys.values(), jose.ask(tasks), strict=True):
            expected_claims(read["claims"], bind=bind)
            assert read["header"] == key.header


def test_jose_refuses(keys: Mapping[str, Key], jose: Jose) -> None:
    """The library jose refuses a client's token whose claims were changed, of every algorithm."""
    tasks: list[Task] = []
    for key in keys.values():
        header, _, signature = token_by(key, bind=True).split(".")
        other = token_by(key, bind=False).split(".")[1]
        task = {"token": f"{header}.{other}.{signature}", "jwk": public_jwk(key), "algorithm": key.algorithm}
        tasks.append(("verified", task))
    for answer in jose.try_to(tasks):
        assert answer == {"error": "JWSSignatureVerificationFailed: signature verification failed"}


def their_claims(*, bind: bool) -> dict[str, Any]:
    """Give claims for another library to sign."""
    now = int(time.time())
    claims: dict[str, Any] = {"iss": ACCOUNT, "sub": ACCOUNT, "aud": [ORIGIN], "iat": now, "exp": now + 60}
    claims["jti"] = base64url(bytes(range(16)))
    if bind:
        claims |= {"htm": "PUT", "htu": f"{ORIGIN}/a", "content_digest": DIGEST}
    return claims


def accepted(token: str, key: Key, *, bind: bool) -> None:
    """Take a token through every check that the store is not needed for."""
    read = read_token(token)
    assert read.kid == key.public.thumbprint
    claims = read.claims_by(key.public)
    check_claims(claims, Expected(ORIGIN, ACCOUNT, time.time(), leeway=10, max_lifetime=300))
    assert check_binding(claims, {"htm": "PUT", "htu": f"{ORIGIN}/a"}, is_required=bind) == bind
    if bind:
        check_digest(claims, sha256(BODY).digest())


def statuses(token: str, key: Key, *, bind: bool) -> list[int]:
    """Send a request with a token twice to a server that has the key."""
    registry = MemoryKeyRegistry()
    enrolled = EnrolledKey(key.public.thumbprint, ACCOUNT, key.public.jwk, "laptop", time.time())
    registry.enrol(enrolled, what="key added", by="operator")
    verifier = TokenVerifier(registry, ORIGIN, single_use=MemoryNonceStore(), require_bound=bind)
    transport = httpx.ASGITransport(TunedDigestMiddleware(PlainTextResponse("hello"), verifier))
    fields = {"Authorization": f"Bearer {token}"}

    async def send_twice() -> list[int]:
        async with httpx.AsyncClient(transport=transport, headers=fields) as client:
            return [(await client.put(f"{ORIGIN}/a", content=BODY)).status_code for _ in range(2)]

    return asyncio.run(send_twice())


def by_pyjwt(key: Key, claims: dict[str, Any]) -> str:
    """Sign claims with PyJWT."""
    return str(jwt.encode(claims, key.pem, algorithm=key.algorithm, headers=key.header))


def by_joserfc(key: Key, claims: dict[str, Any]) -> str:
    """Sign claims with joserfc."""
    return joserfc_jwt.encode(dict(key.header), claims, key.jose_key, algorithms=[key.algorithm])


@pytest.mark.parametrize("bind", [True, False], ids=["bound", "unbound"])
class TestTheirsByOurs:
    @pytest.mark.parametrize(
        ("sign", "algorithm"),
        [
            *(pytest.param(by_pyjwt, name, id=f"pyjwt-{name}") for name in TO_PYJWT),
            *(pytest.param(by_joserfc, name, id=f"joserfc-{name}") for name in ALGORITHMS),
        ],
    )
    def test_python(
        self, keys: Mapping[str, Key], sign: Callable[..., str], algorithm: str, bind: bool
    ) -> None:
        """A server takes what PyJWT and joserfc sign, once, and no token whose claims were changed."""
        key = keys[algorithm]
        token = sign(key, their_claims(bind=bind))
        accepted(token, key, bind=bind)
        assert statuses(token, key, bind=bind) == [200, 401]
        header, _, signature = token.split(".")
        other = sign(key, {**their_claims(bind=bind), "sub": "somebody else"}).split(".")[1]
        with pytest.raises(TokenError) as caught:
            accepted(f"{header}.{other}.{signature}", key, bind=bind)
        assert caught.value.step == 4

    def test_jose(self, keys: Mapping[str, Key], jose: Jose, bind: bool) -> None:
        """A server takes what jose signs, once, by every algorithm."""
        claims = their_claims(bind=bind)
        tasks = [
            ("signed", {"jwk": key.jose_key.as_dict(private=True), "header": key.header, "claims": claims})
            for key in keys.values()
        ]
        for key, token in zip(keys.values(), jose.ask(tasks), strict=True):
            accepted(token, key, bind=bind)
            assert statuses(token, key, bind=bind) == [200, 401]


class TestThumbprints:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_python(self, keys: Mapping[str, Key], algorithm: str) -> None:
        """The ``kid`` is what joserfc makes of the PEM, and what RFC 7638 makes of PyJWT's JWK."""
        key = keys[algorithm]
        assert key.public.thumbprint == key.jose_key.thumbprint()
        kind: Any = jwt.get_algorithm_by_name("EdDSA" if algorithm == "Ed25519" else algorithm)
        members: dict[str, Any] = kind.to_jwk(kind.prepare_key(key.pem).public_key(), as_dict=True)
        required = {name: members[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in members}
        text = json.dumps(required, sort_keys=True, separators=(",", ":"))
        assert key.public.thumbprint == base64url(sha256(text.encode()).digest())

    def test_jose(self, keys: Mapping[str, Key], jose: Jose) -> None:
        """The ``kid`` is what jose makes of the public key."""
        tasks = [("thumbprint", {"jwk": public_jwk(key)}) for key in keys.values()]
        assert jose.ask(tasks) == [key.public.thumbprint for key in keys.values()]
