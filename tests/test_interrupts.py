"""Ctrl-C in the middle of the work, in a process of its own, and where the standard library loses it."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest

from tuned_digest import NoThreadError, SearchCost, Tuning, Work, WorkTimeoutError
from tuned_digest._runtime import steps
from tuned_digest._runtime.limiter import WorkLimiter
from tuned_digest._runtime.steps import Limited

from .field_server import scripted
from .serving import serve
from .working import HASH, in_one_piece

HOURS: list[Work] = [Tuning("argon2d", 65536, 1_000_000, 1), SearchCost(32)]
PATIENCE = 60  # seconds until a process that goes on fails the test

SENDING = {
    "requests": "requests.get(url, auth=tuned_digest.requests.TunedDigestAuth(url, signer, **options))",
    "httpx": "httpx.get(url, auth=tuned_digest.httpx.TunedDigestAuth(url, signer, **options))",
    "httpx-asyncio": "asyncio.run(get_beside_others())",
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

async def get_beside_others():
    others = asyncio.create_task(wake())
    await get()

async def wake():
    # A loop of asyncio.run that falls asleep just as an interrupt comes sees it when it wakes.
    while True:
        await asyncio.sleep(0.5)

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


ASLEEP = """
import _thread, sys, threading
from tests.working import HASH, in_one_piece
from tuned_digest._runtime.limiter import WorkLimiter
from tuned_digest._runtime.steps import Limited

falling_asleep = threading.Lock()
falling_asleep.acquire()
submit = WorkLimiter.submit

def submit_and_sleep(limiter, *work):
    future = submit(limiter, *work)
    sys.setswitchinterval(3600)  # this thread goes on until it sleeps
    falling_asleep.release()
    return future

def work():
    falling_asleep.acquire()
    _thread.interrupt_main()  # sets what a signal sets, and leaves a sleeping thread asleep
    sys.setswitchinterval(0.005)
    threading.Event().wait()

WorkLimiter.submit = submit_and_sleep
Limited(in_one_piece(work), HASH, share=None).blocking()
"""


def interrupted_between_two_lines(*arguments: object) -> None:
    """Do as `Condition.wait` does when an interrupt comes after it released its lock."""
    lock = threading.Lock()
    with lock:
        lock.release()
        raise KeyboardInterrupt


def test_an_interrupt_that_wakes_nobody_ends_the_wait() -> None:
    """An interrupt that came just before the thread fell asleep is seen, and not when the work is done."""
    run = subprocess.run(
        [sys.executable, "-c", ASLEEP], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert run.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_wait_does_without_that_of_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Condition.wait`, which makes an error of an interrupt between two of its lines, is not called."""
    future = Future[object]()
    monkeypatch.setattr(threading.Condition, "wait", interrupted_between_two_lines)
    monkeypatch.setattr(WorkLimiter, "submit", lambda limiter, *work: future)
    with pytest.raises(WorkTimeoutError):
        Limited(in_one_piece(list), HASH, share=None, seconds=0.01).blocking()


def test_an_interrupt_while_a_thread_starts_is_no_lack_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `Thread.start` makes of an interrupt of its wait is one again, and the work is done once."""
    start, threads = threading.Thread.start, list[int]()

    def interrupted_start(thread: threading.Thread) -> None:
        start(thread)
        interrupted_between_two_lines()

    limiter = WorkLimiter(1)
    monkeypatch.setattr(steps, "process_limiter", lambda: limiter)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted_start)
        with pytest.raises(KeyboardInterrupt):
            Limited(in_one_piece(lambda: threads.append(threading.get_ident())), HASH, share=None).blocking()
    assert Limited(in_one_piece(lambda: "ran"), HASH, share=None).blocking() == "ran"
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_lack_of_threads_is_one_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread starts while an interrupt is handled, the future says so."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        future: Future[object] = WorkLimiter(1).submit(in_one_piece(list), HASH)
    assert isinstance(future.exception(0), NoThreadError)
