"""Section 5: keys, their files, signatures; and the identities of section 10, step 2."""

import copy
import importlib.util
import pickle
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    ssh,
)
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import (
    ArgumentError,
    AsyncSigner,
    Ed25519Signer,
    KeyFileWarning,
    MissingExtraError,
    PrivateKeyError,
    Signer,
    signers,
)
from tuned_digest._grammar import encode_base64
from tuned_digest.errors import IdentityError, SignatureError
from tuned_digest.signers import verify_identity, verify_signature

from .curve import SIGN_BIT, P, encodings, small_order_points, x_of
from .strategies import adversarial

# RFC 8032 section 7.1, tests 1 to 3: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


def openssh(key: Ed25519PrivateKey, password: bytes | None = None) -> bytes:
    """Write a key as ssh-keygen does."""
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)


@pytest.mark.parametrize(("seed", "public_key", "message", "signature"), RFC_8032)
def test_signatures_are_those_of_rfc_8032(seed: str, public_key: str, message: str, signature: str) -> None:
    """Key and signature from a seed are the standard's own, and verify."""
    signer = Ed25519Signer.from_seed(bytes.fromhex(seed))
    assert signer.public_key.hex() == public_key
    assert signer.sign(bytes.fromhex(message)).hex() == signature
    verify_identity(signer.public_key)
    verify_signature(signer.public_key, bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_seed_has_32_bytes(size: int) -> None:
    """A seed of another size is refused."""
    with pytest.raises(ArgumentError, match=f"32 bytes, not {size}"):
        Ed25519Signer.from_seed(bytes(size))


def test_a_secret_to_derive_from_has_at_least_32_bytes() -> None:
    """A short secret is refused, and each context gives a key of its own."""
    with pytest.raises(ArgumentError, match="at least 32 bytes, not 31"):
        Ed25519Signer.derive(bytes(31), context="example.com 2025 a")
    one, two = (Ed25519Signer.derive(bytes(40), context=f"example.com 2025 {use}") for use in "ab")
    assert one.public_key != two.public_key


def test_generated_keys_differ() -> None:
    """Two generated keys are two keys, and each identity is its public key in base64."""
    one, two = Ed25519Signer.generate(), Ed25519Signer.generate()
    assert one.public_key != two.public_key
    assert one.identity == encode_base64(one.public_key)


@pytest.mark.parametrize("password", [None, b"secret", "p\u00e4ss"])
def test_a_written_key_reads_back(password: bytes | str | None) -> None:
    """PKCS#8 PEM, encrypted or not, gives the same key again."""
    signer = Ed25519Signer.generate()
    again = Ed25519Signer.from_pem(signer.to_pem(password=password), password=password)
    assert again.public_key == signer.public_key


def test_text_that_has_no_encoding_is_refused() -> None:
    """A lone surrogate in a password or a context is an `ArgumentError`."""
    with pytest.raises(ArgumentError, match="password"):
        Ed25519Signer.generate().to_pem(password="\ud800")
    with pytest.raises(ArgumentError, match="context"):
        Ed25519Signer.derive(b"s" * 32, context="\ud800")


@pytest.mark.parametrize("password", [b"", ""])
def test_a_key_is_not_encrypted_with_an_empty_password(password: bytes | str) -> None:
    """An empty password is refused rather than taken for none."""
    with pytest.raises(ArgumentError, match="1 to 1023 bytes"):
        Ed25519Signer.generate().to_pem(password=password)


@pytest.mark.parametrize("password", [None, b"secret"])
def test_openssh_keys_are_read(password: bytes | None) -> None:
    """A key file made by ssh-keygen is read, encrypted or not."""
    key = Ed25519PrivateKey.generate()
    signer = Ed25519Signer.from_pem(openssh(key, password), password=password)
    assert signer.public_key == key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def test_text_before_the_key_does_not_matter() -> None:
    """A PEM file may start with remarks, and end its lines in either way."""
    signer = Ed25519Signer.generate()
    pem = b"Bag Attributes: none\n" + signer.to_pem()
    assert Ed25519Signer.from_pem(pem).public_key == signer.public_key
    assert Ed25519Signer.from_pem(pem.replace(b"\n", b"\r\n")).public_key == signer.public_key


@pytest.mark.parametrize("write", [Ed25519Signer.to_pem, lambda signer, **_: openssh(signer._private_key)])
def test_a_password_that_is_not_needed_is_refused(write: type) -> None:
    """A password for a key that is not encrypted is an error that says so."""
    with pytest.raises(PrivateKeyError, match="is not encrypted: give no password"):
        Ed25519Signer.from_pem(write(Ed25519Signer.generate()), password="x")


@pytest.mark.parametrize("kind", ["pkcs8", "openssh"])
def test_an_encrypted_key_needs_its_password(kind: str) -> None:
    """No password and a wrong one are errors that say which it was."""
    signer = Ed25519Signer.generate()
    pem = signer.to_pem(password="x") if kind == "pkcs8" else openssh(signer._private_key, b"x")
    with pytest.raises(PrivateKeyError, match="is encrypted: give its password"):
        Ed25519Signer.from_pem(pem)
    with pytest.raises(PrivateKeyError, match="damaged, or the password is not its own"):
        Ed25519Signer.from_pem(pem, password="y")


def test_an_encrypted_openssh_key_needs_bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bcrypt is not installed the error names the extra that installs it."""
    pem = openssh(Ed25519PrivateKey.generate(), b"x")
    specification = importlib.util.find_spec(ssh.__name__)
    assert specification is not None
    assert specification.loader is not None
    without_bcrypt = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    specification.loader.exec_module(without_bcrypt)
    monkeypatch.setattr(signers, "load_ssh_private_key", without_bcrypt.load_ssh_private_key)
    with pytest.raises(MissingExtraError, match=r"tuned-digest\[ssh\]") as caught:
        Ed25519Signer.from_pem(pem, password=b"x")
    assert caught.value.extra == "ssh"


def test_an_unknown_cipher_is_an_unsupported_key() -> None:
    """An OpenSSH key of a kind the library cannot read is an error that says so."""
    # The name of the cipher, "none", stands first after the magic "openssh-key-v1\0".
    pem = openssh(Ed25519PrivateKey.generate()).replace(b"AAAABG5vbmU", b"AAAABG5vbW8", 1)
    with pytest.raises(PrivateKeyError, match=r"unsupported kind: .*nomo"):
        Ed25519Signer.from_pem(pem, password="x")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (generate_private_key(SECP256R1()), "EllipticCurve|EC"),
        (X25519PrivateKey.generate(), "X25519"),
        (Ed448PrivateKey.generate(), "Ed448"),
    ],
)
def test_a_key_of_another_kind_is_refused(key: X25519PrivateKey, kind: str) -> None:
    """A private key that is not Ed25519 is refused by its name."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(PrivateKeyError, match=f"kind ({kind}), not Ed25519"):
        Ed25519Signer.from_pem(pem)


@pytest.mark.parametrize(
    ("pem", "found"),
    [
        (b"", "no PEM text"),
        (b"garbage", "no PEM text"),
        (b"-----BEGIN -----", "no PEM text"),
        (b"-----BEGIN CERTIFICATE-----\n", "'CERTIFICATE'"),
        (b"-----BEGIN PUBLIC KEY-----\r\n", "'PUBLIC KEY'"),
        (b"\nssh-ed25519 AAAA me@here", "'OpenSSH public key'"),
        (b"ecdsa-sha2-nistp256 AAAA", "'OpenSSH public key'"),
        (b"sk-ssh-ed25519@openssh.com AAAA", "'OpenSSH public key'"),
        (b"PuTTY-User-Key-File-3: ssh-ed25519", "'PuTTY key'"),
    ],
)
def test_what_was_found_in_place_of_a_key_is_said(pem: bytes, found: str) -> None:
    """An error names what the bytes are where it can tell."""
    with pytest.raises(PrivateKeyError, match=f"found .*{found}"):
        Ed25519Signer.from_pem(pem)


@pytest.mark.parametrize("label", [b"PRIVATE KEY", b"OPENSSH PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"])
@pytest.mark.parametrize("content", [b"", b"AAAA", b"!!!!"])
def test_a_damaged_key_is_refused(label: bytes, content: bytes) -> None:
    """A private key that cannot be decoded is an error of the package."""
    pem = b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, content, label)
    with pytest.raises(PrivateKeyError, match=r"private key is damaged$"):
        Ed25519Signer.from_pem(pem)


def test_more_than_64_kib_is_not_a_key() -> None:
    """Input over 64 KiB is refused unread."""
    with pytest.raises(PrivateKeyError, match="over 65536 bytes"):
        Ed25519Signer.from_pem(Ed25519Signer.generate().to_pem() + b"\n" * 65536)


@given(adversarial().map(str.encode) | st.binary(), st.none() | st.text(max_size=5) | st.binary(max_size=5))
def test_reading_keys_raises_nothing_foreign(pem: bytes, password: bytes | str | None) -> None:
    """No bytes and no password make the reader of keys raise anything but the package's error."""
    for block in (pem, b"-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----" % pem):
        with pytest.raises(PrivateKeyError):
            Ed25519Signer.from_pem(block, password=password)


@given(st.integers(0, 10**6), st.integers(0, 7), st.sampled_from(("pkcs8", "openssh")))
def test_a_key_with_one_bit_changed_raises_nothing_foreign(position: int, bit: int, kind: str) -> None:
    """A key file that lost a bit is read or refused, and never raises anything else."""
    key = Ed25519Signer.from_seed(bytes(range(32)))
    pem = bytearray(key.to_pem() if kind == "pkcs8" else openssh(key._private_key))
    pem[position % len(pem)] ^= 1 << bit
    try:
        signer = Ed25519Signer.from_pem(bytes(pem))
    except PrivateKeyError:
        return
    assert len(signer.public_key) == 32


def test_a_key_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that only its owner can read gives the key without a warning, ``~`` expanded."""
    signer = Ed25519Signer.generate()
    file = tmp_path / "key.pem"
    file.write_bytes(signer.to_pem(password="x"))
    file.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (file, str(file), "~/key.pem"):
        assert Ed25519Signer.from_file(path, password="x").public_key == signer.public_key


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_file_that_others_can_read_gives_a_warning(tmp_path: Path, mode: int) -> None:
    """The warning names the file and points at the caller."""
    file = tmp_path / "key.pem"
    file.write_bytes(Ed25519Signer.generate().to_pem())
    file.chmod(mode)
    with pytest.warns(KeyFileWarning, match="is open to others") as caught:
        Ed25519Signer.from_file(file)
    assert caught[0].filename == __file__


def test_an_error_names_the_key_file(tmp_path: Path) -> None:
    """What is wrong with a file is said with its path, whether it is missing or holds something else."""
    file = tmp_path / "key.pem"
    with pytest.raises(PrivateKeyError, match="cannot be read: No such file") as missing:
        Ed25519Signer.from_file(file)
    with pytest.raises(PrivateKeyError, match="cannot be read"):
        Ed25519Signer.from_file(tmp_path)
    file.write_bytes(b"x")
    file.chmod(0o600)
    with pytest.raises(PrivateKeyError, match=r"key.pem: found no PEM text") as other:
        Ed25519Signer.from_file(file)
    assert missing.value.path == other.value.path == str(file)


@pytest.mark.parametrize("path", ["~nobody-has-this-name/key.pem", "key\0.pem"])
def test_a_path_that_cannot_be_opened_raises_nothing_foreign(path: str) -> None:
    """A path to an unknown user's home and one with a NUL are errors of the package."""
    with pytest.raises(PrivateKeyError):
        Ed25519Signer.from_file(path)


def test_a_private_key_is_not_shown_copied_or_pickled() -> None:
    """The repr shows the identity alone, a copy is the same object, and pickling is refused."""
    signer = Ed25519Signer.from_seed(bytes(32))
    assert repr(signer) == f"Ed25519Signer(identity={signer.identity!r})"
    assert copy.copy(signer) is signer
    assert copy.deepcopy([signer])[0] is signer
    with pytest.raises(ArgumentError, match="not pickled"):
        pickle.dumps(signer)


def test_signers_are_recognised_by_their_form() -> None:
    """An Ed25519 signer has the form of both protocols, and an arbitrary object that of neither."""
    assert isinstance(Ed25519Signer.generate(), Signer)
    assert isinstance(Ed25519Signer.generate(), AsyncSigner)
    assert not isinstance(object(), Signer)


@pytest.mark.parametrize("encoding", [code for point in small_order_points() for code in encodings(point)])
def test_points_of_small_order_are_refused(encoding: bytes) -> None:
    """None of the eight points of small order is an identity, in any of their encodings."""
    with pytest.raises(IdentityError, match=r"small order|not canonical"):
        verify_identity(encoding)


def test_there_are_eight_points_of_small_order() -> None:
    """The points refused are eight, and lenient readers know fourteen encodings of them."""
    points = small_order_points()
    assert len(points) == 8
    assert len({code for point in points for code in encodings(point)}) == 14


@given(st.integers(0, 2**256 - 1) | st.integers(0, 40) | st.integers(P - 20, P + 18))
def test_an_identity_is_a_canonical_point_of_large_order(number: int) -> None:
    """Of all 32-byte strings exactly the canonical points of large order are identities."""
    y = number % SIGN_BIT
    x = x_of(y) if y < P else None
    good = x is not None and (x, y) not in small_order_points() and (P - x, y) not in small_order_points()
    try:
        verify_identity(number.to_bytes(32, "little"))
    except IdentityError:
        assert not good
    else:
        assert good


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_identity_has_32_bytes(size: int) -> None:
    """A key of another size is refused."""
    with pytest.raises(IdentityError, match=f"32 bytes, not {size}"):
        verify_identity(bytes(size))


@pytest.mark.parametrize(("message", "size"), [(b"m", 63), (b"m", 65), (b"m", 0), (b"n", 64)])
def test_what_is_not_the_signature_is_refused(message: bytes, size: int) -> None:
    """Another message and a signature of another size are refused."""
    signer = Ed25519Signer.generate()
    signature = (signer.sign(b"m") + b"x")[:size]
    with pytest.raises(SignatureError):
        verify_signature(signer.public_key, message, signature)


def test_a_key_that_is_no_key_verifies_nothing() -> None:
    """A public key of another size is a signature error, and not a foreign one."""
    with pytest.raises(SignatureError):
        verify_signature(b"short", b"m", bytes(64))
