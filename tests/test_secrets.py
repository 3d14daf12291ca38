"""No secret of either scheme, and none of an account, is ever shown by an object of this package, or logged.

Nonces, salts, responses, tokens, signatures, private keys, codes, passwords and bodies: one session of every
client runs against real servers, under the challenge scheme and with self-signed tokens, and devices enrol,
approve, recover and revoke their keys. Whatever the package has in memory on the way, on either side, is
shown; so is every class that does not come by itself.
"""

import base64
import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import tuned_digest
from tuned_digest import ArgumentError, Ed25519Signer, TunedDigestError

from .clients import CLIENTS
from .secrets_accounts import run_accounts, run_accounts_by_hand
from .secrets_sessions import SEED, run_by_hand, run_server_by_hand, run_session
from .secrets_watch import BODY, PASSWORD, Watch, watching


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """Everything, once."""
    with watching() as watch:
        watch.keep("private key", SEED, Ed25519Signer.from_seed(SEED).to_pem().splitlines()[1])
        watch.keep("body", BODY)
        watch.keep("password", PASSWORD)
        for name in CLIENTS:
            run_session(name, watch)
        run_by_hand(watch)
        run_server_by_hand(watch, tmp_path_factory.mktemp("stores"))
        run_accounts(watch, tmp_path_factory.mktemp("accounts"))
        run_accounts_by_hand(watch)
    return watch


KINDS = [
    "nonce",
    "salt",
    "response",
    "signature",
    "token",
    "code",
    "enrolment nonce",
    "private key",
    "password",
    "body",
    "sealing key",
]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_shows_a_secret(watch: Watch, kind: str) -> None:
    """No object of the package, in any state of a session, has one in its repr or str; nor has the log."""
    assert len(watch.secrets[kind]) >= 1
    assert watch.leaks(kind) == []


def package_classes() -> Iterator[type]:
    """Walk all classes of the package."""
    for found in pkgutil.walk_packages(tuned_digest.__path__, "tuned_digest."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            for thing in vars(module).values():
                if inspect.isclass(thing) and thing.__module__ == module.__name__:
                    yield thing


# What no session makes: the demonstration's own, and the command's.
ELSEWHERE = {"_Answer", "_Demo", "_Outcome", "_Server"}


def test_every_class_was_seen(watch: Watch) -> None:
    """There was an object of every class of the package that can have one."""
    unseen = {kind for kind in package_classes() if kind not in watch.seen and not is_protocol(kind)}
    assert {kind.__name__ for kind in unseen} == ELSEWHERE


def is_protocol(kind: type) -> bool:
    """Tell whether a class only describes others."""
    return bool(getattr(kind, "_is_protocol", False))


def test_no_dataclass_shows_a_field_that_is_named_for_a_secret() -> None:
    """Where a class writes its own repr from its fields, those that hold secrets are left out."""
    named = {
        *("authorization", "body", "fields", "members", "nonce", "password", "response", "salt", "signature"),
        *("claims", "credentials", "jti", "token"),
        *("code", "codes", "hash", "invitation", "recovery_code", "recovery_codes", "secret"),
    }
    shown = [
        f"{kind.__module__}.{kind.__name__}.{one.name}"
        for kind in package_classes()
        if dataclasses.is_dataclass(kind)
        for one in dataclasses.fields(kind)
        if one.name in named and one.repr
    ]
    assert shown == ["tuned_digest.server.accounts.schema.Tables.codes"]  # a table, without its rows


def test_the_watch_sees_what_is_shown() -> None:
    """A secret in any of the usual spellings, shown by an object that is somewhere in memory, is found."""
    secret = bytes(range(200, 216))
    for text in (secret.hex(), repr(secret), repr(bytearray(secret)), base64.b64encode(secret).decode()):
        watching, somewhere = Watch(), [ArgumentError(f"a salt is not {text}")]
        watching.keep("salt", secret)
        watching.look("now")
        assert {kind for kind, _ in watching.leaks("salt")} == {ArgumentError}
        assert watching.seen >= {ArgumentError, TunedDigestError}
        somewhere.clear()
