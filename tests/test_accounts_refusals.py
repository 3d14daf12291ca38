"""What the endpoints of accounts refuse, and what they say when something is away or flooded."""

import json
import logging
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from tuned_digest._runtime.drivers import run_blocking
from tuned_digest.errors import ArgumentError, OverloadedError, StoreUnavailableError
from tuned_digest.keys import public_keys
from tuned_digest.server.accounts import application
from tuned_digest.server.accounts.application import Accounts
from tuned_digest.server.accounts.codes import read_code
from tuned_digest.server.checks import CheckQueue

from .accounts_application import Served, endpoints
from .enrolling import ORIGIN, Device, Reply, enrolment, in_memory, quick_hashes


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


class TestBadRequests:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"x"',
            b"\xff{}",
            b"\xef\xbb\xbf{}",
            b"{}{}",
            b'{"account": "a", "account": "b"}',
            b'{"label": "\\ud800"}',
            b'{"jwk": {"x": "\\udfff"}}',
            b'{"jwk": ' + b"[" * 9 + b"]" * 9 + b"}",
            b"[" * 16384,
            b'{"a":' * 3000,
            b'{"account": NaN}',
            b'{"account": 1' + b"0" * 5000 + b"}",
        ],
    )
    def test_not_read(self, served: Served, device: Device, body: bytes) -> None:
        """What is not one JSON object that can be read in one way is answered with 400."""
        for sender, path in ((served.device(), "/keys"), (device, "/approvals")):
            fields = {
                "Authorization": f"Bearer {sender.token('POST', path, body)}",
                "Content-Type": "application/json",
            }
            assert sender.call("POST", path, body, fields).status == 400

    @pytest.mark.parametrize(
        "changes",
        [
            {"account": None},
            {"account": ""},
            {"account": 1},
            {"account": "Acme"},
            {"label": ["x"]},
            {"label": "\u202e"},
            {"jwk": None},
            {"jwk": "x"},
            {"jwk": {}},
            {"jwk": {"kty": "oct", "k": "AAAA"}},
            {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "alg": "Ed25519"}},
            {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A", "alg": []}},
            {"invitation": "x"},
            {"invitation": ""},
            {"invitation": None},
            {"nonce": "x", "invitation": "0" * 28},
            {"invitation": "0" * 28, "recovery_code": "0" * 28},
            {"admin": True},
        ],
    )
    def test_members(self, served: Served, changes: dict[str, Any]) -> None:
        """What a key is enrolled with is checked, member by member."""
        device = served.device()
        asking = {**device.asking(), **changes}
        content = {name: value for name, value in asking.items() if (name, value) != ("account", None)}
        reply = device.send("POST", "/keys", content, iss=asking["account"], sub=asking["account"])
        assert (reply.status, reply.json["reason"]) == (400, "bad request")

    def test_private_key(self, served: Served) -> None:
        """A private key is refused, and not repeated."""
        device = served.device()
        private = device.key.as_dict(private=True)
        reply = device.enrol(jwk=private)
        assert reply.status == 400
        assert private["d"].encode() not in reply.body

    @pytest.mark.parametrize("media_type", ["", "text/plain", "application/json-seq", "multipart/form-data"])
    def test_media_type(self, served: Served, device: Device, media_type: str) -> None:
        """A body of another media type, or of none, is answered with 415."""
        for sender, path in ((served.device(), "/keys"), (device, "/approvals")):
            fields = {"Authorization": f"Bearer {sender.token('POST', path, b'{}')}"}
            fields |= {"Content-Type": media_type} if media_type else {}
            assert sender.call("POST", path, b"{}", fields).status == 415

    def test_media_type_parameters(self, served: Served) -> None:
        """Letter case and parameters of the media type do not matter."""
        device = served.device()
        body = json.dumps(device.asking()).encode()
        fields = {
            "Authorization": f"Bearer {device.token('POST', '/keys', body)}",
            "Content-Type": "Application/JSON; charset=utf-8",
        }
        assert device.call("POST", "/keys", body, fields).status == 202

    @pytest.mark.parametrize("path", ["", "/", "/key", "/keys/", "/keys/x", "/keys/{thumbprint}", "/\udc80"])
    def test_no_such_path(self, served: Served, path: str) -> None:
        """Any other path is answered with 404, whoever asks."""
        assert served.device().call("GET", path, b"", {}).status == 404

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", "/keys", "GET, POST"),
            ("HEAD", "/openapi.json", "GET"),
            ("GET", "/keys/" + "x" * 43, "DELETE"),
        ],
    )
    def test_no_such_method(self, served: Served, method: str, path: str, allowed: str) -> None:
        """Any other method is answered with 405 and the methods that there are."""
        reply = served.device().call(method, path, b"", {})
        assert (reply.status, reply.field("Allow")) == (405, allowed)

    @pytest.mark.parametrize("authorization", [None, "", "Basic x", "Bearer", "Bearer x", "Bearer a.b.c"])
    def test_no_token(self, served: Served, authorization: str | None) -> None:
        """Without a token that can be read, nothing is done."""
        fields = {} if authorization is None else {"Authorization": authorization}
        body = json.dumps(served.device().asking()).encode()
        for method, path in endpoints():
            if path != "/openapi.json":
                reply = served.device().call(
                    method, path, body, {**fields, "Content-Type": "application/json"}
                )
                assert reply.status in {400, 401}
                assert reply.field("WWW-Authenticate").startswith("Bearer realm=")

    def test_unknown_and_revoked(self, served: Served, device: Device) -> None:
        """A key that is unknown, one that is revoked and a wrong signature are answered alike."""
        unknown, revoked = served.device(), served.enrolled()
        served.rules.revoke(revoked.thumbprint)
        forged = Device(device.call, "acme", key=OKPKey.generate_key("Ed25519"), clock=served.clock)
        forged.named = device.thumbprint
        answers = {
            (reply.status, reply.body, reply.field("WWW-Authenticate"))
            for reply in (
                unknown.send("GET", "/keys"),
                revoked.send("GET", "/keys"),
                forged.send("GET", "/keys"),
            )
        }
        assert len(answers) == 1


class TestStrangers:
    def test_one_address(self, served: Served) -> None:
        """An address sends a hundred requests a minute to have keys enrolled, whatever comes of them."""
        new = served.device(peer="192.0.2.1")
        nonce = new.enrol().json["nonce"]
        for _ in range(99):
            new.enrol(nonce=nonce)
        reply = new.enrol(nonce=nonce)
        assert (reply.status, reply.field("Retry-After")) == (429, "60")
        assert served.device(peer="192.0.2.2").enrol().status == 202
        assert served.enrolled(peer="192.0.2.2").send("GET", "/keys").status == 200
        served.clock.now += 60
        assert new.enrol(nonce=nonce).status == 202

    def test_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All strangers together take no more than a part of the places where used tokens are remembered."""
        monkeypatch.setattr(application, "_STRANGERS", 3)
        served = Served()
        spent: list[str] = []
        spend = served.store.spend

        def noting(name: str, seconds: float) -> str | None:
            spent.append(name)
            return spend(name, seconds)

        monkeypatch.setattr(served.store, "spend", noting)
        statuses = [served.device(f"a{number}").enrol().status for number in range(5)]
        assert statuses == [202, 202, 202, 429, 429]
        assert len(spent) == 3

    def test_who_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Among all strangers counts whoever holds a key, and is held up whoever brings no code or nonce."""
        monkeypatch.setattr(application, "_STRANGERS", 1)
        served = Served()
        invitation, other = served.rules.invite("acme"), served.device()
        unsigned = json.dumps(other.asking()).encode()
        fields = {"Content-Type": "application/json"}
        assert [other.call("POST", "/keys", unsigned, fields).status for _ in range(3)] == [401] * 3
        assert other.send("POST", "/keys", other.asking(), aud="x").status == 401
        new = served.device()
        nonce = new.enrol().json["nonce"]
        assert other.enrol().status == 429
        assert new.enrol(nonce=nonce).status == 202
        device = served.device()
        (code, *_) = device.enrol(invitation=invitation).json["recovery_codes"]
        assert served.device().enrol(recovery_code=code).status == 201
        assert other.enrol(recovery_code="0" * 28).status == 403

    def test_keys_are_not_kept(self, served: Served) -> None:
        """A stranger's key takes no place of those that are kept, nor is it read beyond the limit."""
        device = served.device(peer="192.0.2.1")
        body = json.dumps(device.asking()).encode()
        fields = {
            "Authorization": f"Bearer {device.token('POST', '/keys', body)}",
            "Content-Type": "application/json",
        }
        before = public_keys._read.cache_info()
        statuses = [device.call("POST", "/keys", body, fields).status for _ in range(100)]
        assert statuses == [202] + [401] * 99
        assert public_keys._read.cache_info() == before
        assert device.enrol(jwk={}).status == 429


class TestUnavailable:
    @pytest.mark.parametrize("method", ["find", "keys", "propose", "candidates", "audit", "approve"])
    def test_registry(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
    ) -> None:
        """A registry that is away is answered with 503, and the log says once that it is."""
        device, new = served.enrolled(), served.device()
        nonce = new.enrol().json["nonce"]

        def fail(*arguments: object, **options: object) -> None:
            raise StoreUnavailableError("postgres://secret is away", retry_after=3)

        def ask() -> Reply:
            return {
                "find": lambda: device.send("GET", "/keys"),
                "keys": lambda: device.send("GET", "/keys"),
                "propose": lambda: served.device().enrol(),
                "candidates": lambda: device.send("GET", "/candidates"),
                "audit": lambda: device.send("GET", "/audit"),
                "approve": lambda: device.approve(new, nonce),
            }[method]()

        with monkeypatch.context() as patch:
            patch.setattr(served.rules.registry, method, fail)
            for _ in range(3):
                reply = ask()
                assert (reply.status, reply.field("Retry-After")) == (503, "3")
                assert b"secret" not in reply.body
        assert ask().status < 300
        said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert said == [
            "requests are answered with 503: postgres://secret is away",
            "the key registry works again",
        ]

    def test_hashes(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        """When too many codes wait to be hashed, the next one is answered with 503."""

        def fail(*arguments: object) -> None:
            raise OverloadedError("full", retry_after=2)

        invitation = served.rules.invite("acme")
        with monkeypatch.context() as patch:
            patch.setattr(CheckQueue, "step", fail)
            reply = served.device().enrol(invitation=invitation)
        assert (reply.status, reply.field("Retry-After")) == (503, "2")
        assert served.device().enrol(invitation=invitation).status == 201

    def test_code_taken(self, served: Served, device: Device) -> None:
        """A code whose name is there already is not kept; another try draws another one."""
        fixed = bytes(28)
        rules = enrolment(served.clock, served.rules.registry, _randomness=lambda size: fixed[:size])
        accounts = Accounts(rules, ORIGIN, single_use=served.store, _clock=served.clock)
        device.call = in_memory(accounts)
        reply = device.send("POST", "/recovery-codes")
        assert (reply.status, reply.field("Retry-After")) == (503, "1")

    def test_start(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        """Starting fails where the registry cannot serve, and not where it is away for now."""
        for error, fails in ((StoreUnavailableError("away"), False), (ArgumentError("wrong version"), True)):

            def fail(error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(served.rules.registry, "start", fail)
            if fails:
                with pytest.raises(ArgumentError, match="wrong version"):
                    run_blocking(served.accounts.start())
            else:
                run_blocking(served.accounts.start())


class TestSecrets:
    def test_logs_and_answers(
        self, served: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Codes, nonces, tokens and private keys are in no log, and codes in no answer but the one."""
        caplog.set_level(logging.DEBUG)
        device, new = served.device(), served.device()
        invitation = served.rules.invite("acme")
        codes = device.enrol(invitation=invitation).json["recovery_codes"]
        nonce = new.enrol().json["nonce"]
        token = device.token("GET", "/keys", b"")
        replies = [
            device.call("GET", "/keys", b"", {"Authorization": f"Bearer {token}"}),
            device.call("GET", "/keys", b"", {"Authorization": f"Bearer {token}"}),
            device.enrol(invitation=invitation),
            served.device().enrol(invitation=invitation),
            served.device().enrol(recovery_code=codes[0], label=""),
            served.device("other").enrol(recovery_code=codes[0]),
            served.device().enrol(nonce=nonce),
            device.approve(new, nonce),
            new.enrol(nonce=nonce),
            device.send("GET", "/keys"),
            device.send("GET", "/candidates"),
            device.send("GET", "/audit"),
        ]
        secret = [nonce, token, device.key.as_dict(private=True)["d"]]
        for code in (invitation, *codes):
            secret += [code, read_code(code).secret]
        output = capfd.readouterr()
        said = [
            *(str(record.__dict__) + record.getMessage() for record in caplog.records),
            output.out,
            output.err,
        ]
        answered = [reply.body.decode() for reply in replies]
        assert [text for text in said if any(one in text for one in secret)] == []
        assert [text for text in answered if any(one in text for one in secret)] == []

    def test_reprs(self, served: Served, device: Device) -> None:
        """No answer shows its content in its repr."""
        reply = device.send("POST", "/recovery-codes")
        assert reply.json["recovery_codes"][0] not in repr(reply)
