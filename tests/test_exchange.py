"""Section 7: the client's order, driven by hand."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import (
    ArgumentError,
    LimitExceededError,
    Limits,
    MalformedFieldError,
    SearchCost,
    UnsupportedAlgorithmError,
)
from tuned_digest._grammar import ACTIONS, SCHEMES, Dialect
from tuned_digest._steps import Step
from tuned_digest.authorization import read_authorization
from tuned_digest.bodies import BytesBody
from tuned_digest.canonical import body_digest
from tuned_digest.challenge import Challenge, NextNonce, write_challenge, write_next_nonce
from tuned_digest.errors import ProofNotFoundError
from tuned_digest.events import (
    ChallengeReceived,
    Event,
    NextNonceDropped,
    RequestSigned,
    WorkFinished,
    WorkProgressed,
    WorkStarted,
)
from tuned_digest.exchange import (
    Digest,
    Exchange,
    Prove,
    Received,
    Settings,
    Sign,
    Spend,
    Take,
    Target,
    guess_action,
)
from tuned_digest.proof import engine
from tuned_digest.tuning import Work

from .driving import ACCESS, ORIGIN, Client, fields_of, perform
from .strategies import adversarial

ARGON, SEARCH = SCHEMES
READ = frozenset({"read"})
REST = frozenset(ACTIONS) - {"create"}


def challenge(nonce: str = "c", work: Work = ACCESS, dialect: Dialect = "deployed") -> Challenge:
    """Make a challenge for reading."""
    return Challenge(work.scheme, nonce, str(work), work, READ, dialect)


def next_nonce(nonce: str = "n", *works: Work, dialect: Dialect = "deployed") -> NextNonce:
    """Make a next nonce for everything but creating."""
    return NextNonce(nonce, {work.scheme: work for work in works or (ACCESS, SearchCost(1))}, REST, dialect)


def rejected(exchange: Exchange, *challenges: Challenge | str, reason: str = "") -> Received:
    """Receive a 401 with challenges."""
    written = [one if isinstance(one, str) else write_challenge(one) for one in challenges]
    received = exchange.receive(401, fields_of([("WWW-Authenticate", value) for value in written]), reason)
    if received.problem is not None:
        raise received.problem
    return received


def kinds(client: Client) -> list[type[Step[object]]]:
    """Name the steps a client has performed."""
    return [type(step) for step in client.steps]


def test_a_request_without_a_nonce_is_sent_unsigned() -> None:
    """With no nonce held the body is digested, a nonce asked for, and nothing is signed."""
    client = Client()
    assert perform(client.exchange("GET", "/a").authorize(), client.answer) is None
    assert kinds(client) == [Digest, Take]


def test_a_held_nonce_signs_a_request() -> None:
    """The order is digest, take, prove, sign, and the credential is under the nonce."""
    client = Client()
    client.cache.remember(ORIGIN, [next_nonce()])
    value = perform(client.exchange("PATCH", "/a?b", b"body").authorize(), client.answer)
    assert kinds(client) == [Digest, Take, Prove, Sign]
    credential = read_authorization([str(value)])
    assert credential is not None
    assert (credential.scheme, credential.nonce, credential.identity) == (
        ARGON,
        "n",
        client.signer.public_key,
    )
    prove = client.steps[2]
    assert isinstance(prove, Prove)
    assert prove.request_string.startswith(b"n:PATCH:/a:")
    assert prove.work == ACCESS


def test_a_challenge_is_answered() -> None:
    """The order is digest, spend, prove, sign, and the credential is under the challenge's nonce."""
    client = Client()
    exchange = client.exchange("GET", "/a")
    received = rejected(exchange, challenge("c", SearchCost(2)))
    value = perform(exchange.authorize(received.challenge), client.answer)
    assert kinds(client) == [Digest, Spend, Prove, Sign]
    credential = read_authorization([str(value)])
    assert credential is not None
    assert (credential.scheme, credential.nonce) == (SEARCH, "c")


@pytest.mark.parametrize("dialect", ["deployed", "list"])
def test_each_dialect_is_answered_in_kind(dialect: Dialect) -> None:
    """A challenge and a next nonce are answered in the dialect they came in."""
    client = Client()
    exchange = client.exchange("GET", "/a")
    answer = perform(
        exchange.authorize(rejected(exchange, challenge(dialect=dialect)).challenge), client.answer
    )
    client.cache.remember(ORIGIN, [next_nonce(dialect=dialect)])
    chained = perform(client.exchange("GET", "/a").authorize(), client.answer)
    for value in (answer, chained):
        credential = read_authorization([str(value)])
        assert credential is not None
        assert credential.dialect == dialect


def test_the_signature_covers_the_response() -> None:
    """What is signed is the ASCII text of the response in the credential."""
    client = Client()
    exchange = client.exchange("GET", "/")
    value = perform(exchange.authorize(challenge()), client.answer)
    credential = read_authorization([str(value)])
    assert credential is not None
    assert client.steps[-1] == Sign(credential.response.encode())
    assert credential.signature == client.signer.sign(credential.response.encode())


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", "read"),
        ("HEAD", "read"),
        ("OPTIONS", "read"),
        ("PATCH", "update"),
        ("PUT", "update"),
        ("POST", "update"),
        ("DELETE", "delete"),
        ("BREW", "update"),
    ],
)
def test_actions_are_guessed(method: str, action: str) -> None:
    """The guess is that of section 7, and it is what a nonce is taken for."""
    assert guess_action(method, "/") == action
    client = Client()
    perform(client.exchange(method, "/").authorize(), client.answer)
    assert client.steps[-1] == Take(ORIGIN, action)


def test_callers_can_name_the_action_and_the_signed_path() -> None:
    """Both settings get what is on the wire, without the query."""
    seen: list[tuple[str, ...]] = []

    def action(method: str, path: str) -> str:
        seen.append((method, path))
        return "create"

    def signed_path(path: str) -> str:
        seen.append((path,))
        return path.removeprefix("/v2")

    client = Client(options={"action": action, "signed_path": signed_path})
    client.cache.remember(ORIGIN, [NextNonce("n", {ARGON: ACCESS}, frozenset({"create"}))])
    perform(client.exchange("PUT", "/v2/a%20b?c").authorize(), client.answer)
    assert seen == [("PUT", "/v2/a%20b"), ("/v2/a%20b",)]
    prove = client.steps[2]
    assert isinstance(prove, Prove)
    assert prove.request_string.startswith(b"n:PUT:/a%20b:")


def test_an_unknown_action_is_refused() -> None:
    """A setting that names no action of the protocol is an error, before a nonce is taken."""
    client = Client(options={"action": lambda method, path: "levitate"})
    with pytest.raises(ArgumentError, match="not 'levitate'"):
        perform(client.exchange("GET", "/").authorize(), client.answer)
    assert kinds(client) == [Digest]


@pytest.mark.parametrize("schemes", [(), ("Basic",), (ARGON, "x")])
def test_unknown_schemes_are_refused(schemes: Sequence[str]) -> None:
    """A client answers some of the two schemes."""
    with pytest.raises(ArgumentError, match="schemes are some of"):
        Settings(public_key=b"k" * 32, schemes=schemes)


@pytest.mark.parametrize(
    ("schemes", "answered"), [((ARGON, SEARCH), ARGON), ((SEARCH, ARGON), SEARCH), ((SEARCH,), SEARCH)]
)
def test_the_preferred_scheme_is_answered(schemes: tuple[str, ...], answered: str) -> None:
    """Of two schemes on offer the client's first counts, in challenges and in next nonces."""
    client = Client(options={"schemes": schemes})
    exchange = client.exchange("GET", "/")
    received = rejected(exchange, challenge(), challenge("c", SearchCost(1)))
    assert received.challenge is not None
    assert received.challenge.scheme == answered
    client.cache.remember(ORIGIN, [next_nonce()])
    value = perform(client.exchange("GET", "/").authorize(), client.answer)
    assert str(value).startswith(f"{answered} ")


def test_the_first_usable_challenge_of_a_scheme_counts() -> None:
    """An unsupported challenge is passed over where another can be answered."""
    exchange = Client().exchange("GET", "/")
    unsupported = "tuned-digest-signature nonce=x;algorithm=scrypt;actions=read"
    received = rejected(exchange, unsupported, challenge("a"), challenge("b"))
    assert received.challenge is not None
    assert received.challenge.nonce == "a"
    other = Client().exchange("GET", "/")
    received = rejected(other, unsupported, challenge("a", SearchCost(1)))
    assert received.challenge is not None
    assert received.challenge.scheme == SEARCH


def test_challenges_that_cannot_be_answered_are_an_error() -> None:
    """Where all that is offered is unsupported, the error says what was."""
    exchange = Client(options={"schemes": (ARGON,)}).exchange("GET", "/")
    with pytest.raises(UnsupportedAlgorithmError, match=r"offers asym.* with 'blake3\$1'") as caught:
        rejected(exchange, challenge("c", SearchCost(1)))
    assert caught.value.algorithm == "blake3$1"


def test_a_tuning_beyond_the_limits_does_not_fall_back() -> None:
    """Too much work under the preferred scheme is an error, even where the other would do."""
    exchange = Client(options={"limits": Limits(max_memory_kib=7)}).exchange("GET", "/")
    with pytest.raises(LimitExceededError, match="max_memory_kib=8"):
        rejected(exchange, challenge(), challenge("c", SearchCost(1)))


def test_a_malformed_challenge_is_an_error() -> None:
    """A challenge of ours that breaks the grammar is raised when it would be answered."""
    with pytest.raises(MalformedFieldError, match="nonce is missing"):
        rejected(Client().exchange("GET", "/"), "tuned-digest-signature x=y")


@pytest.mark.parametrize("status", [200, 302, 403, 407, 500])
def test_only_a_401_is_answered(status: int) -> None:
    """A challenge in another response is left alone, and next nonces are harvested from any."""
    exchange = Client().exchange("GET", "/")
    fields = [
        ("www-authenticate", write_challenge(challenge())),
        ("authentication-info", write_next_nonce("n", ACCESS, REST)),
    ]
    received = exchange.receive(status, fields_of(fields))
    assert received.challenge is None
    assert [nonce.nonce for nonce in received.nonces] == ["n"]


def test_a_401_without_a_challenge_of_ours_goes_to_the_caller() -> None:
    """A 401 that asks for another scheme is not answered."""
    assert rejected(Client().exchange("GET", "/"), 'Basic realm="x"').challenge is None


def test_a_401_to_an_answer_is_final() -> None:
    """A rejection of the answer to a challenge goes to the caller, even with a fresh challenge."""
    client = Client()
    exchange = client.exchange("GET", "/")
    perform(exchange.authorize(rejected(exchange, challenge("a")).challenge), client.answer)
    for reason in ("", "challenge verification failed", "signature verification failed"):
        assert rejected(exchange, challenge("b"), reason=reason).challenge is None


@pytest.mark.parametrize("reason", ["unknown nonce", "scope mismatch"])
def test_a_passing_reason_is_answered_once_more(reason: str) -> None:
    """A nonce lost to another worker is replaced once, and then the 401 goes to the caller."""
    client = Client()
    exchange = client.exchange("GET", "/")
    perform(exchange.authorize(rejected(exchange, challenge("a")).challenge), client.answer)
    perform(exchange.authorize(rejected(exchange, challenge("b"), reason=reason).challenge), client.answer)
    assert rejected(exchange, challenge("c"), reason=reason).challenge is None


def test_a_failed_next_nonce_is_followed_by_one_challenge() -> None:
    """A 401 to a chained request is answered whatever its reason, and the next is final."""
    client = Client()
    client.cache.remember(ORIGIN, [next_nonce()])
    exchange = client.exchange("GET", "/")
    assert perform(exchange.authorize(), client.answer)
    received = rejected(exchange, challenge("a"), reason="challenge verification failed")
    assert perform(exchange.authorize(received.challenge), client.answer)
    assert rejected(exchange, challenge("b")).challenge is None


def test_a_challenge_that_repeats_a_sent_nonce_ends_it() -> None:
    """A nonce this target was sent with is never answered, chained, challenged or forwarded."""
    client = Client()
    client.cache.remember(ORIGIN, [next_nonce("n")])
    exchange = client.exchange("GET", "/")
    perform(exchange.authorize(), client.answer)
    assert rejected(exchange, challenge("n")).challenge is None
    perform(exchange.authorize(rejected(exchange, challenge("a")).challenge), client.answer)
    assert rejected(exchange, challenge("a"), reason="unknown nonce").challenge is None
    settings = Settings(public_key=client.signer.public_key)
    forwarded = Exchange(Target("GET", ORIGIN, "/"), BytesBody(b""), settings, sent="f")
    assert rejected(forwarded, challenge("f")).challenge is None


def test_a_spent_challenge_is_not_answered() -> None:
    """Where another request has sent its nonce, this one goes out unsigned, to be challenged anew."""
    client = Client()
    client.cache.spend(ORIGIN, "a")
    exchange = client.exchange("GET", "/")
    assert perform(exchange.authorize(rejected(exchange, challenge("a")).challenge), client.answer) is None
    assert kinds(client) == [Digest, Spend]
    assert rejected(exchange, challenge("b")).challenge is not None


def test_one_target_takes_up_four_challenges_at_most() -> None:
    """A server that repeats spent nonces for ever does not keep a client for ever."""
    client = Client()
    exchange = client.exchange("GET", "/")
    for nonce in "abcd":
        client.cache.spend(ORIGIN, nonce)
        received = rejected(exchange, challenge(nonce))
        assert received.challenge is not None
        assert perform(exchange.authorize(received.challenge), client.answer) is None
    assert rejected(exchange, challenge("e")).challenge is None


def test_a_search_that_finds_nothing_asks_for_a_fresh_nonce() -> None:
    """The request goes out unsigned, and the next challenge is answered as the first would have been."""
    client = Client()
    exchange = client.exchange("GET", "/")

    def unlucky(step: Step[object]) -> object:
        if isinstance(step, Prove):
            raise ProofNotFoundError("nothing")
        return client.answer(step)

    received = rejected(exchange, challenge("a", SearchCost(1)))
    assert perform(exchange.authorize(received.challenge), unlucky) is None
    received = rejected(exchange, challenge("b", SearchCost(1)), reason="authorization required")
    assert perform(exchange.authorize(received.challenge), client.answer) is not None


def test_a_chained_search_that_finds_nothing_is_sent_unsigned() -> None:
    """A chained request whose search finds nothing is sent unsigned, and its nonce is gone."""
    client = Client()
    client.cache.remember(ORIGIN, [next_nonce("1")])

    def unlucky(step: Step[object]) -> object:
        if isinstance(step, Prove):
            raise ProofNotFoundError("nothing")
        return client.answer(step)

    assert perform(client.exchange("GET", "/").authorize(), unlucky) is None
    assert client.cache.take(ORIGIN, "read") is None


def harvested(client: Client, *values: str) -> list[str]:
    """Receive next nonces and name those to remember."""
    received = client.exchange("GET", "/").receive(
        200, fields_of([("Authentication-Info", one) for one in values])
    )
    return [nonce.nonce for nonce in received.nonces]


def test_next_nonces_that_nothing_could_be_signed_under_are_left_out() -> None:
    """A nonce of another scheme, beyond the limits or without a known action is not remembered."""
    events: list[Event] = []
    client = Client(
        options={"schemes": (ARGON,), "limits": Limits(max_memory_kib=8), "on_event": events.append}
    )
    found = harvested(
        client,
        write_next_nonce("search", SearchCost(1), REST),
        "nextnonce=dear;argon=$argon2d$v=19$m=9,t=1,p=1;scopes=read",
        "nextnonce=unknown;argon=$argon2d$v=19$m=8,t=1,p=1;scopes=levitate",
        "nextnonce=malformed;argon=x;scopes=read",
        write_next_nonce("good", ACCESS, REST),
    )
    assert found == ["good"]
    assert all(isinstance(event, NextNonceDropped) and event.origin == ORIGIN for event in events)
    problems = [event.problem for event in events if isinstance(event, NextNonceDropped)]
    assert ["'x' is not supported" in problems[0], "max_memory_kib=9" in problems[1]] == [True, True]
    assert len(problems) == 2


def test_events_tell_a_requests_story_without_secrets() -> None:
    """Challenge, work and signature are reported in order, and none shows a nonce or a signature."""
    events: list[Event] = []
    ticks = iter((1.0, 3.5, 10.0, 10.5))
    client = Client(options={"on_event": events.append, "clock": lambda: next(ticks)})
    exchange = client.exchange("GET", "/")
    received = rejected(exchange, challenge("secret0"), reason="unknown nonce")
    perform(exchange.authorize(received.challenge), client.answer)
    client.cache.remember(ORIGIN, [next_nonce("secret1", SearchCost(2))])
    perform(client.exchange("PUT", "/").authorize(), client.answer)
    assert events == [
        ChallengeReceived(ORIGIN, ARGON, ACCESS, READ, "unknown nonce"),
        WorkStarted(ORIGIN, ACCESS, 1.5, engine()),
        WorkFinished(ORIGIN, ACCESS, 2.5, engine()),
        RequestSigned(ORIGIN, "GET", ARGON, chained=False),
        WorkStarted(ORIGIN, SearchCost(2), 1.5, engine()),
        WorkFinished(ORIGIN, SearchCost(2), 0.5, engine()),
        RequestSigned(ORIGIN, "PUT", SEARCH, chained=True),
    ]
    assert "secret" not in repr(events)


def test_steps_show_no_secrets() -> None:
    """The repr of a step holds neither nonce, request string, salt nor message."""
    steps = [Prove(b"secret", ACCESS, "secret", b"secret"), Sign(b"secret"), Spend(ORIGIN, "secret")]
    assert "secret" not in repr(steps)


def test_the_salt_comes_from_the_randomness_given() -> None:
    """Sixteen bytes are drawn for each answer."""
    client = Client(options={"randomness": lambda size: bytes(range(size))})
    perform(client.exchange("GET", "/").authorize(challenge()), client.answer)
    prove = client.steps[2]
    assert isinstance(prove, Prove)
    assert prove.salt == bytes(range(16))


def test_the_digest_is_the_bodys() -> None:
    """The request string ends in the digest of the bytes that will be sent."""
    given_bodies = [b"", b"abc"]
    strings = []
    for body in given_bodies:
        client = Client(options={"randomness": bytes})
        perform(client.exchange("GET", "/", body).authorize(challenge("n")), client.answer)
        prove = client.steps[2]
        assert isinstance(prove, Prove)
        strings.append(prove.request_string)
    assert strings[0] != strings[1]
    assert body_digest(b"") != body_digest(b"abc")


@given(
    st.sampled_from((200, 401, 500)),
    st.lists(
        st.tuples(
            st.sampled_from(("WWW-Authenticate", "uno-www-authn", "Authentication-Info", "uno-authn-info")),
            adversarial(),
        ),
        max_size=5,
    ),
    adversarial(),
)
def test_receiving_raises_nothing_foreign(status: int, fields: list[tuple[str, str]], reason: str) -> None:
    """No response makes an exchange raise anything but the three errors it names."""
    events: list[Any] = []
    exchange = Client(options={"on_event": events.append}).exchange("GET", "/")
    try:
        received = exchange.receive(status, fields_of(fields), reason)
    except (MalformedFieldError, UnsupportedAlgorithmError, LimitExceededError):
        assert status == 401
    else:
        assert received.challenge is None or status == 401


@pytest.mark.parametrize("work", [ACCESS, SearchCost(3)], ids=str)
@pytest.mark.parametrize("is_heard", [True, False], ids=["heard", "unheard"])
def test_progress_is_reported_where_somebody_listens(work: Work, is_heard: bool) -> None:
    """A search reports every 65,536 tries, a digest nothing, and nobody is told for nothing."""
    seen: list[Event] = []
    client = Client(options={"on_event": seen.append} if is_heard else {})
    exchange = client.exchange("GET", "/")

    def watched(step: Step[object]) -> object:
        if isinstance(step, Prove):
            assert (step.on_progress is not None) == (is_heard and isinstance(work, SearchCost))
            if step.on_progress is not None:
                for tried in (0, 256, 32768, 65536, 65792, 131072):
                    step.on_progress(tried)
        return client.answer(step)

    perform(exchange.authorize(challenge(work=work)), watched)
    tried = [event.tried for event in seen if isinstance(event, WorkProgressed)]
    assert tried == ([65536, 131072] if is_heard and isinstance(work, SearchCost) else [])
    started = [event for event in seen if isinstance(event, WorkStarted)]
    assert [(event.work, event.estimate) for event in started] == ([(work, 1.5)] if is_heard else [])


def test_a_tuning_beyond_this_processs_memory_is_refused() -> None:
    """What alone takes more memory than there is for all is an error that names the setting."""
    exchange = Client(options={"memory_kib": ACCESS.memory_kib - 1}).exchange("GET", "/")
    with pytest.raises(LimitExceededError, match=r"resources=Resources\(memory_kib=8\)") as raised:
        rejected(exchange, challenge())
    assert (raised.value.limit, raised.value.asked, raised.value.allowed) == ("memory_kib", 8, 7)


@pytest.mark.parametrize(
    ("memory_kib", "work"), [(None, ACCESS), (ACCESS.memory_kib, ACCESS), (1, SearchCost(1))], ids=str
)
def test_work_within_this_processs_memory_is_answered(memory_kib: int | None, work: Work) -> None:
    """A tuning up to the memory, any where there is no limit, and every search can be answered."""
    exchange = Client(options={"memory_kib": memory_kib}).exchange("GET", "/")
    assert rejected(exchange, challenge(work=work)).challenge is not None
