"""Upload a large body, and print the most memory that took.

``python -m bench.upload CLIENT URL file|generator signed|unsigned``, in a process of its own for each row.
Memory is what is resident at most, and what lies in tmpfs meanwhile.
"""

import os
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from tests.clients import CLIENTS

from tuned_digest import Ed25519Signer

SIZE = 2**30
PIECE = bytes(range(256)) * 256
SAMPLE_SECONDS = 0.005


def pieces() -> Iterator[bytes]:
    """Give the body piece by piece."""
    for _ in range(SIZE // len(PIECE)):
        yield PIECE


async def unblocked(body: Any) -> AsyncIterator[bytes]:
    """Give a body as an async client wants it."""
    for piece in iter(lambda: body.read(len(PIECE)), b"") if hasattr(body, "read") else body:
        yield piece


def used() -> int:
    """Count the bytes resident and in tmpfs."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    held = [
        os.statvfs(place) for _, place, kind, *_ in mounts if kind == "tmpfs" and os.access(place, os.R_OK)
    ]
    return resident + sum((fs.f_blocks - fs.f_bfree) * fs.f_frsize for fs in held)


def peak_during(send: Any) -> int:
    """Give the most that is used while something is sent, over what is used before."""
    done, peak = threading.Event(), used()
    before = peak

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, used())

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        send()
    finally:
        done.set()
        sampling.join()
    return peak - before


def main(name: str, url: str, source: str, signed: str) -> None:
    """Send a small request first, so that what is imported on the first one is not counted."""
    is_signed = signed == "signed"
    with (
        tempfile.TemporaryFile(dir="/var/tmp") as file,
        CLIENTS[name](url, Ed25519Signer.generate()) as client,
    ):
        for piece in pieces():
            file.write(piece)
        file.seek(0)
        options = {} if is_signed else {"auth": lambda request: request}
        client.send("GET", f"{url}/open", **options)
        body: Any = file if source == "file" else pieces()
        if not is_signed and name == "httpx-asyncio":
            body = unblocked(body)  # unsigned, an AsyncClient takes async bodies alone

        def send() -> None:
            assert (
                client.send("POST", url if is_signed else f"{url}/open", body=body, **options).status == 200
            )

        print(peak_during(send))


if __name__ == "__main__":
    main(*sys.argv[1:])
