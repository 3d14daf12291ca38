"""The caller's own Authorization and Cookie fields, and requests that are not ours to sign."""

import logging

import pytest

from tuned_digest import Ed25519Signer, Resources

from .clients import CLIENTS, PRIMING, Client, Connect
from .field_server import challenge, field, next_nonce, scripted
from .serving import Served, serve

PAST = "Expires=Thu, 01 Jan 1970 00:00:00 GMT"


class TestAuthorization:
    def test_a_field_of_the_callers_own_is_kept(
        self, client: Client, server: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A request with an Authorization field of its own is not signed, and one warning says so."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        for _ in range(2):
            assert client.send("GET", server.url, headers={"Authorization": "Bearer x"}).status == 401
        assert [seen.field("Authorization") for seen in server.requests] == [["Bearer x"], ["Bearer x"]]
        assert [record.message for record in caplog.records] == [
            f"{server.url}: a request has an Authorization field of its own: it is kept, and the request not "
            "signed"
        ]

    def test_a_malformed_field_of_ours_is_replaced(self, client: Client, server: Served) -> None:
        """A field of our schemes that nobody could have meant is overwritten when the request is signed."""
        sent = client.send("GET", server.url, headers={"Authorization": "tuned-digest-signature nonsense"})
        assert sent.status == 200

    def test_trace_is_not_signed(self, client: Client, server: Served) -> None:
        """TRACE is sent without a signature (section 3)."""
        assert client.send("TRACE", server.url).status == 400
        assert server.requests[0].field("Authorization") == []


class TestOtherOrigins:
    def test_nothing_is_left_on_a_request_that_is_sent_elsewhere(
        self, client: Client, server: Served
    ) -> None:
        """A request to an origin that is not served is sent as it was made, whatever nonces are held."""
        client.send("GET", server.url)
        with serve(field) as other:
            result = client.send("POST", f"{other.url}/x", body=b"whole")
        assert result.status == 200
        assert other.requests[0].field("Authorization") == []
        assert "authorization" not in result.sent

    def test_another_schemes_challenge_elsewhere_is_no_news(
        self, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A 401 of an origin that is not served, with no challenge of ours, is returned without a warning."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with serve(scripted((401, [("WWW-Authenticate", "Basic realm=x")], b""))) as other:
            assert client.send("GET", other.url).status == 401
        assert caplog.records == []


class TestCookiesOfA401:
    def test_they_are_carried_to_the_retry(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Cookies that a 401 sets, and the caller's own, are both on the retry, the newer value winning."""
        sent = _cookies_of_the_retry(
            connect, signer, ["node=b; Path=/", "far=1; Path=/far"], "mine=1; node=a"
        )
        assert sent == ["mine=1; node=b"]

    def test_one_for_elsewhere_is_not_carried(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A cookie that a 401 sets for another path is not on the retry."""
        assert _cookies_of_the_retry(connect, signer, ["far=1; Path=/far"], None) == []

    def test_one_beyond_ascii_is_left_out(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A Set-Cookie that no request could carry does not keep the challenge from being answered."""
        cookie = "a=\u00e9".encode().decode("latin-1")
        with (
            serve(
                scripted((401, [challenge("AAAA"), ("Set-Cookie", cookie)], b""), (200, [], b""))
            ) as server,
            connect(server.url, signer) as client,
        ):
            assert client.send("GET", server.url).status == 200

    @pytest.mark.parametrize("how", ["Max-Age=0", PAST, f"Max-Age=0; {PAST}"])
    def test_one_that_is_deleted_is_not_sent_again(
        self, connect: Connect, signer: Ed25519Signer, how: str
    ) -> None:
        """A cookie that a 401 deletes is not on the retry; the others are, as the caller wrote them."""
        sent = _cookies_of_the_retry(connect, signer, [f"node=gone; Path=/; {how}"], "a=1; node=a; b=2")
        assert sent == ["a=1; b=2"]

    def test_where_all_are_deleted_there_is_no_field(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A retry without cookies has no Cookie field."""
        assert _cookies_of_the_retry(connect, signer, ["node=; Path=/; Max-Age=0"], "node=a") == []

    @pytest.mark.parametrize(
        "scope",
        ["Path=/far", "Path=/ne", "Path=/near/by", "Domain=example.com; Path=/"],
    )
    def test_one_that_is_deleted_elsewhere_stays(
        self, connect: Connect, signer: Ed25519Signer, scope: str
    ) -> None:
        """A cookie that is deleted for another path or another domain is still on the retry."""
        sent = _cookies_of_the_retry(connect, signer, [f"node=; Max-Age=0; {scope}"], "node=a")
        assert sent == ["node=a"]

    @pytest.mark.parametrize("path", ["/", "/near", "/near/"])
    def test_one_that_is_deleted_for_this_path_goes(
        self, connect: Connect, signer: Ed25519Signer, path: str
    ) -> None:
        """A deletion holds for the path it names and for all below (RFC 6265 section 5.1.4)."""
        sent = _cookies_of_the_retry(
            connect, signer, [f"node=; Max-Age=0; Path={path}"], "node=a", at="/near/page"
        )
        assert sent == []

    def test_one_that_is_set_after_it_was_deleted_is_sent(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A 401 that deletes a cookie and then sets it has set it."""
        set_cookies = ["node=; Path=/; Max-Age=0", "node=b; Path=/"]
        assert _cookies_of_the_retry(connect, signer, set_cookies, "node=a") == ["node=b"]

    def test_one_401_deletes_what_another_has_set(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Where a request is answered twice, the second 401 has its say on the cookies of the first."""
        stale = b'{"reason": "unknown nonce"}'
        app = scripted(
            (401, [challenge("AAAA"), ("Set-Cookie", "node=b; Path=/")], b""),
            (401, [challenge("BBBB"), ("Set-Cookie", "node=; Path=/; Max-Age=0")], stale),
            (200, [], b""),
        )
        with serve(app) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url, headers={"Cookie": "node=a"}).status == 200
        assert [seen.field("Cookie") for seen in served.requests] == [["node=a"], ["node=b"], []]

    @pytest.mark.parametrize("before", ["node=b; Path=/", "node=; Path=/; Max-Age=0"])
    def test_what_a_redirect_sets_is_newer(
        self, connect: Connect, signer: Ed25519Signer, before: str
    ) -> None:
        """A cookie that a redirect sets wins over what a 401 before it has set or deleted."""
        app = scripted(
            (401, [challenge("AAAA"), ("Set-Cookie", before)], b""),
            (302, [("Location", "/there"), ("Set-Cookie", "node=c; Path=/")], b""),
            (401, [challenge("BBBB")], b""),
            (200, [], b""),
        )
        with serve(app) as served, connect(served.url, signer) as client:
            assert client.send("GET", f"{served.url}/here").status == 200
        assert [seen.field("Cookie") for seen in served.requests[2:]] == [["node=c"], ["node=c"]]

    @pytest.mark.parametrize("name", PRIMING)
    def test_what_priming_has_deleted_is_not_on_the_upload(self, name: str, signer: Ed25519Signer) -> None:
        """All that came while an origin was primed has its say on the cookies of the upload."""
        app = scripted(
            (401, [challenge("AAAA"), ("Set-Cookie", "node=; Path=/; Max-Age=0")], b""),
            (200, [next_nonce("BBBB"), ("Set-Cookie", "other=1; Path=/")], b""),
            (200, [], b""),
        )
        resources = Resources(prime_above_kib=1)
        with serve(app) as served, CLIENTS[name](served.url, signer, resources=resources) as client:
            client.send("PUT", f"{served.url}/x", body=b"x" * 2048, headers={"Cookie": "a=1; node=a"})
        assert served.story == ["HEAD / 401", "HEAD / 200", "PUT /x 200"]
        assert served.requests[2].field("Cookie") == ["a=1; other=1"]

    def test_one_of_the_clients_own_jar_is_deleted_for_good(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A cookie that the client holds from before is neither on the retry nor on later requests."""
        app = scripted(
            (200, [("Set-Cookie", "node=a; Path=/"), ("Set-Cookie", "other=1; Path=/")], b""),
            (401, [challenge("AAAA"), ("Set-Cookie", "node=; Path=/; Max-Age=0")], b""),
            (200, [], b""),
        )
        with serve(app) as served, connect(served.url, signer) as client:
            for _ in range(3):
                assert client.send("GET", served.url).status == 200
        cookies = [seen.field("Cookie") for seen in served.requests]
        assert cookies == [[], ["node=a; other=1"], ["other=1"], ["other=1"]]


def _cookies_of_the_retry(
    connect: Connect, signer: Ed25519Signer, set_cookies: list[str], own: str | None, at: str = "/near"
) -> list[str]:
    """Send a request with cookies of its own, challenge it with others, and see which are sent again."""
    asked = (401, [challenge("AAAA"), *(("Set-Cookie", value) for value in set_cookies)], b"")
    with serve(scripted(asked, (200, [], b""))) as served, connect(served.url, signer) as client:
        client.send("GET", f"{served.url}{at}", headers={"Cookie": own} if own else {})
    assert served.statuses == [401, 200]
    return served.requests[1].field("Cookie")
