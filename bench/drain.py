"""A server that challenges but verifies nothing, so that a row measures the client.

``python -m bench.drain TUNING``. Bodies are read and forgotten, and what lies under ``/open`` is answered
without a challenge.
"""

import secrets
import socket
import sys
from base64 import b64encode

import uvicorn

from tuned_digest.server.asgi import Receive, Scope, Send

TUNING = sys.argv[1]
REST = "read,update,delete,debug,proxy"


async def drain(scope: Scope, receive: Receive, send: Send) -> None:
    """Challenge a request without Authorization, and take any with it."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    is_signed = any(name == b"authorization" for name, _ in scope["headers"])
    fields: list[tuple[str, str]] = []
    status = 200
    if is_signed:
        fields.append(("authentication-info", f"nextnonce={_nonce()};argon={TUNING};scopes={REST}"))
    elif not scope["path"].startswith("/open"):
        status = 401
        value = f"tuned-digest-signature nonce={_nonce()};algorithm={TUNING};actions=read,update"
        fields.append(("www-authenticate", value))
    headers = [(b"content-length", b"0"), *((name.encode(), value.encode()) for name, value in fields)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body"})


def _nonce() -> str:
    return b64encode(secrets.token_bytes(32)).decode().rstrip("=")


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(drain, log_level="warning")).run(sockets=[listening])
    sys.exit()
