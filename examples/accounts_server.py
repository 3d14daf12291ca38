"""Let devices enrol keys, and take their self-signed tokens: an API with the accounts application beside it.

Run ``python examples/accounts_server.py 8000 accounts.db``, invite somebody with
``tuned-digest keys invite acme --registry accounts.db``, and enrol a key with
``tuned-digest enroll http://127.0.0.1:8000/account --account acme --invitation CODE``.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tuned_digest.server import Caller, MemoryNonceStore, TokenVerifier
from tuned_digest.server.accounts import Enrolment
from tuned_digest.server.accounts.asgi import AccountsApplication
from tuned_digest.server.accounts.sql import SQLKeyRegistry
from tuned_digest.server.asgi import TunedDigestMiddleware


async def whoami(request: Request) -> JSONResponse:
    """Tell a caller who it is."""
    caller: Caller = request.scope["tuned_digest"]  # the one trusted view of who called
    return JSONResponse({"account": caller.account, "identity": caller.identity})


def application(origin: str, path: str) -> Starlette:
    """Make the application; `origin` is what clients call, `path` the file of accounts and keys."""
    registry = SQLKeyRegistry(path)
    used = MemoryNonceStore()  # one process only: another worker would not know which tokens were used
    api = Starlette(routes=[Route("/whoami", whoami)])
    accounts = AccountsApplication(Enrolment(registry), origin, single_use=used)
    verified = TunedDigestMiddleware(api, TokenVerifier(registry, origin, single_use=used))
    return Starlette(routes=[Mount("/account", accounts), Mount("/", verified)])


if __name__ == "__main__":
    port = int(sys.argv[1])
    uvicorn.run(application(f"http://127.0.0.1:{port}", sys.argv[2]), host="127.0.0.1", port=port)
