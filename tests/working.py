"""Work for tests of the limiter: pieces that run until they are let go, or note that they ran."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from tuned_digest import SearchCost, Tuning
from tuned_digest._runtime.drivers import run_anyio, run_blocking
from tuned_digest._runtime.steps import Steps

T = TypeVar("T")

HASH, SEARCH = Tuning("argon2d", 8, 1, 1), SearchCost(1)
BACKENDS = ["asyncio", "trio"]
PATIENCE = 60  # seconds until a test that hangs fails


def in_one_piece(call: Callable[[], T]) -> Generator[None, None, T]:
    """Make work of a call."""
    yield from ()
    return call()


def noting(story: list[str], name: str, number: int = 1) -> Generator[None, None, str]:
    """Make work of so many pieces, each of which notes the work's name."""
    for left in reversed(range(number)):
        story.append(name)
        if left:
            yield
    return name


@dataclass
class Held:
    """Work of one piece that runs until it is let go."""

    started: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def pieces(self) -> Generator[None, None, str]:
        """Run until let go."""
        yield from ()
        self.thread = threading.current_thread()
        self.started.set()
        assert self.released.wait(PATIENCE)
        return "done"

    def finish(self) -> None:
        """Let the work go and wait for its thread to end, callbacks and all."""
        self.released.set()
        assert self.started.wait(PATIENCE)
        assert self.thread is not None
        self.thread.join(PATIENCE)


@contextmanager
def no_more_threads() -> Iterator[None]:
    """Ask for a stack larger than the address space, so that no thread can start."""
    size = threading.stack_size(1 << 48)
    try:
        yield
    finally:
        threading.stack_size(size)


Run = Callable[[Steps[Any]], Any]


def blocking(steps: Steps[Any]) -> Any:
    """Run steps blocking."""
    return run_blocking(steps)


def under_asyncio(steps: Steps[Any]) -> Any:
    """Run steps under asyncio."""
    return anyio.run(run_anyio, steps, backend="asyncio")


def under_trio(steps: Steps[Any]) -> Any:
    """Run steps under trio."""
    return anyio.run(run_anyio, steps, backend="trio")


ASYNC_DRIVERS: list[Run] = [under_asyncio, under_trio]
DRIVERS: list[Run] = [blocking, *ASYNC_DRIVERS]
