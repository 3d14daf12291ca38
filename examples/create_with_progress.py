"""Create something that takes a while, with a progress line: events, and limits on the work.

Start ``tuned-digest serve`` and run ``python examples/create_with_progress.py http://127.0.0.1:8000``.
"""

import sys
import threading
import time

import httpx

from tuned_digest import Ed25519Signer, LimitExceededError, Limits
from tuned_digest.events import ChallengeReceived, Event, RequestSigned, WorkFinished, WorkStarted
from tuned_digest.httpx import TunedDigestAuth


class ProgressLine:
    """Print a line for an event; a hash cannot tell how far it is, so the line goes by its estimate."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._drawing: threading.Thread | None = None

    def __call__(self, event: Event) -> None:
        """Show an event; this is called while the request waits, so it is quick."""
        match event:
            case ChallengeReceived():
                print(f"challenged by {event.origin}, for {', '.join(event.actions)}")
            case WorkStarted():
                print(f"working: {event.work}")
                self._over.clear()
                self._drawing = threading.Thread(target=self._draw, args=(event.estimate,), daemon=True)
                self._drawing.start()
            case WorkFinished():
                self.close()
                print(f"worked: {event.seconds:.2f} s")
            case RequestSigned():
                print(f"signed: {event.method} under {event.scheme}")

    def close(self) -> None:
        """End the line; work that fails does not finish."""
        self._over.set()
        if self._drawing is not None:
            self._drawing.join()
            self._drawing = None
            print()

    def _draw(self, estimate: float) -> None:
        started = time.monotonic()
        while True:
            share = min((time.monotonic() - started) / estimate, 0.99)
            print(f"\r{share:4.0%} of about {estimate:.1f} s", end="", flush=True)
            if self._over.wait(0.1):
                return


def main(url: str) -> None:
    """Create a blob."""
    limits = Limits(max_memory_kib=262144, max_passes=5)  # what deployed servers ask for, and no more
    line = ProgressLine()
    auth = TunedDigestAuth(url, Ed25519Signer.generate(), limits=limits, on_event=line)
    try:
        with httpx.Client(base_url=url, auth=auth.for_action("create")) as client:
            print("answer:", client.post("/blobs", content=b"precious").status_code)
    except LimitExceededError as error:
        print(f"too much: {error}")
    finally:
        line.close()


if __name__ == "__main__":
    main(sys.argv[1])
