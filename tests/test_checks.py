"""Section 10, step 8: where the checks of a server run, and what they wait for."""

import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import pytest
from blake3 import blake3

from tuned_digest import SearchCost, Tuning, Work
from tuned_digest._runtime.drivers import run_anyio
from tuned_digest._runtime.limiter import process_limiter
from tuned_digest._runtime.machine import usable_cores
from tuned_digest.server import Caller, Grant, IncomingRequest, MemoryNonceStore, Verifier
from tuned_digest.server.asgi import TunedDigestMiddleware

from .driving import ACCESS, quick_policy
from .field_server import field
from .serving import serve
from .verifying import EVERY_ACTION, noted, written

LONG = Tuning("argon2d", 1024, 1, 1)
"""Too long to be done on an event loop."""

NOTHING: Any = SimpleNamespace(footprint_kib=0, runs_alone=False)
"""The load of work that takes nothing but a place."""


@contextmanager
def occupied() -> Iterator[threading.Event]:
    """Hold every place of the process's limiter, until the block ends or the event is set."""
    begun, release = threading.Semaphore(0), threading.Event()

    def endless() -> Generator[None, None, None]:
        yield from ()
        begun.release()
        release.wait(60)

    held = [process_limiter().submit(endless(), NOTHING, "somebody else") for _ in range(usable_cores())]
    try:
        for _ in held:
            assert begun.acquire(timeout=30)
        yield release
    finally:
        release.set()
        for future in held:
            future.result(30)


def verifying(story: list[str], name: str, work: Work) -> Callable[[], Coroutine[Any, Any, Caller]]:
    """Present a request under some work; what is accepted notes its name."""
    store = MemoryNonceStore()
    (nonce,) = store.issue(Grant({work.scheme: noted(work, story)}, EVERY_ACTION, chained=True))
    request = IncomingRequest("GET", "/a", fields=[("Authorization", written(nonce, work))])

    def body() -> bytes:
        return blake3(b"").digest()

    async def verify() -> Caller:
        caller = await run_anyio(Verifier(store, policy=quick_policy()).verify(request, body))
        story.append(f"{name} accepted")
        return caller

    return verify


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("work", [SearchCost(12), ACCESS], ids=str)
def test_a_quick_check_waits_for_nobody(backend: str, work: Work) -> None:
    """A search, and Argon2 work of a moment, are checked while every place is taken; longer work waits."""
    story: list[str] = []
    long, quick = verifying(story, "long", LONG), verifying(story, "quick", work)

    async def run() -> None:
        with occupied() as release, anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(long)
                await anyio.wait_all_tasks_blocked()
                await quick()
                assert story == ["proof", "quick accepted"]
                release.set()

    anyio.run(run, backend=backend)
    assert story == ["proof", "quick accepted", "proof", "long accepted"]


def test_a_search_is_accepted_by_a_busy_server() -> None:
    """A real server whose process is busy with somebody else's work still accepts a search."""
    store, cost = MemoryNonceStore(), SearchCost(12)
    (nonce,) = store.issue(Grant({cost.scheme: cost}, EVERY_ACTION, chained=True))
    headers = {"Authorization": written(nonce, cost)}
    app = TunedDigestMiddleware(field, Verifier(store, policy=quick_policy()))
    with serve(app) as server, occupied():
        assert httpx.get(f"{server.url}/a", headers=headers, timeout=60).status_code == 200


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_check_whose_client_has_gone_is_given_up(backend: str) -> None:
    """Work that waits for its turn is not done when nobody waits for it any more."""
    story: list[str] = []
    long = verifying(story, "long", LONG)

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(long)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    with occupied():
        anyio.run(run, backend=backend)
    with occupied():  # whatever was waiting has had its turn
        assert story == []
