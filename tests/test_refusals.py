"""Section 10: what a server refuses, in which order, and what each refusal brings."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tuned_digest import Ed25519Signer, SearchCost
from tuned_digest._wire.challenge import read_challenges
from tuned_digest._wire.credentials import Credentials, write_credentials
from tuned_digest.server import Policy
from tuned_digest.server.policy import Prices

from .curve import encodings, small_order_points
from .driving import ACCESS, CREATE, Server, fields_of, quick_policy
from .verifying import ARGON, BOTH, EVERY_ACTION, SEARCH, is_held, issued, noted, signed, written

GOOD = written("n")
SMALL_ORDER = [code for point in small_order_points() for code in encodings(point)]


@pytest.mark.parametrize(
    "method", ["get", "Get", "post", "gET", "", " GET", "GET ", "GE T", "GET\n", "G(T", "G\u00c9T", "\u017f"]
)
@pytest.mark.parametrize("credential", ["none", "malformed", "good"])
def test_a_method_that_is_no_upper_case_token_is_refused_first(method: str, credential: str) -> None:
    """Step 1: it is 400 before anything else, whatever the credential; the policy never hears of it."""
    to = Server()
    nonce = issued(to)
    values = {
        "none": [],
        "malformed": ["tuned-digest-signature"],
        "good": [written(nonce, method=method if method.isascii() else "GET")],
    }[credential]
    rejection = to.refusal(method, "/a", values)
    assert (rejection.status, str(rejection)) == (400, "the method is not an upper-case token")
    assert rejection.fields == (("Cache-Control", "no-store"), ("Content-Type", "application/json"))
    assert to.story == []
    assert is_held(to, nonce)


@pytest.mark.parametrize("method", ["QUERY", "M-SEARCH", "X!#$%&'*+.^_`|~-0", "BREW"])
def test_any_upper_case_token_is_a_method(method: str) -> None:
    """Step 1: RFC 9110 lets a method be any token."""
    to = Server()
    assert to.verify(method, "/a", [written(issued(to), method=method)]).action in ("read", "update")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("CONNECT", "/"),
        ("TRACE", "/"),
        ("OPTIONS", "*"),
        ("GET", ""),
        ("GET", "a"),
        ("GET", "http://h/a"),
        ("GET", "/\u00e9"),
    ],
)
def test_what_is_never_signed_is_refused_outright(method: str, path: str) -> None:
    """Such a request is answered without a nonce."""
    to = Server()
    rejection = to.refusal(method, path, [written("n")])
    assert (rejection.status, to.story) == (400, [])
    assert set(json.loads(rejection.body)) == {"message"}


@pytest.mark.parametrize(
    "values",
    [
        ["tuned-digest-signature"],
        [GOOD, GOOD],
        [f"{GOOD}, {GOOD}"],
        ["Basic YTpi", GOOD],
        [GOOD.replace("identity=", "identity=AAAA")],
        [GOOD + ";x=" + "x" * 8192],
        [GOOD + "".join(f";x{n}=1" for n in range(29))],
    ],
)
def test_a_malformed_credential_brings_nothing(values: list[str]) -> None:
    """Step 1: it is 400 with a message in JSON, and neither takes a nonce nor gives one."""
    to = Server()
    rejection = to.refusal("GET", "/a", values)
    assert rejection.status == 400
    assert set(json.loads(rejection.body)) == {"message"}
    assert rejection.fields == (("Cache-Control", "no-store"), ("Content-Type", "application/json"))
    assert to.story == []


@pytest.mark.parametrize("values", [[], ["Basic YTpi"], ['Digest opaque="tuned-digest-signature"']])
def test_no_credential_of_ours_is_challenged(values: list[str]) -> None:
    """Step 1: no field, or another scheme's, is 401 with the same fresh nonce under each scheme."""
    to = Server()
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
    to = Server()
    nonce = issued(to)
    forged = replace(signed(nonce), identity=identity, signature=identity + bytes(32))
    rejection = to.refusal("GET", "/a", [write_credentials(forged)])
    assert rejection.status == 400
    assert "the identity is" in str(rejection)
    assert not fields_of(rejection.fields)("WWW-Authenticate")
    assert not is_held(to, nonce)


def test_an_identity_that_is_no_point_is_refused() -> None:
    """Step 2: bytes that encode no point of the curve are 400, and burn the nonce."""
    to = Server()
    nonce = issued(to)
    forged = replace(signed(nonce), identity=(2).to_bytes(32, "little"))
    rejection = to.refusal("GET", "/a", [write_credentials(forged)])
    assert (rejection.status, json.loads(rejection.body)["message"]) == (
        400,
        "the identity is not a point of the curve",
    )
    assert not is_held(to, nonce)


def _unregistered(identity: str) -> None:
    return None


async def _unregistered_after_waiting(identity: str) -> None:
    return None


def _unsigned(credentials: Credentials) -> Credentials:
    return replace(credentials, signature=bytes(64))


def _unchanged(credentials: Credentials) -> Credentials:
    return credentials


@pytest.mark.parametrize(
    ("options", "request_signed", "change", "body", "reason"),
    [
        ({}, {}, _unsigned, b"", "signature verification failed"),
        ({"accounts": _unregistered}, {}, _unchanged, b"", "unknown identity"),
        ({"accounts": set[str]().__contains__}, {}, _unchanged, b"", "unknown identity"),
        ({"accounts": _unregistered_after_waiting}, {}, _unchanged, b"", "unknown identity"),
        ({"policy": quick_policy(access=CREATE)}, {}, _unchanged, b"", "scope mismatch"),
        ({"policy": quick_policy(access=None)}, {}, _unchanged, b"", "scope mismatch"),
        ({"policy": quick_policy(access_cost=9)}, {"work": SearchCost(8)}, _unchanged, b"", "scope mismatch"),
        (
            {"policy": quick_policy(access_cost=None)},
            {"work": SearchCost(8)},
            _unchanged,
            b"",
            "scope mismatch",
        ),
        ({}, {"path": "/b"}, _unchanged, b"", "challenge verification failed"),
        ({}, {"method": "HEAD"}, _unchanged, b"", "challenge verification failed"),
        ({}, {}, _unchanged, b"x", "challenge verification failed"),
    ],
)
def test_what_is_not_accepted_is_challenged_anew(
    options: dict[str, Any],
    request_signed: dict[str, Any],
    change: Callable[[Credentials], Credentials],
    body: bytes,
    reason: str,
) -> None:
    """Steps 2 to 8: each refusal is 401 with its reason and a fresh nonce; the one presented is burned."""
    to = Server(**options)
    nonce = issued(to)
    credentials = change(signed(nonce, **request_signed))
    rejection = to.refusal("GET", "/a", [write_credentials(credentials)], body)
    assert (rejection.status, str(rejection)) == (401, reason)
    assert json.loads(rejection.body) == {"reason": reason, "action": "read"}
    fresh = read_challenges(fields_of(rejection.fields)("WWW-Authenticate"))
    assert fresh[0].nonce != nonce
    assert is_held(to, fresh[0].nonce)
    assert not is_held(to, nonce)


def test_a_nonce_that_was_not_issued_is_unknown() -> None:
    """Step 4: it is 401 with a fresh nonce, and burns no other."""
    to = Server()
    nonce = issued(to)
    rejection = to.refusal("GET", "/a", [written("other")])
    assert (rejection.status, str(rejection)) == (401, "unknown nonce")
    fresh = read_challenges(fields_of(rejection.fields)("WWW-Authenticate"))
    assert is_held(to, fresh[0].nonce)
    assert is_held(to, nonce)


@pytest.mark.parametrize(
    ("prices", "scope"),
    [(BOTH, EVERY_ACTION - {"read"}), ({SEARCH: SearchCost(8)}, EVERY_ACTION), ({}, EVERY_ACTION)],
)
def test_a_nonce_is_held_to_its_grant(prices: Prices, scope: frozenset[str]) -> None:
    """Step 6: an action outside the scope and a scheme that was not offered are a scope mismatch."""
    to = Server()
    assert str(to.refusal("GET", "/a", [written(issued(to, prices, scope))])) == "scope mismatch"
    assert "read" not in to.story


def test_a_cheap_nonce_is_not_spent_on_a_dear_request() -> None:
    """Step 6: a nonce hoarded at a low price is refused once the floor has risen, and one above it is not."""
    floors = [ACCESS]

    class Rising(Policy):
        def floor(self, action: str) -> Prices:
            return {ARGON: floors[-1]}

    to = Server(policy=Rising(access=ACCESS))
    to.verify("GET", "/a", [written(issued(to))])
    floors.append(CREATE)
    assert str(to.refusal("GET", "/a", [written(issued(to))])) == "scope mismatch"
    to.verify("GET", "/a", [written(issued(to, {ARGON: CREATE}), CREATE)])


def test_a_body_over_the_limit_is_refused_and_burns_the_nonce() -> None:
    """Step 7: it is 413 without a nonce, before any proof is checked."""
    to = Server()
    nonce = issued(to, {ARGON: noted(ACCESS, to.story)})
    body = bytes(to.limit + 1)
    rejection = to.refusal("GET", "/a", [written(nonce, body=body)], body)
    assert rejection.status == 413
    assert not fields_of(rejection.fields)("WWW-Authenticate")
    assert to.story == ["take", "classify", "read"]
    assert not is_held(to, nonce)


@pytest.mark.parametrize("position", range(9))
def test_the_first_thing_wrong_is_what_is_said(position: int) -> None:
    """A request wrong in several ways is refused for the earliest step of section 10."""
    signer = Ed25519Signer.generate()
    wrong = set(range(position, 9))
    scope = EVERY_ACTION - ({"read"} if 6 in wrong else set())
    to = Server(accounts=_unregistered if 4 in wrong else {signer.identity: "alice"}.get)
    nonce = "other" if 5 in wrong else issued(to, scope=scope)
    body = bytes(to.limit + 1) if 7 in wrong else b""
    credentials = signed(nonce, signer=signer, path="/b" if 8 in wrong else "/a", body=body)
    if 3 in wrong:
        credentials = replace(credentials, signature=bytes(64))
    if 2 in wrong:
        credentials = replace(credentials, identity=(1).to_bytes(32, "little"))
    values = [write_credentials(credentials)] * (2 if 1 in wrong else 1)
    rejection = to.refusal("get" if 0 in wrong else "GET", "/a", values, body)
    assert (rejection.status, str(rejection)) == [
        (400, "the method is not an upper-case token"),
        (400, "Authorization: more than one credential"),
        (400, "the identity is a point of small order"),
        (401, "signature verification failed"),
        (401, "unknown identity"),
        (401, "unknown nonce"),
        (401, "scope mismatch"),
        (413, "the body is larger than this server takes"),
        (401, "challenge verification failed"),
    ][position]
