"""Section 5: signing with an Ed25519 key, and what counts as a signer."""

import copy
import pickle

import pytest

from tuned_digest import ArgumentError, AsyncSigner, Ed25519Signer, Signer
from tuned_digest._base64 import encode_base64
from tuned_digest.keys import verify_identity, verify_signature

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


def test_a_derived_key_is_the_same_each_time() -> None:
    """One secret and one context give one key."""
    one, two = (Ed25519Signer.derive(bytes(40), context="example.com 2025 a") for _ in range(2))
    assert one.public_key == two.public_key


def test_a_context_that_has_no_encoding_is_refused() -> None:
    """A lone surrogate in a context is an `ArgumentError`."""
    with pytest.raises(ArgumentError, match="context"):
        Ed25519Signer.derive(b"s" * 32, context="\ud800")


def test_generated_keys_differ() -> None:
    """Two generated keys are two keys, and each identity is its public key in base64."""
    one, two = Ed25519Signer.generate(), Ed25519Signer.generate()
    assert one.public_key != two.public_key
    assert one.identity == encode_base64(one.public_key)


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


def test_a_form_takes_its_two_members() -> None:
    """Without a key or without a method to sign with, an object has the form of no signer."""

    class Keyless:
        def sign(self, message: bytes, /) -> bytes:
            return message

    class Mute:
        public_key = bytes(32)

    for incomplete in (Keyless(), Mute()):
        assert not isinstance(incomplete, Signer)
        assert not isinstance(incomplete, AsyncSigner)
