"""The part of ``tuned-digest demo`` that shows several worker processes with one store of nonces."""

from __future__ import annotations

__all__ = ["show_workers"]

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle, islice

import httpx

from ..httpx import TunedDigestAuth
from ..keys import Ed25519Signer

_PATH = "/blobs/welcome"
_TIMEOUT = 60  # seconds, for a request and for the search for a connection to each worker
_TURNS = 20  # requests at most; two turns of each worker are enough where no connection is closed

_Say = Callable[[bool, str], None]  # whether it is as it should be, and what is seen


def show_workers(url: str, count: int, say: _Say, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Send requests to all workers in turn under one chain of nonces, and the last one again to each.

    Args:
        url: Where the server listens.
        count: How many workers it has.
        say: Prints what is seen.
        clock: Gives seconds, never going back.
    """
    signer = Ed25519Signer.generate()
    print(f"\n{count} worker processes, as {signer.identity}")
    with ExitStack() as stack:
        print("  new connections, until each worker has answered on one: unsigned requests")
        clients = _connect_to_each(url, count, stack, clock)
        say(len(clients) == count, f"answered: {' and '.join(f'worker {name}' for name in clients)}")
        auth = TunedDigestAuth(url, signer)
        print(f"  GET {_PATH} over these in turn, until a nonce of each worker was taken by another")
        authorization = _take_turns(clients, count, auth, say)
        print("  the last GET once more, to each worker")
        _replay(clients, count, authorization, say)


def _connect_to_each(
    url: str, count: int, stack: ExitStack, clock: Callable[[], float]
) -> dict[str, httpx.Client]:
    """Keep one connection to each worker: which of them takes a new one is the kernel's choice."""
    clients: dict[str, httpx.Client] = {}
    deadline = clock() + _TIMEOUT
    while len(clients) < count and clock() < deadline:
        client = httpx.Client(base_url=url, timeout=_TIMEOUT)
        worker = _worker(client.get(_PATH))
        if worker in clients:
            client.close()
        else:
            clients[worker] = client
            stack.callback(client.close)
    return clients


def _turns(clients: dict[str, httpx.Client]) -> Iterator[httpx.Client]:
    return islice(cycle(clients.values()), _TURNS)


def _take_turns(clients: dict[str, httpx.Client], count: int, auth: TunedDigestAuth, say: _Say) -> str:
    """Send requests, and hand back the last one's Authorization."""
    issuer = authorization = ""
    takers: set[str] = set()
    for client in _turns(clients):
        response = client.get(_PATH, auth=auth)
        worker = _worker(response)
        expected = 0 if issuer else 1  # challenges
        origin = f"nonce issued by worker {issuer}" if issuer else "after its challenge"
        say(
            response.status_code == 200 and len(response.history) == expected,
            f"{response.status_code} from worker {worker}, {origin}",
        )
        if issuer not in ("", worker):
            takers.add(worker)
        issuer, authorization = worker, response.request.headers.get("Authorization", "")
        if len(takers) == count:
            break
    say(len(takers) == count, f"{len(takers)} workers have taken a nonce that another one issued")
    return authorization


def _replay(clients: dict[str, httpx.Client], count: int, authorization: str, say: _Say) -> None:
    refusing: set[str] = set()
    for client in _turns(clients):
        response = client.get(_PATH, headers={"Authorization": authorization})
        reason = response.json()["reason"] if response.status_code == 401 else "not refused"
        worker = _worker(response)
        say(reason == "unknown nonce", f"{response.status_code}, {reason}, from worker {worker}")
        refusing.add(worker)
        if len(refusing) == count:
            break
    say(len(refusing) == count, f"{len(refusing)} workers have refused it")


def _worker(response: httpx.Response) -> str:
    return str(response.headers.get("Server-Worker", "unnamed"))
