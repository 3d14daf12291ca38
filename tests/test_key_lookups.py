"""How verifiers of both schemes use a key registry: one read a request, and a note of use once a minute."""

import logging
import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest
from blake3 import blake3

from tuned_digest import ArgumentError, Ed25519Signer
from tuned_digest._runtime.drivers import run_anyio, run_blocking
from tuned_digest.errors import RequestRejectedError, StoreUnavailableError
from tuned_digest.keys import PublicKey
from tuned_digest.server import (
    EnrolledKey,
    IncomingRequest,
    MemoryKeyRegistry,
    MemoryNonceStore,
    TokenVerifier,
    Verifier,
    effects,
)
from tuned_digest.server.accounts import lookups
from tuned_digest.server.accounts.lookups import KeyLookups

from .driving import Client, Server, perform, quick_policy, send
from .tokens import AUDIENCE, NOW, CountedRegistry, Holder, TokenServer, new_clock
from .verifying import is_held, issued, written


class Broken(CountedRegistry):
    """A registry that cannot do its part."""

    reads: Exception | None = None
    writes: Exception | None = None

    def find(self, thumbprint: str, /) -> EnrolledKey | None:
        """Fail, or find a key."""
        found = super().find(thumbprint)
        if self.reads is not None:
            raise self.reads
        return found

    def note_use(self, thumbprint: str, now: float, /) -> None:
        """Fail, or note a use."""
        super().note_use(thumbprint, now)
        if self.writes is not None:
            raise self.writes


def enrolled(signer: Ed25519Signer, account: str = "acme-42") -> EnrolledKey:
    """Make the row of a key of the challenge scheme."""
    key = PublicKey.of(signer)
    return EnrolledKey(key.thumbprint, account, key.jwk, "laptop", NOW)


class _Server(Server):
    """A verifier of the challenge scheme over a registry."""

    def __init__(self, registry: Any, clock: Any, **options: Any) -> None:
        super().__init__()
        policy = quick_policy()
        self.verifier = Verifier(self.store, policy=policy, accounts=registry, _clock=clock, **options)


class TestChallenges:
    """`Verifier(accounts=registry)`."""

    @pytest.fixture
    def registry(self) -> Broken:
        """A registry without keys."""
        return Broken()

    @pytest.fixture
    def client(self) -> Client:
        """Somebody who has a key."""
        return Client()

    @pytest.fixture
    def to(self, registry: Broken) -> _Server:
        """A server that asks that registry."""
        return _Server(registry, new_clock())

    def test_an_enrolled_key_calls(self, registry: Broken, client: Client, to: _Server) -> None:
        """An identity is found by its thumbprint, in one read, and its use is noted once it is accepted."""
        registry.enrol(enrolled(client.signer), what="key added", by="operator")
        statuses, caller = send(client, to, "GET", "/a")
        assert (statuses, caller.account, caller.identity) == ([401, 200], "acme-42", client.signer.identity)
        assert caller.scheme == "tuned-digest-signature"
        assert registry.story == ["find", "note"]
        assert send(client, to, "GET", "/a")[0] == [200]
        assert registry.story == ["find", "note", "find"]

    def test_an_unknown_key(self, registry: Broken, client: Client, to: _Server) -> None:
        """An identity that is not enrolled is unknown, and its nonce is burned."""
        nonce = issued(to)
        assert str(to.refusal("GET", "/a", [written(nonce)]).reason) == "unknown identity"
        assert not is_held(to, nonce)
        assert registry.story == ["find"]

    def test_a_revoked_key(self, registry: Broken, client: Client, to: _Server) -> None:
        """A revoked key is as one that was never enrolled, from the next request on."""
        key = enrolled(client.signer)
        registry.enrol(key, what="key added", by="operator")
        assert send(client, to, "GET", "/a")[0] == [401, 200]
        registry.revoke(key.thumbprint, account=key.account, now=NOW, by="operator")
        refusal = to.refusal("GET", "/a", [written(issued(to), signer=client.signer)])
        assert (refusal.status, refusal.reason) == (401, "unknown identity")

    @pytest.mark.parametrize("strangers", [False, True])
    @pytest.mark.parametrize("is_revoked", [False, True])
    def test_a_key_that_is_revoked_while_a_body_comes(
        self, registry: Broken, client: Client, *, is_revoked: bool, strangers: bool
    ) -> None:
        """A key is looked up once more where body and work took long: one revoked meanwhile is unknown."""
        clock, key = new_clock(), enrolled(client.signer)
        to = _Server(registry, clock, admit_strangers=strangers)
        registry.enrol(key, what="key added", by="operator")

        def read() -> bytes:
            clock.now += 2
            if is_revoked:
                registry.revoke(key.thumbprint, account=key.account, now=clock.now, by="operator")
            return blake3(b"").digest()

        fields = [("Authorization", written(issued(to), signer=client.signer))]
        steps = to.verifier.verify(IncomingRequest("GET", "/a", "", fields), read)
        if is_revoked:
            with pytest.raises(RequestRejectedError, match="unknown identity"):
                perform(steps)
            assert registry.story == ["find", "find"]
        else:
            assert perform(steps).account == "acme-42"
            assert registry.story == ["find", "find", "note"]

    def test_strangers(self, registry: Broken, client: Client) -> None:
        """Where strangers are admitted, an identity that is not enrolled calls without an account."""
        to = _Server(registry, new_clock(), admit_strangers=True)
        assert send(client, to, "GET", "/a")[1].account is None
        assert registry.story == ["find"]

    def test_a_registry_that_is_away(
        self, registry: Broken, client: Client, to: _Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A registry that cannot answer is 503; the log says so once, and when it is over."""
        registry.enrol(enrolled(client.signer), what="key added", by="operator")
        registry.reads = StoreUnavailableError("cannot reach keys.example:5432", retry_after=2.5)
        for _ in range(2):
            refusal = to.refusal("GET", "/a", [written(issued(to), signer=client.signer)])
            assert (refusal.status, dict(refusal.fields)["Retry-After"]) == (503, "3")
            assert b"keys.example" not in refusal.body
        registry.reads = None
        to.verify("GET", "/a", [written(issued(to), signer=client.signer)])
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
        assert "the key registry works again" in caplog.text

    def test_starting(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        """The registry is asked when the application starts, and one that is away now is logged."""

        class Registry(CountedRegistry):
            def start(self) -> None:
                raise StoreUnavailableError("no registry")

        perform(Verifier(MemoryNonceStore(), accounts=Registry()).start())
        assert "no registry" in caplog.text

    @pytest.mark.parametrize("accounts", [MemoryKeyRegistry, {}, 5])
    def test_bad_arguments(self, accounts: Any) -> None:
        """What is neither a registry nor a function is said at once."""
        with pytest.raises(ArgumentError, match=r"is a KeyRegistry"):
            Verifier(MemoryNonceStore(), accounts=accounts)


class TestNotes:
    @pytest.fixture
    def holder(self) -> Holder:
        """Somebody whose key is enrolled."""
        return Holder()

    def served(self, server: TokenServer, holder: Holder, seconds: float) -> list[str]:
        """Serve a request some seconds later, and give what the registry was asked."""
        server.clock.now += seconds
        server.story.clear()
        number = str(len(server.store.spent))
        server.verify("GET", "/a", holder.authorization(now=server.clock.now, jti=number))
        return [one for one in server.story if one in ("find", "note")]

    def test_once_a_minute(self, holder: Holder) -> None:
        """A use is noted when none was, and again when the note is a minute old."""
        server = TokenServer(holder)
        noted = [self.served(server, holder, seconds) for seconds in (0, 30, 29, 1, 59, 1)]
        assert noted == [
            ["find", "note"],
            ["find"],
            ["find"],
            ["find", "note"],
            ["find"],
            ["find", "note"],
        ]
        assert server.registry.keys()[0].last_used == NOW + 120

    def test_what_another_process_noted(self, holder: Holder) -> None:
        """A use that is noted in the row is not noted again."""
        server = TokenServer(holder)
        server.registry.note_use(holder.public.thumbprint, NOW - 1)
        assert self.served(server, holder, 0) == ["find"]
        assert self.served(server, holder, 59) == ["find", "note"]

    @pytest.mark.parametrize("problem", [StoreUnavailableError("full"), RuntimeError("broken")])
    def test_a_note_that_fails(
        self, holder: Holder, problem: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A note that fails is logged and no request's failure; none is tried for a minute, of any key."""
        other = Holder()
        registry = Broken(holder, other)
        registry.writes = problem
        server = TokenServer(registry=registry)
        server.story = registry.story
        assert self.served(server, holder, 0) == ["find", "note"]
        assert self.served(server, other, 59) == ["find"]
        assert self.served(server, other, 1) == ["find", "note"]
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]

    def test_few_are_remembered(self, holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
        """What this process has noted is kept within bounds."""
        monkeypatch.setattr(lookups, "_MOST_NOTED", 2)
        registry = CountedRegistry()
        keys = KeyLookups(registry)
        for number in range(5):
            perform(keys.note_use(EnrolledKey(str(number), "acme-42", "{}", "", NOW), NOW))
        assert len(keys._noted) == 1
        assert registry.story == ["note"] * 5


class Blocking(MemoryKeyRegistry):
    """A registry that says nothing about blocking, as one over a database does."""

    def __init__(self, holder: Holder) -> None:
        super().__init__()
        self.threads: list[int] = []
        self.enrol(holder.enrolled, what="key added", by="operator")

    blocks = True

    def find(self, thumbprint: str, /) -> EnrolledKey | None:
        """Find a key."""
        self.threads.append(threading.get_ident())
        return super().find(thumbprint)

    def note_use(self, thumbprint: str, now: float, /) -> None:
        """Note a use."""
        self.threads.append(threading.get_ident())


class TestThreads:
    def verify(self, registry: Any, holder: Holder) -> Any:
        """Begin to verify a request."""
        verifier = TokenVerifier(registry, AUDIENCE, single_use=None, _clock=lambda: NOW)
        request = IncomingRequest("GET", "/a", "", [("Authorization", holder.authorization())])
        return verifier.verify(request, lambda: verifier.new_digest(b"").digest())

    def test_a_registry_that_may_block(self) -> None:
        """It is read and written in threads, never on the event loop."""
        holder = Holder()
        registry = Blocking(holder)
        assert anyio.run(run_anyio, self.verify(registry, holder)).account == "acme-42"
        assert len(registry.threads) == 2
        assert threading.get_ident() not in registry.threads

    def test_a_server_that_blocks(self) -> None:
        """A server that has a thread for each request reads it there."""
        holder = Holder()
        registry = Blocking(holder)
        assert run_blocking(self.verify(registry, holder)).account == "acme-42"
        assert registry.threads == [threading.get_ident()] * 2

    def test_a_registry_that_does_not(self) -> None:
        """One that says that it does not block is read on the event loop."""
        holder = Holder()
        registry = Blocking(holder)
        registry.blocks = False
        assert anyio.run(run_anyio, self.verify(registry, holder)).account == "acme-42"
        assert registry.threads == [threading.get_ident()] * 2

    def test_a_registry_that_hangs_is_waited_for_by_few(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A read that finds all places taken is refused after a while, and takes no thread of others."""
        monkeypatch.setattr(effects, "_REGISTRY_THREADS", 1)
        monkeypatch.setattr(effects, "_STORE_PATIENCE", 0.01)
        holder = Holder()
        hangs, released = threading.Event(), threading.Event()

        class Hanging(Blocking):
            def find(self, thumbprint: str, /) -> EnrolledKey | None:
                hangs.set()
                assert released.wait(30)
                return super().find(thumbprint)

        registry = Hanging(holder)
        answers: list[object] = []

        async def ask() -> None:
            try:
                answers.append(await run_anyio(self.verify(registry, holder)))
            except RequestRejectedError as rejection:
                answers.append(rejection.status)

        async def ask_twice() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await anyio.to_thread.run_sync(hangs.wait)
                await ask()
                assert answers == [503]
                released.set()

        with caplog.at_level(logging.ERROR):
            anyio.run(ask_twice)
        assert "no place at the key registry was free" in caplog.text
        assert len(answers) == 2
