"""Sealed nonces: what they say, who takes them, and how often."""

import base64
import multiprocessing
import secrets
import sys
from collections.abc import Callable
from typing import Any

import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError, Tuning
from tuned_digest.errors import StoreUnavailableError
from tuned_digest.proof import SearchCost, Work
from tuned_digest.server import Grant, MemoryNonceStore
from tuned_digest.server.stores import _sealing, stateless
from tuned_digest.server.stores._window import Window
from tuned_digest.server.stores.stateless import AsyncStatelessNonceStore, StatelessNonceStore

from .clock import Clock
from .driving import ACCESS, result_of
from .verifying import ARGON, BOTH, EVERY_ACTION, SEARCH

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
NEXT = Grant(BOTH, EVERY_ACTION, chained=True)
CHALLENGE = Grant({ACCESS.scheme: ACCESS}, frozenset({"read"}), chained=False)


class Spent:
    """A spent store of one's own: it tells its epoch, what it was asked, and fails when it is told to."""

    blocks = True

    def __init__(self) -> None:
        self.epoch = "first"
        self.names: dict[str, float] = {}
        self.fails = False

    def spend(self, name: str, seconds: float, /) -> str | None:
        """Remember a name."""
        if self.fails:
            raise StoreUnavailableError("down")
        if name in self.names:
            return None
        self.names[name] = seconds
        return self.epoch


class AwaitedSpent(Spent):
    """The same, reached by awaiting, with an async check at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0

    async def start(self) -> None:
        """Count the checks."""
        self.starts += 1

    async def spend(self, name: str, seconds: float, /) -> str | None:  # type: ignore[override]
        """Remember a name."""
        return super().spend(name, seconds)


class Twin:
    """Either kind of store over a spent store, called alike."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.store: Any
        self.spent: Spent
        if kind == "sync":
            self.spent = Spent()
            self.store = StatelessNonceStore([KEY], spent=self.spent, **options)
        else:
            self.spent = awaited = AwaitedSpent()
            self.store = AsyncStatelessNonceStore([KEY], spent=awaited, **options)

    def issue(self, *grants: Grant) -> list[str]:
        """Issue nonces."""
        nonces: Any = result_of(self.store.issue(*grants))
        return list(nonces)

    def take(self, nonce: str) -> object:
        """Take a nonce."""
        return result_of(self.store.take(nonce))

    def start(self) -> None:
        """Check the store."""
        result_of(self.store.start())


both_kinds = pytest.mark.parametrize("kind", ["sync", "async"])

tunings = st.builds(
    Tuning,
    st.sampled_from(["argon2d", "argon2i", "argon2id"]),
    st.integers(8, 2**20),
    st.integers(1, 99),
    st.just(1),
)


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    """Draw any grant."""
    prices: dict[str, Work] = {}
    schemes = draw(st.sampled_from([{ARGON}, {SEARCH}, {ARGON, SEARCH}]))
    if ARGON in schemes:
        prices[ARGON] = draw(tunings)
    if SEARCH in schemes:
        prices[SEARCH] = SearchCost(draw(st.integers(1, 32)))
    scope = draw(st.sets(st.sampled_from(sorted(EVERY_ACTION)), min_size=1))
    return Grant(prices, frozenset(scope), chained=draw(st.booleans()))


STORE = StatelessNonceStore([KEY], window=64)


def octets_of(nonce: str) -> bytes:
    """Decode a nonce."""
    return base64.b64decode(nonce + "=" * (-len(nonce) % 4))


def text_of(octets: bytes) -> str:
    """Encode bytes as a nonce."""
    return base64.b64encode(octets).decode().rstrip("=")


@given(grants())
def test_a_nonce_says_what_it_is_good_for(grant: Grant) -> None:
    """Any grant is sealed into 32 to 96 bytes, and comes out as it went in, once."""
    (nonce,) = STORE.issue(grant)
    assert 56 <= len(octets_of(nonce)) <= 84
    assert STORE.take(nonce) == grant
    assert STORE.take(nonce) is None


@given(st.text(max_size=200) | st.binary(max_size=120).map(text_of))
def test_any_text_is_unknown(text: str) -> None:
    """What nobody sealed gives nothing, and is no error."""
    assert STORE.take(text) is None


@given(st.binary(max_size=90))
def test_anything_under_a_known_key_is_unknown(octets: bytes) -> None:
    """To know a key's name and an instance's helps nobody to make a nonce."""
    head = octets_of(STORE.issue(NEXT)[0])[:16]
    assert STORE.take(text_of(head + octets)) is None
    assert STORE.take(text_of(head[:4] + octets)) is None


@given(grants(), st.data())
def test_a_nonce_with_any_bit_flipped_is_unknown(grant: Grant, data: st.DataObject) -> None:
    """Whatever bit is changed, the nonce is unknown, and the right one is still good."""
    (nonce,) = STORE.issue(grant)
    octets = bytearray(octets_of(nonce))
    bit = data.draw(st.integers(0, 8 * len(octets) - 1))
    octets[bit // 8] ^= 1 << bit % 8
    assert STORE.take(text_of(bytes(octets))) is None
    assert STORE.take(nonce) == grant


def test_nonces_are_never_sealed_alike() -> None:
    """Of one grant each nonce has another number, and none shows what it says."""
    nonces = [octets_of(nonce) for nonce in STORE.issue(*[NEXT] * 20)]
    assert len({nonce[:22] for nonce in nonces}) == 20
    assert not any(NEXT.encode() in nonce for nonce in nonces)


@pytest.mark.parametrize(("grant", "lifetime"), [(NEXT, 86400.0), (CHALLENGE, 300.0)])
def test_a_nonce_goes_stale(grant: Grant, lifetime: float) -> None:
    """A next nonce is good for 24 hours, a challenge's for five minutes, and not a moment longer."""
    clock = Clock()
    store = StatelessNonceStore([KEY], clock=clock)
    one, two = store.issue(grant, grant)
    clock.now = lifetime - 0.1
    assert store.take(one) == grant
    clock.now = lifetime
    assert store.take(two) is None


@both_kinds
def test_a_nonce_from_the_future_is_refused(kind: str) -> None:
    """A clock may go 60 seconds ahead; a nonce that would last longer than that allows is unknown."""
    clock = Clock()
    to = Twin(kind, clock=clock)
    clock.now = 1060.0
    one, two = to.issue(CHALLENGE, CHALLENGE)
    clock.now = 999.9
    assert to.take(one) is None
    clock.now = 1000.0
    assert to.take(two) == CHALLENGE


def test_keys_rotate() -> None:
    """The first key seals, all open, and a nonce of a key that is gone is unknown."""
    spent = MemoryNonceStore()
    old = StatelessNonceStore([KEY], spent=spent)
    both = StatelessNonceStore([OTHER_KEY, KEY], spent=spent)
    new = StatelessNonceStore([OTHER_KEY], spent=spent)
    of_old, again = old.issue(NEXT, NEXT)
    (of_both,) = both.issue(NEXT)
    assert new.take(of_old) is None
    assert old.take(of_both) is None
    assert both.take(of_old) == NEXT
    assert new.take(of_both) == NEXT
    assert old.take(again) == NEXT


def test_a_namespace_separates_servers_that_share_keys() -> None:
    """Another namespace's nonce is unknown, under the same keys and the same spent store."""
    spent = MemoryNonceStore()
    one = StatelessNonceStore([KEY], spent=spent, namespace="one")
    other = StatelessNonceStore([KEY], spent=spent, namespace="other")
    (nonce,) = one.issue(NEXT)
    assert other.take(nonce) is None
    assert one.take(nonce) == NEXT


def test_without_a_spent_store_a_nonce_is_good_in_its_own_process() -> None:
    """Another instance under the same key, as after a restart, takes no nonce of the first."""
    (nonce,) = STORE.issue(NEXT)
    assert StatelessNonceStore([KEY]).take(nonce) is None
    assert STORE.take(nonce) == NEXT


def test_the_oldest_are_retired() -> None:
    """Beyond the window the oldest next nonce is unknown; a flood of challenges retires none."""
    store = StatelessNonceStore([KEY], window=3)
    nonces = store.issue(*[NEXT] * 4)
    store.issue(*[CHALLENGE] * 50)
    assert [store.take(nonce) is not None for nonce in nonces] == [False, True, True, True]


@given(st.integers(1, 20), st.lists(st.integers(-1, 60), max_size=150))
def test_a_window_knows_what_was_taken(size: int, moves: list[int]) -> None:
    """Each number of the window is taken once, however often numbers are added and taken between."""
    window, added, taken = Window(size), 0, set[int]()
    for move in moves:
        if move < 0 or move >= added:
            window.add()
            added += 1
        else:
            assert window.take(move) == (move >= added - size and move not in taken)
            taken.add(move)


@both_kinds
def test_a_nonce_is_spent_until_it_is_stale_everywhere(kind: str) -> None:
    """A short name is remembered for what is left of the lifetime, and 60 s more, in case of slow clocks."""
    clock = Clock()
    to = Twin(kind, clock=clock)
    (nonce,) = to.issue(CHALLENGE)
    to.spent.names.clear()
    clock.now = 100.0
    assert to.take(nonce) == CHALLENGE
    assert to.take(nonce) is None
    ((name, seconds),) = to.spent.names.items()
    assert len(name) == 24
    assert seconds == 260


@both_kinds
def test_nothing_is_spent_for_what_is_not_good(kind: str) -> None:
    """Forged, stale and foreign nonces cost the spent store nothing."""
    clock = Clock()
    to = Twin(kind, clock=clock)
    (stale,) = to.issue(CHALLENGE)
    clock.now = 300.0
    asked = len(to.spent.names)
    for nonce in (stale, "A" * 100, "A" * 512, stale[:-1]):
        assert to.take(nonce) is None
    assert len(to.spent.names) == asked


@both_kinds
def test_a_spent_store_that_has_forgotten_brings_no_nonce_back(kind: str) -> None:
    """A nonce of another epoch is unknown; new ones are sealed in the epoch that was last told."""
    to = Twin(kind)
    spent, other = to.issue(NEXT, NEXT)
    assert to.take(spent) == NEXT
    to.spent.epoch = "second"
    to.spent.names.clear()
    assert to.take(spent) is None
    assert to.take(other) is None
    (nonce,) = to.issue(NEXT)
    assert to.take(nonce) == NEXT


@both_kinds
def test_the_epoch_is_asked_for_once(kind: str) -> None:
    """Issuing asks the spent store for its epoch before the first nonce, and never again."""
    to = Twin(kind)
    to.start()
    assert len(to.spent.names) == 1
    to.spent.fails = True
    assert len(to.issue(NEXT, CHALLENGE)) == 2
    if isinstance(to.spent, AwaitedSpent):
        assert to.spent.starts == 1


@both_kinds
def test_a_spent_store_out_of_reach_is_an_error(kind: str) -> None:
    """Neither a first nonce nor a taken one comes from a store that cannot say whether it was spent."""
    to = Twin(kind)
    to.spent.fails = True
    for call in (to.start, lambda: to.issue(NEXT)):
        with pytest.raises(StoreUnavailableError):
            call()
    to.spent.fails = False
    (nonce,) = to.issue(NEXT)
    to.spent.fails = True
    with pytest.raises(StoreUnavailableError):
        to.take(nonce)
    to.spent.fails = False
    assert to.take(nonce) == NEXT


def test_starting_starts_the_spent_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spent store makes its own checks, which a memory store fails beside another worker."""
    monkeypatch.setattr(MemoryNonceStore, "start", refuse)
    with pytest.raises(ArgumentError, match="refused"):
        StatelessNonceStore([KEY], spent=MemoryNonceStore()).start()


def refuse(store: object, **options: float) -> None:
    """Stand for a check that fails."""
    raise ArgumentError("refused")


def test_an_async_spent_store_may_have_no_check() -> None:
    """A spent store without a start is asked for its epoch alone."""

    class Bare:
        async def spend(self, name: str, seconds: float, /) -> str | None:
            await anyio.lowlevel.checkpoint()
            return "e"

    async def starting() -> Grant | None:
        store = AsyncStatelessNonceStore([KEY], spent=Bare())
        await store.start()
        return await store.take((await store.issue(NEXT))[0])

    assert anyio.run(starting) == NEXT


def test_a_second_worker_is_refused_without_a_spent_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and at the first use, unless several processes are allowed, or share a spent store."""
    monkeypatch.setattr(stateless, "require_alone", refuse)
    for use in (StatelessNonceStore.start, lambda store: store.issue(NEXT)):
        with pytest.raises(ArgumentError, match="refused"):
            use(StatelessNonceStore([KEY]))
    for store in (
        StatelessNonceStore([KEY], several_processes=True),
        StatelessNonceStore([KEY], spent=Spent()),
    ):
        store.start()
        assert store.take(store.issue(NEXT)[0]) == NEXT


def test_a_store_blocks_as_its_spent_store_does() -> None:
    """Without one, and over memory, nothing blocks; issuing never does once the epoch is known."""
    assert StatelessNonceStore([KEY]).blocks is False
    assert StatelessNonceStore([KEY], spent=MemoryNonceStore()).blocks is False
    assert StatelessNonceStore([KEY], spent=Spent()).blocks is True
    assert StatelessNonceStore.issue_blocks is False
    assert StatelessNonceStore.holds is AsyncStatelessNonceStore.holds is False


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_is_an_instance_of_its_own() -> None:
    """A child that went on with its parent's numbers would seal two nonces under one IV."""
    store = StatelessNonceStore([KEY])
    (nonce,) = store.issue(NEXT)
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def serve() -> None:
        answers.put(store.take(nonce))
        answers.put(store.issue(NEXT)[0])

    worker = fork.Process(target=serve)
    worker.start()
    worker.join(30)
    assert answers.get() is None
    assert octets_of(answers.get())[:16] != octets_of(nonce)[:16]
    assert store.take(nonce) == NEXT


def test_ciphers_of_instances_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nonces of many instances are opened with ciphers of which a few are kept."""
    monkeypatch.setattr(_sealing, "_MAX_CIPHERS", 2)
    spent = MemoryNonceStore()
    taker = StatelessNonceStore([KEY], spent=spent)
    for _ in range(5):
        (nonce,) = StatelessNonceStore([KEY], spent=spent).issue(NEXT)
        assert taker.take(nonce) == NEXT
    assert len(taker._issuer._sealer._ciphers) <= 2


def test_a_grant_of_another_version_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A nonce that another version of this package has sealed under the same key is no error."""
    monkeypatch.setattr(Grant, "encode", lambda grant: b"\x63 of another version")
    (nonce,) = STORE.issue(NEXT)
    assert STORE.take(nonce) is None


AWAITED: Any = AwaitedSpent()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: StatelessNonceStore([]), "one key or more"),
        (lambda: StatelessNonceStore(KEY), "one key or more"),  # type: ignore[arg-type]
        (lambda: StatelessNonceStore([KEY[:16]]), "32 bytes"),
        (lambda: StatelessNonceStore([KEY, KEY]), "two keys are the same"),
        (lambda: StatelessNonceStore([KEY], lifetime=0), "positive"),
        (lambda: StatelessNonceStore([KEY], challenge_lifetime=0), "positive"),
        (lambda: StatelessNonceStore([KEY], window=0), "positive"),
        (lambda: StatelessNonceStore([KEY], spent=object()), "spend"),  # type: ignore[arg-type]
        (lambda: StatelessNonceStore([KEY], spent=MemoryNonceStore), "spend"),  # type: ignore[arg-type]
        (lambda: StatelessNonceStore([KEY], spent=AWAITED), "AsyncStatelessNonceStore"),
        (lambda: AsyncStatelessNonceStore([KEY], spent=Spent()), "use StatelessNonceStore"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_used_is_an_error_at_once(make: Callable[[], object], problem: str) -> None:
    """Keys, lifetimes and stores of another kind are refused when the store is made."""
    with pytest.raises(ArgumentError, match=problem):
        make()


def test_no_repr_shows_a_key() -> None:
    """Keys stay out of what is printed."""
    key = secrets.token_bytes(32)
    assert repr(key)[2:20] not in repr(vars(StatelessNonceStore([key])))


def test_an_answer_that_was_lost_is_no_epoch() -> None:
    """A client that asks again after a lost answer learns that the name is spent: the next try is good."""
    spent = Spent()
    store = StatelessNonceStore([KEY], spent=spent)
    ask, spent.spend = spent.spend, lambda name, seconds: None  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError, match="lost an answer"):
        store.start()
    spent.spend = ask  # type: ignore[method-assign]
    store.start()
    assert store.take(store.issue(NEXT)[0]) == NEXT
