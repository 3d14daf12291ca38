"""Sign the requests of a requests session: an upload from a generator and a streamed download.

Start ``tuned-digest serve`` and run ``python examples/requests_session.py http://127.0.0.1:8000``.
"""

import sys
from collections.abc import Iterator

import requests

from tuned_digest import Ed25519Signer
from tuned_digest.requests import TunedDigestAuth


def lines() -> Iterator[bytes]:
    """Make a body that can be read only once; the auth object keeps it, to send it again."""
    for number in range(1000):
        yield b"line %d\n" % number


def main(url: str) -> None:
    """Send a generator, and read it back line by line."""
    with requests.Session() as session:
        session.auth = TunedDigestAuth(url, Ed25519Signer.generate())
        written = session.put(f"{url}/blobs/lines", data=lines())
        print(f"wrote {written.json()['size']} bytes, challenged {len(written.history)} times")
        with session.get(f"{url}/blobs/lines", stream=True) as response:
            count = sum(1 for _ in response.iter_lines())
            print(f"read {count} lines, challenged {len(response.history)} times")


if __name__ == "__main__":
    main(sys.argv[1])
