"""The client's order, driven by hand: what is remembered, raised, answered and left alone, and when."""

import logging

import pytest

from tuned_digest import BodyError, LimitExceededError, Limits, MalformedFieldError, UnsupportedAlgorithmError
from tuned_digest._wire.origins import ServedOrigins
from tuned_digest.events import Report

from .driving import ACCESS, CREATE, ORIGIN, Client
from .exchanging import ARGON, challenge, check_work, next_nonce, written
from .flowing import Call, Request, asked

A = f"{ORIGIN}/a"
B = f"{ORIGIN}/b"
ELSEWHERE = "https://elsewhere.example/"


def held(client: Client) -> list[str]:
    """Take every nonce for reading that is held, and name them."""
    return [one.nonce for one in iter(lambda: client.cache.take(ORIGIN, "read"), None) if one]


class TestOrder:
    def test_a_challenge_is_answered_in_order(self) -> None:
        """The nonces are remembered, the connection is released, and then the work begins."""
        client = Client()
        call = Call(client)
        first = call.start("GET", A)
        assert client.story == ["digest", "take read"]
        client.story.clear()
        again = call.answer(first, 401, *asked(challenge("c"), next_nonce("n")))
        assert client.story == ["remember", "again", "digest", "spend", "prove", "sign"]
        assert (first.nonce, again.nonce, str(again)) == (None, "c", f"GET {A}")
        check_work(again.credentials, ACCESS, "GET", "/a")
        client.story.clear()
        assert call.answer(again, 200) is None
        assert client.story == ["attach"]
        assert call.last
        assert call.last.report == Report(2, ARGON, ACCESS, 0.0, "", 1)
        assert held(client) == ["n"]

    def test_a_held_nonce_signs_the_first_request(self) -> None:
        """With a nonce held the request goes out signed, and brings the next one."""
        client = Client()
        client.cache.remember(ORIGIN, [next_nonce("n")])
        call = Call(client)
        first = call.start("GET", A)
        assert first.nonce == "n"
        assert call.answer(first, 200, *written(next_nonce("m"))) is None
        assert client.story == ["digest", "take read", "prove", "sign", "remember", "attach"]
        assert held(client) == ["m"]

    @pytest.mark.parametrize(
        ("bad", "error"),
        [
            ("tuned-digest-signature nonce=c", MalformedFieldError),
            (f"tuned-digest-signature nonce=c;algorithm={CREATE};actions=read", LimitExceededError),
            ("tuned-digest-signature nonce=c;algorithm=scrypt;actions=read", UnsupportedAlgorithmError),
        ],
    )
    def test_nonces_are_remembered_before_anything_is_raised(self, bad: str, error: type[Exception]) -> None:
        """A challenge that cannot be answered costs neither the nonces that came with it nor the report."""
        client = Client(options={"limits": Limits(max_memory_kib=ACCESS.memory_kib)})
        call = Call(client)
        first = call.start("GET", A)
        with pytest.raises(error):
            call.answer(first, 401, ("WWW-Authenticate", bad), *written(next_nonce("n", ACCESS)))
        assert client.story == ["digest", "take read", "remember", "attach"]
        assert call.last
        assert call.last.report == Report(1, next_nonces=1)
        assert held(client) == ["n"]

    @pytest.mark.parametrize("status", [200, 304, 403, 500])
    def test_nonces_of_any_response_are_remembered(self, status: int) -> None:
        """Whatever else a response is, its nonces are kept, and it goes to the caller."""
        client = Client()
        call = Call(client)
        assert call.answer(call.start("GET", A), status, *written(next_nonce("n"))) is None
        assert held(client) == ["n"]

    def test_the_reason_is_read_where_credentials_were_refused(self) -> None:
        """The body of a first challenge is nobody's business; that of a refusal decides what follows."""
        client = Client()
        call = Call(client)
        second = call.answer(call.start("GET", A), 401, *asked(challenge("c")), reason="unknown nonce")
        assert "head" not in client.story
        third = call.answer(second, 401, *asked(challenge("d")), reason="unknown nonce")
        assert client.story.index("head") > client.story.index("sign")
        assert third.nonce == "d"
        assert call.answer(third, 401, *asked(challenge("e")), reason="unknown nonce") is None
        assert call.last
        assert call.last.report == Report(3, ARGON, ACCESS, 0.0, "unknown nonce", 0)

    def test_a_final_refusal_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """What the server says of a refusal is in the log, with method, path and origin, and no nonce."""
        call = Call(Client())
        again = call.answer(call.start("GET", f"{A}?secret"), 401, *asked(challenge("secret")))
        with caplog.at_level(logging.WARNING, "tuned_digest"):
            assert call.answer(again, 401, reason="unknown identity") is None
        assert caplog.messages == [f"{ORIGIN}: GET /a was rejected: unknown identity"]

    def test_a_spent_challenge_sends_the_request_unsigned(self) -> None:
        """Where another request has answered it, the request goes out without our field, to be asked anew."""
        client = Client()
        client.cache.remember(ORIGIN, [next_nonce("n")])
        client.cache.spend(ORIGIN, "c")
        call = Call(client)
        first = call.start("GET", A)
        again = call.answer(first, 401, *asked(challenge("c")))
        assert (first.nonce, again.nonce) == ("n", None)
        assert call.answer(again, 401, *asked(challenge("d"))).nonce == "d"


class TestRedirects:
    def test_a_redirects_nonces_are_remembered(self) -> None:
        """What a redirect brings signs the request that it leads to."""
        client = Client()
        call = Call(client)
        first = call.start("GET", A)
        call.redirect(first, *written(next_nonce("n")))
        assert client.story[-1] == "remember"
        again = call.answer(Request("GET", B), 401, *asked(challenge("c")))
        assert again.nonce == "c"
        assert held(client) == ["n"]

    def test_a_redirect_is_never_answered(self) -> None:
        """A challenge in a redirect, which no server has reason to send, is left alone."""
        client = Client()
        call = Call(client)
        call.redirect(call.start("GET", A), *asked(challenge("c")))
        assert "prove" not in client.story

    def test_the_target_of_a_redirect_is_signed_for_what_it_is(self) -> None:
        """Method, path and body of the request that a response answers count, and not those of the first."""
        call = Call(Client())
        call.start("POST", A, body=b"form")
        again = call.answer(Request("GET", B), 401, *asked(challenge("c")))
        assert str(again) == f"GET {B}"
        check_work(again.credentials, ACCESS, "GET", "/b")

    def test_a_redirect_back_to_a_target_does_not_start_over(self) -> None:
        """Of one target two challenges are answered at most, however often redirects lead back to it."""
        client = Client()
        call = Call(client)
        signed = [call.answer(call.start("GET", A), 401, *asked(challenge("c0")))]
        for number in range(1, 4):
            call.redirect(signed[-1])
            back = Request("GET", A if number % 2 == 0 else B)
            again = call.answer(back, 401, *asked(challenge(f"c{number}")))
            signed.append(again or back)
        assert [request.nonce for request in signed] == ["c0", "c1", "c2", "c3"]
        for url in (A, B):
            call.redirect(signed[-1])
            assert call.answer(Request("GET", url), 401, *asked(challenge("more"))) is None
        assert client.story.count("prove") == 4

    def test_a_field_that_was_forwarded_is_no_answer_of_ours(self) -> None:
        """A library that sends our field again on a redirect is refused; the fresh challenge is answered."""
        client = Client()
        client.cache.remember(ORIGIN, [next_nonce("n")])
        call = Call(client)
        first = call.start("GET", A)
        call.redirect(first)
        forwarded = Request("GET", B, first.fields)
        assert call.answer(forwarded, 401, *asked(challenge("n"))) is None
        again = call.answer(forwarded, 401, *asked(challenge("c")))
        assert again.nonce == "c"
        assert len(again.fields) == 1

    def test_a_one_shot_body_is_not_signed_as_what_is_left_of_it(self) -> None:
        """Where a redirect has consumed the body, the error says what to do."""
        call = Call(Client())
        first = call.start("PUT", A, body=b"one-shot")
        call.redirect(first)
        with pytest.raises(BodyError, match="consumed this one-shot body"):
            call.answer(Request("PUT", B, body=b"one-shot"), 401, *asked(challenge("c")))

    def test_a_flow_may_begin_with_a_request_that_was_sent(self) -> None:
        """A library that does not know the flow before its first answer is served as well."""
        client = Client(options={"origins": ServedOrigins("*")})
        call = Call(client)
        first = Request("GET", A)
        call.flow.resume(first)
        assert call.answer(first, 401, *asked(challenge("c"))).nonce == "c"


class TestLeftAlone:
    @pytest.mark.parametrize(
        "url", [ELSEWHERE, "unix://socket/", "http://api.example.com/", "https://api.example.com:444/"]
    )
    def test_another_origin_gets_nothing(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        """A request to an origin that is not served goes as it is, and its challenge is not answered."""
        client = Client()
        call = Call(client)
        request = call.start("GET", url)
        with caplog.at_level(logging.WARNING, "tuned_digest"):
            for _ in range(2):
                assert call.answer(request, 401, *asked(challenge("c"), next_nonce("n"))) is None
        assert client.story == []
        assert len(caplog.messages) == (0 if url.startswith("unix") else 1)
        assert all("left unanswered" in message for message in caplog.messages)
        assert call.last
        assert call.last.report is None

    @pytest.mark.parametrize("field", [("WWW-Authenticate", "Basic"), ("Server", ARGON)])
    def test_what_is_no_challenge_of_ours_is_no_news(
        self, field: tuple[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Another origin's own 401 is not warned about."""
        call = Call(Client())
        with caplog.at_level(logging.WARNING, "tuned_digest"):
            assert call.answer(call.start("GET", ELSEWHERE), 401, field) is None
        assert caplog.messages == []

    def test_a_redirect_to_another_origin_gets_nothing(self) -> None:
        """Where a redirect leads elsewhere, nothing is signed and nothing remembered."""
        client = Client()
        call = Call(client)
        first = call.start("GET", A)
        client.story.clear()
        call.redirect(Request("GET", ELSEWHERE), *written(next_nonce("n")))
        assert call.answer(Request("GET", ELSEWHERE), 401, *asked(challenge("c"))) is None
        assert client.story == []
        assert first.nonce is None

    def test_any_origin_is_the_one_where_a_call_begins(self) -> None:
        """With ``"*"`` the origin of the first request is served, and no other of that call."""
        client = Client(options={"origins": ServedOrigins("*")})
        call = Call(client)
        first = call.start("GET", ELSEWHERE)
        call.redirect(first)
        assert call.answer(Request("GET", A), 401, *asked(challenge("c"))) is None
        again = call.answer(Request("GET", ELSEWHERE), 401, *asked(challenge("c")))
        assert again.nonce == "c"

    def test_a_field_of_the_callers_own_is_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        """A request with an Authorization field that is not ours is not signed, and that is said once."""
        client = Client()
        own = (("Authorization", "Bearer secret"),)
        with caplog.at_level(logging.WARNING, "tuned_digest"):
            for _ in range(2):
                call = Call(client)
                request = call.start("GET", A, fields=own)
                assert request.fields == own
                assert call.answer(request, 401, *asked(challenge("c"))) is None
        assert client.story == []
        (message,) = caplog.messages
        assert "field of its own" in message
        assert "secret" not in message

    @pytest.mark.parametrize(("method", "url"), [("TRACE", A), ("CONNECT", A)])
    def test_what_is_never_signed_goes_as_it_is(self, method: str, url: str) -> None:
        """A request that the scheme does not sign is neither digested nor signed."""
        client = Client()
        call = Call(client)
        request = call.start(method, url)
        assert call.answer(request, 401, *asked(challenge("c"))) is None
        assert client.story == []


def test_a_request_handed_out_is_known_by_its_identity() -> None:
    """An equal request that the library made itself, as after a redirect, is read anew."""
    call = Call(Client())
    first = call.start("GET", A)
    elsewhere = Request("GET", ELSEWHERE, first.fields)
    assert call.answer(elsewhere, 401, *asked(challenge("c"))) is None
    assert call.answer(first, 401, *asked(challenge("c"))).nonce == "c"
