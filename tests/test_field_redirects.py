"""Redirects as servers in the field write them, for every client, over real sockets, every nonce watched."""

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from urllib.parse import quote

import pytest
import requests

from tuned_digest import Ed25519Signer

from .clients import Client, Connect
from .field_server import decided, next_nonce, verified
from .issuing import accepting
from .ledger import Ledger
from .raw_server import Issuer, Wire, record
from .serving import Served, serve

CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)


@pytest.fixture
def server(ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`."""
    with ledger.watch(serve(verified())) as served:
        yield served


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


class TestChains:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("body", ["bytes", "generator"])
    def test_every_hop_of_a_chain_is_signed(
        self, client: Client, server: Served, status: int, body: str
    ) -> None:
        """Three redirects on the origin end at the target, each costing one extra round trip."""
        path = redirect(status, redirect(status, redirect(status, "/target")))
        sent = WHOLE if body == "bytes" else iter(CHUNKS)
        result = client.send("PATCH", server.url + path, body=sent)
        assert result.status == 200
        echo = json.loads(result.content)
        assert echo["path"] == "/target"
        if status in (307, 308):
            assert (echo["method"], echo["size"]) == ("PATCH", len(WHOLE))
        assert server.statuses == [*[401, status] * 3, 401, 200]

    @pytest.mark.parametrize("status", [302, 307])
    @pytest.mark.parametrize("method", ["HEAD", "DELETE", "OPTIONS"])
    def test_other_methods_are_signed_as_they_are_sent(
        self, client: Client, server: Served, method: str, status: int
    ) -> None:
        """What a library makes of a method on a redirect is what is signed."""
        assert client.send(method, server.url + redirect(status, "/target")).status == 200
        assert server.statuses == [401, status, 401, 200]

    def test_a_redirect_that_leads_nowhere_is_returned(self, client: Client, server: Served) -> None:
        """A redirect without a Location goes to the caller, and its next nonce is used."""
        assert client.send("GET", f"{server.url}/status?status=302").status == 302
        assert client.send("GET", f"{server.url}/after").status == 200
        assert server.statuses == [401, 302, 200]

    def test_userinfo_in_a_url_is_not_sent(self, client: Client, server: Served) -> None:
        """A name and password in the URL do not take the place of a signature."""
        url = server.url.replace("http://", "http://user:password@")
        assert client.send("GET", url).status == 200
        sent = [value for seen in server.requests for value in seen.field("Authorization")]
        assert [value.partition(" ")[0] for value in sent] == ["tuned-digest-signature"]


class TestLocations:
    @pytest.mark.parametrize(
        ("location", "target"),
        [
            ("//{authority}/target", "/target"),
            ("target", "/folder/target"),
            ("./target", "/folder/target"),
            ("../target", "/target"),
            ("/a/../b", "/b"),
            ("/target#part", "/target"),
            ("?status=200&to=x", "/folder/redirect?status=200&to=x"),
        ],
    )
    def test_a_location_may_be_written_in_any_way(
        self, client: Client, server: Served, location: str, target: str
    ) -> None:
        """Relative, with dots, without a scheme, with a fragment: the target is signed as it is sent."""
        location = location.format(authority=server.url.removeprefix("http://"))
        assert client.send("GET", f"{server.url}/folder{redirect(302, location)}").status == 200
        assert server.story[-2:] == [f"GET {target} 401", f"GET {target} 200"]

    def test_a_location_that_is_none_is_the_librarys_error(self, client: Client, server: Served) -> None:
        """A redirect to what is no URL ends as the library has it, and the next request works."""
        own_error = client.library_error
        if own_error is requests.RequestException:  # it lets the standard library's out
            own_error = ValueError
        with pytest.raises(own_error):
            client.send("GET", server.url + redirect(302, "http://[::g]/"))
        assert client.send("GET", f"{server.url}/after").status == 200


class TestOtherOrigins:
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
        with (
            ledger.watch(serve(decided(lambda scope, body: (200, [next_nonce("AAAA")], b"")))) as other,
            ledger.watch(record(Issuer())) as server,
            connect(server.url, signer) as client,
        ):
            for url in (other.url, server.url, other.url):
                client.send("GET", url)
        assert [seen.field("Authorization") for seen in other.requests] == [[], []]
        assert server.statuses == [401, 200]

    def test_a_loop_over_two_origins_ends(
        self, connect: Connect, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """Of two listed origins that redirect to each other for ever each is answered twice."""
        where: list[str] = []
        issuers = [Issuer(), Issuer()]

        def onwards(index: int) -> Callable[[Wire], None]:
            return lambda wire: wire.answer(
                302, [("Location", f"{where[1 - index]}/"), *issuers[index].next()]
            )

        with (
            ledger.watch(record(accepting(issuers[0], onwards(0)))) as one,
            ledger.watch(record(accepting(issuers[1], onwards(1)))) as other,
        ):
            where += [one.url, other.url]
            with connect(where, signer) as client:
                assert client.send("GET", one.url).status == 401
        assert one.statuses == [401, 302] * 2 + [401]
        assert other.statuses == [401, 302] * 2
