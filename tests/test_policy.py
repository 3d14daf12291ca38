"""Which action a request is, what it costs, and what a server gives away by saying so."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tuned_digest import ArgumentError, SearchCost
from tuned_digest._wire.challenge import NextNonceReader, read_challenges
from tuned_digest.proof.argon2 import ACCESS_TUNING, CREATE_TUNING
from tuned_digest.server import Policy
from tuned_digest.server.policy import Prices

from .driving import ACCESS, CREATE, Client, Server, fields_of, quick_policy, result_of, send
from .verifying import ARGON, EVERY_ACTION, SEARCH, issued, written


def prices_of(policy: Policy) -> dict[str, dict[str, Any]]:
    """Give the price of reading and of creating."""
    return {action: dict(policy.price(action)) for action in ("read", "create")}


class TestPrices:
    """What work a policy asks for."""

    def test_argon2_alone_is_offered(self) -> None:
        """A policy that is told nothing offers no search, at the deployed tunings."""
        assert prices_of(Policy()) == {"read": {ARGON: ACCESS_TUNING}, "create": {ARGON: CREATE_TUNING}}

    def test_deployed_servers_offer_a_search_of_one_bit(self) -> None:
        """What existing servers ask for is to be had by its name."""
        assert prices_of(Policy.deployed()) == {
            "read": {ARGON: ACCESS_TUNING, SEARCH: SearchCost(1)},
            "create": {ARGON: CREATE_TUNING, SEARCH: SearchCost(1)},
        }

    @pytest.mark.parametrize(
        ("options", "read", "create"),
        [
            ({"access_cost": 20}, {ARGON: ACCESS_TUNING, SEARCH: SearchCost(20)}, {ARGON: CREATE_TUNING}),
            ({"create_cost": 24}, {ARGON: ACCESS_TUNING}, {ARGON: CREATE_TUNING, SEARCH: SearchCost(24)}),
            ({"access": None, "access_cost": 3}, {SEARCH: SearchCost(3)}, {ARGON: CREATE_TUNING}),
            ({"create": None, "create_cost": 32}, {ARGON: ACCESS_TUNING}, {SEARCH: SearchCost(32)}),
        ],
    )
    def test_a_search_is_offered_at_the_cost_named(
        self, options: dict[str, Any], read: Prices, create: Prices
    ) -> None:
        """A search is offered where its cost is named, and there alone."""
        assert prices_of(Policy(**options)) == {"read": read, "create": create}

    @pytest.mark.parametrize("cost", [-1, 0, 33])
    @pytest.mark.parametrize("name", ["access_cost", "create_cost"])
    def test_a_cost_that_is_none_is_refused(self, name: str, cost: int) -> None:
        """A cost is 1 to 32 bits; None offers no search, and 0 is a mistake."""
        with pytest.raises(ArgumentError, match="1 to 32 bits"):
            Policy(**{name: cost})  # type: ignore[arg-type]  # none of the two is another kind

    @pytest.mark.parametrize("name", ["access", "create"])
    def test_a_policy_that_offers_nothing_is_refused(self, name: str) -> None:
        """Without a tuning and without a cost no request could be answered."""
        with pytest.raises(ArgumentError, match="offer a tuning or a search cost"):
            Policy(**{name: None})  # type: ignore[arg-type]  # none of the two is another kind

    def test_the_floor_is_the_price_unless_overridden(self) -> None:
        """What is asked is what is accepted, and creating has a price of its own."""
        policy = Policy(access=ACCESS, create=CREATE, access_cost=3)
        assert (
            dict(policy.price("debug"))
            == dict(policy.floor("debug"))
            == {ARGON: ACCESS, SEARCH: SearchCost(3)}
        )
        assert dict(policy.price("create")) == dict(policy.floor("create")) == {ARGON: CREATE}

    def test_scopes_group_the_actions_by_price(self) -> None:
        """Actions of one price share a nonce, creating never, and it comes last."""

        class Dear(Policy):
            def price(self, action: str) -> Prices:
                return {ARGON: CREATE if action in ("delete", "create") else ACCESS}

        assert [scope for scope, _ in Dear().scopes()] == [
            {"read", "update", "debug", "proxy"},
            {"delete"},
            {"create"},
        ]
        even = Policy(access=ACCESS, create=ACCESS)
        assert [scope for scope, _ in even.scopes()] == [EVERY_ACTION - {"create"}, {"create"}]

    def test_scopes_are_the_askers_own(self) -> None:
        """They are grouped once, and who changes the list changes no other's."""
        policy = Policy(access=ACCESS, create=CREATE)
        policy.scopes().clear()
        assert len(policy.scopes()) == 2

    def test_scopes_follow_a_price_that_changes(self) -> None:
        """A subclass may ask for another price each time, and next nonces bring it."""

        class Rising(Policy):
            asked = ACCESS

            def price(self, action: str) -> Prices:
                return {ARGON: self.asked}

        policy = Rising()
        assert [price for _, price in policy.scopes()] == [{ARGON: ACCESS}] * 2
        policy.asked = CREATE
        assert [price for _, price in policy.scopes()] == [{ARGON: CREATE}] * 2


FLAT, DEAR, DEARER, VIP, STRANGE = (
    Policy(access=ACCESS.scaled(factor), create=None, create_cost=1) for factor in range(1, 6)
)


class TestSelection:
    """Which policy sets the prices of a request."""

    @pytest.mark.parametrize(
        ("path", "chosen"),
        [
            ("/export", DEAR),
            ("/export/", DEAR),
            ("/export/all", DEAR),
            ("/%65xport", DEAR),
            ("//export", DEAR),
            ("/export//all", DEAR),
            ("/export%2Fall", DEAR),
            ("/export/big/one", DEARER),
            ("/export/bigger", DEAR),
            ("/exports", None),
            ("/Export", None),
            ("/", None),
            (None, None),
        ],
    )
    def test_the_longest_route_that_fits_counts(self, path: str | None, chosen: Policy | None) -> None:
        """Routes end with a segment, are compared decoded, and concern no next nonces."""
        policy = Policy(access=ACCESS, routes={"/ex%70ort": DEAR, "/export/big/": DEARER})
        assert policy.select(path, "A", None) is (chosen or policy)

    def test_the_root_is_a_route(self) -> None:
        """A route of one slash is good for every path, and not for next nonces."""
        policy = Policy(routes={"/": DEAR})
        assert policy.select("/a", None, None) is DEAR
        assert policy.select(None, None, None) is policy

    @pytest.mark.parametrize("identities", [{"A": VIP}, {"A": VIP}.get])
    def test_an_identity_has_its_own_policy(
        self, identities: Callable[[str], Policy | None] | dict[str, Policy]
    ) -> None:
        """A mapping or a function names it, for requests and for next nonces."""
        policy = Policy(identities=identities)
        for path in ("/a", None):
            assert policy.select(path, "A", "alice") is VIP
            assert policy.select(path, "B", "bob") is policy
            assert policy.select(path, None, None) is policy

    def test_who_has_no_account_is_a_stranger(self) -> None:
        """So is whoever a challenge is for while nobody is known."""
        policy = Policy(strangers=STRANGE)
        for path in ("/a", None):
            assert policy.select(path, "A", None) is STRANGE
            assert policy.select(path, None, None) is STRANGE
            assert policy.select(path, "A", "alice") is policy

    def test_identities_come_before_strangers_and_routes(self) -> None:
        """The policy of the identity counts first, then that of strangers, then the outer one."""
        policy = Policy(routes={"/export": DEAR}, identities={"A": VIP}, strangers=STRANGE)
        assert policy.select("/export", "A", None) is VIP
        assert policy.select("/export", "B", None) is STRANGE
        assert policy.select("/export", "B", "bob") is DEAR

    def test_the_policy_found_may_have_routes(self) -> None:
        """Its routes count, and its identities and strangers do not."""
        inner = Policy(routes={"/export": DEARER}, identities={"B": VIP}, strangers=FLAT)
        policy = Policy(routes={"/export": DEAR}, strangers=inner)
        assert policy.select("/export", "B", None) is DEARER
        assert policy.select("/a", "B", None) is inner

    def test_strangers_can_be_left_out(self) -> None:
        """A policy without its strangers treats them as anybody else, and is unchanged itself."""
        policy = Policy(routes={"/export": DEAR}, strangers=STRANGE)
        without = policy._without_strangers()
        assert without.select("/export", None, None) is DEAR
        assert policy.select("/export", None, None) is STRANGE
        assert FLAT._without_strangers() is FLAT

    def test_a_subclass_needs_no_constructor(self) -> None:
        """A policy that never called the constructor selects itself."""

        class Bare(Policy):
            def __init__(self) -> None:
                pass

        bare = Bare()
        assert bare.select("/a", "A", None) is bare

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"routes": {"export": DEAR}}, "begins with a slash"),
            ({"routes": {"/export": ACCESS}}, "mapping of paths"),
            ({"routes": [DEAR]}, "mapping of paths"),
            ({"identities": VIP}, "function of an identity"),
            ({"identities": {"A": 1}}, "mapping of identities to policies"),
            ({"strangers": ACCESS}, "strangers is a Policy"),
        ],
    )
    def test_options_of_another_kind_are_refused(self, options: dict[str, Any], message: str) -> None:
        """The error says what was expected."""
        with pytest.raises(ArgumentError, match=message):
            Policy(**options)

    def test_the_hooks_of_a_static_policy_do_nothing(self) -> None:
        """What is demanded, checked and found wanting changes no price."""
        before = prices_of(FLAT)
        FLAT.demanded(ACCESS)
        FLAT.checked(ACCESS, 1.0)
        FLAT.failed(ACCESS)
        assert prices_of(FLAT) == before


async def _exists(path: str) -> bool:
    return path == "/there"


class TestActions:
    """Which action a request is."""

    @pytest.mark.parametrize(
        ("method", "action"),
        [
            ("GET", "read"),
            ("HEAD", "read"),
            ("OPTIONS", "read"),
            ("QUERY", "read"),
            ("PATCH", "update"),
            ("DELETE", "delete"),
            ("POST", "create"),
            ("PUT", "create"),
            ("BREW", "update"),
        ],
    )
    def test_the_server_decides_the_action(self, method: str, action: str) -> None:
        """Each method is an action; a PUT creates where nothing says that the resource is there."""
        assert result_of(Policy().action(method, "/a")) == action

    @pytest.mark.parametrize("exists", [lambda path: path == "/there", _exists, {"/there"}.__contains__])
    @pytest.mark.parametrize("make", [Policy, Policy.deployed])
    def test_a_put_to_what_is_there_is_an_update(
        self, make: Callable[..., Policy], exists: Callable[[str], bool]
    ) -> None:
        """``exists`` is asked about the path on the wire, sync or async."""
        policy = make(exists=exists)
        assert [result_of(policy.action("PUT", path)) for path in ("/there", "/new")] == ["update", "create"]

    def test_exists_is_a_function(self) -> None:
        """A container in its place is refused at once, and the error says what to pass."""
        with pytest.raises(ArgumentError, match=r"pass container\.__contains__"):
            Policy(exists={"/there"})  # type: ignore[arg-type]


def hiding(**options: Any) -> Server:
    """Make a server that hides which resources are there; one is, at ``/there``."""
    return Server(policy=quick_policy(exists="/there".__eq__, hide_existence=True, **options))


def telling() -> Server:
    """Make a server that does not hide it."""
    return Server(policy=quick_policy(exists="/there".__eq__))


def challenged(by: Server, method: str, path: str) -> tuple[object, ...]:
    """Say all that a challenge tells, but for its nonce."""
    rejection = by.refusal(method, path, [])
    challenges = read_challenges(fields_of(rejection.fields)("WWW-Authenticate"))
    nonces = {one.nonce for one in challenges}
    written = [(name, value.replace(nonce, "")) for name, value in rejection.fields for nonce in nonces]
    return rejection.status, str(rejection), json.loads(rejection.body)["action"], written


class TestHidingExistence:
    """A policy with ``hide_existence=True`` tells nobody whether a resource is there (section 10)."""

    def test_a_challenge_of_a_put_is_the_same_for_both(self) -> None:
        """It names both actions, at the price of creating, and its body says create, there or not."""
        there, new = (challenged(hiding(), "PUT", path) for path in ("/there", "/new"))
        assert there == new
        rejection = hiding().refusal("PUT", "/there", [])
        challenges = read_challenges(fields_of(rejection.fields)("WWW-Authenticate"))
        assert {one.actions for one in challenges} == {frozenset({"update", "create"})}
        assert [one.work for one in challenges] == [CREATE, SearchCost(1)]
        assert there[:3] == (401, "authorization required", "create")

    def test_every_refusal_of_a_put_is_the_same_for_both(self) -> None:
        """Later steps answer with the same challenge as the first one."""
        refusals = []
        for path in ("/there", "/new"):
            to = hiding()
            wrong = written(issued(to, {ARGON: CREATE}), CREATE, method="PUT", path="/other")
            rejection = to.refusal("PUT", path, [wrong])
            challenge = read_challenges(fields_of(rejection.fields)("WWW-Authenticate"))[0]
            refusals.append((str(rejection), rejection.body, challenge.actions, challenge.work))
        assert refusals[0] == refusals[1]
        assert refusals[0][0] == "challenge verification failed"

    @pytest.mark.parametrize("path", ["/there", "/new"])
    def test_the_nonce_of_a_challenge_is_good_for_either(self, path: str) -> None:
        """Its answer is accepted, and the handler learns what the request really is."""
        client, to = Client(), hiding()
        statuses, caller = send(client, to, "PUT", path, b"x")
        assert statuses == [401, 200]
        assert caller.action == ("update" if path == "/there" else "create")

    @pytest.mark.parametrize("path", ["/there", "/new"])
    def test_a_cheap_next_nonce_is_refused_for_a_put(self, path: str) -> None:
        """A nonce for updates would tell by being accepted; it is refused there or not."""
        to = hiding()
        cheap, _ = granted(to)
        rejection = to.refusal("PUT", path, [written(cheap, method="PUT", path=path)])
        assert (rejection.status, str(rejection)) == (401, "scope mismatch")
        assert "read" not in to.story

    @pytest.mark.parametrize("path", ["/there", "/new"])
    def test_a_next_nonce_for_creating_is_accepted_for_a_put(self, path: str) -> None:
        """It is accepted there or not, and the handler learns what the request really is."""
        to = hiding()
        _, dear = granted(to)
        caller = to.verify("PUT", path, [written(dear, CREATE, method="PUT", path=path)])
        assert caller.action == ("update" if path == "/there" else "create")

    @pytest.mark.parametrize(("method", "action"), [("GET", "read"), ("PATCH", "update"), ("POST", "create")])
    def test_other_methods_are_not_concerned(self, method: str, action: str) -> None:
        """What a challenge of theirs says is the same with it and without."""
        told = challenged(telling(), method, "/there")
        assert challenged(hiding(), method, "/there") == told
        assert told[2] == action

    def test_without_it_a_challenge_tells(self) -> None:
        """A policy that is not told to hide asks for the work of what the request is."""
        for path, action, work in (("/there", "update", ACCESS), ("/new", "create", CREATE)):
            rejection = telling().refusal("PUT", path, [])
            challenge = read_challenges(fields_of(rejection.fields)("WWW-Authenticate"))[0]
            assert (challenge.actions, challenge.work) == (frozenset({action}), work)
            assert json.loads(rejection.body)["action"] == action

    @pytest.mark.parametrize(("path", "is_accepted"), [("/there", True), ("/new", False)])
    def test_without_it_a_cheap_nonce_is_good_for_an_update(self, path: str, is_accepted: bool) -> None:
        """A policy that is not told to hide takes each nonce for what it was granted for."""
        to = telling()
        cheap, dear = granted(to)
        values = [written(cheap, method="PUT", path=path)]
        if is_accepted:
            assert to.verify("PUT", path, values).action == "update"
        else:
            assert str(to.refusal("PUT", path, values)) == "scope mismatch"
        values = [written(dear, CREATE, method="PUT", path=path)]
        if is_accepted:
            assert str(to.refusal("PUT", path, values)) == "scope mismatch"
        else:
            assert to.verify("PUT", path, values).action == "create"

    def test_an_async_lookup_is_awaited(self) -> None:
        """What is hidden may be looked up asynchronously."""
        to = Server(policy=quick_policy(exists=_exists, hide_existence=True))
        _, dear = granted(to)
        assert to.verify("PUT", "/there", [written(dear, CREATE, method="PUT", path="/there")]).action == (
            "update"
        )


def granted(by: Server) -> list[str]:
    """Grant next nonces: one for everything but creating, and one for creating."""
    found, _ = NextNonceReader().read(fields_of(by.grant_next())("Authentication-Info"))
    assert [nonce.terms.scopes for nonce in found] == [EVERY_ACTION - {"create"}, {"create"}]
    return [nonce.nonce for nonce in found]
