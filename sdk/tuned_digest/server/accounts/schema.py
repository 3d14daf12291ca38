"""The tables of a registry, for SQLite and PostgreSQL.

A change here is a change in `migrations` too, with a new `VERSION`; a test compares the two.
"""

from __future__ import annotations

__all__ = ["PREFIX", "VERSION", "VERSION_TABLE", "Tables", "add_tables"]

import re
from dataclasses import dataclass

from ...errors import ArgumentError, MissingExtraError

try:
    from sqlalchemy import (
        DDL,
        BigInteger,
        Column,
        Double,
        Identity,
        Index,
        Integer,
        MetaData,
        Table,
        Text,
        event,
    )
except ImportError as error:
    raise MissingExtraError(
        "SQLAlchemy is not installed: pip install 'tuned-digest[accounts]'", extra="accounts"
    ) from error

PREFIX = "tuned_digest_"
VERSION = "1"  # of the newest file in migrations/versions
VERSION_TABLE = "tuned_digest_version"  # not Alembic's own name, which the owner may use

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,31}")  # PostgreSQL cuts names at 63 characters

_REFUSED = "the audit trail is append-only"
_SQLITE_GUARDS = tuple(
    f"""CREATE TRIGGER %(table)s_no_{change.lower()} BEFORE {change} ON %(table)s
    BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"""
    for change in ("UPDATE", "DELETE")
)
_POSTGRESQL_GUARDS = (
    f"""CREATE OR REPLACE FUNCTION %(table)s_guard() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$""",
    """CREATE TRIGGER %(table)s_guard BEFORE UPDATE OR DELETE OR TRUNCATE ON %(fullname)s
    FOR EACH STATEMENT EXECUTE FUNCTION %(table)s_guard()""",
)


@dataclass(frozen=True, slots=True)
class Tables:
    """Name the tables of a registry; their columns are the attributes of the types in `registry`.

    Attributes:
        accounts: A row for each account.
        keys: A row for each key.
        codes: A row for each invitation or recovery code.
        candidates: A row for each key that waits for approval.
        audit: A row for each entry of the audit trail; triggers refuse to change or remove one.
    """

    accounts: Table
    keys: Table
    codes: Table
    candidates: Table
    audit: Table


def add_tables(metadata: MetaData, *, prefix: str = PREFIX) -> Tables:
    """Add the tables of a registry to metadata, so that its owner makes and migrates them.

    ``metadata.create_all`` makes the triggers of the audit trail too; Alembic's autogenerate sees the tables
    alone.

    Args:
        metadata: Where to add them.
        prefix: How their names begin.

    Returns:
        The tables, for `SQLKeyRegistry`.

    Raises:
        ArgumentError: If the prefix is not a small letter and up to 31 small letters, digits and ``_``.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ArgumentError("prefix is a small letter and up to 31 small letters, digits and _")
    tables = Tables(
        Table(f"{prefix}accounts", metadata, _text("name", is_key=True), _time("added", optional=False)),
        Table(
            f"{prefix}keys",
            metadata,
            _text("thumbprint", is_key=True),
            *map(_text, ("account", "jwk", "label")),
            _time("added", optional=False),
            _time("last_used"),
            _time("revoked"),
            Index(f"{prefix}keys_of_account", "account"),
            sqlite_with_rowid=False,  # one search, not two: the row lies in the index
        ),
        Table(
            f"{prefix}codes",
            metadata,
            _text("name", is_key=True),
            *map(_text, ("kind", "account", "hash")),
            _time("added", optional=False),
            _time("expires"),
            Column("tries", Integer, nullable=False),
            _time("used"),
            Index(f"{prefix}codes_of_account", "account", "kind"),
        ),
        Table(
            f"{prefix}candidates",
            metadata,
            _text("thumbprint", is_key=True),
            *map(_text, ("account", "jwk", "label", "nonce")),
            _time("expires", optional=False),
            _text("approved_by"),
            Index(f"{prefix}candidates_of_account", "account"),
            Index(f"{prefix}candidates_by_expiry", "expires"),
        ),
        Table(
            f"{prefix}audit",
            metadata,
            Column(
                "number",
                BigInteger().with_variant(Integer, "sqlite"),
                Identity(always=True),
                primary_key=True,
            ),
            _time("time", optional=False),
            *map(_text, ("account", "what", "thumbprint", "by", "label")),
            Index(f"{prefix}audit_of_account", "account", "number"),
        ),
    )
    for dialect, guards in (("sqlite", _SQLITE_GUARDS), ("postgresql", _POSTGRESQL_GUARDS)):
        for guard in guards:
            made = DDL(guard).execute_if(dialect=dialect)  # type: ignore[no-untyped-call]
            event.listen(tables.audit, "after_create", made)
    return tables


def _text(name: str, *, is_key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=is_key, nullable=False)


def _time(name: str, *, optional: bool = True) -> Column[float]:
    return Column(name, Double, nullable=optional)
