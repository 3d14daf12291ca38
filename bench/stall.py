"""Measure the longest an event loop stands still: ``python -m bench.stall URL SCHEME REQUESTS``.

A process of its own for each row, so that the first request, with what is imported on its account, is in.
"""

import sys
import time

import anyio
import httpx

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import TunedDigestAuth

TICK = 0.001  # seconds


async def measure(url: str, scheme: str, requests: int) -> tuple[float, float]:
    """Send requests at once; give the largest stall and the whole time, both in seconds."""
    auth = TunedDigestAuth(url, Ed25519Signer.generate(), schemes=[scheme])
    largest = 0.0

    async def tick() -> None:
        nonlocal largest
        while True:
            before = time.perf_counter()
            await anyio.sleep(TICK)
            largest = max(largest, time.perf_counter() - before - TICK)

    async with httpx.AsyncClient(base_url=url, auth=auth, timeout=120) as client:

        async def request() -> None:
            (await client.get("/blobs/welcome")).raise_for_status()

        async with anyio.create_task_group() as ticking:
            ticking.start_soon(tick)
            await anyio.sleep(10 * TICK)
            started = time.perf_counter()
            async with anyio.create_task_group() as sending:
                for _ in range(requests):
                    sending.start_soon(request)
            elapsed = time.perf_counter() - started
            ticking.cancel_scope.cancel()
    return largest, elapsed


if __name__ == "__main__":
    stall, elapsed = anyio.run(measure, sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(stall, elapsed)
