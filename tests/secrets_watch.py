"""Watch how the objects of the package show themselves, and know what nobody may see meanwhile."""

import base64
import gc
import io
import logging
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tuned_digest import Tuning
from tuned_digest._wire.credentials import read_credentials
from tuned_digest.server import Grant, MemoryNonceStore, Policy

from .token_serving import claims_of

BODY = b"a body that nobody may see, of some length"
PASSWORD = "wachtwoord"
QUICK, LONG = Tuning("argon2d", 64, 1, 1), Tuning("argon2d", 1024, 1, 1)

CODE_NAME = 12
"""Characters of a code that are no secret: its name, which the audit trail shows."""


def forms(secret: str | bytes) -> Iterator[str]:
    """Write a secret in the ways in which it could be shown."""
    if isinstance(secret, str):
        yield secret
        return
    yield secret.hex()
    yield repr(secret)[2:-1]
    yield repr(bytearray(secret))[12:-2]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).decode().rstrip("=")


OURS: dict[type, tuple[type, ...]] = {}


def ours(thing: object) -> tuple[type, ...]:
    """List the classes of this package that an object is one of."""
    kind = type(thing)
    if kind not in OURS:
        OURS[kind] = tuple(
            base for base in kind.__mro__ if str(base.__module__).split(".")[0] == "tuned_digest"
        )
    return OURS[kind]


@dataclass
class Watch:
    """Collect what was secret, and what was shown."""

    secrets: dict[str, set[str | bytes]] = field(default_factory=dict)
    shown: dict[str, type] = field(default_factory=dict)
    seen: set[type] = field(default_factory=set)
    """The classes of this package of which there was an object, those they derive from included."""
    looks: Counter[str] = field(default_factory=Counter)
    standing: list[object] = field(default_factory=list)
    """Objects of this package that `gc.get_objects` leaves out, since they are frozen."""

    def keep(self, kind: str, *secrets: str | bytes) -> None:
        """Take something for a secret."""
        self.secrets.setdefault(kind, set()).update(secrets)

    def keep_authorization(self, value: str) -> None:
        """Take what is in an Authorization field for secrets, of either scheme."""
        if value.startswith("Bearer "):
            self.keep_token(value.removeprefix("Bearer "))
            return
        credentials = read_credentials([value])
        assert credentials is not None
        self.keep("nonce", credentials.nonce)
        self.keep("signature", credentials.signature)
        self.keep("response", credentials.response)

    def keep_token(self, token: str) -> None:
        """Take a token for a secret, its claims and signature by themselves, and its ``jti``."""
        _, claims, signature = token.split(".")
        self.keep("token", token, claims, signature)
        self.keep("signature", base64.urlsafe_b64decode(f"{signature}=="))
        if "jti" in claims_of(token):
            self.keep("token", claims_of(token)["jti"])

    def keep_codes(self, *codes: str) -> None:
        """Take codes for secrets, and their secret parts by themselves, however they are written."""
        for code in codes:
            characters = code.replace("-", "")
            grouped = code[CODE_NAME + CODE_NAME // 4 :]  # a dash goes with each four characters
            for text in (code, characters, grouped, characters[CODE_NAME:]):
                self.keep("code", text, text.lower(), text.encode())

    def keep_hash(self, hashed: str) -> None:
        """Take an Argon2id hash for a secret, and the digest in it by itself."""
        self.keep("code", hashed, hashed.rpartition("$")[2])

    def show(self, thing: object) -> None:
        """Note how one object shows itself."""
        if ours(thing):
            self.seen.update(ours(thing))
            for text in (repr(thing), str(thing)):
                self.shown.setdefault(text, type(thing))

    def show_error(self, error: BaseException) -> None:
        """Note how an error shows itself, and what a log would have of it: the errors before it too."""
        self.shown.setdefault("".join(traceback.format_exception(error)), type(error))
        for thing in (error, error.__cause__, error.__context__):
            self.show(thing)

    def look(self, moment: str) -> None:
        """Note how every object of this package that is in memory shows itself, twice for each moment."""
        self.looks[moment] += 1
        if self.looks[moment] <= 2:
            for thing in [*self.standing, *gc.get_objects()]:
                if ours(thing):
                    self.show(thing)

    def leaks(self, kind: str) -> list[tuple[type, str]]:
        """List what shows a secret of one kind."""
        texts = [text for secret in self.secrets[kind] for text in forms(secret)]
        return [
            (shower, shown) for shown, shower in self.shown.items() if any(text in shown for text in texts)
        ]


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch, with all that is logged, until the block ends."""
    watch, handler = Watch(), logging.StreamHandler(io.StringIO())
    logger = logging.getLogger("tuned_digest")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    watch.standing = [thing for thing in gc.get_objects() if ours(thing)]
    gc.freeze()  # the rest of what is there now need not be looked through, some ninety times
    try:
        yield watch
        watch.shown[handler.stream.getvalue()] = logging.Logger
    finally:
        gc.unfreeze()
        logger.setLevel(level)
        logger.removeHandler(handler)


class WatchedStore(MemoryNonceStore):
    """Take every nonce issued for a secret."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def issue(self, *grants: Grant) -> list[str]:
        """Issue nonces."""
        nonces = super().issue(*grants)
        for nonce in nonces:
            self._watch.keep("nonce", nonce)
        return nonces


class WatchedPolicy(Policy):
    """Look around while a request is verified."""

    def __init__(self, watch: Watch, name: str, **options: Any) -> None:
        super().__init__(**options)
        self._watch = watch
        self._name = name

    def action(self, method: str, path: str) -> str:
        """Say that each request is an update, but for reading."""
        self._watch.look(f"{self._name} {method} is verified")
        return {"GET": "read", "HEAD": "read"}.get(method, "update")
