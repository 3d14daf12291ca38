"""What ``tuned-digest demo`` shows: the real server in two worker processes, the three clients against it.

Then another server, with accounts.
"""

from __future__ import annotations

__all__ = ["run_demo"]

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from anyio.from_thread import start_blocking_portal

from .. import events
from ..errors import MissingExtraError, TunedDigestError
from ..keys import Ed25519Signer

try:
    import httpx
    import requests
except ImportError as error:
    raise MissingExtraError(
        "the demo needs both clients: pip install 'tuned-digest[demo]'", extra="demo"
    ) from error

from ..httpx import TunedDigestAuth as HttpxAuth
from ..requests import TunedDigestAuth as RequestsAuth
from .demo_accounts import show_accounts
from .demo_workers import show_workers

_WORKERS = 2
_CHAIN = 5  # requests shown at one round trip each
_TIMEOUT = 60  # seconds
_SHOWN = 12  # characters of a nonce, a response or a signature


def run_demo() -> int:
    """Run the demo and print what happens.

    Returns:
        0 when all of it held, 1 otherwise.
    """
    with _served("--workers", str(_WORKERS)) as url:
        print(f"A server listens on {url}: {_WORKERS} worker processes, their nonces in one SQLite file.")
        outcome = _Outcome()
        for name, connect in _CLIENTS.items():  # each runs, whatever became of the one before
            _Demo(name, url, connect, outcome.say).run()
        show_workers(url, _WORKERS, outcome.say)
    with TemporaryDirectory(prefix="tuned-digest-") as private:
        registry = str(Path(private) / "accounts.sqlite")
        with _served("--accounts", registry, "--registration", "open") as url:
            show_accounts(url, outcome.say)
    print("\nAll of it held." if outcome.held else "\nNot all of it held.")
    return 0 if outcome.held else 1


class _Outcome:
    """Whether all that was seen so far is as it should be."""

    held = True

    def say(self, held: bool, text: str) -> None:
        """Print what was seen, and note whether it is as it should be."""
        print(f"      {text}" + ("" if held else "   <- not as it should be"))
        self.held = self.held and held


@dataclass(frozen=True)
class _Answer:
    """What a client got, in one shape for all three."""

    status: int
    round_trips: int
    authorization: str = field(repr=False)


_Send = Callable[[str, str, bytes, bool], _Answer]  # method, path, body, and whether it creates


class _Demo:
    """One client's part."""

    def __init__(
        self,
        name: str,
        url: str,
        connect: Callable[[str, Ed25519Signer, Callable[[events.Event], None], ExitStack], _Send],
        say: Callable[[bool, str], None],
    ) -> None:
        self._name = name
        self._url = url
        self._connect = connect
        self._say = say

    def run(self) -> None:
        """Run it."""
        signer = Ed25519Signer.generate()
        print(f"\n{self._name}, as {signer.identity}")
        with ExitStack() as stack:
            send = self._connect(self._url, signer, self._show, stack)

            print("  the first request: GET /blobs/welcome")
            self._expect(send("GET", "/blobs/welcome", b"", False), 200, 2)

            print(f"  the next {_CHAIN}, each under the nonce of the response before")
            chain = [self._expect(send("GET", "/blobs/welcome", b"", False), 200, 1) for _ in range(_CHAIN)]

            path = f"/blobs/by-{self._name.replace(' ', '-')}"
            print(f"  a create, which costs more: PUT {path}")
            self._expect(send("PUT", path, b"made by the demo", True), 201, 1)

            print("  the last GET once more, as someone who had recorded it would send it")
            replayed = httpx.get(
                f"{self._url}/blobs/welcome",
                headers={"Authorization": chain[-1].authorization},
                timeout=_TIMEOUT,
            )
            self._say(
                replayed.status_code == 401 and replayed.json()["reason"] == "unknown nonce",
                f"{replayed.status_code}, {replayed.json().get('reason')}",
            )

    def _show(self, event: events.Event) -> None:
        match event:
            case events.ChallengeReceived():
                print(
                    f"      401, challenge: {event.scheme} {event.work}, good for {', '.join(event.actions)}"
                )
            case events.WorkFinished():
                print(f"      work: {event.work}, {event.seconds * 1000:.0f} ms")

    def _expect(self, answer: _Answer, status: int, round_trips: int) -> _Answer:
        print(f"      Authorization: {_shortened(answer.authorization)}")
        trips = "one round trip" if answer.round_trips == 1 else f"{answer.round_trips} round trips"
        self._say(answer.status == status and answer.round_trips == round_trips, f"{answer.status}, {trips}")
        return answer


def _connect_httpx(
    url: str, signer: Ed25519Signer, on_event: Callable[[events.Event], None], stack: ExitStack
) -> _Send:
    auth = HttpxAuth(url, signer, on_event=on_event)
    client = stack.enter_context(httpx.Client(base_url=url, auth=auth, timeout=_TIMEOUT))

    def send(method: str, path: str, body: bytes, creates: bool) -> _Answer:
        chosen = auth.for_action("create") if creates else auth
        return _from_httpx(client.request(method, path, content=body, auth=chosen))

    return send


def _connect_httpx_async(
    url: str, signer: Ed25519Signer, on_event: Callable[[events.Event], None], stack: ExitStack
) -> _Send:
    auth = HttpxAuth(url, signer, on_event=on_event)
    portal = stack.enter_context(start_blocking_portal())
    client = stack.enter_context(
        portal.wrap_async_context_manager(httpx.AsyncClient(base_url=url, auth=auth, timeout=_TIMEOUT))
    )

    async def send_async(method: str, path: str, body: bytes, creates: bool) -> _Answer:
        chosen = auth.for_action("create") if creates else auth
        return _from_httpx(await client.request(method, path, content=body, auth=chosen))

    def send(method: str, path: str, body: bytes, creates: bool) -> _Answer:
        return portal.call(send_async, method, path, body, creates)

    return send


def _connect_requests(
    url: str, signer: Ed25519Signer, on_event: Callable[[events.Event], None], stack: ExitStack
) -> _Send:
    auth = RequestsAuth(url, signer, on_event=on_event)
    session = stack.enter_context(requests.Session())

    def send(method: str, path: str, body: bytes, creates: bool) -> _Answer:
        chosen = auth.for_action("create") if creates else auth
        response = session.request(method, url + path, data=body, auth=chosen, timeout=_TIMEOUT)
        authorization = str(response.request.headers.get("Authorization", ""))
        return _Answer(response.status_code, len(response.history) + 1, authorization)

    return send


_CLIENTS = {"httpx": _connect_httpx, "httpx async": _connect_httpx_async, "requests": _connect_requests}


def _from_httpx(response: httpx.Response) -> _Answer:
    authorization = response.request.headers.get("Authorization", "")
    return _Answer(response.status_code, len(response.history) + 1, authorization)


def _shortened(authorization: str) -> str:
    """Show the shape of a field without filling the screen."""
    scheme, _, parameters = authorization.partition(" ")
    shown = []
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        shown.append(f"{name}={value[:_SHOWN]}...")
    return f"{scheme} {';'.join(shown)}"


@contextmanager
def _served(*options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tuned_digest", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603  # our own command
        try:
            assert server.stdout is not None
            address = server.stdout.readline().rpartition(" ")[2].strip()
            if not address:
                raise TunedDigestError("the demo's server did not start: see above")
            yield address
        finally:
            server.terminate()
