"""What is SQL's alone in a key registry: its files and servers, versions, deadlines, forks, one read."""

import importlib
import logging
import multiprocessing
import os
import shutil
import sqlite3
import stat
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine, event

from tuned_digest._runtime import forks
from tuned_digest.errors import ArgumentError, MissingExtraError, StoreUnavailableError
from tuned_digest.server.accounts import (
    Candidate,
    Code,
    EnrolledKey,
    _checks,
    _database,
    _engines,
    _versions,
    sql,
)
from tuned_digest.server.accounts.schema import VERSION, add_tables
from tuned_digest.server.accounts.sql import SQLKeyRegistry

from .every_registry import Place, postgresql_url, sqlite_url
from .postgres_server import PostgresServer
from .together import at_once

KEY = EnrolledKey("K" * 43, "acme", '{"kty":"OKP"}', "laptop", 1.0)
OTHER = replace(KEY, thumbprint="L" * 43)
CODE = Code("invite-1", "invitation", "acme", "$argon2id$secret", 0.0)

PLACES: dict[str, Place] = {"sqlite": sqlite_url, "postgresql": postgresql_url}

Open = Callable[..., SQLKeyRegistry]


@pytest.fixture(params=PLACES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of one kind after the other."""
    return PLACES[request.param](request, tmp_path)


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of PostgreSQL."""
    return postgresql_url(request, tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file is to be."""
    return tmp_path / "keys.db"


@pytest.fixture
def opened() -> Iterator[Open]:
    """Make registries that are closed when the test ends."""
    registries: list[SQLKeyRegistry] = []

    def make(place: Any, **options: Any) -> SQLKeyRegistry:
        registries.append(SQLKeyRegistry(place, **options))
        return registries[-1]

    yield make
    for registry in registries:
        registry.close()


@contextmanager
def engine_of(url: str, **options: Any) -> Iterator[Engine]:
    """Make an engine as an owner does."""
    engine = create_engine(url, **options)
    try:
        yield engine
    finally:
        engine.dispose()


def on_connect(engine: Engine, do: Callable[[sqlite3.Connection], object]) -> None:
    """Do something with every connection that an engine of SQLite opens."""

    def listen(connection: sqlite3.Connection, record: object) -> None:
        do(connection)

    event.listen(engine, "connect", listen)


def started(registry: SQLKeyRegistry, *keys: EnrolledKey) -> SQLKeyRegistry:
    """Start a registry, and enrol keys."""
    registry.start()
    for key in keys:
        registry.enrol(key, what="key added", by="operator")
    return registry


def asked(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a connection of its own, and give the rows of the last."""
    with engine_of(url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        return [tuple(row) for row in result.all()] if result.returns_rows else []


def differences(url: str, metadata: MetaData) -> list[Any]:
    """Compare a database with metadata."""
    with engine_of(url) as engine, engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    # SQLAlchemy 2.0 takes a number that SQLite counts by itself for one with another default.
    return [one for one in found if not (isinstance(one, list) and one[0][0] == "modify_default")]


def guards(url: str) -> list[tuple[Any, ...]]:
    """Give the triggers of a database, and what SQLite says of its tables besides."""
    if url.startswith("sqlite"):
        return asked(
            url, "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%%version%%' ORDER BY 2"
        )
    return asked(
        url,
        """SELECT tgname, tgtype, prosrc, replace(pg_get_triggerdef(t.oid), current_schema(), '')
        FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid JOIN pg_class c ON c.oid = tgrelid
        WHERE relnamespace = current_schema()::regnamespace ORDER BY 1""",
    )


def enrol_one(place: str, number: int) -> list[str]:
    """Start and enrol a key, as a process of its own, and give all keys that it then sees."""
    registry = started(SQLKeyRegistry(place), replace(KEY, thumbprint=f"{number}"))
    seen = [key.thumbprint for key in registry.keys("acme")]
    registry.close()
    return seen


class TestVersions:
    def test_an_empty_database_gets_the_tables_of_the_schema(
        self, url: str, request: pytest.FixtureRequest, tmp_path: Path, opened: Open
    ) -> None:
        """What migrations make is what the schema says: tables, indexes and triggers."""
        started(opened(url))
        metadata = MetaData()
        add_tables(metadata)
        unknown = [what for what in differences(url, metadata) if "version" not in str(what)]
        assert unknown == []
        (tmp_path / "other").mkdir()
        other = PLACES[url.partition("+")[0].partition(":")[0]](request, tmp_path / "other")
        with engine_of(other) as engine:
            metadata.create_all(engine)
        made, migrated = guards(other), guards(url)
        assert len(made) >= 1
        assert [normal(row) for row in migrated] == [normal(row) for row in made]

    def test_started_again_it_is_left_as_it_is(self, url: str, opened: Open) -> None:
        """A database of the newest version keeps what it holds, and nobody has to write."""
        started(opened(url), KEY)
        again = opened(url)
        with pytest.MonkeyPatch.context() as patch:
            patch.delattr(_versions, "migrate")
            again.start()
        assert again.keys() == [KEY]
        assert asked(url, "SELECT version_num FROM tuned_digest_version") == [(VERSION,)]

    def test_an_older_database_is_brought_to_the_newest(
        self, url: str, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A database of version 1 gets what version 2 adds, and keeps what it holds."""
        started(opened(url), KEY)
        migrations = tmp_path / "a%b" / "migrations"
        shutil.copytree(Path(_versions.__file__).parent / "migrations", migrations)
        (migrations / "versions" / "version_2.py").write_text(
            "from alembic import op\nrevision, down_revision = '2', '1'\n"
            "def upgrade():\n    op.execute('CREATE TABLE added (a INTEGER)')\n"
        )
        monkeypatch.setattr(_versions, "_MIGRATIONS", migrations)
        monkeypatch.setattr(_versions, "VERSION", "2")
        later = started(opened(url))
        assert later.keys() == [KEY]
        assert asked(url, "SELECT * FROM added") == []
        assert asked(url, "SELECT version_num FROM tuned_digest_version") == [("2",)]

    @pytest.mark.parametrize("version", ["2", "unknown"])
    def test_a_newer_database_is_an_error(self, url: str, opened: Open, version: str) -> None:
        """A database that a newer release has made is refused in words, and not changed."""
        started(opened(url), KEY)
        asked(url, f"UPDATE tuned_digest_version SET version_num = '{version}'")
        with pytest.raises(ArgumentError, match=f"version {version}, .* install a newer release"):
            opened(url).start()
        assert asked(url, "SELECT version_num FROM tuned_digest_version") == [(version,)]

    def test_a_migration_that_fails_changes_nothing(
        self, url: str, opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A database in which a name is taken is left as it was, and is made once the name is free."""
        asked(url, "CREATE TABLE tuned_digest_audit (a INTEGER)")
        registry = opened(url)
        with pytest.raises(StoreUnavailableError, match="already exists"):
            registry.start()
        with pytest.raises(StoreUnavailableError):
            registry.find(KEY.thumbprint)
        asked(url, "DROP TABLE tuned_digest_audit")
        assert started(registry, KEY).keys() == [KEY]

    def test_processes_that_start_at_once_make_the_tables_once(self, url: str) -> None:
        """Four processes that find an empty database agree who makes the tables, and none fails."""
        with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
            seen = list(pool.map(enrol_one, [url] * 4, range(4)))
        assert max(map(len, seen)) == 4

    def test_threads_that_start_at_once_make_the_tables_once(self, url: str, opened: Open) -> None:
        """Four registries of one process do so too."""
        registries = [opened(url) for _ in range(4)]
        at_once(*(registry.start for registry in registries))
        assert [list(registry.keys()) for registry in registries] == [[]] * 4

    def test_without_start_the_first_use_makes_the_tables(self, url: str, opened: Open) -> None:
        """A registry that was not started makes its tables when it is first used, by several threads too."""
        registry = opened(url)
        at_once(*[lambda: registry.find(KEY.thumbprint)] * 4)
        enrol(registry, KEY)
        assert registry.find(KEY.thumbprint) == KEY

    def test_migrations_need_alembic(self, url: str, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where Alembic is not installed, an empty database is an error that names the extra."""
        monkeypatch.setitem(sys.modules, "alembic", None)
        with pytest.raises(MissingExtraError, match="accounts"):
            opened(url).start()


def normal(row: tuple[Any, ...]) -> list[str]:
    """Write a row of the database's catalogue without what Alembic lays out in its own way."""
    return ["".join(str(value).split()).replace('"', "") for value in row]


class TestOwnMetadata:
    def test_the_tables_are_the_owners(self, url: str, opened: Open) -> None:
        """Tables in an owner's metadata have the owner's prefix, and no version of ours beside them."""
        metadata = MetaData()
        tables = add_tables(metadata, prefix="acme_")
        with engine_of(url) as engine:
            metadata.create_all(engine)
            assert started(opened(engine, tables=tables), KEY).find(KEY.thumbprint) == KEY
            assert differences(url, metadata) == []
            assert asked(url, "SELECT thumbprint FROM acme_keys") == [(KEY.thumbprint,)]

    def test_tables_that_are_not_there_are_an_error(self, url: str, opened: Open) -> None:
        """A registry makes no tables of the owner's metadata, and says that they are missing."""
        tables = add_tables(MetaData())
        with pytest.raises(ArgumentError, match="tables"):
            opened(url, tables=tables).start()
        with pytest.raises(StoreUnavailableError, match="tables"):
            opened(url, tables=tables).find(KEY.thumbprint)

    def test_an_owners_own_alembic_is_not_disturbed(self, url: str, opened: Open) -> None:
        """A version table of the owner's is neither read nor written."""
        asked(
            url, "CREATE TABLE alembic_version (version_num TEXT)", "INSERT INTO alembic_version VALUES ('x')"
        )
        started(opened(url))
        assert asked(url, "SELECT version_num FROM alembic_version") == [("x",)]

    @pytest.mark.parametrize("prefix", ["", "A", "1a", "a-b", "a b", 'a"', "a" * 33, "a\n"])
    def test_a_prefix_needs_no_quotes(self, prefix: str) -> None:
        """A prefix that SQL would have to quote is refused."""
        with pytest.raises(ArgumentError, match="prefix"):
            add_tables(MetaData(), prefix=prefix)


class TestAppendOnly:
    @pytest.mark.parametrize(
        "change", ["UPDATE tuned_digest_audit SET what = 'x'", "DELETE FROM tuned_digest_audit"]
    )
    def test_the_database_refuses_to_change_the_trail(self, url: str, opened: Open, change: str) -> None:
        """Even with SQL of one's own an entry is neither changed nor removed."""
        registry = started(opened(url), KEY)
        with pytest.raises(Exception, match="append-only"):
            asked(url, change)
        assert len(registry.audit()) == 1

    def test_postgresql_refuses_to_empty_the_trail(self, postgres_url: str, opened: Open) -> None:
        """TRUNCATE is refused as well."""
        registry = started(opened(postgres_url), KEY)
        with pytest.raises(Exception, match="append-only"):
            asked(postgres_url, "TRUNCATE tuned_digest_audit")
        assert len(registry.audit()) == 1


@pytest.fixture(params=["own", "owner's"])
def whose(request: pytest.FixtureRequest) -> str:
    """Whose the engine is."""
    return str(request.param)


class TestOneRead:
    def test_find_is_one_search_of_an_index_in_sqlite(
        self, path: Path, opened: Open, whose: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A look-up runs one statement and nothing else; its plan is one search, and the row lies there."""
        started(opened(path), KEY)
        said: list[str] = []
        connect = sqlite3.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*arguments, **options)
            connection.set_trace_callback(said.append)
            return connection

        monkeypatch.setattr(sqlite3, "connect", traced)
        with engine_of(f"sqlite:///{path}") as engine:
            on_connect(engine, lambda connection: connection.set_trace_callback(said.append))
            registry = opened(path if whose == "own" else engine)
            registry.find("warm")
            said.clear()
            assert registry.find(KEY.thumbprint) == KEY
        (statement,) = said
        ((*_, plan),) = asked(f"sqlite:///{path}", f"EXPLAIN QUERY PLAN {statement}")
        assert plan == "SEARCH tuned_digest_keys USING PRIMARY KEY (thumbprint=?)"

    def test_find_is_one_search_of_an_index_in_postgresql(
        self, postgres_server: PostgresServer, postgres_url: str, opened: Open, whose: str
    ) -> None:
        """A look-up sends one statement and nothing else; its plan is one search of the primary key."""
        started(opened(postgres_url), KEY)
        asked(
            postgres_url,
            """INSERT INTO tuned_digest_keys (thumbprint, account, jwk, label, added)
            SELECT i, 'a', '{}', 'l', 0 FROM generate_series(1, 3000) i""",
            "ANALYZE tuned_digest_keys",
        )
        logged = f"{postgres_url}%20-c%20log_statement=all"
        with engine_of(logged) as engine:
            registry = opened(logged if whose == "own" else engine)
            registry.find("warm")
            before = len(postgres_server.log())
            assert registry.find(KEY.thumbprint) == KEY
            said = postgres_server.log()[before:].replace("\n\t", " ").splitlines()
        (statement,) = [line.partition(": ")[2] for line in said if "LOG: " in line]
        explained = f"EXPLAIN SELECT {statement.partition('SELECT')[2]}".replace("$1", "'17'")
        assert asked(postgres_url, explained)[0][0].startswith("Index Scan using tuned_digest_keys_pkey")
        assert len(asked(postgres_url, explained)) == 2  # a line for the scan, one for its condition

    def test_an_owners_connection_goes_back_as_it_was(self, postgres_url: str, opened: Open) -> None:
        """After look-ups and changes an owner's connection begins transactions again."""
        with engine_of(postgres_url, pool_size=1, max_overflow=0) as engine:
            registry = started(opened(engine), KEY)
            assert registry.find(KEY.thumbprint) == KEY
            with engine.connect() as connection:
                connection.exec_driver_sql("UPDATE tuned_digest_keys SET label = 'x'")
                connection.rollback()
            assert registry.find(KEY.thumbprint) == KEY


class TestFiles:
    def test_the_file_is_its_owners_alone(self, path: Path, opened: Open) -> None:
        """The file and those beside it are made with mode 0600, whatever the mask."""
        mask = os.umask(0)
        try:
            started(opened(path), KEY)
        finally:
            os.umask(mask)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert modes == dict.fromkeys(["keys.db", "keys.db-shm", "keys.db-wal"], 0o600)

    def test_changes_are_on_the_disk(self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file is in WAL mode, and each change is synchronous."""
        said: list[Any] = []
        started(opened(path))
        opening = _engines._opened

        def noting(path: str) -> sqlite3.Connection:
            connection = opening(path)
            pragmas = ("journal_mode", "synchronous", "wal_autocheckpoint")
            said.extend(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas)
            return connection

        monkeypatch.setattr(_engines, "_opened", noting)
        opened(path).find("a")
        assert said == ["wal", 2, 0]  # 2 is FULL (sqlite.org/pragma.html#pragma_synchronous)

    def test_the_log_has_a_bound(self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """The -wal file is moved into the file when it is long; while another program writes, later."""
        registry = started(opened(path))
        monkeypatch.setattr(_engines, "_LOG_SIZE", 65536)
        sizes = []
        for number in range(30):
            registry.enrol(replace(KEY, thumbprint=f"{number}"), what="w", by="b")
            sizes.append(Path(f"{path}-wal").stat().st_size)
        assert max(sizes) < 3 * 65536
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            _engines.shorten_log(str(path))
        assert len(registry.keys()) == 30

    def test_a_relative_path_is_that_of_the_beginning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Open
    ) -> None:
        """A process that changes its directory keeps its file, whatever it is called."""
        monkeypatch.chdir(tmp_path)
        registry = opened(":memory:")
        monkeypatch.chdir("/")
        started(registry)
        assert (tmp_path / ":memory:").is_file()

    def test_a_file_is_opened_again_after_close(self, url: str, opened: Open) -> None:
        """A registry that was closed is used again."""
        registry = started(opened(url), KEY)
        registry.close()
        assert registry.find(KEY.thumbprint) == KEY

    @pytest.mark.parametrize("name", ["nowhere/keys.db", "a\0b", "."])
    def test_a_path_that_is_none_is_an_error(self, tmp_path: Path, opened: Open, name: str) -> None:
        """A file that cannot be made is a mistake when the server starts, and unavailable afterwards."""
        registry = opened(str(tmp_path / name))
        with pytest.raises(ArgumentError):
            registry.start()
        for call in (registry.find, registry.find_code):
            with pytest.raises(StoreUnavailableError):
                call("a")

    def test_another_file_is_left_as_it_is(self, path: Path, opened: Open) -> None:
        """A file that is no database is refused in words, and not changed."""
        path.write_bytes(b"no database" * 1000)
        with pytest.raises(ArgumentError, match=r"keys\.db is no SQLite database, or damaged"):
            opened(path).start()
        assert path.read_bytes() == b"no database" * 1000

    def test_a_damaged_file_is_used_again_once_it_is_mended(self, path: Path, opened: Open) -> None:
        """A damaged file is unavailable; with the file that was there before all is as it was."""
        registry = started(opened(path), KEY)
        registry.close()
        good = path.read_bytes()
        path.write_bytes(good[:100] + b"\xff" * (len(good) - 100))
        for call in (registry.find, registry.find_code):
            with pytest.raises(StoreUnavailableError, match="damaged"):
                call(KEY.thumbprint)
        path.write_bytes(good)
        assert registry.find(KEY.thumbprint) == KEY

    def test_a_file_on_another_kind_of_disk_is_an_error(
        self, opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where WAL mode cannot be had, the registry says so."""
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda *_, **options: connect(":memory:", **options))
        with pytest.raises(ArgumentError, match="WAL mode"):
            opened(path).start()

    def test_a_file_that_cannot_be_written_is_read(self, path: Path, opened: Open) -> None:
        """Keys are found in a file that is opened for reading; changes are refused and lose nothing."""
        started(opened(path), KEY)
        with engine_of(f"sqlite:///file:{path}?mode=ro&uri=true") as engine:
            registry = started(opened(engine))
            assert registry.find(KEY.thumbprint) == KEY
            with pytest.raises(StoreUnavailableError, match="cannot be opened for writing"):
                registry.revoke(KEY.thumbprint, account="acme", now=2.0, by="operator")
            assert registry.find(KEY.thumbprint) == KEY

    def test_an_empty_file_that_cannot_be_written_is_an_error(self, path: Path, opened: Open) -> None:
        """Tables cannot be made in it, which somebody has to mend."""
        path.touch()
        with (
            engine_of(f"sqlite:///file:{path}?mode=ro&uri=true") as engine,
            pytest.raises(ArgumentError, match="cannot be opened for writing"),
        ):
            opened(engine).start()

    def test_a_full_file_loses_nothing(self, path: Path, opened: Open) -> None:
        """Where there is no room a key is not enrolled at all, and what is there is found."""
        started(opened(path), KEY)
        with engine_of(f"sqlite:///{path}") as engine:
            on_connect(engine, lambda connection: connection.execute("PRAGMA max_page_count = 1"))
            registry = started(opened(engine))

            def fill() -> None:
                for number in range(100):
                    key = replace(KEY, thumbprint=f"{number}", account=f"{number}", jwk="x" * 4096)
                    registry.enrol(key, what="w", by="b")

            with pytest.raises(StoreUnavailableError, match="is full: make room"):
                fill()
            assert registry.find(KEY.thumbprint) == KEY
            assert len(registry.keys()) == len(registry.audit())


class TestDeadlines:
    def test_a_locked_file_is_unavailable_for_changes(
        self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While another program writes, keys are found; a change fails at its deadline, and works later."""
        monkeypatch.setattr(_engines, "LOCK_TIMEOUT", 0.05)
        registry = started(opened(path), KEY)
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert registry.find(KEY.thumbprint) == KEY
            changes: list[Callable[[], None]] = [
                lambda: registry.note_use(KEY.thumbprint, 2.0),
                lambda: enrol(registry, OTHER),
            ]
            for change in changes:
                with pytest.raises(StoreUnavailableError, match="was in use for longer than 5 s"):
                    change()
        enrol(registry, OTHER)
        assert registry.keys() == [KEY, OTHER]

    def test_a_file_that_is_locked_at_the_start_is_unavailable(
        self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that another program keeps from entering WAL mode is no mistake: it may be let go."""
        monkeypatch.setattr(_engines, "LOCK_TIMEOUT", 0.05)
        registry = opened(path)
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailableError, match="was in use for longer than 5 s"):
                registry.start()
        started(registry, KEY)

    def test_wal_mode_is_waited_for(self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that another program lets go in time is opened."""
        connected = _engines._connected
        monkeypatch.setattr(_engines, "_connected", lambda path, timeout: connected(path, 0))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            waits: list[float] = []

            def let_go(seconds: float) -> None:
                waits.append(seconds)
                other.execute("ROLLBACK")

            monkeypatch.setattr(time, "sleep", let_go)
            started(opened(path), KEY)
        assert len(waits) == 1

    def test_a_locked_database_is_unavailable_for_changes(
        self, postgres_url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While another process is stuck in a change, keys are found; a change fails at its deadline."""
        monkeypatch.setattr(_database, "LOCK_TIMEOUT", 0.05)
        registry = started(opened(postgres_url), KEY)
        with engine_of(postgres_url, isolation_level="AUTOCOMMIT") as engine, engine.connect() as other:
            held = other.exec_driver_sql(f"SELECT pg_advisory_lock({registry._database.lock})")
            assert held.one()
            assert registry.find(KEY.thumbprint) == KEY
            with pytest.raises(StoreUnavailableError, match="was in use for longer than 5 s"):
                enrol(registry, OTHER)
        enrol(registry, OTHER)
        assert registry.keys() == [KEY, OTHER]

    def test_a_statement_has_a_deadline(self, postgres_url: str, opened: Open) -> None:
        """A look-up that waits for a lock ends; deadlines in the owner's URL are the ones that hold."""
        registry = started(opened(f"{postgres_url}%20-c%20statement_timeout=50"), KEY)
        with engine_of(postgres_url) as engine, engine.connect() as other:
            other.exec_driver_sql("LOCK TABLE tuned_digest_keys")
            with pytest.raises(StoreUnavailableError, match="was in use"):
                registry.find(KEY.thumbprint)
        assert registry.find(KEY.thumbprint) == KEY

    def test_the_deadlines_reach_the_server(
        self, postgres_url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every connection of a registry's own has deadlines for statements, locks and idle transactions."""
        registry = started(opened(postgres_url))
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        shown = registry._database.run(
            lambda connection: [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]
        )
        assert shown == ["5s", "5s", "10s"]

    def test_a_pool_has_a_bound(self, url: str, opened: Open) -> None:
        """Where all connections are in use for too long, the registry is unavailable, and then works."""
        with engine_of(url, pool_size=1, max_overflow=0, pool_timeout=0.01) as engine:
            registry = started(opened(engine), KEY)
            with engine.connect():
                for call in (registry.find, registry.find_code):
                    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                        call(KEY.thumbprint)
            assert registry.find(KEY.thumbprint) == KEY

    def test_an_own_pool_has_a_bound(self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """A registry opens eight connections in a process at most, whatever the number of threads."""
        registry = started(opened(path), KEY)
        made: list[str] = []
        opening = _engines._opened

        def counted(path: str) -> sqlite3.Connection:
            made.append(path)
            return opening(path)

        monkeypatch.setattr(_engines, "_opened", counted)
        at_once(*[lambda: [registry.find(KEY.thumbprint) for _ in range(50)]] * 24)
        assert len(made) < 8


def enrol(registry: SQLKeyRegistry, key: EnrolledKey) -> None:
    """Enrol a key as an operator."""
    registry.enrol(key, what="key added", by="operator")


class TestServers:
    def test_a_server_that_comes_back_is_used_again(
        self, own_postgres_server: PostgresServer, opened: Open
    ) -> None:
        """While the server is away the registry is unavailable; then the first look-up and change work."""
        server = own_postgres_server
        registry = started(opened(server.url()), KEY)
        calls: list[Callable[[], object]] = [
            lambda: registry.find(KEY.thumbprint),
            lambda: enrol(registry, OTHER),
        ]
        for call in calls:
            at_once(*[lambda: [registry.find(KEY.thumbprint) for _ in range(20)]] * 8)
            server.stop()
            with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                registry.find(KEY.thumbprint)
            with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                registry.revoke(KEY.thumbprint, account="acme", now=2.0, by="operator")
            with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                opened(server.url()).start()
            server.start()
            call()
        assert registry.keys() == [KEY, OTHER]

    def test_connections_that_broke_are_not_noticed(
        self, own_postgres_server: PostgresServer, opened: Open, whose: str
    ) -> None:
        """After a restart between two calls the next one works at once, also on an owner's engine."""
        server = own_postgres_server
        with engine_of(server.url()) as engine:
            registry = started(opened(server.url() if whose == "own" else engine), KEY)
            calls: list[Callable[[], object]] = [
                lambda: registry.find(KEY.thumbprint),
                lambda: registry.note_use(KEY.thumbprint, 2.0),
                lambda: enrol(registry, OTHER),
            ]
            for call in calls:
                at_once(*[lambda: [registry.find(KEY.thumbprint) for _ in range(20)]] * 8)
                server.stop()
                server.start()
                call()
            assert registry.find(OTHER.thumbprint) is not None
        engine.dispose()

    def test_a_connection_that_breaks_within_a_change_changes_nothing(
        self,
        postgres_server: PostgresServer,
        postgres_url: str,
        opened: Open,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A change whose connection is lost in its middle is unavailable, and is not made."""
        registry = started(opened(f"{postgres_url}%20-c%20application_name=broken"), KEY)
        registry.store_codes([CODE], what="w", by="b")
        check = _checks.check_unused

        def lose(code: Code | None, key: EnrolledKey) -> None:
            check(code, key)
            postgres_server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            )

        monkeypatch.setattr(sql, "check_unused", lose)
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            registry.enrol(OTHER, what="w", by="b", code=CODE.name)
        assert registry.keys() == [KEY]
        assert registry.find_code(CODE.name) == CODE
        monkeypatch.undo()
        registry.enrol(OTHER, what="w", by="b", code=CODE.name)

    def test_a_user_who_may_only_read_reads(
        self, postgres_server: PostgresServer, postgres_url: str, opened: Open
    ) -> None:
        """A verifying server may do with SELECT alone: keys are found, and changes are refused in words."""
        started(opened(postgres_url), KEY)
        read_only = f"{postgres_url}%20-c%20default_transaction_read_only=on"
        registry = started(opened(read_only))
        assert registry.find(KEY.thumbprint) == KEY
        with pytest.raises(StoreUnavailableError, match="does not allow this user to write"):
            registry.revoke(KEY.thumbprint, account="acme", now=2.0, by="operator")

    def test_tables_that_may_not_be_made_are_an_error(self, postgres_url: str, opened: Open) -> None:
        """A user who may not make tables in an empty database is told so when the server starts."""
        with pytest.raises(ArgumentError, match="does not allow this user to write"):
            opened(f"{postgres_url}%20-c%20default_transaction_read_only=on").start()

    def test_a_database_that_is_not_in_utf_8_is_an_error(
        self, postgres_server: PostgresServer, opened: Open
    ) -> None:
        """A database that cannot keep every text is refused when the server starts."""
        url = postgres_server.url()
        if not asked(url, "SELECT 1 FROM pg_database WHERE datname = 'latin'"):
            postgres_server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        with pytest.raises(ArgumentError, match="is not in UTF-8"):
            opened(url.replace("/postgres?", "/latin?")).start()

    def test_an_error_shows_nothing_that_is_kept(
        self, postgres_url: str, opened: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither errors nor SQLAlchemy's log show a code's hash, a nonce or a label."""
        registry = started(opened(postgres_url))
        asked(postgres_url, "ALTER TABLE tuned_digest_codes ADD CHECK (name = '')")
        asked(postgres_url, "ALTER TABLE tuned_digest_candidates ADD CHECK (nonce = '')")
        caplog.set_level(logging.DEBUG)
        with pytest.raises(StoreUnavailableError) as of_code:
            registry.store_codes([CODE], what="w", by="b")
        with pytest.raises(StoreUnavailableError) as of_nonce:
            registry.propose(Candidate("C", "acme", "{}", "l", "secret-nonce", 1e3), most=5)
        said = f"{of_code.value}{of_nonce.value}{caplog.text}"
        assert "violates check constraint" in said
        assert "secret" not in said
        assert of_code.value.__cause__ is None


class TestTransactions:
    def test_an_interrupt_undoes_the_change(
        self, url: str, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A change that an interrupt ends is undone, and the next one works on the same connection."""
        registry = started(opened(url), KEY)
        registry.store_codes([CODE], what="w", by="b")

        def interrupt(code: Code | None, key: EnrolledKey) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(sql, "check_unused", interrupt)
        with pytest.raises(KeyboardInterrupt):
            registry.enrol(OTHER, what="w", by="b", code=CODE.name, founds=False)
        monkeypatch.undo()
        assert registry.keys() == [KEY]
        registry.enrol(OTHER, what="w", by="b", code=CODE.name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestForks:
    def test_a_child_has_connections_of_its_own(self, url: str, opened: Open, whose: str) -> None:
        """A child finds, enrols and revokes beside its parent, whose connections it neither uses nor ends."""
        with engine_of(url) as engine:
            registry = started(opened(url if whose == "own" else engine), KEY)
            registry.find(KEY.thumbprint)
            fork = multiprocessing.get_context("fork")
            answers = fork.SimpleQueue()

            def serve() -> None:
                at_once(*[lambda: [registry.find(KEY.thumbprint) for _ in range(20)]] * 4)
                enrol(registry, OTHER)
                answers.put(registry.revoke(KEY.thumbprint, account="acme", now=2.0, by="operator"))
                registry.close()

            workers = [fork.Process(target=serve) for _ in range(1)]
            for worker in workers:
                worker.start()
            for _ in range(50):
                assert registry.find(KEY.thumbprint) is not None
            for worker in workers:
                worker.join(30)
                assert worker.exitcode == 0
            assert answers.get()
            assert registry.find(KEY.thumbprint) == replace(KEY, revoked=2.0)
            assert registry.keys() == [replace(KEY, revoked=2.0), OTHER]


def test_after_a_fork_the_parents_connections_stay_open(
    url: str, opened: Open, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that notices that it is a child takes new connections, and lets the old ones be."""
    with engine_of(url) as engine:
        before: Any = engine.pool
        registry = started(opened(url if whose == "own" else engine), KEY)
        with monkeypatch.context() as patch:
            patch.setattr(forks, "_forks", [*forks._forks, None])
            assert registry.find(KEY.thumbprint) == KEY
            assert (engine.pool is before) == (whose == "own")
        assert before.checkedin() == (whose == "owner's")
        for made in registry._database._made:  # here both processes are this one
            made.dispose()
        before.dispose()


class TestDatabases:
    @pytest.mark.parametrize(
        "database",
        [
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite:///keys.db?mode=ro",
            "mysql+nothing://u:secret@h/d",
            "nothing://u:secret@h/d",
            "postgresql+asyncpg://u:secret@h/d",
            "postgresql+psycopg://u:secret@h:port/d",
            "://",
        ],
    )
    def test_a_url_that_is_not_served_is_an_error(self, database: str) -> None:
        """Such a URL is refused in words, which never hold its password."""
        with pytest.raises((ArgumentError, MissingExtraError)) as caught:
            SQLKeyRegistry(database)
        assert "secret" not in str(caught.value)

    def test_another_database_is_an_error(self) -> None:
        """An engine of another kind of database is refused."""
        engine: Any = create_engine("sqlite://")
        engine.dialect.name = "mysql"
        with pytest.raises(ArgumentError, match="SQLite or PostgreSQL"):
            SQLKeyRegistry(engine)

    def test_a_driver_that_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where psycopg is not installed the error says so."""
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(MissingExtraError, match="psycopg is not installed"):
            SQLKeyRegistry("postgresql+psycopg://h/d")

    @pytest.mark.parametrize("module", ["sql", "schema"])
    def test_without_sqlalchemy_the_extra_is_named(
        self, module: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where SQLAlchemy is not installed the import fails with the name of the extra."""
        name = f"tuned_digest.server.accounts.{module}"
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "sqlalchemy", None)
        with pytest.raises(MissingExtraError, match="accounts"):
            importlib.import_module(name)

    def test_an_error_names_the_place_without_its_password(
        self, postgres_server: PostgresServer, opened: Open
    ) -> None:
        """A database that cannot be reached is named by host and name alone."""
        registry = opened("postgresql+psycopg://postgres:secret@127.0.0.1:1/acme")
        with pytest.raises(StoreUnavailableError, match=r"the database acme at 127\.0\.0\.1 ") as caught:
            registry.find("a")
        assert "secret" not in str(caught.value)
