"""A server with accounts in a thread, and the commands of devices against it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuned_digest import Ed25519Signer
from tuned_digest._cli import main
from tuned_digest._cli.account_client import AccountClient
from tuned_digest._cli.accounts import beside_accounts
from tuned_digest._cli.blobs import blobs_application
from tuned_digest.server import MemoryKeyRegistry, MemoryNonceStore
from tuned_digest.server.accounts.enrolment import Enrolment, Registration
from tuned_digest.server.asgi import Application, Receive, Scope, Send

from .serving import QUICK, QUICK_CREATE, Served, serve


@dataclass
class AccountServer:
    """A server that is accepting connections, and the folder of its devices.

    Args:
        served: What it was asked.
        registry: Where it keeps keys.
        folder: Where devices keep theirs.
    """

    served: Served
    registry: MemoryKeyRegistry
    folder: Path

    @property
    def url(self) -> str:
        """Where accounts are mounted."""
        return f"{self.served.url}/account"

    def invite(self, account: str = "acme") -> str:
        """Make an invitation."""
        return Enrolment(self.registry).invite(account)

    def file(self, device: str) -> Path:
        """The key file of a device."""
        return self.folder / f"{device}.pem"

    def run(self, command: str, device: str, *arguments: str, account: str = "acme") -> int:
        """Run a command on a device."""
        return main(self.command(command, device, *arguments, account=account))

    def command(self, command: str, device: str, *arguments: str, account: str = "acme") -> list[str]:
        """Write the command line of a device."""
        labels = ["--label", device] if command in {"enroll", "recover"} else []
        key = ["--key", str(self.file(device))]
        return [command, self.url, "--account", account, *key, *labels, *arguments]

    def client(self, device: str, account: str = "acme") -> AccountClient:
        """Take the key of a device, made where it is not there."""
        file = self.file(device)
        if not file.exists():
            file.touch(0o600)
            file.write_bytes(Ed25519Signer.generate().to_pem())
        return AccountClient(self.url, account, Ed25519Signer.from_file(file))

    def enrol(self, device: str, account: str = "acme") -> AccountClient:
        """Enrol a device by an invitation."""
        client = self.client(device, account)
        client.enrol(device, invitation=self.invite(account))
        return client


Begin = Callable[[Path, Registration], AccountServer]
"""Lets a server forget all that was before; takes where devices keep their keys."""


@contextmanager
def accounts_served() -> Iterator[Begin]:
    """Serve blobs and accounts until the block ends, for one test after the other."""
    made: list[Application] = []

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await made[0](scope, receive, send)
            return
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})

    def begin(folder: Path, registration: Registration) -> AccountServer:
        registry, nonces = MemoryKeyRegistry(), MemoryNonceStore()
        blobs = blobs_application(
            access=QUICK, create=QUICK_CREATE, nonces=nonces, registry=registry, origin=served.url
        )
        made[:] = [beside_accounts(blobs, registry, served.url, registration=registration, single_use=nonces)]
        served.requests.clear()
        return AccountServer(served, registry, folder)

    with serve(late) as served:
        yield begin
