"""A clock that is off: corrected once from the Date of a 401, within 15 minutes (tokens.md section 1)."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ClockError, Ed25519Signer, Origin, PublicKey, events
from tuned_digest._client.token_flow import _date
from tuned_digest.events import Report
from tuned_digest.httpx import SelfSignedTokenAuth

from .certificates import Certificate
from .clients import Transport
from .proxy import proxy
from .serving import Served, serve
from .strategies import adversarial
from .token_serving import (
    ACCOUNT,
    TokenServer,
    claims_of,
    every_client,
    http_date,
    serving_tokens,
    signed_in,
)

NOW = 1_800_000_000.0
"""What the client's clock says."""

WAYS: dict[str, dict[str, Any]] = {
    "bound": {},
    "fresh": {"bind": False},
    "reused": {"bind": False, "reuse": True},
}

every_way = pytest.mark.parametrize("how", WAYS)


def server_options(ahead: float, how: str = "bound") -> dict[str, Any]:
    """Make a server's clock run ahead, and have it take tokens of one kind."""
    return {
        "clock": lambda: NOW + ahead,
        "is_bound": how == "bound",
        "is_single_use": how != "reused",
    }


def clock() -> float:
    """Give the client's time."""
    return NOW


def seconds_of(served: Served) -> list[int]:
    """Give how far ahead of the client's clock each token was signed."""
    return [int(claims_of(seen.field("Authorization")[0])["iat"] + 5 - NOW) for seen in served.requests]


class TestCorrection:
    @every_client
    @every_way
    @pytest.mark.parametrize("ahead", [600, -600, 900, -900])
    def test_a_server_whose_clock_differs_costs_one_round_trip_once(
        self, name: str, how: str, ahead: int, signer: Ed25519Signer
    ) -> None:
        """The first request is signed again by the server's clock, and those after it are at once."""
        heard: list[events.Event] = []
        with (
            serving_tokens(signer, **server_options(ahead, how)) as (_, served),
            signed_in(name, served.url, signer, on_event=heard.append, _clock=clock, **WAYS[how]) as client,
        ):
            results = [client.send("PUT", served.url, body=b"whole") for _ in range(3)]
        assert [result.status for result in results] == [200] * 3
        assert [result.report for result in results] == [Report(2, "Bearer"), *[Report(1, "Bearer")] * 2]
        assert served.statuses == [401, 200, 200, 200]
        assert seconds_of(served) == [0, ahead, ahead, ahead]
        adjusted = [event for event in heard if isinstance(event, events.ClockAdjusted)]
        assert adjusted == [events.ClockAdjusted(Origin.parse(served.url), ahead)]

    @every_client
    def test_a_token_by_a_clock_that_nobody_has_accepted_is_not_kept(
        self, name: str, signer: Ed25519Signer
    ) -> None:
        """A token that is signed by the Date of a 401 is sent once, and not kept unless it is accepted."""
        with (
            serving_tokens(signer, script=[None, (500, []), None, None], **server_options(600, "reused")) as (
                _,
                served,
            ),
            signed_in(name, served.url, signer, _clock=clock, **WAYS["reused"]) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [500, 200]
        assert seconds_of(served) == [0, 600, 0, 600]

    @every_client
    def test_each_origin_has_an_offset_of_its_own(self, name: str, signer: Ed25519Signer) -> None:
        """What one origin's clock says is not used at another."""
        with (
            serving_tokens(signer, **server_options(600)) as (_, ahead),
            serving_tokens(signer, **server_options(0)) as (_, right),
            signed_in(name, [ahead.url, right.url], signer, _clock=clock) as client,
        ):
            for url in (ahead.url, right.url, ahead.url):
                assert client.send("GET", url).status == 200
        assert (ahead.statuses, right.statuses) == ([401, 200, 200], [200])

    @every_client
    @pytest.mark.parametrize("after", [0, -300])
    def test_an_offset_changes_when_the_clock_is_set(
        self, name: str, after: int, signer: Ed25519Signer
    ) -> None:
        """An offset that no longer holds is corrected in the same way, also to none at all."""
        offsets = [600.0]
        with (
            serving_tokens(signer, clock=lambda: NOW + offsets[-1]) as (_, served),
            signed_in(name, served.url, signer, _clock=clock) as client,
        ):
            assert client.send("GET", served.url).status == 200
            offsets.append(after)
            assert [client.send("GET", served.url).status for _ in range(2)] == [200, 200]
        assert served.statuses == [401, 200, 401, 200, 200]

    @every_client
    @every_way
    def test_it_happens_once_in_a_request(self, name: str, how: str, signer: Ed25519Signer) -> None:
        """A server that goes on refusing, with another Date each time, is answered once, and not believed."""
        dates = iter([600, -600, 300, 0, 0])
        with (
            serving_tokens(
                signer,
                fields=lambda now: [("Date", http_date(NOW + next(dates)))],
                **{**server_options(0, how), "clock": lambda: NOW + 5000},
            ) as (_, served),
            signed_in(name, served.url, signer, _clock=clock, **WAYS[how]) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [401, 401]
        assert seconds_of(served) == [0, 600, 0, 300]

    @every_client
    @pytest.mark.parametrize("status", [401, 500, 503, 404])
    def test_an_offset_is_kept_once_a_token_under_it_is_accepted(
        self, name: str, status: int, signer: Ed25519Signer
    ) -> None:
        """What is refused again, or fails for another reason, says nothing of the clock."""
        said = ("WWW-Authenticate", 'Bearer error="invalid_token"')
        with (
            serving_tokens(signer, **server_options(0)) as (server, served),
            signed_in(name, served.url, signer, _clock=clock) as client,
        ):
            server.fields = lambda now: [("Date", http_date(NOW + 600))]
            server.script += [(401, [said]), (status, [])]
            assert client.send("GET", served.url).status == status
            assert client.send("GET", served.url).status == 200
        assert seconds_of(served) == [0, 600, 0]

    @every_client
    @pytest.mark.parametrize("status", [302, 307])
    def test_it_holds_for_the_redirects_of_the_same_call(
        self, name: str, status: int, signer: Ed25519Signer
    ) -> None:
        """A request that was corrected and then redirected is signed by the server's clock at its target."""
        with (
            serving_tokens(signer, **server_options(600)) as (_, served),
            signed_in(name, served.url, signer, _clock=clock) as client,
        ):
            url = f"{served.url}/redirect?status={status}&to=/target"
            assert client.send("GET", url).status == 200
            assert client.send("GET", url).status == 200
        assert [seen.status for seen in served.requests if seen.status != 401] == [status, 200] * 2

    @every_client
    def test_a_date_within_the_skew_is_no_reason(self, name: str, signer: Ed25519Signer) -> None:
        """Where the clocks agree, a refusal has another cause, and goes to the caller."""
        with (
            serving_tokens(signer, **server_options(5)) as (server, served),
            signed_in(name, served.url, signer, _clock=clock) as client,
        ):
            server.script.append((401, [("WWW-Authenticate", 'Bearer error="invalid_token"')]))
            assert client.send("GET", served.url).status == 401
        assert served.statuses == [401]


def off(*, date: Callable[[float], list[str]], **fields: str) -> Callable[[float], list[tuple[str, str]]]:
    """Give the fields of a response with such Date fields, and others."""
    further = [(key.replace("_", "-"), value) for key, value in fields.items()]
    return lambda now: [*(("Date", value) for value in date(now)), *further]


class TestWhatIsNotBelieved:
    @every_client
    @pytest.mark.parametrize(
        "fields",
        [
            off(date=lambda now: []),
            off(date=lambda now: ["yesterday"]),
            off(date=lambda now: [""]),
            off(date=lambda now: [str(int(now))]),
            off(date=lambda now: ["Fri, 99 Jan 2027 08:10:00 GMT"]),
            off(date=lambda now: [http_date(now), http_date(now)]),
            off(date=lambda now: [f"{http_date(now)}, {http_date(now)}"]),
            off(date=lambda now: [http_date(now)], Age="0"),
            off(date=lambda now: [http_date(now)], Age="600"),
        ],
        ids=["absent", "word", "empty", "number", "day", "two", "joined", "age 0", "age"],
    )
    def test_a_401_that_shows_no_time_is_the_callers(
        self, name: str, fields: Any, signer: Ed25519Signer
    ) -> None:
        """Without a Date, with two or one that is none, and from a cache, nothing is corrected."""
        with (
            serving_tokens(signer, fields=fields, **server_options(600)) as (_, served),
            signed_in(name, served.url, signer, _clock=clock) as client,
        ):
            assert client.send("GET", served.url).status == 401
        assert served.statuses == [401]

    @every_client
    @pytest.mark.parametrize(
        "said",
        [
            [],
            ['Bearer realm="x"'],
            ['Bearer error="insufficient_scope"'],
            ['Bearer error="invalid_token_x"'],
            ["Basic realm=x"],
        ],
    )
    def test_a_401_that_does_not_name_the_token_is_the_callers(
        self, name: str, said: list[str], signer: Ed25519Signer
    ) -> None:
        """Only ``invalid_token`` is a reason to look at the clock."""
        with (
            serving_tokens(signer, **server_options(600)) as (server, served),
            signed_in(name, served.url, signer, _clock=clock) as client,
        ):
            server.script.append((401, [("WWW-Authenticate", value) for value in said]))
            assert client.send("GET", served.url).status == 401
        assert served.statuses == [401]

    @every_client
    @pytest.mark.parametrize("ahead", [901, -901, 3600, -365 * 86400])
    @every_way
    def test_more_than_15_minutes_is_an_error(
        self, name: str, ahead: int, how: str, signer: Ed25519Signer
    ) -> None:
        """An hour or a year is an error of both families, which says how far the clocks are apart."""
        with (
            serving_tokens(signer, **server_options(ahead, how)) as (_, served),
            signed_in(name, served.url, signer, _clock=clock, **WAYS[how]) as client,
        ):
            with pytest.raises(ClockError, match="set this machine's clock") as raised:
                client.send("GET", f"{served.url}/x")
            error: Any = raised.value
            assert isinstance(error, client.library_error)
            assert (error.origin, error.seconds) == (served.url, ahead)
            assert ("ahead of" in str(error)) == (ahead > 0)
            assert str(error.request.url) == f"{served.url}/x"
            assert error.response.status_code == 401
        assert served.statuses == [401]


class TestPlainHttp:
    @every_client
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_beyond_loopback_a_date_is_believed_over_tls_alone(
        self, name: str, scheme: str, certificate: Certificate, signer: Ed25519Signer
    ) -> None:
        """On plain http anyone on the way could have written it."""
        application = TokenServer(PublicKey.of(signer), **server_options(600))
        tls = {"ssl_certfile": certificate.path, "ssl_keyfile": certificate.key_path}
        port = {"http": 80, "https": 443}[scheme]
        with (
            serve(application, date_header=False, **(tls if scheme == "https" else {})) as served,
            proxy({f"api.test:{port}": served.url}) as between,
            signed_in(
                name,
                f"{scheme}://api.test",
                signer,
                transport=Transport(proxy=between.url, certificate=certificate.path),
                allow_http=True,
                _clock=clock,
            ) as client,
        ):
            status = client.send("GET", f"{scheme}://api.test/x").status
        assert (status, served.statuses) == ((200, [401, 200]) if scheme == "https" else (401, [401]))


class TestDates:
    @pytest.mark.parametrize(
        "date",
        ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
    )
    @pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
    def test_the_three_forms_of_http_are_read(
        self, date: str, zone: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each form of RFC 9110 section 5.6.7 is the same time, wherever this machine is."""
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            assert _date(lambda name: [date]) == 784111777
        finally:
            monkeypatch.undo()
            time.tzset()

    @given(
        adversarial() | st.from_regex(r"\A\w{3}, \d{1,3} \w{3} \d{1,5} \d\d:\d\d:\d\d ([+-]\d{1,9}|GMT)?\Z")
    )
    def test_no_date_raises(self, date: str) -> None:
        """Whatever a server writes, it is a time or none."""
        assert isinstance(_date(lambda name: [date]), float | None)


def test_no_more_than_256_offsets_are_kept(signer: Ed25519Signer) -> None:
    """Beyond so many origins nothing more is remembered; what is known can change."""
    settings = SelfSignedTokenAuth("*", signer, account=ACCOUNT)._settings
    origins = [Origin("https", f"host{number}.example", 443) for number in range(300)]
    for offset in (60.0, 90.0):
        for origin in origins:
            settings.note_offset(origin, offset)
    assert [settings.offsets.get(origin) for origin in origins] == [90.0] * 256 + [None] * 44
