"""Identities without an account, where a server lets them in: what they are offered, and what they pay."""

import pytest

from tuned_digest import ArgumentError, Ed25519Signer, Tuning
from tuned_digest._wire.challenge import NextNonceReader, read_challenges
from tuned_digest.server import Policy

from .driving import ACCESS, Client, Server, fields_of, quick_policy, send
from .verifying import issued, written

DEAR = Tuning("argon2d", 64, 2, 1)
FOR_STRANGERS = Policy(access=DEAR, create=DEAR)


@pytest.fixture
def known() -> Ed25519Signer:
    """A key with an account."""
    return Ed25519Signer.generate()


@pytest.fixture
def to(known: Ed25519Signer) -> Server:
    """A server that lets strangers in, at their own price."""
    policy = quick_policy(strangers=FOR_STRANGERS)
    return Server(policy=policy, accounts={known.identity: "acme"}.get, admit_strangers=True)


def test_a_challenge_to_nobody_known_asks_for_the_price_of_strangers(to: Server) -> None:
    """Who calls is not known before the signature, so a first request pays as a stranger's does."""
    challenges = read_challenges(fields_of(to.refusal("GET", "/a", []).fields)("WWW-Authenticate"))
    assert [challenge.work for challenge in challenges] == [DEAR]


def test_a_stranger_is_let_in_without_an_account(to: Server) -> None:
    """An identity that is not registered may call, and pays its price each time."""
    statuses, caller = send(Client(), to, "GET", "/a")
    assert (statuses, caller.account) == ([401, 200], None)


def test_an_account_pays_its_own_price(to: Server, known: Ed25519Signer) -> None:
    """After the first request a registered identity is granted nonces at the usual price."""
    client = Client(signer=known)
    _, caller = send(client, to, "GET", "/a")
    assert caller.account == "acme"
    statuses, _ = send(client, to, "GET", "/a")
    assert statuses == [200]


def test_a_stranger_cannot_pay_with_a_cheaper_nonce(to: Server, known: Ed25519Signer) -> None:
    """A nonce at the usual price, whoever got it, is below the floor for a stranger."""
    refusal = to.refusal("GET", "/a", [written(issued(to), ACCESS)])
    assert str(refusal) == "scope mismatch"
    assert to.verify("GET", "/a", [written(issued(to), ACCESS, signer=known)]).account == "acme"


def test_next_nonces_of_a_stranger_are_priced_for_strangers(to: Server) -> None:
    """What a stranger is granted is as dear as its challenge was."""
    client = Client()
    send(client, to, "GET", "/a")
    granted, _ = NextNonceReader().read(fields_of(to.grant_next())("Authentication-Info"))
    assert {work for nonce in granted for work in nonce.terms.works.values()} == {DEAR}


def test_admitting_strangers_needs_accounts() -> None:
    """Without accounts everybody is a stranger, and the option would say nothing."""
    with pytest.raises(ArgumentError, match="admit_strangers needs accounts"):
        Server(admit_strangers=True)


def test_strangers_stay_outside_where_they_are_not_admitted(known: Ed25519Signer) -> None:
    """Without admit_strangers an identity that is not registered is refused as before."""
    to = Server(accounts={known.identity: "acme"}.get)
    assert str(to.refusal("GET", "/a", [written(issued(to))])) == "unknown identity"
