"""Section 10: one request's way through verification, and what each refusal brings."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError, Ed25519Signer, SearchCost, Work
from tuned_digest._base64 import encode_base64
from tuned_digest._wire.challenge import read_challenges
from tuned_digest._wire.credentials import write_credentials
from tuned_digest._wire.grammar import Dialect
from tuned_digest.errors import RequestRejectedError
from tuned_digest.server import Caller, Grant, IncomingRequest, MemoryNonceStore, Policy, Verifier

from .driving import Server, fields_of
from .strategies import adversarial
from .verifying import BOTH, issued, noted, signed, written


@pytest.mark.parametrize("work", BOTH.values(), ids=str)
def test_a_signed_request_is_verified_in_order(work: Work) -> None:
    """Account, nonce, action, body and proof come in this order, and the handler learns who called."""
    signer = Ed25519Signer.generate()
    to = Server(accounts={signer.identity: "alice"}.get)
    nonce = issued(to, {work.scheme: noted(work, to.story)})
    assert to.verify("GET", "/a", [written(nonce, work, signer=signer)]) == Caller(
        signer.identity, "alice", "read"
    )
    assert to.story == ["account", "take", "classify", "read", "proof"]


def test_without_registration_any_identity_may_call() -> None:
    """Where identities are not registered the caller has no account, and none is looked for."""
    to, signer = Server(), Ed25519Signer.generate()
    value = written(issued(to), method="DELETE", signer=signer)
    assert to.verify("DELETE", "/a", [value]) == Caller(signer.identity, None, "delete")
    assert to.story == ["take", "classify", "read"]


def test_a_nonce_is_burned_under_both_schemes_at_once() -> None:
    """Using a nonce under one scheme leaves nothing of it for the other."""
    to = Server()
    nonce = issued(to)
    to.verify("GET", "/a", [written(nonce)])
    assert str(to.refusal("GET", "/a", [written(nonce, SearchCost(8))])) == "unknown nonce"


def test_a_refused_proof_burns_the_nonce() -> None:
    """A second try under the same nonce is too late, also with the right proof."""
    to = Server()
    nonce = issued(to)
    to.refusal("GET", "/a", [written(nonce, path="/b")])
    assert str(to.refusal("GET", "/a", [written(nonce)])) == "unknown nonce"


def test_a_nonce_presented_from_many_threads_succeeds_once() -> None:
    """Of many requests under one nonce at once exactly one is let through."""
    to = Server()
    value = written(issued(to))
    barrier = threading.Barrier(8)

    def present() -> str:
        barrier.wait()
        try:
            return to.verify("GET", "/a", [value]).action
        except RequestRejectedError as rejection:
            return str(rejection)

    with ThreadPoolExecutor(8) as pool:
        outcomes = [future.result() for future in [pool.submit(present) for _ in range(8)]]
    assert sorted(outcomes) == ["read"] + ["unknown nonce"] * 7


@given(
    st.sampled_from(("method", "path", "body", "nonce", "response", "identity", "signature")),
    st.integers(0, 1000),
    st.integers(0, 7),
)
def test_any_bit_changed_is_refused(part: str, position: int, bit: int) -> None:
    """One bit of method, path, body or any part of the credential changed on the way is refused."""

    def flipped(text: str) -> str:
        at = position % len(text)
        return text[:at] + chr(ord(text[at]) ^ 1 << bit) + text[at + 1 :]

    to, body = Server(), "the body of it"
    credentials = signed(issued(to), method="PATCH", path="/vaults/a", body=body.encode())
    request = {"method": "PATCH", "path": "/vaults/a", "body": body}
    values = {
        "identity": encode_base64(credentials.identity),
        "nonce": credentials.nonce,
        "response": credentials.response,
        "signature": encode_base64(credentials.signature),
    }
    whole = request if part in request else values
    whole[part] = flipped(whole[part])
    value = f"{credentials.scheme} " + ";".join(f"{name}={text}" for name, text in values.items())
    content = request["body"].encode("latin-1")
    assert to.refusal(request["method"], request["path"], [value], content).status in (400, 401)


@given(
    st.sampled_from(("nonce", "response", "identity", "signature")),
    st.integers(0, 1000),
    st.integers(0, 7),
    st.sampled_from(("deployed", "list")),
)
def test_any_bit_of_a_search_credential_changed_is_refused(
    part: str, position: int, bit: int, dialect: Dialect
) -> None:
    """One bit of a credential under the second scheme changed on the way is refused, in either dialect."""
    to = Server()
    credentials = replace(signed(issued(to), SearchCost(8)), dialect=dialect)
    texts = {
        "nonce": credentials.nonce,
        "response": credentials.response,
        "identity": encode_base64(credentials.identity),
        "signature": encode_base64(credentials.signature),
    }
    opening = f"{part}=" if dialect == "deployed" else f'{part}="'
    value = write_credentials(credentials)
    at = value.index(opening) + len(opening) + position % len(texts[part])
    changed = value[:at] + chr(ord(value[at]) ^ 1 << bit) + value[at + 1 :]
    assert to.refusal("GET", "/a", [changed]).status in (400, 401)


@given(
    st.text(max_size=8) | st.just("GET"), st.just("/a") | adversarial(), st.lists(adversarial(), max_size=2)
)
def test_no_request_raises_anything_foreign(method: str, path: str, authorization: list[str]) -> None:
    """Whatever is presented, it is refused with an answer to send."""
    rejection = Server().refusal(method, path, authorization)
    assert rejection.status in (400, 401)
    assert json.loads(rejection.body)


class TestSetting:
    """What a verifier is set to."""

    def test_an_unknown_dialect_is_refused(self) -> None:
        """A server writes one of the two dialects."""
        with pytest.raises(ArgumentError, match="deployed or list"):
            Verifier(MemoryNonceStore(), dialect="baroque")  # type: ignore[arg-type]

    def test_a_verifier_has_a_policy_without_being_given_one(self) -> None:
        """Without a policy Argon2 alone is offered, at the deployed tunings."""
        to = Server(policy=Policy())
        for method, action in (("GET", "read"), ("POST", "create")):
            offered = read_challenges(fields_of(to.refusal(method, "/", []).fields)("WWW-Authenticate"))
            assert [{one.scheme: one.work} for one in offered] == [Policy().price(action)]

    def test_an_action_that_is_none_is_the_policys_error(self) -> None:
        """A policy that answers with a word of its own is told so, and nothing is let through."""

        class Odd(Policy):
            def action(self, method: str, path: str) -> str:
                return "levitate"

        with pytest.raises(ArgumentError, match="not 'levitate'"):
            Server(policy=Odd()).verify("GET", "/a", [])

    def test_a_store_that_fails_fails_the_request(self) -> None:
        """What a store raises comes out, and nothing is let through."""

        class Gone(MemoryNonceStore):
            def take(self, nonce: str, /) -> Grant | None:
                raise OSError("the disk is gone")

        to = Server(store=Gone())
        with pytest.raises(OSError, match="the disk is gone"):
            to.verify("GET", "/a", [written(issued(to))])
        assert to.story == ["take"]

    def test_requests_and_rejections_show_no_credentials(self) -> None:
        """The repr of a request, of a refusal and of a caller holds no nonce, response or signature."""
        to = Server()
        value = written(issued(to))
        shown = repr(IncomingRequest("GET", "/a", fields=[("Authorization", value)]))
        shown += repr(to.verify("GET", "/a", [value]))
        refusal = to.refusal("GET", "/a", [value])
        fresh = read_challenges(fields_of(refusal.fields)("WWW-Authenticate"))[0].nonce
        shown += repr(refusal) + str(refusal)
        secrets = [part.partition("=")[2] for part in value.partition(" ")[2].split(";")[1:]]
        assert len(secrets) == 3
        assert [secret for secret in [*secrets, fresh] if secret in shown] == []
