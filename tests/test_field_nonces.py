"""What servers do with nonces: forget them, send none, send too many, send the same for ever."""

import itertools
from collections.abc import Iterator

import pytest

from tuned_digest import Ed25519Signer, MemoryNonceCache, events
from tuned_digest.server.asgi import Receive, Scope, Send

from .clients import Connect
from .field_server import decided, next_nonce, verified
from .issuing import accepting
from .ledger import Ledger, nonce_of
from .raw_server import Issuer, Recorded, Wire, record
from .serving import Served, serve
from .together import at_once


@pytest.fixture
def server(ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`."""
    with ledger.watch(serve(verified())) as served:
        yield served


def test_a_restart_costs_one_round_trip_each(connect: Connect, ledger: Ledger, signer: Ed25519Signer) -> None:
    """Nonces that a restarted server does not know cost the requests that take them one round trip each."""
    apps = [verified(), verified()]

    async def restarting(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[0](scope, receive, send)

    with ledger.watch(serve(restarting)) as server, connect(server.url, signer) as client:

        def eight(path: str) -> list[int]:
            return at_once(*[lambda: client.send("GET", server.url + path).status] * 8)

        assert eight("/before") == [200] * 8
        before = len(server.requests)
        apps.pop(0)
        assert eight("/after") == [200] * 8
    after = server.statuses[before:]
    assert (after.count(200), after.count(401)) == (8, len(after) - 8)
    assert 8 < len(after) <= 16


def test_without_next_nonces_each_request_is_challenged(
    connect: Connect, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """A server that never sends next nonces is answered request by request."""
    with (
        ledger.watch(record(Issuer(next_nonces=0))) as server,
        connect(server.url, signer) as client,
    ):
        assert [client.send("GET", server.url).status for _ in range(3)] == [200] * 3
    assert server.statuses == [401, 200] * 3


def test_thousands_of_next_nonces_are_bounded(
    connect: Connect, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """Of thousands of next nonces only so many are kept, the newest, and each is used once."""
    responses = itertools.count(1)

    def respond(wire: Wire, recorded: Recorded) -> None:
        response = next(responses)
        nonces = [next_nonce(f"from{response}number{number}")[1] for number in range(1000)]
        fields = [", ".join(nonces[start : start + 25]) for start in range(0, 1000, 25)]
        wire.answer(200, [("Authentication-Info", value) for value in fields * (response <= 4)])

    with (
        ledger.watch(record(respond)) as server,
        connect(server.url, signer, nonces=MemoryNonceCache(per_scope=4)) as client,
    ):
        for _ in range(9):
            client.send("GET", server.url)
    sent = [[nonce_of(value)[:5] for value in seen.field("Authorization")] for seen in server.requests]
    assert sent == [[], ["from1"], ["from2"], ["from3"], *[["from4"]] * 4, []]


@pytest.mark.parametrize(
    "algorithm",
    [
        "$argon2d$v=16$m=64,t=1,p=1",
        "$argon2d$v=19$m=99999999999999999999,t=1,p=1",
        "$argon2d$v=19$m=4294967295,t=4294967295,p=16777215",
        "$argon2d$v=19$m=64,t=0,p=0",
        "$argon2d$v=19$m=8,t=1,p=64",
        "$argon2d$v=19$m=-1,t=1,p=1",
        f"$argon2d$v=19$m={'9' * 5000},t=1,p=1",
    ],
    ids=["version", "memory", "passes", "zero", "lanes", "sign", "digits"],
)
def test_a_next_nonce_of_absurd_tuning_is_dropped(
    connect: Connect, ledger: Ledger, signer: Ed25519Signer, algorithm: str
) -> None:
    """A next nonce that nobody could answer leaves the response as it is, and is reported each time."""
    bad = [("Authentication-Info", f"nextnonce=AAAA;argon={algorithm};scopes=read")]
    reported: list[events.Event] = []
    with (
        ledger.watch(serve(decided(lambda scope, body: (200, bad, b"fine")))) as server,
        connect(server.url, signer, on_event=reported.append) as client,
    ):
        assert [client.send("GET", server.url).content for _ in range(2)] == [b"fine"] * 2
    assert [seen.field("Authorization") for seen in server.requests] == [[], []]
    assert [type(event) for event in reported] == [events.NextNonceDropped] * 2


def test_a_next_nonce_that_is_repeated_is_used_once(
    connect: Connect, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """A server that gives one next nonce for ever sees it once, and challenges from then on."""
    repeating = accepting(Issuer(), lambda wire: wire.answer(200, [next_nonce("AAAA")]))
    with ledger.watch(record(repeating)) as server, connect(server.url, signer) as client:
        assert [client.send("GET", server.url).status for _ in range(3)] == [200] * 3
    assert server.statuses == [401, 200, 401, 200, 401, 200]
    sent = [nonce_of(value) for seen in server.requests for value in seen.field("Authorization")]
    assert sent.count("AAAA") == 1


def test_nonces_go_stale(connect: Connect, server: Served, signer: Ed25519Signer) -> None:
    """A nonce older than its lifetime is not sent: the request is challenged instead."""
    now = [0.0]
    cache = MemoryNonceCache(lifetime=10, clock=lambda: now[0])
    with connect(server.url, signer, nonces=cache) as client:
        client.send("GET", server.url)
        now[0] = 11
        assert client.send("GET", server.url).status == 200
    assert server.statuses == [401, 200, 401, 200]
