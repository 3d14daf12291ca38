"""Both schemes in one middleware, over real sockets: the Authorization field says who decides."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import anyio
import httpx
import jwt
import pytest
import requests
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import tuned_digest.httpx
import tuned_digest.requests
from tuned_digest import ArgumentError, Ed25519Signer
from tuned_digest.errors import StoreUnavailableError
from tuned_digest.keys import PublicKey
from tuned_digest.server import (
    BodyLimits,
    Caller,
    EnrolledKey,
    Grant,
    IncomingRequest,
    MemoryKeyRegistry,
    MemoryNonceStore,
    TokenVerifier,
    Verifier,
)
from tuned_digest.server.asgi import Message, Receive, Scope, Send, TunedDigestMiddleware
from tuned_digest.server.schemes import Schemes

from .clients import Connect
from .driving import perform
from .field_server import POLICY
from .field_server import field as echo
from .serving import Served, serve
from .tokens import AUDIENCE, Holder

CHALLENGE, TOKEN = "tuned-digest-signature", "Bearer"
ORDERS = [(CHALLENGE, TOKEN), (TOKEN, CHALLENGE)]


class Later:
    """An application that is made once its server's URL is known."""

    app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        assert self.app is not None  # uvicorn goes on without a lifespan
        await self.app(scope, receive, send)


class Store(MemoryNonceStore):
    """A store of nonces that can be out of reach."""

    is_down = False

    def issue(self, *grants: Grant) -> list[str]:
        """Issue nonces, or fail."""
        if self.is_down:
            raise StoreUnavailableError("cannot reach nonces.example:6379")
        return super().issue(*grants)


@dataclass
class Both:
    """A server of both schemes."""

    order: Sequence[str]
    holder: Holder = field(default_factory=Holder)
    registry: MemoryKeyRegistry = field(default_factory=MemoryKeyRegistry)
    store: Store = field(default_factory=Store)
    callers: list[Caller] = field(default_factory=list)
    served: Served = field(default_factory=lambda: Served(AUDIENCE))

    def verifiers(self) -> dict[str, Verifier | TokenVerifier]:
        """Make a verifier of each."""
        return {
            CHALLENGE: Verifier(self.store, policy=POLICY),
            TOKEN: TokenVerifier(
                self.registry, AUDIENCE, single_use=self.store, policy=POLICY, origin=self.served.url
            ),
        }

    @property
    def app(self) -> TunedDigestMiddleware:
        """The application."""

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            self.callers.append(scope["tuned_digest"])
            await echo(scope, receive, send)

        made = self.verifiers()
        return TunedDigestMiddleware(
            noting, [made[name] for name in self.order], bodies=BodyLimits(max_body=100_000)
        )

    def token(self, target: str = "/a", method: str = "GET", body: bytes = b"", jti: str = "1") -> str:
        """Sign a token by joserfc."""
        claims = self.holder.claims(target, method, body, now=time.time(), jti=jti)
        path = target.partition("?")[0]
        return f"Bearer {self.holder.sign({**claims, 'htu': self.served.url + path})}"


@contextmanager
def serving(order: Sequence[str], holder: Holder | None = None) -> Iterator[Both]:
    """Serve both schemes, in an order."""
    later, both = Later(), Both(order, holder or Holder())
    both.registry.enrol(both.holder.enrolled, what="key added", by="operator")
    with serve(later) as served:
        both.served = served
        later.app = both.app
        yield both


@pytest.fixture(params=ORDERS, ids=["Bearer last", "Bearer first"])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    """A server of both schemes, in either order."""
    with serving(request.param) as both:
        yield both


class TestClients:
    def test_the_challenge_scheme(self, both: Both, connect: Connect, signer: Ed25519Signer) -> None:
        """Clients of the challenge scheme find their challenge beside Bearer's, and chain their requests."""
        with connect(both.served.url, signer) as client:
            assert [client.send("PUT", f"{both.served.url}/a", body=b"x").status for _ in range(3)] == [
                200
            ] * 3
        assert both.served.statuses == [401, 200, 200, 200]
        assert {caller.scheme for caller in both.callers} == {CHALLENGE}
        assert {caller.identity for caller in both.callers} == {signer.identity}

    @pytest.mark.parametrize(
        "send",
        [httpx.request, requests.request],
        ids=["httpx", "requests"],
    )
    def test_tokens(self, both: Both, send: Callable[..., Any]) -> None:
        """A token is one round trip, its body arrives whole, and the response brings no nonce."""
        body = b"x" * 70_000
        fields = {"Authorization": both.token("/a?b=c", "PUT", body)}
        response = send("PUT", f"{both.served.url}/a?b=c", headers=fields, **_content(send, body))
        assert response.status_code == 200
        assert response.json()["sha256"] == sha256(body).hexdigest()
        assert "authentication-info" not in response.headers
        (caller,) = both.callers
        assert (caller.account, caller.scheme, caller.action) == ("acme-42", TOKEN, "update")

    @pytest.mark.parametrize("leaf", [tuned_digest.httpx, tuned_digest.requests], ids=["httpx", "requests"])
    def test_our_own_tokens(self, both: Both, leaf: Any, signer: Ed25519Signer) -> None:
        """The auth class for tokens takes one round trip a request."""
        key = PublicKey.of(signer)
        row = EnrolledKey(key.thumbprint, "acme-42", key.jwk, "phone", time.time())
        both.registry.enrol(row, what="key added", by="operator")
        url = both.served.url
        auth = leaf.SelfSignedTokenAuth(url, signer, account="acme-42", audience=AUDIENCE)
        library: Any = httpx.Client if leaf is tuned_digest.httpx else requests.Session
        with library() as client:
            for number in range(3):
                response = client.request("POST", f"{url}/a?{number}", auth=auth, data={"n": str(number)})
                assert response.status_code == 200
        assert both.served.statuses == [200] * 3
        assert {caller.identity for caller in both.callers} == {signer.identity}

    @pytest.mark.parametrize(
        ("algorithm", "name"), [("Ed25519", "EdDSA"), ("ES256", "ES256"), ("RS256", "RS256")]
    )
    @pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
    def test_tokens_by_pyjwt(self, algorithm: str, name: str) -> None:
        """Tokens that PyJWT signs are accepted, once each."""
        with serving(ORDERS[0], Holder(algorithm)) as both:
            holder = both.holder
            claims = {**holder.claims(now=time.time()), "htu": f"{both.served.url}/a"}
            key: Any = load_pem_private_key(holder.private.as_pem(private=True), None)
            token = jwt.encode(claims, key, name, headers={"kid": holder.public.thumbprint})
            fields = {"Authorization": f"Bearer {token}"}
            statuses = [httpx.get(f"{both.served.url}/a", headers=fields).status_code for _ in range(2)]
            assert statuses == [200, 401]


def _content(send: Callable[..., Any], body: bytes) -> dict[str, bytes]:
    return {"content" if send is httpx.request else "data": body}


class TestRefusals:
    @pytest.mark.parametrize("authorization", [None, "Basic YTpi", "Digest a", ""])
    def test_without_credentials(self, both: Both, authorization: str | None) -> None:
        """A request without credentials of ours gets the challenges of all in one 401, in their order."""
        fields = {} if authorization is None else {"Authorization": authorization}
        response = httpx.get(f"{both.served.url}/a", headers=fields)
        assert response.status_code == 401
        challenges = response.headers.get_list("www-authenticate")
        schemes = [challenge.partition(" ")[0] for challenge in challenges]
        ours = [CHALLENGE, "asym-tuned-digest-signature"]
        assert schemes == ([*ours, TOKEN] if both.order[0] == CHALLENGE else [TOKEN, *ours])
        assert response.json() == {"reason": "authorization required", "action": "read"}
        assert response.headers.get_list("cache-control") == ["no-store"]
        assert response.headers.get_list("content-type") == ["application/json"]
        assert response.headers.get_list("uno-www-authn")

    def test_a_refused_token(self, both: Both) -> None:
        """A token that is refused is challenged by its own scheme alone."""
        token = both.token()
        url = f"{both.served.url}/a"
        answers = [httpx.get(url, headers={"Authorization": token}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 401]
        (challenge,) = answers[1].headers.get_list("www-authenticate")
        assert re.search(r'^Bearer .*error="invalid_token"', challenge)

    def test_refused_credentials_of_the_challenge_scheme(self, both: Both, signer: Ed25519Signer) -> None:
        """Credentials of the challenge scheme that are refused are challenged by it alone."""
        auth = tuned_digest.httpx.TunedDigestAuth(both.served.url, signer)
        with httpx.Client(auth=auth) as client:
            sent = client.get(f"{both.served.url}/a").request.headers["Authorization"]
        answer = httpx.get(f"{both.served.url}/a", headers={"Authorization": sent})
        assert answer.status_code == 401
        schemes = [one.partition(" ")[0] for one in answer.headers.get_list("www-authenticate")]
        assert schemes == [CHALLENGE, "asym-tuned-digest-signature"]

    def test_both_at_once(self, both: Both, signer: Ed25519Signer) -> None:
        """Credentials of both schemes in one request are a bad request, in one field or in two."""
        auth = tuned_digest.httpx.TunedDigestAuth(both.served.url, signer)
        url = f"{both.served.url}/a"
        with httpx.Client(auth=auth) as client:
            sent = client.get(url).request.headers["Authorization"]
        values = [both.token(), sent]
        for pair in (values, values[::-1]):
            assert httpx.get(url, headers=[("Authorization", value) for value in pair]).status_code == 400
            assert httpx.get(url, headers={"Authorization": ", ".join(pair)}).status_code == 400

    def test_a_body_beyond_the_limit(self, both: Both) -> None:
        """A token's body is read up to the limit, and not used up by that."""
        body = b"x" * 100_001
        fields = {"Authorization": both.token("/a", "PUT", body)}
        assert httpx.put(f"{both.served.url}/a", headers=fields, content=body).status_code == 413
        assert both.callers == []

    def test_another_body(self, both: Both) -> None:
        """A token is good for the body that it was signed for, also where that comes in pieces."""
        url = f"{both.served.url}/a"
        fields = {"Authorization": both.token("/a", "PUT", b"hello")}
        assert httpx.put(url, headers=fields, content=b"HELLO").status_code == 401
        assert httpx.put(url, headers=fields, content=iter([b"hel", b"lo"])).status_code == 200

    def test_without_nonces(self, both: Both) -> None:
        """While no nonce can be issued nobody is challenged, and tokens are good."""
        both.store.is_down = True
        assert httpx.get(f"{both.served.url}/a").status_code == 503
        assert httpx.get(f"{both.served.url}/a", headers={"Authorization": both.token()}).status_code == 200

    def test_what_no_scheme_signs(self, both: Both) -> None:
        """A request that neither scheme signs is a bad request."""
        assert httpx.request("TRACE", f"{both.served.url}/a").status_code == 400


class TestAlone:
    def test_tokens_alone(self) -> None:
        """A server of tokens alone challenges with Bearer alone."""
        with serving([TOKEN]) as both:
            url = f"{both.served.url}/a"
            response = httpx.get(url)
            assert response.headers.get_list("www-authenticate") == [f'Bearer realm="{AUDIENCE}"']
            assert httpx.get(url, headers={"Authorization": both.token()}).status_code == 200

    def test_a_verifier_that_is_no_list(self) -> None:
        """One verifier needs no list."""
        holder = Holder()
        registry = MemoryKeyRegistry()
        registry.enrol(holder.enrolled, what="key added", by="operator")
        app = TunedDigestMiddleware(echo, TokenVerifier(registry, AUDIENCE, single_use=None))
        with serve(app) as served:
            fields = {"Authorization": holder.authorization(now=time.time())}
            assert httpx.get(f"{served.url}/a", headers=fields).json()["caller"] == holder.public.identity

    def test_a_server_of_nonces_alone(self) -> None:
        """A server of the challenge scheme alone does not know Bearer."""
        with serving([CHALLENGE]) as both:
            response = httpx.get(f"{both.served.url}/a", headers={"Authorization": "Bearer a.b.c"})
            assert response.status_code == 401
            assert "Bearer" not in response.headers["www-authenticate"]


class TestSchemes:
    def test_only_one_digest_is_made(self) -> None:
        """A body is digested by the one digest that its request's scheme needs."""
        both = Both(ORDERS[0])
        both.registry.enrol(both.holder.enrolled, what="key added", by="operator")
        verifiers = both.verifiers()
        schemes, asked = Schemes([*verifiers.values()]), list[Any]()

        def digest(new: Any) -> bytes:
            asked.append(new)
            return bytes(new(b"").digest())

        request = IncomingRequest("GET", "/a", "", [("Authorization", both.token())])
        caller = perform(schemes.verify(request, digest))
        assert asked == [verifiers[TOKEN].new_digest]
        assert perform(schemes.grant_next(caller, 200, lambda name: [])) == ()
        assert [counters.accepted for counters in schemes.counters()] == [0, 1]
        nonces = perform(schemes.grant_next(Caller("A" * 43, None, "read", CHALLENGE), 200, lambda name: []))
        assert nonces

    def test_starting(self) -> None:
        """All are started before the application is, and one that cannot serve stops it."""
        started: list[str] = []

        class Registry(MemoryKeyRegistry):
            def start(self) -> None:
                started.append("registry")
                if len(started) > 2:
                    raise ArgumentError("no such table")

        class Nonces(MemoryNonceStore):
            def start(self) -> None:
                started.append("store")

        verifiers: list[Verifier | TokenVerifier] = [
            Verifier(Nonces(), policy=POLICY),
            TokenVerifier(Registry(), AUDIENCE, single_use=None),
        ]
        sent: list[Message] = []

        async def lives(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})

        async def receive() -> Message:
            return {"type": "lifespan.startup"}

        async def send(message: Message) -> None:
            sent.append(message)

        app = TunedDigestMiddleware(lives, verifiers)
        for _ in range(2):
            anyio.run(app, {"type": "lifespan"}, receive, send)
        assert started == ["store", "registry"] * 2
        assert sent == [
            {"type": "lifespan.startup.complete"},
            {"type": "lifespan.startup.failed", "message": "no such table"},
        ]

    @pytest.mark.parametrize("make", ["none", "two of a kind", "another thing", "no list", "a class"])
    def test_bad_arguments(self, make: str) -> None:
        """What is no verifier, no list of them, or a list of two for one scheme is said at once."""
        one = Verifier(MemoryNonceStore())
        bad: Any = {
            "none": [],
            "two of a kind": [one, Verifier(MemoryNonceStore())],
            "another thing": [one, echo],
            "no list": {one},
            "a class": TokenVerifier,
        }[make]
        with pytest.raises(ArgumentError, match="verifier"):
            TunedDigestMiddleware(echo, bad)

    def test_the_body_of_a_refusal_is_json(self) -> None:
        """Each refusal has one body, as either scheme writes it."""
        with serving(ORDERS[1]) as both:
            answer = httpx.get(f"{both.served.url}/a", headers={"Authorization": "Bearer a.b.c"})
            assert answer.status_code == 400
            assert list(json.loads(answer.content)) == ["message"]
            assert 'error="invalid_request"' in answer.headers["www-authenticate"]
