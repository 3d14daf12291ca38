"""One call for each request: a token of its own, good for that request and no other."""

import json
import logging
from typing import Any

import pytest

from tuned_digest import Ed25519Signer, events
from tuned_digest.events import Report

from .clients import ASYNC
from .field_server import field as echo
from .raw_server import record
from .token_serving import ACCOUNT, claims_of, every_client, header_of, lent, serving_tokens, signed_in

UNBOUND: dict[str, dict[str, Any]] = {
    "fresh": {"bind": False},
    "reused": {"bind": False, "reuse": True},
}


class TestRoundTrips:
    @every_client
    @pytest.mark.parametrize("how", ["bound", *UNBOUND])
    def test_200_requests_are_200_round_trips(self, name: str, how: str, signer: Ed25519Signer) -> None:
        """No request is challenged, and each is one round trip; a reused token is one for all of them."""
        options = UNBOUND.get(how, {})
        lax = {"is_bound": how == "bound", "is_single_use": how != "reused"}
        with (
            serving_tokens(signer, **lax) as (server, served),
            signed_in(name, served.url, signer, **options) as client,
        ):
            results = [client.send("GET", f"{served.url}/{number}") for number in range(200)]
        assert served.statuses == [200] * 200
        assert {result.status for result in results} == {200}
        assert {result.report for result in results} == {Report(1, "Bearer")}
        tokens = {value for seen in served.requests for value in seen.field("Authorization")}
        assert len(tokens) == (1 if how == "reused" else 200)
        assert all(("jti" in claims) == (how != "reused") for claims in server.claims)


class TestBinding:
    @every_client
    def test_a_token_is_what_tokens_md_says(self, name: str, signer: Ed25519Signer) -> None:
        """Header and claims of a bound token are those of section 1, and no more."""
        with (
            serving_tokens(signer) as (server, served),
            signed_in(name, served.url, signer) as client,
        ):
            assert client.send("PUT", f"{served.url}/a?b=c", body=b"whole").status == 200
        (claims,) = server.claims
        assert {claim: claims[claim] for claim in ("iss", "sub", "aud", "htm", "htu", "query")} == {
            "iss": ACCOUNT,
            "sub": ACCOUNT,
            "aud": served.url,
            "htm": "PUT",
            "htu": f"{served.url}/a",
            "query": "b=c",
        }
        assert claims["exp"] - claims["iat"] == 65
        assert claims["content_digest"] == served.requests[0].field("Content-Digest")[0]
        assert len(claims) == 10
        header = header_of(served.requests[0].field("Authorization")[0])
        assert header == {"alg": "Ed25519", "typ": "JWT", "kid": server.key.thumbprint}

    @every_client
    @pytest.mark.parametrize("changed", ["nothing", "method", "path", "query", "body"])
    def test_a_stolen_token_fits_no_other_request(
        self, name: str, changed: str, signer: Ed25519Signer
    ) -> None:
        """A token is refused with another method, path, query or body, and a second time with the same."""
        with serving_tokens(signer) as (server, served), signed_in(name, served.url, signer) as client:
            # The server has not seen the token: what is refused is refused for what it says.
            server.script.append((503, []))
            sent = client.send("PUT", f"{served.url}/a?b=c", body=b"whole").sent
            stolen = {key: sent[key] for key in ("authorization", "content-digest")}
            method = "POST" if changed == "method" else "PUT"
            path = "/b" if changed == "path" else "/a"
            query = "b=d" if changed == "query" else "b=c"
            body = b"other" if changed == "body" else b"whole"
            url = f"{served.url}{path}?{query}"
            statuses = [
                client.send(method, url, body=body, headers=stolen, auth=_unsigned).status for _ in range(2)
            ]
        assert statuses == ([200, 401] if changed == "nothing" else [401, 401])

    @every_client
    @pytest.mark.parametrize(
        "target",
        [
            "/",
            "/?",
            "/?a",
            "/a%2fb%2F?c=%20+&&d",
            "/a%c3%bc",
            "/\u00fc?\u00fc=\u00fc",
            "/a b?c d",
            "/[x]|?[]|",
            "//a//b",
        ],
    )
    def test_path_and_query_are_signed_as_they_are_sent(
        self, name: str, target: str, signer: Ed25519Signer
    ) -> None:
        """What a library writes on the request line is what stands in the token."""
        with (
            record(lambda wire, recorded: wire.answer(200)) as raw,
            signed_in(name, raw.url, signer) as client,
        ):
            client.send("GET", raw.url + target)
        (sent,) = raw.requests
        path, _, query = sent.target.partition("?")
        claims = claims_of(sent.field("Authorization")[0])
        assert (claims["htu"], claims.get("query", "")) == (raw.url + path, query)
        assert ("query" in claims) == bool(query)

    @every_client
    def test_trace_is_not_signed(self, name: str, signer: Ed25519Signer) -> None:
        """TRACE goes out without a token, also where one is kept."""
        with (
            serving_tokens(signer, is_bound=False, is_single_use=False) as (_, served),
            signed_in(name, served.url, signer, bind=False, reuse=True) as client,
        ):
            assert [client.send(method, served.url).status for method in ("GET", "TRACE")] == [200, 401]
        assert served.requests[1].field("Authorization") == []


def _unsigned(request: Any) -> Any:
    """Leave a request as it is, in either library."""
    return request


class TestWhatIsNotOurs:
    @every_client
    def test_an_origin_that_asks_in_vain_is_warned_of_once(
        self, name: str, signer: Ed25519Signer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where a server asks for a token that this auth object is not for, one warning says so."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, "https://api.example.com", signer) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [401, 401]
        assert [record.message for record in caplog.records] == [
            f"{served.url}: it asks for a token, and gets none: the auth object serves https://api.example.com"
        ]

    @every_client
    @pytest.mark.parametrize("options", [{}, *UNBOUND.values()], ids=["bound", *UNBOUND])
    def test_a_field_of_the_callers_own_is_kept(
        self,
        name: str,
        options: dict[str, Any],
        signer: Ed25519Signer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A request with an Authorization field of its own is sent as it is, and one warning says so."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with (
            serving_tokens(signer, is_bound=False) as (_, served),
            signed_in(name, served.url, signer, **options) as client,
        ):
            client.send("GET", served.url)
            for _ in range(2):
                result = client.send("GET", served.url, headers={"Authorization": "Bearer x"})
                assert (result.status, result.report) == (400, None)
        assert [seen.field("Authorization") for seen in served.requests[1:]] == [["Bearer x"]] * 2
        assert [seen.field("Content-Digest") for seen in served.requests[1:]] == [[], []]
        assert [record.message for record in caplog.records] == [
            f"{served.url}: a request has an Authorization field of its own: it is kept, and the request not "
            "signed"
        ]

    @every_client
    def test_the_warning_names_the_field(
        self, name: str, signer: Ed25519Signer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where the token has a field of its own, that is what a caller may have set."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with (
            serving_tokens(signer, carrier="X-Token", scheme="") as (_, served),
            signed_in(name, served.url, signer, field="X-Token", scheme="") as client,
        ):
            own = {"Authorization": "Basic eDp5"}
            assert client.send("GET", served.url, headers=own).status == 200
            assert client.send("GET", served.url, headers={"X-Token": "own"}).status == 400
        assert served.requests[0].field("Authorization") == ["Basic eDp5"]
        assert "a request has a X-Token field of its own" in caplog.text

    @every_client
    @pytest.mark.parametrize("options", [{}, *UNBOUND.values()], ids=["bound", *UNBOUND])
    def test_other_origins_get_nothing(
        self, name: str, options: dict[str, Any], signer: Ed25519Signer
    ) -> None:
        """A request to an origin that is not served is sent as it was made."""
        with (
            serving_tokens(signer, is_bound=False) as (_, served),
            lent(echo) as other,
            signed_in(name, served.url, signer, **options) as client,
        ):
            client.send("GET", served.url)
            result = client.send("POST", f"{other.url}/x", body=b"whole")
        assert (result.status, result.report) == (200, None)
        names = {key for key, _ in other.requests[0].headers}
        assert not names & {b"authorization", b"content-digest"}

    @every_client
    def test_a_digest_of_the_callers_own_is_kept(self, name: str, signer: Ed25519Signer) -> None:
        """A Content-Digest that a caller has set stays, whatever its algorithm; the token has its own."""
        with serving_tokens(signer) as (_, served), signed_in(name, served.url, signer) as client:
            own = {"Content-Digest": "sha-512=:AAAA:"}
            assert client.send("PUT", served.url, body=b"whole", headers=own).status == 200
        assert served.requests[0].field("Content-Digest") == ["sha-512=:AAAA:"]

    @every_client
    def test_any_origin(self, name: str, signer: Ed25519Signer) -> None:
        """With "*" each origin gets tokens for itself."""
        with (
            serving_tokens(signer) as (_, one),
            serving_tokens(signer) as (_, two),
            signed_in(name, "*", signer) as client,
        ):
            assert [client.send("GET", url).status for url in (one.url, two.url)] == [200, 200]


class TestReports:
    @every_client
    @pytest.mark.parametrize("how", ["bound", *UNBOUND])
    def test_events_and_the_report_say_what_was_done(
        self, name: str, how: str, signer: Ed25519Signer
    ) -> None:
        """Each request is an event, and its response has a report; of a refusal that has the reason."""
        heard: list[events.Event] = []
        with (
            serving_tokens(signer, is_bound=False, is_single_use=False) as (server, served),
            signed_in(name, served.url, signer, on_event=heard.append, **UNBOUND.get(how, {})) as client,
        ):
            client.send("GET", served.url)
            said = 'Bearer error="invalid_token", error_description="no more"'
            server.script.append((401, [("WWW-Authenticate", said)]))
            refused = client.send("GET", served.url)
        assert [
            (type(event), event.method) for event in heard if isinstance(event, events.RequestSigned)
        ] == [(events.RequestSigned, "GET")] * 2
        assert len(heard) == 2
        assert (refused.status, refused.report) == (401, Report(1, "Bearer", reason="no more"))

    @every_client
    def test_a_reused_token_is_dropped_on_a_401(self, name: str, signer: Ed25519Signer) -> None:
        """The 401 goes to the caller, and the next request has a new token."""
        times = iter(range(1000, 2000))
        with (
            serving_tokens(signer, is_bound=False, is_single_use=False, clock=lambda: 1000.0) as (
                server,
                served,
            ),
            signed_in(
                name,
                served.url,
                signer,
                bind=False,
                reuse=True,
                claims=lambda request: {"n": next(times)},
                _clock=lambda: 1000.0,
            ) as client,
        ):
            client.send("GET", served.url)
            server.script.append((401, []))
            assert [client.send("GET", served.url).status for _ in range(3)] == [401, 200, 200]
        tokens = [seen.field("Authorization")[0] for seen in served.requests]
        assert [claims_of(token)["n"] for token in tokens] == [1000, 1000, 1001, 1001]

    @every_client
    def test_a_whole_echo_comes_back(self, name: str, signer: Ed25519Signer) -> None:
        """What was sent is what the server verified."""
        with serving_tokens(signer) as (_, served), signed_in(name, served.url, signer) as client:
            echoed = json.loads(client.send("DELETE", f"{served.url}/x").content)
        assert (echoed["method"], echoed["size"]) == ("DELETE", 0)


def test_there_are_async_clients() -> None:
    """Two of the kinds of client run on an event loop."""
    assert len(ASYNC) == 2
