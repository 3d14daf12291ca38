"""Bad input to the verifier of tokens: refused at the step that finds it, never accepted, never an error."""

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey

from tuned_digest.server import Caller

from .tokens import AUDIENCE, NOW, Holder, Refusal, TokenServer, encoded

HOLDERS = {algorithm: Holder(algorithm) for algorithm in ("Ed25519", "ES256", "ES384", "RS256", "PS256")}
HOLDER = HOLDERS["Ed25519"]
PARTS = HOLDER.sign(HOLDER.claims()).split(".")

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

HOSTILE_KIDS = [
    "' OR '1'='1",
    "'; DROP TABLE keys; --",
    '" OR ""="',
    "../../../../etc/passwd",
    "..\\..\\windows",
    "/dev/null",
    "%00",
    "a\0b",
    "{}$(id)`id`",
    "https://evil.example/jwks.json",
    "\u202e\U0001f600",
    "x" * 256,
    HOLDER.public.thumbprint.swapcase(),
    HOLDER.public.thumbprint + " ",
    HOLDER.public.thumbprint + "=",
    HOLDER.public.thumbprint[:-1],
]


def shown(authorization: str | list[str], server: TokenServer | None = None) -> Refusal:
    """Show a field to a server that knows the keys of `HOLDERS`, and give its refusal."""
    return (server or TokenServer(*HOLDERS.values())).refusal("GET", "/a", authorization)


class TestFields:
    @given(st.text(st.characters(max_codepoint=255), max_size=200))
    def test_any_field(self, value: str) -> None:
        """A field of any bytes is a missing token or one that cannot be read; no key is looked up."""
        server = TokenServer(HOLDER)
        for written in (value, f"Bearer {value}"):
            refusal = shown(written, server)
            assert refusal.status in (400, 401)
            assert refusal.step in (0, 1)
        assert server.story == []

    @given(st.lists(st.text(st.characters(max_codepoint=255), max_size=30), min_size=2, max_size=4))
    def test_several_fields(self, values: list[str]) -> None:
        """Several fields are a bad request, whatever they say."""
        assert shown(values).status == 400

    @given(st.integers(0, 2), st.text("AZaz09-_=+/. ~\xff", max_size=40))
    def test_any_part(self, place: int, part: str) -> None:
        """A good token with another part is refused, wherever the part stands."""
        assume(part != PARTS[place])
        refusal = shown("Bearer " + ".".join([*PARTS[:place], part, *PARTS[place + 1 :]]))
        assert refusal.step in (1, 4)

    @given(st.data())
    def test_any_character(self, data: st.DataObject) -> None:
        """A good token of which one character is another is refused."""
        token = ".".join(PARTS)
        place = data.draw(st.integers(0, len(token) - 1))
        character = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
        assume(character != token[place])
        refusal = shown(f"Bearer {token[:place]}{character}{token[place + 1 :]}")
        assert refusal.step in (1, 2, 3, 4)

    @pytest.mark.parametrize("size", [8193, 100_000])
    def test_oversize(self, size: int) -> None:
        """A token of more than 8 KiB is not read, though its signature is good."""
        token = HOLDER.sign({**HOLDER.claims(), "x": "y" * size})
        refusal = shown(f"Bearer {token}")
        assert (refusal.status, refusal.step) == (400, 1)

    def test_the_longest_token(self) -> None:
        """A token just below the limit is read."""
        claims = {**HOLDER.claims(), "x": "y" * 5200}
        server = TokenServer(HOLDER)
        assert server.verify("GET", "/a", f"Bearer {HOLDER.sign(claims)}").action == "read"


class TestHeaders:
    @given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "x"]), JSON))
    def test_any_header(self, header: dict[str, Any]) -> None:
        """A signed token under any header is refused, or has the header of a good one."""
        text = HOLDER.sign_octets(json.dumps(header).encode(), json.dumps(HOLDER.claims()).encode())
        refusal = shown(f"Bearer {text}")
        assert (refusal.step, refusal.status in (400, 401)) in ((1, True), (2, True), (3, True), (4, True))

    @given(st.sampled_from(["alg", "typ", "kid", "crit"]), JSON)
    def test_any_parameter(self, name: str, value: Any) -> None:
        """A good header with another value is refused at the step that reads it."""
        header = {**HOLDER.header(), name: value}
        assume(header != HOLDER.header())
        assume(not (name == "typ" and isinstance(value, str) and value.upper() == "JWT"))
        text = HOLDER.sign_octets(json.dumps(header).encode(), json.dumps(HOLDER.claims()).encode())
        assert shown(f"Bearer {text}").step == (2 if name == "kid" and _is_kid(value) else 1)

    @given(st.binary(max_size=60))
    def test_any_bytes(self, header: bytes) -> None:
        """A header of any bytes is refused before a key is looked up."""
        assert shown(f"Bearer {HOLDER.sign_octets(header, b'{}')}").step == 1

    @pytest.mark.parametrize("kid", HOSTILE_KIDS, ids=range(len(HOSTILE_KIDS)))
    def test_hostile_kids(self, kid: str) -> None:
        """A kid with SQL, path and other characters is that of an unknown key."""
        text = HOLDER.sign_octets(
            json.dumps({**HOLDER.header(), "kid": kid}).encode(), json.dumps(HOLDER.claims()).encode()
        )
        refusal = shown(f"Bearer {text}")
        assert (refusal.step, refusal.status) == (2, 401)

    @pytest.mark.parametrize("depth", [9, 1000, 4000])
    def test_deep_headers(self, depth: int) -> None:
        """A header nested more than 8 deep is not parsed."""
        header = json.dumps(HOLDER.header())[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"
        token = HOLDER.sign_octets(header.encode(), b"{}")
        assert (shown(f"Bearer {token}").step, shown(f"Bearer {token}").status) == (1, 400)

    @pytest.mark.parametrize("name", ["alg", "typ", "kid", "other"])
    def test_names_twice(self, name: str) -> None:
        """A header in which a name stands twice is not read, though both values are the same."""
        header = json.dumps({**HOLDER.header(), "other": 1})
        twice = header[:-1] + f', "{name}": {json.dumps({**HOLDER.header(), "other": 1}[name])}}}'
        refusal = shown(f"Bearer {HOLDER.sign_octets(twice.encode(), b'{}')}")
        assert (refusal.step, refusal.status) == (1, 400)


class TestConfusion:
    """Algorithms and keys that a token brings, or exchanges."""

    @pytest.mark.parametrize("signature", ["", "AA", PARTS[2]], ids=["none", "short", "good"])
    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, 5, ["none"]])
    def test_none(self, algorithm: object, signature: str) -> None:
        """A token that says it is not signed is refused, with a signature or without."""
        header = encoded(json.dumps({**HOLDER.header(), "alg": algorithm}).encode())
        assert shown(f"Bearer {header}.{PARTS[1]}.{signature}").step == 1

    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    @pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
    def test_a_public_key_as_a_secret(self, holder: Holder, algorithm: str) -> None:
        """A token signed by HMAC, the public key as its secret in any spelling, is refused."""
        public = holder.public.jose_key.public_key
        raw = holder.private.as_pem(private=False)
        secrets_ = [raw, raw.strip(), holder.public.jwk.encode(), holder.private.as_der(private=False)]
        assert public is not None
        for secret in secrets_:
            registry = jws.JWSRegistry(algorithms=[algorithm])
            key = OctKey.import_key(encoded(secret)) if secret == raw else OctKey.import_key(secret.hex())
            token = jws.serialize_compact(
                {**holder.header(), "alg": algorithm},
                json.dumps(holder.claims()),
                key,
                registry=registry,
            )
            assert shown(f"Bearer {token}").step == 1

    @pytest.mark.parametrize("said", HOLDERS)
    @pytest.mark.parametrize("signer", HOLDERS)
    def test_another_algorithm(self, signer: str, said: str) -> None:
        """A token under the name of one algorithm, with the kid of a key for another one, is refused."""
        header = {**HOLDERS[signer].header(), "alg": said}
        text = HOLDERS[said].sign(HOLDERS[signer].claims(), header)
        if signer == said:
            server = TokenServer(*HOLDERS.values())
            assert server.verify("GET", "/a", f"Bearer {text}").account == "acme-42"
        else:
            refusal = shown(f"Bearer {text}")
            assert (refusal.step, refusal.reason) == (3, "wrong algorithm")

    def test_rs256_signed_by_the_key_for_ps256(self) -> None:
        """A key enrolled for PS256 is not good for RS256, though it can sign both."""
        holder = HOLDERS["PS256"]
        as_rs256 = Holder("RS256", private=holder.private)
        header = {**holder.header(), "alg": "RS256"}
        assert shown(f"Bearer {as_rs256.sign(holder.claims(), header)}").step == 3

    @pytest.mark.parametrize("name", ["jwk", "jku", "x5c", "x5u", "x5t", "x5t#S256"])
    @pytest.mark.parametrize("kid", ["known", "own", "absent"])
    def test_keys_in_the_header(self, name: str, kid: str) -> None:
        """A key, or the place of one, in a header is used for nothing."""
        attacker = Holder()
        value: Any = {
            "jwk": attacker.private.as_dict(private=False),
            "jku": "https://evil.example/jwks.json",
            "x5c": ["MIIB"],
            "x5u": "https://evil.example/cert.pem",
        }.get(name, "AA")
        header = {**attacker.header(), name: value}
        if kid == "known":
            header["kid"] = HOLDER.public.thumbprint
        if kid == "absent":
            del header["kid"]
        text = attacker.sign_octets(json.dumps(header).encode(), json.dumps(HOLDER.claims()).encode())
        assert shown(f"Bearer {text}").step == {"known": 4, "own": 2, "absent": 1}[kid]

    def test_jwe(self) -> None:
        """An encrypted token, of five parts, is not read."""
        assert shown("Bearer " + ".".join(["AAAA"] * 5)).status == 400


class TestClaims:
    @given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
    def test_any_claims(self, claims: dict[str, Any]) -> None:
        """Signed claims of any kind are refused at the step that reads them."""
        assert shown(f"Bearer {HOLDER.sign(claims)}").step == 5

    @given(
        st.sampled_from(
            ["iss", "sub", "aud", "iat", "exp", "nbf", "jti", "htm", "htu", "content_digest", "query"]
        ),
        JSON,
    )
    def test_any_claim(self, name: str, value: Any) -> None:
        """A good token with another claim is refused at its step, or says the same."""
        claims = {**HOLDER.claims(), name: value}
        server = TokenServer(HOLDER)
        outcome = server.outcome("GET", "/a", f"Bearer {HOLDER.sign(claims)}")
        if isinstance(outcome, Refusal):
            step = 5 if name in ("iss", "sub", "aud", "iat", "exp", "nbf", "jti") else 6
            assert (outcome.step, outcome.status) == (step, 401)
            assert "spend" not in server.story
        else:
            assert _is_as_good(name, value)

    @given(st.binary(max_size=80))
    def test_any_payload(self, payload: bytes) -> None:
        """Signed bytes that are no claims are refused after the signature was checked."""
        assume(not payload.lstrip().startswith(b"{"))
        refusal = shown(f"Bearer {HOLDER.sign(payload)}") if payload else shown("Bearer AAAA..AAAA")
        assert refusal.step == (5 if payload else 1)

    @pytest.mark.parametrize(
        "write",
        [
            lambda text: text[:-1] + ', "exp": 9999999999}',
            lambda text: text[:-1] + ', "x": {"a": 1, "a": 1}}',
            lambda text: text[:-1] + ', "x": NaN}',
            lambda text: text[:-1] + ', "x": -Infinity}',
            lambda text: text[:-1] + ', "x": ' + "[" * 9 + "]" * 9 + "}",
            lambda text: text[:-1] + ', "x": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
            lambda text: text[:-1] + ', "x": ' + "1" * 5000 + "}",
            lambda text: text + " {}",
            lambda text: "\ufeff" + text,
            lambda text: f"[{text}]",
            lambda text: text.encode("utf-16").decode("latin-1"),
        ],
    )
    def test_claims_that_are_read_in_two_ways(self, write: Callable[[str], str]) -> None:
        """Names that stand twice, numbers that are none, depth and other encodings are refused."""
        payload = write(json.dumps(HOLDER.claims())).encode("utf-8")
        assert shown(f"Bearer {HOLDER.sign(payload)}").step == 5

    @pytest.mark.parametrize("name", ["iat", "exp", "nbf"])
    @pytest.mark.parametrize(
        "value",
        [
            "1764100000",
            True,
            False,
            None,
            [NOW],
            {"a": NOW},
            2**53 + 2,
            2**63,
            -(2**63),
            10**4000,
            1e308,
            -1e308,
            "NaN",
        ],
        ids=lambda value: str(value)[:12],
    )
    def test_times(self, name: str, value: object) -> None:
        """A time that is no number of seconds, or beyond what two readers read alike, is refused."""
        refusal = shown(f"Bearer {HOLDER.sign({**HOLDER.claims(), name: value})}")
        assert (refusal.step, refusal.status) == (5, 401)

    @pytest.mark.parametrize("name", ["iat", "exp"])
    def test_a_number_beyond_all(self, name: str) -> None:
        """A number that a parser reads as infinite is refused."""
        text = json.dumps(HOLDER.claims())
        head, _, rest = text.partition(f'"{name}": ')
        payload = f'{head}"{name}": 1e999{rest[10:]}'.encode()
        assert shown(f"Bearer {HOLDER.sign(payload)}").step == 5

    @given(st.floats(-400, 400), st.floats(-400, 400))
    def test_when_a_token_is_good(self, iat: float, exp: float) -> None:
        """A token is good when it was issued, has not expired, and was not made for too long."""
        claims = {**HOLDER.claims(), "iat": NOW + iat, "exp": NOW + exp}
        iat, exp = claims["iat"] - NOW, claims["exp"] - NOW
        server = TokenServer(HOLDER)
        outcome = server.outcome("GET", "/a", f"Bearer {HOLDER.sign(claims)}")
        is_good = exp > -10 and iat <= 10 and exp - iat <= 300
        assert is_good == isinstance(outcome, Caller)
        assert isinstance(outcome, Caller) or outcome.step == 5


class TestRequests:
    @given(
        st.text("/ab%2eE.~;@?=&\xe9", max_size=30), st.sampled_from(["GET", "get", "TRACE", "CONNECT", "G T"])
    )
    def test_any_target(self, target: str, method: str) -> None:
        """A token is good for the target that it says, and nothing that is sent is an error."""
        server = TokenServer(HOLDER)
        for said in ("/a", target):
            claims = HOLDER.claims(said, method, jti=secrets.token_hex(4))
            outcome = server.outcome(method, target, f"Bearer {HOLDER.sign(claims)}")
            if isinstance(outcome, Refusal):
                assert outcome.status in (400, 401)
            else:
                assert outcome.account == "acme-42"
                assert target.partition("?")[0] == said.partition("?")[0]
                assert target.partition("?")[2] == said.partition("?")[2]


def _is_kid(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def _is_as_good(name: str, value: Any) -> bool:
    """Tell whether a claim of another value is as good as the usual one."""
    good = HOLDER.claims()
    match name:
        case "aud":
            return value == AUDIENCE or (isinstance(value, list) and AUDIENCE in value)
        case "jti":
            return isinstance(value, str) and 0 < len(value) <= 128
        case "iat" | "exp" | "nbf":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return bool(good.get(name) == value)
