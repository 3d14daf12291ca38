"""Prepared requests of requests: one flow for a call and its redirects, a new one for whatever is sent anew.

A request may be sent again by its owner, as a copy, by two threads, or by another thread than prepared it.
However it is sent, it costs one more round trip at most, and its challenge is answered.
"""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tuned_digest import Ed25519Signer, Resources, WorkTimeoutError
from tuned_digest.requests import TunedDigestAuth

from .clock import Clock
from .field_server import verified
from .ledger import Ledger
from .raw_server import Issuer, record
from .serving import Served, serve
from .together import at_once, elsewhere

REDIRECT = "/redirect?status=302&to=/target"

Again = Callable[[requests.Session, requests.PreparedRequest], list[int]]
"""Sends a request several times, and gives the statuses."""


@pytest.fixture
def server(ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`."""
    with ledger.watch(serve(verified())) as served:
        yield served


@pytest.fixture
def session(server: Served, signer: Ed25519Signer) -> Iterator[requests.Session]:
    """A session that signs for that server."""
    with requests.Session() as session:
        session.auth = TunedDigestAuth(server.url, signer)
        yield session


def prepared(session: requests.Session, url: str, **options: Any) -> requests.PreparedRequest:
    """Prepare a request, which signs it where a nonce is held."""
    return session.prepare_request(requests.Request("GET", url, **options))


class TestOneFlow:
    def test_a_redirect_back_to_a_target_goes_on_with_its_exchange(
        self, session: requests.Session, ledger: Ledger, signer: Ed25519Signer
    ) -> None:
        """A target that a chain of redirects comes back to counts all its round trips."""
        issuer, targets = Issuer(), iter(["/other", "/first"])

        def respond(wire: Any, recorded: Any) -> None:
            if not issuer.takes(recorded):
                wire.answer(401, [issuer.challenge()])
            elif (target := next(targets, None)) is not None:
                wire.answer(302, [("Location", target)])
            else:
                wire.answer(200)

        with ledger.watch(record(respond)) as server:
            auth = TunedDigestAuth(server.url, signer)
            response: Any = session.get(f"{server.url}/first", auth=auth)
        assert server.statuses == [401, 302, 401, 302, 401, 200]
        assert response.tuned_digest.round_trips == 4

    def test_redirects_draw_on_one_budget(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """The time that the work of a call may take holds for all its hops together."""
        path = f"/redirect?status=302&to={REDIRECT.replace('?', '%3F').replace('&', '%26')}"
        auth = TunedDigestAuth(
            server.url, signer, resources=Resources(work_timeout=1.5), **Clock(per_work=1).options
        )
        with pytest.raises(WorkTimeoutError, match="redirects"):
            session.get(server.url + path, auth=auth)
        assert server.statuses == [401, 302, 401, 302, 401]
        assert session.get(f"{server.url}/target", auth=auth).status_code == 200  # a call has its own

    def test_a_call_in_the_same_thread_has_a_flow_of_its_own(
        self, server: Served, session: requests.Session, signer: Ed25519Signer
    ) -> None:
        """What a call has spent is not counted against the next, also where its request is a copy."""
        auth = TunedDigestAuth(
            server.url, signer, resources=Resources(work_timeout=0.5), **Clock(per_work=1).options
        )
        request = prepared(session, server.url, auth=auth)
        assert [session.send(request.copy()).status_code for _ in range(3)] == [200] * 3


def by_its_owner(session: requests.Session, request: requests.PreparedRequest) -> list[int]:
    """Send a request three times."""
    return [session.send(request).status_code for _ in range(3)]


def as_copies(session: requests.Session, request: requests.PreparedRequest) -> list[int]:
    """Send three copies of a request."""
    return [session.send(request.copy()).status_code for _ in range(3)]


def itself_and_copies(session: requests.Session, request: requests.PreparedRequest) -> list[int]:
    """Send a request and a copy of it in turns."""
    makes = [lambda: request, request.copy] * 2
    return [session.send(make()).status_code for make in makes]


def of_the_response(session: requests.Session, request: requests.PreparedRequest) -> list[int]:
    """Send a request, and three times the request of its response, without the nonce that is spent."""
    response = session.send(request)
    statuses = [response.status_code]
    for _ in range(3):
        shown = response.request.copy()
        del shown.headers["Authorization"]
        statuses.append(session.send(shown).status_code)
    return statuses


def elsewhere_and_here(session: requests.Session, request: requests.PreparedRequest) -> list[int]:
    """Send a request, and then copies of it, from another thread and from this one."""
    return [
        elsewhere(lambda: session.send(request).status_code),
        session.send(request).status_code,
        elsewhere(lambda: session.send(request.copy()).status_code),
        session.send(request.copy()).status_code,
    ]


WAYS = [by_its_owner, as_copies, itself_and_copies, elsewhere_and_here]


@pytest.fixture(params=[False, True], ids=["fresh", "chained"])
def is_chained(request: pytest.FixtureRequest, server: Served, session: requests.Session) -> bool:
    """Whether a nonce is held when the request is prepared."""
    if request.param:
        session.get(f"{server.url}/before")
    return bool(request.param)


class TestSentAgain:
    @pytest.mark.parametrize("again", [*WAYS, of_the_response], ids=lambda way: way.__name__)
    def test_it_costs_one_more_round_trip(
        self, server: Served, session: requests.Session, again: Again, is_chained: bool
    ) -> None:
        """Each send after the first is challenged once and answered, whichever way it is sent."""
        request, before = prepared(session, f"{server.url}/target"), len(server.requests)
        statuses = again(session, request)
        assert statuses == [200] * len(statuses)
        assert server.statuses[before:] == ([401, 200] * len(statuses))[is_chained:]

    @pytest.mark.parametrize("again", WAYS, ids=lambda way: way.__name__)
    def test_it_is_redirected_each_time(
        self, server: Served, session: requests.Session, again: Again, is_chained: bool
    ) -> None:
        """A redirect is followed anew each time, each hop challenged once and answered."""
        request, before = prepared(session, server.url + REDIRECT), len(server.requests)
        statuses = again(session, request)
        assert statuses == [200] * len(statuses)
        assert server.statuses[before:] == ([401, 302, 401, 200] * len(statuses))[is_chained:]

    def test_a_redirect_that_is_not_followed_is_no_call_that_goes_on(
        self, server: Served, session: requests.Session, is_chained: bool
    ) -> None:
        """Copies of a request that is redirected elsewhere are challenged and answered, each by itself."""
        request, before = prepared(session, server.url + REDIRECT), len(server.requests)
        responses = [session.send(request.copy(), allow_redirects=False) for _ in range(4)]
        assert [response.status_code for response in responses] == [302] * 4
        assert server.statuses[before:] == ([401, 302] * 4)[is_chained:]

    def test_no_nonce_stays_on_a_request_that_was_sent(
        self, server: Served, session: requests.Session
    ) -> None:
        """A prepared request keeps no field of ours for its next send; the response's own copy shows it."""
        session.get(server.url)
        request = prepared(session, server.url)
        assert "Authorization" in request.headers
        responses = [session.send(request) for _ in range(2)]
        assert "Authorization" not in request.headers
        sent = [response.request.headers["Authorization"] for response in responses]
        assert sent[0] != sent[1]


class TestNext:
    def test_the_next_request_of_a_redirect_can_be_sent_by_hand(
        self, server: Served, session: requests.Session
    ) -> None:
        """`response.next` carries no spent nonce, and is answered each time it is sent."""
        session.get(server.url)
        response = session.get(server.url + REDIRECT, allow_redirects=False)
        assert response.next is not None
        assert "Authorization" not in response.next.headers
        assert [session.send(response.next).status_code for _ in range(3)] == [200] * 3
        assert server.statuses == [401, 200, 302, *[401, 200] * 3]

    @pytest.mark.parametrize("body", ["bytes", "generator"])
    def test_the_next_request_of_a_redirect_has_its_body(
        self, server: Served, session: requests.Session, body: str
    ) -> None:
        """`response.next` of a 307 sends the body again, whole, with a nonce of its own."""
        data: Any = b"whole" if body == "bytes" else iter([b"who", b"le"])
        url = f"{server.url}/redirect?status=307&to=/target"
        response = session.patch(url, data=data, allow_redirects=False)
        assert response.next is not None
        assert session.send(response.next).json()["size"] == 5
        assert server.statuses == [401, 307, 401, 200]


class TestThreads:
    @pytest.mark.parametrize("path", ["/target", REDIRECT])
    def test_two_threads_send_one_request(self, server: Served, session: requests.Session, path: str) -> None:
        """A request that two threads send at once, unsigned, is two calls, each with nonces of its own."""
        request = prepared(session, server.url + path)
        assert at_once(*[lambda: session.send(request).status_code] * 2) == [200, 200]
        once = [401, 200] if path == "/target" else [401, 302, 401, 200]
        assert sorted(server.statuses) == sorted(once * 2)

    def test_two_threads_send_a_request_that_has_a_nonce(self, signer: Ed25519Signer) -> None:
        """One is accepted with the nonce that the request was prepared with, the other is answered."""
        with serve(verified()) as server, requests.Session() as session:  # both may send it: nobody can tell
            session.auth = TunedDigestAuth(server.url, signer)
            session.get(server.url)
            request = prepared(session, server.url)
            assert at_once(*[lambda: session.send(request).status_code] * 2) == [200, 200]
        assert sorted(server.statuses[2:]) == [200, 200, 401]

    def test_a_field_is_not_taken_off_under_the_eyes_of_another_thread(
        self, server: Served, session: requests.Session
    ) -> None:
        """A response in one thread leaves alone the fields that another thread is writing to its socket."""
        session.get(server.url)
        request = prepared(session, server.url)
        fields = iter(request.headers.items())
        next(fields)
        assert elsewhere(lambda: session.send(request).status_code) == 200
        assert "Authorization" in dict(fields)
        assert "Authorization" not in request.headers


class TestPickles:
    def test_a_response_pickles(self, server: Served, session: requests.Session) -> None:
        """A response with its history and request pickles, and what comes back signs nothing."""
        restored = pickle.loads(pickle.dumps(session.get(server.url)))
        assert (restored.status_code, [earlier.status_code for earlier in restored.history]) == (200, [401])
        before = len(server.requests)
        del restored.request.headers["Authorization"]
        with requests.Session() as plain:
            assert plain.send(restored.request).status_code == 401
        assert len(server.requests) == before + 1

    def test_a_redirected_response_pickles_with_its_requests(
        self, server: Served, session: requests.Session
    ) -> None:
        """After a redirect each response of the history pickles with the request that it answered."""
        response = session.get(server.url + REDIRECT)
        restored = pickle.loads(pickle.dumps(response))
        steps = [*restored.history, restored]
        urls = [server.url + REDIRECT, f"{server.url}/target"]
        assert [(step.status_code, step.request.url) for step in steps] == list(
            zip([302, 200], urls, strict=True)
        )
        assert all("Authorization" in step.request.headers for step in steps)

    def test_a_prepared_request_pickles(self, server: Served, session: requests.Session) -> None:
        """A request that was not sent yet pickles as it is, with its field; what comes back signs nothing."""
        session.get(server.url)
        request = prepared(session, server.url)
        restored = pickle.loads(pickle.dumps(request))
        assert restored.headers == request.headers
        with requests.Session() as plain:
            assert plain.send(restored).status_code == 200
            del restored.headers["Authorization"]
            assert plain.send(restored).status_code == 401


def test_header_fields_in_a_mapping_of_the_callers_own(server: Served, signer: Ed25519Signer) -> None:
    """A prepared request whose fields are in a plain dict is answered, and keeps no field of ours."""
    with requests.Session() as session:
        session.auth = TunedDigestAuth(server.url, signer)
        session.get(server.url)
        prepared = session.prepare_request(requests.Request("GET", server.url))
        prepared.headers = dict(prepared.headers)  # type: ignore[assignment]
        assert "Authorization" in prepared.headers
        assert session.send(prepared).status_code == 200
        assert "Authorization" not in prepared.headers
    assert server.statuses == [401, 200, 200]
