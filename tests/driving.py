"""Drive the core's generators by hand: the client's and the server's steps, performed in memory."""

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from tuned_digest import Ed25519Signer, MemoryNonceCache, Origin, TunedDigestError, Tuning, proof
from tuned_digest._steps import Step
from tuned_digest.bodies import BytesBody
from tuned_digest.canonical import body_digest
from tuned_digest.errors import RequestRejectedError
from tuned_digest.exchange import (
    Digest,
    Estimate,
    Exchange,
    Prove,
    Remember,
    ResponseFields,
    Settings,
    Sign,
    Spend,
    Take,
    Target,
)
from tuned_digest.server import Caller, IncomingRequest, MemoryNonceStore, Policy, Verifier
from tuned_digest.server.verifier import (
    Classify,
    Fields,
    FindAccount,
    PutGrant,
    ReadBody,
    TakeGrant,
    VerifyProof,
)

T = TypeVar("T")
Steps = Generator[Step[object], object, T]

ORIGIN = Origin("https", "api.example.com", 443)
ACCESS = Tuning("argon2d", 8, 1, 1)
CREATE = Tuning("argon2d", 16, 1, 1)


def quick_policy(**options: Any) -> Policy:
    """Price as deployed servers do, cheap enough for tests."""
    return Policy(**{"access": ACCESS, "create": CREATE, **options})


def result_of(answer: object) -> object:
    """Run a coroutine that waits for nothing to its end; hand back anything else as it is."""
    if not isinstance(answer, Awaitable):
        return answer
    try:
        next(answer.__await__())
    except StopIteration as stop:
        return cast("object", stop.value)
    raise AssertionError("it waits for something")


def perform(steps: Steps[T], answer: Callable[[Step[object]], object]) -> T:
    """Answer the steps of a generator until it returns."""
    try:
        step = next(steps)
        while True:
            try:
                given = answer(step)
            except TunedDigestError as error:
                step = steps.throw(error)
            else:
                step = steps.send(given)
    except StopIteration as stop:
        return cast("T", stop.value)


def fields_of(fields: Sequence[tuple[str, str]]) -> ResponseFields:
    """Look header fields up as an adapter does."""
    return lambda name: [value for key, value in fields if key.lower() == name.lower()]


@dataclass
class Client:
    """The client's core: settings, a key and a cache."""

    signer: Ed25519Signer = field(default_factory=Ed25519Signer.generate)
    cache: MemoryNonceCache = field(default_factory=MemoryNonceCache)
    options: dict[str, Any] = field(default_factory=dict)
    steps: list[Step[object]] = field(default_factory=list)

    def exchange(self, method: str, path: str, body: bytes = b"") -> Exchange:
        """Begin an exchange."""
        settings = Settings(public_key=self.signer.public_key, **self.options)
        return Exchange(Target(method, ORIGIN, path), BytesBody(body), settings)

    def answer(self, step: Step[object]) -> object:
        """Perform one step and note it."""
        self.steps.append(step)
        match step:
            case Digest():
                return step.body.digest()
            case Take():
                return self.cache.take(step.origin, step.action)
            case Spend():
                return self.cache.spend(step.origin, step.nonce)
            case Remember():
                self.cache.remember(step.origin, step.nonces)
                return None
            case Estimate():
                return 1.5
            case Prove():
                return proof.prove(step.request_string, step.work, nonce=step.nonce, salt=step.salt)
            case Sign():
                return self.signer.sign(step.message)
        raise AssertionError(step)


@dataclass
class Server:
    """The server's core: a verifier and what its steps mean."""

    verifier: Verifier = field(default_factory=lambda: Verifier(MemoryNonceStore(), policy=quick_policy()))
    limit: int = 1024
    steps: list[Step[object]] = field(default_factory=list)

    def verify(self, method: str, path: str, authorization: Sequence[str], body: bytes = b"") -> Caller:
        """Verify one request."""
        return perform(
            self.verifier.verify(IncomingRequest(method, path, authorization)), self._answering(body)
        )

    def refusal(
        self, method: str, path: str, authorization: Sequence[str], body: bytes = b""
    ) -> RequestRejectedError:
        """Verify one request that is to be refused."""
        try:
            caller = self.verify(method, path, authorization, body)
        except RequestRejectedError as rejection:
            return rejection
        raise AssertionError(f"{caller} was let through")

    def grant_next(self, status: int = 200, cache_control: str = "") -> Fields:
        """Grant next nonces with a response."""
        return perform(self.verifier.grant_next(status, cache_control), self._answering(b""))

    def _answering(self, body: bytes) -> Callable[[Step[object]], object]:
        def answer(step: Step[object]) -> object:
            self.steps.append(step)
            verifier = self.verifier
            match step:
                case Classify():
                    return result_of(verifier.policy.action(step.method, step.path))
                case TakeGrant():
                    return result_of(verifier.store.take(step.nonce))
                case PutGrant():
                    return result_of(verifier.store.put(step.nonce, step.grant))
                case FindAccount():
                    return result_of(verifier.accounts(step.identity)) if verifier.accounts else None
                case ReadBody():
                    return None if len(body) > self.limit else body_digest(body)
                case VerifyProof():
                    proof.verify(step.request_string, step.work, step.response, nonce=step.nonce)
                    return None
            raise AssertionError(step)

        return answer


def send(
    client: Client, server: Server, method: str, path: str, body: bytes = b""
) -> tuple[list[int], Caller]:
    """Take one request all the way; give the statuses it met and who the server says called."""
    exchange = client.exchange(method, path, body)
    value = perform(exchange.authorize(), client.answer)
    statuses: list[int] = []
    while True:
        try:
            caller = server.verify(method, path.partition("?")[0], [value] if value else [], body)
        except RequestRejectedError as rejection:
            statuses.append(rejection.status)
            reason = str(rejection) if exchange.wants_reason else ""
            received = exchange.receive(rejection.status, fields_of(rejection.fields), reason)
            if received.challenge is None:
                raise
            value = perform(exchange.authorize(received.challenge), client.answer)
            continue
        received = exchange.receive(200, fields_of(server.grant_next()))
        client.cache.remember(ORIGIN, received.nonces)
        return [*statuses, 200], caller
