"""Section 7: which challenge is answered, and which is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import (
    LimitExceededError,
    Limits,
    MalformedFieldError,
    Resources,
    SearchCost,
    UnsupportedAlgorithmError,
    Work,
)
from tuned_digest._wire.challenge import CHALLENGE_FIELDS, NEXT_NONCE_FIELDS, write_challenge
from tuned_digest.events import Event, NextNonceDropped

from .driving import ACCESS, CREATE, ORIGIN, Client, fields_of, perform
from .exchanging import ARGON, REST, SEARCH, answered, challenge, next_nonce, rejected, written
from .strategies import adversarial

BOTH = (ARGON, SEARCH)


def test_the_first_usable_challenge_of_a_scheme_counts() -> None:
    """An unsupported challenge is passed over where another can be answered."""
    client = Client(options={"schemes": BOTH})
    unsupported = "tuned-digest-signature nonce=x;algorithm=scrypt;actions=read"
    received = rejected(client.exchange("GET", "/"), unsupported, challenge("a"), challenge("b"))
    assert received.challenge is not None
    assert received.challenge.nonce == "a"
    received = rejected(client.exchange("GET", "/"), unsupported, challenge("a", SearchCost(1)))
    assert received.challenge is not None
    assert received.challenge.scheme == SEARCH


@pytest.mark.parametrize("schemes", [None, (ARGON,)])
def test_challenges_that_cannot_be_answered_are_an_error(schemes: tuple[str, ...] | None) -> None:
    """Where a search alone is offered, the error says so, why it is not done, and what to pass."""
    exchange = Client(options={"schemes": schemes}).exchange("GET", "/")
    with pytest.raises(
        UnsupportedAlgorithmError, match=r"offers asym.* with 'blake3\$1'.*hostile.*schemes=\['asym-"
    ) as caught:
        rejected(exchange, challenge("c", SearchCost(1)))
    assert caught.value.algorithm == "blake3$1"


def test_an_unknown_algorithm_is_an_error() -> None:
    """Where all that is offered is unknown, the error says what was, and shows no more than 80 characters."""
    exchange = Client().exchange("GET", "/")
    unknown = f"tuned-digest-signature nonce=x;algorithm={'s' * 100};actions=read"
    with pytest.raises(UnsupportedAlgorithmError, match=f"with '{'s' * 80}'") as caught:
        rejected(exchange, unknown)
    assert caught.value.algorithm == "s" * 100
    assert "schemes=" not in str(caught.value)


def test_a_tuning_beyond_the_limits_does_not_fall_back() -> None:
    """Too much work under the preferred scheme is an error, even where the other would do."""
    options = {"schemes": BOTH, "limits": Limits(max_memory_kib=7)}
    exchange = Client(options=options).exchange("GET", "/")
    with pytest.raises(LimitExceededError, match="max_memory_kib=8"):
        rejected(exchange, challenge(), challenge("c", SearchCost(1)))


def test_a_malformed_challenge_is_an_error() -> None:
    """A challenge of ours that breaks the grammar is a problem when it would be answered."""
    with pytest.raises(MalformedFieldError, match="nonce is missing"):
        rejected(Client().exchange("GET", "/"), "tuned-digest-signature x=y")


@pytest.mark.parametrize("status", [200, 302, 403, 407, 500])
def test_only_a_401_is_answered(status: int) -> None:
    """A challenge in another response is left alone, and next nonces are harvested from any."""
    exchange = Client().exchange("GET", "/")
    fields = [("www-authenticate", write_challenge(challenge())), *written(next_nonce("n"))]
    received = exchange.receive(status, fields_of(fields))
    assert (received.challenge, received.problem) == (None, None)
    assert [nonce.nonce for nonce in received.nonces] == ["n"]


def test_a_401_brings_its_next_nonces_with_its_problem() -> None:
    """What is wrong with a challenge does not cost the nonces that came with it."""
    exchange = Client().exchange("GET", "/")
    fields = [("WWW-Authenticate", "tuned-digest-signature x=y"), *written(next_nonce("n"))]
    received = exchange.receive(401, fields_of(fields))
    assert received.challenge is None
    assert isinstance(received.problem, MalformedFieldError)
    assert [nonce.nonce for nonce in received.nonces] == ["n"]


def test_a_401_without_a_challenge_of_ours_goes_to_the_caller() -> None:
    """A 401 that asks for another scheme is not answered."""
    assert rejected(Client().exchange("GET", "/"), 'Basic realm="x"').challenge is None


def test_a_401_to_an_answer_is_final() -> None:
    """A rejection of the answer to a challenge goes to the caller, even with a fresh challenge."""
    client = Client()
    exchange = client.exchange("GET", "/")
    assert answered(client, exchange, challenge("a"))
    for reason in ("", "challenge verification failed", "signature verification failed"):
        assert rejected(exchange, challenge("b"), reason=reason).challenge is None


@pytest.mark.parametrize("reason", ["unknown nonce", "scope mismatch"])
def test_a_passing_reason_is_answered_once_more(reason: str) -> None:
    """A nonce lost to another worker is replaced once, and then the 401 goes to the caller."""
    client = Client()
    exchange = client.exchange("GET", "/")
    assert answered(client, exchange, challenge("a"))
    assert answered(client, exchange, challenge("b"), reason=reason)
    assert rejected(exchange, challenge("c"), reason=reason).challenge is None
    assert exchange.answers == 2


def test_a_failed_next_nonce_is_followed_by_one_challenge() -> None:
    """A 401 to a chained request is answered whatever its reason, and the next is final."""
    client = Client()
    client.cache.remember(ORIGIN, [next_nonce()])
    exchange = client.exchange("GET", "/")
    assert perform(exchange.authorize(), client.answer)
    assert (exchange.was_sent, exchange.answers) == (True, 0)
    assert answered(client, exchange, challenge("a"), reason="challenge verification failed")
    assert rejected(exchange, challenge("b")).challenge is None


def test_a_challenge_that_repeats_a_sent_nonce_ends_it() -> None:
    """A nonce this target was sent with is never answered, chained, challenged or forwarded."""
    client = Client()
    client.cache.remember(ORIGIN, [next_nonce("n")])
    exchange = client.exchange("GET", "/")
    perform(exchange.authorize(), client.answer)
    assert rejected(exchange, challenge("n")).challenge is None
    assert answered(client, exchange, challenge("a"))
    assert rejected(exchange, challenge("a"), reason="unknown nonce").challenge is None
    forwarded = client.exchange("GET", "/", sent="f")
    assert forwarded.was_sent
    assert rejected(forwarded, challenge("f")).challenge is None


def test_one_target_takes_up_four_challenges_at_most() -> None:
    """A server that repeats spent nonces for ever does not keep a client for ever."""
    client = Client()
    exchange = client.exchange("GET", "/")
    for nonce in "abcd":
        client.cache.spend(ORIGIN, nonce)
        assert answered(client, exchange, challenge(nonce)) is None
    assert rejected(exchange, challenge("e")).challenge is None
    assert "prove" not in client.story


def test_next_nonces_that_nothing_could_be_signed_under_are_left_out() -> None:
    """A nonce of another scheme, beyond the limits or without a known action is not remembered."""
    events: list[Event] = []
    client = Client(options={"limits": Limits(max_memory_kib=8), "on_event": events.append})
    unknown = "nextnonce=unknown;argon=$argon2d$v=19$m=8,t=1,p=1;scopes=levitate"
    malformed = "nextnonce=malformed;argon=x;scopes=read"
    fields = [
        *written(next_nonce("search", SearchCost(1)), next_nonce("dear", CREATE)),
        ("Authentication-Info", unknown),
        ("Authentication-Info", malformed),
        *written(next_nonce("good", ACCESS)),
    ]
    received = client.exchange("GET", "/").receive(200, fields_of(fields))
    assert [nonce.nonce for nonce in received.nonces] == ["good"]
    assert received.nonces[0].terms.scopes == REST
    dropped = [event for event in events if isinstance(event, NextNonceDropped)]
    assert len(dropped) == len(events) == 2
    assert {(event.origin, event.field) for event in dropped} == {(ORIGIN, "Authentication-Info")}
    assert "'x' is not supported" in dropped[0].problem
    assert "max_memory_kib=16" in dropped[1].problem


def test_a_tuning_beyond_this_processs_memory_is_refused() -> None:
    """What alone takes more memory than there is for all is an error that names the setting."""
    exchange = Client(options={"resources": Resources(memory_kib=7)}).exchange("GET", "/")
    with pytest.raises(LimitExceededError, match=r"resources=Resources\(memory_kib=8\)") as raised:
        rejected(exchange, challenge())
    assert (raised.value.limit, raised.value.asked, raised.value.allowed) == ("memory_kib", 8, 7)


@pytest.mark.parametrize(
    ("memory_kib", "work"), [(None, ACCESS), (ACCESS.memory_kib, ACCESS), (1, SearchCost(1))], ids=str
)
def test_work_within_this_processs_memory_is_answered(memory_kib: int | None, work: Work) -> None:
    """A tuning up to the memory, any where there is no limit, and every search can be answered."""
    options = {"schemes": BOTH, "resources": Resources(memory_kib=memory_kib)}
    exchange = Client(options=options).exchange("GET", "/")
    assert rejected(exchange, challenge(work=work)).challenge is not None


@given(
    st.sampled_from((200, 401, 500)),
    st.lists(st.tuples(st.sampled_from((*CHALLENGE_FIELDS, *NEXT_NONCE_FIELDS)), adversarial()), max_size=5),
    adversarial(),
)
def test_receiving_raises_nothing(status: int, fields: list[tuple[str, str]], reason: str) -> None:
    """Whatever a response holds, what is wrong with it is one of the three problems that have a name."""
    events: list[Event] = []
    exchange = Client(options={"schemes": BOTH, "on_event": events.append}).exchange("GET", "/")
    received = exchange.receive(status, fields_of(fields), reason)
    problems = (MalformedFieldError, UnsupportedAlgorithmError, LimitExceededError)
    assert received.problem is None or isinstance(received.problem, problems)
    assert received.challenge is None or received.problem is None
    if status != 401:
        assert (received.challenge, received.problem) == (None, None)
