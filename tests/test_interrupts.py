"""Ctrl-C in the middle of the work, in a process of its own."""

import os
import signal
import subprocess
import sys

import pytest

from tuned_digest import SearchCost, Tuning, Work

from .field_server import scripted
from .serving import serve

HOURS: list[Work] = [Tuning("argon2d", 65536, 1_000_000, 1), SearchCost(32)]
PATIENCE = 60  # seconds until a process that goes on fails the test

SENDING = {
    "requests": "requests.get(url, auth=tuned_digest.requests.TunedDigestAuth(url, signer, **options))",
    "httpx": "httpx.get(url, auth=tuned_digest.httpx.TunedDigestAuth(url, signer, **options))",
    "httpx-asyncio": "asyncio.run(get())",
    "httpx-trio": "trio.run(get)",
}

CODE = """
import asyncio, sys
import httpx, requests, trio
import tuned_digest.httpx, tuned_digest.requests
from tuned_digest import Ed25519Signer, Limits, SearchCost, Tuning

url, scheme = sys.argv[1:]
signer = Ed25519Signer.generate()
limits = Limits(max_passes=2**31, max_work_kib=2**50, max_search_bits=32)
options = {"limits": limits, "schemes": [scheme]}

def announcing(prove):
    def proving(*arguments, **options):
        print("working", flush=True)
        return (yield from prove(*arguments, **options))

    return proving

async def get():
    auth = tuned_digest.httpx.TunedDigestAuth(url, signer, **options)
    async with httpx.AsyncClient(auth=auth, timeout=60) as client:
        await client.get(url)

for kind in (Tuning, SearchCost):
    kind.prove = announcing(kind.prove)
"""


@pytest.mark.skipif(os.name == "nt", reason="the system sends no interrupt to one process")
@pytest.mark.parametrize("work", HOURS, ids=lambda work: work.scheme)
@pytest.mark.parametrize("sending", SENDING.values(), ids=list(SENDING))
def test_an_interrupt_ends_the_process_and_not_only_the_wait(sending: str, work: Work) -> None:
    """Work of hours ends with Ctrl-C, in a `KeyboardInterrupt` and with the process."""
    challenge = f"{work.scheme} nonce=AAAA;algorithm={work};actions=read"
    with (
        serve(scripted((401, [("WWW-Authenticate", challenge)], b""))) as served,
        subprocess.Popen(
            [sys.executable, "-c", CODE + sending, served.url, work.scheme],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "working\n"
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert complaints.rstrip().endswith("KeyboardInterrupt")
