"""Section 7: the client's nonces."""

import copy
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import MemoryNonceCache, NextNonce, Origin, SearchCost, Terms
from tuned_digest._runtime import forks

from .clock import Clock

A, B = Origin.parse("https://a"), Origin.parse("https://b")
WORK = SearchCost(1)


def nonce(text: str, *scopes: str) -> NextNonce:
    """Make a next nonce, for reading unless said otherwise."""
    return NextNonce(text, Terms({WORK.scheme: WORK}, frozenset(scopes or ("read",))))


def taken(cache: MemoryNonceCache, origin: Origin = A, action: str = "read") -> str | None:
    """Take a nonce and show its text."""
    found = cache.take(origin, action)
    return found.nonce if found else None


def test_a_nonce_is_taken_once() -> None:
    """A nonce given away is gone."""
    cache = MemoryNonceCache()
    cache.remember(A, [nonce("n")])
    assert [taken(cache), taken(cache)] == ["n", None]


def test_the_newest_nonce_is_taken_first() -> None:
    """Of one scope the nonce that is furthest from going stale is used."""
    cache = MemoryNonceCache()
    cache.remember(A, [nonce("1"), nonce("2")])
    cache.remember(A, [nonce("3")])
    assert [taken(cache) for _ in range(4)] == ["3", "2", "1", None]


def test_the_newest_of_several_scopes_is_taken_first() -> None:
    """Of several scopes that fit an action, the one with the newest nonce gives it."""
    clock = Clock()
    cache = MemoryNonceCache(clock=clock)
    for now, one in enumerate((nonce("1", "read", "update"), nonce("2", "read"), nonce("3", "update"))):
        clock.now = float(now)
        cache.remember(A, [one])
    assert [taken(cache) for _ in range(3)] == ["2", "1", None]
    assert taken(cache, action="update") == "3"


def test_a_nonce_is_good_at_its_origin_and_for_its_scope() -> None:
    """Another origin or an action outside the scope gets nothing."""
    cache = MemoryNonceCache()
    cache.remember(A, [nonce("n", "create", "update")])
    assert taken(cache, B, "update") is None
    assert taken(cache, A, "read") is None
    assert taken(cache, A, "update") == "n"


def test_a_nonce_goes_stale() -> None:
    """A nonce is not used any more once its lifetime has passed, 23 hours by default."""
    clock = Clock()
    cache = MemoryNonceCache(clock=clock)
    cache.remember(A, [nonce("1"), nonce("2"), nonce("3", "read", "update")])
    clock.now = 82799.9
    assert taken(cache) is not None
    clock.now = 82800.0
    assert taken(cache) is None
    cache.remember(A, [nonce("4")])
    assert taken(cache) == "4"


def test_stale_nonces_of_one_scope_do_not_hide_another() -> None:
    """A fresh nonce is found whatever else has gone stale."""
    clock = Clock()
    cache = MemoryNonceCache(lifetime=10, clock=clock)
    cache.remember(A, [nonce("old", "read", "update"), nonce("older", "read", "debug")])
    clock.now = 5.0
    cache.remember(A, [nonce("fresh")])
    clock.now = 12.0
    assert [taken(cache), taken(cache)] == ["fresh", None]


def test_the_oldest_go_when_a_scope_is_full() -> None:
    """A scope holds so many nonces, and one pushed out is not stored again when replayed."""
    cache = MemoryNonceCache(per_scope=2)
    cache.remember(A, [nonce("1"), nonce("2"), nonce("3")])
    cache.remember(A, [nonce("1")])
    assert [taken(cache) for _ in range(3)] == ["3", "2", None]


def test_a_nonce_held_or_spent_is_not_stored_again() -> None:
    """A response replayed by a cache in between brings nothing."""
    cache = MemoryNonceCache()
    cache.remember(A, [nonce("n"), nonce("n"), nonce("n", "read", "update")])
    assert [taken(cache), taken(cache)] == ["n", None]
    cache.remember(A, [nonce("n")])
    assert taken(cache) is None


def test_a_challenges_nonce_is_spent_once() -> None:
    """A nonce can be sent in answer to a challenge once, and not after it was taken."""
    cache = MemoryNonceCache()
    assert [cache.spend(A, "n"), cache.spend(A, "n"), cache.spend(B, "n")] == [True, False, True]
    cache.remember(A, [nonce("m")])
    assert taken(cache) == "m"
    assert not cache.spend(A, "m")


def test_a_challenge_that_repeats_a_held_nonce_takes_it_away() -> None:
    """A nonce that answers a challenge is not given away a second time."""
    cache = MemoryNonceCache()
    cache.remember(A, [nonce("n", "read", "update"), nonce("m")])
    assert cache.spend(A, "n")
    assert [taken(cache), taken(cache)] == ["m", None]


def test_spent_nonces_are_remembered_up_to_a_bound() -> None:
    """Of the nonces spent at an origin the last 4096 are remembered."""
    cache = MemoryNonceCache()
    assert all(cache.spend(A, str(n)) for n in range(4097))
    assert not cache.spend(A, "1")
    assert cache.spend(A, "0")


def test_many_threads_take_every_nonce_once() -> None:
    """Threads taking at once get each nonce exactly once between them."""
    cache = MemoryNonceCache(per_scope=1000, per_origin_kib=1024)
    cache.remember(A, [nonce(str(n)) for n in range(400)])
    barrier = threading.Barrier(8)

    def take_all() -> list[str]:
        barrier.wait()
        return list(iter(lambda: taken(cache) or "", ""))

    with ThreadPoolExecutor(8) as pool:
        parts = [future.result() for future in [pool.submit(take_all) for _ in range(8)]]
    assert sorted(itertools.chain(*parts), key=int) == [str(n) for n in range(400)]


def test_a_forked_child_starts_without_nonces(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork nothing is held, and the lock is a new one, even one that a thread held at the fork."""
    is_asked, answer = threading.Event(), threading.Event()

    class Slow(Clock):
        def __call__(self) -> float:
            if threading.current_thread() is holder:
                is_asked.set()
                assert answer.wait(60)
            return super().__call__()

    cache = MemoryNonceCache(clock=Slow())
    holder = threading.Thread(target=cache.take, args=(A, "read"))  # asks for the time under the lock
    cache.remember(A, [nonce("n"), nonce("m")])
    holder.start()
    assert is_asked.wait(60)
    monkeypatch.setattr(forks, "generation", lambda: -1)
    assert taken(cache) is None
    cache.remember(A, [nonce("own")])
    assert taken(cache) == "own"
    answer.set()
    holder.join(60)


def test_the_threads_of_a_forked_child_share_its_nonces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that use a cache first in a child do not spend one nonce both."""
    cache, lock = MemoryNonceCache(), threading.Lock
    is_slow, others_are_done = threading.Event(), threading.Event()
    spent: list[bool] = []

    def make() -> object:
        if threading.current_thread() is slow:
            is_slow.set()
            assert others_are_done.wait(60)
        return lock()

    slow = threading.Thread(target=lambda: spent.append(cache.spend(A, "n")))
    cache.remember(A, [nonce("n")])
    monkeypatch.setattr(forks, "generation", lambda: -1)
    monkeypatch.setattr(threading, "Lock", make)
    slow.start()
    assert is_slow.wait(60)
    spent.append(cache.spend(A, "n"))
    others_are_done.set()
    slow.join(60)
    assert spent == [True, False]


def test_a_copy_starts_without_nonces() -> None:
    """A deep copy has the same settings and none of the nonces."""
    clock = Clock()
    cache = MemoryNonceCache(per_scope=1, lifetime=10, clock=clock)
    cache.remember(A, [nonce("n")])
    copied = copy.deepcopy(cache)
    assert taken(copied) is None
    copied.remember(A, [nonce("1"), nonce("2")])
    clock.now = 9.0
    assert [taken(copied), taken(copied)] == ["2", None]
    assert taken(cache) == "n"


def test_a_cache_shows_no_nonce() -> None:
    """The repr of a cache says its bounds and nothing it holds."""
    cache = MemoryNonceCache(per_scope=3, lifetime=10)
    cache.remember(A, [nonce("secret0")])
    assert repr(cache) == "MemoryNonceCache(per_scope=3, lifetime=10)"


_TEXTS = st.sampled_from("abcdefgh")
_SCOPES = st.sampled_from(((), ("read",), ("update",), ("read", "update"), ("read", "update", "create")))
_ORIGINS = st.sampled_from((A, B))
_MOVES = st.one_of(
    st.tuples(st.just("remember"), _ORIGINS, st.lists(st.tuples(_TEXTS, _SCOPES), max_size=4)),
    st.tuples(st.just("take"), _ORIGINS, st.sampled_from(("read", "update", "create"))),
    st.tuples(st.just("spend"), _ORIGINS, _TEXTS),
    st.tuples(st.just("wait"), _ORIGINS, st.integers(1, 9)),
)


@given(st.lists(_MOVES, max_size=60), st.integers(1, 3), st.sampled_from((1, 6, 12, 256)), st.integers(2, 20))
def test_no_history_gives_a_nonce_twice(
    moves: list[tuple[str, Origin, Any]], per_scope: int, per_origin_kib: int, lifetime: int
) -> None:
    """Whatever is remembered, taken, spent and dropped, no nonce of an origin leaves the cache twice."""
    clock = Clock()
    cache = MemoryNonceCache(
        per_scope=per_scope, lifetime=lifetime, per_origin_kib=per_origin_kib, clock=clock
    )
    sent: list[tuple[Origin, str]] = []
    for move, origin, what in moves:
        if move == "remember":
            cache.remember(origin, [nonce(text, *scopes) for text, scopes in what])
        elif move == "take" and (found := cache.take(origin, what)):
            assert what in found.terms.scopes
            sent.append((origin, found.nonce))
        elif move == "spend" and cache.spend(origin, what):
            sent.append((origin, what))
        elif move == "wait":
            clock.now += what
    assert len(sent) == len(set(sent))


@given(st.lists(_TEXTS, max_size=20), st.integers(1, 8))
def test_every_nonce_of_an_honest_chain_is_given_once(texts: list[str], per_scope: int) -> None:
    """Of all that was remembered the newest are given, newest first, and each of them once."""
    cache = MemoryNonceCache(per_scope=per_scope)
    for text in texts:
        cache.remember(A, [nonce(text)])
    newest = list(dict.fromkeys(texts))[::-1][:per_scope]
    assert [taken(cache) for _ in range(len(newest) + 1)] == [*newest, None]
