"""Connections that break, close early or fall silent, for every client, every nonce watched."""

import socket
import threading
from collections.abc import Callable

import pytest

from tuned_digest import Ed25519Signer, Resources

from .clients import Connect, Transport
from .issuing import at, challenging
from .ledger import Ledger
from .raw_server import Issuer, Recorded, Wire, record


def reset(wire: Wire) -> None:
    """Break the connection before the response."""
    wire.reset()


def reset_in_head(wire: Wire) -> None:
    """Break the connection inside the field that would bring a nonce."""
    wire.connection.sendall(b"HTTP/1.1 200 OK\r\nAuthentication-Info: nextno")
    wire.reset()


def reset_in_body(wire: Wire) -> None:
    """Break the connection inside the body."""
    wire.begin(200, [("Content-Length", "100")], b"short")
    wire.reset()


def close_in_body(wire: Wire) -> None:
    """Close the connection inside the body."""
    wire.begin(200, [("Content-Length", "100")], b"short")
    wire.connection.shutdown(socket.SHUT_RDWR)


def garbage(wire: Wire) -> None:
    """Answer with what is no HTTP."""
    wire.connection.sendall(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
    wire.connection.shutdown(socket.SHUT_RDWR)


def silence(wire: Wire) -> None:
    """Answer nothing until the client gives up."""
    wire.wait_until_gone()


def silence_in_body(wire: Wire) -> None:
    """Stop inside the body until the client gives up."""
    wire.begin(200, [("Content-Length", "100")], b"short")
    wire.wait_until_gone()


FAULTS = [reset, reset_in_head, reset_in_body, close_in_body, garbage, silence, silence_in_body]


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
    def test_a_fault_costs_its_nonce_and_nothing_else(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, fault: Callable[[Wire], None]
    ) -> None:
        """What breaks is the library's own error; its nonce is gone; the next request works."""
        faulty = at("/fault", lambda wire, recorded: fault(wire), Issuer())
        with (
            ledger.watch(record(faulty)) as server,
            connect(server.url, signer) as client,
            connect(server.url, signer, transport=Transport(read_timeout=0.1)) as impatient,
        ):
            client.send("GET", f"{server.url}/before")
            with pytest.raises(client.library_error):
                impatient.send("GET", f"{server.url}/fault", auth=client.auth)
            assert client.send("GET", f"{server.url}/after").status == 200
        sent = [(recorded.target, bool(recorded.field("Authorization"))) for recorded in server.requests]
        assert sent == [
            ("/before", False),
            ("/before", True),
            ("/fault", True),
            ("/after", False),
            ("/after", True),
        ]

    def test_a_connection_reset_between_requests_is_not_used(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A kept connection that the server has reset is replaced, and the nonce that it brought is used."""
        issuer = Issuer()
        was_read, was_reset = threading.Event(), threading.Event()

        def respond(wire: Wire, recorded: Recorded) -> None:
            issuer(wire, recorded)
            if recorded.status == 200 and not was_reset.is_set():
                was_read.wait(30)
                wire.reset()
                was_reset.set()

        with ledger.watch(record(respond)) as server, connect(server.url, signer) as client:
            client.send("GET", server.url)
            was_read.set()
            assert was_reset.wait(30)
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 200, 200]


class TestChallenges:
    def test_a_challenge_that_breaks_off_is_the_librarys_error(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A reset inside a 401's body ends in the library's own error, and the next request works."""
        issuer = Issuer()

        def broken(wire: Wire) -> None:
            wire.begin(401, [issuer.challenge(), ("Content-Length", "100")], b"short")
            wire.reset()

        breaking = challenging(issuer, broken, times=1)
        with ledger.watch(record(breaking)) as server, connect(server.url, signer) as client:
            with pytest.raises(client.library_error):
                client.send("GET", server.url)
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 401, 200]

    def test_a_challenge_on_a_connection_that_closes_is_answered_on_another(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A server that closes with its 401 gets the body whole on a second connection."""
        issuer = Issuer()

        def closing(wire: Wire) -> None:
            wire.answer(401, [issuer.challenge(), ("Connection", "close")])
            wire.close()

        with (
            ledger.watch(record(challenging(issuer, closing))) as server,
            connect(server.url, signer) as client,
        ):
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

    def test_a_challenge_that_stops_is_answered_before_its_end(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A 401 whose body stops half-way is answered: all that was needed was in its head."""
        issuer = Issuer()

        def stopping(wire: Wire) -> None:
            wire.begin(401, [issuer.challenge(), ("Content-Length", "100")], b"short")
            wire.wait_until_gone()

        with (
            ledger.watch(record(challenging(issuer, stopping))) as server,
            connect(server.url, signer, transport=Transport(read_timeout=0.5)) as client,
        ):
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 200]
