"""Sections 6 and 10: policy, stores and verifier by hand, and joined with the client's core in memory."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError, Ed25519Signer, SearchCost, proof
from tuned_digest._grammar import ACTIONS, SCHEMES, Dialect, encode_base64
from tuned_digest._steps import Step
from tuned_digest.authorization import Authorization
from tuned_digest.canonical import body_digest, request_string
from tuned_digest.challenge import read_challenges, read_next_nonces
from tuned_digest.errors import RequestRejectedError
from tuned_digest.server import Caller, Grant, MemoryNonceStore, Policy, Verifier
from tuned_digest.server.policy import Prices
from tuned_digest.server.verifier import (
    Classify,
    FindAccount,
    IncomingRequest,
    PutGrant,
    ReadBody,
    TakeGrant,
    VerifyProof,
    _is_publicly_cacheable,
)
from tuned_digest.tuning import Work

from .curve import encodings, small_order_points
from .driving import ACCESS, CREATE, Client, Server, fields_of, perform, quick_policy, result_of, send
from .strategies import adversarial

ARGON, SEARCH = SCHEMES
BOTH: Prices = {ARGON: ACCESS, SEARCH: SearchCost(8)}
EVERY_ACTION = frozenset(ACTIONS)
SMALL_ORDER = [code for point in small_order_points() for code in encodings(point)]


class Clock:
    """A clock that stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def server(**options: Any) -> Server:
    """Make a server's core with settings of the test's own."""
    options.setdefault("policy", quick_policy())
    store = options.pop("store", None) or MemoryNonceStore()
    return Server(Verifier(store, **options))


def issued(to: Server, nonce: str = "n", prices: Prices = BOTH, scope: frozenset[str] = EVERY_ACTION) -> str:
    """Put a nonce into a server's store."""
    to.verifier.store.put(nonce, Grant(prices, scope, chained=True))
    return nonce


def signed(
    nonce: str = "n",
    work: Work = ACCESS,
    *,
    method: str = "GET",
    path: str = "/a",
    body: bytes = b"",
    signer: Ed25519Signer | None = None,
) -> Authorization:
    """Sign a request as a client does."""
    signer = signer or Ed25519Signer.generate()
    string = request_string(nonce, method, path, body_digest(body))
    response = proof.prove(string, work, nonce=nonce, salt=bytes(range(16)))
    return Authorization(work.scheme, signer.public_key, nonce, response, signer.sign(response.encode()))


def names(of: Server) -> list[type[Step[object]]]:
    """Name the steps a server has performed."""
    return [type(step) for step in of.steps]


def is_held(by: Server, nonce: str) -> bool:
    """Find out whether a store still holds a nonce, which takes it."""
    return by.verifier.store.take(nonce) is not None


@pytest.mark.parametrize("work", BOTH.values(), ids=str)
def test_a_signed_request_is_verified_in_order(work: Work) -> None:
    """Account, nonce, action, body and proof come in this order, and the handler learns who called."""
    signer = Ed25519Signer.generate()
    to = server(accounts={signer.identity: "alice"}.get)
    issued(to)
    caller = to.verify("GET", "/a", [str(signed(work=work, signer=signer))])
    assert caller == Caller(signer.identity, "alice", "read")
    assert names(to) == [FindAccount, TakeGrant, Classify, ReadBody, VerifyProof]


def test_without_registration_any_identity_may_call() -> None:
    """Where identities are not registered the caller has no account."""
    to, signer = server(), Ed25519Signer.generate()
    issued(to)
    assert to.verify("DELETE", "/a", [str(signed(method="DELETE", signer=signer))]) == Caller(
        signer.identity, None, "delete"
    )
    assert FindAccount not in names(to)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("CONNECT", "/", 400),
        ("TRACE", "/", 400),
        ("OPTIONS", "*", 400),
        ("GET", "", 400),
        ("GET", "a", 400),
        ("GET", "http://h/a", 400),
        ("GET", "/\u00e9", 400),
    ],
)
def test_what_is_never_signed_is_refused_outright(method: str, path: str, status: int) -> None:
    """Such a request is answered without a nonce."""
    to = server()
    rejection = to.refusal(method, path, [str(signed())])
    assert (rejection.status, to.steps) == (status, [])
    assert "message" in json.loads(rejection.body)


@pytest.mark.parametrize(
    "values",
    [
        ["tuned-digest-signature"],
        [str(signed()), str(signed())],
        [f"{signed()}, {signed()}"],
        ["Basic YTpi", str(signed())],
        [str(signed()).replace("identity=", "identity=AAAA")],
        [str(signed()) + ";" + "x" * 16384],
    ],
)
def test_a_malformed_credential_brings_nothing(values: list[str]) -> None:
    """Step 1: it is 400 with a message in JSON, and neither takes a nonce nor gives one."""
    to = server()
    rejection = to.refusal("GET", "/a", values)
    assert rejection.status == 400
    assert set(json.loads(rejection.body)) == {"message"}
    assert rejection.fields == (("Cache-Control", "no-store"), ("Content-Type", "application/json"))
    assert to.steps == []


@pytest.mark.parametrize("values", [[], ["Basic YTpi"], ['Digest opaque="tuned-digest-signature"']])
def test_no_credential_of_ours_is_challenged(values: list[str]) -> None:
    """Step 1: no field, or another scheme's, is 401 with the same fresh nonce under each scheme."""
    to = server()
    rejection = to.refusal("PATCH", "/a", values)
    assert (rejection.status, str(rejection)) == (401, "authorization required")
    assert json.loads(rejection.body) == {"reason": "authorization required", "action": "update"}
    fields = fields_of(rejection.fields)
    assert fields("Cache-Control") == ["no-store"]
    challenges = read_challenges(fields("WWW-Authenticate"))
    assert [(one.scheme, one.work) for one in challenges] == [(ARGON, ACCESS), (SEARCH, SearchCost(1))]
    assert {one.actions for one in challenges} == {frozenset({"update"})}
    assert len({one.nonce for one in challenges}) == 1
    assert fields("uno-www-authn") == fields("WWW-Authenticate")[1:]
    assert is_held(to, challenges[0].nonce)


@pytest.mark.parametrize("identity", SMALL_ORDER)
def test_identities_that_need_no_key_are_refused(identity: bytes) -> None:
    """Step 2: a point of small order, in any encoding, is 400, though OpenSSL may accept its signature."""
    to = server()
    issued(to)
    forged = replace(signed(), identity=identity, signature=identity + bytes(32))
    rejection = to.refusal("GET", "/a", [str(forged)])
    assert rejection.status == 400
    assert not fields_of(rejection.fields)("WWW-Authenticate")
    assert not is_held(to, "n")


def test_an_identity_that_is_no_point_is_refused() -> None:
    """Step 2: bytes that encode no point of the curve are 400."""
    to = server()
    issued(to)
    rejection = to.refusal("GET", "/a", [str(replace(signed(), identity=(2).to_bytes(32, "little")))])
    assert (rejection.status, json.loads(rejection.body)["message"]) == (
        400,
        "the identity is not a point of the curve",
    )


def _unregistered(identity: str) -> None:
    return None


async def _unregistered_after_waiting(identity: str) -> None:
    return None


@pytest.mark.parametrize(
    ("options", "credential", "body", "reason"),
    [
        ({}, replace(signed(), signature=bytes(64)), b"", "signature verification failed"),
        ({"accounts": _unregistered}, signed(), b"", "unknown identity"),
        ({"accounts": _unregistered_after_waiting}, signed(), b"", "unknown identity"),
        ({}, signed("other"), b"", "unknown nonce"),
        ({"policy": quick_policy(access=CREATE)}, signed(), b"", "scope mismatch"),
        ({"policy": quick_policy(access=None)}, signed(), b"", "scope mismatch"),
        ({"policy": quick_policy(access_cost=9)}, signed(work=SearchCost(8)), b"", "scope mismatch"),
        ({}, signed(path="/b"), b"", "challenge verification failed"),
        ({}, signed(method="HEAD"), b"", "challenge verification failed"),
        ({}, signed(), b"x", "challenge verification failed"),
    ],
)
def test_what_is_not_accepted_is_challenged_anew(
    options: dict[str, Any], credential: Authorization, body: bytes, reason: str
) -> None:
    """Steps 2 to 8: each refusal is 401 with its reason and a fresh nonce; the one presented is burned."""
    to = server(**options)
    issued(to)
    rejection = to.refusal("GET", "/a", [str(credential)], body)
    assert (rejection.status, str(rejection)) == (401, reason)
    assert json.loads(rejection.body) == {"reason": reason, "action": "read"}
    fresh = read_challenges(fields_of(rejection.fields)("WWW-Authenticate"))
    assert fresh[0].nonce not in ("n", "other")
    assert is_held(to, fresh[0].nonce)
    assert is_held(to, "n") is (credential.nonce == "other")


@pytest.mark.parametrize(
    ("prices", "scope"),
    [(BOTH, EVERY_ACTION - {"read"}), ({SEARCH: SearchCost(8)}, EVERY_ACTION), ({}, EVERY_ACTION)],
)
def test_a_nonce_is_held_to_its_grant(prices: Prices, scope: frozenset[str]) -> None:
    """Step 6: an action outside the scope and a scheme that was not offered are a scope mismatch."""
    to = server()
    issued(to, prices=prices, scope=scope)
    assert str(to.refusal("GET", "/a", [str(signed())])) == "scope mismatch"
    assert ReadBody not in names(to)


def test_a_cheap_nonce_is_not_spent_on_a_dear_request() -> None:
    """Step 6: a nonce hoarded at a low price is refused once the floor has risen, and one above it is not."""

    class Rising(Policy):
        floor_now = ACCESS

        def floor(self, action: str) -> Prices:
            return {ARGON: self.floor_now}

    policy = Rising(access=ACCESS)
    to = server(policy=policy)
    issued(to, "a")
    issued(to, "b")
    issued(to, "dear", {ARGON: CREATE})
    to.verify("GET", "/a", [str(signed("a"))])
    policy.floor_now = CREATE
    assert str(to.refusal("GET", "/a", [str(signed("b"))])) == "scope mismatch"
    to.verify("GET", "/a", [str(signed("dear", CREATE))])


def test_a_body_over_the_limit_is_refused_and_burns_the_nonce() -> None:
    """Step 7: it is 413 without a nonce, before any proof is checked."""
    to = server()
    issued(to)
    body = bytes(to.limit + 1)
    rejection = to.refusal("GET", "/a", [str(signed(body=body))], body)
    assert rejection.status == 413
    assert names(to) == [TakeGrant, Classify, ReadBody]
    assert not is_held(to, "n")


@pytest.mark.parametrize("position", range(8))
def test_the_first_thing_wrong_is_what_is_said(position: int) -> None:
    """A request wrong in several ways is refused for the earliest step of section 10."""
    signer = Ed25519Signer.generate()
    wrong = set(range(position, 8))
    scope = EVERY_ACTION - ({"read"} if 5 in wrong else set())
    to = server(accounts=_unregistered if 3 in wrong else {signer.identity: "alice"}.get)
    if 4 not in wrong:
        issued(to, scope=scope)
    body = bytes(to.limit + 1) if 6 in wrong else b""
    credential = signed(signer=signer, path="/b" if 7 in wrong else "/a", body=body)
    if 2 in wrong:
        credential = replace(credential, signature=bytes(64))
    if 1 in wrong:
        credential = replace(credential, identity=SMALL_ORDER[0])
    values = [str(credential)] * (2 if 0 in wrong else 1)
    rejection = to.refusal("GET", "/a", values, body)
    assert (rejection.status, str(rejection)) == [
        (400, "Authorization: more than one credential"),
        (400, str(rejection) if "identity" in str(rejection) else ""),
        (401, "signature verification failed"),
        (401, "unknown identity"),
        (401, "unknown nonce"),
        (401, "scope mismatch"),
        (413, "the body is larger than this server takes"),
        (401, "challenge verification failed"),
    ][position]


def test_a_nonce_is_burned_under_both_schemes_at_once() -> None:
    """Using a nonce under one scheme leaves nothing of it for the other."""
    to = server()
    issued(to)
    to.verify("GET", "/a", [str(signed())])
    assert str(to.refusal("GET", "/a", [str(signed(work=SearchCost(8)))])) == "unknown nonce"


def test_a_refused_proof_burns_the_nonce() -> None:
    """A second try under the same nonce is too late, also with the right proof."""
    to = server()
    issued(to)
    to.refusal("GET", "/a", [str(signed(path="/b"))])
    assert str(to.refusal("GET", "/a", [str(signed())])) == "unknown nonce"


def test_a_nonce_presented_from_many_threads_succeeds_once() -> None:
    """Of many requests under one nonce at once exactly one is let through."""
    to = server()
    value = str(signed(issued(to)))
    barrier = threading.Barrier(8)

    def present() -> str:
        worker = Server(to.verifier)
        barrier.wait()
        try:
            return worker.verify("GET", "/a", [value]).action
        except RequestRejectedError as rejection:
            return str(rejection)

    with ThreadPoolExecutor(8) as pool:
        outcomes = [future.result() for future in [pool.submit(present) for _ in range(8)]]
    assert sorted(outcomes) == ["read"] + ["unknown nonce"] * 7


@given(
    st.sampled_from(("method", "path", "body", "nonce", "response", "identity", "signature")),
    st.integers(0, 1000),
    st.integers(0, 7),
)
def test_any_bit_changed_is_refused(part: str, position: int, bit: int) -> None:
    """One bit of method, path, body or any part of the credential changed on the way is refused."""

    def flipped(text: str) -> str:
        at = position % len(text)
        return text[:at] + chr(ord(text[at]) ^ 1 << bit) + text[at + 1 :]

    to, nonce, body = server(), "Zm9vYmFyYmF6cXV4", "the body of it"
    issued(to, nonce)
    credential = signed(nonce, method="PATCH", path="/vaults/a", body=body.encode())
    request = {"method": "PATCH", "path": "/vaults/a", "body": body}
    values = {
        "identity": encode_base64(credential.identity),
        "nonce": nonce,
        "response": credential.response,
        "signature": encode_base64(credential.signature),
    }
    whole = request if part in request else values
    whole[part] = flipped(whole[part])
    value = f"{credential.scheme} " + ";".join(f"{name}={text}" for name, text in values.items())
    content = request["body"].encode("latin-1")
    assert to.refusal(request["method"], request["path"], [value], content).status in (400, 401)


@given(
    st.sampled_from(("nonce", "response", "identity", "signature")),
    st.integers(0, 1000),
    st.integers(0, 7),
    st.sampled_from(("deployed", "list")),
)
def test_any_bit_of_a_search_credential_changed_is_refused(
    part: str, position: int, bit: int, dialect: Dialect
) -> None:
    """One bit of a credential under the second scheme changed on the way is refused, in either dialect."""
    to, nonce = server(), "Zm9vYmFyYmF6cXV4"
    issued(to, nonce)
    credential = replace(signed(nonce, SearchCost(8)), dialect=dialect)
    texts = {
        "nonce": nonce,
        "response": credential.response,
        "identity": encode_base64(credential.identity),
        "signature": encode_base64(credential.signature),
    }
    opening = f"{part}=" if dialect == "deployed" else f'{part}="'
    value = str(credential)
    at = value.index(opening) + len(opening) + position % len(texts[part])
    changed = value[:at] + chr(ord(value[at]) ^ 1 << bit) + value[at + 1 :]
    assert to.refusal("GET", "/a", [changed]).status in (400, 401)


@given(
    st.text(max_size=8) | st.just("GET"), st.just("/a") | adversarial(), st.lists(adversarial(), max_size=2)
)
def test_no_request_raises_anything_foreign(method: str, path: str, authorization: list[str]) -> None:
    """Whatever is presented, it is refused with an answer to send."""
    rejection = server().refusal(method, path, authorization)
    assert rejection.status in (400, 401)
    assert json.loads(rejection.body)


@pytest.mark.parametrize("dialect", ["deployed", "list"])
@pytest.mark.parametrize("schemes", [(ARGON,), (SEARCH,), (SEARCH, ARGON)])
def test_client_and_server_understand_each_other(schemes: tuple[str, ...], dialect: Dialect) -> None:
    """The first request is challenged, every later one succeeds at once, under either scheme and dialect."""
    client, to = Client(options={"schemes": schemes}), server(dialect=dialect)
    assert send(client, to, "GET", "/a?b=c") == ([401, 200], Caller(client.signer.identity, None, "read"))
    for method, action in (("GET", "read"), ("PATCH", "update"), ("DELETE", "delete"), ("HEAD", "read")):
        assert send(client, to, method, "/a%20b", b"body") == (
            [200],
            Caller(client.signer.identity, None, action),
        )


def test_a_wrong_guess_of_the_action_costs_one_challenge() -> None:
    """A client that takes a PUT for an update is challenged to create, and then holds a nonce for it."""
    client, to = Client(), server()
    send(client, to, "GET", "/a")
    assert send(client, to, "PUT", "/new", b"x")[0] == [401, 200]
    client.options["action"] = lambda method, path: "create"
    assert send(client, to, "PUT", "/other", b"x")[0] == [200]


def test_both_sides_can_sign_another_path() -> None:
    """Behind a prefix the signed path is the one the router sees, where both sides are told so."""

    def without_prefix(path: str) -> str:
        return path.removeprefix("/v2")

    client, to = Client(options={"signed_path": without_prefix}), server(signed_path=without_prefix)
    assert send(client, to, "GET", "/v2/a")[0] == [401, 200]
    prove = next(step for step in to.steps if isinstance(step, VerifyProof))
    assert b":GET:/a:" in prove.request_string
    with pytest.raises(RequestRejectedError, match="challenge verification failed"):
        send(Client(), to, "GET", "/v2/a")


def numbered() -> Callable[[int], bytes]:
    """Give predictable randomness: 01 01 ..., 02 02 ..."""
    numbers = iter(range(1, 256))
    return lambda size: bytes([next(numbers)] * size)


def test_next_nonces_are_written_as_section_6_shows_them() -> None:
    """First everything but creating, then creating, each under both schemes, then the repeated fields."""
    to = Server(Verifier(MemoryNonceStore(), randomness=numbered()))
    one, two = encode_base64(b"\1" * 32), encode_base64(b"\2" * 32)
    rest = "read,update,delete,debug,proxy"
    info, repeated = "Authentication-Info", "uno-authn-info"
    assert to.grant_next() == (
        (info, f"nextnonce={one};argon=$argon2d$v=19$m=65536,t=3,p=8;scopes={rest}"),
        (info, f"nextnonce={one};blake3=1;scopes={rest}"),
        (info, f"nextnonce={two};argon=$argon2d$v=19$m=262144,t=5,p=8;scopes=create"),
        (info, f"nextnonce={two};blake3=1;scopes=create"),
        (repeated, f"nextnonce={one};blake3=1;scopes={rest}"),
        (repeated, f"nextnonce={two};blake3=1;scopes=create"),
    )


def test_a_challenge_is_written_as_section_1_shows_it() -> None:
    """The nonce is the base64 of 32 random bytes, and the asymmetric challenge is repeated."""
    to = Server(Verifier(MemoryNonceStore(), randomness=numbered()))
    nonce = encode_base64(b"\1" * 32)
    asymmetric = f"asym-tuned-digest-signature nonce={nonce};algorithm=blake3$1;actions=read"
    assert to.refusal("GET", "/", []).fields[:3] == (
        (
            "WWW-Authenticate",
            f"tuned-digest-signature nonce={nonce};algorithm=$argon2d$v=19$m=65536,t=3,p=8;actions=read",
        ),
        ("WWW-Authenticate", asymmetric),
        ("uno-www-authn", asymmetric),
    )


def test_the_repeated_fields_can_be_switched_off() -> None:
    """Without ``repeat_fields`` only the standard's own field names are written."""
    to = server(repeat_fields=False)
    written = {name for name, _ in (*to.refusal("GET", "/", []).fields, *to.grant_next())}
    assert written == {"WWW-Authenticate", "Cache-Control", "Content-Type", "Authentication-Info"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"create_cost": None}, [{ARGON, SEARCH}, {ARGON}]),
        ({"access": None}, [{SEARCH}, {ARGON, SEARCH}]),
    ],
)
def test_schemes_without_a_price_are_not_offered(options: dict[str, Any], expected: list[set[str]]) -> None:
    """A next nonce and a challenge name only the schemes that the policy prices."""
    to = server(policy=quick_policy(**options))
    found, dropped = read_next_nonces(fields_of(to.grant_next())("Authentication-Info"))
    assert ([set(nonce.works) for nonce in found], dropped) == (expected, [])
    offered = read_challenges(fields_of(to.refusal("GET", "/", []).fields)("WWW-Authenticate"))
    assert {challenge.scheme for challenge in offered} == expected[0]


@pytest.mark.parametrize(
    ("status", "cache_control", "grants"),
    [
        (200, "", True),
        (204, "no-cache", True),
        (302, "max-age=60", True),
        (404, "", True),
        (403, "private", True),
        (499, "", True),
        (401, "", False),
        (500, "", False),
        (503, "private", False),
        (200, "public", False),
        (200, "Public, max-age=60", False),
        (200, "max-age=60,\ts-maxage=60", False),
        (200, "must-revalidate", False),
        (200, "public, no-store", True),
        (200, "public, private", True),
        (200, 'public, private="set-cookie"', False),
    ],
)
def test_next_nonces_go_with_most_responses(status: int, cache_control: str, grants: bool) -> None:
    """None go with a 401, a 5xx or what a shared cache may keep (RFC 9111), and then none is issued."""
    to = server()
    assert bool(to.grant_next(status, cache_control)) is grants
    assert (PutGrant in names(to)) is grants


def test_cacheability_is_read_from_whole_directives() -> None:
    """A directive counts by its name, and not as part of another."""
    assert _is_publicly_cacheable("no-transform, PUBLIC")
    assert not _is_publicly_cacheable("x-public, publicity")


def test_an_unknown_dialect_is_refused() -> None:
    """A server writes one of the two dialects."""
    with pytest.raises(ArgumentError, match="deployed or list"):
        Verifier(MemoryNonceStore(), dialect="baroque")  # type: ignore[arg-type]


def test_a_verifier_has_a_policy_without_being_given_one() -> None:
    """Without a policy the deployed prices are asked."""
    policy = Verifier(MemoryNonceStore()).policy
    assert [policy.price(action) for action in ("read", "create")] == [
        Policy().price("read"),
        Policy().price("create"),
    ]


def test_rejections_and_requests_show_no_credentials() -> None:
    """The repr of a request and of each step holds no nonce, signature or response."""
    to = server()
    issued(to, "secret0")
    value = str(signed("secret0"))
    to.verify("GET", "/a", [value])
    assert "secret0" not in repr(to.steps) + repr(IncomingRequest("GET", "/a", [value]))


def grant(*, chained: bool = True) -> Grant:
    """Make a grant for everything."""
    return Grant(BOTH, EVERY_ACTION, chained=chained)


@pytest.mark.parametrize("chained", [True, False])
def test_a_nonce_is_taken_out_of_the_store_once(chained: bool) -> None:
    """A nonce gives its grant to the first who presents it and nothing to any other."""
    store = MemoryNonceStore()
    store.put("n", grant(chained=chained))
    assert store.take("m") is None
    assert store.take("n") == grant(chained=chained)
    assert store.take("n") is None


@pytest.mark.parametrize(("chained", "lifetime"), [(True, 86400.0), (False, 300.0)])
def test_a_nonce_goes_stale_on_the_server(chained: bool, lifetime: float) -> None:
    """A next nonce is good for 24 hours, a challenge's for five minutes, and not a moment longer."""
    clock = Clock()
    store = MemoryNonceStore(clock=clock)
    for nonce in "ab":
        store.put(nonce, grant(chained=chained))
    clock.now = lifetime - 0.1
    assert store.take("a") is not None
    clock.now = lifetime
    assert store.take("b") is None


def test_a_stale_nonce_is_unknown() -> None:
    """A request under a nonce of 24 hours ago is challenged anew."""
    clock = Clock()
    to = server(store=MemoryNonceStore(clock=clock))
    issued(to)
    clock.now = 86400.0
    assert str(to.refusal("GET", "/a", [str(signed())])) == "unknown nonce"


def test_a_flood_of_challenges_does_not_push_out_next_nonces() -> None:
    """Requests without credentials, however many, cost no client its next nonce."""
    to = server(store=MemoryNonceStore(capacity=1, challenge_capacity=2))
    client = Client()
    send(client, to, "GET", "/a")
    kept = to.verifier.store
    kept.put("next", grant())
    floods = [
        read_challenges(fields_of(to.refusal("GET", "/", []).fields)("WWW-Authenticate")) for _ in range(5)
    ]
    assert [is_held(to, challenges[0].nonce) for challenges in floods] == [False, False, False, True, True]
    assert is_held(to, "next")


def test_a_full_store_loses_its_oldest() -> None:
    """Beyond the capacity the oldest next nonce goes."""
    store = MemoryNonceStore(capacity=2)
    for nonce in "abc":
        store.put(nonce, grant())
    assert [store.take(nonce) is not None for nonce in "abc"] == [False, True, True]


def test_stale_nonces_make_room() -> None:
    """What has gone stale is dropped when something is put, full or not."""
    clock = Clock()
    store = MemoryNonceStore(lifetime=10, clock=clock)
    store.put("a", grant())
    clock.now = 10.0
    store.put("b", grant())
    clock.now = 0.0
    assert store.take("a") is None
    assert store.take("b") is not None


@pytest.mark.parametrize("name", ["capacity", "lifetime", "challenge_capacity", "challenge_lifetime"])
def test_capacities_and_lifetimes_are_positive(name: str) -> None:
    """A store that could hold nothing is an error at once."""
    with pytest.raises(ArgumentError, match="are positive"):
        MemoryNonceStore(**{name: 0})  # type: ignore[arg-type]  # none of the four is the clock


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
def test_the_server_decides_the_action(method: str, action: str) -> None:
    """Each method is an action; a PUT creates where nothing says that the resource is there."""
    assert result_of(Policy().action(method, "/a")) == action


async def _exists(path: str) -> bool:
    return path == "/there"


@pytest.mark.parametrize("exists", [lambda path: path == "/there", _exists])
def test_a_put_to_what_is_there_is_an_update(exists: Callable[[str], bool]) -> None:
    """``exists`` is asked about the path on the wire, sync or async."""
    policy = Policy(exists=exists)
    assert [result_of(policy.action("PUT", path)) for path in ("/there", "/new")] == ["update", "create"]


def test_the_floor_is_the_price_unless_overridden() -> None:
    """What is asked is what is accepted, and creating has a price of its own."""
    policy = Policy(access=ACCESS, create=CREATE, access_cost=3, create_cost=None)
    assert (
        dict(policy.price("debug")) == dict(policy.floor("debug")) == {ARGON: ACCESS, SEARCH: SearchCost(3)}
    )
    assert dict(policy.price("create")) == dict(policy.floor("create")) == {ARGON: CREATE}


def test_scopes_group_the_actions_by_price() -> None:
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


def test_generators_end_with_what_the_driver_raises() -> None:
    """A store that fails fails the request: nothing is let through."""

    def failing(step: Step[object]) -> object:
        raise ArgumentError("the store is gone")

    with pytest.raises(ArgumentError, match="the store is gone"):
        perform(server().verifier.verify(IncomingRequest("GET", "/a", [str(signed())])), failing)
