"""Limits on work: its memory, its time in one request and in a whole call, and what a cache may carry."""

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import anyio
import pytest

from tuned_digest import (
    Ed25519Signer,
    LimitExceededError,
    Limits,
    MemoryNonceCache,
    Resources,
    SearchCost,
    WorkTimeoutError,
    events,
)
from tuned_digest._runtime import steps
from tuned_digest._runtime.limiter import Allowance, Load, WorkLimiter
from tuned_digest.server.asgi import Scope

from .clients import ASYNC, CLIENTS, PRIMING, Connect
from .clock import Clock
from .field_server import challenge, decided, next_nonce, scripted, search_challenge, sent_nonce, verified
from .serving import QUICK, Served, serve

T = TypeVar("T")

WAITS = "$argon2d$v=19$m=64,t=1,p=8"
"""A tuning that is done in its turn and not at once, as all are of more than one lane."""


class Watched(WorkLimiter):
    """A limiter that keeps the futures of what it is given."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self.futures: list[Future[Any]] = []

    def submit(
        self,
        pieces: Generator[None, None, T],
        load: Load,
        share: Any = None,
        allowance: Allowance = Allowance(),
    ) -> Future[T]:
        """Queue work, and keep its future."""
        future = super().submit(pieces, load, share, allowance)
        self.futures.append(future)
        return future


@pytest.fixture
def occupied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """A process whose one place for work is taken."""
    limiter, released = Watched(1), threading.Event()
    monkeypatch.setattr(steps, "process_limiter", lambda: limiter)

    def held() -> Generator[None, None, bool]:
        yield from ()
        return released.wait(60)

    running = limiter.submit(held(), QUICK)
    limiter.futures.clear()
    yield limiter
    released.set()
    assert running.result(60)


class TestMemory:
    def test_work_beyond_the_processs_memory_is_refused(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A tuning that alone takes more than `Resources` allow is an error that says how to allow it."""
        with (
            serve(scripted((401, [challenge("AAAA")], b""))) as served,
            connect(served.url, signer, resources=Resources(memory_kib=63)) as client,
        ):
            with pytest.raises(LimitExceededError, match=r"resources=Resources\(memory_kib=64\)") as raised:
                client.send("GET", served.url)
            assert isinstance(raised.value, client.library_error)
        assert (raised.value.limit, raised.value.asked, raised.value.allowed) == ("memory_kib", 64, 63)
        assert len(served.requests) == 1

    def test_a_next_nonce_beyond_the_processs_memory_is_dropped(
        self, connect: Connect, signer: Ed25519Signer
    ) -> None:
        """A next nonce that could not be answered is reported, and not used."""
        dropped: list[events.Event] = []
        with (
            serve(scripted((200, [next_nonce("AAAA")], b""))) as served,
            connect(
                served.url, signer, resources=Resources(memory_kib=63), on_event=dropped.append
            ) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [200, 200]
        assert [seen.field("Authorization") for seen in served.requests] == [[], []]
        assert [type(event) for event in dropped] == [events.NextNonceDropped] * 2
        assert all("memory_kib=64" in str(event) for event in dropped)

    def test_a_shared_cache_does_not_carry_work_past_the_limits(
        self, connect: Connect, server: Served, signer: Ed25519Signer
    ) -> None:
        """A nonce that another auth object stored is left out where its work is beyond our limits."""
        cache, small = MemoryNonceCache(), Limits(max_memory_kib=8)
        with connect(server.url, signer, nonces=cache) as client:
            client.send("GET", server.url)
        with connect(server.url, signer, nonces=cache, schemes=[SearchCost.scheme], limits=small) as client:
            assert client.send("GET", server.url).status == 200
        with (
            connect(server.url, signer, nonces=cache, limits=small) as client,
            pytest.raises(LimitExceededError),
        ):
            client.send("GET", server.url)
        assert server.statuses == [401, 200, 200, 401]


class TestOneRequest:
    @pytest.mark.parametrize("kind", ["argon2", "search"])
    def test_work_that_takes_too_long_is_an_error_of_both_families(
        self, connect: Connect, signer: Ed25519Signer, occupied: Watched, kind: str
    ) -> None:
        """Where no place comes free in time the request says how to allow more, and leaves the queue."""
        asked = challenge("AAAA", WAITS) if kind == "argon2" else search_challenge("AAAA", 7)
        options = {"schemes": [SearchCost.scheme]} if kind == "search" else {}
        with (
            serve(scripted((401, [asked], b""))) as served,
            connect(served.url, signer, resources=Resources(work_timeout=0.01), **options) as client,
        ):
            with pytest.raises(WorkTimeoutError, match=r"0\.01 s .*work_timeout") as raised:
                client.send("GET", served.url)
            assert isinstance(raised.value, TimeoutError)
            assert isinstance(raised.value, client.library_error)
            assert raised.value.seconds == 0.01
        assert len(served.requests) == 1
        assert [future.cancelled() for future in occupied.futures] == [True]

    @pytest.mark.parametrize("name", ASYNC)
    def test_a_cancelled_request_leaves_the_queue(
        self, name: str, signer: Ed25519Signer, occupied: Watched
    ) -> None:
        """A task that is cancelled while its work waits for a place takes the work with it."""
        scopes: list[anyio.CancelScope] = []

        def cancel(event: events.Event) -> None:
            if isinstance(event, events.WorkStarted):
                scopes[0].cancel()

        with (
            serve(scripted((401, [challenge("AAAA", WAITS)], b""))) as served,
            CLIENTS[name](served.url, signer, on_event=cancel) as client,
        ):

            async def cancelled() -> bool:
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    await client.client.get(served.url)  # type: ignore[attr-defined]
                return scope.cancelled_caught

            assert client.portal.call(cancelled)  # type: ignore[attr-defined]
        assert [future.cancelled() for future in occupied.futures] == [True]


class TestWholeCalls:
    def test_a_chain_of_redirects_has_one_budget(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Work at each hop of an endless chain on one origin ends when it has taken the time of a call."""
        clock = Clock(per_work=4)
        with (
            serve(decided(_hop)) as served,
            connect(served.url, signer, resources=Resources(work_timeout=10), **clock.options) as client,
        ):
            with pytest.raises(WorkTimeoutError, match=r"spent the 10 s .*work_timeout") as raised:
                client.send("GET", f"{served.url}/0")
            assert isinstance(raised.value, TimeoutError)
            assert isinstance(raised.value, client.library_error)
            error: Any = raised.value
            assert (error.seconds, str(error.request.url)) == (10, f"{served.url}/3")
        assert served.story == [
            *["GET /0 401", "GET /0 302"],
            *["GET /1 401", "GET /1 302"],
            *["GET /2 401", "GET /2 302"],
            "GET /3 401",
        ]

    def test_a_second_answer_is_drawn_from_the_same(self, connect: Connect, signer: Ed25519Signer) -> None:
        """Where the first answer has taken all the time, a refusal that may pass is not answered again."""
        clock = Clock(per_work=10)
        stale = b'{"reason": "unknown nonce"}'
        asked = (401, [challenge("AAAA")], b""), (401, [challenge("BBBB")], stale)
        with (
            serve(scripted(*asked)) as served,
            connect(served.url, signer, resources=Resources(work_timeout=10), **clock.options) as client,
        ):
            with pytest.raises(WorkTimeoutError) as raised:
                client.send("GET", served.url)
            assert isinstance(raised.value, client.library_error)
        assert len(served.requests) == 2

    def test_later_work_waits_for_what_is_left(
        self, connect: Connect, signer: Ed25519Signer, occupied: Watched
    ) -> None:
        """The second piece of work of a call waits for a place no longer than the first has left it time."""
        clock = Clock(per_work=9.99)
        stale = b'{"reason": "unknown nonce"}'
        asked = (401, [challenge("AAAA")], b""), (401, [challenge("BBBB", WAITS)], stale)
        with (
            serve(scripted(*asked)) as served,
            connect(served.url, signer, resources=Resources(work_timeout=10), **clock.options) as client,
            pytest.raises(WorkTimeoutError, match=r"in the 0\.01 s that were left"),
        ):
            client.send("GET", served.url)
        assert [future.cancelled() for future in occupied.futures] == [True]

    def test_each_call_has_a_budget_of_its_own(self, connect: Connect, signer: Ed25519Signer) -> None:
        """What one call has spent is not missing in the next."""
        clock = Clock(per_work=10)
        with (
            serve(verified()) as served,
            connect(served.url, signer, resources=Resources(work_timeout=10), **clock.options) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(5)] == [200] * 5
        assert clock.now == 50

    def test_without_a_limit_a_chain_goes_on(self, connect: Connect, signer: Ed25519Signer) -> None:
        """By default a call may take as long as the library follows redirects."""
        clock = Clock(per_work=3600)
        with serve(decided(_hop)) as served, connect(served.url, signer, **clock.options) as client:
            assert client.send("GET", f"{served.url}/15").status == 200
        assert clock.works == 6

    @pytest.mark.parametrize("name", PRIMING)
    def test_priming_is_drawn_from_the_same(self, name: str, signer: Ed25519Signer) -> None:
        """Where priming has taken all the time of an upload, the upload is not signed."""
        clock = Clock(per_work=10)
        resources = Resources(work_timeout=10, prime_above_kib=1)
        with (
            serve(verified()) as served,
            CLIENTS[name](served.url, signer, resources=resources, **clock.options) as client,
            pytest.raises(WorkTimeoutError),
        ):
            client.send("PUT", f"{served.url}/large", body=b"x" * 2048)
        assert served.story == ["HEAD / 401", "HEAD / 200"]


def _hop(scope: Scope, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    """Ask for work at each hop, and redirect to the next; the twentieth is the last."""
    number = int(scope["path"][1:])
    if sent_nonce(scope) != f"hop{number}":
        return 401, [challenge(f"hop{number}")], b""
    return (200, [], b"") if number == 20 else (302, [("Location", f"/{number + 1}")], b"")
