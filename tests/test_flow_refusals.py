"""Pauses before answers, an origin that gets none, and the time that one call may take."""

import itertools
import logging

import pytest

from tuned_digest import RefusedError, Resources, WorkTimeoutError

from .clock import Clock
from .driving import ORIGIN, Client
from .exchanging import challenge, next_nonce
from .flowing import Call, Request, asked

_numbers = itertools.count()  # no two challenges have one nonce


def client_with(per_work: float = 0.0, **options: float | None) -> Client:
    """Make a client that has such resources, and whose work takes so many seconds."""
    resources = Resources(**options)  # type: ignore[arg-type]  # numbers, or None, as a test says
    return Client(options={"resources": resources}, clock=Clock(per_work=per_work))


def refused(client: Client, number: int = 0, reason: str = "unknown identity") -> Call:
    """Make a call whose answer the origin refuses."""
    call = Call(client)
    first = call.start("GET", f"{ORIGIN}/{number}")
    again = call.answer(first, 401, *asked(challenge(f"fresh{next(_numbers)}")))
    assert call.answer(again, 401, *asked(challenge(f"late{next(_numbers)}")), reason=reason) is None
    return call


def challenged(client: Client, nonce: str = "c") -> Call:
    """Make a call that is challenged, and answers."""
    call = Call(client)
    again = call.answer(call.start("GET", f"{ORIGIN}/a"), 401, *asked(challenge(nonce)))
    assert again.nonce == nonce
    return call


class TestPauses:
    def test_answers_wait_longer_with_each_refusal(self) -> None:
        """The first three are free; from then on each answer waits 1, 2, 4, 8 and at most 8 seconds."""
        client = client_with()
        pauses = [refused(client, number).pauses for number in range(10)]
        assert pauses == [[], [], [], [1.0], [2.0], [4.0], [8.0], [8.0], [8.0], [8.0]]

    def test_the_pause_comes_before_the_answer(self) -> None:
        """What is remembered is not held back, nor the connection, which others may wait for; the work is."""
        client = client_with()
        for number in range(3):
            refused(client, number)
        client.story.clear()
        call = Call(client)
        call.answer(call.start("GET", f"{ORIGIN}/a"), 401, *asked(challenge("c"), next_nonce("n")))
        order = ["remember", "again", "pause", "digest", "spend", "prove", "sign"]
        assert client.story == ["digest", "take read", *order]

    def test_nothing_but_an_answer_waits(self) -> None:
        """Requests under next nonces, and those that are not challenged, go out at once."""
        client = client_with()
        for number in range(6):
            refused(client, number)
        client.cache.remember(ORIGIN, [next_nonce("n")])
        call = Call(client)
        assert call.start("GET", f"{ORIGIN}/a").nonce == "n"
        assert call.pauses == []

    def test_the_slowing_down_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        """The user learns why requests have become slow."""
        client = client_with()
        with caplog.at_level(logging.WARNING, "tuned_digest"):
            for number in range(6):
                refused(client, number)
        assert len([message for message in caplog.messages if "slowed down" in message]) == 1

    def test_a_pause_is_what_is_left_of_it(self) -> None:
        """Time that has gone by since the refusal counts."""
        client = client_with()
        for number in range(4):
            refused(client, number)
        client.clock.now += 1.5
        assert refused(client, 4).pauses == [0.5]
        client.clock.now += 100
        assert refused(client, 5).pauses == []

    def test_an_accepted_answer_ends_the_row(self) -> None:
        """After one good answer three more refusals are free."""
        client = client_with()
        for number in range(5):
            refused(client, number)
        call = Call(client)
        again = call.answer(call.start("GET", f"{ORIGIN}/a"), 401, *asked(challenge("c")))
        assert call.answer(again, 200) is None
        assert [refused(client, number).pauses for number in range(10, 14)] == [[], [], [], [1.0]]

    def test_what_needed_no_answer_does_not_end_the_row(self) -> None:
        """A page that the origin shows to all says nothing about answers."""
        client = client_with(refusals_allowed=2)
        for number in range(2):
            refused(client, number)
            call = Call(client)
            assert call.answer(call.start("GET", f"{ORIGIN}/open"), 200) is None
        with pytest.raises(RefusedError):
            refused(client, 2)

    def test_a_stale_next_nonce_is_no_refusal(self) -> None:
        """A 401 to a chained request, whose nonce the server may have forgotten, is not counted."""
        client = client_with(refusals_allowed=1)
        for number in range(5):
            client.cache.remember(ORIGIN, [next_nonce(f"n{number}")])
            call = Call(client)
            first = call.start("GET", f"{ORIGIN}/a")
            assert first.nonce == f"n{number}"
            again = call.answer(first, 401, *asked(challenge(f"c{number}")), reason="unknown nonce")
            assert call.answer(again, 200) is None
            assert call.pauses == []

    def test_an_answer_that_was_lost_to_a_passing_reason_does_not_count(self) -> None:
        """Of a call that was answered twice, since its nonce was unknown, the second refusal counts."""
        client = client_with(refusals_allowed=1)
        call = Call(client)
        again = call.answer(call.start("GET", f"{ORIGIN}/a"), 401, *asked(challenge("c")))
        again = call.answer(again, 401, *asked(challenge("d")), reason="unknown nonce")
        assert call.answer(again, 401, *asked(challenge("e")), reason="unknown nonce") is None
        with pytest.raises(RefusedError, match="refused 1 answers") as raised:
            refused(client)
        assert raised.value.reason == "unknown nonce"

    def test_a_401_of_the_application_is_no_refusal(self) -> None:
        """A 401 to an answer that brings no challenge of ours is somebody else's, and is not counted."""
        client = client_with(refusals_allowed=1)
        for number in range(4):
            call = Call(client)
            first = call.start("GET", f"{ORIGIN}/{number}")
            again = call.answer(first, 401, *asked(challenge(f"c{number}")))
            assert call.answer(again, 401) is None
            assert call.pauses == []


class TestRefused:
    def test_after_the_last_refusal_no_work_is_done(self) -> None:
        """The challenge is not answered; its nonces are remembered, and its nonce is not spent."""
        client = client_with(refusals_allowed=3)
        for number in range(3):
            refused(client, number)
        client.story.clear()
        call = Call(client)
        first = call.start("GET", f"{ORIGIN}/a")
        with pytest.raises(RefusedError, match="for 60 s") as raised:
            call.answer(first, 401, *asked(challenge("c"), next_nonce("n")))
        assert client.story == ["digest", "take read", "remember"]
        assert client.cache.spend(ORIGIN, "c")
        error = raised.value
        assert (error.origin, error.refusals, error.reason, error.seconds) == (
            str(ORIGIN),
            3,
            "unknown identity",
            60.0,
        )

    def test_after_a_minute_one_more_answer_is_sent(self) -> None:
        """The rest over, one refusal begins the next."""
        client = client_with(refusals_allowed=1)
        refused(client)
        client.clock.now += 59.9
        with pytest.raises(RefusedError):
            refused(client)
        client.clock.now += 0.2
        assert refused(client).pauses == []
        with pytest.raises(RefusedError):
            refused(client)

    def test_none_switches_it_off(self) -> None:
        """Without a limit no answer waits, and none is withheld."""
        client = client_with(refusals_allowed=None)
        assert [refused(client, number).pauses for number in range(20)] == [[]] * 20


class TestBudget:
    def test_the_work_of_all_targets_is_counted(self) -> None:
        """Work goes on while there is time, over redirects and second answers; then the call fails."""
        client = client_with(per_work=4.0, work_timeout=10.0)
        call = Call(client)
        signed = call.answer(call.start("GET", f"{ORIGIN}/a"), 401, *asked(challenge("c1")))
        for number in (2, 3):  # 4 seconds were spent, and 8
            call.redirect(signed)
            target = Request("GET", f"{ORIGIN}/{number}")
            signed = call.answer(target, 401, *asked(challenge(f"c{number}")))
            assert signed.nonce == f"c{number}"
        with pytest.raises(
            WorkTimeoutError, match=r"spent the 10 s .*redirects and refused answers"
        ) as raised:
            call.answer(Request("GET", f"{ORIGIN}/4"), 401, *asked(challenge("c4")))
        assert raised.value.seconds == 10.0
        assert client.story.count("sign") == 3

    def test_both_answers_of_a_target_are_counted(self) -> None:
        """The second answer has what the first has left."""
        client = client_with(per_work=5.0, work_timeout=5.0)
        call = Call(client)
        again = call.answer(call.start("GET", f"{ORIGIN}/a"), 401, *asked(challenge("c")))
        with pytest.raises(WorkTimeoutError):
            call.answer(again, 401, *asked(challenge("d")), reason="unknown nonce")

    def test_a_chained_request_is_counted(self) -> None:
        """The work under a next nonce is drawn from the budget like any other."""
        client = client_with(per_work=5.0, work_timeout=5.0)
        client.cache.remember(ORIGIN, [next_nonce("n")])
        call = Call(client)
        first = call.start("GET", f"{ORIGIN}/a")
        assert first.nonce == "n"
        with pytest.raises(WorkTimeoutError):
            call.answer(first, 401, *asked(challenge("c")))

    def test_each_call_has_its_own(self) -> None:
        """What one call has spent, the next has again."""
        client = client_with(per_work=5.0, work_timeout=5.0)
        for number in range(3):
            challenged(client, f"c{number}")

    def test_pauses_are_counted(self) -> None:
        """A wait before an answer takes from the time for its work."""
        client = client_with(per_work=1.0, work_timeout=3.0)
        for number in range(4):
            refused(client, number)
        call = challenged(client)  # 2 seconds of waiting, and one of work
        assert call.pauses == [2.0]
        target = Request("GET", f"{ORIGIN}/b")
        with pytest.raises(WorkTimeoutError, match="spent the 3 s"):
            call.answer(target, 401, *asked(challenge("d")))

    def test_a_pause_without_time_for_it_is_not_begun(self) -> None:
        """Where the wait is longer than what is left, the call fails at once."""
        client = client_with(work_timeout=3.0)
        for number in range(5):
            refused(client, number)
        call = Call(client)
        first = call.start("GET", f"{ORIGIN}/a")
        with pytest.raises(RefusedError) as raised:
            call.answer(first, 401, *asked(challenge("c")))
        assert (raised.value.seconds, call.pauses) == (4.0, [])

    def test_priming_is_counted(self) -> None:
        """The work of a priming request is the call's; the upload goes out unsigned where none is left."""
        client = client_with(per_work=5.0, work_timeout=5.0, prime_above_kib=1)
        call = Call(client, primes=True)
        head = call.start("PUT", f"{ORIGIN}/up", body=bytes(2000))
        again = call.answer(head, 401, *asked(challenge("c")))
        get = call.answer(again, 404)
        upload = call.answer(get, 404)
        assert [again.nonce, get.method, upload.method] == ["c", "GET", "PUT"]
        with pytest.raises(WorkTimeoutError):
            call.answer(upload, 401, *asked(challenge("d")))

    def test_without_a_limit_all_is_allowed(self) -> None:
        """By default work may take any time."""
        client = client_with(per_work=1e6)
        call = challenged(client)
        assert call.answer(Request("GET", f"{ORIGIN}/b"), 401, *asked(challenge("d"))).nonce == "d"
