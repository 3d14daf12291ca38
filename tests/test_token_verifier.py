"""A server's way through a token: the known answers, the order, and what is told to whom."""

import functools
import json
import logging
import re
import sys
from typing import Any

import pytest

from tuned_digest import ArgumentError, MissingExtraError
from tuned_digest._tokens import reading
from tuned_digest.errors import StoreUnavailableError
from tuned_digest.keys import PublicKey, public_keys
from tuned_digest.server import (
    Decision,
    EnrolledKey,
    IncomingRequest,
    MemoryKeyRegistry,
    MemoryNonceStore,
    Policy,
    TokenVerifier,
    decoys,
)

from .driving import perform
from .tokens import ACCOUNT, AUDIENCE, NOW, CountedRegistry, Holder, TokenServer, encoded, vectors

# Of RFC 6750 section 3: a quoted text, of the characters that error_description has.
CHALLENGE = re.compile(
    r'Bearer realm="[^"\\]+"(, error="(invalid_request|invalid_token)", '
    r'error_description="[\x20-\x21\x23-\x5b\x5d-\x7e]+")?'
)
SERVERS: dict[str, dict[str, Any]] = {
    "bound single-use": {},
    "unbound single-use": {"require_bound": False},
    "unbound reusable": {"require_bound": False, "single_use": None},
}

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")


@pytest.fixture
def holder() -> Holder:
    """Somebody whose key is enrolled."""
    return Holder()


@pytest.fixture
def server(holder: Holder) -> TokenServer:
    """A server that knows that key."""
    return TokenServer(holder)


class TestVectors:
    def servers(self) -> dict[str, TokenServer]:
        """Make the servers that the vectors are shown, with one store and the keys of the file."""
        known = vectors()
        servers = {name: TokenServer(**options) for name, options in SERVERS.items()}
        for server in servers.values():
            server.clock.now = known["now"]
            server.store.spent = servers["bound single-use"].store.spent
            for key in known["keys"]:
                enrolled = EnrolledKey(key["kid"], key["account"], json.dumps(key["jwk"]), "", 0)
                server.registry.enrol(enrolled, what="key added", by="operator")
                if key["revoked"]:
                    assert server.registry.revoke(key["kid"], account=key["account"], now=1, by="operator")
        return servers

    def show(self, servers: dict[str, TokenServer], vector: dict[str, Any]) -> tuple[Any, ...]:
        """Give what a server is shown."""
        request = vector["request"]
        authorization = f"Bearer {vector['token']}"
        return request["method"], request["target"], authorization, request["body"].encode()

    def test_known_answers(self) -> None:
        """All 20 good tokens are accepted, and all 55 others are refused at the step they name."""
        known, servers = vectors(), self.servers()
        assert (len(known["accepted"]), len(known["refused"])) == (20, 55)
        for vector in known["accepted"]:
            caller = servers[vector["server"]].verify(*self.show(servers, vector))
            assert (caller.account, caller.scheme) == ("acme-42", "Bearer")
        for vector in known["refused"]:
            refusal = servers[vector["server"]].refusal(*self.show(servers, vector))
            assert (vector["name"], refusal.step, refusal.status) == (
                vector["name"],
                vector["step"],
                vector["status"],
            )
            assert CHALLENGE.fullmatch(refusal.challenge)

    def test_one_read_of_the_registry(self) -> None:
        """A request reads one row of the registry if its token can be read, and none if it cannot."""
        known, servers = vectors(), self.servers()
        for vector in [*known["accepted"], *known["refused"]]:
            server = servers[vector["server"]]
            server.story.clear()
            try:
                server.verify(*self.show(servers, vector))
            except Exception:
                assert vector in known["refused"]
            assert server.story.count("find") == (0 if vector.get("step") == 1 else 1)


class TestOrder:
    def test_a_good_token(self, server: TokenServer, holder: Holder) -> None:
        """One read of the registry, then the body, then the token is spent, then its use is noted."""
        caller = server.verify("PUT", "/a?b", holder.authorization("/a?b", "PUT", b"x"), b"x")
        assert server.story == ["find", "read", "spend", "note"]
        assert caller.identity == holder.public.identity
        assert (caller.account, caller.action, caller.scheme) == ("acme-42", "create", "Bearer")

    def test_without_a_token(self, server: TokenServer) -> None:
        """A request without credentials reads nothing, and its challenge names no error."""
        refusal = server.refusal("GET", "/a", [])
        assert (refusal.status, refusal.challenge) == (401, f'Bearer realm="{AUDIENCE}"')
        assert json.loads(refusal.body) == {"reason": "authorization required", "action": "read"}
        assert dict(refusal.fields)["Cache-Control"] == "no-store"
        assert server.story == []

    @pytest.mark.parametrize("value", ["Basic YTpi", "tuned-digest-signature identity=A", "", "Bearertoken"])
    def test_another_scheme(self, server: TokenServer, value: str) -> None:
        """Credentials of another scheme are none."""
        assert server.refusal("GET", "/a", value).challenge == f'Bearer realm="{AUDIENCE}"'

    def test_what_no_scheme_signs(self, server: TokenServer, holder: Holder) -> None:
        """A target that servers read in different ways is refused before its token is looked at."""
        refusal = server.refusal("GET", "/a/%2e%2e/b", holder.authorization("/a/%2e%2e/b"))
        assert (refusal.status, server.story) == (400, [])

    def test_a_large_body_spends_nothing(self, server: TokenServer, holder: Holder) -> None:
        """A body beyond the limit is refused before the token is spent."""
        body = b"x" * 2000
        assert server.refusal("PUT", "/a", holder.authorization("/a", "PUT", body), body).status == 413
        assert server.story == ["find", "read"]

    def test_a_token_that_ends_while_its_body_comes(self, server: TokenServer, holder: Holder) -> None:
        """A token is good when its body is whole, or else it could be used again after it was forgotten."""
        authorization = holder.authorization("/a", "PUT", b"x")
        refusal = server.refusal("PUT", "/a", authorization, b"x", seconds=66)
        assert (refusal.step, server.story) == (5, ["find", "read", "find"])

    @pytest.mark.parametrize("options", [{}, {"single_use": None}], ids=["single-use", "reusable"])
    def test_a_key_that_is_revoked_while_a_body_comes(self, holder: Holder, options: dict[str, Any]) -> None:
        """A key is looked up once more when a body took long, and is then refused as any revoked key is."""
        server = TokenServer(holder, **options)
        authorization = holder.authorization("/a", "PUT", b"x")
        revoke = functools.partial(
            server.registry.revoke, holder.public.thumbprint, account=ACCOUNT, now=NOW, by="operator"
        )
        refusal = server.refusal("PUT", "/a", authorization, b"x", seconds=2, meanwhile=revoke)
        assert (refusal.step, refusal.reason) == (2, "revoked key")
        assert refusal.seen == server.refusal("PUT", "/a", authorization, b"x").seen
        assert server.story[:3] == ["find", "read", "find"]
        assert not server.store.spent

    @pytest.mark.parametrize(("seconds", "reads"), [(0.9, 1), (1.1, 2), (-2, 2)])
    def test_a_key_that_stays_while_a_body_comes(
        self, server: TokenServer, holder: Holder, seconds: float, reads: int
    ) -> None:
        """A key that is good still after a long body is accepted; a quick body costs one read."""
        server.verify("PUT", "/a", holder.authorization("/a", "PUT", b"x"), b"x", seconds=seconds)
        assert server.story.count("find") == reads

    def test_the_body_of_an_unbound_token(self, holder: Holder) -> None:
        """The body of a request whose token is not bound is held within bounds too."""
        server = TokenServer(holder, require_bound=False)
        claims = {
            name: value
            for name, value in holder.claims().items()
            if name not in ("htm", "htu", "content_digest")
        }
        assert server.verify("PUT", "/other", f"Bearer {holder.sign(claims)}", b"x").action == "create"
        assert server.story == ["find", "read", "spend", "note"]

    def test_nothing_is_granted(self, server: TokenServer, holder: Holder) -> None:
        """The response to a request with a token brings nothing."""
        caller = server.verify("GET", "/a", holder.authorization())
        assert perform(server.verifier.grant_next(caller, 200, lambda name: [])) == ()


class TestField:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", " Bearer", "Bearer  "])
    def test_the_scheme_in_any_case(self, server: TokenServer, holder: Holder, scheme: str) -> None:
        """The name of the scheme is good in any letter case (RFC 9110 section 11.1)."""
        assert server.verify("GET", "/a", f"{scheme} {holder.sign(holder.claims())} ").action == "read"

    @pytest.mark.parametrize("count", [2, 3])
    def test_several_fields(self, server: TokenServer, holder: Holder, count: int) -> None:
        """More than one Authorization field is a bad request, even where they are the same."""
        refusal = server.refusal("GET", "/a", [holder.authorization()] * count)
        assert (refusal.status, refusal.step) == (400, 1)
        assert 'error="invalid_request"' in refusal.challenge
        assert "several" in json.loads(refusal.body)["message"]

    def test_a_scheme_alone(self, server: TokenServer) -> None:
        """A scheme without a token is a bad request."""
        assert server.refusal("GET", "/a", "Bearer").status == 400


class TestTelling:
    def cases(self, holder: Holder, server: TokenServer) -> dict[str, str]:
        """Make tokens that name an unknown, a revoked and another algorithm's key, or are signed wrongly."""
        unknown, revoked, other = Holder(), Holder(), Holder("ES256")
        server.registry.add(revoked)
        server.registry.revoke(revoked.public.thumbprint, account=revoked.account, now=NOW, by="operator")
        header = holder.header()
        return {
            "unknown key": unknown.sign(holder.claims()),
            "revoked key": revoked.sign(holder.claims()),
            "wrong algorithm": other.sign(holder.claims(), {**header, "alg": "ES256"}),
            "wrong signature": unknown.sign(holder.claims(), header),
        }

    def test_clients_are_told_the_same(
        self, server: TokenServer, holder: Holder, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Unknown, revoked, mismatched and wrong look alike; the log and the counters tell them apart."""
        cases = self.cases(holder, server)
        with caplog.at_level(logging.INFO, "tuned_digest.server"):
            refusals = {name: server.refusal("GET", "/a", f"Bearer {token}") for name, token in cases.items()}
        assert len({refusal.seen for refusal in refusals.values()}) == 1
        assert f'error_description="{reading.UNVERIFIED}"' in refusals["revoked key"].challenge
        assert [refusal.reason for refusal in refusals.values()] == list(cases)
        assert [refusal.step for refusal in refusals.values()] == [2, 2, 3, 4]
        assert server.verifier.counters().refused == dict.fromkeys(cases, 1)
        logged = [record.getMessage() for record in caplog.records]
        assert all(name in line for name, line in zip(cases, logged, strict=True))
        assert not any(token.split(".")[2] in "".join(logged) for token in cases.values())

    @pytest.mark.parametrize("algorithm", ["Ed25519", "ES256", "ES384", "RS256", "PS256"])
    def test_an_unknown_key_costs_a_check(
        self, server: TokenServer, algorithm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A token of an unknown key is checked against a key of the algorithm that it names."""
        checked = self.watch(monkeypatch)
        stranger = Holder(algorithm)
        assert server.refusal("GET", "/a", stranger.authorization()).reason == "unknown key"
        ((algorithm_of_key, bits),) = checked
        assert algorithm_of_key == algorithm
        assert bits == (2048 if algorithm in ("RS256", "PS256") else 0)

    @pytest.mark.parametrize(
        "signature",
        [b"\xff" * 256, b"\xff" * 255 + b"\xfe", b"\x01" * 300, b"\x01" * 512, b"\x01" * 64, b"\x01" * 3000],
        ids=["above all", "above the modulus", "2,400 bits", "4,096 bits", "short", "long"],
    )
    def test_an_rsa_signature_that_takes_no_time(
        self, signature: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A signature that a known RSA key refuses at once is checked against the key of a stranger too."""
        holder, stranger = Holder("RS256"), Holder("RS256")
        server = TokenServer(holder)
        checked = self.watch(monkeypatch)
        parts = [one.authorization().rpartition(".")[0] for one in (holder, stranger)]
        refusals = [server.refusal("GET", "/a", f"{part}.{encoded(signature)}") for part in parts]
        assert len({refusal.seen for refusal in refusals}) == 1
        assert [refusal.reason for refusal in refusals] == ["wrong signature", "unknown key"]
        assert checked[0] == checked[1]
        assert 2048 <= checked[0][1] <= 4096

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
        """Note which keys tokens are checked against: algorithm, and bits of the modulus."""
        checked: list[tuple[str, int]] = []
        verified = reading.Token.claims_by

        def claims_by(token: Any, key: PublicKey) -> Any:
            is_rsa = key.algorithm in ("RS256", "PS256")
            checked.append((key.algorithm, key.jose_key.public_key.key_size if is_rsa else 0))
            return verified(token, key)

        monkeypatch.setattr(reading.Token, "claims_by", claims_by)
        return checked

    def test_a_key_that_cannot_be_used(self, holder: Holder, caplog: pytest.LogCaptureFixture) -> None:
        """A row with a broken JWK is refused as an unknown key is, and the log names it."""
        server = TokenServer()
        server.registry.enrol(
            EnrolledKey(holder.public.thumbprint, "acme-42", "{}", "", NOW), what="key added", by="operator"
        )
        assert server.refusal("GET", "/a", holder.authorization()).reason == "unusable key"
        assert holder.public.thumbprint in caplog.text

    def test_claims_are_told(self, server: TokenServer, holder: Holder) -> None:
        """What is wrong with the claims of a token is told to whoever signed it."""
        refusal = server.refusal("GET", "/a", holder.authorization(now=NOW - 600))
        assert 'error="invalid_token", error_description="the token has expired' in refusal.challenge
        assert json.loads(refusal.body)["reason"].startswith("the token has expired")

    def test_decisions(self, holder: Holder) -> None:
        """Each decision is told to the callback, with what the counters say."""
        decisions: list[Decision] = []
        server = TokenServer(holder, on_decision=decisions.append)
        server.verify("GET", "/a", holder.authorization())
        server.refusal("GET", "/a", holder.authorization())
        server.refusal("GET", "/a", [])
        assert decisions == [
            Decision(0, "", "read", holder.public.identity),
            Decision(401, "token used", "", ""),
            Decision(401, "authorization required", "", ""),
        ]
        assert server.verifier.counters().accepted == 1

    @pytest.mark.parametrize("realm", ['a "quoted" realm', "a \\ realm"])
    def test_a_realm_is_quoted(self, holder: Holder, realm: str) -> None:
        """A realm may have quotes and backslashes (RFC 9110 section 5.6.4)."""
        challenge = TokenServer(holder, realm=realm).refusal("GET", "/a", []).challenge
        match = re.fullmatch(r'Bearer realm="((?:[^"\\]|\\.)*)"', challenge)
        assert match is not None
        assert re.sub(r"\\(.)", r"\1", match[1]) == realm


class TestCallers:
    @pytest.mark.parametrize("algorithm", ["ES256", "ES384", "RS256", "PS256"])
    def test_other_keys_are_named_by_their_thumbprint(self, algorithm: str) -> None:
        """A key that the challenge scheme does not know is named by its thumbprint."""
        holder = Holder(algorithm)
        caller = TokenServer(holder).verify("GET", "/a", holder.authorization())
        assert caller.identity == holder.public.thumbprint

    def test_the_policy_says_what_it_is(self, holder: Holder) -> None:
        """The action is the policy's, which may be awaited."""

        async def exists(path: str) -> bool:
            return path == "/a"

        server = TokenServer(holder, policy=Policy(exists=exists))
        assert server.verify("PUT", "/a", holder.authorization("/a", "PUT")).action == "update"
        assert json.loads(server.refusal("PUT", "/b", []).body)["action"] == "create"


class TestBinding:
    def test_a_prefix_that_a_proxy_takes_off(self, holder: Holder) -> None:
        """The origin may bring the part of the path that clients know and the server does not."""
        server = TokenServer(holder, audience="acme", origin="https://API.example.com:443/v1/")
        claims = {**holder.claims("/v1/a"), "aud": "acme"}
        assert server.verify("GET", "/a", f"Bearer {holder.sign(claims)}").action == "read"

    def test_a_server_without_an_origin(self, holder: Holder) -> None:
        """A server that does not know its origin refuses tokens that are bound, and takes others."""
        server = TokenServer(holder, audience="acme", require_bound=False)
        claims = {**holder.claims(), "aud": "acme"}
        assert server.refusal("GET", "/a", f"Bearer {holder.sign(claims)}").step == 6
        for path_alone in ("/a", ""):
            assert (
                server.refusal("GET", "/a", f"Bearer {holder.sign({**claims, 'htu': path_alone})}").step == 6
            )
        for name in ("htm", "htu", "content_digest"):
            del claims[name]
        assert server.verify("GET", "/a", f"Bearer {holder.sign(claims)}").action == "read"

    def test_a_reusable_token_may_have_a_jti_or_none(self, holder: Holder) -> None:
        """Without a store a token is good as often as it comes, with or without a jti."""
        server = TokenServer(holder, require_bound=False, single_use=None)
        claims = holder.claims()
        for _ in range(2):
            assert server.verify("GET", "/a", f"Bearer {holder.sign(claims)}").action == "read"
        del claims["jti"]
        for _ in range(2):
            assert server.verify("GET", "/a", f"Bearer {holder.sign(claims)}").action == "read"


class TestSpending:
    def test_once(self, server: TokenServer, holder: Holder) -> None:
        """A token is good once, for any request."""
        authorization = holder.authorization()
        server.verify("GET", "/a", authorization)
        assert server.refusal("GET", "/a", authorization).reason == "token used"

    def test_names_are_by_key(self, holder: Holder) -> None:
        """Two keys of an account may use the same jti."""
        other = Holder()
        server = TokenServer(holder, other)
        for one in (holder, other):
            server.verify("GET", "/a", one.authorization())
        assert len(server.store.spent) == 2

    @pytest.mark.parametrize(("lifetime", "seconds"), [(60, 75), (300, 315), (-4, 11)])
    def test_a_name_is_remembered(
        self, server: TokenServer, holder: Holder, lifetime: int, seconds: float
    ) -> None:
        """A name is remembered until no server accepts its token, and long enough for one that is waiting."""
        claims = {**holder.claims(), "iat": NOW - 10, "exp": NOW + lifetime - 5}
        if lifetime == 300:
            claims["iat"] = NOW - 5
        server.verify("GET", "/a", f"Bearer {holder.sign(claims)}")
        assert list(server.store.spent.values()) == [seconds]

    def test_the_least_time(self, holder: Holder) -> None:
        """With no leeway a name is remembered while another copy of its token may be on its way."""
        server = TokenServer(holder, leeway=0)
        server.verify("GET", "/a", f"Bearer {holder.sign({**holder.claims(), 'exp': NOW + 1})}")
        assert list(server.store.spent.values()) == [10]

    def test_the_longest_time(self, server: TokenServer, holder: Holder) -> None:
        """No token is remembered for longer than max_lifetime and three times the leeway."""
        claims = {**holder.claims(), "iat": NOW + 10, "exp": NOW + 310}
        server.verify("GET", "/a", f"Bearer {holder.sign(claims)}")
        assert list(server.store.spent.values()) == [330]

    def test_a_store_that_is_down(self, server: TokenServer, holder: Holder, caplog: Any) -> None:
        """A store that cannot answer is 503 and never a yes; the log says so once, and when it is over."""
        server.store.problem = StoreUnavailableError("cannot reach spent.example:6379", retry_after=2.5)
        authorization = holder.authorization()
        for _ in range(2):
            refusal = server.refusal("GET", "/a", authorization)
            assert (refusal.status, dict(refusal.fields)["Retry-After"]) == (503, "3")
            assert b"spent.example" not in refusal.body
        server.store.problem = None
        server.verify("GET", "/a", authorization)
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
        assert "the store of used tokens works again" in caplog.text

    def test_a_store_that_forgets(self, server: TokenServer, holder: Holder) -> None:
        """When a store begins again, tokens from before are refused, and later ones are good."""
        server.verify("GET", "/a", holder.authorization(jti="1"))
        server.store.epoch = "second"
        server.store.spent.clear()
        refusal = server.refusal("GET", "/a", holder.authorization(jti="1"))
        assert (refusal.status, refusal.step, refusal.reason) == (401, 7, "store forgot tokens")
        for iat, is_good in ((NOW + 9, False), (NOW + 10, False), (NOW + 11, True)):
            server.clock.now = NOW + 20
            claims = {**holder.claims(jti=str(iat)), "iat": iat}
            authorization = f"Bearer {holder.sign(claims)}"
            if is_good:
                server.verify("GET", "/a", authorization)
            else:
                assert server.refusal("GET", "/a", authorization).step == 7

    def test_a_store_that_forgets_before_the_first_token(self, server: TokenServer, holder: Holder) -> None:
        """A process that has started notices that the store began again though it had met no token."""
        perform(server.verifier.start())
        assert [*server.store.spent.values()] == [1]
        server.store.epoch = "second"
        assert server.refusal("GET", "/a", holder.authorization()).reason == "store forgot tokens"

    def test_a_store_that_is_down_at_the_start(self, server: TokenServer, holder: Holder) -> None:
        """A store that does not tell its epoch at the start is no reason not to start, nor to refuse."""
        server.store.problem = StoreUnavailableError("away")
        perform(server.verifier.start())
        server.store.problem = None
        server.verify("GET", "/a", holder.authorization())

    def test_the_first_epoch_is_no_change(self, server: TokenServer, holder: Holder) -> None:
        """A verifier that has spent nothing yet has no epoch to compare with."""
        server.store.epoch = "any"
        server.verify("GET", "/a", holder.authorization())


class TestStarting:
    def test_registry_and_store_are_started(self, holder: Holder) -> None:
        """Both are asked when the application starts."""
        started: list[str] = []

        class Registry(CountedRegistry):
            def start(self) -> None:
                started.append("registry")

        class Store(MemoryNonceStore):
            def start(self) -> None:
                started.append("store")

        perform(TokenVerifier(Registry(holder), AUDIENCE, single_use=Store()).start())
        perform(TokenVerifier(Registry(holder), AUDIENCE, single_use=None).start())
        assert started == ["registry", "store", "registry"]

    def test_what_is_away_is_logged(self, holder: Holder, caplog: pytest.LogCaptureFixture) -> None:
        """A registry and a store that are away now are no reason not to start."""

        class Registry(CountedRegistry):
            def start(self) -> None:
                raise StoreUnavailableError("no registry")

        class Store(MemoryNonceStore):
            def start(self) -> None:
                raise StoreUnavailableError("no store")

        perform(TokenVerifier(Registry(holder), AUDIENCE, single_use=Store()).start())
        assert "no registry" in caplog.text
        assert "no store" in caplog.text


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"registry": MemoryKeyRegistry}, "registry is"),
            ({"registry": {}}, "registry is"),
            ({"audience": ""}, "audience is"),
            ({"audience": "z\u00fcrich"}, "audience is"),
            ({"audience": 5}, "audience is"),
            ({"audience": "a\nb"}, "audience is"),
            ({"audience": "acme"}, "origin is"),
            ({"audience": "https://api.example.com/v1"}, "origin is"),
            ({"audience": "https://user@api.example.com"}, "origin is"),
            ({"origin": "acme"}, "origin is"),
            ({"origin": ""}, "origin is"),
            ({"origin": "ftp://api.example.com", "require_bound": False}, "origin is"),
            ({"origin": "https://api.example.com/?a"}, "origin is"),
            ({"origin": 5}, "origin is"),
            ({"single_use": MemoryNonceStore}, "single_use is"),
            ({"single_use": object()}, "single_use is"),
            ({"policy": Policy}, "policy is"),
            ({"realm": "\u00fc"}, "realm is"),
            ({"on_decision": 5}, "on_decision is"),
            ({"max_lifetime": 0}, "max_lifetime is"),
            ({"max_lifetime": 10**9}, "max_lifetime is"),
            ({"leeway": -1}, "max_lifetime is"),
            ({"leeway": float("nan")}, "max_lifetime is"),
        ],
    )
    def test_bad_arguments(self, options: dict[str, Any], problem: str) -> None:
        """What cannot be used is said at once."""
        with pytest.raises(ArgumentError, match=problem):
            TokenServer(**options)

    def test_single_use_has_to_be_decided(self) -> None:
        """Whether tokens are good once is not a default."""
        with pytest.raises(TypeError, match="single_use"):
            TokenVerifier(MemoryKeyRegistry(), AUDIENCE)  # type: ignore[call-arg]

    def test_without_joserfc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the extra the constructor says what to install."""
        public_keys._jose.cache_clear()
        public_keys._read.cache_clear()
        decoys._made.cache_clear()
        monkeypatch.setitem(sys.modules, "joserfc", None)
        with pytest.raises(MissingExtraError, match=r"tuned-digest\[tokens\]"):
            TokenVerifier(MemoryKeyRegistry(), AUDIENCE, single_use=None)

    def test_the_time_is_the_clock_s(self, holder: Holder) -> None:
        """Without a clock of the test's a verifier reads the machine's."""
        verifier = TokenVerifier(CountedRegistry(holder), AUDIENCE, single_use=None)
        request = IncomingRequest("GET", "/a", "", [("Authorization", holder.authorization())])
        with pytest.raises(Exception, match="expired"):
            perform(verifier.verify(request, lambda: b""))
