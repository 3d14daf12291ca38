"""What the client's cache keeps has a size, whatever a server sends."""

import copy
import gc
import itertools
import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest

from tuned_digest import ArgumentError, MemoryNonceCache, NextNonce, Origin, SearchCost, Terms
from tuned_digest._wire.challenge import NextNonceReader
from tuned_digest._wire.grammar import ACTIONS, NONCE_LIMIT

from .clock import Clock

A, B = Origin.parse("https://a"), Origin.parse("https://b")
TERMS = Terms({SearchCost.scheme: SearchCost(1)}, frozenset({"read"}))
SCOPES = [",".join(scope) for size in range(1, 7) for scope in itertools.combinations(ACTIONS, size)]
# Many nonces in one scope after another, and one more in each that came before, which keeps it.
KEPT_SCOPES = [scope for k, last in enumerate(SCOPES) for scope in [*[last] * 64, *SCOPES[:k]]]
SPENT_KIB = 896  # what may be kept of one origin's spent nonces, beside what is held


def remember(cache: MemoryNonceCache, origin: Origin, *texts: str) -> None:
    """Remember nonces for reading."""
    cache.remember(origin, [NextNonce(text, TERMS) for text in texts])


def taken(cache: MemoryNonceCache, origin: Origin) -> str | None:
    """Take a nonce for reading, and show its text."""
    found = cache.take(origin, "read")
    return found.nonce if found else None


def origins(number: int) -> list[Origin]:
    """Name so many origins."""
    return [Origin("https", f"h{n}", 443) for n in range(number)]


def test_origins_are_remembered_up_to_a_bound() -> None:
    """Of more than 256 origins the least recently used is forgotten; taking a nonce is a use."""
    cache, known = MemoryNonceCache(), origins(257)
    for origin in known[:256]:
        remember(cache, origin, "1", "2")
    assert taken(cache, known[0]) == "2"
    remember(cache, known[256], "1")
    assert taken(cache, known[0]) == "1"
    assert taken(cache, known[1]) is None


@pytest.mark.parametrize("name", ["per_scope", "lifetime", "per_origin_kib", "total_kib"])
@pytest.mark.parametrize("number", [0, -1])
def test_bounds_are_positive(name: str, number: int) -> None:
    """A cache that could hold nothing is an error at once."""
    with pytest.raises(ArgumentError, match="positive"):
        MemoryNonceCache(**{name: number})  # type: ignore[arg-type]  # none of the four is the clock


def values(number: int, size: int = NONCE_LIMIT, scopes: list[str] = SCOPES) -> Iterator[str]:
    """Write next nonces as large as they may be, each with terms of its own, in all scopes."""
    for count in range(number):
        nonce = f"{count:07d}".ljust(size, "x")
        works = f"argon=$argon2d$v=19$m={300 + count},t={300 + count},p=1;blake3={count % 32 + 1}"
        yield f"nextnonce={nonce};{works};scopes={scopes[count % len(scopes)]}"


def flood(cache: MemoryNonceCache, origin: Origin, written: Iterator[str]) -> None:
    """Have a server send next nonces, sixteen with each response."""
    reader = NextNonceReader()
    while response := list(itertools.islice(written, 16)):
        nonces, dropped = reader.read(response)
        assert (len(nonces), dropped) == (len(response), [])
        cache.remember(origin, nonces)


def measured_kib(cache: MemoryNonceCache, floods: dict[Origin, Iterator[str]]) -> float:
    """Measure the memory that a cache keeps of what it was sent."""
    gc.collect()
    tracemalloc.start()
    try:
        for origin, written in floods.items():
            flood(cache, origin, written)
        del floods
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / 1024
    finally:
        tracemalloc.stop()


HOSTILE: dict[str, Callable[[int], Iterable[str]]] = {
    "long": values,
    "short": lambda number: values(number, size=8),
    "large scopes": lambda number: values(number, scopes=SCOPES[-7:]),
    "many scopes": lambda number: values(number, size=8, scopes=KEPT_SCOPES),
    "scope after scope": lambda number: sorted(values(number), key=lambda value: value.rpartition("=")[2]),
}


@pytest.mark.parametrize("number", [150, 6000])
@pytest.mark.parametrize("kind", HOSTILE)
def test_one_hostile_origin_takes_its_share_of_memory_and_no_more(kind: str, number: int) -> None:
    """However many nonces come, what is kept stays within the origin's memory and that of spent ones."""
    cache = MemoryNonceCache()
    kept = measured_kib(cache, {A: iter(HOSTILE[kind](number))})
    assert kept <= 256 + min(number * SPENT_KIB / 4096, SPENT_KIB)


def test_the_memory_of_an_origin_is_a_setting() -> None:
    """A smaller share holds fewer nonces, and a larger one more."""
    for per_origin_kib in (16, 64, 1024):
        cache = MemoryNonceCache(per_origin_kib=per_origin_kib)
        assert measured_kib(cache, {A: values(1500)}) <= per_origin_kib + 1500 * SPENT_KIB / 4096
        held = sum(cache.take(A, action) is not None for action in ACTIONS for _ in range(2000))
        assert per_origin_kib / 8 <= held <= per_origin_kib


def test_256_hostile_origins_take_the_caches_memory_and_no_more() -> None:
    """However many origins flood the cache, what is kept stays within the memory of all."""
    cache = MemoryNonceCache(total_kib=4096)
    kept = measured_kib(cache, {origin: values(60) for origin in origins(256)})
    assert 1024 <= kept <= 4096


def test_spent_nonces_take_the_caches_memory_and_no_more() -> None:
    """What is kept of the nonces that were sent counts too, however busy the origins are."""
    cache, known = MemoryNonceCache(total_kib=1700), origins(4)
    gc.collect()
    tracemalloc.start()
    try:
        for origin in known:
            flood(cache, origin, values(64))
            for count in range(6000):
                assert cache.spend(origin, f"{count}")
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] / 1024
    finally:
        tracemalloc.stop()
    assert 512 <= kept <= 1700
    assert not cache.spend(known[-1], "5999")


def test_the_origins_not_used_for_longest_are_forgotten_first() -> None:
    """Where the memory of all is used up, the origins that nobody asked for make room."""
    known = origins(8)
    in_order = [*known[3:], *known[:3]]

    def forgotten(newcomers: int) -> set[Origin]:
        cache = MemoryNonceCache(total_kib=128)
        for origin in known:
            remember(cache, origin, "1", "2", "3")
        assert taken(cache, known[0]) == "3"
        assert cache.spend(known[1], "challenge")
        remember(cache, known[2], "4")
        for number in range(newcomers):
            remember(cache, Origin("https", f"n{number}", 443), "1", "2", "3")
        return {origin for origin in known if taken(cache, origin) is None}

    gone = [forgotten(newcomers) for newcomers in range(20)]
    assert gone == [set(in_order[: len(one)]) for one in gone]
    assert [len(one) for one in gone] == sorted(len(one) for one in gone)
    assert (gone[0], gone[-1]) == (set(), set(known))


def test_an_origin_that_needs_more_than_all_keeps_its_own() -> None:
    """The origin in use is never forgotten, however small the memory of all is."""
    cache = MemoryNonceCache(total_kib=1)
    remember(cache, A, "1", "2")
    assert taken(cache, A) == "2"
    remember(cache, B, "1")
    assert (taken(cache, A), taken(cache, B)) == (None, "1")


def test_the_oldest_nonces_of_an_origin_go_first() -> None:
    """Where the memory of one origin is used up, the newest of its nonces stay, whatever their scopes."""
    clock = Clock()
    cache = MemoryNonceCache(per_origin_kib=64, clock=clock)
    for number, value in enumerate(values(300, scopes=["read", "update", "read,update"])):
        clock.now = float(number)
        flood(cache, A, iter([value]))
    found = list(iter(lambda: cache.take(A, "read") or cache.take(A, "update"), None))
    numbers = sorted(int(one.nonce[:7]) for one in found if one)
    assert numbers == list(range(300 - len(numbers), 300))
    assert 10 < len(numbers) < 64


def test_a_hostile_origin_pushes_no_other_origins_chain_out() -> None:
    """Whatever one origin sends, another's nonces are there, and those it was sent before are not stored."""
    cache = MemoryNonceCache()
    for number in range(64):
        remember(cache, A, f"honest {number}")
    assert taken(cache, A) == "honest 63"
    flood(cache, B, values(20_000))
    for number in range(20_000):
        cache.spend(B, f"{number}")
    remember(cache, A, "honest 63")
    assert [taken(cache, A) for _ in range(64)] == [*(f"honest {n}" for n in reversed(range(63))), None]


def test_a_copy_has_the_same_bounds() -> None:
    """A deep copy keeps no more than its original does."""
    cache = copy.deepcopy(MemoryNonceCache(per_origin_kib=16, total_kib=16))
    flood(cache, A, values(100))
    remember(cache, B, "1")
    assert taken(cache, A) is None
    flood(cache, B, values(100))
    held = sum(cache.take(B, action) is not None for action in ACTIONS for _ in range(100))
    assert 0 < held <= 16
