"""What a server counts, and tells a callback."""

import pytest

from tuned_digest.errors import ArgumentError
from tuned_digest.server import Counters, Decision, MemoryNonceStore, Verifier

from .driving import Client, Server, send
from .verifying import issued, written


def test_a_new_verifier_has_counted_nothing() -> None:
    """All counters begin at nothing, at the usual price."""
    assert Verifier(MemoryNonceStore()).counters() == Counters(0, 0, {}, 0.0, 0, 0, 1.0)


def test_decisions_are_counted_and_told() -> None:
    """Every request is counted once, as accepted or with the reason of its refusal, and the callback told."""
    told: list[Decision] = []
    to = Server(on_decision=told.append)
    client = Client()
    send(client, to, "GET", "/a")
    to.refusal("post", "/a", [])
    to.refusal("GET", "/a", [written(issued(to), body=b"other")])
    to.refusal("PATCH", "/a", [written(issued(to), method="PATCH", body=bytes(2000))], bytes(2000))
    identity = client.signer.identity
    assert told == [
        Decision(401, "authorization required", "", ""),
        Decision(0, "", "read", identity),
        Decision(400, "bad request", "", ""),
        Decision(401, "challenge verification failed", "", ""),
        Decision(413, "body too large", "", ""),
    ]
    counters = to.verifier.counters()
    assert counters.accepted == 1
    assert counters.issued == 4
    assert counters.refused == {
        "authorization required": 1,
        "bad request": 1,
        "challenge verification failed": 1,
        "body too large": 1,
    }


def test_refusals_name_few_reasons() -> None:
    """However requests differ, a reason is one of few: counters do not grow with what clients send."""
    to = Server()
    for number in range(50):
        to.refusal("GET", f"a{number}", [])
        to.refusal(f"m{number}", "/", [])
        to.refusal("GET", "/", [f"tuned-digest-signature x{number}"])
    assert to.verifier.counters().refused == {"bad request": 150}


def test_counters_are_a_snapshot() -> None:
    """What was given does not change when more is counted."""
    to = Server()
    before = to.verifier.counters()
    to.refusal("GET", "/", [])
    assert before.refused == {}


def test_a_callback_that_is_no_function_is_an_argument_error() -> None:
    """What cannot be called is said so at once."""
    with pytest.raises(ArgumentError, match="on_decision is a function"):
        Verifier(MemoryNonceStore(), on_decision=3)  # type: ignore[arg-type]
