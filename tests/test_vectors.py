"""The known answers of the deployed profile, from seed to header.

`vectors.json` is the protocol's own file of known answers, copied: sixteen requests, worked on JavaScript
implementations of Argon2, BLAKE3 and Ed25519 that share nothing with this package.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3

from tuned_digest import Ed25519Signer
from tuned_digest._base64 import decode_base64
from tuned_digest._wire.challenge import Challenge, read_challenges, write_challenge
from tuned_digest._wire.credentials import Credentials, read_credentials, write_credentials
from tuned_digest._wire.profiles.deployed import Deployed
from tuned_digest._wire.request import SignedRequest
from tuned_digest._wire.work import SCHEMES, parse_work
from tuned_digest.keys import verify_identity, verify_signature
from tuned_digest.proof import prove, verify

_FILE = json.loads((Path(__file__).parent / "vectors.json").read_text())
VECTORS: list[tuple[str, dict[str, str]]] = [
    (scheme, vector)
    for scheme, kind in zip(SCHEMES, ("argon2", "blake3"), strict=True)
    for vector in _FILE[kind]
]


@dataclass(frozen=True)
class Known:
    """One known answer."""

    scheme: str
    vector: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.vector[name]

    def octets(self, name: str) -> bytes:
        """Decode one of its values."""
        return decode_base64(self.vector.get(name, ""), "vectors.json", name)

    @property
    def credentials(self) -> Credentials:
        """What its Authorization field holds."""
        return Credentials(
            self.scheme,
            self.octets("identity"),
            self["nonce"],
            "deployed",
            self["response"],
            self.octets("signature"),
        )


@pytest.fixture(params=VECTORS, ids=[vector["name"] for _, vector in VECTORS])
def known(request: pytest.FixtureRequest) -> Known:
    """Each known answer in turn."""
    return Known(*request.param)


def test_there_are_sixteen() -> None:
    """Ten answers are under Argon2 and six under a search."""
    assert [scheme for scheme, _ in VECTORS] == [SCHEMES[0]] * 10 + [SCHEMES[1]] * 6


def test_the_request_string_is_known(known: Known) -> None:
    """Nonce, method, path and body give the known request string."""
    digest = blake3(known.octets("body")).digest()
    path = known["path"]
    request = SignedRequest(known["method"], "api.example.com", path, "", path, lambda name: (), digest)
    string = Deployed().work_string(request, known.credentials)
    assert string.decode() == known["request_string"]
    assert Deployed().signed_bytes(request, known.credentials) == known["response"].encode()


def test_the_response_is_known(known: Known) -> None:
    """The work gives the known response, and it verifies."""
    string, work = known["request_string"].encode(), parse_work(known.scheme, known["algorithm"])
    response = prove(string, work, nonce=known["nonce"], salt=known.octets("salt"))
    assert response == known["response"]
    verify(string, work, known["response"], nonce=known["nonce"])


def test_the_signature_is_known(known: Known) -> None:
    """The seed gives the known identity and signature, and they verify."""
    signer = Ed25519Signer.from_seed(known.octets("seed"))
    assert signer.identity == known["identity"]
    assert signer.sign(known["response"].encode()) == known.octets("signature")
    verify_identity(known.octets("identity"))
    verify_signature(known.octets("identity"), known["response"].encode(), known.octets("signature"))


def test_the_challenge_is_known(known: Known) -> None:
    """The known WWW-Authenticate value is what is written, and reads back."""
    challenge = Challenge(
        known.scheme,
        known["nonce"],
        known["algorithm"],
        parse_work(known.scheme, known["algorithm"]),
        frozenset(known["actions"].split(",")),
    )
    assert write_challenge(challenge) == known["www_authenticate"]
    assert read_challenges([known["www_authenticate"]]) == [challenge]


def test_the_authorization_is_known(known: Known) -> None:
    """The known Authorization value is what is written, and reads back."""
    assert write_credentials(known.credentials) == known["authorization"]
    assert read_credentials([known["authorization"]]) == known.credentials


def test_the_derived_identity_is_known() -> None:
    """The answer published with the scheme: an identity derived from a seed by BLAKE3's key derivation."""
    seed = decode_base64("JAqq6Fa/tHQD2LRtyn5B/RgX0FzKpjikcgDPi5Rgxbo", "protocol", "seed")
    pair = base64.b64decode(
        "18ORHYIJBf48uXH9tj3uSx/0/hK1EtIxB6aY/fedPHYdQFZwBfUaRtU33C/w7eeqC0G+vHbLq/nmFFZay2/8Vg=="
    )
    signer = Ed25519Signer.derive(seed, context="uno seed identity signing keypair")
    assert signer.public_key == pair[32:]
    assert signer.sign(b"m") == Ed25519Signer.from_seed(pair[:32]).sign(b"m")
