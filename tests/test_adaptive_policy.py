"""The policy whose prices follow the load: its law, its bounds, and what it does under four attackers."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError, Limits, SearchCost, Tuning, Work
from tuned_digest.proof.argon2 import ACCESS_TUNING, CREATE_TUNING
from tuned_digest.server import Policy
from tuned_digest.server.adaptive import AdaptivePolicy
from tuned_digest.server.policy import Prices

from .clock import Clock
from .driving import result_of
from .simulation import (
    ATTACKS,
    BEGIN,
    CEILING,
    LENGTH,
    MAKERS,
    PLACES,
    Law,
    Simulation,
    bot,
    digest_of_plot,
    honest_client,
    simulated,
)
from .verifying import ARGON, SEARCH

READ = Tuning("argon2d", 1024, 3, 1)
CREATE = Tuning("argon2d", 4096, 5, 1)
OTHER = Tuning("argon2d", 2048, 4, 1)
BASE = Policy(access=READ, create=CREATE, access_cost=8)

SECONDS = 0.1  # of a check of READ, so that two places check 200 of them in a period


class Driven:
    """An adaptive policy with two places, a clock, and traffic by the period.

    Args:
        base: Its base.
        options: What else it is told.
    """

    def __init__(self, base: Policy = BASE, **options: Any) -> None:
        self.clock = Clock()
        options = {"ceiling": 16.0, "period": 10.0, "floor_lag": 60.0, "clock": self.clock, **options}
        self.policy = AdaptivePolicy(base, _places=2, **options)

    def period(self, demanded: float = 0, checked: float = 200, work: Work | None = None) -> float:
        """Let a period go by in which so many requests came, and so many were checked; give the new level.

        Without a work they pay what is asked for reading.
        """
        work = work or self.asked
        for _ in range(int(demanded)):
            self.policy.demanded(work)
        for _ in range(int(checked / (work.effort / READ.effort))):
            self.policy.checked(work, SECONDS * work.effort / READ.effort)
        self.clock.now += 10
        return self.policy.level

    @property
    def asked(self) -> Work:
        """The work asked for reading."""
        return self.policy.price("read")[ARGON]


def passes(prices: Prices) -> int:
    """The passes of the Argon2 work among prices."""
    tuning = prices[ARGON]
    assert isinstance(tuning, Tuning)
    return tuning.passes


class TestLaw:
    """How the level moves."""

    def test_it_starts_at_the_base_prices(self) -> None:
        """Without load the prices are the base's."""
        policy = Driven().policy
        assert (policy.level, policy.floor_level) == (1, 1)
        for action in ("read", "create"):
            assert policy.price(action) == policy.floor(action) == BASE.price(action)
        assert policy.scopes() == BASE.scopes()

    def test_it_rises_by_a_step_when_demand_reaches_capacity(self) -> None:
        """One pass more for reading, and everything else in proportion."""
        driven = Driven()
        assert driven.period(demanded=199) == 1
        assert driven.period(demanded=201) == pytest.approx(4 / 3)
        assert passes(driven.policy.price("read")) == 4
        assert passes(driven.policy.price("create")) == 7

    def test_a_step_of_a_search_is_a_bit(self) -> None:
        """Where reading is offered a search alone, the level doubles."""
        driven = Driven(Policy(access=None, access_cost=8, create=CREATE))
        assert driven.period(demanded=201, work=CREATE) == 2
        assert driven.policy.price("read") == {SEARCH: SearchCost(9)}

    def test_capacity_counts_idle_places(self) -> None:
        """What was checked in a part of the time says what can be checked in all of it."""
        driven = Driven()
        assert driven.period(demanded=150, checked=20) == 1
        assert driven.period(demanded=201, checked=20) > 1

    def test_the_level_holds_until_capacity_is_known(self) -> None:
        """Requests whose checks take longer than a period move nothing, and later count by the last speed."""
        driven = Driven()
        assert driven.period(demanded=10**3, checked=0) == 1
        driven.period(demanded=0)
        assert driven.period(demanded=201, checked=0) > 1

    def test_what_pays_less_is_no_demand(self) -> None:
        """Requests below the asking price never move it up, however many there are."""
        driven = Driven()
        driven.period(demanded=201)
        assert driven.period(demanded=10**4, work=READ) == 1

    def test_what_pretended_to_pay_is_no_demand(self) -> None:
        """Requests under dear nonces whose work was not done count for nothing."""
        driven = Driven()
        for _ in range(190):
            driven.policy.failed(READ)
        driven.policy.failed(SearchCost(8))
        assert driven.period(demanded=10**3) == 1
        for _ in range(10**3):
            driven.policy.failed(READ)
        assert driven.period(demanded=10**4) == 1
        assert driven.period(demanded=201) > 1

    def test_checks_that_were_given_up_are_no_capacity(self) -> None:
        """A check that ended at once says nothing of how many the server can do."""
        driven = Driven()
        driven.period()
        for _ in range(10**3):
            driven.policy.checked(READ, 1e-6)
        assert driven.period(demanded=205) > 1

    def test_a_create_weighs_as_many_reads_as_it_takes_time(self) -> None:
        """Reads and creates add up to one demand."""
        driven = Driven()
        creates = 200 * READ.effort / CREATE.effort
        assert driven.period(demanded=creates - 1, work=CREATE) == 1
        assert driven.period(demanded=creates + 1, work=CREATE) > 1

    def test_it_falls_in_proportion_and_to_half_at_most(self) -> None:
        """With half of the capacity in demand it falls by a quarter, with none by half."""
        driven = risen()
        assert driven.policy.level == pytest.approx(3)
        assert driven.period(demanded=100) == pytest.approx(2.25)
        assert driven.period() == pytest.approx(1.125)
        assert driven.period() == 1

    def test_it_rises_to_what_was_paid_on_average(self) -> None:
        """Requests that paid a higher price from before bring it back at once."""
        driven = risen()
        dear = driven.asked
        driven.period()
        driven.period()
        assert driven.policy.level == 1
        assert driven.period(demanded=201, work=dear) == pytest.approx(3)

    def test_a_small_change_is_not_published(self) -> None:
        """Less than 15 % waits until more has come together."""
        driven = risen()
        assert driven.period(demanded=190) == pytest.approx(3)
        assert driven.period(demanded=100) < 2.25
        driven = risen()
        assert driven.period(demanded=201) == pytest.approx(3)  # 10 passes after 9
        assert driven.period(demanded=201) == pytest.approx(11 / 3)

    def test_the_bounds_are_published_exactly(self) -> None:
        """The last bit of the way to a bound is no small change."""
        driven = Driven(ceiling=1.5)
        driven.period(demanded=201)
        assert driven.period(demanded=201) == 1.5
        assert driven.period(demanded=201) == 1.5
        driven = Driven(Policy(access=Tuning("argon2d", 1024, 100, 1)), ceiling=1.05)
        for _ in range(5):
            driven.period(demanded=201, work=driven.asked)
        assert driven.policy.level == 1.05

    def test_a_long_pause_is_a_fall(self) -> None:
        """Periods in which nobody asked count as idle when somebody asks again."""
        driven = risen()
        driven.clock.now += 10
        assert driven.policy.level == pytest.approx(1.5)
        driven.clock.now += 10**9
        assert driven.policy.level == 1

    def test_periods_stay_in_step(self) -> None:
        """A late question moves no later period."""
        driven = risen()
        driven.clock.now += 14
        assert driven.policy.level == pytest.approx(1.5)
        driven.clock.now += 6
        assert driven.policy.level == 1


def risen() -> Driven:
    """Let the price rise to level 3: 9 passes, and the last step is published."""
    driven = Driven()
    for _ in range(6):
        driven.period(demanded=201)
    return driven


class TestFloor:
    """The floor lags behind the price."""

    def test_it_is_the_lowest_level_of_the_lag(self) -> None:
        """Nonces of a lower price are accepted for so long after it has risen, and no longer."""
        driven = Driven()
        driven.period(demanded=201)
        rose = driven.clock.now
        while driven.clock.now < rose + 50:
            driven.period(demanded=201)
        assert driven.policy.floor("read") == BASE.price("read")
        assert passes(driven.policy.price("read")) > 4
        driven.period(demanded=201)
        assert driven.policy.floor_level == pytest.approx(4 / 3)
        assert passes(driven.policy.floor("read")) == 4

    def test_it_falls_with_the_price(self) -> None:
        """A nonce of a price that has fallen is accepted at once."""
        driven = Driven(floor_lag=0)
        driven.period(demanded=201)
        assert driven.policy.floor_level == driven.policy.level > 1
        driven.period()
        assert driven.policy.floor_level == driven.policy.level == 1


class TestBase:
    """What the policy takes from its base."""

    def test_actions_are_the_bases(self) -> None:
        """So is what hides whether a resource is there."""
        base = Policy(exists="/there".__eq__, hide_existence=True)
        policy = AdaptivePolicy(base)
        assert [result_of(policy.action("PUT", path)) for path in ("/there", "/new")] == ["update", "create"]
        assert policy.priced_as("PUT", "update") == "create"
        assert policy.challenged_for("PUT", "create") == {"update", "create"}

    def test_the_selected_policy_is_scaled(self) -> None:
        """Routes and identities keep their prices to one another."""
        driven = Driven(Policy(access=READ, routes={"/export": Policy(access=OTHER)}))
        export = driven.policy.select("/export", "A", "alice")
        assert export is driven.policy.select("/export/all", "B", None)
        driven.period(demanded=201)
        assert passes(export.price("read")) == round(4 * 4 / 3)
        assert export.floor("read") == {ARGON: OTHER}
        assert passes(driven.policy.select(None, "A", "alice").scopes()[0][1]) == 4

    def test_strangers_count_under_load_alone(self) -> None:
        """While the server keeps up, an identity without account is like any other."""
        driven = Driven(Policy(access=READ, access_cost=1, strangers=Policy(access=OTHER)))
        assert set(driven.policy.select("/a", None, None).price("read")) == {ARGON, SEARCH}
        driven.period(demanded=201)
        assert set(driven.policy.select("/a", None, None).price("read")) == {ARGON}
        assert set(driven.policy.select("/a", "A", "alice").price("read")) == {ARGON, SEARCH}
        driven.period()
        assert set(driven.policy.select("/a", None, None).price("read")) == {ARGON, SEARCH}

    def test_scopes_are_grouped_once_a_level(self) -> None:
        """Next nonces bring the price of the moment, and the askers share no list."""
        driven = Driven()
        driven.policy.scopes().clear()
        assert driven.policy.scopes() == BASE.scopes()
        driven.period(demanded=201)
        assert [passes(prices) for _, prices in driven.policy.scopes()] == [4, 7]

    def test_a_base_whose_prices_change_is_followed(self) -> None:
        """A subclass may set other prices at any time, and requests that pay them are demand."""

        class Moving(Policy):
            asked = READ

            def price(self, action: str) -> Prices:
                return {ARGON: self.asked}

        base = Moving()
        driven = Driven(base)
        assert [passes(prices) for _, prices in driven.policy.scopes()] == [3, 3]
        base.asked = OTHER
        assert [passes(prices) for _, prices in driven.policy.scopes()] == [4, 4]
        driven.period(demanded=201)
        assert driven.period(demanded=201) > 1.5

    def test_a_work_belongs_to_the_base_nearest_by(self) -> None:
        """A dear route's ordinary requests are not taken for dear ones of a cheap route."""
        driven = Driven(Policy(access=READ, routes={"/export": Policy(access=READ.scaled(4))}))
        driven.policy.select("/export", None, None).floor("read")
        assert driven.period(demanded=51, work=READ.scaled(4)) == pytest.approx(4 / 3)

    def test_a_work_that_nobody_knows_pays_the_base_price(self) -> None:
        """Nonces from before a change of the policy are demand while the level is 1."""
        driven = Driven()
        assert driven.period(demanded=100, work=OTHER) > 1
        assert driven.period(demanded=10**3, work=OTHER) == 1

    def test_what_is_remembered_is_bounded(self) -> None:
        """A function that gives each identity a work of its own fills no memory."""
        driven = Driven(Policy(identities=lambda identity: Policy(access=READ.scaled(int(identity)))))
        for number in range(1, 1100):
            selected = driven.policy.select("/a", str(number), None)
            assert passes(selected.price("read")) == 3 * number
        assert len(driven.policy._works._works) == 1024
        assert driven.policy._scaled.cache_info().currsize == 256

    def test_a_work_is_remembered_once(self) -> None:
        """Two threads may find out at once that it is new."""
        works = Driven().policy._works
        before = dict(works._alike)
        works.add(READ)
        assert works._alike == before

    def test_default_clients_pay_the_default_ceiling(self) -> None:
        """The deployed tunings at the highest level are within the default limits of a client."""
        for tuning in (ACCESS_TUNING, CREATE_TUNING):
            Limits().check(tuning.scaled(3.0))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: AdaptivePolicy(READ), "base is a Policy"),  # type: ignore[arg-type]
            (lambda: AdaptivePolicy(BASE, ceiling=0.5), "ceiling is 1 or more"),
            (lambda: AdaptivePolicy(BASE, ceiling=float("nan")), "ceiling is 1 or more"),
            (lambda: AdaptivePolicy(BASE, period=0), "above 0 seconds"),
            (lambda: AdaptivePolicy(BASE, floor_lag=-1), "0 seconds or more"),
        ],
    )
    def test_arguments_out_of_range_are_refused(
        self, make: Callable[[], AdaptivePolicy], message: str
    ) -> None:
        """The error says what is allowed."""
        with pytest.raises(ArgumentError, match=message):
            make()


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("demanded"), st.integers(1, 80), st.integers(1, 40)),
        st.tuples(st.just("checked"), st.integers(1, 80), st.floats(0, 40)),
        st.tuples(st.just("failed"), st.integers(1, 80), st.just(0)),
        st.tuples(st.just("passed"), st.floats(0, 200), st.just(0)),
    ),
    max_size=30,
)


@given(EVENTS, st.sampled_from([1.0, 1.2, 3.0, 16.0]), st.sampled_from([0.0, 25.0, 600.0]))
def test_the_price_stays_within_its_bounds(
    events: list[tuple[str, float, float]], ceiling: float, lag: float
) -> None:
    """Whatever happens, base price <= floor <= price <= base price times the ceiling."""
    driven = Driven(ceiling=ceiling, floor_lag=lag)
    policy = driven.policy
    for name, first, second in events:
        if name == "passed":
            driven.clock.now += first
        elif name == "demanded":
            for _ in range(int(second)):
                policy.demanded(READ.scaled(first / 3))
        elif name == "checked":
            policy.checked(READ.scaled(first / 3), second)
        else:
            policy.failed(READ.scaled(first / 3))
        assert 1 <= policy.floor_level <= policy.level <= ceiling
        for action in ("read", "create"):
            for scheme, base in BASE.price(action).items():
                floor, price = policy.floor(action)[scheme], policy.price(action)[scheme]
                assert floor.reaches(base)
                assert price.reaches(floor)
                assert base.scaled(ceiling).reaches(price)
        assert len(policy._asked._levels) <= 25


def test_it_counts_in_threads() -> None:
    """What threads report at once is all counted, and one of them closes the period."""
    driven = Driven()

    def work() -> None:
        for _ in range(100):
            driven.policy.demanded(READ)
            driven.policy.checked(READ, SECONDS)

    together(work)
    driven.clock.now = 10.0
    together(lambda: driven.policy.select("/a", None, None).price("read"))
    assert driven.policy.level == pytest.approx(4 / 3)


def together(call: Callable[[], object]) -> None:
    """Call in four threads at once."""
    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_period_is_closed_once() -> None:
    """A thread that finds a period over, and then finds it closed, leaves it so."""
    driven = risen()
    driven.clock.now += 10
    lock = driven.policy._lock

    class Slow:
        def __enter__(self) -> None:
            driven.policy._lock = lock
            assert driven.policy.level == pytest.approx(1.5)

        def __exit__(self, *_: object) -> None:
            pass

    driven.policy._lock = Slow()  # type: ignore[assignment]
    assert driven.policy.level == pytest.approx(1.5)


def levels(law: str, attacker: str, since: float = 0, until: float = LENGTH) -> list[float]:
    """The levels asked in a part of a run."""
    return [level for time, level in simulated(law, attacker).levels if since <= time < until]


@pytest.mark.parametrize("attacker", ATTACKS)
class TestUnderAttack:
    """Both laws under four attackers; the server checks 22 requests a second, 5 are honest."""

    def test_the_price_stays_within_its_bounds(self, attacker: str) -> None:
        """So does that of the load average, which is told the same bounds."""
        for law in ("adaptive", "load average"):
            assert 1 <= min(levels(law, attacker)) <= max(levels(law, attacker)) <= CEILING

    def test_the_price_is_back_within_90_seconds(self, attacker: str) -> None:
        """After the attack the base price is asked again, and the load average's never comes back."""
        over = ATTACKS[attacker] + 90
        assert set(levels("adaptive", attacker, over)) == {1}
        assert min(levels("load average", attacker, over)) > CEILING / 2

    def test_honest_clients_are_all_served_afterwards(self, attacker: str) -> None:
        """At the load average's price the honest requests alone are more than the server can check."""
        over = ATTACKS[attacker] + 90
        assert simulated("adaptive", attacker).honest.share(over, LENGTH) == 1
        assert simulated("load average", attacker).honest.share(over, LENGTH) < 0.4

    def test_honest_clients_fare_better_on_the_whole(self, attacker: str) -> None:
        """They get more than under the load average, and nearly what a price that never moves gives them."""
        share = simulated("adaptive", attacker).honest.share(0, LENGTH)
        assert share > simulated("load average", attacker).honest.share(0, LENGTH) + 0.25
        assert share > simulated("static", attacker).honest.share(0, LENGTH) - 0.06


def test_who_pays_little_cannot_drive_the_price_up() -> None:
    """A hoard of works at the base price costs everybody one step, and the load average's ceiling."""
    assert max(levels("adaptive", "burst")) == pytest.approx(4 / 3)
    assert max(levels("load average", "burst")) == CEILING


@pytest.mark.parametrize(("attacker", "share"), [("ramp", 0.4), ("botnet", 0.4), ("pays and leaves", 0.75)])
def test_who_pays_gets_less(attacker: str, share: float) -> None:
    """A botnet that pays is served a fraction of what it gets at a price that never moves."""
    until = ATTACKS[attacker]
    served = simulated("adaptive", attacker).attacker.rate(BEGIN, until)
    assert served < share * simulated("static", attacker).attacker.rate(BEGIN, until)


def besieged(law: Callable[[Callable[[], float]], Law], *, cores: int, until: float) -> Simulation:
    """Make a simulation of honest clients and of a botnet that pays."""
    simulation = Simulation(law)
    for number in range(20):
        honest_client(simulation, number / 5)
    for core in range(cores):
        bot(simulation, BEGIN + core / 100, until)
    return simulation


def test_junk_that_is_never_checked_does_not_raise_the_price() -> None:
    """Strangers' requests that are shed, or left, count as those that were checked: these failed."""
    driven = Driven()
    driven.period(checked=200)
    for _ in range(10_000):
        driven.policy.demanded(READ, is_known=False)
    assert driven.period(demanded=50, checked=200) == 1
    for _ in range(33):
        driven.policy.demanded(READ, is_known=False)
        driven.policy.checked(READ, SECONDS, is_known=False)
        driven.policy.failed(READ, is_known=False)
    for _ in range(10_000):
        driven.policy.demanded(READ, is_known=False)
    assert driven.period(demanded=50, checked=167) == 1


def test_strangers_who_pay_raise_the_price() -> None:
    """Strangers' requests count as far as those that were checked had done their work."""
    driven = Driven()
    driven.period(checked=200)
    for _ in range(600):
        driven.policy.demanded(READ, is_known=False)
    for number in range(200):
        driven.policy.checked(READ, SECONDS, is_known=False)
        if number % 2:
            driven.policy.failed(READ, is_known=False)
    assert driven.period(checked=0) > 1


def test_the_price_settles_where_the_requests_fit() -> None:
    """It rises until so few requests are paid for that the server could check them at the base price."""
    simulation = besieged(MAKERS["adaptive"], cores=4, until=900)
    simulation.run(900)
    settled = [level for time, level in simulation.levels if time > 300]
    # 4 cores at 0.09 s a request, against the 17 requests a second that honest clients leave: 2.6.
    assert 2.2 < min(settled) <= max(settled) < 3.2


class OwnPrice(AdaptivePolicy):
    """Count demand at the price that is paid, as Tor's law does."""

    def demanded(self, work: Work, *, is_known: bool = True) -> None:
        """Count a request."""
        if work.reaches(self.price("read")[ARGON]):
            self._tally.of(is_known).demand += self._works.weight(work)


def test_demand_at_its_own_price_would_never_fall() -> None:
    """The price that a botnet leaves behind is kept up by honest requests alone: so demand is weighed."""

    def law(clock: Callable[[], float]) -> Law:
        base = Policy(access=ACCESS_TUNING)
        return OwnPrice(base, ceiling=CEILING, clock=clock, _places=PLACES)

    simulation = besieged(law, cores=16, until=360)
    simulation.run(LENGTH)
    assert simulation.law.level == CEILING


def test_the_plot_in_the_documents_is_current() -> None:
    """`python -m bench.law` draws it anew."""
    plot = Path(__file__).parent.parent / "docs" / "law.svg"
    assert digest_of_plot() in plot.read_text("utf-8")
