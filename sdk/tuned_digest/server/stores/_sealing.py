"""Nonces that say themselves what they are good for, sealed.

::

    key name 4 | instance 12 | number 6 | sealed: expiry 6, epoch 8, grant 4 to 32 | tag 16

are 56 to 84 bytes, big-endian. An instance is one process, which draws its name and numbers what it seals: an
even number is a challenge's, an odd one a next nonce's. AES-256-GCM (NIST SP 800-38D) seals under a key that
only this instance has, so that the IV, which is the number, never occurs twice with one key.
"""

from __future__ import annotations

__all__ = ["EPOCH_SIZE", "Sealed", "Sealer"]

import binascii
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..._base64 import encode_base64
from ...errors import ArgumentError
from ..grants import Grant

_KEY_SIZE = 32  # bytes, like all the following sizes
EPOCH_SIZE = 8
_KEY_NAME_SIZE = 4
_INSTANCE_SIZE = 12
_NUMBER_SIZE = 6
_EXPIRY_SIZE = 6
_IV_SIZE = 12  # NIST SP 800-38D section 8.2.1
_INSTANCE_END = _KEY_NAME_SIZE + _INSTANCE_SIZE
_HEAD_SIZE = _INSTANCE_END + _NUMBER_SIZE
_EPOCH_END = _EXPIRY_SIZE + EPOCH_SIZE

_MAX_TEXT = 128  # characters: 96 bytes, the longest of section 1
_MAX_CIPHERS = 1024  # instances whose ciphers are kept: a new one takes 3 microseconds
_MAX_GRANTS = 1024  # grants kept decoded: a policy has few prices at a time

# Contexts of BLAKE3's key derivation, and how all that is authenticated begins: no other use has the same.
_NAMING = "tuned-digest 2026-11-24 stateless nonces: name of a key"
_DERIVING = "tuned-digest 2026-11-24 stateless nonces: key of an instance"
_VERSION = b"tuned-digest stateless nonce 1\n"


@dataclass(frozen=True, slots=True)
class Sealed:
    """Hold what a sealed nonce says.

    Args:
        instance: The name of its key, and the instance that sealed it.
        number: Its number there.
        expiry: Seconds since 1970, the first at which it is stale.
        epoch: The epoch it was sealed in.
        grant: What it is good for.
    """

    instance: bytes
    number: int
    expiry: int
    epoch: bytes
    grant: Grant

    @property
    def name(self) -> str:
        """Name it among all that were ever sealed: 24 characters."""
        return encode_base64(self.instance[_KEY_NAME_SIZE:] + self.number.to_bytes(_NUMBER_SIZE))


class Sealer:
    """Seal and open nonces.

    Args:
        keys: 32 bytes each: the first one seals, all of them open.
        namespace: Separates servers that share keys.

    Raises:
        ArgumentError: If a key has another size or occurs twice.
    """

    def __init__(self, keys: Sequence[bytes], namespace: str) -> None:
        if not keys or any(not _is_key(key) for key in keys):
            raise ArgumentError(f"keys are a list of one key or more, of {_KEY_SIZE} bytes each")
        self._keys = {_derived(_NAMING, key)[:_KEY_NAME_SIZE]: key for key in keys}
        if len(self._keys) != len(keys):
            raise ArgumentError("two keys are the same, or have the same name: draw another one")
        self._key_name = next(iter(self._keys))
        self._namespace = namespace.encode()
        self._ciphers: dict[bytes, AESGCM] = {}

    def new_instance(self, randomness: Callable[[int], bytes]) -> bytes:
        """Name a process that seals.

        Args:
            randomness: Gives that many random bytes.

        Returns:
            The name of the key it seals with, and its own.
        """
        return self._key_name + randomness(_INSTANCE_SIZE)

    def seal(self, content: Sealed) -> str:
        """Seal a nonce.

        Args:
            content: What it says.

        Returns:
            The nonce.
        """
        number = content.number.to_bytes(_NUMBER_SIZE)  # an OverflowError after 4 years of a million a second
        head = content.instance + number
        encoded = content.expiry.to_bytes(_EXPIRY_SIZE) + content.epoch + content.grant.encode()
        cipher = self._cipher(content.instance)
        self._ciphers[content.instance] = cipher
        return encode_base64(head + cipher.encrypt(_iv(number), encoded, self._associated(head)))

    def open(self, nonce: str) -> Sealed | None:
        """Open a nonce.

        Args:
            nonce: The nonce, or any other text.

        Returns:
            What it says, None where none of the keys has sealed it for this namespace.
        """
        octets = _decoded(nonce)
        head, instance, number = octets[:_HEAD_SIZE], octets[:_INSTANCE_END], octets[_INSTANCE_END:_HEAD_SIZE]
        if octets[:_KEY_NAME_SIZE] not in self._keys:
            return None
        cipher = self._cipher(instance)
        try:
            content = cipher.decrypt(_iv(number), octets[_HEAD_SIZE:], self._associated(head))
            grant = _grant(content[_EPOCH_END:])
        except (InvalidTag, ArgumentError):  # the latter for another version's grant
            return None
        if len(self._ciphers) >= _MAX_CIPHERS:
            self._ciphers.clear()
        self._ciphers[instance] = cipher  # kept only now: anybody can invent an instance
        expiry, epoch = int.from_bytes(content[:_EXPIRY_SIZE]), content[_EXPIRY_SIZE:_EPOCH_END]
        return Sealed(instance, int.from_bytes(number), expiry, epoch, grant)

    def _cipher(self, instance: bytes) -> AESGCM:
        cipher = self._ciphers.get(instance)
        return cipher or AESGCM(_derived(_DERIVING, self._keys[instance[:_KEY_NAME_SIZE]] + instance))

    def _associated(self, head: bytes) -> bytes:
        return b"%b%d:%b%b" % (_VERSION, len(self._namespace), self._namespace, head)


def _is_key(key: object) -> bool:
    return isinstance(key, bytes) and len(key) == _KEY_SIZE


def _iv(number: bytes) -> bytes:
    return number.rjust(_IV_SIZE, b"\0")


def _derived(context: str, material: bytes) -> bytes:
    return blake3(material, derive_key_context=context).digest()


def _decoded(nonce: str) -> bytes:
    """Read the base64 of a nonce: no bytes where it is not exactly as one would be written."""
    if len(nonce) > _MAX_TEXT:
        return b""
    try:
        octets = binascii.a2b_base64(nonce + "=" * (-len(nonce) % 4))
    except ValueError:  # binascii.Error too
        return b""
    return octets if encode_base64(octets) == nonce else b""


_grant = functools.lru_cache(_MAX_GRANTS)(Grant.decode)
