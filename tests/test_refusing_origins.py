"""An origin that keeps refusing answers: it is slowed down, and in the end left alone for a while."""

import json
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from tuned_digest import Ed25519Signer, RefusedError, Resources, WorkTimeoutError
from tuned_digest.server.asgi import Scope

from .clients import Client, Connect
from .clock import Clock
from .field_server import challenge, decided, next_nonce, sent_nonce, verified
from .serving import Served, serve

# A pause is at least a second: a call that may take less fails at once, and says how long it would wait.
IMPATIENT = Resources(work_timeout=0.5)


class Moody:
    """An origin that challenges, and answers signed requests with whatever status it is told."""

    def __init__(self) -> None:
        self.status = 401
        self.reason = "unknown identity"
        self._challenges = 0

    def __call__(self, scope: Scope, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Answer a request; ``/open`` needs no signature."""
        if scope["path"] == "/open":
            return 200, [], b""
        self._challenges += 1
        status = self.status if sent_nonce(scope) else 401
        reason = self.reason if sent_nonce(scope) else "authorization required"
        return status, [challenge(f"nonce{self._challenges}")], json.dumps({"reason": reason}).encode()


@pytest.fixture
def clock() -> Clock:
    """The auth object's clock."""
    return Clock()


@pytest.fixture
def origin() -> Moody:
    """What the server answers."""
    return Moody()


Meet = Callable[[Resources], AbstractContextManager[tuple[Client, Served]]]


@pytest.fixture
def meet(connect: Connect, signer: Ed25519Signer, clock: Clock, origin: Moody) -> Meet:
    """Bring a client of some resources together with that origin."""

    @contextmanager
    def meeting(resources: Resources) -> Iterator[tuple[Client, Served]]:
        with (
            serve(decided(origin)) as served,
            connect(served.url, signer, resources=resources, **clock.options) as client,
        ):
            yield client, served

    return meeting


def refused(client: Client, served: Served, times: int = 1) -> None:
    """Send requests whose answers are refused."""
    for _ in range(times):
        assert client.send("GET", f"{served.url}/x").status == 401


def stopped(client: Client, served: Served) -> Any:
    """Send a request whose challenge is not answered any more, and give the error."""
    with pytest.raises(RefusedError) as raised:
        client.send("GET", f"{served.url}/x")
    assert isinstance(raised.value, client.library_error)
    return raised.value


class TestRefusedError:
    def test_no_more_work_is_done_after_the_refusals_allowed(self, meet: Meet, clock: Clock) -> None:
        """Four refusals are 401s; a fifth call is challenged, does no work, and is an error."""
        with meet(Resources(refusals_allowed=4)) as (client, served):
            refused(client, served, 3)
            clock.now += 1  # the pause that follows the third
            refused(client, served)
            assert (clock.works, len(served.requests)) == (4, 8)
            stopped(client, served)
            stopped(client, served)
        assert (clock.works, len(served.requests)) == (4, 10)
        assert [seen.field("Authorization") for seen in served.requests[-2:]] == [[], []]

    def test_the_error_has_its_evidence(self, meet: Meet, clock: Clock) -> None:
        """The error holds origin, refusals, reason, seconds and request, says what to do, and pickles."""
        with meet(Resources(refusals_allowed=2)) as (client, served):
            refused(client, served, 2)
            clock.now += 20
            error = stopped(client, served)
        evidence = (served.url, 2, "unknown identity", 40)
        assert (error.origin, error.refusals, error.reason, error.seconds) == evidence
        assert (str(error.request.url), error.response.status_code) == (f"{served.url}/x", 401)
        assert f"{served.url} refused 2 answers in a row" in str(error)
        assert "the last reason was 'unknown identity'" in str(error)
        assert "It gets no further answer for 40 s" in str(error)
        assert "Resources(refusals_allowed=...)" in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert (again.origin, again.refusals, again.reason, again.seconds) == evidence

    def test_after_the_rest_one_more_try_is_allowed(self, meet: Meet, clock: Clock) -> None:
        """Once a minute has passed one answer is sent; where it is refused too, the next rest begins."""
        with meet(Resources(refusals_allowed=1)) as (client, served):
            refused(client, served)
            clock.now += 59
            assert stopped(client, served).seconds == 1
            clock.now += 1
            refused(client, served)
            error = stopped(client, served)
        assert (error.refusals, error.seconds, clock.works) == (2, 60, 2)

    def test_a_try_after_the_rest_may_be_accepted(self, meet: Meet, clock: Clock, origin: Moody) -> None:
        """Where the try after the rest is accepted, everything is as it was in the beginning."""
        with meet(Resources(refusals_allowed=2)) as (client, served):
            refused(client, served, 2)
            stopped(client, served)
            clock.now += 60
            origin.status = 200
            assert client.send("GET", f"{served.url}/x").status == 200
            origin.status = 401
            refused(client, served, 2)
            assert stopped(client, served).refusals == 2

    def test_none_switches_it_off(self, meet: Meet, clock: Clock) -> None:
        """Without a limit every challenge is answered, and none waits."""
        with meet(Resources(refusals_allowed=None, work_timeout=0.5)) as (client, served):
            refused(client, served, 15)
        assert clock.works == 15


class TestPauses:
    def test_pauses_grow_to_eight_seconds(self, meet: Meet, clock: Clock) -> None:
        """After three free refusals each answer waits twice as long as the one before, 8 s at most."""
        pauses: list[float] = []
        with meet(IMPATIENT) as (client, served):
            refused(client, served, 3)
            for _ in range(6):
                pauses.append(stopped(client, served).seconds)
                clock.now += pauses[-1]
                refused(client, served)
        assert pauses == [1, 2, 4, 8, 8, 8]
        assert clock.works == 9

    def test_an_answer_waits_for_what_is_left_of_its_pause(
        self, meet: Meet, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A pause that has nearly passed is waited for, with one warning for the origin."""
        caplog.set_level(logging.WARNING, "tuned_digest")
        with meet(IMPATIENT) as (client, served):
            refused(client, served, 3)
            for seconds in (1, 2):
                clock.now += seconds - 1 / 1024
                refused(client, served)
        assert [record.message for record in caplog.records if "rejected" not in record.message] == [
            f"{served.url}: answers are slowed down: this origin keeps refusing them"
        ]

    def test_a_pause_counts_as_work(self, meet: Meet, clock: Clock) -> None:
        """A call that a pause has taken all its time does no work after it."""
        with meet(Resources(work_timeout=1 / 1024)) as (client, served):
            refused(client, served, 3)
            clock.now += 1 - 1 / 1024
            with pytest.raises(WorkTimeoutError):
                client.send("GET", f"{served.url}/x")
        assert len(served.requests) == 7

    def test_a_pause_is_no_longer_than_what_work_has_left(
        self, meet: Meet, clock: Clock, origin: Moody
    ) -> None:
        """A call fails where an answer would have to wait for longer than its work may take."""
        with meet(Resources(work_timeout=0.9)) as (client, served):
            refused(client, served, 3)
            error = stopped(client, served)
        assert (error.refusals, error.seconds, clock.works) == (3, 1, 3)
        assert "Resources(work_timeout=...)" in str(error)


class TestWhatIsCounted:
    def test_an_accepted_answer_ends_the_row(self, meet: Meet, origin: Moody) -> None:
        """Refusals are counted in a row: after one accepted answer three more are free."""
        with meet(IMPATIENT) as (client, served):
            refused(client, served, 2)
            origin.status = 200
            assert client.send("GET", f"{served.url}/x").status == 200
            origin.status = 401
            refused(client, served, 3)
            error = stopped(client, served)
        assert (error.refusals, error.seconds) == (3, 1)

    def test_what_needed_no_answer_does_not_end_the_row(self, meet: Meet) -> None:
        """A page that the origin shows to all says nothing about answers."""
        with meet(Resources(refusals_allowed=2)) as (client, served):
            for _ in range(2):
                refused(client, served)
                assert client.send("GET", f"{served.url}/open").status == 200
            assert stopped(client, served).refusals == 2

    def test_a_call_that_is_answered_twice_counts_once(self, meet: Meet, clock: Clock, origin: Moody) -> None:
        """The first answer was lost to a reason that may pass; the second is refused."""
        origin.reason = "unknown nonce"
        with meet(Resources(refusals_allowed=1)) as (client, served):
            refused(client, served)
            error = stopped(client, served)
        assert (error.refusals, error.reason, clock.works) == (1, "unknown nonce", 2)

    def test_a_stale_next_nonce_is_not_counted(
        self, connect: Connect, signer: Ed25519Signer, clock: Clock
    ) -> None:
        """A 401 to a chained nonce, which the server may have forgotten, does not stop the next answer."""
        script: Iterator[tuple[int, list[tuple[str, str]], bytes]] = iter(
            [
                (200, [next_nonce("AAAA")], b""),
                (401, [next_nonce("BBBB")], b""),
                (401, [challenge("CCCC")], b""),
                (200, [], b""),
            ]
        )
        with (
            serve(decided(lambda scope, body: next(script))) as served,
            connect(served.url, signer, resources=Resources(refusals_allowed=1), **clock.options) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(3)] == [200, 401, 200]
        assert clock.works == 3

    def test_each_origin_has_its_own_row(
        self, connect: Connect, signer: Ed25519Signer, clock: Clock, origin: Moody
    ) -> None:
        """What one origin refuses keeps no other waiting."""
        resources = Resources(refusals_allowed=1)
        with (
            serve(decided(origin)) as served,
            serve(verified()) as other,
            connect([served.url, other.url], signer, resources=resources, **clock.options) as client,
        ):
            refused(client, served)
            assert client.send("GET", other.url).status == 200
            stopped(client, served)

    def test_views_share_the_row(self, meet: Meet) -> None:
        """What was refused under one view of an auth object counts under all."""
        with meet(Resources(refusals_allowed=1)) as (client, served):
            refused(client, served)
            with pytest.raises(RefusedError):
                client.send("POST", f"{served.url}/x", auth=client.auth.for_action("create"))
