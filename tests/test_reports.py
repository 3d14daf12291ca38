"""What a request tells about itself: the report on its response, the log, and the progress of a search."""

import logging
import pickle
import threading
from typing import Any

import pytest

from tuned_digest import Ed25519Signer, SearchCost, Tuning, UnsupportedAlgorithmError, events

from .clients import Client, Connect
from .clock import Clock
from .field_server import challenge, field, next_nonce, scripted, search_challenge, verified
from .serving import QUICK, Served, serve

LONG_SEARCH = "long35"
"""A nonce under which the search for 17 zero bits takes between 131,072 and 196,608 tries for ``GET /``."""


class TestReports:
    def test_a_response_tells_what_it_took(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """A challenged request took two round trips and the work of one, a chained one a single trip."""
        clock = Clock(per_work=0.5)
        with connect(server.url, signer, **clock.options) as client:
            first = client.send("GET", server.url).report
            clock.per_work = 0.25
            second = client.send("GET", server.url).report
        scheme = Tuning.scheme
        assert first == events.Report(2, scheme, QUICK, seconds=0.5, reason="", next_nonces=2)
        assert second == events.Report(1, scheme, QUICK, seconds=0.25, reason="", next_nonces=2)

    def test_the_work_of_both_answers_is_counted(self, connect: Connect, signer: Ed25519Signer) -> None:
        """A request that was answered twice took three round trips, and the work of two answers."""
        clock = Clock(per_work=0.5)
        stale = b'{"reason": "unknown nonce"}'
        app = scripted((401, [challenge("AAAA")], b""), (401, [challenge("BBBB")], stale), (200, [], b""))
        with serve(app) as served, connect(served.url, signer, **clock.options) as client:
            report = client.send("GET", served.url).report
        assert report == events.Report(3, Tuning.scheme, QUICK, seconds=1.0)

    @pytest.mark.parametrize("status", [401, 403])
    def test_what_was_never_signed_is_not_called_rejected(
        self, connect: Connect, signer: Ed25519Signer, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A refusal without a challenge of ours is reported as one trip, unsigned, and not logged."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with serve(scripted((status, [], b""))) as served, connect(served.url, signer) as client:
            assert client.send("GET", served.url).report == events.Report(round_trips=1)
        assert caplog.records == []

    def test_no_report_is_made_for_others(self, client: Client) -> None:
        """The response of an origin that is not served has none."""
        with serve(field) as other:
            assert client.send("GET", other.url).report is None

    @pytest.mark.parametrize("trips", [2, 1], ids=["challenged", "chained"])
    def test_a_response_is_pickled_without_its_report(
        self, client: Client, server: Served, trips: int
    ) -> None:
        """A response pickles as its library says, its 401 with it, without a report."""
        results = [client.send("GET", server.url) for _ in range(2)]
        result = next(result for result in results if result.report and result.report.round_trips == trips)
        assert client.report(pickle.loads(pickle.dumps(result.raw))) is None

    def test_an_error_has_the_report_on_its_response(self, connect: Connect, signer: Ed25519Signer) -> None:
        """The response of a challenge that cannot be answered tells what it took until then."""
        asked = (401, [challenge("AAAA", "$scrypt$"), next_nonce("BBBB")], b"")
        with serve(scripted(asked)) as served, connect(served.url, signer) as client:
            with pytest.raises(UnsupportedAlgorithmError) as raised:
                client.send("GET", served.url)
            error: Any = raised.value
            assert client.report(error.response) == events.Report(round_trips=1, next_nonces=1)

    def test_a_redirects_target_has_a_report_of_its_own(self, client: Client, server: Served) -> None:
        """The report of a redirected request is about its last hop."""
        report = client.send("GET", f"{server.url}/redirect?status=302&to=/target").report
        assert report is not None
        assert (report.round_trips, report.scheme, report.reason) == (2, Tuning.scheme, "")
        assert report.next_nonces == 2


class TestRejections:
    def test_a_rejection_says_why(
        self, connect: Connect, signer: Ed25519Signer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The reason of a 401 to a signed request is in its report and, without secrets, in the log."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with (
            serve(verified(accounts=lambda identity: None)) as served,
            connect(served.url, signer) as client,
        ):
            result = client.send("GET", f"{served.url}/a%20b?token=hidden")
        assert result.status == 401
        assert result.report is not None
        assert (result.report.round_trips, result.report.reason) == (2, "unknown identity")
        message = f"{served.url}: GET /a%20b was rejected: unknown identity"
        assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", message)]

    def test_a_rejection_that_does_not_say_why_is_logged_too(
        self, connect: Connect, signer: Ed25519Signer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A 401 whose body says nothing is a rejection without a reason."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        app = scripted((401, [challenge("AAAA")], b""), (401, [challenge("BBBB")], b"go away"))
        with serve(app) as served, connect(served.url, signer) as client:
            result = client.send("POST", served.url)
        assert result.report is not None
        assert result.report.reason == ""
        assert [record.message for record in caplog.records] == [
            f"{served.url}: POST / was rejected: the server gave no reason"
        ]


class TestProgress:
    @pytest.mark.usefixtures("portable")
    def test_a_search_tells_how_far_it_is(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Every 65,536 tries the thread that searches reports, after an estimate of how long it takes."""
        seen: list[events.Event] = []
        threads: dict[type[events.Event], str] = {}

        def note(event: events.Event) -> None:
            seen.append(event)
            threads[type(event)] = threading.current_thread().name

        asked = (401, [search_challenge(LONG_SEARCH, 17)], b"")
        with (
            serve(scripted(asked, (200, [], b""))) as served,
            connect(served.url, signer, schemes=[SearchCost.scheme], on_event=note) as client,
        ):
            assert client.send("GET", served.url).status == 200
        assert [event.tried for event in seen if isinstance(event, events.WorkProgressed)] == [65536, 131072]
        assert threads[events.WorkProgressed] == "tuned-digest-work" != threads[events.WorkStarted]
        assert [event.estimate > 0 for event in seen if isinstance(event, events.WorkStarted)] == [True]
