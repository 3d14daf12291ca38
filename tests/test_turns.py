"""Whose check is next, and whose is refused: fair to identities and peers, and bounded."""

from collections import Counter
from collections.abc import Hashable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tuned_digest.server.turns import Bounds, Standing, Ticket, Turns, peer_key

BOUNDS = Bounds(256, 10_000_000)
SUBMISSIONS = 1000


def ticket(identity: str, peer: Hashable = "p", *, registered: bool = False, cost: int = 1000) -> Ticket:
    """Make a ticket."""
    standing = Standing.REGISTERED if registered else Standing.STRANGER
    return Ticket(identity, peer, standing, cost)


def order(turns: Turns[Ticket]) -> list[str]:
    """Let all that wait have their turns, one at a time, and give whose they were."""
    names: list[str] = []
    while taken := turns.take():
        names.append(taken.identity)
        turns.end(taken)
    return names


class TestTurns:
    def test_checks_of_an_identity_come_in_order(self) -> None:
        """The oldest check of an identity is its next."""
        turns: Turns[Ticket] = Turns(BOUNDS)
        sent = [ticket("a") for _ in range(5)]
        for one in sent:
            assert turns.add(one) == []
        for one in sent:
            assert turns.take() is one
            turns.end(one)

    def test_identities_of_a_peer_take_turns(self) -> None:
        """However many checks one has, the next one's turn comes after one of them."""
        turns: Turns[Ticket] = Turns(BOUNDS)
        for name in "aaabbc":
            turns.add(ticket(name))
        assert "".join(order(turns)) == "abcaba"

    def test_peers_take_turns(self) -> None:
        """However many identities a peer has, the next peer's turn comes after one of them."""
        turns: Turns[Ticket] = Turns(BOUNDS)
        for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
            turns.add(ticket(name, name[0]))
        assert order(turns) == ["a1", "b1", "c1", "a2", "b2", "a3"]

    def test_the_registered_come_first(self) -> None:
        """No stranger has a turn while a registered identity may have one."""
        turns: Turns[Ticket] = Turns(BOUNDS)
        for name in "abc":
            turns.add(ticket(name, name))
        turns.add(ticket("r", "r", registered=True))
        turns.add(ticket("r", "r", registered=True))
        assert "".join(order(turns)) == "rrabc"

    def test_an_identity_has_one_check_under_way(self) -> None:
        """An identity with a check under way is passed over, wherever its next one came from."""
        turns: Turns[Ticket] = Turns(BOUNDS)
        for peer in ("p", "q"):
            turns.add(ticket("a", peer))
        turns.add(ticket("b"))
        first, second = turns.take(), turns.take()
        assert first is not None
        assert second is not None
        assert (first.identity, second.identity, turns.take()) == ("a", "b", None)
        assert (turns.running, turns.waiting) == (2, 1)
        turns.end(first)
        assert order(turns) == ["a"]

    def test_what_is_taken_out_has_no_turn(self) -> None:
        """A ticket can be taken out while it waits; later, and twice, that does nothing."""
        turns: Turns[Ticket] = Turns(BOUNDS)
        first, second, stranger = ticket("a"), ticket("a"), ticket("b")
        turns.add(first)
        turns.add(second)
        turns.remove(stranger)
        turns.remove(second)
        turns.remove(second)
        assert turns.take() is first
        turns.remove(first)
        turns.end(first)
        assert (turns.take(), turns.running, turns.waiting, turns.cost) == (None, 0, 0, 0)


ATTACKERS = {
    "one identity": [("a", "p")] * SUBMISSIONS,
    "one peer": [(f"a{number}", "p") for number in range(SUBMISSIONS)],
    "one site": [(f"a{number}", str(peer_key(f"2001:db8:0:1::{number:x}"))) for number in range(SUBMISSIONS)],
}
FLOODS = pytest.mark.parametrize("flood", ATTACKERS.values(), ids=ATTACKERS)


class TestFloods:
    @FLOODS
    def test_an_honest_client_waits_for_two_checks_at_most(self, flood: list[tuple[str, str]]) -> None:
        """Behind 1,000 checks of one attacker, an honest client's turn comes after two of them."""
        turns: Turns[Ticket] = Turns(BOUNDS)
        for identity, peer in flood:
            turns.add(ticket(identity, peer))
        running = turns.take()
        assert running is not None
        honest = ticket("honest", "home")
        assert honest not in turns.add(honest)
        turns.end(running)
        assert order(turns).index("honest") <= 1

    @FLOODS
    def test_a_flood_does_not_push_others_out(self, flood: list[tuple[str, str]]) -> None:
        """What waits from others stays, and the attacker loses its own."""
        turns: Turns[Ticket] = Turns(Bounds(64, 10_000_000))
        honest = [ticket(f"honest {number}", f"home {number}") for number in range(20)]
        for one in honest:
            turns.add(one)
        for identity, peer in flood:
            assert {lost.peer for lost in turns.add(ticket(identity, peer))} <= {peer}
        assert {one.identity for one in honest} <= set(order(turns))

    def test_an_attacker_with_dear_checks_loses_its_own(self) -> None:
        """Where time runs out and not room, the weight is in seconds: many cheap checks weigh less."""
        turns: Turns[Ticket] = Turns(Bounds(256, 10_000_000))
        lost = [
            loser.identity
            for number in range(12)
            for one in (ticket("dear", "p", cost=1_000_000), ticket(f"cheap {number}", "q", cost=1000))
            for loser in turns.add(one)
        ]
        assert lost
        assert set(lost) == {"dear"}

    def test_an_honest_dear_check_outlives_a_flood_of_cheap_ones(self) -> None:
        """Where room runs out and not time, the weight is in numbers."""
        turns: Turns[Ticket] = Turns(Bounds(64, 100_000_000))
        turns.add(ticket("dear", "home", cost=1_000_000))
        for _ in range(SUBMISSIONS):
            turns.add(ticket("cheap", "p", cost=1000))
        assert "dear" in order(turns)


class TestRefusals:
    def test_a_newcomer_takes_the_place_of_the_heaviest(self) -> None:
        """The newest check of the heaviest identity at the heaviest peer is refused in its place."""
        turns: Turns[Ticket] = Turns(Bounds(6, 10_000_000))
        heavy = [ticket("a1", "a"), ticket("a2", "a"), ticket("a1", "a"), ticket("a2", "a")]
        for one in (*heavy, ticket("b", "b"), ticket("c", "c")):
            assert turns.add(one) == []
        assert turns.add(ticket("c", "c")) == [heavy[3]]
        assert turns.waiting == 6

    def test_a_newcomer_that_would_be_as_heavy_is_refused(self) -> None:
        """Among equals the newest loses: nobody is pushed out by somebody who holds as much."""
        turns: Turns[Ticket] = Turns(Bounds(3, 10_000_000))
        for name in "abc":
            turns.add(ticket(name, name))
        newcomer = ticket("d", "d")
        assert turns.add(newcomer) == [newcomer]
        again = ticket("a", "a")
        assert turns.add(again) == [again]

    def test_the_registered_take_the_place_of_strangers(self) -> None:
        """A stranger is refused for a registered identity, and never the other way round."""
        turns: Turns[Ticket] = Turns(Bounds(2, 10_000_000))
        strangers = [ticket("a", "a"), ticket("b", "b")]
        registered = [ticket("r", "r", registered=True) for _ in range(3)]
        for one in strangers:
            turns.add(one)
        assert turns.add(registered[0]) == [strangers[1]]
        assert turns.add(registered[1]) == [strangers[0]]
        assert turns.add(registered[2]) == [registered[2]]
        late = ticket("c", "c")
        assert turns.add(late) == [late]

    def test_a_check_that_would_wait_too_long_is_refused(self) -> None:
        """Checks under way count, the check's own time does not."""
        turns: Turns[Ticket] = Turns(Bounds(256, 5000))
        assert turns.add(ticket("a", "a", cost=100_000)) == []
        taken = turns.take()
        assert taken is not None
        late = ticket("b", "b")
        assert turns.add(late) == [late]
        turns.end(taken)
        assert turns.add(late) == []

    def test_as_many_are_refused_as_is_needed(self) -> None:
        """One dear check that was let in can cost several cheap ones their place, but not all."""
        turns: Turns[Ticket] = Turns(Bounds(256, 5000))
        for _ in range(6):
            assert turns.add(ticket("a", "a", cost=1000)) == []
        assert turns.add(ticket("r", "r", registered=True, cost=90_000)) != []
        refused = turns.add(ticket("r", "s", registered=True, cost=1000))
        assert [one.identity for one in refused] == ["a"] * 5 + ["r"]


class TestPeers:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("fe80::1%eth0", "fe80::2%eth1"),
            ("x" * 64, "x" * 1000),
        ],
    )
    def test_these_are_one_peer(self, one: str, other: str) -> None:
        """A /64 is one peer, an IPv4 address in IPv6 the same as outside, and no key is long."""
        assert peer_key(one) == peer_key(other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("2001:db8:0:1::1", "2001:db8:0:2::1"),
            ("192.0.2.1", "192.0.2.2"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
            ("192.0.2.1", "::c000:201"),
            ("", "unix:"),
            ("testclient", "192.0.2.1"),
        ],
    )
    def test_these_are_two_peers(self, one: str, other: str) -> None:
        """Addresses of different sites, and texts that are no address, are peers of their own."""
        assert peer_key(one) != peer_key(other)


class Model(RuleBasedStateMachine):
    """Checks that come, end and are given up in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[Ticket] = Turns(Bounds(8, 2000))
        self.waiting: list[Ticket] = []
        self.running: list[Ticket] = []

    @rule(
        identity=st.sampled_from("abcdef"),
        peer=st.integers(0, 3),
        registered=st.booleans(),
        cost=st.integers(1, 900),
    )
    def come(self, identity: str, peer: int, registered: bool, cost: int) -> None:
        """A check comes, and others may lose their place."""
        new = ticket(identity, peer, registered=registered, cost=cost)
        refused = self.turns.add(new)
        self.waiting = [one for one in (*self.waiting, new) if one not in refused]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A client that waits goes."""
        one = data.draw(st.sampled_from(self.waiting))
        self.turns.remove(one)
        self.waiting.remove(one)

    @rule()
    def begin(self) -> None:
        """The next check begins, if there is one that may."""
        busy = {one.identity for one in self.running}
        taken = self.turns.take()
        assert (taken is None) == all(one.identity in busy for one in self.waiting)
        if taken is not None:
            assert taken.identity not in busy
            self.waiting.remove(taken)
            self.running.append(taken)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A check ends."""
        one = data.draw(st.sampled_from(self.running))
        self.turns.end(one)
        self.running.remove(one)

    @invariant()
    def counts_are_right(self) -> None:
        """What waits and what runs is counted, within the bounds, and an identity runs once."""
        assert (self.turns.waiting, self.turns.running) == (len(self.waiting), len(self.running))
        assert self.turns.cost == sum(one.cost for one in (*self.waiting, *self.running))
        assert len(self.waiting) <= 8
        assert max(Counter(one.identity for one in self.running).values(), default=0) <= 1

    def teardown(self) -> None:
        """Whatever waits gets its turn in the end."""
        for one in self.running:
            self.turns.end(one)
        names = order(self.turns)
        assert Counter(names) == Counter(one.identity for one in self.waiting)
        assert (self.turns.waiting, self.turns.running, self.turns.cost) == (0, 0, 0)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40)
