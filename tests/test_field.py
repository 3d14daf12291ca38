"""What servers, proxies and networks do to clients in the field, for every adapter, over real sockets.

Every server of this file is watched: no nonce is received twice, but where a library forwards it.
"""

import copy
import gzip
import itertools
import json
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any, Self
from urllib.parse import quote

import httpx
import pytest
import requests
from urllib3.util.connection import HAS_IPV6

from tuned_digest import Ed25519Signer, MemoryNonceCache, Resources, _journey, events
from tuned_digest.server.asgi import Application, Receive, Scope, Send

from .certificates import Certificate
from .clients import Client, Connect, Transport
from .field_server import decided, field, verified
from .ledger import Ledger, nonce_of
from .proxy import proxy
from .raw_server import Issuer, Recorded, Wire, record
from .serving import QUICK, Served, serve

CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)


@pytest.fixture
def server(ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`."""
    with ledger.watch(serve(verified())) as served:
        yield served


@pytest.fixture
def client(connect: Connect, server: Served, signer: Ed25519Signer) -> Iterator[Client]:
    """A client of that application."""
    with connect(server.url, signer) as client:
        yield client


class Names:
    """Servers that clients reach by name, through a proxy, each started when a test first asks for it."""

    def __init__(self, ledger: Ledger, certificate: Certificate) -> None:
        self._ledger = ledger
        self._certificate = certificate
        self._servers = ExitStack()
        self._urls: dict[str, str] = {}
        self._proxy = proxy(self._urls)

    def __enter__(self) -> Self:
        self.proxy = self._proxy.__enter__()
        self.transport = Transport(proxy=self.proxy.url, certificate=self._certificate.path)
        return self

    def __exit__(self, *exception: object) -> None:
        self._proxy.__exit__(None, None, None)
        self._servers.close()

    def serve(self, name: str, app: Application | None = None) -> Served:
        """Serve an application, the verified one by default, under a name and a port."""
        options = {"ssl_certfile": self._certificate.path, "ssl_keyfile": self._certificate.key_path}
        server = serve(app or verified(), **(options if name.endswith(":443") else {}))
        served = self._servers.enter_context(self._ledger.watch(server))
        self._urls[name] = served.url
        return served


@pytest.fixture
def names(ledger: Ledger, certificate: Certificate) -> Iterator[Names]:
    """Names to serve applications under."""
    with Names(ledger, certificate) as names:
        yield names


def redirect(status: int, to: str) -> str:
    """Write a path that redirects."""
    return f"/redirect?status={status}&to={quote(to, safe='')}"


class TestLedger:
    @pytest.mark.parametrize(("forwards", "statuses"), [(False, [302, 200]), (True, [200, 200])])
    def test_a_repeated_nonce_does_not_pass(
        self, ledger: Ledger, *, forwards: bool, statuses: list[int]
    ) -> None:
        """A nonce that is received twice fails a test, but for what a library forwards on a redirect."""
        answers = iter(statuses)
        ledger.forwards_on_redirect = forwards
        sent = {"Authorization": "tuned-digest-signature identity=a;nonce=b;response=c;signature=d"}
        with (
            record(lambda wire, recorded: wire.answer(next(answers))) as server,
            requests.Session() as session,
        ):
            for _ in range(2):
                session.get(server.url, headers=sent)
        with pytest.raises(AssertionError, match="one nonce"), ledger.watch(nullcontext(server)):
            pass


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("body", ["bytes", "generator"])
    def test_every_hop_of_a_chain_is_signed(
        self, client: Client, server: Served, status: int, body: str
    ) -> None:
        """Three redirects on the origin end at the target, each costing one extra round trip at most."""
        path = redirect(status, redirect(status, redirect(status, "/target")))
        sent = WHOLE if body == "bytes" else iter(CHUNKS)
        result = client.send("PATCH", server.url + path, body=sent)
        assert result.status == 200
        echo = json.loads(result.content)
        assert echo["path"] == "/target"
        if status in (307, 308):
            assert (echo["method"], echo["size"]) == ("PATCH", len(WHOLE))
        assert sorted(server.statuses) == [200, *[status] * 3, *[401] * (len(server.statuses) - 4)]
        assert len(server.statuses) <= 8

    def test_other_methods_are_signed_as_they_are_sent(self, client: Client, server: Served) -> None:
        """What a library makes of a method on a redirect is what is signed."""
        for method in ("HEAD", "DELETE", "OPTIONS"):
            for status in (302, 307):
                sent = client.send(method, server.url + redirect(status, "/target"))
                assert sent.status == 200, (method, status)

    @pytest.mark.parametrize("status", [307, 308])
    @pytest.mark.parametrize("body", ["bytes", "generator"])
    def test_a_body_is_whole_at_each_of_two_listed_origins(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, status: int, body: str
    ) -> None:
        """A body goes through a challenge at one origin, a redirect, and a challenge at the next."""
        with (
            ledger.watch(serve(verified())) as server,
            ledger.watch(serve(verified())) as other,
            connect([server.url, other.url], signer) as client,
        ):
            sent = WHOLE if body == "bytes" else iter(CHUNKS)
            result = client.send("PATCH", server.url + redirect(status, f"{other.url}/target"), body=sent)
            assert json.loads(result.content)["size"] == len(WHOLE)
        assert (server.statuses, other.statuses) == ([401, status], [401, 200])

    def test_a_location_may_be_written_in_any_way(self, client: Client, server: Served) -> None:
        """Relative, with dots, without a scheme, with a fragment: the target is signed as it is sent."""
        without_scheme = server.url.removeprefix("http:") + "/target"
        relative = ("target", "./target", "../target", "/a/../b", "/target#part", "?status=200&to=x")
        for location in (without_scheme, *relative):
            path = redirect(302, location)
            assert client.send("GET", f"{server.url}/folder{path}").status == 200, location

    def test_a_redirect_that_leads_nowhere_is_returned(self, client: Client, server: Served) -> None:
        """A redirect without a Location goes to the caller, and its next nonce is used."""
        assert client.send("GET", f"{server.url}/status?status=302").status == 302
        assert client.send("GET", f"{server.url}/after").status == 200
        assert server.statuses == [401, 302, 200]

    def test_a_location_that_is_none_is_the_librarys_error(self, client: Client, server: Served) -> None:
        """A redirect to what is no URL ends as the library has it, and the next request works."""
        with pytest.raises((client.library_error, ValueError)):  # requests lets the standard library's out
            client.send("GET", server.url + redirect(302, "http://[::g]/"))
        assert client.send("GET", f"{server.url}/after").status == 200

    def test_there_and_back_again(
        self, connect: Connect, ledger: Ledger, server: Served, signer: Ed25519Signer
    ) -> None:
        """A redirect to an origin that is not served and back is signed where we are, and only there."""
        back = [("Location", f"{server.url}/target")]
        with (
            ledger.watch(serve(decided(lambda scope, body: (302, back, b"")))) as other,
            connect(server.url, signer) as client,
        ):
            assert client.send("GET", server.url + redirect(302, f"{other.url}/away")).status == 200
        assert [seen.field("Authorization") for seen in other.requests] == [[]]

    def test_what_an_unserved_origin_says_of_nonces_is_not_kept(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Next nonces from an origin that is not served are never used, at either origin."""
        brings = [("Authentication-Info", _next_nonce("AAAA"))]
        with (
            ledger.watch(serve(decided(lambda scope, body: (200, brings, b"")))) as other,
            ledger.watch(record(Issuer())) as server,
            connect(server.url, signer) as client,
        ):
            for url in (other.url, server.url, other.url):
                client.send("GET", url)
        assert [seen.field("Authorization") for seen in other.requests] == [[], []]
        assert server.statuses == [401, 200]

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_an_upgrade_to_https_is_signed_afresh(
        self, connect: Connect, names: Names, signer: Ed25519Signer, status: int
    ) -> None:
        """From http to https of one host, on their default ports, the target gets a nonce of its own."""
        plain, secure = names.serve("api.test:80"), names.serve("api.test:443")
        origins = ["http://api.test", "https://api.test"]
        with connect(origins, signer, transport=names.transport, allow_http=True) as client:
            path = redirect(status, "https://api.test/target")
            assert client.send("PATCH", f"http://api.test{path}", body=WHOLE).status == 200
        assert plain.statuses == [401, status]
        assert set(secure.statuses) == {401, 200}

    @pytest.mark.parametrize("status", [301, 308])
    def test_a_request_that_began_on_plain_http_is_signed_on_https_alone(
        self, connect: Connect, names: Names, signer: Ed25519Signer, status: int
    ) -> None:
        """Where https alone is served, the http server that redirects to it gets nothing from us."""
        plain, secure = names.serve("api.test:80", field), names.serve("api.test:443")
        with connect("https://api.test", signer, transport=names.transport) as client:
            for _ in range(2):
                path = redirect(status, "https://api.test/target")
                assert client.send("PATCH", f"http://api.test{path}", body=WHOLE).status == 200
        assert [seen.field("Authorization") for seen in plain.requests] == [[], []]
        assert secure.statuses.count(200) == 2

    @pytest.mark.parametrize("status", [302, 307])
    @pytest.mark.parametrize("name", ["https://other.test", "http://api.test"], ids=["host", "downgrade"])
    def test_another_name_or_scheme_gets_nothing_from_us(
        self, connect: Connect, names: Names, signer: Ed25519Signer, status: int, name: str
    ) -> None:
        """A redirect to another host, or down to http, carries no field, and is not answered."""
        names.serve("api.test:443")
        other = names.serve(name.removeprefix("https://").removeprefix("http://") + _port(name))
        with connect("https://api.test", signer, transport=names.transport) as client:
            path = redirect(status, f"{name}/target")
            assert client.send("PATCH", f"https://api.test{path}", body=WHOLE).status == 401
        assert [seen.field("Authorization") for seen in other.requests] == [[]]

    def test_a_loop_over_two_origins_ends(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Two listed origins that redirect to each other for ever are left at the library's limit."""
        where: list[str] = []
        issuers = [Issuer(), Issuer()]

        def bouncing(index: int) -> Callable[[Wire, Recorded], None]:
            def respond(wire: Wire, recorded: Recorded) -> None:
                if issuers[index].takes(recorded):
                    wire.answer(302, [("Location", f"{where[1 - index]}/"), *issuers[index].next()])
                else:
                    wire.answer(401, [issuers[index].challenge()])

            return respond

        with ledger.watch(record(bouncing(0))) as one, ledger.watch(record(bouncing(1))) as other:
            where += [one.url, other.url]
            with connect(where, signer) as client:
                try:
                    status = client.send("GET", one.url).status
                except (httpx.TooManyRedirects, requests.TooManyRedirects):
                    status = 302
        assert status in (302, 401)
        assert len(one.requests) + len(other.requests) <= 2 * 31

    def test_userinfo_in_a_url_is_not_sent(self, client: Client, server: Served) -> None:
        """A name and password in the URL do not take the place of a signature."""
        url = server.url.replace("http://", "http://user:password@")
        assert client.send("GET", url).status == 200
        sent = [value for seen in server.requests for value in seen.field("Authorization")]
        assert [value.partition(" ")[0] for value in sent] == ["tuned-digest-signature"]


class TestBrokenConnections:
    def test_a_reset_costs_its_nonce_and_nothing_else(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, fault: "Fault"
    ) -> None:
        """A connection that breaks is the library's own error; its nonce is gone; the next request works."""
        issuer = Issuer()

        def respond(wire: Wire, recorded: Recorded) -> None:
            if recorded.target == "/fault":
                fault(wire, issuer)
            else:
                issuer(wire, recorded)

        with (
            ledger.watch(record(respond)) as server,
            connect(server.url, signer) as client,
            connect(server.url, signer, transport=Transport(read_timeout=0.1)) as impatient,
        ):
            client.send("GET", f"{server.url}/before")
            with pytest.raises(client.library_error):
                impatient.send("GET", f"{server.url}/fault", auth=client.auth)
            assert client.send("GET", f"{server.url}/after").status == 200
        assert [recorded.target for recorded in server.requests][2:] == ["/fault", "/after", "/after"]
        assert [bool(recorded.field("Authorization")) for recorded in server.requests] == [
            False,
            True,
            True,
            False,
            True,
        ]

    def test_a_connection_reset_between_requests_is_not_used(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A kept connection that the server has reset is replaced, and the nonce that it brought is used."""
        issuer = Issuer()
        read, reset = threading.Event(), threading.Event()

        def respond(wire: Wire, recorded: Recorded) -> None:
            issuer(wire, recorded)
            if recorded.status == 200 and not reset.is_set():
                read.wait(30)
                wire.reset()
                reset.set()

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            client.send("GET", server.url)
            read.set()
            assert reset.wait(30)
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 200, 200]

    def test_a_challenge_that_breaks_off_is_the_librarys_error(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A reset inside a 401's body ends in the library's own error, and the next request works."""
        issuer = Issuer()
        faults = iter([True])

        def respond(wire: Wire, recorded: Recorded) -> None:
            if next(faults, False):
                wire.begin(401, [issuer.challenge(), ("Content-Length", "100")], b"short")
                wire.reset()
            else:
                issuer(wire, recorded)

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            with pytest.raises(client.library_error):
                client.send("GET", server.url)
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 401, 200]

    def test_a_challenge_on_a_connection_that_closes_is_answered_on_another(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A server that closes with its 401 gets the body whole on a second connection."""
        issuer = Issuer()

        def respond(wire: Wire, recorded: Recorded) -> None:
            if issuer.takes(recorded):
                wire.answer(200)
                return
            wire.answer(401, [issuer.challenge(), ("Connection", "close")])
            wire.close()

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            assert client.send("PATCH", server.url, body=iter([b"x" * 100_000] * 4)).status == 200
        assert len(server.requests[1].body) == 400_000
        assert len(server.wires) == 2

    @pytest.mark.parametrize("kept", [True, False], ids=["kept", "closed"])
    @pytest.mark.parametrize("kind", ["bytes", "generator"])
    def test_a_challenge_may_come_before_the_body(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, kind: str, *, kept: bool
    ) -> None:
        """A 401 that is sent on the head alone is answered, whether its connection is kept or closed."""
        issuer = Issuer()
        chunks = [b"x" * 100_000] * 20

        def early(wire: Wire, recorded: Recorded) -> None:
            if issuer.takes(recorded):
                return
            wire.answer(401, [issuer.challenge(), *([] if kept else [("Connection", "close")])])
            if not kept:
                wire.connection.shutdown(socket.SHUT_WR)

        def respond(wire: Wire, recorded: Recorded) -> None:
            if not recorded.status:
                wire.answer(200)

        unprimed = Resources(prime_above_kib=None)
        with (
            ledger.watch(record(respond, early=early)) as server,
            connect(server.url, signer, resources=unprimed) as client,
        ):
            body = b"".join(chunks) if kind == "bytes" else iter(chunks)
            assert client.send("PATCH", server.url, body=body).status == 200
        assert server.statuses == [401, 200]
        assert len(server.requests[1].body) == 2_000_000


Fault = Callable[[Wire, Issuer], None]


def _reset_before(wire: Wire, issuer: Issuer) -> None:
    wire.reset()


def _reset_in_head(wire: Wire, issuer: Issuer) -> None:
    wire.connection.sendall(b"HTTP/1.1 200 OK\r\nAuthentication-Info: nextno")
    wire.reset()


def _reset_in_body(wire: Wire, issuer: Issuer) -> None:
    wire.begin(200, [("Content-Length", "100")], b"short")
    wire.reset()


def _close_in_body(wire: Wire, issuer: Issuer) -> None:
    wire.begin(200, [("Content-Length", "100")], b"short")
    wire.connection.shutdown(socket.SHUT_RDWR)


def _garbage(wire: Wire, issuer: Issuer) -> None:
    wire.connection.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
    wire.connection.shutdown(socket.SHUT_RDWR)


def _silence(wire: Wire, issuer: Issuer) -> None:
    wire.wait_until_gone()


def _silence_in_body(wire: Wire, issuer: Issuer) -> None:
    wire.begin(200, [("Content-Length", "100")], b"short")
    wire.wait_until_gone()


FAULTS: dict[str, Fault] = {
    "reset before the response": _reset_before,
    "reset in the head": _reset_in_head,
    "reset in the body": _reset_in_body,
    "closed in the body": _close_in_body,
    "garbage": _garbage,
    "no response": _silence,
    "a response that stops": _silence_in_body,
}


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Fault:
    """One fault after the other."""
    return FAULTS[request.param]


class TestServersThatMisbehave:
    def test_a_restart_costs_one_round_trip_each(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Eight nonces that a restarted server does not know cost eight requests one round trip each."""
        apps = [verified(), verified()]

        async def restarting(scope: Scope, receive: Receive, send: Send) -> None:
            await apps[0](scope, receive, send)

        with ledger.watch(serve(restarting)) as server, connect(server.url, signer) as client:
            assert in_threads(8, lambda: client.send("GET", f"{server.url}/before").status) == [200] * 8
            before = len(server.requests)
            apps.pop(0)
            assert in_threads(8, lambda: client.send("GET", f"{server.url}/after").status) == [200] * 8
        after = server.statuses[before:]
        assert after.count(200) == 8
        assert len(after) <= 16

    def test_without_next_nonces_each_request_is_challenged(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A server that never sends next nonces is answered request by request."""
        with (
            ledger.watch(record(Issuer(next_nonces=0))) as server,
            connect(server.url, signer) as client,
        ):
            assert [client.send("GET", server.url).status for _ in range(3)] == [200] * 3
        assert server.statuses == [401, 200] * 3

    def test_thousands_of_next_nonces_are_bounded(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Of thousands of next nonces only so many are kept, the newest, and each is used once."""
        responses = itertools.count(1)

        def respond(wire: Wire, recorded: Recorded) -> None:
            response = next(responses)
            nonces = [_next_nonce(f"from{response}number{number}") for number in range(1000)]
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

    def test_next_nonces_of_absurd_tuning_are_dropped(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Next nonces that nobody could answer leave the response as it is, and are reported."""
        tunings = [
            "m=99999999999999999999,t=1,p=1",
            "m=4294967295,t=4294967295,p=16777215",
            "m=64,t=0,p=0",
            "m=8,t=1,p=64",
            "m=-1,t=1,p=1",
            f"m={'9' * 5000},t=1,p=1",
        ]
        algorithms = ["$argon2d$v=16$m=64,t=1,p=1", *(f"$argon2d$v=19${tuning}" for tuning in tunings)]
        bad = [
            ("Authentication-Info", f"nextnonce=bad{number};argon={algorithm};scopes=read")
            for number, algorithm in enumerate(algorithms)
        ]
        reported: list[events.Event] = []
        with (
            ledger.watch(serve(decided(lambda scope, body: (200, bad, b"fine")))) as server,
            connect(server.url, signer, on_event=reported.append) as client,
        ):
            assert [client.send("GET", server.url).content for _ in range(2)] == [b"fine"] * 2
        assert [seen.field("Authorization") for seen in server.requests] == [[], []]
        assert [type(event) for event in reported] == [events.NextNonceDropped] * 2 * len(bad)

    def test_a_next_nonce_that_is_repeated_is_used_once(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A server that gives one next nonce for ever sees it once, and challenges from then on."""
        issuer = Issuer(next_nonces=0)

        def respond(wire: Wire, recorded: Recorded) -> None:
            if issuer.takes(recorded):
                wire.answer(200, [("Authentication-Info", _next_nonce("AAAA"))])
            else:
                wire.answer(401, [issuer.challenge()])

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            assert [client.send("GET", server.url).status for _ in range(3)] == [200] * 3
        assert server.statuses == [401, 200, 401, 200, 401, 200]

    @pytest.mark.parametrize("status", [407, 421, 429, 500, 503])
    def test_a_refusal_of_what_was_signed_goes_to_the_caller(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, status: int
    ) -> None:
        """A signed request that is refused with anything but 401 is not sent again by us."""
        issuer = Issuer()

        def respond(wire: Wire, recorded: Recorded) -> None:
            if issuer.takes(recorded):
                wire.answer(status, [("Retry-After", "1"), issuer.challenge()], b"later")
            else:
                issuer(wire, recorded)

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            result = client.send("GET", server.url)
        assert (result.status, result.content, result.headers["retry-after"]) == (status, b"later", "1")
        assert server.statuses == [401, status]

    def test_a_compressed_reason_is_read(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A passing reason in a compressed 401 has the challenge answered once more, as in a plain one."""
        issuer = Issuer()
        body = gzip.compress(b'{"reason": "unknown nonce", "action": "read"}')
        refusals = iter(range(2))

        def respond(wire: Wire, recorded: Recorded) -> None:
            if next(refusals, None) is not None:
                issuer.takes(recorded)
                wire.answer(401, [issuer.challenge(), ("Content-Encoding", "gzip")], body)
            else:
                issuer(wire, recorded)

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 401, 200]

    def test_a_bomb_in_the_place_of_a_reason_is_not_unpacked(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Where a reason is looked for, a compressed body is unpacked to 64 KiB at most."""
        issuer = Issuer()
        bomb = gzip.compress(b'{"reason": "unknown nonce"}' + b" " * 50_000_000)
        refusals = iter(range(2))

        def respond(wire: Wire, recorded: Recorded) -> None:
            if next(refusals, None) is not None:
                issuer.takes(recorded)
                wire.answer(401, [issuer.challenge(), ("Content-Encoding", "gzip")], bomb)
            else:
                issuer(wire, recorded)

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            result = client.send("GET", server.url)
            assert all(len(earlier.content) <= 65536 for earlier in result.raw.history)
        assert server.statuses == [401, 401, 200]

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_a_challenge_that_is_not_what_its_coding_says_is_answered(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, coding: str
    ) -> None:
        """A 401 whose body cannot be unpacked is answered: all that was needed was in its head."""
        issuer = Issuer()

        def respond(wire: Wire, recorded: Recorded) -> None:
            if issuer.takes(recorded):
                wire.answer(200)
            else:
                wire.answer(401, [issuer.challenge(), ("Content-Encoding", coding)], b"as it is")

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            assert client.send("GET", server.url).status == 200

    def test_a_challenge_that_stops_is_answered_before_its_end(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A 401 whose body stops half-way is answered: all that was needed was in its head."""
        issuer = Issuer()

        def respond(wire: Wire, recorded: Recorded) -> None:
            if issuer.takes(recorded):
                wire.answer(200)
                return
            wire.begin(401, [issuer.challenge(), ("Content-Length", "100")], b"short")
            wire.wait_until_gone()

        with (
            ledger.watch(record(respond)) as server,
            connect(server.url, signer, transport=Transport(read_timeout=0.5)) as client,
        ):
            assert client.send("GET", server.url).status == 200

    def test_a_rejection_that_stops_is_no_whole_one(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A rejection whose body stops half-way is the library's own error, and not taken for whole."""
        issuer = Issuer()

        def respond(wire: Wire, recorded: Recorded) -> None:
            if issuer.takes(recorded):
                wire.begin(401, [("Content-Length", "100")], b'{"reason": "unknown identity"')
                wire.wait_until_gone()
            else:
                wire.answer(401, [issuer.challenge()])

        with (
            ledger.watch(record(respond)) as server,
            connect(server.url, signer, transport=Transport(read_timeout=0.5)) as client,
            pytest.raises(client.library_error),
        ):
            client.send("GET", server.url)

    def test_a_trickled_challenge_is_answered_before_its_end(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A 401 whose body comes byte by byte is answered when the time for it is over."""
        monkeypatch.setattr(_journey, "_HEAD_SECONDS", 0)
        issuer = Issuer()
        taken: list[int] = []

        def respond(wire: Wire, recorded: Recorded) -> None:
            if issuer.takes(recorded):
                wire.answer(200)
                return
            wire.begin(401, [issuer.challenge(), ("Transfer-Encoding", "chunked")])
            with_pauses = threading.Event()
            taken.append(0)
            for _ in range(TRICKLE):
                if with_pauses.wait(0.001):
                    return
                wire.connection.sendall(b"1\r\nx\r\n")
                taken[-1] += 1
            wire.connection.sendall(b"0\r\n\r\n")

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            assert client.send("GET", server.url).status == 200
        assert taken[0] < TRICKLE


TRICKLE = 500
"""Pieces of a body of a byte and a millisecond each, after which a test gives up."""


class TestProxies:
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_chain_goes_through_a_proxy(
        self, connect: Connect, names: Names, signer: Ed25519Signer, scheme: str
    ) -> None:
        """Through a proxy, in the open or in a tunnel, requests are signed for the server behind it."""
        url, server = f"{scheme}://api.test", names.serve("api.test" + _port(scheme))
        with connect(url, signer, transport=names.transport, allow_http=True) as client:
            for number in range(3):
                assert client.send("PATCH", f"{url}/{number}?q=1", body=iter(CHUNKS)).status == 200
        assert server.statuses == [401, 200, 200, 200]
        if scheme == "http":
            assert names.proxy.targets[0] == "PATCH http://api.test/0?q=1"
        else:
            assert set(names.proxy.targets) == {"CONNECT api.test:443"}
            assert not any(b"authorization:" in head.lower() for head in names.proxy.heads)

    def test_a_proxy_that_refuses_is_the_callers_matter(
        self, connect: Connect, names: Names, signer: Ed25519Signer
    ) -> None:
        """A 407 is returned, in a tunnel raised by the library, and afterwards the chain goes on."""
        origins = ["http://api.test", "https://api.test"]
        names.serve("api.test:80")
        names.serve("api.test:443")
        with connect(origins, signer, transport=names.transport, allow_http=True) as client:
            names.proxy.refuses = True
            assert client.send("GET", "http://api.test/").status == 407
            with pytest.raises(client.library_error):
                client.send("GET", "https://api.test/")
            names.proxy.refuses = False
            assert [client.send("GET", f"{origin}/").status for origin in origins] == [200, 200]


class TestOneOrigin:
    @pytest.mark.skipif(not HAS_IPV6, reason="there is no ::1 here")
    def test_spellings_of_an_ipv6_address_share_a_chain(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Long and short spellings of one address are one origin."""
        with ledger.watch(serve(verified(), host="::1")) as server:
            port = server.url.rpartition(":")[2]
            with connect(f"http://[0:0:0:0:0:0:0:1]:{port}", signer) as client:
                for host in ("[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]"):
                    assert client.send("GET", f"http://{host}:{port}/").status == 200
        assert server.statuses == [401, 200, 200, 200]

    @pytest.mark.parametrize(
        ("name", "urls"),
        [
            (
                "api.test:80",
                ["HTTP://API.test:80/", "http://api.test/", "http://API.TEST/", "http://api.test:80/"],
            ),
            (
                "api.test:443",
                ["https://api.test/", "https://api.test:443/", "https://API.test/"],
            ),
            (
                "xn--bcher-kva.test:80",
                ["http://b\u00fccher.test/", "http://xn--bcher-kva.test/", "http://XN--BCHER-KVA.test:80/"],
            ),
        ],
        ids=["http", "https", "idna"],
    )
    def test_spellings_of_a_name_share_a_chain(
        self, connect: Connect, names: Names, signer: Ed25519Signer, name: str, urls: list[str]
    ) -> None:
        """Letter case, default ports and A-labels make no other origin."""
        server = names.serve(name)
        with connect(urls[0], signer, transport=names.transport, allow_http=True) as client:
            assert [client.send("GET", url).status for url in urls] == [200] * len(urls)
        assert server.statuses == [401] + [200] * len(urls)

    def test_nonces_go_stale(self, connect: Connect, server: Served, signer: Ed25519Signer) -> None:
        """A nonce older than its lifetime is not sent: the request is challenged instead."""
        now = [0.0]
        cache = MemoryNonceCache(lifetime=10, clock=lambda: now[0])
        with connect(server.url, signer, nonces=cache) as client:
            client.send("GET", server.url)
            now[0] = 11
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 200, 401, 200]

    def test_two_ports_of_one_host_share_nothing(
        self, connect: Connect, server: Served, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Each port's nonces are used at that port alone."""
        with (
            ledger.watch(serve(verified())) as other,
            connect([server.url, other.url], signer) as client,
        ):
            for _ in range(2):
                assert client.send("GET", server.url).status == 200
                assert client.send("GET", other.url).status == 200
        assert (server.statuses, other.statuses) == ([401, 200, 200], [401, 200, 200])


class TestCopies:
    def test_a_deep_copy_starts_without_nonces(self, client: Client, server: Served) -> None:
        """A deep copy of an auth object signs, and has a chain of its own."""
        client.send("GET", server.url)
        copied = copy.deepcopy(client.auth)
        assert client.send("GET", server.url, auth=copied).status == 200
        assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 200, 401, 200, 200]

    def test_a_response_pickles(self, client: Client, server: Served) -> None:
        """A response that took a challenge and a redirect pickles, with its content and request."""
        result = client.send("PATCH", server.url + redirect(307, "/target"), body=WHOLE)
        restored = pickle.loads(pickle.dumps(result.raw))
        assert (restored.status_code, restored.content) == (result.status, result.content)
        assert restored.request.headers["Authorization"] == result.sent["authorization"]


def in_threads(number: int, call: Callable[[], Any]) -> list[Any]:
    """Call something in so many threads at once."""
    together = threading.Barrier(number)
    results: list[Any] = []

    def run() -> None:
        together.wait(30)
        results.append(call())

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def _port(scheme: str) -> str:
    return ":443" if scheme.startswith("https") else ":80"


def _next_nonce(nonce: str) -> str:
    return f"nextnonce={nonce};argon={QUICK};scopes=read,update,delete,debug,proxy"
