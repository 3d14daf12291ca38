"""What happens when an application starts: the store says whether it can serve."""

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tuned_digest import ArgumentError
from tuned_digest.errors import StoreUnavailableError
from tuned_digest.server import MemoryNonceStore, Verifier
from tuned_digest.server.asgi import Message, Receive, Scope, Send, TunedDigestMiddleware


class Starting(MemoryNonceStore):
    """A store that notes where it is started, and may refuse."""

    def __init__(self, problem: Exception | None = None) -> None:
        super().__init__()
        self.problem = problem
        self.threads: list[int] = []

    def start(self) -> None:
        """Note the thread, and refuse."""
        self.threads.append(threading.get_ident())
        if self.problem is not None:
            raise self.problem


class StartingAsync:
    """A store that is started by awaiting, on the event loop."""

    def __init__(self, store: Starting) -> None:
        self._store = store
        self.issue = store.issue
        self.take = store.take

    async def start(self) -> None:
        """Start."""
        self._store.start()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Start and stop as the ASGI specification says."""
    for kind in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{kind}"
        await send({"type": f"lifespan.{kind}.complete"})


def lived(store: Any) -> list[Message]:
    """Start and stop an application behind the middleware, and give what was sent."""
    messages: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    app = TunedDigestMiddleware(application, Verifier(store))
    anyio.run(app, {"type": "lifespan"}, receive, send)
    return sent


STARTED = [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


@pytest.mark.parametrize("make", [lambda store: store, StartingAsync])
def test_the_store_is_started_with_the_application(make: Callable[[Starting], Any]) -> None:
    """A store is started once, before the application, which then starts and stops as usual."""
    store = Starting()
    assert lived(make(store)) == STARTED
    assert len(store.threads) == 1


def test_a_store_that_may_block_is_started_in_a_thread() -> None:
    """A start that is not async may take long, and does not hold up the event loop."""
    store = Starting()
    lived(store)
    assert store.threads != [threading.get_ident()]


@pytest.mark.parametrize("make", [lambda store: store, StartingAsync])
def test_an_application_does_not_start_on_a_store_that_cannot_serve(make: Callable[[Starting], Any]) -> None:
    """The server is told why, and ends: the application is not called."""
    sent = lived(make(Starting(ArgumentError("the store is not what it should be"))))
    assert sent == [{"type": "lifespan.startup.failed", "message": "the store is not what it should be"}]


@pytest.mark.parametrize("make", [lambda store: store, StartingAsync])
def test_an_application_starts_while_its_store_is_away(
    make: Callable[[Starting], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A store that may be back soon is logged: a worker started meanwhile answers with 503 until then."""
    assert lived(make(Starting(StoreUnavailableError("cannot reach the store")))) == STARTED
    assert [record.message for record in caplog.records] == [
        "requests are answered with 503: cannot reach the store"
    ]


def test_a_store_without_a_start_needs_none() -> None:
    """A store of one's own may do without."""

    class Plain:
        issue = take = staticmethod(lambda *given: None)

    assert lived(Plain()) == STARTED
