"""What servers put into the body of a 401, and refusals of what was signed, for every client."""

import gzip
import itertools

import pytest

from tuned_digest import Ed25519Signer

from .clients import Connect, Transport
from .issuing import accepting, challenging, refusing
from .ledger import Ledger
from .raw_server import Issuer, Wire, record

PASSING = b'{"reason": "unknown nonce", "action": "read"}'
"""A body that has a challenge answered once more."""

GZIP = ("Content-Encoding", "gzip")


class TestReasons:
    def test_a_compressed_reason_is_read(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A passing reason in a compressed 401 has the challenge answered once more, as in a plain one."""
        with (
            ledger.watch(record(refusing(Issuer(), gzip.compress(PASSING), GZIP, times=2))) as server,
            connect(server.url, signer) as client,
        ):
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 401, 200]

    def test_a_bomb_in_the_place_of_a_reason_is_not_unpacked(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Where a reason is looked for, a compressed body is unpacked to 64 KiB at most."""
        bomb = gzip.compress(PASSING + b" " * 50_000_000)
        with (
            ledger.watch(record(refusing(Issuer(), bomb, GZIP, times=2))) as server,
            connect(server.url, signer) as client,
        ):
            result = client.send("GET", server.url)
            assert result.history == [401, 401]
            assert all(len(earlier.content) <= 65536 for earlier in result.raw.history)
        assert server.statuses == [401, 401, 200]

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_a_challenge_that_is_not_what_its_coding_says_is_answered(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, coding: str
    ) -> None:
        """A 401 whose body cannot be unpacked is answered: all that was needed was in its head."""
        issuer = Issuer()

        def coded(wire: Wire) -> None:
            wire.answer(401, [issuer.challenge(), ("Content-Encoding", coding)], b"as it is")

        with (
            ledger.watch(record(challenging(issuer, coded))) as server,
            connect(server.url, signer) as client,
        ):
            assert client.send("GET", server.url).status == 200
        assert server.statuses == [401, 200]


class TestSlowBodies:
    def test_a_rejection_that_stops_is_no_whole_one(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A rejection whose body stops half-way is the library's own error, and not taken for whole."""

        def stopping(wire: Wire) -> None:
            wire.begin(401, [("Content-Length", "100")], b'{"reason": "unknown identity"')
            wire.wait_until_gone()

        with (
            ledger.watch(record(accepting(Issuer(), stopping))) as server,
            connect(server.url, signer, transport=Transport(read_timeout=0.5)) as client,
            pytest.raises(client.library_error),
        ):
            client.send("GET", server.url)
        assert server.statuses == [401, 401]

    def test_a_trickled_challenge_is_answered_before_its_end(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A 401 whose body comes byte by byte is answered when the time for it is over."""
        issuer, pieces = Issuer(), 20_000

        def trickling(wire: Wire) -> None:
            wire.begin(401, [issuer.challenge(), ("Transfer-Encoding", "chunked")])
            wire.connection.sendall(b"1\r\nx\r\n" * pieces + b"0\r\n\r\n")

        hours = map(float, itertools.count(step=3600))  # one goes by between two looks at the clock
        with (
            ledger.watch(record(challenging(issuer, trickling))) as server,
            connect(server.url, signer, _clock=hours.__next__) as client,
        ):
            result = client.send("GET", server.url)
            assert result.status == 200
            assert len(result.raw.history[0].content) < pieces
        assert server.statuses == [401, 200]


class TestRefusals:
    @pytest.mark.parametrize("status", [407, 421, 429, 500, 503])
    def test_a_refusal_of_what_was_signed_goes_to_the_caller(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer, status: int
    ) -> None:
        """A signed request that is refused with anything but 401 is not sent again by us."""
        issuer = Issuer()

        def refuse(wire: Wire) -> None:
            wire.answer(status, [("Retry-After", "1"), issuer.challenge()], b"later")

        with (
            ledger.watch(record(accepting(issuer, refuse))) as server,
            connect(server.url, signer) as client,
        ):
            result = client.send("GET", server.url)
        assert (result.status, result.content, result.headers["retry-after"]) == (status, b"later", "1")
        assert server.statuses == [401, status]
