"""The cheapest client there is: sockets and bytes, so that a row measures the server."""

import asyncio
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.verifying import signed

from tuned_digest import Ed25519Signer, Tuning
from tuned_digest._wire.credentials import write_credentials

_NEXT = re.compile(rb"authentication-info: nextnonce=([^;]+);argon=([^;]+);scopes=read", re.IGNORECASE)
_CHALLENGE = re.compile(
    rb"www-authenticate: tuned-digest-signature nonce=([^;]+);algorithm=([^;]+)", re.IGNORECASE
)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass
class Answer:
    """A response."""

    status: int
    head: bytes
    body: bytes

    @property
    def nonce(self) -> tuple[str, Tuning] | None:
        """The nonce it brings for reading, and its tuning."""
        match = _NEXT.search(self.head) or _CHALLENGE.search(self.head)
        return (match[1].decode(), Tuning.parse(match[2].decode())) if match else None


class Connection:
    """One connection that is kept alive."""

    def __init__(self, url: str, address: str = "127.0.0.1") -> None:
        self._url = url
        self._from = (address, 0)

    async def __aenter__(self) -> Self:
        """Connect."""
        address = urlsplit(self._url)
        self._reader, self._writer = await asyncio.open_connection(
            address.hostname, address.port, local_addr=self._from
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, at once."""
        self._writer.transport.abort()

    async def send(self, path: str = "/", authorization: str = "", method: str = "GET") -> Answer:
        """Send a request without a body, and read the response."""
        field = f"Authorization: {authorization}\r\n" if authorization else ""
        self._writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await self._reader.readexactly(int(length[1])) if length else b""
        return Answer(int(head[9:12]), head, body)


class Caller:
    """A client that chains its requests over one connection."""

    def __init__(self, connection: Connection, signer: Ed25519Signer | None = None) -> None:
        self._connection = connection
        self._signer = signer or Ed25519Signer.generate()
        self._next: tuple[str, Tuning] | None = None

    async def authorization(self, path: str = "/") -> str:
        """Sign a request, after a challenge where no nonce is held."""
        if self._next is None:
            self._next = (await self._connection.send(path)).nonce
        assert self._next is not None
        (nonce, tuning), self._next = self._next, None
        return write_credentials(signed(nonce, tuning, path=path, signer=self._signer))

    async def call(self, path: str = "/") -> Answer:
        """Send one signed request, and keep the nonce that its answer brings."""
        answer = await self._connection.send(path, await self.authorization(path))
        self._next = answer.nonce
        return answer
