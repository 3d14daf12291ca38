"""Public keys as servers enrol them: one key, one spelling, one thumbprint, and nothing foreign is raised."""

import base64
import hashlib
import json
import sys
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import Ed25519Signer, MissingExtraError, PrivateKeySigner
from tuned_digest.errors import IdentityError
from tuned_digest.keys import PublicKey, public_keys

from .strategies import adversarial

RFC_8037 = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
"""Appendix A.2; its thumbprint is in A.3."""

RFC_7638 = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX"
    "jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8K"
    "JZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBni"
    "Iqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
}
"""Section 3.1, with its thumbprint."""

SIGNERS: dict[str, Any] = {
    "Ed25519": Ed25519Signer.generate(),
    "ES256": PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())),
    "ES384": PrivateKeySigner(ec.generate_private_key(ec.SECP384R1())),
    "RS256": PrivateKeySigner(rsa.generate_private_key(65537, 2048)),
}
SIGNERS["PS256"] = PrivateKeySigner(SIGNERS["RS256"]._private_key, algorithm="PS256")

JWKS: dict[str, dict[str, str]] = {
    name: json.loads(PublicKey.of(signer).jwk) for name, signer in SIGNERS.items()
}

every_kind = pytest.mark.parametrize("name", SIGNERS)


def encoded(octets: bytes) -> str:
    """Write bytes as a JWK has them."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Read them."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def thumbprint(jwk: dict[str, str]) -> str:
    """Digest the required members in the order of RFC 7638 section 3.2, by hand."""
    required = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}
    members = {name: jwk[name] for name in required[jwk["kty"]]}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return encoded(hashlib.sha256(text.encode()).digest())


class TestKnownKeys:
    @pytest.mark.parametrize(
        ("jwk", "expected", "algorithm"),
        [
            (RFC_8037, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "Ed25519"),
            (RFC_7638, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "RS256"),
        ],
    )
    def test_thumbprints_are_the_standards_own(
        self, jwk: dict[str, str], expected: str, algorithm: str
    ) -> None:
        """The keys of RFC 8037 and RFC 7638 have the thumbprints that stand there."""
        for form in (jwk, json.dumps(jwk), json.dumps(jwk, indent=2), MappingProxyType(jwk)):
            key = PublicKey.from_jwk(form)
            assert (key.thumbprint, key.algorithm) == (expected, algorithm)

    def test_a_fingerprint_is_80_bits_of_the_thumbprint(self) -> None:
        """Four groups of four characters of base32."""
        key = PublicKey.from_jwk(RFC_8037)
        groups = key.fingerprint.split("-")
        assert [len(group) for group in groups] == [4] * 4
        assert base64.b32decode("".join(groups)) == decoded(key.thumbprint)[:10]


class TestOneKey:
    @every_kind
    def test_a_signers_key_is_that_of_its_jwk(self, name: str) -> None:
        """What a signer gives, what is written and what is read are equal, and have one thumbprint."""
        key = PublicKey.of(SIGNERS[name])
        again = PublicKey.from_jwk(key.jwk)
        assert again == key
        assert key.algorithm == name
        assert key.thumbprint == thumbprint(JWKS[name])
        assert json.loads(key.jwk)["alg"] == name

    def test_an_identity_is_the_same_key(self) -> None:
        """The name of an Ed25519 key in the challenge scheme leads to the same thumbprint, and back."""
        signer = SIGNERS["Ed25519"]
        key = PublicKey.from_identity(signer.identity)
        assert key == PublicKey.of(signer)
        assert key.identity == signer.identity
        assert PublicKey.from_identity(signer.identity + "=") == key
        assert {PublicKey.of(SIGNERS[name]).identity for name in SIGNERS if name != "Ed25519"} == {""}

    def test_the_rsa_algorithms_of_one_key_are_two_enrolments(self) -> None:
        """They share a thumbprint, so that one key is enrolled once, and differ in their algorithm."""
        one, two = (PublicKey.of(SIGNERS[name]) for name in ("RS256", "PS256"))
        assert one.thumbprint == two.thumbprint
        assert one != two

    @every_kind
    def test_members_that_are_not_the_keys_change_nothing(self, name: str) -> None:
        """A ``kid``, a ``use`` and whatever else are neither kept nor part of the thumbprint."""
        more = {**JWKS[name], "kid": "x", "use": "sig", "key_ops": ["verify"], "x5u": "https://a.example"}
        assert PublicKey.from_jwk(more) == PublicKey.from_jwk(JWKS[name])

    def test_a_repr_and_equality_leave_out_joserfcs_key(self) -> None:
        """A key can be shown and hashed."""
        key = PublicKey.from_jwk(RFC_8037)
        assert "jose_key" not in repr(key)
        assert len({key, PublicKey.from_jwk(json.dumps(RFC_8037))}) == 1


def public_bytes(key: PublicKey) -> bytes:
    """Write the key itself, however it was spelled."""
    octets: bytes = key.jose_key.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets


def spellings(text: str) -> st.SearchStrategy[str]:
    """Draw other ways to write a number or a point in base64."""
    octets = decoded(text)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return st.one_of(
        st.just(text),
        st.integers(1, 3).map(lambda count: encoded(bytes(count) + octets)),
        st.integers(1, 2).map(lambda count: encoded(octets[count:])),
        st.integers(1, 3).map(lambda count: encoded(octets + bytes(count))),
        st.integers(1, 3).map(lambda count: text + "=" * count),
        st.just(text.replace("-", "+").replace("_", "/")),
        st.sampled_from(alphabet).map(lambda last: text[:-1] + last),
        st.sampled_from([" ", "\n", "\t", "\0", "\u00ad"]).map(lambda space: text[:5] + space + text[5:]),
        st.sampled_from([text + "\n", "0x" + octets.hex(), text.lower(), text[::-1], ""]),
    )


class TestSpellings:
    @given(st.sampled_from(list(JWKS)), st.data())
    def test_two_spellings_never_give_two_thumbprints(self, name: str, data: st.DataObject) -> None:
        """However a key is written, it is refused, or has the one thumbprint of that key."""
        jwk: dict[str, object] = dict(JWKS[name])
        for member in ("x", "y", "n", "e"):
            if member in jwk:
                jwk[member] = data.draw(spellings(JWKS[name][member]))
        try:
            key = PublicKey.from_jwk(jwk)
        except IdentityError:
            return
        if public_bytes(key) == public_bytes(PublicKey.from_jwk(JWKS[name])):
            assert key.thumbprint == thumbprint(JWKS[name])
        assert key.thumbprint == thumbprint(json.loads(key.jwk))
        assert PublicKey.from_jwk(key.jwk) == key

    @pytest.mark.parametrize(
        ("name", "member", "change"),
        [
            ("RS256", "n", lambda octets: encoded(b"\0" + octets)),
            ("RS256", "e", lambda octets: "AAEAAQ"),
            ("RS256", "e", lambda octets: "AQAB="),
            ("ES256", "x", lambda octets: encoded(b"\0" + octets)),
            ("ES256", "y", lambda octets: encoded(octets) + "="),
            ("ES384", "x", lambda octets: encoded(octets) + "\n"),
            ("Ed25519", "x", lambda octets: encoded(octets) + "="),
            ("Ed25519", "x", lambda octets: encoded(octets)[:-1] + chr(ord(encoded(octets)[-1]) + 1)),
        ],
    )
    def test_what_is_not_the_one_spelling_is_refused(self, name: str, member: str, change: Any) -> None:
        """Leading zeros, padding, spaces and trailing bits are no second name for a key."""
        with pytest.raises(IdentityError):
            PublicKey.from_jwk({**JWKS[name], member: change(decoded(JWKS[name][member]))})

    @pytest.mark.parametrize("kty", ["okp", "OKP ", "ec", "Rsa", "oct", "", "AKP"])
    def test_a_kty_has_one_spelling(self, kty: str) -> None:
        """So has the name of the kind."""
        with pytest.raises(IdentityError, match="Ed25519, EC on P-256 or P-384, or RSA"):
            PublicKey.from_jwk({**RFC_8037, "kty": kty})


def rsa_jwk(bits: int, exponent: int) -> dict[str, str]:
    """Write an RSA key of some size whose factors nobody knows."""
    modulus = (1 << (bits - 1)) | 1
    size = (exponent.bit_length() + 7) // 8
    return {
        "kty": "RSA",
        "n": encoded(modulus.to_bytes((bits + 7) // 8, "big")),
        "e": encoded(exponent.to_bytes(size, "big")),
    }


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("jwk", "said"),
        [
            (rsa_jwk(1024, 65537), "2,048 to 4,096 bits, not 1024"),
            (rsa_jwk(2047, 65537), "2,048 to 4,096 bits, not 2047"),
            (rsa_jwk(4097, 65537), "2,048 to 4,096 bits, not 4097"),
            (rsa_jwk(2048, 3), "exponent 65537"),
            (rsa_jwk(2048, 65539), "exponent 65537"),
            (rsa_jwk(2048, 1), "."),
            (rsa_jwk(2048, 2), "."),
            ({"kty": "RSA", "n": "", "e": ""}, "."),
            ({"kty": "RSA", "n": "AA", "e": "AA"}, "."),
            ({**RFC_8037, "crv": "X25519"}, "Ed25519, EC"),
            ({**RFC_8037, "crv": "Ed448"}, "not a key"),
            ({**RFC_8037, "x": encoded(bytes(32))}, "."),
            ({**RFC_8037, "x": encoded(b"\1" + bytes(31))}, "."),
            ({**RFC_8037, "x": encoded(b"\xff" * 32)}, "."),
            ({**RFC_8037, "x": encoded((2**255 - 19 + 3).to_bytes(32, "little"))}, "."),
            ({**RFC_8037, "x": encoded(bytes(31))}, "not a key"),
            ({**RFC_8037, "x": 5}, "each a text"),
            ({**RFC_8037, "x": None}, "each a text"),
            ({"kty": "OKP", "crv": "Ed25519"}, "each a text"),
            ({**JWKS["ES256"], "y": encoded(bytes(32))}, "not a key"),
            ({**JWKS["ES256"], "crv": "P-384", "alg": "ES384"}, "."),
            ({**JWKS["ES256"], "crv": "secp256k1"}, "."),
            ({**JWKS["ES256"], "crv": "P-521"}, "."),
            ({"kty": 5}, "with a kty"),
            ({"kty": ["OKP"]}, "with a kty"),
            ({}, "with a kty"),
            ("[]", "with a kty"),
            ("5", "with a kty"),
            ("", "not JSON"),
            ("{", "not JSON"),
            ('{"kty": "OKP", "n": ' + "1" * 1500 + "}", "each a text"),
            ("[" * 2000, "not JSON"),
            ("x" * 2049, "2048 characters"),
            ({**RFC_8037, "kid": "x" * 2049}, "2048 characters"),
            (None, "text members"),
            (5, "text members"),
            (b"{}", "text members"),
            ([("kty", "OKP")], "each a text"),
            ({**RFC_8037, "kid": b"x"}, "text members"),
            ({"kty": "OKP", 5: "x"}, "text members"),
        ],
        ids=range(40),
    )
    def test_what_is_no_key_that_can_be_enrolled(self, jwk: Any, said: str) -> None:
        """It is an `IdentityError` that says what is wrong."""
        with pytest.raises(IdentityError, match=said):
            PublicKey.from_jwk(jwk)

    @every_kind
    @pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
    def test_private_members_are_refused(self, name: str, member: str) -> None:
        """A private key is told apart, and is not in the error."""
        with pytest.raises(IdentityError, match="private key: send the public one") as raised:
            PublicKey.from_jwk({**JWKS[name], member: "c2VjcmV0"})
        assert "c2VjcmV0" not in str(raised.value)

    @every_kind
    @pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA", "ES512", "", 0, 5, None, False, [], {}])
    def test_another_algorithm_is_refused(self, name: str, algorithm: Any) -> None:
        """The ``alg`` of a JWK is one that its key has, or absent."""
        with pytest.raises(IdentityError, match="this key signs by"):
            PublicKey.from_jwk({**JWKS[name], "alg": algorithm})

    @pytest.mark.parametrize(
        "identity", ["", "AAAA", "!", "A" * 43, "\u00fc", 5, None, b"x", RFC_8037["x"] + "A"]
    )
    def test_what_is_no_identity(self, identity: Any) -> None:
        """An identity that is no base64, of another length or of small order is refused."""
        with pytest.raises(IdentityError):
            PublicKey.from_identity(identity)

    def test_joserfc_is_an_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where it is not installed the error names the extra."""
        public_keys._jose.cache_clear()
        monkeypatch.setitem(sys.modules, "joserfc", None)
        try:
            with pytest.raises(MissingExtraError, match=r"tuned-digest\[tokens\]") as caught:
                PublicKey.of(Ed25519Signer.generate())
            assert caught.value.extra == "tokens"
        finally:
            public_keys._jose.cache_clear()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "kid", "d"])
    | st.text(max_size=5)
    | st.integers(),
    st.sampled_from(["OKP", "EC", "RSA", "Ed25519", "P-256", "AQAB", "RS256", RFC_8037["x"]]) | VALUES,
    max_size=8,
)


class TestNothingForeign:
    @given(MEMBERS, st.sampled_from([{}, *JWKS.values()]), st.booleans())
    def test_of_members(self, members: Any, base: dict[str, str], as_text: bool) -> None:
        """Whatever the members of a JWK are, it is a key or an `IdentityError`."""
        jwk: Any = {**base, **members}
        if as_text:
            jwk = json.dumps(jwk, default=str)
        try:
            key = PublicKey.from_jwk(jwk)
        except IdentityError:
            return
        assert key.thumbprint == thumbprint(json.loads(key.jwk))

    @given(adversarial() | st.text() | st.text(alphabet='{}[]":,ktyOKP0919\\ud8', max_size=200) | VALUES)
    def test_of_anything(self, jwk: Any) -> None:
        """Text, and what is neither text nor members."""
        with pytest.raises(IdentityError):
            PublicKey.from_jwk(jwk)

    @given(st.sampled_from(list(JWKS)), st.integers(0, 10**6), st.characters())
    def test_of_a_jwk_with_one_character_changed(self, name: str, position: int, character: str) -> None:
        """It is refused, or is whole and has the thumbprint of what it says."""
        text = json.dumps(JWKS[name])
        position %= len(text)
        try:
            key = PublicKey.from_jwk(text[:position] + character + text[position + 1 :])
        except IdentityError:
            return
        assert key.thumbprint == thumbprint(json.loads(key.jwk))

    @given(adversarial() | st.text() | VALUES)
    def test_of_identities(self, identity: Any) -> None:
        """The same for the names of the challenge scheme."""
        with pytest.raises(IdentityError):
            PublicKey.from_identity(identity)

    @given(st.sampled_from(["Ed25519", "ES256", "ES384", "RS256", "PS256"]) | VALUES, st.binary() | VALUES)
    def test_of_signers(self, algorithm: Any, public_key: Any) -> None:
        """The same for what a signer of a caller's own says."""
        signer: Any = type("Own", (), {"algorithm": algorithm, "public_key": public_key})()
        with pytest.raises(IdentityError):
            PublicKey.of(signer)
