"""One auth object between threads, tasks, event loops, forks and copies; one signature for all who wait."""

import copy
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from tuned_digest import Ed25519Signer, Origin
from tuned_digest._client import token_settings
from tuned_digest.httpx import SelfSignedTokenAuth

from .clients import ASYNC
from .test_forks import forked
from .together import at_once
from .token_serving import ACCOUNT, auth_of, claims_of, every_client, serving_tokens, signed_in

REUSED: dict[str, Any] = {"bind": False, "reuse": True}

LAX: dict[str, Any] = {"is_bound": False, "is_single_use": False}

every_async_client = pytest.mark.parametrize("name", ASYNC)


class OwnError(Exception):
    """What a caller's own signer raises."""


class HeldSigner:
    """A signer that is slow: it signs when it is let go, and counts.

    Args:
        failures: How many of its first calls fail.
    """

    def __init__(self, failures: int = 0) -> None:
        self._key = Ed25519Signer.generate()
        self._failures = failures
        self._lock = threading.Lock()
        self.public_key = self._key.public_key
        self.calls = 0
        self.go = threading.Event()

    def _counted(self) -> None:
        with self._lock:
            self.calls += 1
            if self.calls <= self._failures:
                raise OwnError

    def sign(self, message: bytes, /) -> bytes:
        """Wait, and sign."""
        assert self.go.wait(30)
        self._counted()
        return self._key.sign(message)


class AwaitedSigner(HeldSigner):
    """The same, by awaiting."""

    async def sign(self, message: bytes, /) -> bytes:  # type: ignore[override]
        """Wait, and sign."""
        while not self.go.is_set():
            await anyio.lowlevel.checkpoint()
        self._counted()
        return self._key.sign(message)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[[HeldSigner, int], None]:
    """Let a signer go once so many callers wait for it; none of them ever gives up."""

    def releasing(signer: HeldSigner, count: int) -> None:
        lock, waiting = threading.Lock(), [0]

        def note() -> None:
            with lock:
                waiting[0] += 1
                if waiting[0] == count:
                    signer.go.set()

        settled, asettled = token_settings._settled, token_settings._asettled

        def noting(other: Any, patience: float) -> float:
            note()
            return settled(other, patience)

        async def anoting(other: Any, patience: float) -> float:
            note()
            return await asettled(other, patience)

        monkeypatch.setattr(token_settings, "_settled", noting)
        monkeypatch.setattr(token_settings, "_asettled", anoting)
        monkeypatch.setattr(token_settings, "_PATIENCE", 600.0)

    return releasing


def in_threads(auth: Any, url: str, count: int) -> list[Any]:
    """Send from so many threads at once; give each status or error."""
    with httpx.Client(timeout=60, limits=httpx.Limits(max_connections=200)) as client:

        def send() -> Any:
            try:
                return client.get(url, auth=auth).status_code
            except OwnError as error:
                return type(error)

        return at_once(*[send] * count)


def in_tasks(auth: Any, url: str, count: int, backend: str = "asyncio") -> list[Any]:
    """Send from so many tasks at once; give each status or error."""
    results: list[Any] = []

    async def send(client: httpx.AsyncClient) -> None:
        try:
            results.append((await client.get(url, auth=auth)).status_code)
        except OwnError as error:
            results.append(type(error))

    async def run() -> None:
        async with httpx.AsyncClient(timeout=60) as client, anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(send, client)

    anyio.run(run, backend=backend)
    return results


def mixed(auth: Any, url: str, count: int) -> list[Any]:
    """Send from threads, and from tasks of three event loops."""
    quarter = count // 4
    parts = at_once(
        functools.partial(in_threads, auth, url, quarter),
        functools.partial(in_tasks, auth, url, quarter),
        functools.partial(in_tasks, auth, url, quarter, "trio"),
        functools.partial(in_tasks, auth, url, quarter, "trio"),
    )
    return [result for part in parts for result in part]


CROWDS: dict[str, Callable[[Any, str, int], list[Any]]] = {
    "threads": in_threads,
    "asyncio": in_tasks,
    "trio": functools.partial(in_tasks, backend="trio"),
    "mixed": mixed,
}

every_crowd = pytest.mark.parametrize("crowd", CROWDS.values(), ids=list(CROWDS))


class TestOneSignatureForAll:
    @every_crowd
    def test_100_callers_wait_for_one_signature(
        self,
        crowd: Callable[[Any, str, int], list[Any]],
        release: Callable[[HeldSigner, int], None],
    ) -> None:
        """A slow signer is asked once, and its token sent by all."""
        signer = HeldSigner()
        release(signer, 99)
        with serving_tokens(signer, **LAX) as (_, served):
            auth = SelfSignedTokenAuth(served.url, signer, account=ACCOUNT, **REUSED)
            assert crowd(auth, served.url, 100) == [200] * 100
        assert signer.calls == 1
        assert len({seen.field("Authorization")[0] for seen in served.requests}) == 1

    @every_crowd
    @pytest.mark.parametrize("failures", [3, 100])
    def test_a_failing_signer_fails_for_those_who_asked_it(
        self,
        crowd: Callable[[Any, str, int], list[Any]],
        failures: int,
        release: Callable[[HeldSigner, int], None],
    ) -> None:
        """Each failure is one caller's, another tries in its place, and where one succeeds all go on."""
        signer = HeldSigner(failures)
        release(signer, 99)
        with serving_tokens(signer, **LAX) as (_, served):
            auth = SelfSignedTokenAuth(served.url, signer, account=ACCOUNT, **REUSED)
            results = crowd(auth, served.url, 100)
        assert sorted(results, key=str) == [200] * (100 - failures) + [OwnError] * failures
        assert signer.calls == min(100, failures + 1)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    @pytest.mark.parametrize("kind", [HeldSigner, AwaitedSigner])
    def test_one_that_is_cancelled_holds_up_nobody(
        self, backend: str, kind: type[HeldSigner], release: Callable[[HeldSigner, int], None]
    ) -> None:
        """The task that signs is cancelled while nine wait: one of them signs, and all go on."""
        signer = kind()
        waiting = HeldSigner()
        release(waiting, 9)
        statuses: list[int] = []

        async def run() -> None:
            async with httpx.AsyncClient(timeout=60) as client, anyio.create_task_group() as tasks:

                async def send() -> None:
                    statuses.append((await client.get(served.url, auth=auth)).status_code)

                async def first() -> None:
                    with scope:
                        await client.get(served.url, auth=auth)

                scope = anyio.CancelScope()
                tasks.start_soon(first)
                while not auth._settings._signing.get():
                    await anyio.lowlevel.checkpoint()
                for _ in range(9):
                    tasks.start_soon(send)
                while not waiting.go.is_set():
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
                if kind is HeldSigner:  # a thread cannot be interrupted
                    signer.go.set()
                await anyio.lowlevel.checkpoint()
                signer.go.set()

        with serving_tokens(signer, **LAX) as (_, served):
            auth = SelfSignedTokenAuth(served.url, signer, account=ACCOUNT, **REUSED)
            anyio.run(run, backend=backend)
        assert statuses == [200] * 9
        assert auth._settings._signing.get() == {}

    def test_nobody_waits_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Beside a signer that hangs, another call waits so long and then asks it itself."""
        monkeypatch.setattr(token_settings, "_PATIENCE", 0.01)
        hanging, signer = threading.Event(), HeldSigner()
        original = signer.sign

        def sign(message: bytes) -> bytes:
            if not hanging.is_set():
                hanging.set()
                assert ended.wait(30)
            signer.go.set()
            return original(message)

        signer.sign = sign  # type: ignore[method-assign]
        ended = threading.Event()
        with serving_tokens(signer, **LAX) as (_, served):
            auth = SelfSignedTokenAuth(served.url, signer, account=ACCOUNT, **REUSED)

            def first() -> list[Any]:
                return in_threads(auth, served.url, 1)

            def second() -> list[Any]:
                assert hanging.wait(30)
                try:
                    return [*in_threads(auth, served.url, 2), *in_tasks(auth, served.url, 2)]
                finally:
                    ended.set()

            assert at_once(first, second) == [[200], [200] * 4]


class TestReuse:
    @every_client
    def test_a_token_is_renewed_10_seconds_before_its_end(self, name: str, signer: Ed25519Signer) -> None:
        """A kept token is sent for 50 of its 60 seconds."""
        now = [1_000_000.0]
        with (
            serving_tokens(signer, clock=lambda: now[0], **LAX) as (server, served),
            signed_in(name, served.url, signer, _clock=lambda: now[0], **REUSED) as client,
        ):
            for moment in (0, 30, 49.9, 50, 99.9, 100):
                now[0] = 1_000_000.0 + moment
                assert client.send("GET", served.url).status == 200
        assert [claims["exp"] - 1_000_060 for claims in server.claims] == [0, 0, 0, 50, 50, 100]

    @every_client
    def test_its_end_is_what_the_claims_say(self, name: str, signer: Ed25519Signer) -> None:
        """Where a caller sets ``exp``, that is the end; where it is removed, the lifetime counts."""
        now = [1_000_000.0]
        for claims, moments in (
            ({"exp": 1_000_030}, [0, 19, 21]),
            ({"exp": None}, [0, 49, 51]),
            (lambda request: {"exp": request.now + 3600}, [0, 3589, 3590]),
        ):
            with (
                serving_tokens(signer, script=[(200, [])] * 3, **LAX) as (_, served),
                signed_in(name, served.url, signer, claims=claims, _clock=lambda: now[0], **REUSED) as client,
            ):
                for moment in moments:
                    now[0] = 1_000_000.0 + moment
                    client.send("GET", served.url)
            tokens = [seen.field("Authorization")[0] for seen in served.requests]
            assert [token == tokens[0] for token in tokens] == [True, True, False]

    def test_of_256_origins_tokens_are_kept(self, signer: Ed25519Signer) -> None:
        """Beyond so many origins each request has a token of its own; nothing grows without a bound."""
        transport = httpx.MockTransport(lambda request: httpx.Response(200))
        auth = SelfSignedTokenAuth("*", signer, account=ACCOUNT, **REUSED)
        with httpx.Client(transport=transport, auth=auth) as client:
            for number in range(300):
                client.get(f"https://host{number}.example")
        settings = auth._settings
        assert len(settings._kept) == len(settings._names) == 256
        assert settings.kept(Origin("https", "host299.example", 443)) is None


class TestSharing:
    @every_client
    @pytest.mark.parametrize("options", [{}, REUSED], ids=["bound", "reused"])
    def test_32_threads_share_an_auth_object(
        self, name: str, options: dict[str, Any], signer: Ed25519Signer
    ) -> None:
        """No token is sent twice, or all send one; every request is one round trip."""
        with serving_tokens(signer, is_bound=not options, is_single_use=not options) as (_, served):
            auth = auth_of(name, served.url, signer, **options)

            with signed_in(name, served.url, signer) as client:

                def send() -> list[int]:
                    return [client.send("GET", served.url, auth=auth).status for _ in range(4)]

                assert at_once(*[send] * 32) == [[200] * 4] * 32
        tokens = {seen.field("Authorization")[0] for seen in served.requests}
        assert served.statuses == [200] * 128
        assert len(tokens) == (1 if options else 128)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_1000_tasks_share_an_auth_object(self, backend: str, signer: Ed25519Signer) -> None:
        """A burst of bound requests is 1,000 round trips."""
        with serving_tokens(signer) as (_, served):
            auth = SelfSignedTokenAuth(served.url, signer, account=ACCOUNT)
            assert in_tasks(auth, served.url, 1000, backend) == [200] * 1000
        assert len(served.requests) == 1000

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    @pytest.mark.parametrize("name", ["httpx", "requests"])
    @pytest.mark.parametrize("options", [{}, REUSED], ids=["bound", "reused"])
    def test_forks_share_an_auth_object(
        self, name: str, options: dict[str, Any], signer: Ed25519Signer
    ) -> None:
        """Two children and their parent never send a token twice, or go on with the one that is kept."""
        with (
            serving_tokens(signer, is_bound=not options, is_single_use=not options) as (_, served),
            signed_in(name, served.url, signer, **options) as client,
        ):

            def send() -> None:
                for _ in range(3):
                    assert client.send("GET", served.url, headers={"Connection": "close"}).status == 200

            send()
            with forked(send), forked(send):
                send()
        tokens = {seen.field("Authorization")[0] for seen in served.requests}
        assert served.statuses == [200] * 12
        assert len(tokens) == (1 if options else 12)

    @pytest.mark.skipif(sys.platform == "win32", reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_child_does_not_wait_for_its_parents_signature(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fork while another thread signs leaves the child nothing to wait for."""
        monkeypatch.setattr(token_settings, "_PATIENCE", 600.0)
        signer = HeldSigner()
        with serving_tokens(signer, **LAX) as (_, served):
            auth = SelfSignedTokenAuth(served.url, signer, account=ACCOUNT, **REUSED)
            thread = threading.Thread(target=in_threads, args=(auth, served.url, 1))
            thread.start()
            while not auth._settings._signing.get():
                pass

            def child() -> None:
                signer.go.set()
                assert in_threads(auth, served.url, 1) == [200]

            with forked(child):
                pass
            signer.go.set()
            thread.join(30)
        assert served.statuses == [200, 200]


class TestCopies:
    @every_client
    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    @pytest.mark.parametrize("options", [{}, REUSED], ids=["bound", "reused"])
    def test_a_copy_signs(
        self, name: str, copied: Callable[[Any], Any], options: dict[str, Any], signer: Ed25519Signer
    ) -> None:
        """A copy, deep or not, of an object in use signs as it does."""
        with (
            serving_tokens(signer, is_bound=not options, is_single_use=not options) as (_, served),
            signed_in(name, served.url, signer, **options) as client,
        ):
            assert client.send("GET", served.url).status == 200
            assert client.send("GET", served.url, auth=copied(client.auth)).status == 200

    def test_an_object_is_copied_while_it_signs(self, signer: Ed25519Signer) -> None:
        """A deep copy leaves what is under way to its owner."""
        held = HeldSigner()
        held.__deepcopy__ = lambda memo: held  # type: ignore[attr-defined]
        with serving_tokens(held, **LAX) as (_, served):
            auth = SelfSignedTokenAuth(served.url, held, account=ACCOUNT, **REUSED)
            thread = threading.Thread(target=in_threads, args=(auth, served.url, 1))
            thread.start()
            try:
                while not auth._settings._signing.get():
                    pass
                copied = copy.deepcopy(auth)
            finally:
                held.go.set()
                thread.join(30)
            assert in_threads(copied, served.url, 1) == [200]


def test_tokens_differ_between_objects(signer: Ed25519Signer) -> None:
    """Two auth objects of one key never send the same token."""
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        for _ in range(2):
            client.get(
                "https://a.example", auth=SelfSignedTokenAuth("https://a.example", signer, account="a")
            )
    assert len({claims_of(token)["jti"] for token in sent}) == 2
