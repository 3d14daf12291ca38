"""Names, default ports, https and proxies, for every client, over real sockets, every nonce watched."""

from collections.abc import Iterator

import pytest
from urllib3.util.connection import HAS_IPV6

from tuned_digest import Ed25519Signer

from .certificates import Certificate
from .clients import Connect
from .field_server import field, verified
from .ledger import Ledger
from .names import Names, named, port_of
from .serving import Served, serve

CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)


@pytest.fixture
def names(ledger: Ledger, certificate: Certificate) -> Iterator[Names]:
    """Names to serve applications under."""
    with named(ledger, certificate) as names:
        yield names


@pytest.fixture
def server(ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`."""
    with ledger.watch(serve(verified())) as served:
        yield served


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_an_upgrade_to_https_is_signed_afresh(
        self, connect: Connect, names: Names, signer: Ed25519Signer, status: int
    ) -> None:
        """From http to https of one host, on their default ports, the target gets a nonce of its own."""
        plain, secure = names.serve("api.test:80"), names.serve("api.test:443")
        origins = ["http://api.test", "https://api.test"]
        with connect(origins, signer, transport=names.transport, allow_http=True) as client:
            url = f"http://api.test/redirect?status={status}&to=https://api.test/target"
            assert client.send("PATCH", url, body=WHOLE).status == 200
        assert (plain.statuses, secure.statuses) == ([401, status], [401, 200])

    @pytest.mark.parametrize("status", [301, 308])
    def test_a_request_that_began_on_plain_http_is_signed_on_https_alone(
        self, connect: Connect, names: Names, signer: Ed25519Signer, status: int
    ) -> None:
        """Where https alone is served, the http server that redirects to it gets nothing from us."""
        plain, secure = names.serve("api.test:80", field), names.serve("api.test:443")
        with connect("https://api.test", signer, transport=names.transport) as client:
            for _ in range(2):
                url = f"http://api.test/redirect?status={status}&to=https://api.test/target"
                assert client.send("PATCH", url, body=WHOLE).status == 200
        assert [seen.field("Authorization") for seen in plain.requests] == [[], []]
        assert secure.statuses == [401, 200, 401, 200]

    @pytest.mark.parametrize("status", [302, 307])
    @pytest.mark.parametrize("origin", ["https://other.test", "http://api.test"], ids=["host", "downgrade"])
    def test_another_name_or_scheme_gets_nothing_from_us(
        self, connect: Connect, names: Names, signer: Ed25519Signer, status: int, origin: str
    ) -> None:
        """A redirect to another host, or down to http, carries no field, and is not answered."""
        names.serve("api.test:443")
        other = names.serve(origin.partition("//")[2] + port_of(origin))
        with connect("https://api.test", signer, transport=names.transport) as client:
            url = f"https://api.test/redirect?status={status}&to={origin}/target"
            assert client.send("PATCH", url, body=WHOLE).status == 401
        assert [seen.field("Authorization") for seen in other.requests] == [[]]


class TestProxies:
    def test_a_chain_goes_through_a_proxy(
        self, connect: Connect, names: Names, signer: Ed25519Signer
    ) -> None:
        """Through a proxy requests are signed for the server behind it."""
        server = names.serve("api.test:80")
        with connect("http://api.test", signer, transport=names.transport, allow_http=True) as client:
            for number in range(3):
                sent = client.send("PATCH", f"http://api.test/{number}?q=1", body=iter(CHUNKS))
                assert sent.status == 200
        assert server.statuses == [401, 200, 200, 200]
        assert names.proxy.targets[0] == "PATCH http://api.test/0?q=1"

    def test_a_chain_goes_through_a_tunnel(
        self, connect: Connect, names: Names, signer: Ed25519Signer
    ) -> None:
        """In a tunnel requests are signed for the server at its end, and the proxy sees no field of ours."""
        server = names.serve("api.test:443")
        with connect("https://api.test", signer, transport=names.transport) as client:
            for number in range(3):
                sent = client.send("PATCH", f"https://api.test/{number}?q=1", body=iter(CHUNKS))
                assert sent.status == 200
        assert server.statuses == [401, 200, 200, 200]
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


class TestSpellings:
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
