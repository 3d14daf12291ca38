"""Fair turns: work is done in pieces, and whoever asks for much waits for its own.

Pieces are counted, time is not: each notes its name, and there is one place unless a test says otherwise.
"""

import itertools
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest

from tuned_digest import SearchCost, Work, proof
from tuned_digest._runtime import steps
from tuned_digest._runtime.limiter import Allowance, WorkLimiter
from tuned_digest._runtime.steps import Limited
from tuned_digest.errors import ProofAbandonedError, WorkTimeoutError
from tuned_digest.proof import Job, search
from tuned_digest.proof.engines import Portable

from .working import DRIVERS, HASH, PATIENCE, SEARCH, Held, Run, noting

KINDS = pytest.mark.parametrize("work", [HASH, SEARCH], ids=str)


def finished(first: Held, *futures: Future[str]) -> None:
    """Let the work go that holds the place, and wait for all that was queued behind it."""
    first.finish()
    for future in futures:
        future.result(PATIENCE)


def busy(limiter: WorkLimiter) -> Held:
    """Hold the limiter's one place with work of nobody's, so that a queue forms."""
    first = Held()
    limiter.submit(first.pieces(), HASH, "nobody")
    assert first.started.wait(PATIENCE)
    return first


@pytest.mark.parametrize("mine", [HASH, SEARCH], ids=["a hash", "a search"])
@pytest.mark.parametrize("theirs", [HASH, SEARCH], ids=["behind hashes", "behind searches"])
def test_a_share_waits_for_one_piece_of_anothers(theirs: Work, mine: Work) -> None:
    """However much one share has queued, in however many pieces, another's work is next but one."""
    limiter, story = WorkLimiter(1), list[str]()
    first = busy(limiter)
    futures = [limiter.submit(noting(story, "theirs", 20), theirs, "them") for _ in range(20)]
    futures.append(limiter.submit(noting(story, "mine"), mine, "me"))
    finished(first, *futures)
    assert story.index("mine") <= 1
    assert story.count("theirs") == 400


@pytest.mark.parametrize("mine", [HASH, SEARCH], ids=["a hash", "a search"])
def test_a_share_that_asks_for_both_kinds_has_one_turn(mine: Work) -> None:
    """A share that has hashes and searches queued does not have a turn for each kind."""
    limiter, story = WorkLimiter(1), list[str]()
    first = busy(limiter)
    futures = [
        limiter.submit(noting(story, "theirs", 5), (HASH, SEARCH)[number % 2], "them") for number in range(20)
    ]
    futures += [limiter.submit(noting(story, "mine"), mine, "me") for _ in range(5)]
    finished(first, *futures)
    turns = [place for place, name in enumerate(story) if name == "mine"]
    assert turns in ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9])


@KINDS
def test_work_that_comes_late_waits_no_longer(work: Work) -> None:
    """Work that comes while another share is in the middle of its own has the next turn but one."""
    limiter, story = WorkLimiter(1), list[str]()
    submitted: list[Future[str]] = []

    def long() -> Generator[None, None, str]:
        for number in range(100):
            story.append("theirs")
            if number == 50:
                submitted.append(limiter.submit(noting(story, "mine"), HASH, "me"))
            yield
        return "theirs"

    first = busy(limiter)
    futures = [limiter.submit(long(), work, "them")]
    futures += [limiter.submit(noting(story, "theirs", 10), work, "them") for _ in range(5)]
    finished(first, *futures, *submitted)
    assert story.index("mine") in (51, 52)


def test_turns_go_round_between_all_who_wait() -> None:
    """Of three shares with work in pieces each has every third turn."""
    limiter, story = WorkLimiter(1), list[str]()
    first = busy(limiter)
    futures = [
        limiter.submit(noting(story, name, 4), work, name)
        for name, work in (("a", SEARCH), ("b", HASH), ("c", SEARCH))
    ]
    finished(first, *futures)
    assert story == ["a", "b", "c"] * 4


@KINDS
def test_a_share_finishes_what_it_began(work: Work) -> None:
    """Work under way goes before what its own share has queued behind it."""
    limiter, story = WorkLimiter(1), list[str]()
    first = busy(limiter)
    futures = [limiter.submit(noting(story, name, 3), work, "me") for name in ("first", "second")]
    finished(first, *futures)
    assert story == ["first"] * 3 + ["second"] * 3


@pytest.mark.parametrize("places", [2, 4])
def test_searches_of_all_shares_run_one_at_a_time(places: int) -> None:
    """However many shares search, and whatever else runs, no two pieces of searches run at once."""
    limiter, lock = WorkLimiter(places), threading.Lock()
    started, go_on = threading.Semaphore(0), threading.Semaphore(0)
    running, most = 0, 0

    def pieces() -> Generator[None, None, str]:
        nonlocal running, most
        for _ in range(5):
            with lock:
                running += 1
                most = max(most, running)
            started.release()
            assert go_on.acquire(timeout=PATIENCE)
            with lock:
                running -= 1
            yield
        return "done"

    futures = [limiter.submit(pieces(), SEARCH, share % 4) for share in range(8)]
    assert [future.running() for future in futures].count(True) == 1
    digests = [Held() for _ in range(places - 1)]
    hashing = [limiter.submit(digest.pieces(), HASH, "me") for digest in digests]
    assert all(future.running() for future in hashing)
    for _ in range(8 * 5):
        assert started.acquire(timeout=PATIENCE)
        go_on.release()
    assert {future.result(PATIENCE) for future in futures} == {"done"}
    assert most == 1
    for digest in digests:
        digest.finish()


def test_a_search_does_not_hold_up_the_hashes_behind_it() -> None:
    """While one share searches, another's search is passed over, and its hash is not."""
    limiter, works = WorkLimiter(3), [Held(), Held(), Held()]
    loads = [(SEARCH, "them"), (SEARCH, "me"), (HASH, "me")]
    futures = [
        limiter.submit(work.pieces(), load, share) for work, (load, share) in zip(works, loads, strict=True)
    ]
    assert [future.running() for future in futures] == [True, False, True]
    works[0].finish()
    assert futures[1].running()
    for work in works[1:]:
        work.finish()


def test_bounds_hold_from_piece_to_piece() -> None:
    """Places and memory are counted for each piece anew, however the shares take turns."""
    limiter, lock, room = WorkLimiter(3), threading.Lock(), Allowance(memory_kib=20)
    running, most = 0, 0

    def pieces() -> Generator[None, None, str]:
        nonlocal running, most
        for _ in range(20):
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0)
            with lock:
                running -= 1
            yield
        return "done"

    futures = [limiter.submit(pieces(), HASH, share % 3, room) for share in range(9)]
    assert {future.result(PATIENCE) for future in futures} == {"done"}
    assert most <= 2  # of 8 KiB each
    works = [Held() for _ in range(3)]
    again = [limiter.submit(work.pieces(), HASH, allowance=room) for work in works]
    assert [future.running() for future in again] == [True, True, False]
    for work in works:
        work.finish()


def test_work_under_way_cannot_be_cancelled() -> None:
    """Between two pieces work has begun: its future says so, and it is done to its end."""
    limiter, story = WorkLimiter(1), list[str]()
    first, second = Held(), Held()

    def pieces() -> Generator[None, None, str]:
        yield from first.pieces()
        yield
        story.append("second piece")
        return "done"

    future = limiter.submit(pieces(), SEARCH, "them")
    limiter.submit(second.pieces(), HASH, "me")
    first.finish()
    assert second.started.wait(PATIENCE)
    assert (future.running(), future.cancel(), story) == (True, False, [])
    second.finish()
    assert future.result(PATIENCE) == "done"


@dataclass
class Counting(Portable):
    """An engine whose pieces are 256 tries, and that notes what it is asked to try."""

    tries_per_piece: int = 256
    tried: list[range] = field(default_factory=list)
    before_each: Callable[[], None] = lambda: None

    def search(self, string: bytes, *, bits: int, first: int, end: int, job: Job) -> int | None:
        """Note the numbers, and try them."""
        self.before_each()
        self.tried.append(range(first, end))
        return super().search(string, bits=bits, first=first, end=end, job=job)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """The engine that searches in this test."""
    engine = Counting()
    monkeypatch.setattr(search, "chosen", lambda: engine)
    return engine


@pytest.fixture
def limiter(monkeypatch: pytest.MonkeyPatch) -> WorkLimiter:
    """The process's limiter, with one place."""
    limiter = WorkLimiter(1)
    monkeypatch.setattr(steps, "process_limiter", lambda: limiter)
    return limiter


def test_a_search_goes_on_where_it_stopped(limiter: WorkLimiter, engine: Counting) -> None:
    """A search that takes turns tries each number once, and finds what it finds in one go."""
    cost, story = SearchCost(12), list[str]()
    in_one_go = proof.prove(b"string", cost, nonce="nonce", salt=b"")
    whole = [*engine.tried]
    assert len(whole) > 3
    engine.tried.clear()
    engine.before_each = lambda: story.append("search")
    first = busy(limiter)
    searching = limiter.submit(cost.prove(b"string", nonce="nonce", salt=b"", job=Job()), cost, "them")
    hashing = limiter.submit(noting(story, "hash", len(whole)), HASH, "me")
    finished(first, searching, hashing)
    assert searching.result() == in_one_go
    assert engine.tried == whole
    assert story == ["search", "hash"] * len(whole)
    assert whole[0].start == 0
    assert all(one.stop == following.start for one, following in itertools.pairwise(whole))


def searching(seconds: float | None = None, share: str = "them") -> Limited:
    """Search for what is found in years, as an exchange does."""
    job, cost = Job(), SearchCost(32)
    pieces = cost.prove(b"string", nonce="nonce", salt=b"", job=job)
    return Limited(pieces, cost, share=share, seconds=seconds, abandon=job.cancel)


@pytest.mark.parametrize("run", DRIVERS)
def test_an_abandoned_search_stops_at_its_next_piece(
    run: Run, limiter: WorkLimiter, engine: Counting
) -> None:
    """A search that nobody waits for any more tries no further piece to its end, and makes room."""
    between, story = Held(), list[str]()

    def take_the_next_turn() -> None:
        if not engine.tried:
            limiter.submit(between.pieces(), HASH, "me")

    engine.before_each = take_the_next_turn

    def waits() -> Generator[steps.Step, object, object]:
        return (yield searching(seconds=0.01))

    while not engine.tried:  # its time may be over before it has begun
        with pytest.raises(WorkTimeoutError):
            run(waits())  # in the end it waits for its second piece, behind the hash that was let in
    assert between.started.wait(PATIENCE)
    pieces_before = len(engine.tried)
    following = limiter.submit(noting(story, "following"), SEARCH, "me")
    between.finish()
    assert following.result(PATIENCE) == "following"
    assert len(engine.tried) <= pieces_before + 1


def test_an_abandoned_search_says_so(limiter: WorkLimiter, engine: Counting) -> None:
    """What is left of a search that was abandoned ends in an error that says why."""
    job, cost = Job(), SearchCost(32)
    engine.before_each = job.cancel
    future = limiter.submit(cost.prove(b"string", nonce="nonce", salt=b"", job=job), cost)
    with pytest.raises(ProofAbandonedError, match="nobody waits"):
        future.result(PATIENCE)
    assert len(engine.tried) == 1


@pytest.mark.parametrize("run", DRIVERS)
def test_abandoned_work_leaves_its_queue(run: Run, limiter: WorkLimiter, engine: Counting) -> None:
    """A search that has not begun when its time is over is never begun."""
    first = busy(limiter)

    def waits() -> Generator[steps.Step, object, object]:
        return (yield searching(seconds=0.01))

    with pytest.raises(WorkTimeoutError):
        run(waits())
    following = limiter.submit(noting([], "following"), SEARCH, "them")
    finished(first, following)
    assert engine.tried == []
