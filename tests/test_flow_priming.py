"""Priming, driven by hand: HEAD and then GET, before a large body, and no failure of the call."""

from typing import Any

import pytest

from tuned_digest import ArgumentError, BodyError, NextNonce, Origin, Resources
from tuned_digest._client.flow import prime
from tuned_digest._wire.origins import ServedOrigins
from tuned_digest.events import Report

from .driving import ORIGIN, Client, perform
from .exchanging import challenge, next_nonce, written
from .flowing import Call, Request, asked

UP = f"{ORIGIN}/up"
UPLOAD = b"x" * 1025
MALFORMED = ("WWW-Authenticate", "tuned-digest-signature nonce=c")


def priming(**options: Any) -> Call:
    """Make a call that primes before it sends more than 1 KiB."""
    resources = Resources(prime_above_kib=1, **options)
    return Call(Client(options={"resources": resources}), primes=True)


def update(nonce: str) -> NextNonce:
    """Make a next nonce for uploads."""
    return next_nonce(nonce)


class TestOrder:
    def test_a_head_brings_the_nonce(self) -> None:
        """A HEAD goes first; its challenge is answered, and the upload is signed with what that brings."""
        call = priming()
        head = call.start("PUT", UP, body=UPLOAD)
        assert (str(head), head.body, head.nonce) == (f"HEAD {ORIGIN}/", b"", None)
        again = call.answer(head, 401, *asked(challenge("c")))
        assert (str(again), again.nonce) == (f"HEAD {ORIGIN}/", "c")
        upload = call.answer(again, 200, *written(update("n")))
        assert (str(upload), upload.body, upload.nonce) == (f"PUT {UP}", UPLOAD, "n")
        assert call.answer(upload, 200) is None

    def test_a_head_that_brings_a_nonce_at_once_is_enough(self) -> None:
        """Where the challenge itself comes with next nonces, or is no challenge, the upload follows."""
        call = priming()
        head = call.start("PUT", UP, body=UPLOAD)
        upload = call.answer(head, 404, *written(update("n")))
        assert (upload.method, upload.nonce) == ("PUT", "n")

    def test_a_get_follows_a_head_that_brings_nothing(self) -> None:
        """HEAD and then GET, each released unread, and then the upload, unsigned."""
        call = priming()
        head = call.start("PUT", UP, body=UPLOAD)
        get = call.answer(head, 405)
        assert str(get) == f"GET {ORIGIN}/"
        upload = call.answer(get, 404)
        assert (str(upload), upload.nonce) == (f"PUT {UP}", None)
        assert call.client.story.count("release, keep cookies") == 2
        again = call.answer(upload, 401, *asked(challenge("c")))
        assert (str(again), again.nonce) == (f"PUT {UP}", "c")
        assert call.answer(again, 200) is None
        assert call.last
        assert call.last.report
        assert call.last.report.round_trips == 2

    def test_a_get_brings_what_a_head_did_not(self) -> None:
        """The nonce of a GET signs the upload as well."""
        call = priming()
        get = call.answer(call.start("PUT", UP, body=UPLOAD), 405)
        again = call.answer(get, 401, *asked(challenge("c")))
        upload = call.answer(again, 200, *written(update("n")))
        assert (again.method, upload.nonce) == ("GET", "n")

    def test_the_callers_method_goes_first(self) -> None:
        """Method and path of the first request are settings; a GET to the same path follows."""
        call = priming(prime_method="OPTIONS", prime_path="/ping?a")
        first = call.start("PUT", UP, body=UPLOAD)
        second = call.answer(first, 404)
        assert [str(first), str(second)] == [f"OPTIONS {ORIGIN}/ping?a", f"GET {ORIGIN}/ping?a"]

    def test_the_body_is_digested_before_priming(self) -> None:
        """The upload is read to its end once, before any nonce is asked for."""
        call = priming()
        head = call.start("PUT", UP, body=UPLOAD)
        assert call.client.story == ["digest", "take update", "digest", "take read"]
        assert head.method == "HEAD"

    def test_priming_is_taken_for_what_it_is(self) -> None:
        """Whatever action the caller names for the upload, the priming request is a read."""
        call = priming()
        call.client.options["action"] = lambda method, path: "create"
        call = Call(call.client, primes=True)
        call.client.cache.remember(ORIGIN, [update("n")])
        head = call.start("PUT", UP, body=UPLOAD)
        assert (head.method, head.nonce) == ("HEAD", "n")
        assert call.client.story[:2] == ["digest", "take create"]
        assert "take read" in call.client.story


class TestWithout:
    @pytest.mark.parametrize(
        ("limit", "size"), [(1, 1024), (1, 0), (2, 1025), (None, 5000)], ids=["at", "none", "under", "off"]
    )
    def test_a_small_body_is_not_primed(self, limit: int | None, size: int) -> None:
        """A body up to the limit is sent to be challenged, and any where there is none."""
        client = Client(options={"resources": Resources(prime_above_kib=limit)})
        assert Call(client, primes=True).start("PUT", UP, body=bytes(size)).method == "PUT"

    def test_with_a_nonce_held_nothing_is_primed(self) -> None:
        """An upload that can be signed goes out at once."""
        call = priming()
        call.client.cache.remember(ORIGIN, [update("n")])
        assert call.start("PUT", UP, body=UPLOAD).nonce == "n"

    def test_a_library_that_cannot_prime_sends_the_upload(self) -> None:
        """Where an auth object cannot send requests of its own, the upload is sent to be challenged."""
        client = Client(options={"resources": Resources(prime_above_kib=1)})
        assert Call(client).start("PUT", UP, body=UPLOAD).method == "PUT"

    def test_an_upload_to_where_priming_goes_is_not_its_own_priming(self) -> None:
        """A request that is what would be asked with is passed over; the other method still goes first."""
        call = priming()
        head = call.start("GET", f"{ORIGIN}/", body=UPLOAD)
        assert head.method == "HEAD"
        upload = call.answer(head, 404)
        assert (str(upload), upload.body) == (f"GET {ORIGIN}/", UPLOAD)
        call = priming(prime_method="GET")
        assert call.start("GET", f"{ORIGIN}/", body=UPLOAD).body == UPLOAD


class TestNoFailure:
    def test_a_library_that_fails_to_make_the_request_sends_the_upload(self) -> None:
        """What goes wrong with making a priming request is no error of the call."""
        call = priming()
        call.messages.fails_to_prime = True
        upload = call.start("PUT", UP, body=UPLOAD)
        assert (upload.method, upload.nonce) == ("PUT", None)

    def test_a_connection_that_cannot_be_closed_is_no_failure(self) -> None:
        """What goes wrong with letting go of a response to priming is no error of the call."""
        call = priming()
        call.messages.fails_to_release = True
        get = call.answer(call.start("PUT", UP, body=UPLOAD), 404)
        upload = call.answer(get, 200, *written(update("n")))
        assert [get.method, upload.method, upload.nonce] == ["GET", "PUT", "n"]

    def test_a_challenge_that_cannot_be_answered_is_no_failure(self) -> None:
        """What is wrong with the answers to priming is not raised; the upload's own challenge is."""
        call = priming()
        get = call.answer(call.start("PUT", UP, body=UPLOAD), 401, MALFORMED)
        upload = call.answer(get, 401, MALFORMED)
        assert [get.method, upload.method] == ["GET", "PUT"]
        again = call.answer(upload, 401, *asked(challenge("c")))
        assert again.nonce == "c"

    def test_nonces_of_failing_priming_count(self) -> None:
        """Next nonces that come with a challenge that cannot be answered sign the upload."""
        call = priming()
        head = call.start("PUT", UP, body=UPLOAD)
        upload = call.answer(head, 401, MALFORMED, *written(update("n")))
        assert (upload.method, upload.nonce) == ("PUT", "n")

    def test_priming_that_is_refused_for_good_is_no_failure(self) -> None:
        """Where the answer to priming's challenge is refused, the upload is sent to be challenged."""
        call = priming()
        again = call.answer(call.start("PUT", UP, body=UPLOAD), 401, *asked(challenge("c")))
        get = call.answer(again, 401, reason="unknown identity")
        upload = call.answer(get, 403)
        assert [again.nonce, get.method, upload.method] == ["c", "GET", "PUT"]

    def test_priming_without_time_left_is_no_failure(self) -> None:
        """Where priming has used up the call's budget, the upload is still sent."""
        call = priming(work_timeout=3.0)
        call.client.clock.per_work = 5.0
        again = call.answer(call.start("PUT", UP, body=UPLOAD), 401, *asked(challenge("c")))
        get = call.answer(again, 401, *asked(challenge("d")), reason="unknown nonce")
        upload = call.answer(get, 404)
        assert [again.method, get.method, upload.method] == ["HEAD", "GET", "PUT"]

    def test_a_body_that_cannot_be_read_is_a_failure(self) -> None:
        """The upload's own errors are raised, and nothing is primed for it."""
        call = priming()
        assert call.start("PUT", UP, body=b"one-shot").method == "PUT"
        with pytest.raises(BodyError):
            call.answer(Request("PUT", f"{UP}/2", body=b"one-shot"), 401, *asked(challenge("c")))


class TestAfterwards:
    def test_priming_that_brought_nothing_is_not_tried_again(self) -> None:
        """An origin that sent no nonce is sent the next upload at once, until it sends a nonce."""
        call = priming()
        upload = call.answer(call.answer(call.start("PUT", UP, body=UPLOAD), 404), 404)
        assert upload.method == "PUT"
        call.answer(upload, 200)
        second = Call(call.client, primes=True)
        upload = second.start("PUT", UP, body=UPLOAD)
        assert upload.method == "PUT"
        second.answer(upload, 200, *written(next_nonce("x", scopes=frozenset({"debug"}))))
        assert Call(call.client, primes=True).start("PUT", UP, body=UPLOAD).method == "HEAD"

    def test_priming_that_broke_off_is_not_tried_again(self) -> None:
        """After a connection that failed under priming the next upload goes out without."""
        call = priming()
        assert call.start("PUT", UP, body=UPLOAD).method == "HEAD"
        call.flow.close()
        assert Call(call.client, primes=True).start("PUT", UP, body=UPLOAD).method == "PUT"

    def test_a_call_that_ended_well_is_no_mark_against_its_origin(self) -> None:
        """Once the upload has gone out, the end of the call says nothing about priming."""
        call = priming()
        upload = call.answer(call.start("PUT", UP, body=UPLOAD), 404, *written(update("n")))
        call.answer(upload, 200)
        call.flow.close()
        assert Call(call.client, primes=True).start("PUT", UP, body=UPLOAD).method == "HEAD"

    def test_cookies_of_elsewhere_stay_there(self) -> None:
        """Where a priming request was redirected to another origin, no cookie of that is kept."""
        call = priming()
        call.redirect(call.start("PUT", UP, body=UPLOAD))
        get = call.answer(Request("HEAD", "https://elsewhere.example/"), 200)
        assert get.method == "GET"
        released = [done for done in call.client.story if done.startswith("release")]
        assert released == ["release"]

    def test_a_redirect_of_priming_brings_its_nonces(self) -> None:
        """What the redirects of a priming request bring signs the upload."""
        call = priming()
        call.redirect(call.start("PUT", UP, body=UPLOAD), *written(update("n")))
        upload = call.answer(Request("HEAD", f"{ORIGIN}/home"), 404)
        assert (upload.method, upload.nonce) == ("PUT", "n")

    def test_the_upload_starts_with_a_clean_slate(self) -> None:
        """Challenges that priming answered do not count where a redirect of the upload leads there."""
        call = priming()
        again = call.answer(call.start("PUT", UP, body=UPLOAD), 401, *asked(challenge("c")))
        upload = call.answer(again, 200, *written(update("n")))
        call.redirect(upload)
        followed = call.answer(Request("HEAD", f"{ORIGIN}/"), 401, *asked(challenge("d")))
        assert followed.nonce == "d"
        assert call.answer(followed, 200) is None
        assert call.last
        assert call.last.report
        assert call.last.report.round_trips == 2


class TestOnDemand:
    """`prime`, which every leaf has: a signed request to each origin."""

    @staticmethod
    def run(
        client: Client, reports: dict[str, Report | None], method: str | None = None, path: str | None = None
    ) -> tuple[bool, list[str]]:
        """Prime, each request being answered with a report; give the outcome and what was sent and closed."""
        story: list[str] = []

        def send(method: str, url: str) -> str:
            story.append(f"{method} {url}")
            return story[-1]

        def close(response: str) -> None:
            story.append("close")

        steps = prime(client.settings(), send, reports.get, close, method, path)
        return perform(steps), story

    def test_a_head_that_brings_a_nonce_is_enough(self) -> None:
        """Each origin that is named gets a HEAD, and its response is closed."""
        client = Client(options={"origins": ServedOrigins(["https://a", "https://b"])})
        reports: dict[str, Report | None] = {
            "HEAD https://a/": Report(next_nonces=1),
            "HEAD https://b/": Report(next_nonces=2),
        }
        sent = ["HEAD https://a/", "close", "HEAD https://b/", "close"]
        assert self.run(client, reports) == (True, sent)

    def test_a_get_follows_where_nothing_came(self) -> None:
        """One origin that brings no nonce is told, and the others are asked all the same."""
        client = Client(options={"origins": ServedOrigins(["https://a", "https://b"])})
        reports: dict[str, Report | None] = {"GET https://b/x": Report(next_nonces=1)}
        sent = ["HEAD https://a/x", "close", "GET https://a/x", "close"]
        sent += ["HEAD https://b/x", "close", "GET https://b/x", "close"]
        assert self.run(client, reports, path="/x") == (False, sent)

    def test_method_and_path_are_settings(self) -> None:
        """What the call says goes before what the resources say; a GET is not sent twice."""
        resources = Resources(prime_method="OPTIONS", prime_path="/ping")
        client = Client(options={"resources": resources})
        assert self.run(client, {})[1] == [
            f"OPTIONS {ORIGIN}/ping",
            "close",
            f"GET {ORIGIN}/ping",
            "close",
        ]
        assert self.run(client, {}, "get", "/y")[1] == [f"GET {ORIGIN}/y", "close"]

    def test_no_origin_is_an_error(self) -> None:
        """An auth object for any origin does not know where to ask."""
        client = Client(options={"origins": ServedOrigins("*")})
        with pytest.raises(ArgumentError, match="name the origins to prime"):
            self.run(client, {})

    @pytest.mark.parametrize(("method", "path"), [("TRACE", None), ("A B", None), (None, "x"), (None, "/ ")])
    def test_a_request_that_could_not_be_sent_is_an_error(self, method: str | None, path: str | None) -> None:
        """Before anything is sent, the method and the path are looked at."""
        with pytest.raises(ArgumentError, match="priming request"):
            self.run(Client(), {}, method, path)


def test_origins_noted_for_priming_are_bounded() -> None:
    """Where 256 origins are noted already, one more is asked each time."""
    call = priming()
    for number in range(256):
        call.client.records.note_priming(Origin("https", f"h{number}", 443), is_primed=False)
    for _ in range(2):
        call = Call(call.client, primes=True)
        get = call.answer(call.start("PUT", UP, body=UPLOAD), 404)
        assert [get.method, call.answer(get, 404).method] == ["GET", "PUT"]
