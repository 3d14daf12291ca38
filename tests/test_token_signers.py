"""Keys that are held elsewhere, and keys of every algorithm: who signs, where, and what is refused."""

import threading
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tuned_digest import ArgumentError, Ed25519Signer, PrivateKeySigner, TunedDigestError
from tuned_digest.errors import IdentityError
from tuned_digest.httpx import SelfSignedTokenAuth

from .clients import ASYNC, CLIENTS
from .token_serving import ACCOUNT, every_client, header_of, serving_tokens, signed_in

BLOCKING = [name for name in CLIENTS if name not in ASYNC]

RSA = rsa.generate_private_key(65537, 2048)
SIGNERS: dict[str, Any] = {
    "Ed25519": Ed25519Signer.generate(),
    "ES256": PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())),
    "ES384": PrivateKeySigner(ec.generate_private_key(ec.SECP384R1())),
    "RS256": PrivateKeySigner(RSA),
    "PS256": PrivateKeySigner(RSA, algorithm="PS256"),
}

every_algorithm = pytest.mark.parametrize("algorithm", SIGNERS)


class OwnError(Exception):
    """What a caller's own signer raises."""


class Held:
    """A key somewhere else: it notes which thread it is asked in."""

    def __init__(self, signer: Any) -> None:
        self._signer = signer
        self.public_key: bytes = signer.public_key
        self.threads: list[int] = []
        if hasattr(signer, "algorithm"):
            self.algorithm = signer.algorithm

    def sign(self, message: bytes, /) -> bytes:
        """Sign."""
        self.threads.append(threading.get_ident())
        signature: bytes = self._signer.sign(message)
        return signature


class Awaited(Held):
    """A key that signs when it is awaited."""

    async def sign(self, message: bytes, /) -> bytes:  # type: ignore[override]
        """Sign."""
        return super().sign(message)


class Returning(Held):
    """A signer whose answers are given."""

    def __init__(self, signer: Any, answer: Any) -> None:
        super().__init__(signer)
        self._answer = answer

    def sign(self, message: bytes, /) -> bytes:
        """Answer, or raise the answer."""
        if isinstance(self._answer, BaseException):
            raise self._answer
        answer: bytes = self._answer
        return answer


class TestAlgorithms:
    @every_client
    @every_algorithm
    @pytest.mark.parametrize("held", [False, True], ids=["in memory", "held"])
    def test_each_algorithm_is_accepted(self, name: str, algorithm: str, held: bool) -> None:
        """A token of each algorithm is verified by joserfc, whether the key is ours or held elsewhere."""
        signer = Held(SIGNERS[algorithm]) if held else SIGNERS[algorithm]
        with serving_tokens(signer) as (_, served), signed_in(name, served.url, signer) as client:
            assert client.send("PUT", f"{served.url}/x", body=b"whole").status == 200
        assert header_of(served.requests[0].field("Authorization")[0])["alg"] == algorithm

    @every_client
    def test_the_older_name_of_ed25519(self, name: str, signer: Ed25519Signer) -> None:
        """``EdDSA`` is written for servers that know no other name."""
        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer, algorithm="EdDSA") as client,
        ):
            assert client.send("GET", served.url).status == 200
        assert header_of(served.requests[0].field("Authorization")[0])["alg"] == "EdDSA"

    @pytest.mark.parametrize(
        ("own", "asked", "said"),
        [
            ("Ed25519", "ES256", "signs by Ed25519, not by ES256"),
            ("ES256", "EdDSA", "signs by ES256, not by EdDSA"),
            ("RS256", "PS256", r"signs by RS256, not by PS256: .*algorithm='PS256'"),
            ("RS256", "HS256", "an algorithm is one of .*, not 'HS256'"),
            ("Ed25519", "none", "an algorithm is one of"),
            ("Ed25519", 5, "an algorithm is one of"),
            ("Ed25519", [], "an algorithm is one of"),
        ],
    )
    def test_an_algorithm_that_the_key_has_not_is_refused(self, own: str, asked: Any, said: str) -> None:
        """What the header says is what the key signs by."""
        with pytest.raises(ArgumentError, match=said):
            SelfSignedTokenAuth("https://a.example", SIGNERS[own], account=ACCOUNT, algorithm=asked)

    @every_algorithm
    def test_the_own_name_may_be_given(self, algorithm: str) -> None:
        """To name the key's own algorithm changes nothing."""
        SelfSignedTokenAuth("https://a.example", SIGNERS[algorithm], account=ACCOUNT, algorithm=algorithm)


class TestWhereItIsCalled:
    @pytest.mark.parametrize("name", ASYNC)
    def test_a_signer_of_the_callers_own_runs_off_the_loop(self, name: str) -> None:
        """An async client asks it in a worker thread."""
        signer = Held(Ed25519Signer.generate())
        with serving_tokens(signer) as (_, served), signed_in(name, served.url, signer) as client:
            assert client.send("GET", served.url).status == 200
            loop: int = client.portal.call(threading.get_ident)
        assert len(signer.threads) == 1
        assert loop not in signer.threads

    @pytest.mark.parametrize("name", ASYNC)
    @pytest.mark.parametrize("how", [{}, {"bind": False, "reuse": True}], ids=["bound", "reused"])
    def test_an_async_signer_signs_in_async_clients(self, name: str, how: dict[str, Any]) -> None:
        """It is awaited on the loop."""
        signer = Awaited(SIGNERS["ES256"])
        lax = {"is_bound": not how, "is_single_use": not how}
        with (
            serving_tokens(signer, **lax) as (_, served),
            signed_in(name, served.url, signer, **how) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [200, 200]
            loop: int = client.portal.call(threading.get_ident)
        assert set(signer.threads) == {loop}

    @pytest.mark.parametrize("name", BLOCKING)
    @pytest.mark.parametrize("how", [{}, {"bind": False, "reuse": True}], ids=["bound", "reused"])
    def test_an_async_signer_needs_an_async_client(self, name: str, how: dict[str, Any]) -> None:
        """In a blocking client it is an error of both families, each time, and nothing is sent."""
        signer = Awaited(Ed25519Signer.generate())
        with serving_tokens(signer) as (_, served), signed_in(name, served.url, signer, **how) as client:
            for _ in range(2):
                with pytest.raises(ArgumentError, match="async signer") as raised:
                    client.send("GET", served.url)
                assert isinstance(raised.value, client.library_error)
        assert served.requests == []


def der(signer: Any) -> bytes:
    """Sign as OpenSSL does: R and S in DER."""
    signature: bytes = signer._private_key.sign(b"m", ec.ECDSA(hashes.SHA256()))
    return signature


class TestWhatIsNoSignature:
    @every_client
    @pytest.mark.parametrize(
        ("algorithm", "answer", "said"),
        [
            ("Ed25519", b"", "has 64 bytes, and the signer gave 0$"),
            ("Ed25519", b"x" * 63, "has 64 bytes, and the signer gave 63$"),
            ("ES256", der, "R and S one after the other, not DER"),
            ("ES256", b"x" * 96, "64 bytes, and the signer gave 96"),
            ("ES384", b"x" * 64, "96 bytes, and the signer gave 64"),
            ("RS256", b"", "has some bytes, and the signer gave 0"),
            ("PS256", None, "returns bytes, not NoneType"),
            ("Ed25519", "x" * 64, "returns bytes, not str"),
            ("Ed25519", bytearray(64), "returns bytes, not bytearray"),
        ],
    )
    def test_it_is_not_sent(self, name: str, algorithm: str, answer: Any, said: str) -> None:
        """A signature of the wrong size or kind is an error of both families that says what is wrong."""
        key = SIGNERS[algorithm]
        signer = Returning(key, answer(key) if callable(answer) else answer)
        with serving_tokens(signer) as (_, served), signed_in(name, served.url, signer) as client:
            with pytest.raises(ArgumentError, match=said) as raised:
                client.send("GET", f"{served.url}/x")
            error: Any = raised.value
            assert isinstance(error, client.library_error)
            assert str(error.request.url) == f"{served.url}/x"
        assert served.requests == []

    @every_client
    @pytest.mark.parametrize("how", [{}, {"bind": False, "reuse": True}], ids=["bound", "reused"])
    @pytest.mark.parametrize("error", [OwnError("kms"), TunedDigestError("agent"), TimeoutError("late")])
    def test_what_a_signer_raises_reaches_the_caller(
        self, name: str, how: dict[str, Any], error: Exception
    ) -> None:
        """It is the caller's own error, each time it is asked, and nothing is sent."""
        signer = Returning(Ed25519Signer.generate(), error)
        with serving_tokens(signer) as (_, served), signed_in(name, served.url, signer, **how) as client:
            for _ in range(2):
                with pytest.raises(type(error), match=str(error)):
                    client.send("GET", served.url)
        assert served.requests == []


def written(key: Any) -> bytes:
    """Write a public key in DER."""
    octets: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return octets


PUBLIC_KEYS: dict[object, bytes] = {
    "Ed25519": SIGNERS["Ed25519"].public_key,
    "Ed25519 in DER": written(Ed25519PrivateKey.generate().public_key()),
    "P-256": SIGNERS["ES256"].public_key,
    "P-384": SIGNERS["ES384"].public_key,
    "RSA": SIGNERS["RS256"].public_key,
    "secp256k1": written(ec.generate_private_key(ec.SECP256K1()).public_key()),
}


class Nameless:
    """A signer without a public key."""

    def sign(self, message: bytes, /) -> bytes:
        """Sign nothing."""
        return message


class TestWhatIsNoSigner:
    @pytest.mark.parametrize(
        ("algorithm", "key", "said"),
        [
            ("Ed25519", b"short", "32 bytes|another length"),
            ("Ed25519", "text", "public_key is bytes, not str"),
            ("Ed25519", None, "public_key is bytes, not NoneType"),
            ("Ed25519", bytes(32), "small order|."),
            ("ES256", b"x" * 32, "SubjectPublicKeyInfo"),
            ("ES256", "P-384", "signs by ES384"),
            ("ES256", "RSA", "signs by RS256 or PS256"),
            ("RS256", "P-256", "signs by ES256"),
            ("HS256", "P-256", "signs by ES256"),
            ("EdDSA", "Ed25519", "SubjectPublicKeyInfo"),
            ("ES256", "Ed25519 in DER", "is no key for ES256"),
            ("", "P-256", "signs by ES256"),
            (None, "P-256", "signs by ES256"),
            (b"ES256", "P-256", "text members"),
            (["ES256"], "P-256", "signs by ES256"),
            ("ES256", "secp256k1", "is no key|or is no point|EC on P-256"),
        ],
    )
    def test_its_key_is_refused_at_once(self, algorithm: Any, key: Any, said: str) -> None:
        """A signer whose key is of another kind, or none, is an `IdentityError` of the constructor."""
        signer = Held(SIGNERS["Ed25519"])
        signer.algorithm, signer.public_key = algorithm, PUBLIC_KEYS.get(key, key)
        with pytest.raises(IdentityError, match=said):
            SelfSignedTokenAuth("https://a.example", signer, account=ACCOUNT)

    def test_a_signer_without_a_public_key_is_refused(self) -> None:
        """It is told what is missing."""
        nameless: Any = Nameless()
        with pytest.raises(IdentityError, match="public_key is bytes"):
            SelfSignedTokenAuth("https://a.example", nameless, account=ACCOUNT)

    @pytest.mark.parametrize(
        "signer", ["key.pem", None, Ed25519Signer, PrivateKeySigner, b"x", RSA.public_key()]
    )
    def test_what_does_not_sign_is_refused(self, signer: Any) -> None:
        """A path, a class and a key of the library are not signers."""
        with pytest.raises(ArgumentError, match="signer is a key"):
            SelfSignedTokenAuth("https://a.example", signer, account=ACCOUNT)


def test_an_rsa_signature_by_a_held_key_verifies() -> None:
    """The padding of each RSA algorithm is what RFC 7518 asks for."""
    for name in ("RS256", "PS256"):
        scheme: Any = (
            padding.PKCS1v15() if name == "RS256" else padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        )
        RSA.public_key().verify(SIGNERS[name].sign(b"m"), b"m", scheme, hashes.SHA256())
