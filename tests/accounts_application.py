"""The accounts application in memory, every answer compared with its OpenAPI document."""

from typing import Any

from openapi_schema_validator import OAS31Validator

from tuned_digest.server import MemoryNonceStore
from tuned_digest.server.accounts.application import Accounts
from tuned_digest.server.accounts.openapi import document

from .enrolling import ORIGIN, Device, Reply, enrolment, in_memory, new_clock

DOCUMENT = document()
"""What the application says of itself."""


class Served:
    """The application in memory, and what its operator can do.

    Args:
        options: What its rules are told.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = new_clock()
        self.rules = enrolment(self.clock, **options)
        self.store = MemoryNonceStore()
        self.accounts = Accounts(
            self.rules, ORIGIN, single_use=self.store, _clock=self.clock, _monotonic=self.clock
        )

    def device(self, account: str = "acme", *, peer: str = "", **options: Any) -> Device:
        """Make a device that nobody knows."""
        return Device(self._checked(peer), account, clock=self.clock, **options)

    def enrolled(self, account: str = "acme", **options: Any) -> Device:
        """Make a device whose key is enrolled by an invitation."""
        device = self.device(account, **options)
        assert device.enrol(invitation=self.rules.invite(account)).status == 201
        return device

    def _checked(self, peer: str) -> Any:
        """Make the way to the application, on which every answer is compared with the OpenAPI document."""
        call = in_memory(self.accounts, peer=peer)

        def calling(method: str, path: str, body: bytes, fields: Any) -> Reply:
            reply = call(method, path, body, fields)
            check_documented(method, path, reply)
            return reply

        return calling


def check_documented(method: str, path: str, reply: Reply) -> None:
    """Fail unless an answer is one that the OpenAPI document has."""
    route = "/keys/{thumbprint}" if path.startswith("/keys/") and len(path) == 49 else path.partition("?")[0]
    operation = DOCUMENT["paths"].get(route, {}).get(method.lower())
    schema: dict[str, Any] | None = {"$ref": "#/components/schemas/Problem"}
    if operation is None:
        assert reply.status in {404, 405}
    else:
        answer = operation["responses"][str(reply.status)]
        content = answer.get("content", {}).get("application/json")
        schema = content and content["schema"]
        for name in answer.get("headers", {}):
            assert reply.field(name)
    assert reply.field("Cache-Control") == "no-store"
    if schema is None:
        assert (reply.body, reply.field("Content-Type")) == (b"", "")
    else:
        assert reply.field("Content-Type") == "application/json"
        resolved = {**schema, "components": DOCUMENT["components"]}
        OAS31Validator(resolved).validate(reply.json)


def endpoints() -> list[tuple[str, str]]:
    """Give every method and path that is documented."""
    return [
        (method.upper(), path.replace("{thumbprint}", "x" * 43))
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    ]
