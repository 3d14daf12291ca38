"""Drive a flow by hand, without an HTTP library: the test is the server, the network and the clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuned_digest import NextNonce, Origin
from tuned_digest._client.bodies import Body, LostBody
from tuned_digest._client.exchange import Fields, Target
from tuned_digest._client.flow import Flow
from tuned_digest._runtime.steps import Pause, Step, Steps
from tuned_digest._wire.challenge import Challenge, write_challenge
from tuned_digest._wire.credentials import Credentials, is_ours, read_credentials
from tuned_digest._wire.request import FieldValues, split_target
from tuned_digest.events import Report

from .driving import Client, NotedBody, do, fields_of, perform
from .exchanging import written


@dataclass(frozen=True, eq=False)
class Request:
    """Stand for a library's request."""

    method: str
    url: str
    fields: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    @property
    def credentials(self) -> Credentials | None:
        """Read what it carries."""
        return read_credentials(fields_of(self.fields)("Authorization"))

    @property
    def nonce(self) -> str | None:
        """Give the nonce it is signed under."""
        return self.credentials.nonce if self.credentials else None

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


@dataclass(eq=False)
class Response:
    """Stand for a library's response."""

    request: Request
    status: int
    fields: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    report: Report | None = None


@dataclass
class Messages:
    """Read and write those, make priming requests, and note what is asked."""

    story: list[str]
    fails_to_prime: bool = False
    fails_to_release: bool = False

    def target(self, request: Request) -> Target | None:
        """Read the URL: any scheme but these two goes to no origin."""
        scheme, _, rest = request.url.partition("://")
        authority, _, path = rest.partition("/")
        host, _, port = authority.partition(":")
        origin = Origin.known(scheme, host, int(port) if port else None)
        return Target(request.method, origin, *split_target(f"/{path}")) if origin else None

    def authorization(self, request: Request) -> str | None:
        """Read the field."""
        return ", ".join(fields_of(request.fields)("Authorization")) or None

    def request_fields(self, request: Request) -> FieldValues:
        """Look them up."""
        return fields_of(request.fields)

    def body(self, request: Request, *, was_sent: bool) -> Body:
        """Give the bytes; a body that can be read once is lost once it was sent."""
        if was_sent and request.body == b"one-shot":
            return LostBody()
        return NotedBody(request.body, self.story.append)

    def authorize(self, request: Request, fields: Fields | None) -> Request:
        """Put credentials in place of ours."""
        kept = [field for field in request.fields if field[0] != "Authorization" or not is_ours(field[1])]
        return replace(request, fields=(*kept, *(fields or ())))

    def request(self, response: Response) -> Request:
        """Give the last request of a chain of redirects."""
        return response.request

    def status(self, response: Response) -> int:
        """Give it."""
        return response.status

    def fields(self, response: Response) -> FieldValues:
        """Look them up."""
        return fields_of(response.fields)

    def head(self, response: Response) -> bytes:
        """Read the body's beginning."""
        self.story.append("head")
        return response.body

    def again(self, response: Response) -> Request:
        """Release the connection."""
        self.story.append("again")
        return response.request

    def attach(self, response: Response, report: Report) -> None:
        """Put the report on the response."""
        self.story.append("attach")
        response.report = report

    def priming(self, request: Request, method: str, path: str) -> Request:
        """Make a request to the same origin."""
        if self.fails_to_prime:
            raise ValueError("the library cannot make it")
        scheme, _, rest = request.url.partition("://")
        return Request(method, f"{scheme}://{rest.partition('/')[0]}{path}")

    def release(self, response: Response, *, keep_cookies: bool) -> None:
        """Let go of a response to priming."""
        self.story.append("release, keep cookies" if keep_cookies else "release")
        if self.fails_to_release:
            raise OSError("the connection is gone")


@dataclass
class Call:
    """One call of a client library.

    Args:
        client: The settings, the cache and the clock.
        primes: Whether the library lets an auth object prime.
    """

    client: Client
    primes: bool = False
    pauses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages = Messages(self.client.story)
        primer = self.messages if self.primes else None
        self.flow: Flow[Request, Response] = Flow(self.client.settings(), self.messages, primer)
        self.last: Response | None = None
        """The response that was answered last."""

    def start(self, method: str, url: str, **options: Any) -> Request:
        """Begin a call; give the request that goes out."""
        sent: Request = self.perform(self.flow.start(Request(method, url, **options)))
        return sent

    def answer(self, request: Request, status: int, *fields: tuple[str, str], reason: str = "") -> Any:
        """Answer a request; give what goes out then, None when the response is the caller's."""
        body = f'{{"reason": "{reason}"}}'.encode() if reason else b""
        self.last = Response(request, status, fields, body)
        return self.perform(self.flow.on_response(self.last))

    def redirect(self, request: Request, *fields: tuple[str, str]) -> None:
        """Answer a request with a redirect that the library follows by itself."""
        self.perform(self.flow.on_redirect(Response(request, 302, fields)))

    def perform(self, steps: Steps[Any]) -> Any:
        """Perform steps; a pause takes no time but the clock's."""

        def done(step: Step) -> object:
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.client.story.append("pause")
                self.client.clock.now += step.seconds
                return None
            return do(step)

        return perform(steps, done)


def asked(challenge: Challenge, *nonces: NextNonce) -> list[tuple[str, str]]:
    """Write a challenge and next nonces as header fields."""
    return [("WWW-Authenticate", write_challenge(challenge)), *written(*nonces)]
