"""Sign a hundred concurrent requests on one event loop, the work in threads, one for each usable core.

Start ``tuned-digest serve`` and run ``python examples/httpx_async.py http://127.0.0.1:8000``.
"""

import asyncio
import sys

import httpx

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import TunedDigestAuth

REQUESTS = 100
AT_ONCE = 10  # requests under way at a time: so many are challenged, the rest use their next nonces


async def main(url: str) -> None:
    """Write a blob, and read it a hundred times."""
    auth = TunedDigestAuth(url, Ed25519Signer.generate())
    places = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=url, auth=auth) as client:
        await client.put("/blobs/shared", content=b"for all", auth=auth.for_action("create"))

        async def read() -> httpx.Response:
            async with places:
                return await client.get("/blobs/shared")

        responses = await asyncio.gather(*(read() for _ in range(REQUESTS)))
    good = sum(response.text == "for all" for response in responses)
    challenged = sum(bool(response.history) for response in responses)
    print(f"{good} of {REQUESTS} read, {challenged} of them challenged")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
