"""The accounts application for ASGI servers: mount it below a path, beside the application it is for."""

from __future__ import annotations

__all__ = ["AccountsApplication"]

from typing import Any

from ..._runtime.drivers import run_anyio
from ...errors import ProofAbandonedError, RequestRejectedError, TunedDigestError
from ..asgi import Receive, Scope, Send, _encoded, _incoming
from ..bodies import BufferedBody, ClientGoneError
from ..spools import BodyLimits
from .application import Accounts
from .contents import BODY_LIMIT, Answer, refusal
from .enrolment import Enrolment

_BODIES = BodyLimits(max_body=BODY_LIMIT, deadline=20)  # seconds


class AccountsApplication:
    """Serve the endpoints where devices enrol, approve and revoke keys (ASGI 3).

    Mount it beside what a `TunedDigestMiddleware` protects, and not inside: it verifies its requests itself,
    and a token is good once. Behind a proxy, have the server tell the client's address.

    Args:
        enrolment: The rules, and the registry.
        audience: What the server calls itself in tokens, usually its origin.
        settings: Those of `Accounts`: ``single_use``, which has to be given, ``origin``, ``max_lifetime``,
            ``leeway`` and ``on_decision``.

    Raises:
        ArgumentError: If one of these cannot be used.
        MissingExtraError: If joserfc is not installed.
    """

    def __init__(self, enrolment: Enrolment, audience: str, **settings: Any) -> None:
        self._accounts = Accounts(enrolment, audience, **settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "requests alone are served here"})

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start, where this is all that is served."""
        await receive()
        try:
            await run_anyio(self._accounts.start())
        except TunedDigestError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with BufferedBody(scope, receive, _BODIES) as body:
            try:
                request = _incoming(scope)
                content = await _whole(body)
                answer = await run_anyio(self._accounts.answer(request, _path(scope), content, body.gone))
            except RequestRejectedError as rejection:
                answer = refusal(rejection)
            except (ClientGoneError, ProofAbandonedError):
                return
        await _respond(send, answer)


def _path(scope: Scope) -> str:
    """Give the path below the place where the application is mounted.

    ASGI has `path` include `root_path`; servers and frameworks that do not are followed too.
    """
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


async def _whole(body: BufferedBody) -> bytes:
    await body.read()
    pieces = [message := await body.receive()]
    while message["more_body"]:
        pieces.append(message := await body.receive())
    return b"".join(piece["body"] for piece in pieces)


async def _respond(send: Send, answer: Answer) -> None:
    headers = _encoded(answer.fields)
    if answer.status != 204:  # RFC 9110 section 8.6
        headers.append((b"content-length", str(len(answer.body)).encode("ascii")))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
