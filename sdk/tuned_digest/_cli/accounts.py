"""The accounts of ``tuned-digest serve``: their application beside the blobs, and a newcomer's way in."""

from __future__ import annotations

__all__ = ["MOUNT", "beside_accounts", "way_in"]

import shlex

from ..server import KeyRegistry, SpentStore
from ..server.accounts.asgi import AccountsApplication
from ..server.accounts.enrolment import Enrolment, Registration
from ..server.asgi import Application, Receive, Scope, Send
from .registries import is_path

MOUNT = "/account"
"""Where the accounts application is mounted."""


def beside_accounts(
    blobs: Application,
    registry: KeyRegistry,
    origin: str,
    *,
    registration: Registration,
    single_use: SpentStore,
) -> Application:
    """Serve accounts beside the application that they are for, which starts the registry and the store.

    Args:
        blobs: The application.
        registry: Where keys are enrolled.
        origin: What clients call the server.
        registration: How an account gets its first key.
        single_use: Where used tokens are remembered.

    Returns:
        Both as one application.
    """
    accounts = AccountsApplication(
        Enrolment(registry, registration=registration), origin, single_use=single_use
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{MOUNT}/"):
            await accounts({**scope, "root_path": MOUNT}, receive, send)
        else:
            await blobs(scope, receive, send)

    return serve


def way_in(origin: str, registry: str, registration: Registration) -> str:
    """Say what enrols the first key of an account.

    Args:
        origin: What clients call the server.
        registry: Where keys are kept; a URL is not shown, it may hold a password.
        registration: How an account gets its first key.

    Returns:
        Some lines.
    """
    place = shlex.quote(registry) if is_path(registry) else "PATH_OR_URL"
    enroll = f"tuned-digest enroll {origin}{MOUNT} --account NAME"
    commands = {
        "invited": [f"tuned-digest keys invite NAME --registry {place}", f"{enroll} --invitation -"],
        "open": [enroll],
        "operator": [
            "tuned-digest keygen FILE",
            f"tuned-digest keys add NAME IDENTITY --label LABEL --registry {place}",
        ],
    }[registration]
    lines = ["only enrolled keys may call; the first key of an account, in another terminal:", *commands]
    return "\n    ".join(lines)
