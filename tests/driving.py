"""Drive the core's generators by hand: the client's and the server's steps, performed in memory.

A step does not say what it is for. What a client or a server did is noted where it is done: in the body, the
cache, the key, the store, the accounts and the policy (see `story`).
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from blake3 import blake3

from tuned_digest import Ed25519Signer, Limits, MemoryNonceCache, NextNonce, Origin, Resources, Tuning, Work
from tuned_digest._client.bodies import BytesBody, Hasher
from tuned_digest._client.exchange import Exchange, Fields, Target
from tuned_digest._client.records import Records
from tuned_digest._client.settings import Budget, Settings, guess_action
from tuned_digest._runtime.steps import Here, Step, Steps
from tuned_digest._wire.origins import ServedOrigins
from tuned_digest._wire.profiles import PROFILES
from tuned_digest._wire.request import FieldValues, split_target
from tuned_digest.errors import RequestRejectedError
from tuned_digest.server import Caller, IncomingRequest, MemoryNonceStore, Policy, Verifier
from tuned_digest.server.grants import Grant
from tuned_digest.server.refusals import Fields as ResponseFields
from tuned_digest.server.refusals import refused

from .clock import Clock

T = TypeVar("T")

ORIGIN = Origin("https", "api.example.com", 443)
ACCESS = Tuning("argon2d", 8, 1, 1)
CREATE = Tuning("argon2d", 16, 1, 1)


def quick_policy(**options: Any) -> Policy:
    """Price as deployed servers do, a search of one bit included, cheap enough for tests."""
    return Policy(**{"access": ACCESS, "create": CREATE, "access_cost": 1, "create_cost": 1, **options})


def result_of(answer: object) -> object:
    """Run a coroutine that waits for nothing to its end; hand back anything else as it is."""
    if not isinstance(answer, Awaitable):
        return answer
    try:
        next(answer.__await__())
    except StopIteration as stop:
        return cast("object", stop.value)
    raise AssertionError("it waits for something")


def do(step: Step) -> object:
    """Perform one step; a function that is called here may be async, if it waits for nothing."""
    return result_of(step.awaited()) if isinstance(step, Here) else step.blocking()


def perform(steps: Steps[T], answer: Callable[[Step], object] = do) -> T:
    """Answer the steps of a generator until it returns."""
    try:
        step = next(steps)
        while True:
            try:
                given = answer(step)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(given)
    except StopIteration as stop:
        return cast("T", stop.value)


def fields_of(fields: Sequence[tuple[str, str]]) -> FieldValues:
    """Look header fields up as a leaf does."""
    return lambda name, /: [value for key, value in fields if key.lower() == name.lower()]


def authorization_of(fields: Fields | None) -> list[str]:
    """Give the Authorization fields among those that an exchange ends in: none where it ends in None."""
    return list(fields_of(fields or ())("Authorization"))


class NotedBody(BytesBody):
    """Hold a body, and note when it is digested."""

    def __init__(self, content: bytes, note: Callable[[str], None]) -> None:
        super().__init__(content)
        self._note = note

    def digested(self, hasher: Hasher = blake3) -> bytes | Step:
        """Note it, and digest."""
        self._note("digest")
        return super().digested(hasher)


@dataclass
class _NotedCache:
    cache: MemoryNonceCache
    note: Callable[[str], None]

    def remember(self, origin: Origin, nonces: Iterable[NextNonce]) -> None:
        self.note("remember")
        self.cache.remember(origin, nonces)

    def take(self, origin: Origin, action: str) -> NextNonce | None:
        self.note(f"take {action}")
        return self.cache.take(origin, action)

    def spend(self, origin: Origin, nonce: str) -> bool:
        self.note("spend")
        return self.cache.spend(origin, nonce)


@dataclass
class _NotedSigner:
    signer: Ed25519Signer
    note: Callable[[str], None]

    @property
    def public_key(self) -> bytes:
        return self.signer.public_key

    def sign(self, message: bytes) -> bytes:
        self.note("sign")
        return self.signer.sign(message)


@dataclass
class Client:
    """The client's core: settings, a key and a cache.

    Args:
        options: Settings that differ from those of an auth object that was told nothing.
        story: What was done, in order: ``digest``, ``take`` with its action, ``spend``, ``prove`` (it draws
            a salt), ``sign``, ``remember``.
        steps: The steps that `answer` performed.
    """

    signer: Ed25519Signer = field(default_factory=Ed25519Signer.generate)
    cache: MemoryNonceCache = field(default_factory=MemoryNonceCache)
    options: dict[str, Any] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    records: Records = field(default_factory=Records)
    clock: Clock = field(default_factory=Clock)

    def settings(self) -> Settings:
        """Make the settings of an auth object, its cache, key and randomness noting what they are asked."""

        def draw(size: int) -> bytes:
            self.story.append("prove")
            return self.clock.draw(size)

        defaults: dict[str, Any] = {
            "origins": ServedOrigins(str(ORIGIN), allow_http=False),
            "signer": _NotedSigner(self.signer, self.story.append),
            "records": self.records,
            "nonces": _NotedCache(self.cache, self.story.append),
            "limits": Limits(),
            "resources": Resources(),
            "schemes": None,
            "action": guess_action,
            "signed_path": None,
            "on_event": None,
            "randomness": draw,
            "clock": self.clock,
            "profiles": PROFILES,
        }
        return Settings(**{**defaults, **self.options})

    def exchange(self, method: str, path: str, body: bytes = b"", *, sent: str = "") -> Exchange:
        """Begin an exchange, as a call of its own does."""
        settings = self.settings()
        target = Target(method, ORIGIN, *split_target(path))
        budget = Budget(settings.resources.work_timeout)
        return Exchange(target, NotedBody(body, self.story.append), fields_of(()), settings, budget, sent)

    def answer(self, step: Step) -> object:
        """Perform one step and note it."""
        self.steps.append(step)
        return do(step)


class _NotedStore:
    blocks = False

    def __init__(self, store: Any, note: Callable[[str], None]) -> None:
        self._store = store
        self._note = note
        self.holds = getattr(store, "holds", True)

    def issue(self, *grants: Grant) -> Sequence[str]:
        self._note("issue")
        return cast("Sequence[str]", self._store.issue(*grants))

    def take(self, nonce: str) -> Grant | None:
        self._note("take")
        return cast("Grant | None", self._store.take(nonce))


class _NotedPolicy(Policy):
    def __init__(self, policy: Policy, note: Callable[[str], None]) -> None:
        self._inner = policy
        self._note = note

    def select(self, path: str | None, identity: str | None, account: object) -> Policy:
        return self._inner.select(path, identity, account)

    def demanded(self, work: Work, *, is_known: bool = True) -> None:
        self._inner.demanded(work, is_known=is_known)

    def checked(self, work: Work, seconds: float, *, is_known: bool = True) -> None:
        self._inner.checked(work, seconds, is_known=is_known)

    def failed(self, work: Work, *, is_known: bool = True) -> None:
        self._inner.failed(work, is_known=is_known)

    def action(self, method: str, path: str) -> str | Awaitable[str]:
        self._note("classify")
        return self._inner.action(method, path)

    def priced_as(self, method: str, action: str) -> str:
        return self._inner.priced_as(method, action)

    def challenged_for(self, method: str, action: str) -> frozenset[str]:
        return self._inner.challenged_for(method, action)


class Server:
    """The server's core: a verifier, and what it is asked.

    Args:
        store: Where nonces are kept; the tests' own way to issue one and to see whether it is still held.
        limit: The largest body taken, bytes.
        options: What else the verifier is told; the policy is `quick_policy` unless it is given.
    """

    def __init__(self, store: Any = None, *, limit: int = 1024, **options: Any) -> None:
        self.story: list[str] = []
        """What was done, in order: ``account``, ``take``, ``classify``, ``read`` the body, ``issue``."""
        self.steps: list[Step] = []
        self.store = MemoryNonceStore() if store is None else store
        self.limit = limit
        accounts = options.pop("accounts", None)

        def find(identity: str) -> object:
            self.story.append("account")
            return accounts(identity)

        policy = _NotedPolicy(options.pop("policy", None) or quick_policy(), self.story.append)
        self.verifier = Verifier(
            _NotedStore(self.store, self.story.append),
            policy=policy,
            accounts=find if accounts else None,
            **options,
        )

    def verify(
        self,
        method: str,
        path: str,
        authorization: Sequence[str],
        body: bytes = b"",
        *,
        fields: Sequence[tuple[str, str]] = (),
    ) -> Caller:
        """Verify one request; a query may follow its path."""

        def read() -> bytes:
            self.story.append("read")
            if len(body) > self.limit:
                raise refused(413, "the body is larger than this server takes", "body too large")
            return blake3(body).digest()

        path, _, query = path.partition("?")
        lines = [("Host", ORIGIN.authority), *fields, *(("Authorization", value) for value in authorization)]
        return perform(self.verifier.verify(IncomingRequest(method, path, query, lines), read), self.answer)

    def refusal(
        self, method: str, path: str, authorization: Sequence[str], body: bytes = b""
    ) -> RequestRejectedError:
        """Verify one request that is to be refused."""
        try:
            caller = self.verify(method, path, authorization, body)
        except RequestRejectedError as rejection:
            return rejection
        raise AssertionError(f"{caller} was let through")

    def grant_next(
        self, status: int = 200, cache_control: str = "", *, fields: Sequence[tuple[str, str]] = ()
    ) -> ResponseFields:
        """Grant next nonces with a response."""
        lines = [("Cache-Control", cache_control), *fields] if cache_control else fields
        caller = Caller("A" * 43, None, "read")
        return perform(self.verifier.grant_next(caller, status, fields_of(lines)), self.answer)

    def answer(self, step: Step) -> object:
        """Perform one step and note it."""
        self.steps.append(step)
        return do(step)


def send(
    client: Client, server: Server, method: str, path: str, body: bytes = b""
) -> tuple[list[int], Caller]:
    """Take one request all the way; give the statuses it met and who the server says called."""
    exchange = client.exchange(method, path, body)
    fields = perform(exchange.authorize(), client.answer)
    statuses: list[int] = []
    while True:
        try:
            caller = server.verify(method, path, authorization_of(fields), body)
        except RequestRejectedError as rejection:
            statuses.append(rejection.status)
            reason = str(rejection) if exchange.was_sent else ""
            received = exchange.receive(rejection.status, fields_of(rejection.fields), reason)
            if received.problem is not None:
                raise received.problem from None
            if received.challenge is None:
                raise
            fields = perform(exchange.authorize(received.challenge), client.answer)
            continue
        received = exchange.receive(200, fields_of(server.grant_next()))
        client.cache.remember(ORIGIN, received.nonces)
        return [*statuses, 200], caller
