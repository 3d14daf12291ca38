"""Section 7: how a request is authorized, step by step."""

import pytest

from tuned_digest import (
    ArgumentError,
    Ed25519Signer,
    Limits,
    NextNonce,
    Resources,
    SearchCost,
    Terms,
    Tuning,
    Work,
)
from tuned_digest._base64 import encode_base64
from tuned_digest._client.settings import guess_action
from tuned_digest._runtime.steps import Limited
from tuned_digest._wire.grammar import Dialect
from tuned_digest.errors import ProofError
from tuned_digest.proof import Job, search
from tuned_digest.proof.engines import Portable

from .driving import ACCESS, CREATE, ORIGIN, Client, perform
from .exchanging import (
    ARGON,
    SEARCH,
    answered,
    chained,
    challenge,
    check_work,
    credentials_of,
    next_nonce,
    rejected,
)

BOTH = (ARGON, SEARCH)


def test_a_request_without_a_nonce_is_sent_unsigned() -> None:
    """With no nonce held the body is digested, a nonce asked for, and nothing is signed."""
    client = Client()
    assert perform(client.exchange("GET", "/a").authorize(), client.answer) is None
    assert client.story == ["digest", "take read"]


def test_a_held_nonce_signs_a_request() -> None:
    """The order is digest, take, prove, sign, and the credentials are under the nonce."""
    client = Client()
    credentials = credentials_of(chained(client, "PATCH", "/a?b", b"body"))
    assert client.story == ["digest", "take update", "prove", "sign"]
    assert (credentials.scheme, credentials.nonce, credentials.identity) == (
        ARGON,
        "n",
        client.signer.public_key,
    )
    check_work(credentials, ACCESS, "PATCH", "/a", b"body")


@pytest.mark.parametrize("work", [ACCESS, SearchCost(2)], ids=str)
def test_a_challenge_is_answered(work: Work) -> None:
    """The order is digest, spend, prove, sign, and the credentials are under the challenge's nonce."""
    client = Client(options={"schemes": BOTH})
    credentials = credentials_of(answered(client, client.exchange("GET", "/a"), challenge("c", work)))
    assert client.story == ["digest", "spend", "prove", "sign"]
    assert (credentials.scheme, credentials.nonce) == (work.scheme, "c")
    check_work(credentials, work, "GET", "/a")


@pytest.mark.parametrize("dialect", ["deployed", "list"])
def test_each_dialect_is_answered_in_kind(dialect: Dialect) -> None:
    """A challenge and a next nonce are answered in the dialect they came in."""
    client = Client()
    answer = answered(client, client.exchange("GET", "/a"), challenge(dialect=dialect))
    client.cache.remember(ORIGIN, [next_nonce(dialect=dialect)])
    later = perform(client.exchange("GET", "/a").authorize(), client.answer)
    assert [credentials_of(fields).dialect for fields in (answer, later)] == [dialect] * 2


@pytest.mark.parametrize("work", [ACCESS, SearchCost(1)], ids=str)
def test_the_signature_covers_the_response(work: Work) -> None:
    """What is signed is the ASCII text of the response in the credentials."""
    client = Client()
    exchange = client.exchange("GET", "/")
    credentials = credentials_of(perform(exchange.authorize(challenge(work=work)), client.answer))
    assert credentials.signature == client.signer.sign(credentials.response.encode())


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("GET", "read"),
        ("HEAD", "read"),
        ("OPTIONS", "read"),
        ("QUERY", "read"),
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
    assert client.story == ["digest", f"take {action}"]


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
    client.cache.remember(ORIGIN, [next_nonce("n", CREATE, scopes=frozenset({"create"}))])
    credentials = credentials_of(perform(client.exchange("PUT", "/v2/a%20b?c").authorize(), client.answer))
    assert seen == [("PUT", "/v2/a%20b"), ("/v2/a%20b",)]
    check_work(credentials, CREATE, "PUT", "/a%20b")


def test_a_signed_path_may_be_the_root() -> None:
    """Where a prefix is all of the path, the root is signed."""
    client = Client(options={"signed_path": lambda path: path.removeprefix("/v2")})
    check_work(credentials_of(chained(client, "GET", "/v2")), ACCESS, "GET", "/")


def test_an_unknown_action_is_refused() -> None:
    """A setting that names no action of the protocol is an error, before a nonce is taken."""
    client = Client(options={"action": lambda method, path: "levitate"})
    with pytest.raises(ArgumentError, match="not 'levitate'"):
        perform(client.exchange("GET", "/").authorize(), client.answer)
    assert client.story == ["digest"]


@pytest.mark.parametrize("schemes", [(), ("Basic",), (ARGON, "x")])
def test_unknown_schemes_are_refused(schemes: tuple[str, ...]) -> None:
    """A client answers some of the two schemes."""
    with pytest.raises(ArgumentError, match="schemes are some of"):
        Client(options={"schemes": schemes}).settings()


@pytest.mark.parametrize("public_key", [b"k" * 31, b"k" * 33, "k" * 32, bytearray(32), None])
def test_a_key_of_another_kind_is_refused(public_key: object) -> None:
    """A signer's public key is 32 bytes, and this is said before anything is sent."""

    class Odd:
        sign = Ed25519Signer.generate().sign

    Odd.public_key = public_key  # type: ignore[attr-defined]
    with pytest.raises(ArgumentError, match="public_key is 32 bytes"):
        Client(options={"signer": Odd()}).settings()


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(65)])
def test_a_signature_of_another_size_is_not_sent(signature: bytes) -> None:
    """What a caller's own signer returns has 64 bytes, or the request fails."""

    class Odd:
        public_key = Ed25519Signer.generate().public_key

        def sign(self, message: bytes) -> bytes:
            return signature

    client = Client(options={"signer": Odd()})
    with pytest.raises(ArgumentError, match=f"64 bytes, not {len(signature)}"):
        chained(client, "GET", "/")


@pytest.mark.parametrize(
    ("schemes", "scheme"),
    [(None, ARGON), ((ARGON, SEARCH), ARGON), ((SEARCH, ARGON), SEARCH), ((SEARCH,), SEARCH)],
)
def test_the_preferred_scheme_signs(schemes: tuple[str, ...] | None, scheme: str) -> None:
    """Of two schemes on offer the client's first counts, in challenges and in next nonces."""
    client = Client(options={"schemes": schemes})
    received = rejected(client.exchange("GET", "/"), challenge(), challenge("c", SearchCost(1)))
    assert received.challenge is not None
    assert received.challenge.scheme == scheme
    assert credentials_of(chained(client, "GET", "/")).scheme == scheme


def test_a_nonce_that_does_not_fit_is_passed_over() -> None:
    """A cache shared with other settings may hold nonces that these do not use; they are taken and lost."""
    client = Client(options={"limits": Limits(max_memory_kib=8)})
    nonces = [next_nonce("good"), next_nonce("dear", CREATE), next_nonce("search", SearchCost(1))]
    client.cache.remember(ORIGIN, nonces)
    fields = perform(client.exchange("GET", "/").authorize(), client.answer)
    assert credentials_of(fields).nonce == "good"
    assert client.story == ["digest", *["take read"] * 3, "prove", "sign"]
    client.cache.remember(ORIGIN, [nonces[1]])
    assert perform(client.exchange("GET", "/").authorize(), client.answer) is None


def test_a_spent_challenge_is_not_answered() -> None:
    """Where another request has sent its nonce, this one goes out unsigned, to be challenged anew."""
    client = Client()
    client.cache.spend(ORIGIN, "a")
    exchange = client.exchange("GET", "/")
    assert answered(client, exchange, challenge("a")) is None
    assert client.story == ["digest", "spend"]
    assert rejected(exchange, challenge("b")).challenge is not None


class Unlucky(Portable):
    """An engine that finds no number while it has no luck."""

    tries_per_piece = 2**32
    has_luck = False

    def search(self, string: bytes, *, bits: int, first: int, end: int, job: Job) -> int | None:
        """Find nothing."""
        return super().search(string, bits=bits, first=first, end=end, job=job) if self.has_luck else None


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> Unlucky:
    """The engine that searches in this test."""
    unlucky = Unlucky()
    monkeypatch.setattr(search, "chosen", lambda: unlucky)
    return unlucky


@pytest.mark.parametrize("bits", [1, 7], ids=["at once", "in its turn"])
def test_a_search_that_finds_nothing_asks_for_a_fresh_nonce(unlucky: Unlucky, bits: int) -> None:
    """The request goes out unsigned, and the next challenge is answered as the first would have been."""
    client = Client(options={"schemes": BOTH})
    exchange = client.exchange("GET", "/")
    assert answered(client, exchange, challenge("a", SearchCost(bits))) is None
    assert "sign" not in client.story
    unlucky.has_luck = True
    again = answered(client, exchange, challenge("b", SearchCost(bits)), reason="authorization required")
    assert credentials_of(again).nonce == "b"


@pytest.mark.usefixtures("unlucky")
def test_a_chained_search_that_finds_nothing_is_sent_unsigned() -> None:
    """A chained request whose search finds nothing is sent unsigned, and its nonce is gone."""
    client = Client(options={"schemes": (SEARCH,)})
    assert chained(client, "GET", "/") is None
    assert client.cache.take(ORIGIN, "read") is None


@pytest.mark.parametrize("work", [ACCESS, Tuning("argon2d", 1024, 1, 1)], ids=["at once", "in its turn"])
def test_the_salt_comes_from_the_randomness_given(work: Work) -> None:
    """Sixteen bytes are drawn for each answer."""
    client = Client(options={"randomness": lambda size: bytes(range(size))})
    credentials = credentials_of(
        perform(client.exchange("GET", "/").authorize(challenge(work=work)), client.answer)
    )
    assert credentials.response.startswith(f"{encode_base64(bytes(range(16)))}$")


def test_the_digest_is_the_bodys() -> None:
    """The request string ends in the digest of the bytes that will be sent."""
    client = Client()
    for number, body in enumerate((b"", b"abc")):
        credentials = credentials_of(chained(client, "PUT", "/", body, nonce=str(number)))
        check_work(credentials, ACCESS, "PUT", "/", body)
        with pytest.raises(ProofError):
            check_work(credentials, ACCESS, "PUT", "/", body + b"d")


@pytest.mark.parametrize("work", [ACCESS, Tuning("argon2d", 1024, 1, 1), SearchCost(7)], ids=str)
def test_steps_show_no_secrets(work: Work) -> None:
    """The repr of a step holds neither nonce, request string, salt nor message."""
    client = Client(options={"schemes": BOTH})
    exchange = client.exchange("GET", "/secret")
    assert perform(exchange.authorize(challenge("secret", work)), client.answer) is not None
    client.cache.remember(ORIGIN, [next_nonce("secret1", work)])
    assert perform(client.exchange("GET", "/secret").authorize(), client.answer) is not None
    assert len(client.steps) >= 4
    assert "secret" not in repr(client.steps)
    assert "secret" not in repr(exchange)


def test_work_takes_places_and_memory_as_the_caller_says() -> None:
    """Work that is not done at once waits under the limiter, within the settings' places and memory."""
    client = Client(options={"resources": Resources(max_concurrent=3, memory_kib=2048)})
    allowance = client.settings().allowance
    assert (allowance.places, allowance.memory_kib) == (3, 2048)
    work = Tuning("argon2d", 1024, 1, 1)
    assert perform(client.exchange("GET", "/").authorize(challenge(work=work)), client.answer)
    assert [type(step) for step in client.steps].count(Limited) == 1


def test_nonces_under_one_scheme_need_no_other() -> None:
    """A next nonce that offers one scheme is good for a client that answers both."""
    client = Client(options={"schemes": BOTH})
    client.cache.remember(ORIGIN, [NextNonce("n", Terms({SEARCH: SearchCost(1)}, frozenset({"read"})))])
    fields = perform(client.exchange("GET", "/").authorize(), client.answer)
    assert credentials_of(fields).scheme == SEARCH


def test_a_signed_path_that_is_no_text_is_an_error() -> None:
    """A mapping that forgets to return is named, and the root is not signed in its place."""
    client = Client(options={"signed_path": lambda path: None})
    with pytest.raises(ArgumentError, match="signed_path returns the path to sign"):
        perform(client.exchange("GET", "/a").authorize(), client.answer)
