"""The endpoints where devices enrol, approve and revoke keys: what each does, without a server."""

import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from tuned_digest.errors import ArgumentError
from tuned_digest.server import MemoryNonceStore
from tuned_digest.server.accounts import MemoryKeyRegistry
from tuned_digest.server.accounts.application import Accounts

from .accounts_application import Served, endpoints
from .enrolling import NOW, ORIGIN, Device, in_memory, quick_hashes


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


class TestEnrolling:
    def test_invited(self, served: Served) -> None:
        """An invitation enrols the device's key, and the first one brings ten recovery codes."""
        one = served.device(label="Ann's laptop")
        reply = one.enrol(invitation=served.rules.invite("acme"))
        assert reply.status == 201
        assert reply.json["recovery_codes"][9].count("-") == 6
        assert {**reply.json, "recovery_codes": []} == {
            "account": "acme",
            "thumbprint": one.thumbprint,
            "label": "Ann's laptop",
            "recovery_codes": [],
        }
        two = served.device()
        reply = two.enrol(invitation=served.rules.invite("acme"))
        assert (reply.status, "recovery_codes" in reply.json) == (201, False)

    @pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
    def test_kinds_of_keys(self, served: Served, kind: str) -> None:
        """Keys of every kind are enrolled, and sign requests then."""
        key = RSAKey.generate_key(2048) if kind == "RSA" else ECKey.generate_key(kind)
        device = served.enrolled(key=key)
        (listed,) = device.send("GET", "/keys").json["keys"]
        assert listed["thumbprint"] == key.thumbprint()

    def test_approved(self, served: Served, device: Device) -> None:
        """A further device waits, is approved by an enrolled one, asks once more, and can sign then."""
        new = served.device(label="phone")
        reply = new.enrol()
        assert reply.status == 202
        nonce = reply.json["nonce"]
        assert reply.json == {
            "thumbprint": new.thumbprint,
            "fingerprint": new.public.fingerprint,
            "nonce": nonce,
            "expires_in": 600,
        }
        assert new.send("GET", "/keys").status == 401
        served.clock.now += 1.5
        assert new.enrol(nonce=nonce).json["expires_in"] == 598
        (listed,) = device.send("GET", "/candidates").json["candidates"]
        assert listed == {**reply.json, "label": "phone", "expires_in": 598}
        assert device.approve(new, listed["nonce"]).status == 204
        assert device.send("GET", "/candidates").json == {"candidates": []}
        assert new.send("GET", "/keys").status == 401
        assert new.enrol(nonce=nonce).json == {
            "account": "acme",
            "thumbprint": new.thumbprint,
            "label": "phone",
        }
        assert new.send("GET", "/keys").status == 200
        assert new.enrol(nonce=nonce).status == 409

    def test_recovered(self, served: Served) -> None:
        """A recovery code enrols a key of an account that has lost all others."""
        lost, new = served.device(), served.device()
        codes = lost.enrol(invitation=served.rules.invite("acme")).json["recovery_codes"]
        served.rules.revoke(lost.thumbprint)
        served.clock.now += 1
        assert new.enrol(recovery_code=codes[3]).status == 201
        shown = new.send("GET", "/keys").json
        assert [key["thumbprint"] for key in shown["recoveries"]] == [new.thumbprint]
        assert shown["recovery_codes_left"] == 9

    def test_open(self) -> None:
        """Where registration is open, the first key of a free name is enrolled, and the second one waits."""
        served = Served(registration="open")
        assert len(served.device().enrol().json["recovery_codes"]) == 10
        assert served.device().enrol().status == 202

    @pytest.mark.parametrize("registration", ["invited", "operator"])
    def test_nobody_learns_of_accounts(self, registration: Any) -> None:
        """Where registration is not open, an account that exists and one that does not are answered alike."""
        served = Served(registration=registration)
        served.rules.add("acme", served.device().public, "laptop")
        answers = []
        for account in ("acme", "other"):
            asking = [served.device(account).enrol() for _ in range(21)]
            code = served.device(account).enrol(invitation="0" * 28)
            nonce = served.device(account).enrol(nonce="x")
            seen = [
                (reply.status, sorted(reply.json), reply.json.get("reason"))
                for reply in [*asking, code, nonce]
            ]
            answers.append(seen)
        assert answers[0] == answers[1]
        assert [status for status, *_ in answers[0]] == [202] * 20 + [429, 403, 403]

    def test_key_enrolled(self, served: Served, device: Device) -> None:
        """A key is enrolled once, ever: also when it is revoked, also by another account."""
        assert device.enrol().json["reason"] == "key enrolled"
        served.rules.revoke(device.thumbprint)
        device.account = "other"
        invitation = served.rules.invite("other")
        reply = device.enrol(invitation=invitation)
        assert (reply.status, reply.json["reason"]) == (409, "key enrolled")
        assert served.device("other").enrol(invitation=invitation).status == 201

    def test_code_refused(self, served: Served) -> None:
        """A wrong code is answered with 403, and after five of them with 429 and the time to wait."""
        statuses = [served.device(peer="192.0.2.1").enrol(invitation="0" * 28).status for _ in range(5)]
        assert statuses == [403] * 5
        reply = served.device(peer="192.0.2.1").enrol(invitation=served.rules.invite("acme"))
        assert (reply.status, reply.field("Retry-After")) == (429, "600")
        served.clock.now += 600
        reply = served.device(peer="192.0.2.1").enrol(invitation=served.rules.invite("acme"))
        assert reply.status == 201


class TestProofOfPossession:
    def test_signed_by_another_key(self, served: Served) -> None:
        """Nobody enrols a public key that they cannot sign with."""
        mine, theirs = served.device(), served.device()
        asking = {**mine.asking(), "jwk": theirs.jwk, "invitation": served.rules.invite("acme")}
        assert mine.send("POST", "/keys", asking).status == 401
        assert served.rules.registry.keys() == []

    def test_key_in_the_header(self, served: Served) -> None:
        """A token that names the key in the body, and is signed by another one, is refused."""
        mine, theirs = served.device(), served.device()
        mine.named = theirs.thumbprint
        asking = {**mine.asking(), "jwk": theirs.jwk}
        assert mine.send("POST", "/keys", asking).status == 401

    def test_signed_for_another_account(self, served: Served) -> None:
        """The account that is asked for is the one that the token says."""
        device = served.device()
        for claims in ({"iss": "other"}, {"sub": "other"}, {"iss": "other", "sub": "other"}):
            reply = device.send("POST", "/keys", device.asking(), **claims)
            assert (reply.status, reply.json["reason"]) == (401, "token refused")

    def test_here_alone(self, served: Served) -> None:
        """A key that is not enrolled is good for this endpoint alone."""
        device = served.device()
        for method, path in endpoints():
            if path not in {"/openapi.json", "/keys"} or (method == "GET" and path != "/openapi.json"):
                assert device.send(method, path, device.asking()).status == 401

    def test_once(self, served: Served) -> None:
        """A token is used once, also one that was refused by a rule."""
        device = served.device()
        body = json.dumps(device.asking(invitation="0" * 28)).encode()
        fields = {
            "Authorization": f"Bearer {device.token('POST', '/keys', body)}",
            "Content-Type": "application/json",
        }
        assert device.call("POST", "/keys", body, fields).status == 403
        reply = device.call("POST", "/keys", body, fields)
        assert (reply.status, reply.json["reason"]) == (401, "token refused")

    def test_bound_to_the_body(self, served: Served) -> None:
        """What was signed for one body is not good for another."""
        device = served.device()
        body = json.dumps(device.asking(label="phone")).encode()
        token = device.token("POST", "/keys", json.dumps(device.asking()).encode())
        fields = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        assert device.call("POST", "/keys", body, fields).status == 401

    @pytest.mark.parametrize("claims", [{"htm": None, "htu": None, "content_digest": None}, {"jti": None}])
    def test_bound_and_single_use(self, served: Served, claims: dict[str, Any]) -> None:
        """A token that is not bound, or can be used twice, is refused by every endpoint."""
        device = served.device()
        assert device.send("POST", "/keys", device.asking(), **claims).status == 401
        assert served.enrolled().send("GET", "/keys", **claims).status == 401


class TestApproving:
    def test_other_account(self, served: Served, device: Device) -> None:
        """A key approves nothing for another account."""
        new = served.device("other")
        nonce = new.enrol().json["nonce"]
        reply = device.approve(new, nonce, account="other")
        assert (reply.status, reply.json["reason"]) == (403, "other account")
        reply = device.approve(new, nonce)
        assert (reply.status, reply.json["reason"]) == (404, "no candidate")
        assert new.enrol(nonce=nonce).status == 202

    @pytest.mark.parametrize("changed", ["thumbprint", "label", "nonce"])
    def test_something_else(self, served: Served, device: Device, changed: str) -> None:
        """An approval that differs in anything is answered with 404."""
        new = served.device(label="phone")
        nonce = new.enrol().json["nonce"]
        assert device.approve(new, nonce, **{changed: "x"}).status == 404

    def test_not_approved(self, served: Served, device: Device) -> None:
        """A device that sends another nonce, or its own too late, is told to ask again."""
        new = served.device()
        nonce = new.enrol().json["nonce"]
        assert new.enrol(nonce="x").json["reason"] == "not approved"
        assert device.approve(new, nonce).status == 204
        served.clock.now += 600
        reply = new.enrol(nonce=nonce)
        assert (reply.status, reply.json["reason"]) == (403, "not approved")

    def test_too_many(self, served: Served) -> None:
        """Twenty keys wait for an account; the next one is told when to try again."""
        for _ in range(20):
            assert served.device().enrol().status == 202
        reply = served.device().enrol()
        assert (reply.status, reply.field("Retry-After")) == (429, "60")


class TestRevoking:
    def test_at_once(self, served: Served, device: Device) -> None:
        """A revoked key signs nothing any more, and says so in the list."""
        other = served.enrolled()
        assert device.send("DELETE", f"/keys/{other.thumbprint}").status == 204
        assert other.send("GET", "/keys").status == 401
        shown = {key["thumbprint"]: key["revoked"] for key in device.send("GET", "/keys").json["keys"]}
        assert shown == {device.thumbprint: None, other.thumbprint: NOW}
        reply = device.send("DELETE", f"/keys/{other.thumbprint}")
        assert (reply.status, reply.json["reason"]) == (404, "no such key")

    def test_of_another_account(self, served: Served, device: Device) -> None:
        """A key revokes none of another account, and does not learn that it is there."""
        other = served.enrolled("other")
        replies = [device.send("DELETE", f"/keys/{name}") for name in (other.thumbprint, "x" * 43)]
        assert [(reply.status, reply.body) for reply in replies] == [(404, replies[0].body)] * 2
        assert other.send("GET", "/keys").status == 200

    def test_last_key(self, served: Served) -> None:
        """The last key revokes itself only while recovery codes are left."""
        device = served.device()
        served.rules.add("acme", device.public, "laptop")
        reply = device.send("DELETE", f"/keys/{device.thumbprint}")
        assert (reply.status, reply.json["reason"]) == (409, "last key")
        codes = device.send("POST", "/recovery-codes").json["recovery_codes"]
        assert device.send("DELETE", f"/keys/{device.thumbprint}").status == 204
        assert served.device().enrol(recovery_code=codes[0]).status == 201

    @pytest.mark.parametrize(("method", "status"), [("revoke", 404), ("store_codes", 403)])
    def test_revoked_meanwhile(
        self, served: Served, device: Device, monkeypatch: pytest.MonkeyPatch, method: str, status: int
    ) -> None:
        """A request that is under way when its key is revoked revokes no key, and brings no codes."""
        thief = served.enrolled(label="phone")
        left, do = served.rules.registry.codes("acme", "recovery"), getattr(served.rules.registry, method)

        def revoking(*arguments: Any, **options: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(served.rules.registry, method, do)
                assert served.rules.revoke(thief.thumbprint)
            return do(*arguments, **options)

        monkeypatch.setattr(served.rules.registry, method, revoking)
        requests = {"revoke": f"DELETE /keys/{device.thumbprint}", "store_codes": "POST /recovery-codes"}
        assert thief.send(*requests[method].split()).status == status
        assert device.send("GET", "/keys").status == 200
        assert served.rules.registry.codes("acme", "recovery") == left


class TestListing:
    def test_keys(self, served: Served, device: Device) -> None:
        """The keys of the account are listed, with when they were added and last used."""
        served.enrolled("other")
        served.clock.now += 120
        assert device.send("GET", "/keys").status == 200
        reply = device.send("GET", "/keys")
        assert reply.json == {
            "account": "acme",
            "keys": [
                {
                    "thumbprint": device.thumbprint,
                    "fingerprint": device.public.fingerprint,
                    "label": "laptop",
                    "added": NOW,
                    "last_used": NOW + 120,
                    "revoked": None,
                }
            ],
            "recovery_codes_left": 10,
            "recoveries": [],
        }

    def test_audit(self, served: Served, device: Device) -> None:
        """The audit trail of the account is given from any entry on."""
        served.enrolled("other")
        device.send("POST", "/recovery-codes")
        entries = device.send("GET", "/audit").json["entries"]
        assert [entry["what"] for entry in entries] == [
            "invitation made",
            "key invited",
            "recovery codes made",
            "recovery codes made",
        ]
        assert entries[-1]["by"] == device.thumbprint
        later = device.send("GET", f"/audit?after={entries[1]['number']}").json["entries"]
        assert later == entries[2:]
        assert device.send("GET", "/audit?after=999999999999999").json == {"entries": []}

    @pytest.mark.parametrize(
        "query",
        ["after", "after=", "after=-1", "after=x", "after=1&after=2", "before=1", "after=1" + "0" * 15],
    )
    def test_no_query(self, device: Device, query: str) -> None:
        """Any other query is a bad request."""
        assert device.send("GET", f"/audit?{query}").status == 400

    def test_recovery_codes(self, served: Served, device: Device) -> None:
        """Ten new codes replace those that are left."""
        reply = device.send("POST", "/recovery-codes")
        assert reply.status == 201
        assert len({*reply.json["recovery_codes"]}) == 10
        assert served.device().enrol(recovery_code=reply.json["recovery_codes"][0]).status == 201


class TestSettings:
    def test_no_enrolment(self) -> None:
        """The rules are passed as an object."""
        wrong: Any = MemoryKeyRegistry()
        with pytest.raises(ArgumentError, match=r"Enrolment\(registry\)"):
            Accounts(wrong, ORIGIN, single_use=MemoryNonceStore())

    def test_origin(self, served: Served) -> None:
        """Tokens can be bound to another origin than the server's name for itself."""
        accounts = Accounts(
            served.rules, "acme-api", single_use=served.store, origin=ORIGIN, _clock=served.clock
        )
        device = Device(in_memory(accounts), clock=served.clock, audience="acme-api")
        assert device.enrol().status == 202

    def test_decisions(self, served: Served) -> None:
        """Every decision about a token is told, whichever key signs it."""
        decisions: list[int] = []
        accounts = Accounts(
            served.rules,
            ORIGIN,
            single_use=served.store,
            on_decision=lambda decision: decisions.append(decision.status),
            _clock=served.clock,
        )
        device = Device(in_memory(accounts), clock=served.clock)
        device.enrol()
        device.send("GET", "/keys")
        assert decisions == [0, 401]
