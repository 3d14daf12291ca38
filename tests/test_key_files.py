"""Section 5: private keys as they are stored, in PKCS#8 PEM and OpenSSH files, encrypted or not."""

import importlib.util
import sys
from collections.abc import Callable
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

from tuned_digest import ArgumentError, Ed25519Signer, KeyFileWarning, MissingExtraError, PrivateKeyError
from tuned_digest.keys import files, verify_signature

from .strategies import adversarial

SEED = bytes(range(32))


def pkcs8(password: str | None = None) -> bytes:
    """Write the key of `SEED` as this package does."""
    return Ed25519Signer.from_seed(SEED).to_pem(password=password)


def openssh(password: str | None = None) -> bytes:
    """Write the key of `SEED` as ssh-keygen does."""
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)


Write = Callable[..., bytes]


@pytest.fixture(params=[pkcs8, openssh], ids=["pkcs8", "openssh"])
def write(request: pytest.FixtureRequest) -> Write:
    """One format after the other."""
    write: Write = request.param
    return write


class TestFormats:
    @pytest.mark.parametrize("password", [None, b"secret", "p\u00e4ss"])
    def test_a_written_key_reads_back(self, password: bytes | str | None) -> None:
        """PKCS#8 PEM, encrypted or not, gives the same key again."""
        signer = Ed25519Signer.generate()
        again = Ed25519Signer.from_pem(signer.to_pem(password=password), password=password)
        assert again.public_key == signer.public_key

    @pytest.mark.parametrize("password", [None, "secret"])
    def test_either_format_is_read(self, write: Write, password: str | None) -> None:
        """A key that this package or ssh-keygen wrote is read, encrypted or not."""
        signer = Ed25519Signer.from_pem(write(password), password=password)
        key = Ed25519PrivateKey.from_private_bytes(SEED)
        assert signer.public_key == key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def test_text_before_the_key_does_not_matter(self) -> None:
        """A PEM file may start with remarks, and end its lines in either way."""
        signer = Ed25519Signer.generate()
        pem = b"Bag Attributes: none\n" + signer.to_pem()
        assert Ed25519Signer.from_pem(pem).public_key == signer.public_key
        assert Ed25519Signer.from_pem(pem.replace(b"\n", b"\r\n")).public_key == signer.public_key


class TestPasswords:
    def test_a_password_that_has_no_encoding_is_refused(self, write: Write) -> None:
        """A lone surrogate in a password is an `ArgumentError`, in writing and in reading."""
        with pytest.raises(ArgumentError, match="password"):
            Ed25519Signer.generate().to_pem(password="\ud800")
        with pytest.raises(ArgumentError, match="password"):
            Ed25519Signer.from_pem(write("x"), password="\ud800")

    @pytest.mark.parametrize("password", [b"", "", b"x" * 1024])
    def test_a_password_has_1_to_1023_bytes(self, password: bytes | str) -> None:
        """An empty password is refused rather than taken for none, and so is one of over 1023 bytes."""
        with pytest.raises(ArgumentError, match="1 to 1023 bytes"):
            Ed25519Signer.generate().to_pem(password=password)

    def test_a_password_that_is_not_needed_is_refused(self, write: Write) -> None:
        """A password for a key that is not encrypted is an error that says so."""
        with pytest.raises(PrivateKeyError, match="is not encrypted: give no password"):
            Ed25519Signer.from_pem(write(), password="x")

    def test_an_encrypted_key_needs_its_password(self, write: Write) -> None:
        """No password and a wrong one are errors that say which it was."""
        with pytest.raises(PrivateKeyError, match="is encrypted: give its password"):
            Ed25519Signer.from_pem(write("x"))
        with pytest.raises(PrivateKeyError, match="damaged, or the password is wrong"):
            Ed25519Signer.from_pem(write("x"), password="y")

    def test_an_encrypted_openssh_key_needs_bcrypt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where bcrypt is not installed the error names the extra that installs it."""
        specification = importlib.util.find_spec(ssh.__name__)
        assert specification is not None
        assert specification.loader is not None
        without_bcrypt = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, "bcrypt", None)
        specification.loader.exec_module(without_bcrypt)
        monkeypatch.setattr(files, "load_ssh_private_key", without_bcrypt.load_ssh_private_key)
        with pytest.raises(MissingExtraError, match=r"tuned-digest\[ssh\]") as caught:
            Ed25519Signer.from_pem(openssh("x"), password=b"x")
        assert caught.value.extra == "ssh"


class TestWhatIsNoKey:
    def test_an_unknown_cipher_is_an_unsupported_key(self) -> None:
        """An OpenSSH key of a kind the library cannot read is an error that says so."""
        # The name of the cipher, "none", stands first after the magic "openssh-key-v1\0".
        pem = openssh().replace(b"AAAABG5vbmU", b"AAAABG5vbW8", 1)
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
    def test_a_key_of_another_kind_is_refused(self, key: X25519PrivateKey, kind: str) -> None:
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
    def test_what_was_found_in_place_of_a_key_is_said(self, pem: bytes, found: str) -> None:
        """An error names what the bytes are where it can tell."""
        with pytest.raises(PrivateKeyError, match=f"found .*{found}"):
            Ed25519Signer.from_pem(pem)

    @pytest.mark.parametrize("label", [b"PRIVATE KEY", b"OPENSSH PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"])
    @pytest.mark.parametrize("content", [b"", b"AAAA", b"!!!!"])
    def test_a_damaged_key_is_refused(self, label: bytes, content: bytes) -> None:
        """A private key that cannot be decoded is an error of the package."""
        pem = b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, content, label)
        with pytest.raises(PrivateKeyError, match=r"private key is damaged$"):
            Ed25519Signer.from_pem(pem)

    def test_more_than_64_kib_is_not_a_key(self) -> None:
        """Input of more than 64 KiB is refused unread."""
        with pytest.raises(PrivateKeyError, match="more than 65536 bytes"):
            Ed25519Signer.from_pem(pkcs8() + b"\n" * 65536)

    @given(
        adversarial().map(str.encode) | st.binary(), st.none() | st.text(max_size=5) | st.binary(max_size=5)
    )
    def test_reading_keys_raises_nothing_foreign(self, pem: bytes, password: bytes | str | None) -> None:
        """No bytes and no password make the reader of keys raise anything but the package's error."""
        for block in (pem, b"-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----" % pem):
            with pytest.raises(PrivateKeyError):
                Ed25519Signer.from_pem(block, password=password)

    @given(st.integers(0, 10**6), st.integers(0, 7), st.sampled_from((pkcs8, openssh)))
    def test_a_key_with_one_bit_changed_is_refused_or_whole(
        self, position: int, bit: int, write: Write
    ) -> None:
        """A key file with one bit changed is refused, or holds a key that signs for its own identity."""
        pem = bytearray(write())
        pem[position % len(pem)] ^= 1 << bit
        try:
            signer = Ed25519Signer.from_pem(bytes(pem))
        except PrivateKeyError:
            return
        verify_signature(signer.public_key, b"m", signer.sign(b"m"))


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """An encrypted key that only its owner can read."""
        file = tmp_path / "key.pem"
        file.touch(mode=0o600)
        file.write_bytes(pkcs8("x"))
        return file

    def test_a_key_file_is_read(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that only its owner can read gives the key without a warning, ``~`` expanded."""
        monkeypatch.setenv("HOME", str(file.parent))
        for path in (file, str(file), "~/key.pem"):
            signer = Ed25519Signer.from_file(path, password="x")
            assert signer.public_key == Ed25519Signer.from_seed(SEED).public_key

    @pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602])
    def test_a_key_file_that_others_can_use_gives_a_warning(self, file: Path, mode: int) -> None:
        """The warning names the file, says what to do, and points at the caller."""
        file.chmod(mode)
        with pytest.warns(KeyFileWarning, match=r"other users can .*key\.pem: run chmod 600") as caught:
            Ed25519Signer.from_file(file, password="x")
        assert caught[0].filename == __file__

    def test_an_error_names_the_key_file(self, file: Path) -> None:
        """What is wrong with a file is said with its path, whether it is missing or holds something else."""
        missing, folder = file.with_name("missing.pem"), file.parent
        with pytest.raises(PrivateKeyError, match="cannot be read: No such file") as raised:
            Ed25519Signer.from_file(missing)
        assert raised.value.path == str(missing)
        with pytest.raises(PrivateKeyError, match="cannot be read") as raised:
            Ed25519Signer.from_file(folder)
        assert raised.value.path == str(folder)
        file.write_bytes(b"x")
        with pytest.raises(PrivateKeyError, match=r"key.pem: found no PEM text") as raised:
            Ed25519Signer.from_file(file)
        assert raised.value.path == str(file)

    def test_a_file_of_more_than_64_kib_is_not_a_key(self, file: Path) -> None:
        """A file is read as far as 64 KiB, and refused with its path when it goes on."""
        file.write_bytes(pkcs8() + b"\n" * 65536)
        with pytest.raises(PrivateKeyError, match=r"key.pem: .*more than 65536 bytes"):
            Ed25519Signer.from_file(file)

    @pytest.mark.parametrize("path", ["~nobody-has-this-name/key.pem", "key\0.pem"])
    def test_a_path_that_cannot_be_opened_raises_nothing_foreign(self, path: str) -> None:
        """A path to an unknown user's home and one with a NUL are errors of the package."""
        with pytest.raises(PrivateKeyError):
            Ed25519Signer.from_file(path)
