"""Worker processes that serve one listening socket: started, replaced when killed, ended together.

uvicorn has a supervisor of its own. This one serves every version of uvicorn alike, looks after its workers
without polling, and prints no traceback when Ctrl-C meets a worker that is still starting.
"""

from __future__ import annotations

__all__ = ["Ending", "Work", "ending", "supervise", "until_parent_ends"]

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from socket import socket

from ..errors import TunedDigestError

Ending = Connection
"""Becomes readable when this process is asked to end."""

Work = Callable[[socket], None]

_SPAWN = multiprocessing.get_context("spawn")  # a fork would share the open stores
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 10.0  # seconds for the requests that are being served when the end comes


@contextmanager
def ending() -> Iterator[Ending]:
    """Take Ctrl-C and SIGTERM as the wish to end in order."""
    asked, ask = multiprocessing.Pipe(duplex=False)
    before = [(number, signal.signal(number, lambda *_: ask.send_bytes(b"."))) for number in _SIGNALS]
    try:
        yield asked
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        ask.close()
        asked.close()


def supervise(
    asked: Ending, count: int, work: Work, listening: socket, *, started: Callable[[], None]
) -> None:
    """Keep worker processes running until this process is asked to end, then end them.

    A worker that a signal has killed is replaced.

    Args:
        asked: Says when to end.
        count: How many workers.
        work: What each does with the socket; it can be pickled.
        listening: The socket that they share.
        started: Called once when all are started.

    Raises:
        TunedDigestError: If a worker fails: another one would fail in the same way.
    """
    workers: list[SpawnProcess] = []
    try:
        workers.extend(_start(work, listening) for _ in range(count))
        started()
        while asked not in wait([asked, *(worker.sentinel for worker in workers)]):
            for index, worker in enumerate(workers):
                if _has_ended(worker):
                    workers[index] = _start(work, listening)
    finally:
        _end(workers)


def until_parent_ends(end: Callable[[], None]) -> None:
    """Let a worker end when its supervisor is gone without having ended it.

    Args:
        end: Called then, in a thread.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        end()

    threading.Thread(target=watch, daemon=True).start()


def _start(work: Work, listening: socket) -> SpawnProcess:
    worker = _SPAWN.Process(target=work, args=(listening,), daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker begins with this: _end ends it
    try:
        worker.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    return worker


def _has_ended(worker: SpawnProcess) -> bool:
    code = worker.exitcode
    if code is not None and code > 0:
        raise TunedDigestError(f"a worker process failed with status {code}: see above")
    return code is not None


def _end(workers: Sequence[SpawnProcess]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(_GRACE)
        worker.kill()
        worker.join()
