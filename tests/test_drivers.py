"""The two drivers: the same steps, blocking and under anyio; and the turns in which a burst begins."""

import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tuned_digest._runtime.drivers import run_anyio, run_blocking, take_turn
from tuned_digest._runtime.steps import Either, Here, InThread, Limited, Pause, Step, Steps

from .driving import Client, Server, send
from .working import BACKENDS, DRIVERS, HASH, Run, in_one_piece


async def answer() -> int:
    """Answer after a turn of the event loop."""
    await anyio.lowlevel.checkpoint()
    return 7


def limited(call: Callable[[], object]) -> Limited:
    """Make a step of work in one piece."""
    return Limited(in_one_piece(call), HASH, share="a test")


def either(call: Callable[[], object]) -> Either:
    """Make a step that does the same in both worlds."""

    async def acall() -> object:
        return call()

    return Either(call, acall)


KINDS: list[Callable[[Callable[[], object]], Step]] = [Here, InThread, either, limited]
EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=["here", "in thread", "either", "limited"])
UNDER_EACH = pytest.mark.parametrize("run", DRIVERS)


def each(*steps: Step) -> Steps[list[Any]]:
    """Take steps one after another, and note what comes of each."""
    outcomes = []
    for step in steps:
        try:
            outcomes.append((yield step))
        except LookupError as error:
            outcomes.append(error)
    return outcomes


@UNDER_EACH
def test_each_step_is_answered(run: Run) -> None:
    """The answer to a step comes back into the generator, and its return value out of the driver."""
    steps = [kind(lambda number=number: number) for number, kind in enumerate(KINDS)]  # type: ignore[misc]
    assert run(each(*steps, Pause(0))) == [0, 1, 2, 3, None]


@UNDER_EACH
def test_a_generator_without_steps_is_run(run: Run) -> None:
    """A generator that asks for nothing returns at once."""
    assert run(each()) == []


@EACH_KIND
@UNDER_EACH
def test_an_error_of_a_step_is_raised_where_it_was_yielded(
    run: Run, kind: Callable[[Callable[[], object]], Step]
) -> None:
    """The generator can answer an error with something else, and goes on."""
    error = LookupError("lost")

    def fail() -> object:
        raise error

    assert run(each(kind(fail), Here(lambda: 2))) == [error, 2]


@EACH_KIND
@UNDER_EACH
def test_an_error_the_generator_does_not_answer_comes_out(
    run: Run, kind: Callable[[Callable[[], object]], Step]
) -> None:
    """What a step raises and the generator lets pass reaches the driver's caller unchanged."""
    error = ZeroDivisionError("its own")

    def fail() -> object:
        raise error

    with pytest.raises(ZeroDivisionError) as raised:
        run(each(kind(fail)))
    assert raised.value is error


@UNDER_EACH
def test_what_a_generator_raises_after_an_error_comes_out(run: Run) -> None:
    """A generator may answer one error with another."""

    def steps() -> Generator[Step, Any, None]:
        try:
            yield Here(lambda: 1 // 0)
        except ZeroDivisionError:
            raise KeyError("its own") from None

    with pytest.raises(KeyError, match="its own"):
        run(steps())


@UNDER_EACH
def test_an_interrupt_ends_the_driver(run: Run) -> None:
    """What Ctrl-C raises in a step is no answer: it is not given to the generator."""
    told: list[BaseException] = []

    def interrupt() -> object:
        raise KeyboardInterrupt

    def steps() -> Generator[Step, Any, None]:
        try:
            yield Here(interrupt)
        except Exception as error:
            told.append(error)

    with pytest.raises(KeyboardInterrupt):
        run(steps())
    assert told == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_driver_ends(backend: str) -> None:
    """A task that is cancelled at a step takes no further one."""
    taken: list[str] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

            steps = each(Here(lambda: taken.append("first")), Here(cancel), Here(lambda: taken.append("no")))
            await run_anyio(steps)
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    assert taken == ["first"]


def test_the_core_is_driven_without_a_step_for_what_is_done_at_once() -> None:
    """With quick work, and cache, key and store in memory, nothing is asked of an event loop."""
    client, server = Client(), Server()
    client.options |= {"nonces": client.cache, "signer": client.signer}
    assert [send(client, server, "GET", "/")[0] for _ in range(2)] == [[401, 200], [200]]
    assert client.steps == []
    assert {type(step) for step in server.steps} == {Here}


class Burst:
    """Tasks that begin at once, and the turn of the event loop in which each was let through."""

    def __init__(self) -> None:
        self.turns = 0
        self.passed: list[int] = []

    async def _count_turns(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.turns += 1

    async def _pass(self, turn: Callable[[], Awaitable[None]]) -> None:
        await turn()
        self.passed.append(self.turns)

    async def run(self, number: int, turn: Callable[[], Awaitable[None]] = take_turn) -> None:
        """Begin so many tasks beside one that counts the turns."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._count_turns)
            await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as tasks:
                for _ in range(number):
                    tasks.start_soon(self._pass, turn)
            group.cancel_scope.cancel()


NUMBER = 50


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_burst_is_let_through_one_a_turn(backend: str) -> None:
    """Of tasks that begin at once each passes in a turn of its own, and everybody else runs in between."""
    burst = Burst()
    anyio.run(burst.run, NUMBER, backend=backend)
    assert burst.passed == sorted(burst.passed)
    assert len(burst.passed) == NUMBER
    # Trio shuffles who runs first in a turn, so that two neighbours may see the same count.
    assert NUMBER - 2 <= burst.passed[-1] - burst.passed[0] <= 2 * NUMBER


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_burst_without_turns_passes_at_once(backend: str) -> None:
    """The count tells: tasks that take no turn all pass in one."""

    async def no_turn() -> None:
        await anyio.lowlevel.checkpoint()

    burst = Burst()
    anyio.run(burst.run, NUMBER, no_turn, backend=backend)
    assert burst.passed[-1] - burst.passed[0] <= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_request_alone_waits_for_one_turn(backend: str) -> None:
    """Where nobody else begins, a request is not held up."""
    burst = Burst()
    anyio.run(burst.run, 1, backend=backend)
    assert burst.passed[0] <= 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_cancelled_in_the_line_holds_nobody_up(backend: str) -> None:
    """Tasks that leave the line, at its head or further behind, leave it to the others."""
    passed: list[int] = []

    async def main() -> None:
        scopes = [anyio.CancelScope() for _ in range(9)]

        async def one(number: int) -> None:
            with scopes[number]:
                await take_turn()
                passed.append(number)

        async with anyio.create_task_group() as group:
            for number in range(9):
                group.start_soon(one, number)
            await anyio.lowlevel.checkpoint()
            for scope in scopes[::2]:
                scope.cancel()

    anyio.run(main, backend=backend)
    assert {1, 3, 5, 7} <= set(passed)
    assert len(passed) == len(set(passed)) < 9


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_event_loop_has_turns_of_its_own(backend: str) -> None:
    """Loops in several threads, and one after another, let their own tasks through."""
    bursts, together = [Burst() for _ in range(3)], threading.Barrier(3)

    def run(burst: Burst) -> None:
        together.wait(60)
        anyio.run(burst.run, NUMBER, backend=backend)
        anyio.run(burst.run, NUMBER, backend=backend)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, bursts))
    assert [len(burst.passed) for burst in bursts] == [2 * NUMBER] * 3


def test_the_blocking_driver_stays_in_its_thread() -> None:
    """What blocks a blocking caller is called in its own thread."""
    assert (
        run_blocking(each(*(kind(threading.get_ident) for kind in (Here, InThread, either))))
        == [threading.get_ident()] * 3
    )
