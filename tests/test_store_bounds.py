"""What a memory store may take: a share for each identity, so many nonces, so many bytes."""

import secrets
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tuned_digest import ArgumentError
from tuned_digest._base64 import encode_base64
from tuned_digest.errors import StoreUnavailableError
from tuned_digest.proof import Tuning
from tuned_digest.server import Grant, MemoryNonceStore
from tuned_digest.server.stores import memory
from tuned_digest.server.stores._fair_pool import FairPool
from tuned_digest.server.stores._spent_names import SpentNames

from .clock import Clock
from .driving import ACCESS
from .verifying import BOTH

READ = frozenset({"read"})
CREATE = frozenset({"create"})


def following(identity: str, scope: frozenset[str] = READ) -> Grant:
    """Make the grant of a next nonce."""
    return Grant(BOTH, scope, chained=True, identity=identity)


CHALLENGED = Grant(BOTH, READ, chained=False)


def held(store: MemoryNonceStore, nonces: list[str]) -> list[bool]:
    """Find out which nonces a store still holds, which takes them."""
    return [store.take(nonce) is not None for nonce in nonces]


def test_a_flood_under_one_key_leaves_other_chains_unbroken() -> None:
    """20,100 accepted requests of one key leave an honest client's nonces in a store of 20,000."""
    store = MemoryNonceStore(capacity=20_000)
    honest = store.issue(following("honest"), following("honest", CREATE))
    for _ in range(20_100):
        store.issue(following("attacker"), following("attacker", CREATE))
    assert held(store, honest) == [True, True]


def test_an_identity_loses_its_own_oldest() -> None:
    """Beyond the quota an identity's oldest nonce of that scope goes, and no other."""
    store = MemoryNonceStore(quota=2)
    others = store.issue(following("other"), following("one", CREATE), CHALLENGED)
    nonces = store.issue(*[following("one")] * 3)
    assert held(store, nonces) == [False, True, True]
    assert held(store, others) == [True, True, True]


def test_a_full_store_takes_from_who_has_most() -> None:
    """A full store loses the oldest nonce of the identity that has most, though others have older ones."""
    store = MemoryNonceStore(capacity=5)
    first = store.issue(following("a"), following("b"))
    most = store.issue(*[following("c")] * 3)
    store.issue(following("d"))
    assert held(store, most) == [False, True, True]
    assert held(store, first) == [True, True]


def test_among_equals_the_one_who_got_there_first_loses() -> None:
    """Where all have one nonce each, a full store loses the oldest."""
    store = MemoryNonceStore(capacity=3)
    nonces = [store.issue(following(name))[0] for name in "abcd"]
    assert held(store, nonces) == [False, True, True, True]


def test_a_pool_finds_places_again() -> None:
    """A pool that lost or gave away nonces takes as many again, for the same holders and for others."""
    pool = FairPool(3, 2, 10)
    for number in range(50):
        pool.put(f"{number}", following(f"{number % 7}"), 0.0)
        if number % 3 == 0:
            assert pool.take(f"{number}", 0.0) == following("")
    assert len(pool) == 3


def test_equal_grants_are_kept_once() -> None:
    """Nonces of one price share one grant, which names nobody; a pool forgets prices of long ago."""
    store = MemoryNonceStore()
    one, two = store.issue(following("a"), following("b"))
    taken = store.take(one)
    assert taken is not None
    assert taken.identity == ""
    assert store.take(two) is taken
    for cost in range(1, 1100):
        store.issue(Grant({ACCESS.scheme: Tuning("argon2d", 8 + cost, 1, 1)}, READ, chained=True))
    (late,) = store.issue(following("a"))
    again = store.take(late)
    assert again == taken
    assert again is not taken


def test_a_dear_grant_between_cheap_ones_is_kept_as_it_is() -> None:
    """Grants of one scope and different prices are told apart."""
    dear = Grant({ACCESS.scheme: ACCESS}, READ, chained=True, identity="a")
    store = MemoryNonceStore()
    nonces = store.issue(following("a"), dear, following("a"), dear)
    assert [store.take(nonce) for nonce in nonces] == [following(""), dear, following(""), dear]


def test_stale_nonces_go_in_small_bites() -> None:
    """Each nonce put in removes two stale ones at most, so that no request pays for all of them."""
    pool = FairPool(100, 100, 10)
    for number in range(10):
        pool.put(f"{number}", following("a"), 0.0)
    pool.put("x", following("a"), 10.0)
    assert len(pool) == 9
    assert pool.take("9", 10.0) is None
    assert pool.take("x", 10.0) is not None


def test_stale_nonces_go_before_others() -> None:
    """A full store drops what is stale, and nothing else."""
    clock = Clock()
    store = MemoryNonceStore(capacity=3, lifetime=10, clock=clock)
    store.issue(following("a"))
    clock.now = 5.0
    fresh = store.issue(following("b"), following("b"))
    clock.now = 10.0
    fresh += store.issue(following("c"))
    assert held(store, fresh) == [True, True, True]


def test_all_kinds_fit_into_the_bytes_allowed() -> None:
    """A store that would take more bytes than allowed keeps fewer of everything, in proportion."""
    counted = 448 * (400 + 200) + 384 * 100
    store = MemoryNonceStore(
        capacity=400, challenge_capacity=200, spent_capacity=100, max_bytes=counted // 2, quota=1000
    )
    nonces = store.issue(*[following("a")] * 400)
    challenges = store.issue(*[CHALLENGED] * 200)
    assert sum(held(store, nonces)) == 200
    assert sum(held(store, challenges)) == 100
    for number in range(50):
        assert store.spend(f"{number}", 60)
    with pytest.raises(StoreUnavailableError):
        store.spend("50", 60)


def test_bytes_for_less_than_one_nonce_are_an_error() -> None:
    """A store that could keep nothing of a kind says so at once."""
    with pytest.raises(ArgumentError, match="not enough for one nonce"):
        MemoryNonceStore(max_bytes=1000)


def test_spent_names_are_never_forgotten_for_others() -> None:
    """A store full of spent names refuses new ones and says when there will be room."""
    clock = Clock()
    store = MemoryNonceStore(spent_capacity=2, clock=clock)
    assert store.spend("a", 30)
    assert store.spend("b", 90)
    with pytest.raises(StoreUnavailableError, match="2 spent nonces") as refused:
        store.spend("c", 30)
    assert refused.value.retry_after == 60
    assert store.spend("a", 30) is None
    clock.now = 29.9
    assert store.spend("a", 30) is None
    clock.now = 60.0
    assert store.spend("c", 30)
    assert store.spend("b", 30) is None
    clock.now = 120.0
    assert store.spend("b", 30)


def test_spent_names_are_forgotten_in_small_bites() -> None:
    """Each name spent removes two that are over at most."""
    names = SpentNames(100)
    for number in range(10):
        names.spend(f"{number}", 60, 0.0)
    assert names.spend("x", 60, 60.0)
    assert len(names) == 9


def test_every_store_has_an_epoch_of_its_own() -> None:
    """Another store, which has other spent names, has another epoch."""
    assert MemoryNonceStore().spend("a", 60) != MemoryNonceStore().spend("a", 60)


def grown(add: Callable[[int], None]) -> float:
    """Measure the most bytes that one of 30,000 takes, on average, at any time after the first 2,000."""
    tracemalloc.start()
    try:
        before, most = tracemalloc.get_traced_memory()[0], 0.0
        for number in range(1, 30_001):
            add(number)
            if number >= 2000 and number % 100 == 0:
                most = max(most, (tracemalloc.get_traced_memory()[0] - before) / number)
    finally:
        tracemalloc.stop()
    return most


def drawn() -> str:
    """Make 32 random bytes of base64, an object of its own."""
    return encode_base64(secrets.token_bytes(32))


def test_a_nonce_takes_the_bytes_it_counts_as() -> None:
    """With a holder for each nonce, the worst case, a nonce takes no more than it counts as."""
    pool = FairPool(1_000_000, 1024, 86400)
    assert grown(lambda _: pool.put(drawn(), following(drawn()), 0.0)) <= memory._NONCE_BYTES


def test_a_spent_name_takes_the_bytes_it_counts_as() -> None:
    """A name of the longest size takes no more than it counts as, whenever its time ends."""
    names = SpentNames(1_000_000)

    def spend(number: int) -> None:
        names.spend(secrets.token_hex(64), number * 7919 % 86400, 0.0)

    assert grown(spend) <= memory._NAME_BYTES


class Pool(RuleBasedStateMachine):
    """Compare a pool with a model that is a list, and searches all of it."""

    CAPACITY, QUOTA, LIFETIME = 6, 3, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.pool = FairPool(self.CAPACITY, self.QUOTA, self.LIFETIME)
        self.now = 0.0
        self.count = 0
        self.model: list[tuple[str, tuple[str, frozenset[str]], float]] = []
        self.reached: list[tuple[str, frozenset[str]]] = []  # holders, by their last change of size

    def size(self, holder: tuple[str, frozenset[str]]) -> int:
        """Count what a holder has."""
        return sum(owner == holder for _, owner, _ in self.model)

    def lose(self, entry: tuple[str, tuple[str, frozenset[str]], float]) -> None:
        """Remove an entry."""
        self.model.remove(entry)
        self.note(entry[1])

    def note(self, holder: tuple[str, frozenset[str]]) -> None:
        """Note that a holder's size has changed."""
        self.reached = [*(other for other in self.reached if other != holder), holder]

    def oldest_of(self, holder: tuple[str, frozenset[str]]) -> tuple[str, tuple[str, frozenset[str]], float]:
        """Find a holder's oldest entry."""
        return next(entry for entry in self.model if entry[1] == holder)

    @rule(name=st.sampled_from("abcd"), scope=st.sampled_from([READ, CREATE]))
    def put(self, name: str, scope: frozenset[str]) -> None:
        """Put a nonce in."""
        holder = (name, scope)
        for entry in [entry for entry in self.model if entry[2] <= self.now][:2]:
            self.lose(entry)
        if self.size(holder) >= self.QUOTA:
            self.lose(self.oldest_of(holder))
        elif len(self.model) >= self.CAPACITY:
            most = max(self.size(owner) for _, owner, _ in self.model)
            self.lose(self.oldest_of(next(owner for owner in self.reached if self.size(owner) == most)))
        self.count += 1
        self.model.append((f"{self.count}", holder, self.now + self.LIFETIME))
        self.note(holder)
        self.pool.put(f"{self.count}", following(name, scope), self.now)

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        """Take a nonce that was put in at some time."""
        nonce = f"{data.draw(st.integers(0, self.count))}"
        expected = None
        for entry in [entry for entry in self.model if entry[0] == nonce]:
            expected = following("", entry[1][1]) if entry[2] > self.now else None
            self.lose(entry)
        assert self.pool.take(nonce, self.now) == expected

    @rule(seconds=st.floats(0.5, 6))
    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds

    @invariant()
    def holds_the_same(self) -> None:
        """The pool holds as many nonces as the model."""
        assert len(self.pool) == len(self.model) <= self.CAPACITY


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
