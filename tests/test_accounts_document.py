"""The OpenAPI document of the accounts application: valid, and what is served, whatever is sent."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from tuned_digest._runtime.drivers import run_blocking
from tuned_digest.errors import StoreUnavailableError
from tuned_digest.server import MemoryNonceStore
from tuned_digest.server.incoming import IncomingRequest

from .accounts_application import DOCUMENT, Served, endpoints
from .enrolling import Device, Reply, quick_hashes


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hashes(monkeypatch)


@pytest.fixture
def served() -> Served:
    """The application where keys are invited."""
    return Served()


@pytest.fixture
def device(served: Served) -> Device:
    """A device whose key is enrolled."""
    return served.enrolled()


class TestDocument:
    def test_valid(self) -> None:
        """The document is valid OpenAPI 3.1."""
        validate(DOCUMENT)

    def test_served(self, served: Served) -> None:
        """The document is given to anybody."""
        reply = served.device().call("GET", "/openapi.json", b"", {})
        assert (reply.status, reply.json) == (200, DOCUMENT)

    def test_routes(self, served: Served) -> None:
        """Every route that is served is documented, and the reverse."""
        documented = {
            path: {method.upper() for method in operations} for path, operations in DOCUMENT["paths"].items()
        }
        assert {path: {*serves} for path, serves in served.accounts.routes.items()} == documented

    def test_schemas(self) -> None:
        """Every schema of the document is used."""
        text = json.dumps(DOCUMENT)
        unused = [name for name in DOCUMENT["components"]["schemas"] if f'schemas/{name}"' not in text]
        assert unused == []


def test_every_status_is_served(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each status that is documented is answered to some request; 408 and 413 are the servers' part."""
    seen: dict[tuple[str, str], set[int]] = {endpoint: set() for endpoint in endpoints()}
    device, new = served.enrolled(), served.device()

    def note(reply: Reply, method: str, path: str) -> Reply:
        seen[method, path].add(reply.status)
        return reply

    def post_keys(sender: Device, **more: Any) -> Reply:
        return note(sender.enrol(**more), "POST", "/keys")

    nonce = post_keys(new).json["nonce"]
    for changes in ({"account": "other"}, {"label": "x"}, {}):
        note(device.approve(new, nonce, **changes), "POST", "/approvals")
    post_keys(new, nonce=nonce)
    post_keys(new)
    post_keys(served.device(), invitation="0" * 28)
    for _ in range(21):
        post_keys(served.device())
    for _ in range(3):
        note(device.send("POST", "/recovery-codes"), "POST", "/recovery-codes")
    key_path = "/keys/" + "x" * 43
    note(device.send("DELETE", key_path), "DELETE", key_path)
    note(device.send("DELETE", f"/keys/{new.thumbprint}"), "DELETE", key_path)
    alone = served.device("alone")
    served.rules.add("alone", alone.public, "x")
    note(alone.send("DELETE", f"/keys/{alone.thumbprint}"), "DELETE", key_path)
    for method, path in endpoints():
        note(device.call(method, path, b"", {"Content-Type": "application/json"}), method, path)
        note(device.call(method, path, b"", {"Authorization": "Bearer x"}), method, path)
        note(device.send(method, path, b"{}"), method, path)
        if path != "/openapi.json":
            fields = {"Authorization": "Bearer x", "Content-Type": "application/json"}
            asking = json.dumps(device.asking()).encode()
            note(device.call(method, path, asking, fields), method, path)
            other = served.device()
            body = json.dumps(other.asking()).encode()
            fields["Authorization"] = f"Bearer {other.token(method, path, body, aud='x')}"
            note(device.call(method, path, body, fields), method, path)

    late = served.enrolled("late")
    store_codes = served.rules.registry.store_codes

    def revoking(*arguments: Any, **options: Any) -> None:
        served.rules.revoke(late.thumbprint)
        store_codes(*arguments, **options)

    monkeypatch.setattr(served.rules.registry, "store_codes", revoking)
    note(late.send("POST", "/recovery-codes"), "POST", "/recovery-codes")

    def fail(*arguments: object) -> None:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(MemoryNonceStore, "spend", fail)
    for method, path in endpoints():
        if path != "/openapi.json":
            sender = served.device() if path == "/keys" and method == "POST" else device
            note(sender.send(method, path, sender.asking()), method, path)
    for (method, path), statuses in seen.items():
        route = "/keys/{thumbprint}" if path == key_path else path
        documented = {int(status) for status in DOCUMENT["paths"][route][method.lower()]["responses"]}
        by_drivers = {408, 413, 503} if path == "/openapi.json" else {408, 413}
        assert statuses == documented - by_drivers, (method, path)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["account", "jwk", "label", "invitation", "recovery_code", "nonce", "thumbprint"]
JWKS = st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "d", "kid"]), ANYTHING)
CONTENTS = st.dictionaries(st.sampled_from(NAMES) | st.text(), ANYTHING | JWKS)
BODIES = st.binary(max_size=200) | CONTENTS.map(lambda content: json.dumps(content).encode())


class TestFuzzed:
    """One application for all examples of a test: what it keeps must not matter."""

    @given(st.data())
    @settings(max_examples=20)
    def test_bodies(self, data: st.DataObject) -> None:
        """Whatever an enrolled key signs and sends, the answer is one that is documented."""
        served = Served()
        device = served.enrolled()
        for _ in range(15):
            method, path = data.draw(st.sampled_from(endpoints()))
            body = data.draw(BODIES)
            media_type = data.draw(st.sampled_from(["application/json", "text/plain", "\xff", ""]))
            fields = {
                "Authorization": f"Bearer {device.token(method, path, body)}",
                "Content-Type": media_type,
            }
            assert device.call(method, path, body, fields).status < 500

    @given(st.data())
    @settings(max_examples=20)
    def test_members(self, data: st.DataObject) -> None:
        """Whatever members a device sends to have its key enrolled, the answer is one that is documented."""
        served = Served(registration="open")
        for _ in range(15):
            device = served.device()
            asking = {
                **device.asking(),
                **data.draw(st.dictionaries(st.sampled_from(NAMES), ANYTHING | JWKS)),
            }
            body = json.dumps(asking).encode()
            claims = (
                {"iss": asking["account"], "sub": asking["account"]} if is_text(asking["account"]) else {}
            )
            fields = {
                "Authorization": f"Bearer {device.token('POST', '/keys', body, **claims)}",
                "Content-Type": "application/json",
            }
            assert device.call("POST", "/keys", body, fields).status < 500

    @given(st.sampled_from(["thumbprint", "label", "nonce"]), st.text(min_size=1))
    def test_approvals(self, name: str, text: str) -> None:
        """Whatever an approval says, it is answered with 400 or 404 unless it is right."""
        served = Served()
        device, new = served.enrolled(), served.device()
        nonce = new.enrol().json["nonce"]
        assert device.approve(new, nonce, **{name: text + "x"}).status in {400, 404}

    @given(
        st.sampled_from([method for method, _ in endpoints()]) | st.text(),
        st.sampled_from([path for _, path in endpoints()]) | st.text(),
        st.text(),
        st.lists(st.tuples(st.sampled_from(["Authorization", "Content-Type", "Host"]), st.text())),
        st.binary(max_size=50),
    )
    @settings(max_examples=300)
    def test_requests(
        self, method: str, path: str, query: str, fields: list[tuple[str, str]], body: bytes
    ) -> None:
        """Whatever a stranger sends, the answer is no server error."""
        request = IncomingRequest(method, path, query, fields, "192.0.2.1")
        assert run_blocking(Served().accounts.answer(request, path, body)).status < 500


def is_text(value: object) -> bool:
    """Tell whether a value is text that can be signed."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeError:
        return False
