"""What the services of docs/howto-services.md ask of a token, as their documentation has it.

Signatures, times and audiences are judged by PyJWT and google-auth. What is written here is which names a
header and claims have, and what those libraries do not look at. Every token that was taken is kept, for a
further judge.
"""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google.auth.jwt as google_jwt
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from starlette.requests import Request
from starlette.responses import JSONResponse

from tuned_digest.server.asgi import Receive, Scope, Send

CLIENT_ID = "Iv23liExample"
SERVICE_ACCOUNT = "reporter@acme.iam.gserviceaccount.com"
SNOWFLAKE_USER = "ACME-PROD.ALICE"
ISSUER_ID = "57246542-96fe-1a63-e053-0824d011072a"
APPLE_KEY = "2X9R4HXF34"
CDP_IDS = ("2bb0e4b6-4a2c-4b21-9ee6-1c2ae8e3bd0f", "organizations/acme/apiKeys/7c3d")

GOOGLE_JWT: Any = google_jwt  # it has no types

Json = dict[str, Any]


class RefusedError(Exception):
    """A service does not take a token."""


def check(holds: bool, what: str) -> None:
    """Refuse a token unless something holds."""
    if not holds:
        raise RefusedError(what)


def has(members: Mapping[str, Any], *names: str) -> None:
    """Refuse a header or claims that have more names, or fewer."""
    check(set(members) == set(names), f"names {sorted(members)}, and not {sorted(names)}")


@dataclass(frozen=True)
class Taken:
    """A token that a service took."""

    service: str
    token: str = field(repr=False)
    jwk: Json
    algorithm: str


class Services:
    """Serve all of them, told apart by host, and hold the keys that they gave out."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.refusals: list[str] = []
        self._rsa = rsa.generate_private_key(65537, 2048)
        self._ec = ec.generate_private_key(ec.SECP256R1())
        self._wallet = ec.generate_private_key(ec.SECP256R1())
        self._ed25519 = Ed25519PrivateKey.generate()
        self._nonces = set[str]()

    def write_keys(self, folder: Path) -> None:
        """Write the files that a customer of these services has."""
        seed = self._ed25519.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        public = self._ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        traditional, usual = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8
        secret = self._wallet.private_bytes(Encoding.DER, usual, NoEncryption())
        account = {
            "type": "service_account",
            "private_key_id": "4f1b",
            "private_key": _pem(self._rsa, usual).decode(),
            "client_email": SERVICE_ACCOUNT,
        }
        legacy = {"name": CDP_IDS[1], "privateKey": _pem(self._ec, traditional).decode()}
        contents = {
            "github-app.pem": _pem(self._rsa, traditional),
            "service-account.json": json.dumps(account).encode(),
            "rsa_key.p8": _pem(self._rsa, usual),
            "cdp_api_key.json": json.dumps(
                {"id": CDP_IDS[0], "privateKey": base64.b64encode(seed + public).decode()}
            ).encode(),
            "cdp_api_key_ec.json": json.dumps(legacy).encode(),
            "cdp_wallet_secret.txt": base64.b64encode(secret),
            f"AuthKey_{APPLE_KEY}.p8": _pem(self._ec, usual),
        }
        for name, content in contents.items():
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge a request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        response = JSONResponse({"message": "welcome"})
        try:
            JUDGES[request.url.hostname or ""](self, request, body)
        except (RefusedError, jwt.InvalidTokenError, ValueError) as error:  # google-auth has ValueErrors
            self.refusals.append(str(error))
            response = JSONResponse({"message": str(error)}, status_code=401)
        await response(scope, receive, send)

    def github(self, request: Request, body: bytes) -> None:
        """Judge a request to GitHub."""
        header, claims = self._read("GitHub", _bearer(request), self._rsa, "RS256")
        has(header, "alg", "typ")
        has(claims, "iss", "iat", "exp")
        check(claims["iss"] == CLIENT_ID, "iss is the app's client ID")
        check(claims["iat"] <= time.time() - 50, "iat lies 60 s back")
        check(claims["exp"] <= time.time() + 600, "exp is at most 10 minutes from now")

    def google(self, request: Request, body: bytes) -> None:
        """Judge a request to an API of Google."""
        token = _bearer(request)
        check(GOOGLE_JWT.decode_header(token).get("kid") == "4f1b", "kid is the private_key_id")
        pem = self._rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        origin = f"https://{request.url.hostname}/"
        audience = origin if "aud" in _unverified(token) else None
        claims = GOOGLE_JWT.decode(token, certs={"4f1b": pem}, audience=audience)
        has(claims, "iss", "sub", "iat", "exp", "aud" if audience else "scope")
        check(claims["iss"] == claims["sub"] == SERVICE_ACCOUNT, "iss and sub are the account's address")
        check(claims["exp"] - claims["iat"] == 3600, "exp is 3,600 s after iat")
        check(audience is not None or isinstance(claims["scope"], str), "scope is a text")
        self._take("Google", token, self._rsa, "RS256")

    def snowflake(self, request: Request, body: bytes) -> None:
        """Judge a request to Snowflake."""
        header, claims = self._read("Snowflake", _bearer(request), self._rsa, "RS256")
        has(header, "alg", "typ")
        has(claims, "iss", "sub", "iat", "exp")
        kind = request.headers.get("X-Snowflake-Authorization-Token-Type")
        check(kind == "KEYPAIR_JWT", "a field says what kind of token it is")
        der = self._rsa.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        fingerprint = base64.b64encode(hashlib.sha256(der).digest()).decode()
        check(claims["sub"] == SNOWFLAKE_USER, "sub is account and user in capitals")
        check(claims["iss"] == f"{SNOWFLAKE_USER}.SHA256:{fingerprint}", "iss has the key's fingerprint")
        check(claims["exp"] - claims["iat"] <= 3600, "exp is at most an hour after iat")

    def coinbase(self, request: Request, body: bytes) -> None:
        """Judge a request to Coinbase CDP."""
        token = _bearer(request)
        is_ec = jwt.get_unverified_header(token).get("alg") == "ES256"
        key, algorithm = (self._ec, "ES256") if is_ec else (self._ed25519, "EdDSA")
        header, claims = self._read("Coinbase", token, key, algorithm)
        has(header, "alg", "typ", "kid", "nonce")
        has(claims, "iss", "sub", "nbf", "exp", "uris")
        check(header["kid"] == claims["sub"] == CDP_IDS[is_ec], "kid and sub are the key's ID")
        check(len(header["nonce"]) >= 16 and header["nonce"] not in self._nonces, "nonce is fresh")
        self._nonces.add(header["nonce"])
        uri = f"{request.method} {request.url.hostname}{request.url.path}"
        check(claims["iss"] == "cdp" and claims["uris"] == [uri], "uris is a list of this request")
        check(claims["exp"] - claims["nbf"] == 120, "it is good for 120 s")
        if request.method == "POST":
            self._coinbase_wallet(request.headers["X-Wallet-Auth"], uri, body)

    def _coinbase_wallet(self, token: str, uri: str, body: bytes) -> None:
        header, claims = self._read("Coinbase wallet", token, self._wallet, "ES256")
        has(header, "alg", "typ")
        has(claims, "uris", "iat", "nbf", "jti", "reqHash")
        text = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
        check(claims["uris"] == [uri], "uris is a list of this request")
        check(claims["reqHash"] == hashlib.sha256(text.encode()).hexdigest(), "reqHash is that of the body")

    def apple(self, request: Request, body: bytes) -> None:
        """Judge a request to App Store Connect."""
        header, claims = self._read("Apple", _bearer(request), self._ec, "ES256", "appstoreconnect-v1")
        has(header, "alg", "typ", "kid")
        has(claims, "iss", "iat", "exp", "aud", *(["scope"] if "scope" in claims else []))
        check(header["kid"] == APPLE_KEY, "kid is the key's ID")
        check(claims["iss"] == ISSUER_ID, "iss is the issuer ID")
        check(claims["exp"] <= time.time() + 1200, "exp is at most 20 minutes from now")
        operation = f"{request.method} {request.url.path}"
        check(claims.get("scope", [operation]) == [operation], "scope is a list with this operation")

    def _read(
        self, service: str, token: str, key: Any, algorithm: str, audience: str | None = None
    ) -> tuple[Json, Json]:
        """Have PyJWT judge signature, times, and an audience or its absence."""
        claims = jwt.decode(token, key.public_key(), algorithms=[algorithm], audience=audience)
        self._take(service, token, key, algorithm)
        return jwt.get_unverified_header(token), claims

    def _take(self, service: str, token: str, key: Any, algorithm: str) -> None:
        kind: Any = jwt.get_algorithm_by_name(algorithm)
        self.taken.append(Taken(service, token, kind.to_jwk(key.public_key(), as_dict=True), algorithm))


JUDGES: dict[str, Callable[[Services, Request, bytes], None]] = {
    "api.github.com": Services.github,
    "pubsub.googleapis.com": Services.google,
    "storage.googleapis.com": Services.google,
    "acme-prod.snowflakecomputing.com": Services.snowflake,
    "api.cdp.coinbase.com": Services.coinbase,
    "api.appstoreconnect.apple.com": Services.apple,
}
"""What judges the requests to each host."""


def _pem(key: Any, form: PrivateFormat) -> bytes:
    pem: bytes = key.private_bytes(Encoding.PEM, form, NoEncryption())
    return pem


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    check(scheme == "Bearer", "a token is sent")
    return token


def _unverified(token: str) -> Json:
    claims: Json = jwt.decode(token, options={"verify_signature": False})
    return claims
