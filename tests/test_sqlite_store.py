"""Issued nonces and spent names in a file: shared by processes, there after a crash, bounded."""

import multiprocessing
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuned_digest import ArgumentError
from tuned_digest.errors import StoreUnavailableError, TunedDigestError
from tuned_digest.server import Grant
from tuned_digest.server.stores import _sqlite_file
from tuned_digest.server.stores._sqlite_file import SQLiteFile
from tuned_digest.server.stores.sqlite import SQLiteNonceStore

from .clock import Clock
from .verifying import BOTH, EVERY_ACTION

NEXT = Grant(BOTH, EVERY_ACTION - {"create"}, chained=True, identity="A" * 43)
CREATE = Grant(BOTH, frozenset({"create"}), chained=True, identity="A" * 43)
CHALLENGE = Grant(BOTH, frozenset({"read"}), chained=False)

BITE = 256
"""Rows that a full file drops at once."""

SAMPLE = 25
"""One of so many nonces is taken where all should be there: each costs a write to the disk."""

PAGES = 256
"""Pages of a file of 1 MiB."""

MIB = 1024 * 1024
"""Bytes."""

Open = Callable[..., SQLiteNonceStore]

WORKER = """
import sys
from tuned_digest.server import Grant
from tuned_digest.server.stores import _sqlite_file
from tuned_digest.server.stores.sqlite import SQLiteNonceStore

_sqlite_file._LOG_SIZE = 2**18  # the log is moved into the file all the time
path, worker, grant = sys.argv[1:]
store, grant, number = SQLiteNonceStore(path, busy_timeout=30), Grant.decode(bytes.fromhex(grant)), 0
while True:
    kept, taken = store.issue(grant, grant)
    print("kept", kept, flush=True)
    assert store.take(taken)
    print("taken", taken, flush=True)
    number += 1
    assert store.spend(f"{worker}/{number}", 3600)
    print("spent", f"{worker}/{number}", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "nonces.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Open]:
    """Make stores over one file, which are closed when the test ends."""
    stores: list[SQLiteNonceStore] = []

    def make(**options: Any) -> SQLiteNonceStore:
        stores.append(SQLiteNonceStore(path, **options))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def asked(path: Path, query: str) -> Any:
    """Ask a connection of its own for one value."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchone()[0]


def count(path: Path, table: str) -> int:
    """Count the rows of a table."""
    rows: int = asked(path, f"SELECT count(*) FROM {table}")
    return rows


def log_size(path: Path) -> int:
    """Give the size of the -wal file, bytes."""
    return path.with_name("nonces.db-wal").stat().st_size


def of(number: int, grant: Grant = NEXT) -> Grant:
    """Make a grant for another key."""
    return replace(grant, identity=f"{number:043}")


def fill(store: SQLiteNonceStore, path: Path, pages: int = PAGES) -> list[str]:
    """Issue next nonces, each to another key, until the file has so many pages."""
    nonces: list[str] = []
    while asked(path, "PRAGMA page_count") < pages:
        nonces += store.issue(*(of(len(nonces) + number) for number in range(100)))
    return nonces


def fill_with_names(path: Path, pages: int) -> None:
    """Spend names without end, until the file has so many pages."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while connection.execute("PRAGMA page_count").fetchone()[0] < pages:
            connection.execute(
                """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50)
                INSERT INTO spent SELECT randomblob(16), 1e15 FROM n"""
            )


def flood(path: Path) -> int:
    """Issue challenges, as a process of its own; give the largest size that the -wal file had, bytes."""
    store = SQLiteNonceStore(path, busy_timeout=30, max_mib=1)
    sizes = []
    for _ in range(40):
        store.issue(*[CHALLENGE] * 50)
        sizes.append(log_size(path))
    store.close()
    return max(sizes)


def working(path: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that issues, takes and spends without a pause, and says what it has done."""
    command = [sys.executable, "-c", WORKER, str(path), name, NEXT.encode().hex()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(worker: subprocess.Popen[str], lines: int) -> list[list[str]]:
    """Kill a process once it has said so many lines, and give all that it said."""
    with worker:
        assert worker.stdout is not None
        words = [worker.stdout.readline().split() for _ in range(lines)]
        worker.kill()
        return words + [line.split() for line in worker.stdout if line.endswith("\n")]


def take_all(path: Path, nonces: list[str]) -> list[str]:
    """Take nonces, as a process of its own, and give those that it got."""
    store = SQLiteNonceStore(path, busy_timeout=30)
    taken = [nonce for nonce in nonces if store.take(nonce)]
    store.close()
    return taken


def spend_one(path: Path, name: str) -> str | None:
    """Spend a name, as a process of its own."""
    store = SQLiteNonceStore(path, busy_timeout=30)
    epoch = store.spend(name, 60)
    store.close()
    return epoch


def processes(number: int) -> ProcessPoolExecutor:
    """Run functions in processes that were not forked from this one."""
    return ProcessPoolExecutor(number, multiprocessing.get_context("spawn"))


class TestSharing:
    def test_nonces_are_there_after_the_file_was_closed(self, opened: Open) -> None:
        """A store that is opened again knows what was issued, what was taken and what was spent."""
        store = opened()
        kept, taken = store.issue(NEXT, CREATE)
        assert store.take(taken) == CREATE
        epoch = store.spend("a", 60)
        store.close()
        again = opened()
        assert again.take(taken) is None
        assert again.take(kept) == NEXT
        assert again.spend("a", 60) is None
        assert again.spend("b", 60) == epoch
        assert store.take(kept) is None

    def test_two_processes_take_a_nonce_once(self, path: Path, opened: Open) -> None:
        """Of two processes that take the same nonces at the same time, each nonce goes to one."""
        nonces = opened().issue(*[NEXT] * 300)
        with processes(2) as pool:
            one, two = pool.map(take_all, [path] * 2, [nonces] * 2)
        assert sorted(one + two) == sorted(nonces)

    def test_processes_that_start_at_once_share_one_file(self, path: Path) -> None:
        """Four processes that find no file make one, and agree on its epoch."""
        with processes(4) as pool:
            epochs = list(pool.map(spend_one, [path] * 4, "abcd"))
        assert len(set(epochs)) == 1
        assert None not in epochs

    def test_nothing_is_lost_when_processes_are_killed(self, path: Path, opened: Open) -> None:
        """What killed processes said they took or spent stays so, and what they said they issued is kept."""
        chance = random.Random(9)
        for number in range(3):
            one, other = working(path, f"{number}a"), working(path, f"{number}b")
            words = [said(one, chance.randrange(1, 100))]
            store = opened()
            assert store.take(*store.issue(NEXT)) == NEXT  # at once, though it may have died holding a lock
            words.append(said(other, chance.randrange(1, 100)))
            for what, name in [pair for pairs in words for pair in pairs[-SAMPLE * 2 :]]:
                if what == "spent":
                    assert store.spend(name, 3600) is None
                else:
                    assert (store.take(name) is not None) == (what == "kept")
            store.close()
        assert asked(path, "PRAGMA integrity_check") == "ok"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_worker_shares_the_file(self, opened: Open) -> None:
        """A child opens the file for itself; a nonce of its parent's is good in one of the two."""
        store = opened()
        one, two = store.issue(NEXT, NEXT)
        fork = multiprocessing.get_context("fork")
        answers = fork.SimpleQueue()

        def serve() -> None:
            answers.put(store.take(one))
            answers.put(store.issue(NEXT)[0])

        worker = fork.Process(target=serve)
        worker.start()
        worker.join(30)
        assert worker.exitcode == 0
        assert answers.get() == NEXT
        assert store.take(one) is None
        assert store.take(two) == NEXT
        assert store.take(answers.get()) == NEXT

    def test_namespaces_know_nothing_of_each_other(self, opened: Open) -> None:
        """A nonce or a name of one namespace is unknown in another one of the same file."""
        one, other = opened(namespace="one"), opened(namespace="other")
        (nonce,) = one.issue(NEXT)
        assert other.take(nonce) is None
        assert one.take(nonce) == NEXT
        assert one.spend("a", 60) == other.spend("a", 60)

    def test_a_new_file_begins_another_epoch(self, path: Path, opened: Open) -> None:
        """A store whose file was removed has forgotten what was spent, and says so with its epoch."""
        store = opened()
        epoch = store.spend("a", 60)
        store.close()
        path.unlink()
        assert store.spend("a", 60) not in {None, epoch}

    def test_a_relative_path_is_that_of_the_beginning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that changes its directory keeps its file."""
        monkeypatch.chdir(tmp_path)
        store = SQLiteNonceStore(":memory:")
        monkeypatch.chdir("/")
        store.start()
        store.close()
        assert [file.name for file in tmp_path.iterdir()] == [":memory:"]


class TestTime:
    @pytest.mark.parametrize(("grant", "lifetime"), [(NEXT, 86400.0), (CHALLENGE, 300.0)])
    def test_a_nonce_goes_stale(self, opened: Open, grant: Grant, lifetime: float) -> None:
        """A next nonce is good for 24 hours, a challenge's for five minutes, and not a moment longer."""
        clock = Clock()
        store = opened(clock=clock)
        one, two = store.issue(grant, grant)
        clock.now = lifetime - 0.1
        assert store.take(one) is not None
        clock.now = lifetime
        assert store.take(two) is None

    def test_a_name_is_forgotten_when_its_time_is_over(self, opened: Open) -> None:
        """A name can be spent again when it need not be remembered any more, swept or not."""
        clock = Clock()
        store = opened(clock=clock)
        epoch = store.spend("a", 60)
        for number in range(40):
            store.spend(str(number), 60 - 1 / (number + 1))
        clock.now = 59.9
        assert store.spend("a", 60) is None
        clock.now = 60.0
        assert store.spend("a", 10**12) == epoch
        clock.now = 10.0**8
        assert store.spend("a", 60) is None

    def test_stale_rows_go_in_small_bites(self, path: Path, opened: Open) -> None:
        """Each call removes 16 stale rows at most, until there are none."""
        clock = Clock()
        store = opened(clock=clock)
        store.issue(*[CHALLENGE] * 40)
        for name in map(str, range(20)):
            store.spend(name, 300)
        clock.now = 300.0
        left = []
        for name in "abc":
            store.issue(NEXT)
            store.spend(name, 300)
            left.append((count(path, "grants"), count(path, "spent")))
        assert left == [(25, 5), (10, 2), (3, 3)]


class TestRoom:
    def test_a_key_loses_its_own_oldest(self, opened: Open) -> None:
        """Beyond the quota of a key and scope its oldest nonces go, and no other."""
        clock = Clock()
        store = opened(clock=clock, quota=2)
        create, other = *store.issue(CREATE), *store.issue(of(1))
        nonces = []
        for clock.now in range(1, 5):
            nonces += store.issue(NEXT)
        assert [store.take(nonce) is not None for nonce in nonces] == [False, False, True, True]
        assert store.take(create) == CREATE
        assert store.take(other) == NEXT

    def test_a_flood_of_challenges_loses_its_own_oldest(self, path: Path, opened: Open) -> None:
        """Challenges without end cost no client its next nonce, and the file stays within its size."""
        clock = Clock()
        store, other = (opened(clock=clock, max_mib=1, namespace=name) for name in "ab")
        kept = [*store.issue(*map(of, range(1000))), *other.issue(*map(of, range(1000)))]
        foreign = other.issue(CHALLENGE)
        latest: list[str] = []
        for clock.now in range(1, 101):
            latest = store.issue(*[CHALLENGE] * 100)
        assert all(map(store.take, latest[::SAMPLE]))
        assert other.take(*foreign) == CHALLENGE
        assert all(map(store.take, kept[:1000:SAMPLE]))
        assert all(map(other.take, kept[1000::SAMPLE]))
        store.close()
        other.close()
        assert path.stat().st_size <= 1024 * 1024

    def test_a_key_that_has_much_makes_room_for_itself(self, path: Path, opened: Open) -> None:
        """In a full file a key with many next nonces loses its oldest, and others lose no older ones."""
        clock = Clock()
        store = opened(clock=clock, max_mib=1, quota=10**6)
        kept = fill(store, path, PAGES // 2)
        clock.now = 1
        (first,) = store.issue(NEXT)
        latest: list[str] = []
        for clock.now in range(2, 102):
            latest = store.issue(*[NEXT] * 50)
        assert store.take(first) is None
        assert all(map(store.take, latest[::SAMPLE]))
        assert all(map(store.take, kept[::SAMPLE]))

    @pytest.mark.parametrize("grant", [NEXT, CHALLENGE])
    def test_the_oldest_next_nonces_make_room(self, path: Path, opened: Open, grant: Grant) -> None:
        """A file full of other keys' next nonces loses their oldest, and serves everybody."""
        clock = Clock()
        store = opened(clock=clock, max_mib=1)
        fill(store, path, PAGES // 2)
        clock.now = 1
        latest = fill(store, path)
        clock.now = 2
        issued = [store.issue(grant)[0] for _ in range(BITE)]
        assert all(map(store.take, issued[::SAMPLE]))
        assert all(map(store.take, latest[::SAMPLE]))

    def test_a_flood_of_challenges_costs_few_next_nonces(self, path: Path, opened: Open) -> None:
        """Challenges without end take a few bites of a file full of next nonces, and then their own."""
        store = opened(max_mib=1)
        kept = fill(store, path)
        for _ in range(100):
            store.issue(*[CHALLENGE] * 100)
        left = count(path, "grants WHERE expiry > (SELECT min(expiry) + 80000000 FROM grants)")
        lost = len(kept) - left  # of next nonces, which are good for longer
        assert 0 < lost < len(kept) / 2

    def test_what_is_stale_makes_room_first(self, path: Path, opened: Open) -> None:
        """A full file drops nothing that is good while something is stale."""
        clock = Clock()
        store = opened(clock=clock, max_mib=1)
        fill(store, path)
        store.spend("a", 86400)
        clock.now = 86399.0
        challenge = store.issue(CHALLENGE)
        clock.now = 86400.0
        kept = [nonce for _ in range(20) for nonce in store.issue(*[NEXT] * 50)]
        assert all(map(store.take, [*challenge, *kept[::SAMPLE]]))

    def test_a_spent_name_is_never_dropped(self, path: Path, opened: Open) -> None:
        """A file full of spent names refuses to remember or to issue more, and has forgotten none."""
        store = opened(max_mib=1)
        names = [str(number) for number in range(20)]
        epoch = store.spend("a", 60)
        assert {store.spend(name, 60) for name in names} == {epoch}
        fill(store, path, 20)
        fill_with_names(path, PAGES - 4)
        with pytest.raises(StoreUnavailableError, match="is full: give a larger max_mib"):
            sum(store.spend(f"more {number}", 60) == epoch for number in range(3000))
        assert count(path, "grants") == 0
        with pytest.raises(StoreUnavailableError, match="is full"):
            store.issue(*[NEXT] * 1000)
        assert {store.spend(name, 60) for name in names} == {None}

    def test_challenges_make_room_for_spent_names(self, opened: Open) -> None:
        """A flood of challenges keeps no name from being remembered."""
        store = opened(max_mib=1)
        for _ in range(100):
            store.issue(*[CHALLENGE] * 100)
        assert None not in {store.spend(str(number), 60) for number in range(300)}


class TestLog:
    def test_the_log_is_emptied(self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """What two writers write goes into the file, so that the log beside it stays small."""
        monkeypatch.setattr(_sqlite_file, "_LOG_SIZE", 64 * 1024)
        one, other = opened(), opened()
        largest = 0
        for number in range(50):
            (nonce, *_) = (one, other)[number % 2].issue(*map(of, range(20 * number, 20 * number + 20)))
            assert (other, one)[number % 2].take(nonce) is not None
            largest = max(largest, os.stat(f"{path}-wal").st_size)  # noqa: PTH116
        assert 64 * 1024 < largest < 512 * 1024

    def test_processes_that_never_pause_do_not_make_it_grow(self, path: Path, opened: Open) -> None:
        """The -wal file has little more than 4 MiB while several processes write as fast as they can."""
        opened(max_mib=1).start()
        with processes(3) as pool:
            assert max(pool.map(flood, [path] * 3)) < 8 * MIB

    def test_nobody_writes_while_it_is_moved_into_the_file(
        self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A checkpoint has the lock for writing: otherwise a SQLite before 3.51.3 could damage the file."""
        statements: list[str] = []
        refused: list[str] = []
        connect = sqlite3.connect

        def watch(statement: str) -> None:
            statements.append(statement)
            if "wal_checkpoint" in statement:
                with closing(connect(path, timeout=0, isolation_level=None)) as writer:
                    try:
                        writer.execute("BEGIN IMMEDIATE")
                    except sqlite3.OperationalError as error:
                        refused.append(str(error))

        def connected(path: str, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(path, **options)
            connection.set_trace_callback(watch)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connected)
        monkeypatch.setattr(_sqlite_file, "_LOG_SIZE", MIB)
        store = opened()
        for _ in range(10):
            store.issue(*[CHALLENGE] * 300)
        assert "PRAGMA wal_autocheckpoint = 0" in statements
        assert refused
        assert refused == ["database is locked"] * sum("wal_checkpoint" in one for one in statements)

    def test_who_reads_for_long_makes_the_store_unavailable(self, path: Path, opened: Open) -> None:
        """The -wal file that a reader keeps from being shortened grows by max_mib, until the reader ends."""
        store = opened(max_mib=1)
        store.start()
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM meta").fetchone()
            with pytest.raises(StoreUnavailableError, match="is read by another program"):
                sum(len(store.issue(*[CHALLENGE] * 50)) for _ in range(1000))
            assert 5 * MIB < log_size(path) < 7 * MIB
            with pytest.raises(StoreUnavailableError, match="is read by another program"):
                store.take("A" * 43)
        assert store.take(*store.issue(NEXT)) == NEXT
        assert log_size(path) <= 4 * MIB

    def test_whoever_holds_it_is_waited_for(self, path: Path, opened: Open) -> None:
        """A long -wal file and a writer that does not end: unavailable when the deadline has passed."""
        store = opened(max_mib=1, busy_timeout=0.02)
        store.start()
        os.truncate(path.with_name("nonces.db-wal"), 4 * MIB + 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="in use for longer than busy_timeout"):
                store.issue(NEXT)
        assert store.take(*store.issue(NEXT)) == NEXT

    def test_it_may_have_been_removed(self, path: Path, opened: Open) -> None:
        """A -wal file that somebody removed under a running server causes no error of another kind."""
        store = opened()
        store.start()
        path.with_name("nonces.db-wal").unlink()
        assert store.take(*store.issue(NEXT)) == NEXT


class TestFile:
    @pytest.mark.skipif(os.name != "posix", reason="these are POSIX rights")
    def test_the_file_is_private(self, path: Path, opened: Open) -> None:
        """Only the owner can read the file and those that SQLite makes beside it."""
        opened().issue(NEXT)
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert modes == dict.fromkeys(["nonces.db", "nonces.db-wal", "nonces.db-shm"], 0o600)

    def test_no_nonce_is_in_the_file(self, path: Path, opened: Open) -> None:
        """Who reads the file cannot present what is in it."""
        octets = bytes(range(65, 97))
        store = opened(randomness=lambda size: octets[:size])
        (nonce,) = store.issue(NEXT)
        store.spend("the name", 60)
        store.close()
        content = path.read_bytes()
        assert not [secret for secret in (octets, nonce.encode(), b"the name") if secret in content]

    @pytest.mark.parametrize("place", ["missing/nonces.db", "file/nonces.db", "directory", "n\0", "n" * 300])
    @pytest.mark.parametrize("use", ["start", "issue", "take", "spend"])
    def test_a_file_that_cannot_be_made_is_a_mistake(self, tmp_path: Path, place: str, use: str) -> None:
        """A missing directory and its like are errors at the start, or at the first use."""
        (tmp_path / "file").touch()
        (tmp_path / "directory").mkdir()
        store = SQLiteNonceStore(tmp_path / place)
        uses = {"start": (), "issue": (NEXT,), "take": ("A" * 43,), "spend": ("A" * 43, 60)}
        with pytest.raises(ArgumentError, match=r"in a directory that is there|is not a path") as caught:
            getattr(store, use)(*uses[use])
        assert "A" * 43 not in str(caught.value)

    def test_a_full_disk_passes(self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that cannot be made for want of space is no mistake: later it can."""

        def fail(*arguments: object) -> int:
            raise OSError(28, "No space left on device")

        store = opened()
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", fail)
            with pytest.raises(StoreUnavailableError, match="No space left"):
                store.start()
        store.start()
        assert path.exists()

    def test_a_file_that_is_no_database_is_a_mistake(self, path: Path, opened: Open) -> None:
        """A file of another kind is an error at the start, and is left as it is."""
        path.write_bytes(b"something else" * 100)
        with pytest.raises(ArgumentError, match="is no SQLite database, or damaged"):
            opened().start()
        assert path.read_bytes() == b"something else" * 100

    @pytest.mark.parametrize("made_by", ["CREATE TABLE t (a)", "PRAGMA application_id = 7"])
    def test_the_database_of_another_application_is_a_mistake(
        self, path: Path, opened: Open, made_by: str
    ) -> None:
        """Another application's file is refused, and is left as it is."""
        connection = sqlite3.connect(path)
        connection.execute(made_by)
        connection.close()
        content = path.read_bytes()
        with pytest.raises(ArgumentError, match="give another path"):
            opened().start()
        assert path.read_bytes() == content

    def test_a_damaged_file_is_mended_by_removing_it(self, path: Path, opened: Open) -> None:
        """Damage is an error of every use, until the file is removed: no restart is needed."""
        store = opened()
        nonces = store.issue(*[NEXT] * 200)
        store.close()
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        for use in (lambda: store.issue(NEXT), lambda: store.take(nonces[0]), lambda: store.spend("a", 60)):
            with pytest.raises(StoreUnavailableError, match=r"or damaged.*remove it") as caught:
                use()
            assert nonces[0] not in str(caught.value)
        for file in path.parent.iterdir():
            file.unlink()
        assert store.take(nonces[0]) is None
        assert store.take(*store.issue(NEXT)) == NEXT

    def test_a_file_that_may_not_be_written_is_a_mistake(
        self, path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that can only be read is an error at the start."""
        connect = sqlite3.connect
        opened().start()
        monkeypatch.setattr(
            sqlite3,
            "connect",
            lambda path, **options: connect(f"file:{path}?mode=ro", uri=True, **options),
        )
        with pytest.raises(ArgumentError, match="cannot be opened for writing"):
            opened().start()

    def test_a_file_without_wal_is_a_mistake(self, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """A place where SQLite has no WAL mode is an error at the start."""
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda path, **options: connect(":memory:", **options))
        with pytest.raises(ArgumentError, match="cannot be in WAL mode"):
            opened().start()

    def test_an_old_sqlite_is_a_mistake(self, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        """A SQLite without RETURNING is named at the start."""
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
        with pytest.raises(ArgumentError, match=r"needs SQLite 3\.35 or later"):
            opened().start()

    @pytest.mark.parametrize("is_new", [True, False])
    def test_a_locked_file_is_waited_for(self, path: Path, opened: Open, is_new: bool) -> None:
        """What holds the file for longer than the deadline makes the store unavailable, and no longer."""
        store = opened(busy_timeout=0.02)
        if not is_new:
            store.start()
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailableError, match="in use for longer than busy_timeout"):
            store.issue(NEXT)
        holder.close()
        assert store.take(*store.issue(NEXT)) == NEXT

    def test_threads_wait_for_each_other(self, path: Path) -> None:
        """A thread that holds the file for longer than the deadline makes it unavailable to others."""
        file = SQLiteFile(str(path), max_mib=1, busy_timeout=0.02, make_epoch=lambda: "e")
        is_held, may_end = threading.Event(), threading.Event()

        def hold(connection: sqlite3.Connection) -> None:
            is_held.set()
            assert may_end.wait(30)

        holder = threading.Thread(target=file.run, args=(hold,))
        holder.start()
        assert is_held.wait(30)
        with pytest.raises(StoreUnavailableError, match="in use for longer than busy_timeout"):
            file.run(lambda connection: None)
        may_end.set()
        holder.join(30)
        file.close()

    def test_room_is_made_again_when_the_file_was_locked(self, path: Path) -> None:
        """Another process that writes while room is to be made delays that, and is no error."""
        file = SQLiteFile(str(path), max_mib=1, busy_timeout=30, make_epoch=lambda: "e")
        tries = 0

        def work(connection: sqlite3.Connection) -> int:
            if tries < 2:
                connection.execute("INSERT INTO spent VALUES (zeroblob(2000000), 0)")
            return tries

        def make_room(connection: sqlite3.Connection) -> bool:
            nonlocal tries
            tries += 1
            holder = sqlite3.connect(path, isolation_level=None)
            if tries == 1:
                holder.execute("BEGIN IMMEDIATE")
            try:
                connection.execute("DELETE FROM spent")
            finally:
                holder.close()
            return True

        assert file.run(work, make_room) == 2
        file.close()

    def test_a_full_disk_is_not_mended_by_dropping(self, path: Path) -> None:
        """Where not even dropping finds room, that is tried once."""
        file = SQLiteFile(str(path), max_mib=1, busy_timeout=30, make_epoch=lambda: "e")
        tries: list[str] = []

        def write(connection: sqlite3.Connection) -> bool:
            tries.append("")
            return bool(connection.execute("INSERT INTO spent VALUES (zeroblob(2000000), 0)"))

        with pytest.raises(StoreUnavailableError, match="make room on the disk"):
            file.run(write, write)
        assert len(tries) == 2
        file.close()

    def test_a_nonce_drawn_twice_is_an_error(self, opened: Open) -> None:
        """Bad randomness is noticed, and nothing of that call is kept."""
        octets = iter([b"e", b"a", b"b", b"b", b"e"])
        store = opened(randomness=lambda size: next(octets) * size)
        store.start()
        with pytest.raises(StoreUnavailableError, match="could not be read or written"):
            store.issue(NEXT, NEXT, NEXT)
        assert store.take("YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE") is None

    @pytest.mark.parametrize("number", [0, -1, 10**9, float("inf"), float("nan")])
    @pytest.mark.parametrize("name", ["lifetime", "challenge_lifetime", "quota", "max_mib", "busy_timeout"])
    def test_numbers_are_positive(self, opened: Open, name: str, number: float) -> None:
        """A store that could hold nothing, or would wait for ever, is an error at once."""
        with pytest.raises(ArgumentError, match=name if name in {"quota", "max_mib"} else "lifetimes"):
            opened(**{name: number})


class TestAnyInput:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        encoded=st.binary(max_size=40) | st.text(max_size=40) | st.integers(-(2**63), 2**63 - 1) | st.floats()
    )
    def test_whatever_stands_for_a_grant(self, path: Path, opened: Open, encoded: Any) -> None:
        """A grant that cannot be read is none, and its nonce is taken all the same."""
        store = opened()
        (nonce,) = store.issue(NEXT)
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("UPDATE grants SET encoded = ifnull(?, 'NaN')", (encoded,))
        connection.close()
        try:
            grant = store.take(nonce)
        except TunedDigestError as error:
            raise AssertionError(nonce in str(error)) from error
        assert grant is None or grant.encode() == encoded
        assert store.take(nonce) is None

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(nonce=st.text() | st.text(st.characters(categories=["Cs"])))
    def test_whatever_is_presented(self, opened: Open, nonce: str) -> None:
        """Text of any kind is an unknown nonce, and a name that can be spent."""
        store = opened()
        assert store.take(nonce) is None
        store.spend(nonce, 60)
        assert store.spend(nonce, 60) is None
        store.close()
