"""Sign with a key that is not exported: a Signer for blocking clients, an AsyncSigner for async ones.

Start ``tuned-digest serve`` and run ``python examples/key_in_a_kms.py http://127.0.0.1:8000``.
"""

import asyncio
import sys

import httpx

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import TunedDigestAuth


class RemoteKey:
    """Stand for a key in your KMS: in a real one there is nothing here but a connection."""

    def __init__(self) -> None:
        self._remote = Ed25519Signer.generate()
        self.public_key = self._remote.public_key


class KmsSigner(RemoteKey):
    """A Signer; async clients call it in a worker thread."""

    def sign(self, message: bytes, /) -> bytes:
        """Have a message signed."""
        return self._remote.sign(message)


class AsyncKmsSigner(RemoteKey):
    """An AsyncSigner; async clients await it."""

    async def sign(self, message: bytes, /) -> bytes:
        """Have a message signed."""
        return await asyncio.to_thread(self._remote.sign, message)


async def main(url: str) -> None:
    """Make a request with an async client."""
    async with httpx.AsyncClient(auth=TunedDigestAuth(url, AsyncKmsSigner())) as client:
        print("async:", (await client.get(f"{url}/blobs/nothing-here")).status_code)


if __name__ == "__main__":
    server = sys.argv[1]
    answer = httpx.get(f"{server}/blobs/nothing-here", auth=TunedDigestAuth(server, KmsSigner()))
    print("blocking:", answer.status_code)
    asyncio.run(main(server))
