"""Create something that takes a while, and say what is going on: events, and limits on the work.

Start ``tuned-digest serve`` and run ``python examples/create_with_progress.py http://127.0.0.1:8000``.
"""

import sys

import httpx

from tuned_digest import Ed25519Signer, LimitExceededError, Limits
from tuned_digest.events import ChallengeReceived, Event, RequestSigned, WorkFinished, WorkStarted
from tuned_digest.httpx import TunedDigestAuth


def show(event: Event) -> None:
    """Print one line for an event; it is called while the request waits, so it is quick."""
    match event:
        case ChallengeReceived():
            print(f"challenged by {event.origin}, for {', '.join(event.actions)}")
        case WorkStarted():
            print(f"working: {event.work}")
        case WorkFinished():
            print(f"worked: {event.seconds:.2f} s")
        case RequestSigned():
            print(f"signed: {event.method} under {event.scheme}")


def main(url: str) -> None:
    """Create a blob."""
    limits = Limits(max_memory_kib=262144, max_passes=5)  # what deployed servers ask for, and no more
    auth = TunedDigestAuth(url, Ed25519Signer.generate(), limits=limits, on_event=show)
    try:
        with httpx.Client(base_url=url, auth=auth.for_action("create")) as client:
            print("answer:", client.post("/blobs", content=b"precious").status_code)
    except LimitExceededError as error:
        print(f"too much: {error}")


if __name__ == "__main__":
    main(sys.argv[1])
