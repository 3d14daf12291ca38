"""Where issued nonces are kept in the memory of one process: each is taken once, and none for ever."""

import base64

import pytest

from tuned_digest import ArgumentError
from tuned_digest._wire.challenge import read_challenges
from tuned_digest.server import Grant, MemoryNonceStore

from .clock import Clock
from .driving import Client, Server, fields_of, send
from .verifying import BOTH, EVERY_ACTION, is_held, issued, written


def grant(*, chained: bool = True) -> Grant:
    """Make a grant for everything."""
    return Grant(BOTH, EVERY_ACTION, chained=chained)


def test_a_nonce_is_the_base64_of_32_random_bytes() -> None:
    """Nonces come from the randomness given, without padding, and no two are the same."""
    store = MemoryNonceStore(randomness=lambda size: bytes(range(size)))
    assert base64.b64decode(store.issue(grant())[0] + "=") == bytes(range(32))
    nonces = {MemoryNonceStore().issue(grant())[0] for _ in range(100)}
    assert len(nonces) == 100
    assert {len(nonce) for nonce in nonces} == {43}


@pytest.mark.parametrize("chained", [True, False])
def test_a_nonce_is_taken_out_of_the_store_once(chained: bool) -> None:
    """A nonce gives its grant to the first who presents it and nothing to any other."""
    store = MemoryNonceStore()
    (nonce,) = store.issue(grant(chained=chained))
    assert store.take("m") is None
    assert store.take(nonce) == grant(chained=chained)
    assert store.take(nonce) is None


@pytest.mark.parametrize(("chained", "lifetime"), [(True, 86400.0), (False, 300.0)])
def test_a_nonce_goes_stale_on_the_server(chained: bool, lifetime: float) -> None:
    """A next nonce is good for 24 hours, a challenge's for five minutes, and not a moment longer."""
    clock = Clock()
    store = MemoryNonceStore(clock=clock)
    one, two = store.issue(grant(chained=chained), grant(chained=chained))
    clock.now = lifetime - 0.1
    assert store.take(one) is not None
    clock.now = lifetime
    assert store.take(two) is None


def test_a_stale_nonce_is_unknown() -> None:
    """A request under a nonce of 24 hours ago is challenged anew."""
    clock = Clock()
    to = Server(MemoryNonceStore(clock=clock))
    nonce = issued(to)
    clock.now = 86400.0
    assert str(to.refusal("GET", "/a", [written(nonce)])) == "unknown nonce"


def test_a_flood_of_challenges_does_not_push_out_next_nonces() -> None:
    """Requests without credentials, however many, cost no client its next nonce."""
    to = Server(MemoryNonceStore(capacity=1, challenge_capacity=2))
    send(Client(), to, "GET", "/a")
    kept = issued(to)
    floods = [
        read_challenges(fields_of(to.refusal("GET", "/", []).fields)("WWW-Authenticate")) for _ in range(5)
    ]
    assert [is_held(to, challenges[0].nonce) for challenges in floods] == [False, False, False, True, True]
    assert is_held(to, kept)


def test_a_full_store_loses_its_oldest() -> None:
    """Beyond the capacity the oldest next nonce goes."""
    store = MemoryNonceStore(capacity=2)
    nonces = store.issue(grant(), grant(), grant())
    assert [store.take(nonce) is not None for nonce in nonces] == [False, True, True]


def test_stale_nonces_make_room() -> None:
    """What has gone stale is dropped when a nonce is issued, full or not."""
    clock = Clock()
    store = MemoryNonceStore(lifetime=10, clock=clock)
    (stale,) = store.issue(grant())
    clock.now = 10.0
    (fresh,) = store.issue(grant())
    clock.now = 0.0
    assert store.take(stale) is None
    assert store.take(fresh) is not None


@pytest.mark.parametrize(
    "name",
    [
        "capacity",
        "quota",
        "lifetime",
        "challenge_capacity",
        "challenge_lifetime",
        "spent_capacity",
        "max_bytes",
    ],
)
def test_capacities_and_lifetimes_are_positive(name: str) -> None:
    """A store that could hold nothing is an error at once."""
    with pytest.raises(ArgumentError, match="are positive"):
        MemoryNonceStore(**{name: 0})  # type: ignore[arg-type]  # none of them is the clock
