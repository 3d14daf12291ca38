"""Request bodies between their digest and the application: read in time, held within bounds, given again.

A client falls behind when it sends less than the least rate. It may do so for the seconds of grace, and by
sending more it earns no more than them: neither a trickle nor a stall after a burst holds room for long.
"""

from __future__ import annotations

__all__ = ["BufferedBody", "ClientGoneError"]

import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread
from blake3 import blake3

from .._runtime.loops import PerLoop
from ..errors import RequestRejectedError, TunedDigestError
from .refusals import refused, unavailable
from .spools import BodyLimits, BodyRoom, Spool, process_room

_LOG = logging.getLogger(__name__)

_LENGTH = re.compile(r"[0-9]{1,18}")

# RFC 9112 section 6: a request without these fields has no body; HTTP/2 does without them.
_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})
_WITH_BODY_FIELDS = frozenset({"1.0", "1.1"})

_FILE_THREADS = 4  # a slow disk keeps no more of the event loop's threads


class ClientGoneError(TunedDigestError):
    """Report that the client closed the connection while its body was read."""


class BufferedBody:
    """Read a request body once for the verifier, and give it again to the application.

    Close it when the request is done, whatever came of it.

    Args:
        scope: The request's ASGI scope.
        receive: The server's receive.
        limits: How much is held, and how long it is waited for.
        room: Where it is counted, None for the room of this process.
        clock: Gives seconds, never going back.
    """

    def __init__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        limits: BodyLimits,
        *,
        room: BodyRoom | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receive = receive
        self._limits = limits
        self._room = room or process_room()
        self._clock = clock
        self._spool = Spool(limits, self._room)
        self._is_whole = False
        self._next: MutableMapping[str, Any] | None = None
        announced = [(name.lower(), value) for name, value in scope["headers"]]
        fields = [field for field in announced if field[0] in _BODY_FIELDS]
        self._lengths = [value.decode("latin-1") for name, value in fields if name == b"content-length"]
        self._is_empty = not fields and scope.get("http_version") in _WITH_BODY_FIELDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what is held; a second time does nothing."""
        self._is_whole = False
        self._spool.close()

    async def read(self, new_digest: Callable[[], Any] = blake3) -> bytes:
        """Read the body.

        Args:
            new_digest: Begins a digest that has `update` and `digest`, as those of hashlib have.

        Returns:
            The digest of it.

        Raises:
            RequestRejectedError: With status 413 if it is too large, 408 if it comes too slowly, 503 if
                there is no room for it.
            ClientGoneError: If the client closed the connection.
        """
        self._judge_length()
        try:
            digest = await self._read(new_digest())
        except BaseException:
            self.close()
            raise
        self._is_whole = True
        return digest

    async def receive(self) -> MutableMapping[str, Any]:
        """Stand in for the server's receive: give the body again, in messages of at most 1 MiB."""
        if not self._is_whole:
            message, self._next = self._next, None
            return await self._receive() if message is None else message
        if self._spool.blocks:
            await _in_file_thread(self._spool.load)
        chunk = self._spool.next_chunk()
        has_more = self._spool.has_more
        if not has_more:
            self.close()
        return {"type": "http.request", "body": chunk, "more_body": has_more}

    async def gone(self) -> None:
        """Wait, after the body was read, until the client has closed the connection.

        The application receives the message that says so, or any other that comes in its place.
        """
        if self._next is None:
            self._next = await self._receive()
        if self._next["type"] != "http.disconnect":
            await anyio.sleep_forever()

    def _judge_length(self) -> None:
        """Refuse a length as it is announced: what is too much is not even asked for."""
        for value in self._lengths:
            if not _LENGTH.fullmatch(value) or int(value) > self._limits.max_body:
                raise _too_large()
            if self._room.total + int(value) > self._limits.total:
                raise self._no_room()

    async def _read(self, hasher: Any) -> bytes:
        pace = None
        while True:
            if self._is_empty and pace is None:
                message = await self._receive()  # it is there: no timer, which would take most of the time
            else:
                pace = pace or _Pace(self._limits, self._clock())
                message = await self._received(pace)
            if message["type"] == "http.disconnect":
                raise ClientGoneError("the client closed the connection before its body was whole")
            if piece := message.get("body", b""):
                await self._hold(piece)
                hasher.update(piece)
            if not message.get("more_body", False):
                digest: bytes = hasher.digest()
                return digest
            self._is_empty = False

    async def _received(self, pace: _Pace) -> MutableMapping[str, Any]:
        message, started = None, self._clock()
        seconds = pace.seconds_left(started)
        if seconds > 0:
            with anyio.move_on_after(seconds):
                message = await self._receive()
        if message is None:
            raise refused(408, "the body comes too slowly", "body too slow")
        pace.go_on(self._clock() - started, len(message.get("body", b"")))
        return message

    async def _hold(self, piece: bytes) -> None:
        if self._spool.size + len(piece) > self._limits.max_body:
            raise _too_large()
        if not self._spool.add(piece):
            raise self._no_room()
        if not self._spool.is_due:
            return
        try:
            await _in_file_thread(self._spool.write)
        except OSError as error:
            where = self._limits.spool_dir or "the system's place for temporary files"
            _LOG.error("a request body could not be written to %s: %s", where, error)
            raise self._no_room() from error

    def _no_room(self) -> RequestRejectedError:
        # By then whoever stalls now has lost its room.
        return unavailable("no room for the body", self._limits.grace)


class _Pace:
    """How long a client is still waited for."""

    def __init__(self, limits: BodyLimits, now: float) -> None:
        self._limits = limits
        self._grace = limits.grace
        self._end = now + limits.deadline

    def seconds_left(self, now: float) -> float:
        return min(self._grace, self._end - now)

    def go_on(self, seconds: float, size: int) -> None:
        """Count the seconds waited, and what came."""
        earned = size / self._limits.least_rate
        self._grace = min(self._limits.grace, self._grace - seconds + earned)


async def _in_file_thread(call: Callable[[], None]) -> None:
    await anyio.to_thread.run_sync(call, limiter=_file_threads.get())


_file_threads = PerLoop("tuned_digest_file_threads", lambda: anyio.CapacityLimiter(_FILE_THREADS))


def _too_large() -> RequestRejectedError:
    return refused(413, "the body is larger than this server takes", "body too large")
