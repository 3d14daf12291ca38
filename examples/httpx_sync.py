"""Sign the requests of an httpx client: the first is challenged, the rest take one round trip each.

Start ``tuned-digest serve`` and run ``python examples/httpx_sync.py http://127.0.0.1:8000``.
"""

import sys

import httpx

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import TunedDigestAuth


def main(url: str) -> None:
    """Write a blob, and read it three times."""
    signer = Ed25519Signer.generate()  # yours comes from a file: Ed25519Signer.from_file("key.pem")
    auth = TunedDigestAuth(url, signer)
    with httpx.Client(base_url=url, auth=auth) as client:
        written = client.put("/blobs/greeting", content=b"hello", auth=auth.for_action("create"))
        print(f"wrote: {written.status_code}, challenged {len(written.history)} times")
        for _ in range(3):
            read = client.get("/blobs/greeting")
            print(f"read: {read.text!r}, challenged {len(read.history)} times")


if __name__ == "__main__":
    main(sys.argv[1])
