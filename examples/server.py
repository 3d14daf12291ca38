"""Verify requests in an API of your own: registered accounts, and a policy.

Run ``python examples/server.py 8000 alice=IDENTITY``, the identity as ``tuned-digest keygen`` printed it,
and sign requests to ``http://127.0.0.1:8000/notes/first`` with that key.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tuned_digest.server import BodyLimits, Caller, MemoryNonceStore, Policy, Verifier
from tuned_digest.server.asgi import TunedDigestMiddleware

NOTES: dict[str, str] = {}


async def note(request: Request) -> JSONResponse:
    """Keep a note, or give it."""
    caller: Caller = request.scope["tuned_digest"]  # the one trusted view of who called
    path = request.url.path
    if request.method == "PUT":
        NOTES[path] = (await request.body()).decode()
    return JSONResponse({"note": NOTES.get(path), "account": caller.account, "action": caller.action})


def application(accounts: dict[str, str]) -> TunedDigestMiddleware:
    """Make the application; `accounts` has a name for each identity."""
    policy = Policy(exists=lambda path: path in NOTES)  # asks for Argon2, and offers nothing cheaper
    store = MemoryNonceStore()  # one process only: another worker would not know its nonces
    api = Starlette(routes=[Route("/notes/{name}", note, methods=["GET", "PUT"])])
    return TunedDigestMiddleware(
        api, Verifier(store, policy=policy, accounts=accounts.get), bodies=BodyLimits(max_body=64 * 1024)
    )


if __name__ == "__main__":
    registered = dict(argument.split("=", 1)[::-1] for argument in sys.argv[2:])
    uvicorn.run(application(registered), host="127.0.0.1", port=int(sys.argv[1]))
