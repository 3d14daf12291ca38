"""The keys of accounts in SQLite or PostgreSQL."""

from __future__ import annotations

__all__ = ["SQLKeyRegistry"]

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, TypeVar

from ...errors import ArgumentError, MissingExtraError
from ._checks import check_approved, check_storable, check_unused, is_storable, refusal
from .registry import (
    CANDIDATE_LIFETIME,
    MOST_CANDIDATES,
    MOST_ENTRIES,
    USE_INTERVAL,
    AuditEntry,
    Candidate,
    Code,
    EnrolledKey,
)

try:
    from sqlalchemy import (
        ColumnElement,
        Connection,
        Engine,
        MetaData,
        Table,
        bindparam,
        delete,
        exists,
        false,
        func,
        insert,
        inspect,
        or_,
        select,
        update,
    )
except ImportError as error:
    raise MissingExtraError(
        "SQLAlchemy is not installed: pip install 'tuned-digest[accounts]'", extra="accounts"
    ) from error

from . import _versions
from ._database import Database
from .schema import Tables, add_tables

Record = TypeVar("Record", EnrolledKey, Code, Candidate)

_LAST_NUMBER = 2**63 - 1  # of an audit entry


class SQLKeyRegistry:
    """Keep the keys of accounts in an SQLite file or a PostgreSQL database.

    Processes share it, and it survives forks. What was changed is on the disk before a call returns. Every
    wait ends after about five seconds; a database that was away is used again once it is back.

    Args:
        database: The path of an SQLite file, on a disk of this machine. It is made, private to its owner,
            where it is not there; its directory is not. Or a URL, such as
            ``postgresql+psycopg://user@host/name``. Or an `sqlalchemy.Engine` of PostgreSQL or SQLite, which
            is used as it is: its pool and its timeouts are its owner's business.
        tables: Tables that were added to the owner's metadata by `schema.add_tables`, which the owner makes
            and migrates. Without, the tables are this registry's own, and `start` makes and migrates them.

    Raises:
        ArgumentError: If it is no such database.
        MissingExtraError: If the database's driver is not installed.
    """

    def __init__(self, database: str | os.PathLike[str] | Engine, *, tables: Tables | None = None) -> None:
        self._are_mounted = tables is not None
        self._tables = tables or add_tables(MetaData())
        self._database = Database(database, self._tables.audit.fullname)
        self._database.before_first_use(self.start)
        keys = self._tables.keys
        self._read_key = self._database.reader(
            select(keys).where(keys.c.thumbprint == bindparam("thumbprint")), "thumbprint"
        )

    def start(self) -> None:
        """Make the tables, or bring them to this release's version; other processes may start as well.

        An application that is not told when it starts does this at its first use.

        Tables of the owner's metadata are only looked for.

        Raises:
            ArgumentError: If the database cannot be used, and will not be without somebody's help: it is no
                database, is of a newer release, may not be written, is not in UTF-8, or has not the owner's
                tables.
            MissingExtraError: If Alembic is needed and not installed.
            StoreUnavailableError: If it cannot be used now.
        """
        self._database.require_unicode()
        if self._are_mounted:
            self._look_for_tables()
        elif not self._database.run(_versions.is_newest, is_start=True):
            self._database.write(
                lambda connection: _versions.migrate(connection, self._database.place), is_start=True
            )
        self._database.before_first_use(None)

    def close(self) -> None:
        """Close the connections of this process; the next use opens new ones. An owner's are left open."""
        self._database.close()

    def find(self, thumbprint: str, /) -> EnrolledKey | None:
        """Find a key; see `KeyRegistry.find`."""
        row = self._read_key(thumbprint) if is_storable(thumbprint) else None
        return None if row is None else EnrolledKey(*row)

    def note_use(self, thumbprint: str, now: float, /) -> None:
        """Note that a key was used; see `KeyRegistry.note_use`."""
        keys = self._tables.keys
        stale = or_(keys.c.last_used.is_(None), keys.c.last_used <= now - USE_INTERVAL)
        statement = update(keys).where(_is(keys.c.thumbprint, thumbprint), stale).values(last_used=now)
        self._database.run(lambda connection: connection.execute(statement))

    def keys(self, account: str | None = None, /) -> Sequence[EnrolledKey]:
        """Give the keys of an account; see `KeyRegistry.keys`."""
        conditions = _of_account(self._tables.keys, account)
        keys = self._database.run(lambda connection: self._all(connection, EnrolledKey, *conditions))
        return sorted(keys, key=lambda key: (key.added, key.thumbprint))

    def enrol(
        self,
        key: EnrolledKey,
        *,
        what: str,
        by: str,
        founds: bool = False,
        code: str = "",
        nonce: str = "",
        codes: Sequence[Code] = (),
    ) -> None:
        """Enrol a key; see `KeyRegistry.enrol`."""
        entry = AuditEntry(0, key.added, key.account, what, key.thumbprint, by, key.label)
        check_storable(key, entry, *codes)

        def enrol(connection: Connection) -> None:
            self._claim(connection, key, founds)
            if code:
                self._use(connection, code, key)
            waiting = self._tables.candidates.c.thumbprint == key.thumbprint
            if nonce:
                check_approved(self._one(connection, Candidate, waiting), key, nonce)
            connection.execute(delete(self._tables.candidates).where(waiting))
            self._add(connection, key)
            self._note(connection, entry)
            if codes:
                self._keep(connection, codes)
                self._note(connection, dataclasses.replace(entry, what="recovery codes made"))

        self._database.write(enrol)

    def revoke(self, thumbprint: str, *, account: str, now: float, by: str) -> bool:
        """Revoke a key; see `KeyRegistry.revoke`."""
        check_storable(AuditEntry(0, now, "", "", "", by))
        keys, candidates = self._tables.keys, self._tables.candidates
        good = (_is(keys.c.thumbprint, thumbprint), _is(keys.c.account, account), keys.c.revoked.is_(None))

        def revoke(connection: Connection) -> bool:
            key = self._one(connection, EnrolledKey, *good)
            if key is None or connection.scalar(select(self._was_revoked(by))):
                return False
            connection.execute(update(keys).where(*good).values(revoked=now))
            connection.execute(delete(candidates).where(candidates.c.approved_by == thumbprint))
            self._note(connection, AuditEntry(0, now, account, "key revoked", thumbprint, by, key.label))
            return True

        return self._database.write(revoke)

    def store_codes(self, codes: Sequence[Code], *, what: str, by: str) -> None:
        """Keep codes; see `KeyRegistry.store_codes`."""
        if not codes:
            return
        entry = AuditEntry(0, codes[0].added, codes[0].account, what, "", by)
        check_storable(entry, *codes)

        def store(connection: Connection) -> None:
            if connection.scalar(select(self._was_revoked(by))):
                raise refusal("key revoked")
            self._keep(connection, codes)
            self._note(connection, entry)

        self._database.write(store)

    def find_code(self, name: str, /) -> Code | None:
        """Find a code; see `KeyRegistry.find_code`."""
        named = _is(self._tables.codes.c.name, name)
        return self._database.run(lambda connection: self._one(connection, Code, named))

    def count_try(self, name: str, /) -> int:
        """Count a wrong secret; see `KeyRegistry.count_try`."""
        codes = self._tables.codes
        statement = update(codes).where(_is(codes.c.name, name)).values(tries=codes.c.tries + 1)
        counted = statement.returning(codes.c.tries)
        return self._database.write(lambda connection: connection.scalar(counted) or 0)

    def codes(self, account: str, kind: str, /) -> Sequence[Code]:
        """Give the codes of an account; see `KeyRegistry.codes`."""
        table = self._tables.codes
        chosen = (_is(table.c.account, account), _is(table.c.kind, kind))
        codes = self._database.run(lambda connection: self._all(connection, Code, *chosen))
        return sorted(codes, key=lambda code: (code.added, code.name))

    def propose(self, candidate: Candidate, *, most: int) -> None:
        """Keep a candidate; see `KeyRegistry.propose`."""
        check_storable(candidate)
        table = self._tables.candidates
        now = candidate.expires - CANDIDATE_LIFETIME
        gone = or_(table.c.expires <= now, table.c.thumbprint == candidate.thumbprint)
        counts = select(func.count(), func.count().filter(table.c.account == candidate.account))

        def propose(connection: Connection) -> None:
            connection.execute(delete(table).where(gone))
            of_all, own = connection.execute(counts.select_from(table)).one()
            if own >= most or of_all >= MOST_CANDIDATES:
                raise refusal("too many candidates")
            self._add(connection, candidate)

        self._database.write(propose)

    def candidates(self, account: str, now: float, /) -> Sequence[Candidate]:
        """Give the candidates of an account; see `KeyRegistry.candidates`."""
        table = self._tables.candidates
        chosen = (_is(table.c.account, account), table.c.expires > now)
        found = self._database.run(lambda connection: self._all(connection, Candidate, *chosen))
        return sorted(found, key=lambda one: (one.expires, one.thumbprint))

    def find_candidate(self, thumbprint: str, now: float, /) -> Candidate | None:
        """Find a candidate; see `KeyRegistry.find_candidate`."""
        table = self._tables.candidates
        chosen = (_is(table.c.thumbprint, thumbprint), table.c.expires > now)
        return self._database.run(lambda connection: self._one(connection, Candidate, *chosen))

    def approve(self, thumbprint: str, *, account: str, nonce: str, label: str, by: str, now: float) -> bool:
        """Approve a candidate; see `KeyRegistry.approve`."""
        check_storable(AuditEntry(0, now, "", "", "", by))
        table = self._tables.candidates
        texts = {"thumbprint": thumbprint, "account": account, "nonce": nonce, "label": label}
        statement = update(table).where(
            *(_is(table.c[name], text) for name, text in texts.items()),
            table.c.expires > now,
            table.c.approved_by == "",
            ~self._was_revoked(by),
        )

        def approve(connection: Connection) -> bool:
            if not connection.execute(statement.values(approved_by=by)).rowcount:
                return False
            self._note(connection, AuditEntry(0, now, account, "key approved", thumbprint, by, label))
            return True

        return self._database.write(approve)

    def audit(
        self, account: str | None = None, /, *, after: int = 0, limit: int = 100
    ) -> Sequence[AuditEntry]:
        """Give entries of the audit trail; see `KeyRegistry.audit`."""
        table = self._tables.audit
        chosen = select(table).where(
            table.c.number > max(0, min(after, _LAST_NUMBER)), *_of_account(table, account)
        )
        statement = chosen.order_by(table.c.number).limit(max(0, min(limit, MOST_ENTRIES)))
        rows = self._database.run(lambda connection: connection.execute(statement).all())
        return [AuditEntry(*row) for row in rows]

    def _look_for_tables(self) -> None:
        tables: list[Table] = [getattr(self._tables, field.name) for field in dataclasses.fields(Tables)]

        def missing(connection: Connection) -> list[str]:
            database = inspect(connection)
            return [table.fullname for table in tables if not database.has_table(table.name, table.schema)]

        names = self._database.run(missing, is_start=True)
        if names:
            raise ArgumentError(
                f"{self._database.place} lacks the tables {', '.join(names)}: run your migrations"
            )

    def _was_revoked(self, by: str) -> ColumnElement[bool]:
        keys = self._tables.keys
        return exists().where(keys.c.thumbprint == by, keys.c.revoked.is_not(None))

    def _claim(self, connection: Connection, key: EnrolledKey, founds: bool) -> None:
        accounts, keys = self._tables.accounts, self._tables.keys
        is_there = connection.scalar(select(exists().where(accounts.c.name == key.account)))
        if founds and is_there:
            raise refusal("account taken")
        if connection.scalar(select(exists().where(keys.c.thumbprint == key.thumbprint))):
            raise refusal("key enrolled")
        if not is_there:
            connection.execute(insert(accounts).values(name=key.account, added=key.added))

    def _use(self, connection: Connection, name: str, key: EnrolledKey) -> None:
        named = _is(self._tables.codes.c.name, name)
        check_unused(self._one(connection, Code, named), key)
        connection.execute(update(self._tables.codes).where(named).values(used=key.added))

    def _keep(self, connection: Connection, codes: Sequence[Code]) -> None:
        table, names = self._tables.codes, [code.name for code in codes]
        there = connection.scalar(select(exists().where(table.c.name.in_(names))))
        if there or len({*names}) < len(names):
            raise refusal("code taken")
        replaced = {code.account for code in codes if code.kind == "recovery"}
        unused = (table.c.kind == "recovery", table.c.used.is_(None), table.c.account.in_(replaced))
        connection.execute(delete(table).where(*unused))
        for code in codes:
            self._add(connection, code)

    def _note(self, connection: Connection, entry: AuditEntry) -> None:
        values = dataclasses.asdict(entry)
        del values["number"]  # the database gives it
        connection.execute(insert(self._tables.audit).values(values))

    def _add(self, connection: Connection, record: EnrolledKey | Code | Candidate) -> None:
        connection.execute(insert(self._table_of(type(record))).values(dataclasses.asdict(record)))

    def _all(
        self, connection: Connection, kind: type[Record], *conditions: ColumnElement[bool]
    ) -> list[Record]:
        rows = connection.execute(select(self._table_of(kind)).where(*conditions))
        return [kind(*row) for row in rows]

    def _one(
        self, connection: Connection, kind: type[Record], *conditions: ColumnElement[bool]
    ) -> Record | None:
        return next(iter(self._all(connection, kind, *conditions)), None)

    def _table_of(self, kind: type[EnrolledKey | Code | Candidate]) -> Table:
        tables = self._tables
        return {EnrolledKey: tables.keys, Code: tables.codes, Candidate: tables.candidates}[kind]


def _is(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    return column == text if is_storable(text) else false()


def _of_account(table: Table, account: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if account is None else (_is(table.c.account, account),)
