"""Keys: who signs, where private keys are read from, and how identities and signatures are checked."""

from .files import KeyFileWarning
from .private_keys import PrivateKeySigner
from .public_keys import PublicKey
from .signers import AsyncSigner, Ed25519Signer, Signer
from .verification import verify_identity, verify_signature

__all__ = [
    "AsyncSigner",
    "Ed25519Signer",
    "KeyFileWarning",
    "PrivateKeySigner",
    "PublicKey",
    "Signer",
    "verify_identity",
    "verify_signature",
]
