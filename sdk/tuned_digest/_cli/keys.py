"""``tuned-digest keys``: the operator's part of a key registry, on the registry itself."""

from __future__ import annotations

__all__ = ["add_keys"]

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from ..keys import PublicKey
from .registries import open_registry
from .showing import is_written, print_rows, shown, shown_fingerprint, shown_time

if TYPE_CHECKING:
    from ..server.accounts import AuditEntry

_DAYS = 7  # that an invitation is good for
_MOST_DAYS = 365
_DAY = 86400.0  # seconds
_PAGE = 1000  # entries of the audit trail, read at a time
_IDENTITY = re.compile(r"[A-Za-z0-9+/_-]{43}=?")  # 32 bytes, as keygen prints them
_JWK_LIMIT = 64 * 1024  # bytes of a file; the JWK of an RSA key has about 730


def add_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser(
        "keys", help="list, add, invite, revoke: the operator's part of a key registry"
    )
    actions = parser.add_subparsers(title="commands", required=True)

    listing = actions.add_parser("list", help="list keys, revoked ones too")
    listing.add_argument("account", nargs="?", help="the account; all where it is left out")
    listing.set_defaults(run=_list, last="account")

    adding = actions.add_parser("add", help="enrol a key in the operator's name")
    adding.add_argument("account", help="the account; created if missing")
    adding.add_argument(
        "key",
        type=str.strip,
        metavar="IDENTITY_OR_JWK_FILE",
        help="the identity that keygen printed, or a file with the public JWK",
    )
    adding.add_argument("--label", required=True, help="what the key's owner calls the device")
    adding.set_defaults(run=_add)

    inviting = actions.add_parser(
        "invite", help="print a one-time code, with which a device enrols a key of the account"
    )
    inviting.add_argument("account", help="the account; it is made with its first key")
    inviting.add_argument(
        "--days", type=int, default=_DAYS, metavar="N", help="how long it is good (%(default)s)"
    )
    inviting.set_defaults(run=_invite)

    revoking = actions.add_parser(
        "revoke",
        help="revoke a key of any account, at once and for all processes",
        description="Revoke a key of any account, at once and for all processes: for the operator, who has "
        "the registry. A device ends a key of its own account with tuned-digest revoke.",
    )
    revoking.add_argument(
        "key",
        type=str.strip,
        metavar="THUMBPRINT",
        help="the key's thumbprint, or its 16 characters, from tuned-digest keys list",
    )
    revoking.set_defaults(run=_revoke)

    auditing = actions.add_parser("audit", help="show who did what and when, oldest first")
    auditing.add_argument("account", nargs="?", help="the account; all where it is left out")
    auditing.set_defaults(run=_audit, last="account")

    for action in (listing, adding, inviting, revoking, auditing):
        action.add_argument(
            "--registry",
            required=True,
            metavar="PATH_OR_URL",
            help="SQLite file that keeps the keys, or postgresql+psycopg://user@host/name",
        )


def _list(options: argparse.Namespace) -> int:
    with open_registry(options.registry, makes=False) as registry:
        keys = registry.keys(options.account)
    rows = [
        (
            shown(key.account),
            shown(key.label),
            shown_fingerprint(key.thumbprint),
            shown_time(key.added),
            shown_time(key.last_used),
            shown_time(key.revoked),
            key.thumbprint,
        )
        for key in keys
    ]
    print_rows(("account", "label", "characters", "added", "last used", "revoked", "thumbprint"), *rows)
    if options.account is not None and not keys:
        print(f"the account {shown(options.account)} has no keys", file=sys.stderr)
    return 0


def _add(options: argparse.Namespace) -> int:
    # Enrolment comes with the server, which other commands do without.
    from ..server.accounts.enrolment import Enrolment  # noqa: PLC0415

    key = _read_key(options.key)
    with open_registry(options.registry) as registry:
        added = Enrolment(registry).add(options.account, key, options.label)
    print(added.thumbprint)
    return 0


def _read_key(text: str) -> PublicKey:
    if _IDENTITY.fullmatch(text):
        return PublicKey.from_identity(text)
    try:
        with Path(text).expanduser().open("rb") as file:
            content = file.read(_JWK_LIMIT)
        return PublicKey.from_jwk(content.decode("utf-8"))
    except OSError as error:
        raise ArgumentError(
            f"{shown(text)} is no identity, and as a file it cannot be read: {error.strerror}"
        ) from None
    except (RuntimeError, ValueError) as error:  # no such user behind "~", a NUL, or no UTF-8
        raise ArgumentError(f"{shown(text)} is no identity, and no file with a JWK: {error}") from None


def _invite(options: argparse.Namespace) -> int:
    from ..server.accounts.enrolment import Enrolment  # noqa: PLC0415

    if not 1 <= options.days <= _MOST_DAYS:
        raise ArgumentError(f"--days is 1 to {_MOST_DAYS}, not {options.days}")
    with open_registry(options.registry) as registry:
        code = Enrolment(registry, invitation_lifetime=options.days * _DAY).invite(options.account)
    print(code)
    days = "1 day" if options.days == 1 else f"{options.days} days"
    print(
        f"This code enrols one key of {options.account}, within {days}. Whoever reads it can use it, and it "
        "is not shown again.",
        file=sys.stderr,
    )
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from ..server.accounts.enrolment import Enrolment  # noqa: PLC0415

    with open_registry(options.registry, makes=False) as registry:
        named = [
            key.thumbprint
            for key in registry.keys(None)
            if key.revoked is None and is_written(options.key, key.thumbprint)
        ]
        if len(named) > 1:
            raise ArgumentError("several keys have these 16 characters: give the thumbprint")
        if not Enrolment(registry).revoke(named[0] if named else options.key):
            raise ArgumentError("there is no such key, or it was revoked before: see tuned-digest keys list")
    print("revoked")
    return 0


def _audit(options: argparse.Namespace) -> int:
    rows = [("number", "time", "account", "what", "characters", "label", "by")]
    after = 0
    with open_registry(options.registry, makes=False) as registry:
        while entries := registry.audit(options.account, after=after, limit=_PAGE):
            print_rows(*rows, *map(_entry, entries))
            rows, after = [], entries[-1].number
    return 0


def _entry(entry: AuditEntry) -> tuple[str, ...]:
    return (
        str(entry.number),
        shown_time(entry.time, to="seconds"),
        shown(entry.account),
        shown(entry.what),
        shown_fingerprint(entry.thumbprint) if entry.thumbprint else "-",
        shown(entry.label) or "-",
        _shown_actor(entry.by),
    )


def _shown_actor(by: str) -> str:
    """Write a key that did something as its 16 characters, which the rows of its own entries have too."""
    is_key = re.fullmatch(r"[A-Za-z0-9_-]{43}", by)
    return shown_fingerprint(by) if is_key else shown(by)
