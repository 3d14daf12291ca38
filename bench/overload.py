"""Send 64 requests at once, and print seconds and peak memory.

``python -m bench.overload URL bounded|unbounded``.
"""

import resource
import sys
import time

import anyio
import httpx

from tuned_digest import Ed25519Signer, Resources
from tuned_digest.httpx import TunedDigestAuth

REQUESTS = 64
UNBOUNDED = Resources(max_concurrent=REQUESTS, memory_kib=2**30)


async def measure(url: str, resources: Resources) -> float:
    """Send the requests; give the seconds they took together."""
    auth = TunedDigestAuth(url, Ed25519Signer.generate(), resources=resources)
    async with httpx.AsyncClient(base_url=url, auth=auth, timeout=120) as client:

        async def request() -> None:
            (await client.get("/")).raise_for_status()

        started = time.perf_counter()
        async with anyio.create_task_group() as sending:
            for _ in range(REQUESTS):
                sending.start_soon(request)
        return time.perf_counter() - started


if __name__ == "__main__":
    seconds = anyio.run(measure, sys.argv[1], Resources() if sys.argv[2] == "bounded" else UNBOUNDED)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
