"""Every nonce that the servers of a test received, held against section 7: one use."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from .serving import Seen


class Recording(Protocol):
    """A server that notes what it is sent."""

    @property
    def requests(self) -> Sequence[Seen]:
        """All requests so far."""
        ...


ServerT = TypeVar("ServerT", bound=Recording)

Watch = Callable[[AbstractContextManager[ServerT]], AbstractContextManager[ServerT]]


class Ledger:
    """Watch servers, and see when a test ends that none of their nonces came twice.

    One repetition is out of our hands: some libraries forward the field on a redirect before any auth
    code runs. So of one nonce's receipts all but one may have been answered with a redirect.
    """

    def __init__(self) -> None:
        self._servers: list[Recording] = []
        self.forwards_on_redirect = False
        """Whether a client of the test does that."""

    @contextmanager
    def watch(self, server: AbstractContextManager[ServerT]) -> Iterator[ServerT]:
        """Run a server, and hold all that was received against the rule when it has ended well."""
        with server as running:
            self._servers.append(running)
            yield running
        self.check()

    def check(self) -> None:
        """Hold what was received so far against the rule."""
        receipts: dict[str, list[int]] = {}
        for server in self._servers:
            for seen in server.requests:
                for value in seen.field("Authorization"):
                    receipts.setdefault(nonce_of(value), []).append(seen.status)
        for statuses in receipts.values():
            forwarded = sum(300 <= status < 400 for status in statuses) if self.forwards_on_redirect else 0
            assert len(statuses) - forwarded <= 1, f"one nonce was received with answers {statuses}"


def nonce_of(authorization: str) -> str:
    """Read the nonce out of a well-formed Authorization field of either dialect."""
    return authorization.partition("nonce=")[2].strip('"').partition(";")[0].partition('"')[0]
