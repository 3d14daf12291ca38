"""EC and RSA private keys for tokens, as they are stored: PEM, PKCS#1, SEC1 and OpenSSH, encrypted or not."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tuned_digest import ArgumentError, Ed25519Signer, KeyFileWarning, PrivateKeyError, PrivateKeySigner
from tuned_digest.keys import PublicKey, Signer

from .strategies import adversarial

KEYS: dict[str, Any] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "RS256": rsa.generate_private_key(65537, 2048),
}

FORMATS: dict[str, PrivateFormat] = {
    "pkcs8": PrivateFormat.PKCS8,
    "traditional": PrivateFormat.TraditionalOpenSSL,
    "openssh": PrivateFormat.OpenSSH,
}

every_key = pytest.mark.parametrize("name", KEYS)
every_format = pytest.mark.parametrize("form", FORMATS)


def written(key: Any, form: str = "pkcs8", password: str | None = None) -> bytes:
    """Write a private key as PEM text."""
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    pem: bytes = key.private_bytes(Encoding.PEM, FORMATS[form], encryption)
    return pem


def verify(signer: PrivateKeySigner, message: bytes, signature: bytes) -> None:
    """Verify a signature by the public key that a signer gives, with the padding and form of RFC 7518."""
    key: Any = load_der_public_key(signer.public_key)
    if signer.algorithm.startswith("ES"):
        half = len(signature) // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        digest = hashes.SHA256() if signer.algorithm == "ES256" else hashes.SHA384()
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(digest))
        return
    scheme: Any = padding.PKCS1v15()
    if signer.algorithm == "PS256":
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    key.verify(signature, message, scheme, hashes.SHA256())


class TestFormats:
    @every_key
    @every_format
    @pytest.mark.parametrize("password", [None, "secret"])
    def test_each_format_is_read(self, name: str, form: str, password: str | None) -> None:
        """A key of each kind is read from each format, encrypted or not, and signs by its algorithm."""
        if password and form == "openssh" and name != "ES256":
            pytest.skip("bcrypt takes its time, and one kind of key shows it")
        signer = PrivateKeySigner.from_pem(written(KEYS[name], form, password), password=password)
        assert signer.algorithm == name
        assert signer.public_key == KEYS[name].public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        verify(signer, b"m", signer.sign(b"m"))
        assert PublicKey.of(signer).algorithm == name

    @pytest.mark.parametrize("algorithm", ["RS256", "PS256", None])
    def test_an_rsa_key_signs_by_either_algorithm(self, algorithm: str | None) -> None:
        """One RSA key has two, and signs by what is asked for."""
        signer = PrivateKeySigner.from_pem(written(KEYS["RS256"]), algorithm=algorithm)
        assert signer.algorithm == (algorithm or "RS256")
        verify(signer, b"m", signer.sign(b"m"))

    @every_key
    def test_every_signature_has_one_size(self, name: str) -> None:
        """R and S are filled up with zeros, which one in 256 of them needs."""
        signer = PrivateKeySigner(KEYS[name])
        count, size = (400, {"ES256": 64, "ES384": 96}[name]) if name != "RS256" else (3, 256)
        assert {len(signer.sign(b"m")) for _ in range(count)} == {size}

    @every_key
    def test_it_is_a_signer(self, name: str) -> None:
        """It fits the protocol that auth objects take."""
        assert isinstance(PrivateKeySigner(KEYS[name]), Signer)


class TestPasswords:
    @every_format
    def test_an_encrypted_key_needs_its_password(self, form: str) -> None:
        """No password, a wrong one and one that is not needed are errors that say which it was."""
        key = KEYS["ES256"]
        for pem, password, said in (
            (written(key, form, "x"), None, "is encrypted: give its password"),
            (written(key, form, "x"), "y", "damaged, or the password is wrong"),
            (written(key, form), "y", "is not encrypted: give no password"),
        ):
            with pytest.raises(PrivateKeyError, match=said):
                PrivateKeySigner.from_pem(pem, password=password)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("key", "said"),
        [
            (lambda: Ed25519Signer.generate().to_pem(), "read it with Ed25519Signer"),
            (lambda: written(Ed448PrivateKey.generate()), "kind Ed448"),
            (lambda: written(X25519PrivateKey.generate()), "kind X25519"),
            (lambda: written(dsa.generate_private_key(1024)), "kind DSA"),
            (lambda: written(ec.generate_private_key(ec.SECP256K1())), "P-256 or P-384"),
            (lambda: written(ec.generate_private_key(ec.SECP521R1())), "P-256 or P-384"),
            (lambda: written(rsa.generate_private_key(65537, 1024)), "2,048 to 4,096 bits, not 1024"),
            (lambda: written(rsa.generate_private_key(65537, 2040)), "2,048 to 4,096 bits, not 2040"),
            (lambda: written(rsa.generate_private_key(3, 2048)), "exponent 65537"),
        ],
        ids=["Ed25519", "Ed448", "X25519", "DSA", "secp256k1", "P-521", "RSA 1024", "RSA 2040", "exponent 3"],
    )
    def test_a_key_that_signs_no_tokens(self, key: Callable[[], bytes], said: str) -> None:
        """Keys of other kinds, curves and sizes are refused by their name."""
        with pytest.raises(PrivateKeyError, match=said):
            PrivateKeySigner.from_pem(key())

    def test_an_rsa_key_of_more_than_4096_bits(self) -> None:
        """One of 4,484 bits, of two Mersenne primes, is too large."""
        p, q, e = 2**2203 - 1, 2**2281 - 1, 65537
        d = pow(e, -1, (p - 1) * (q - 1))
        crt = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
        numbers = rsa.RSAPrivateNumbers(p, q, d, *crt, rsa.RSAPublicNumbers(e, p * q))
        with pytest.raises(PrivateKeyError, match="2,048 to 4,096 bits, not 4484"):
            PrivateKeySigner(numbers.private_key(unsafe_skip_rsa_key_validation=True))

    @pytest.mark.parametrize(
        ("name", "algorithm"),
        [("ES256", "ES384"), ("ES256", "RS256"), ("RS256", "ES256"), ("RS256", "HS256"), ("ES384", 5)],
    )
    def test_an_algorithm_that_the_key_has_not(self, name: str, algorithm: Any) -> None:
        """The error says which it has."""
        with pytest.raises(PrivateKeyError, match=r"this key signs by .*, not by"):
            PrivateKeySigner.from_pem(written(KEYS[name]), algorithm=algorithm)

    @pytest.mark.parametrize("key", ["key.pem", None, KEYS["ES256"].public_key(), Ed448PrivateKey.generate()])
    def test_what_is_no_private_key(self, key: Any) -> None:
        """The constructor takes keys of the library alone, and says how to read a file."""
        with pytest.raises(ArgumentError, match="from_file"):
            PrivateKeySigner(key)

    def test_text_in_place_of_bytes(self) -> None:
        """A path that is given as the key itself is told so."""
        text: Any = "key.pem"
        with pytest.raises(ArgumentError, match="from_file"):
            PrivateKeySigner.from_pem(text)

    @pytest.mark.parametrize(
        ("pem", "found"),
        [
            (b"", "no PEM text"),
            (b"-----BEGIN PUBLIC KEY-----\n", "'PUBLIC KEY'"),
            (b"-----BEGIN CERTIFICATE-----\n", "'CERTIFICATE'"),
            (b"ecdsa-sha2-nistp256 AAAA", "'OpenSSH public key'"),
        ],
    )
    def test_what_was_found_in_place_of_a_key_is_said(self, pem: bytes, found: str) -> None:
        """An error names what the bytes are."""
        with pytest.raises(PrivateKeyError, match=f"found .*{found}"):
            PrivateKeySigner.from_pem(pem)

    @pytest.mark.parametrize(
        "label", [b"RSA PRIVATE KEY", b"EC PRIVATE KEY", b"PRIVATE KEY", b"OPENSSH PRIVATE KEY"]
    )
    @given(pem=adversarial().map(str.encode) | st.binary(), password=st.none() | st.binary(max_size=5))
    def test_no_bytes_raise_anything_foreign(self, label: bytes, pem: bytes, password: bytes | None) -> None:
        """What cannot be read is a `PrivateKeyError`."""
        with pytest.raises(PrivateKeyError):
            PrivateKeySigner.from_pem(
                b"-----BEGIN %s-----\n%s\n-----END %s-----" % (label, pem, label), password=password
            )

    @settings(max_examples=60)
    @given(
        st.sampled_from(list(KEYS)), st.sampled_from(list(FORMATS)), st.integers(0, 10**6), st.integers(0, 7)
    )
    def test_a_key_with_one_bit_changed_is_refused_or_whole(
        self, name: str, form: str, position: int, bit: int
    ) -> None:
        """A damaged key is refused, or signs for the public key that it gives."""
        pem = bytearray(WRITTEN[name, form])
        pem[position % len(pem)] ^= 1 << bit
        try:
            signer = PrivateKeySigner.from_pem(bytes(pem))
        except PrivateKeyError:
            return
        verify(signer, b"m", signer.sign(b"m"))


WRITTEN = {(name, form): written(KEYS[name], form) for name in KEYS for form in FORMATS}


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """An encrypted key that only its owner can read."""
        file = tmp_path / "key.pem"
        file.touch(mode=0o600)
        file.write_bytes(written(KEYS["RS256"], password="x"))
        return file

    def test_a_key_file_is_read(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that only its owner can read gives the key without a warning, ``~`` expanded."""
        monkeypatch.setenv("HOME", str(file.parent))
        for path in (file, str(file), "~/key.pem"):
            signer = PrivateKeySigner.from_file(path, password="x", algorithm="PS256")
            assert (signer.algorithm, len(signer.sign(b"m"))) == ("PS256", 256)

    @pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602])
    def test_a_key_file_that_others_can_use_gives_a_warning(self, file: Path, mode: int) -> None:
        """The warning names the file, says what to do, and points at the caller."""
        file.chmod(mode)
        with pytest.warns(KeyFileWarning, match=r"other users can .*key\.pem: run chmod 600") as caught:
            PrivateKeySigner.from_file(file, password="x")
        assert caught[0].filename == __file__

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "cannot be read"),
            (b"x", "key.pem: found no PEM text"),
            (b"", "key.pem: found no PEM text"),
            (Ed25519Signer.generate().to_pem(), "key.pem: found an Ed25519 private key"),
            (written(ec.generate_private_key(ec.SECP521R1())), "key.pem: a key is Ed25519, EC on P-256"),
            (b"\n" * 65537, "key.pem: .*more than 65536 bytes"),
        ],
        ids=["missing", "text", "empty", "Ed25519", "P-521", "large"],
    )
    def test_an_error_names_the_key_file_once(self, file: Path, content: bytes | None, said: str) -> None:
        """What is wrong with a file is said with its path."""
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        with pytest.raises(PrivateKeyError, match=said) as raised:
            PrivateKeySigner.from_file(file)
        assert raised.value.path == str(file)
        assert str(raised.value).count("key.pem") == 1


class TestObjects:
    def test_a_signer_shows_no_key(self) -> None:
        """Its repr names the algorithm alone."""
        assert repr(PrivateKeySigner(KEYS["ES384"])) == "PrivateKeySigner(algorithm='ES384')"

    def test_a_signer_is_its_own_copy(self) -> None:
        """What cannot change needs no copy."""
        signer = PrivateKeySigner(KEYS["ES256"])
        assert copy.copy(signer) is signer
        assert copy.deepcopy(signer) is signer

    def test_a_signer_does_not_pickle(self) -> None:
        """The error says where to load the key instead."""
        with pytest.raises(ArgumentError, match="load it in the child process"):
            pickle.dumps(PrivateKeySigner(KEYS["ES256"]))
