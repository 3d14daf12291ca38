"""Request bodies between their digest and the application: in time, within bounds, and given again."""

import errno
import functools
import io
import logging
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, cast

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest.errors import ArgumentError, RequestRejectedError
from tuned_digest.server.bodies import BufferedBody, ClientGoneError
from tuned_digest.server.spools import BodyLimits, BodyRoom, Spool, process_room

from .working import BACKENDS

KIB, MIB = 1024, 1024 * 1024
GONE = {"type": "http.disconnect"}
ON_EACH_LOOP = pytest.mark.parametrize("backend", BACKENDS)

Received = dict[str, Any]


def pieces(*content: bytes) -> list[Received]:
    """Make the messages of a body that comes in pieces."""
    last = len(content) - 1
    return [
        {"type": "http.request", "body": piece, "more_body": number < last}
        for number, piece in enumerate(content)
    ]


def server(messages: Iterable[Received]) -> Callable[[], Awaitable[Received]]:
    """Make a server's receive, which says in the end that the client has gone."""
    incoming = iter(messages)

    async def receive() -> Received:
        return next(incoming, GONE)

    return receive


def body(
    *messages: Received,
    room: BodyRoom | None = None,
    lengths: Iterable[bytes] = (),
    receive: Callable[[], Awaitable[Received]] | None = None,
    clock: Callable[[], float] = time.monotonic,
    version: str = "2",
    **limits: Any,
) -> BufferedBody:
    """Make a body that a server has these messages of."""
    scope = {"headers": [(b"Content-Length", length) for length in lengths], "http_version": version}
    made = BodyLimits(**{"memory": 64 * KIB, "max_body": 4 * MIB, **limits})
    return BufferedBody(scope, receive or server(messages), made, room=room or BodyRoom(), clock=clock)


async def given_again(one: BufferedBody) -> list[bytes]:
    """Read a body as an application does, piece by piece."""
    chunks: list[bytes] = []
    while True:
        message = await one.receive()
        assert message["type"] == "http.request"
        chunks.append(message["body"])
        if not message["more_body"]:
            return chunks


async def status_of(one: BufferedBody) -> int:
    """Read a body that is refused, and give the status."""
    with pytest.raises(RequestRejectedError) as raised:
        await one.read()
    return raised.value.status


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run an async function on each event loop."""
    return functools.partial(anyio.run, backend=request.param)


class TestReplay:
    @ON_EACH_LOOP
    @given(
        content=st.lists(st.binary(max_size=300), max_size=12),
        memory=st.sampled_from([1, 100, 10_000]),
        bite=st.sampled_from([1, 64, 1000]),
        message=st.sampled_from([1, 7, 100, 10_000]),
    )
    def test_a_body_is_digested_and_given_again(
        self, backend: str, content: list[bytes], memory: int, bite: int, message: int
    ) -> None:
        """Whatever the pieces, and wherever they are kept, digest and content are right."""
        whole, room = b"".join(content), BodyRoom()

        async def main() -> None:
            with body(*pieces(*content, b""), room=room, memory=memory) as one:
                assert await one.read() == blake3(whole).digest()
                assert room.total == len(whole)
                assert room.memory <= memory
                chunks = await given_again(one)
                assert b"".join(chunks) == whole
                assert all(len(chunk) <= message for chunk in chunks)
                assert (room.memory, room.total) == (0, 0)
                assert await one.receive() == GONE

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("tuned_digest.server.spools._BITE", bite)
            patched.setattr("tuned_digest.server.spools._MIB", message)
            anyio.run(main, backend=backend)

    def test_a_small_body_is_one_message(self, run: Callable[..., Any]) -> None:
        """However it came, a body of up to 1 MiB that is in memory is given in one message."""

        async def main() -> None:
            one = body(*pieces(b"one", b"", b"two"))
            await one.read()
            assert await one.receive() == {"type": "http.request", "body": b"onetwo", "more_body": False}
            assert await one.receive() == GONE

        run(main)

    def test_no_body_is_one_empty_message(self, run: Callable[..., Any]) -> None:
        """The application receives an empty body once, like any other."""

        async def main() -> None:
            one = body({"type": "http.request"})
            assert await one.read() == blake3().digest()
            assert await given_again(one) == [b""]
            assert await one.receive() == GONE

        run(main)

    def test_an_unread_body_is_the_servers(self, run: Callable[..., Any]) -> None:
        """Nothing stands between server and application where nothing was read."""

        async def main() -> None:
            assert await body(*pieces(b"x")).receive() == pieces(b"x")[0]

        run(main)

    def test_a_cancelled_reader_loses_nothing(
        self, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An application that stops waiting for a piece gets it the next time."""
        content = [bytes([number]) * 64 * KIB for number in range(40)]

        async def main() -> None:
            with body(*pieces(*content), memory=1) as one:
                await one.read()
                with anyio.CancelScope() as scope:
                    load = one._spool.load
                    token = anyio.lowlevel.current_token()

                    def cancelling() -> None:
                        load()
                        anyio.from_thread.run_sync(scope.cancel, token=token)

                    monkeypatch.setattr(one._spool, "load", cancelling)
                    await one.receive()
                    await anyio.lowlevel.checkpoint()
                assert scope.cancelled_caught
                monkeypatch.setattr(one._spool, "load", load)
                assert b"".join(await given_again(one)).endswith(content[-1])

        run(main)


class TestSpooling:
    def test_beyond_half_of_the_memory_large_bodies_go_to_a_file(self, run: Callable[..., Any]) -> None:
        """A body of 64 KiB leaves memory when half of it is taken, in one piece with what it had there."""
        room = BodyRoom()

        async def main() -> None:
            small = body(*pieces(b"s" * 60 * KIB), room=room, memory=200 * KIB)
            large = body(*pieces(b"l" * 30 * KIB, b"l" * 40 * KIB), room=room, memory=200 * KIB)
            await small.read()
            await large.read()
            assert (room.memory, room.total) == (60 * KIB, 130 * KIB)
            small.close()
            large.close()
            assert (room.memory, room.total) == (0, 0)

        run(main)

    def test_a_small_body_goes_to_a_file_when_memory_is_full(self, run: Callable[..., Any]) -> None:
        """Memory is never taken beyond its limit by bodies at rest, however small."""
        room = BodyRoom()

        async def main() -> None:
            bodies = [body(*pieces(b"s" * 30 * KIB), room=room, memory=64 * KIB) for _ in range(10)]
            for one in bodies:
                await one.read()
            assert (room.memory, room.total) == (60 * KIB, 300 * KIB)
            for one in bodies:
                assert await given_again(one) == [b"s" * 30 * KIB]
            assert (room.memory, room.total) == (0, 0)

        run(main)

    def test_files_have_no_name(self, run: Callable[..., Any], tmp_path: Path) -> None:
        """The directory for files stays empty, for others to look into."""

        async def main() -> None:
            with body(*pieces(b"x" * MIB), memory=1, spool_dir=tmp_path) as one:
                await one.read()
                assert one._spool.blocks
                assert not any(os.scandir(tmp_path))

        run(main)

    def test_a_large_body_in_memory_is_given_in_pieces(self, run: Callable[..., Any]) -> None:
        """No message is larger than 1 MiB, wherever the body was kept."""

        async def main() -> None:
            for memory in (1, 64 * MIB):
                one = body(*pieces(b"x" * (2 * MIB + 1)), memory=memory)
                await one.read()
                assert [len(chunk) for chunk in await given_again(one)] == [MIB, MIB, 1]

        run(main)


def full_disk(*arguments: Any, **options: Any) -> Any:
    """Make a file on a disk that is full once a part of it is written."""

    class Full(io.BytesIO):
        written = 0

        def write(self, content: Any) -> int:
            if self.written:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.written = super().write(content[:10])
            return self.written

    return Full()


class TestRefusals:
    @pytest.mark.parametrize("length", [b"0" * 5000, b"\xb2", b"-1", b"1, 1", b"", b"5"])
    def test_a_length_is_judged_before_anything_is_read(self, run: Callable[..., Any], length: bytes) -> None:
        """A length that is no number, or too large, is answered 413, and the client is asked for nothing."""
        one = body(receive=pytest.fail, lengths=[b"1", length], max_body=4)
        assert run(status_of, one) == 413

    def test_a_length_for_which_there_is_no_room_is_refused(self, run: Callable[..., Any]) -> None:
        """A length that does not fit beside what is held is answered 503 before anything is read."""
        room = BodyRoom()
        assert room.take(90, 100)
        one = body(receive=pytest.fail, lengths=[b"11"], room=room, total=100)
        assert run(status_of, one) == 503
        assert run(body(*pieces(b"x" * 10), lengths=[b"10"], room=room, total=100).read)

    def test_a_large_body_is_refused(self, run: Callable[..., Any]) -> None:
        """A body that outgrows the limit is answered 413, announced or not, and is held no more."""
        room = BodyRoom()
        assert run(status_of, body(*pieces(b"12", b"345"), max_body=4, room=room)) == 413
        assert room.total == 0
        assert run(body(*pieces(b"12", b"34"), max_body=4).read) == blake3(b"1234").digest()

    def test_growth_beyond_the_total_is_refused(self, run: Callable[..., Any]) -> None:
        """Who would take what the process does not have is told when to come back; others keep theirs."""
        room = BodyRoom()

        async def main() -> None:
            with body(*pieces(b"x" * 90), room=room, total=100) as first:
                await first.read()
                with pytest.raises(RequestRejectedError) as raised:
                    await body(*pieces(b"y" * 9, b"y" * 9), room=room, total=100, grace=7.5).read()
                assert raised.value.status == 503
                assert ("Retry-After", "8") in raised.value.fields
                assert room.total == 90
                assert await given_again(first) == [b"x" * 90]

        run(main)
        assert room.total == 0

    def test_a_client_that_leaves(self, run: Callable[..., Any]) -> None:
        """When the connection goes in the middle of a body, nothing of it is kept."""
        room = BodyRoom()
        with pytest.raises(ClientGoneError):
            run(body(*pieces(b"x" * MIB, b"y")[:1], room=room).read)
        assert (room.memory, room.total) == (0, 0)

    def test_a_full_disk_is_no_room(
        self, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A file that cannot be written is answered 503, the log says where and why, and nothing is kept."""
        monkeypatch.setattr(tempfile, "TemporaryFile", full_disk)
        room = BodyRoom()
        with caplog.at_level(logging.ERROR):
            assert run(status_of, body(*pieces(b"x" * MIB), room=room, memory=1, spool_dir="/spool")) == 503
        assert "/spool" in caplog.text
        assert "No space left on device" in caplog.text
        assert (room.memory, room.total) == (0, 0)

    def test_no_directory_is_no_room(self, run: Callable[..., Any], tmp_path: Path) -> None:
        """The same goes for a file that cannot be made."""
        one = body(*pieces(b"x" * MIB), memory=1, spool_dir=tmp_path / "missing")
        assert run(status_of, one) == 503

    def test_a_cancelled_read_keeps_nothing(self, run: Callable[..., Any]) -> None:
        """When the task is cancelled in the middle of a body, its room is free again."""
        room = BodyRoom()

        async def main() -> None:
            first = iter(pieces(b"x" * MIB, b""))
            with anyio.CancelScope() as scope:

                async def receive() -> Received:
                    if (message := next(first))["more_body"]:
                        return message
                    scope.cancel()
                    await anyio.sleep_forever()
                    raise AssertionError

                await body(receive=receive, room=room).read()
            assert scope.cancelled_caught

        run(main)
        assert (room.memory, room.total) == (0, 0)

    @pytest.mark.parametrize(
        "limits",
        [
            {"max_body": -1},
            *({name: 0} for name in ("deadline", "least_rate", "grace", "memory", "total")),
        ],
    )
    def test_limits_are_positive(self, limits: dict[str, Any]) -> None:
        """Limits that nothing can keep are refused; a server may take no bodies."""
        with pytest.raises(ArgumentError, match=next(iter(limits))):
            BodyLimits(**limits)
        assert BodyLimits(max_body=0)


class Line:
    """A client's line, on a clock of its own: each piece takes some seconds.

    Args:
        content: Seconds and a piece, one after the other; then nothing comes any more.
    """

    def __init__(self, *content: tuple[float, bytes]) -> None:
        self.now = 0.0
        self._content = iter(content)
        self.given = 0

    def __call__(self) -> float:
        """Give the seconds so far."""
        return self.now

    async def receive(self) -> Received:
        """Give the next piece, when its time has come."""
        seconds, piece = next(self._content)
        self.now += seconds
        self.given += 1
        return {"type": "http.request", "body": piece, "more_body": piece != b"end"}


class TestPace:
    """16 bytes a second are asked for, with 4 seconds of grace, and no more than 60 seconds in all."""

    LIMITS: ClassVar[dict[str, Any]] = {"least_rate": 16, "grace": 4, "deadline": 60}

    def test_a_steady_client_is_waited_for(self, run: Callable[..., Any]) -> None:
        """Who keeps the least rate gets through, whatever the pieces."""
        line = Line(*[(1.0, b"x" * 16)] * 30, (3.9, b"end"))
        assert run(body(receive=line.receive, clock=line, **self.LIMITS).read)

    def test_a_trickle_ends(self, run: Callable[..., Any]) -> None:
        """Who sends a byte now and then falls behind, and is not waited for after the grace."""
        line = Line(*[(0.5, b"x")] * 100)
        assert run(status_of, body(receive=line.receive, clock=line, **self.LIMITS)) == 408
        assert line.given == 10

    def test_a_burst_earns_no_more_than_the_grace(self, run: Callable[..., Any]) -> None:
        """Who has sent much at once may not trickle longer than others."""
        room, line = BodyRoom(), Line((0.5, b"x" * MIB), *[(0.5, b"x")] * 100)
        assert run(status_of, body(receive=line.receive, clock=line, room=room, **self.LIMITS)) == 408
        assert line.given == 11
        assert room.total == 0

    def test_empty_messages_are_a_trickle(self, run: Callable[..., Any]) -> None:
        """Messages without content keep nobody waiting."""
        line = Line(*[(0.5, b"")] * 100)
        assert run(status_of, body(receive=line.receive, clock=line, **self.LIMITS)) == 408

    def test_there_is_an_end_in_any_case(self, run: Callable[..., Any]) -> None:
        """Who keeps the least rate for longer than the deadline is refused too."""
        line = Line(*[(1.0, b"x" * 16)] * 100)
        assert run(status_of, body(receive=line.receive, clock=line, **self.LIMITS)) == 408
        assert line.given == 60

    def test_a_stall_ends_under_asyncio(self) -> None:
        """A client that sends nothing any more is waited for no longer than the grace."""
        room = BodyRoom()

        async def main() -> int:
            first = iter(pieces(b"x" * 1000, b"")[:1])

            async def receive() -> Received:
                for message in first:
                    return message
                await anyio.sleep_forever()
                raise AssertionError

            return await status_of(body(receive=receive, room=room, grace=0.01))

        assert anyio.run(main) == 408
        assert room.total == 0

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_a_request_without_a_body_has_no_timer(self, run: Callable[..., Any], version: str) -> None:
        """In HTTP/1 the fields tell that there is none; a body that comes all the same is timed."""
        line = Line((500.0, b"end"))
        assert run(body(receive=line.receive, clock=line, version=version, **self.LIMITS).read)
        line = Line((500.0, b"x"), *[(0.5, b"x")] * 100)
        assert run(status_of, body(receive=line.receive, clock=line, version=version, **self.LIMITS)) == 408

    def test_twenty_bodies_never_finished(self) -> None:
        """The attack: 20 bodies of 16 MiB less a byte that never end hold 64 MiB, and nothing after 10 s."""
        room, most = BodyRoom(), list[int]()
        piece = b"x" * 256 * KIB

        async def attacker() -> None:
            left = iter([piece] * 63 + [piece[1:]])

            async def receive() -> Received:
                for content in left:
                    return {"type": "http.request", "body": content, "more_body": True}
                most.append(room.memory)
                await anyio.sleep_forever()
                raise AssertionError

            scope: dict[str, Any] = {"headers": [(b"content-length", b"16777216")], "http_version": "1.1"}
            with pytest.raises(RequestRejectedError):
                await BufferedBody(scope, receive, BodyLimits(), room=room).read()

        async def main() -> float:
            began = trio.current_time()
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(attacker)
            return trio.current_time() - began

        seconds = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.05))
        assert max(most) <= 64 * MIB
        assert room.total == 0
        assert seconds >= 10


class TestLeaving:
    def test_the_application_is_told_that_the_client_left(self, run: Callable[..., Any]) -> None:
        """What the watch for the client took from the server is still received."""
        asked = 0

        async def receive() -> Received:
            nonlocal asked
            asked += 1
            return pieces(b"x")[0] if asked == 1 else GONE

        async def main() -> None:
            with body(receive=receive) as one:
                await one.read()
                await one.gone()
                await one.gone()
                assert asked == 2
                assert await given_again(one) == [b"x"]
                assert await one.receive() == GONE
                assert asked == 2
                assert await one.receive() == GONE
                assert asked == 3

        run(main)

    def test_another_message_is_kept_for_the_application(self, run: Callable[..., Any]) -> None:
        """A server that says something else has a client that stays."""
        other = {"type": "http.extension"}

        async def main() -> None:
            with body(*pieces(b"x"), other) as one:
                await one.read()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(one.gone)
                    await anyio.wait_all_tasks_blocked()
                    tasks.cancel_scope.cancel()
                assert await given_again(one) == [b"x"]
                assert await one.receive() == other

        run(main)


def test_a_process_has_one_room(run: Callable[..., Any]) -> None:
    """Unless told otherwise, bodies are counted for the process."""

    async def main() -> None:
        scope = {"headers": [], "http_version": "1.1"}
        before = process_room().total
        with BufferedBody(scope, server(pieces(b"x" * 10)), BodyLimits()) as one:
            await one.read()
            assert process_room().total == before + 10
            with pytest.raises(ZeroDivisionError), one:
                raise ZeroDivisionError
            assert process_room().total == before

    run(main)


def test_a_body_that_is_closed_while_its_file_is_written_is_counted_once(tmp_path: Path) -> None:
    """Whoever does not wait for the disk, as a task that asyncio cancels, leaves no count behind."""
    room, limits = BodyRoom(), BodyLimits(spool_dir=tmp_path)
    spool = Spool(limits, room)
    spool.add(b"12345")

    class Closing(io.BytesIO):
        def write(self, piece: Any, /) -> int:
            spool._file = None  # the file outlives the close, as a write under way does
            spool.close()
            return super().write(piece)

    spool._file = file = cast("Any", Closing())
    spool.write()
    assert (room.memory, room.total) == (0, 0)
    assert file.closed
