"""What each kind of step does: here, in a thread, one way or the other, after a pause."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tuned_digest import ArgumentError, SearchCost, Tuning, Work
from tuned_digest._runtime.steps import Either, Here, InThread, Limited, Pause, Step, Steps
from tuned_digest.server.checks import Checked

from .driving import Client, Server, quick_policy, send
from .working import ASYNC_DRIVERS, BACKENDS, DRIVERS, HASH, Run, blocking, in_one_piece

SMALL: list[Work] = [Tuning("argon2d", 512, 1, 1), Tuning("argon2d", 256, 2, 1), SearchCost(6)]
LARGE: list[Work] = [Tuning("argon2d", 513, 1, 1), Tuning("argon2d", 16, 1, 2), SearchCost(7)]

UNDER_EACH_LOOP = pytest.mark.parametrize("run", ASYNC_DRIVERS)


def one(step: Step) -> Steps[Any]:
    """Take one step and give its answer."""
    return (yield step)


async def answer() -> int:
    """Answer after a turn of the event loop."""
    await anyio.lowlevel.checkpoint()
    return 7


def refuse() -> object:
    """Fail a test that calls this."""
    return pytest.fail("the other one is meant")


async def arefuse() -> object:
    """Fail a test that awaits this."""
    return pytest.fail("the other one is meant")


@pytest.mark.parametrize("run", DRIVERS)
def test_what_is_done_here_is_done_in_the_callers_thread(run: Run) -> None:
    """A call that takes no time needs no other thread, blocking or not."""
    assert run(one(Here(threading.get_ident))) == threading.get_ident()


@pytest.mark.parametrize("kind", [Here, InThread])
def test_a_blocking_caller_is_blocked(kind: Callable[[Callable[[], object]], Step]) -> None:
    """A blocking client calls what may be slow in its own thread."""
    assert blocking(one(kind(threading.get_ident))) == threading.get_ident()


@UNDER_EACH_LOOP
def test_what_may_be_slow_leaves_the_loop_free(run: Run) -> None:
    """Under anyio what may be slow runs in another thread."""
    assert run(one(InThread(threading.get_ident))) != threading.get_ident()


@pytest.mark.parametrize("kind", [Here, InThread])
@UNDER_EACH_LOOP
def test_awaitable_answers_are_awaited(run: Run, kind: Callable[[Callable[[], object]], Step]) -> None:
    """An async signer, cache or store answers by being awaited, on the loop."""
    assert run(one(kind(answer))) == 7


@pytest.mark.parametrize("kind", [Here, InThread])
def test_a_blocking_caller_refuses_awaitable_answers(kind: Callable[[Callable[[], object]], Step]) -> None:
    """A blocking client says that an async signer, cache or store needs an async one."""
    with pytest.raises(ArgumentError, match="needs an async client"):
        blocking(one(kind(answer)))


@pytest.mark.parametrize("kind", [Here, InThread])
def test_a_blocking_caller_refuses_awaitables_of_any_kind(
    kind: Callable[[Callable[[], object]], Step],
) -> None:
    """A future is refused as a coroutine is."""
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(ArgumentError, match="needs an async client"):
            blocking(one(kind(loop.create_future)))
    finally:
        loop.close()


def test_of_two_functions_a_blocking_caller_calls_the_first() -> None:
    """What has a blocking and an async way is called where it may block."""
    assert blocking(one(Either(threading.get_ident, arefuse))) == threading.get_ident()


@UNDER_EACH_LOOP
def test_of_two_functions_an_event_loop_awaits_the_second(run: Run) -> None:
    """What has a blocking and an async way is awaited where it may not block."""
    assert run(one(Either(refuse, answer))) == 7


class Slept:
    """Stand in for a wait, and note what was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def blocking(self, seconds: float) -> None:
        """Wait no time."""
        self.seconds.append(seconds)

    async def awaited(self, seconds: float) -> None:
        """Wait no time."""
        self.seconds.append(seconds)


def test_a_pause_blocks_a_blocking_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking client waits in its own thread, for as long as the step says."""
    slept = Slept()
    monkeypatch.setattr(time, "sleep", slept.blocking)
    assert blocking(one(Pause(8.0))) is None
    assert slept.seconds == [8.0]


@UNDER_EACH_LOOP
def test_a_pause_leaves_the_loop_free(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An async client waits in its task, for as long as the step says, and its thread goes on."""
    slept = Slept()
    monkeypatch.setattr(anyio, "sleep", slept.awaited)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("the loop is held up"))
    assert run(one(Pause(8.0))) is None
    assert slept.seconds == [8.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pause_ends_when_its_task_is_cancelled(backend: str) -> None:
    """A pause of hours holds up no task that is cancelled."""

    async def main() -> bool:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(Pause(3600.0).awaited)
                await anyio.lowlevel.checkpoint()
                scope.cancel()
        return scope.cancelled_caught

    assert anyio.run(main, backend=backend)


@pytest.mark.parametrize("run", DRIVERS)
def test_limited_work_has_a_thread_of_its_own(run: Run) -> None:
    """Work that may be slow runs in a thread of the process-wide limiter's."""
    step = Limited(in_one_piece(lambda: threading.current_thread().name), HASH, share="a test")
    assert run(one(step)) == "tuned-digest-work"


def steps_for(work: Work) -> tuple[list[type[Step]], list[type[Step]]]:
    """Send a request under this work; name the steps that its client and its server took."""
    price = {"access_cost": work.bits} if isinstance(work, SearchCost) else {"access": work}
    server = Server(policy=quick_policy(**price))
    client = Client(options={"schemes": [work.scheme]})
    client.options |= {"nonces": client.cache, "signer": client.signer}
    assert send(client, server, "GET", "/")[0] == [401, 200]
    return [type(step) for step in client.steps], [type(step) for step in server.steps]


@pytest.mark.parametrize("work", SMALL, ids=str)
def test_small_work_is_done_where_it_is_asked_for(work: Work) -> None:
    """Work that takes less than a few hops to a thread needs none, on either side."""
    of_client, of_server = steps_for(work)
    assert Limited not in of_client
    assert Checked not in of_server


@pytest.mark.parametrize("work", LARGE, ids=str)
def test_large_work_is_done_under_the_limiter(work: Work) -> None:
    """Work that may be slow waits for its turn; on a server the check of a search is never slow."""
    of_client, of_server = steps_for(work)
    assert of_client.count(Limited) == 1
    assert of_server.count(Checked) == (1 if isinstance(work, Tuning) else 0)
