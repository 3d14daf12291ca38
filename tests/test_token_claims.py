"""What callers add to tokens, and what a constructor refuses; nothing of either is a foreign exception."""

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import (
    ArgumentError,
    Ed25519Signer,
    TokenRequest,
    TunedDigestError,
)
from tuned_digest.httpx import SelfSignedTokenAuth

from .field_server import field as echo
from .token_serving import (
    ACCOUNT,
    auth_of,
    claims_of,
    every_client,
    header_of,
    lent,
    serving_tokens,
    signed_in,
)

ORIGIN = "https://api.example.com"
SIGNER = Ed25519Signer.generate()
UNBOUND = {"is_bound": False, "is_single_use": False}


def sent_by(auth: Any, url: str = f"{ORIGIN}/a?b=c", **options: Any) -> httpx.Request:
    """Send a request with httpx, to a transport that answers at once, and give what arrived."""
    arrived: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        arrived.append(request)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.request("PUT", url, auth=auth, **options)
    return arrived[0]


def signed(**options: Any) -> httpx.Request:
    """Send a request with an auth object of these options."""
    return sent_by(SelfSignedTokenAuth(ORIGIN, SIGNER, **{"account": ACCOUNT, **options}))


def token_of(request: httpx.Request) -> str:
    """Give the token of a request."""
    value: str = request.headers["Authorization"]
    return value


class TestClaims:
    @every_client
    @pytest.mark.parametrize("as_function", [False, True])
    def test_claims_are_added_replaced_and_removed(
        self, name: str, as_function: bool, signer: Ed25519Signer
    ) -> None:
        """A mapping changes the claims, and so does a function of the request."""
        asked: list[TokenRequest] = []
        changes: dict[str, Any] = {"iss": "other", "sub": None, "scope": ["a", "b"], "absent": None, "n": 1.5}

        def claims(request: TokenRequest) -> Mapping[str, object]:
            asked.append(request)
            return {**changes, "uri": f"{request.method} {request.origin}{request.path}"}

        with (
            serving_tokens(signer) as (server, served),
            signed_in(name, served.url, signer, claims=claims if as_function else changes) as client,
        ):
            server.script.append((200, []))
            client.send("PUT", f"{served.url}/a?b=c", body=b"x")
        sent = claims_of(served.requests[0].field("Authorization")[0])
        assert (sent["iss"], sent["scope"], sent["n"]) == ("other", ["a", "b"], 1.5)
        assert not {"sub", "absent"} & set(sent)
        assert set(sent) >= {"aud", "iat", "exp", "jti", "htm", "htu", "query", "content_digest"}
        if as_function:
            assert sent["uri"] == f"PUT {served.url}/a"
            (request,) = asked
            assert (request.method, request.origin, request.path, request.query) == (
                "PUT",
                served.url,
                "/a",
                "b=c",
            )
            assert request.now == sent["exp"] - 60
            assert len(request.body_sha256) == 32

    @pytest.mark.parametrize("option", ["claims", "header"])
    @pytest.mark.parametrize("reuse", [False, True])
    def test_a_function_may_name_the_body(self, option: str, reuse: bool) -> None:
        """It is told the body's digest in an unbound token too, but for one that goes with any body."""
        asked: list[TokenRequest] = []

        def change(request: TokenRequest) -> Mapping[str, object]:
            asked.append(request)
            return {}

        request = signed(bind=False, reuse=reuse, **{option: change})
        assert asked[0].body_sha256 == (b"" if reuse else hashlib.sha256(b"").digest())
        assert "Content-Digest" not in request.headers

    @pytest.mark.parametrize("as_function", [False, True])
    def test_header_parameters_are_added_replaced_and_removed(self, as_function: bool) -> None:
        """The same for the header."""
        changes = {"kid": "mine", "typ": None, "nonce": "x", "absent": None}
        header = header_of(token_of(signed(header=(lambda request: changes) if as_function else changes)))
        assert header == {"alg": "Ed25519", "kid": "mine", "nonce": "x"}

    def test_a_function_adds_to_each_token_anew(self) -> None:
        """What one token was given is not on the next."""
        names = iter("ab")
        auth = SelfSignedTokenAuth(ORIGIN, SIGNER, account=ACCOUNT, header=lambda request: {next(names): 1})
        headers = [header_of(token_of(sent_by(auth))) for _ in range(2)]
        assert [set(header) - {"alg", "typ", "kid"} for header in headers] == [{"a"}, {"b"}]

    @pytest.mark.parametrize("mapping", [OrderedDict, MappingProxyType])
    def test_any_mapping_will_do(self, mapping: Callable[[Any], Any]) -> None:
        """Claims and header are mappings of any class."""
        token = token_of(signed(claims=mapping({"a": 1}), header=mapping({"b": 2})))
        assert (claims_of(token)["a"], header_of(token)["b"]) == (1, 2)

    def test_audience_lifetime_and_skew(self) -> None:
        """The audience is what was given, and the times lie as far apart as was asked for."""
        sent = claims_of(token_of(signed(audience="acme", lifetime=600, skew=60, _clock=lambda: 1_000_000.9)))
        assert (sent["aud"], sent["iat"], sent["exp"]) == ("acme", 999_940, 1_000_600)

    def test_the_origin_in_a_token_is_in_its_one_spelling(self) -> None:
        """Letter case and the scheme's own port are not in the token, whatever the URL says."""
        auth = SelfSignedTokenAuth("https://API.example.com:443", SIGNER, account=ACCOUNT)
        sent = claims_of(token_of(sent_by(auth, "https://Api.Example.com:443/A")))
        assert (sent["aud"], sent["htu"]) == (ORIGIN, f"{ORIGIN}/A")

    def test_what_goes_to_no_origin_is_not_signed(self) -> None:
        """A URL that is neither http nor https is left to whoever can send it."""
        for origin in ("*", ORIGIN):
            auth = SelfSignedTokenAuth(origin, SIGNER, account=ACCOUNT)
            assert "Authorization" not in sent_by(auth, "ftp://api.example.com/x").headers

    def test_names_beyond_ascii_are_escaped(self) -> None:
        """An account may have any letters."""
        auth = SelfSignedTokenAuth(ORIGIN, SIGNER, account="\u00fc\u2713\U0001f511")
        assert claims_of(token_of(sent_by(auth)))["iss"] == "\u00fc\u2713\U0001f511"

    @every_client
    @pytest.mark.parametrize("option", ["claims", "header"])
    @pytest.mark.parametrize("value", [{"a": b"x"}, {"a": float("nan")}, {"a": {1, 2}}, {(1, 2): 3}])
    def test_what_json_has_not_is_an_error_of_both_families(
        self, name: str, option: str, value: Any, signer: Ed25519Signer
    ) -> None:
        """A value that no token can have is an error that names the request, and nothing is sent."""
        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer, **{option: value}) as client,
        ):
            with pytest.raises(ArgumentError, match="have values that JSON has") as raised:
                client.send("GET", f"{served.url}/x")
            error: Any = raised.value
            assert isinstance(error, client.library_error)
            assert str(error.request.url) == f"{served.url}/x"
        assert served.requests == []

    @pytest.mark.parametrize("option", ["claims", "header"])
    @pytest.mark.parametrize("made", [None, 5, "x", [("a", 1)]])
    def test_a_function_gives_a_mapping(self, option: str, made: Any) -> None:
        """Anything else is an `ArgumentError` that is also the library's."""
        with pytest.raises(ArgumentError, match="gives a mapping") as raised:
            signed(**{option: lambda request: made})
        assert isinstance(raised.value, httpx.RequestError)

    @every_client
    def test_what_a_function_raises_is_the_callers_own(self, name: str, signer: Ed25519Signer) -> None:
        """An error of the caller's own code reaches the caller as it is."""

        def claims(request: TokenRequest) -> Mapping[str, object]:
            raise LookupError(request.path)

        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer, claims=claims) as client,
            pytest.raises(LookupError, match="/x"),
        ):
            client.send("GET", f"{served.url}/x")


class TestFields:
    @every_client
    @pytest.mark.parametrize("how", [{}, {"bind": False, "reuse": True}], ids=["bound", "reused"])
    def test_further_fields_are_sent(self, name: str, how: dict[str, Any], signer: Ed25519Signer) -> None:
        """Each request has them, and a request to another origin has not."""
        fields = {"X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT", "X-B": "c d"}
        with (
            serving_tokens(signer, **UNBOUND) as (_, served),
            lent(echo) as other,
            signed_in(name, served.url, signer, fields=fields, **how) as client,
        ):
            for url in (served.url, served.url, other.url):
                assert client.send("GET", url).status == 200
        for seen in served.requests:
            assert [seen.field(key) for key in fields] == [["KEYPAIR_JWT"], ["c d"]]
        assert [other.requests[0].field(key) for key in fields] == [[], []]

    @every_client
    @pytest.mark.parametrize("how", [{}, {"bind": False, "reuse": True}], ids=["bound", "reused"])
    def test_another_field_and_no_scheme(self, name: str, how: dict[str, Any], signer: Ed25519Signer) -> None:
        """The token alone stands in the field that was named."""
        options = {"field": "X-Token", "scheme": "", **how}
        lax = {**UNBOUND, "carrier": "X-Token", "scheme": ""}
        with (
            serving_tokens(signer, **lax) as (_, served),
            signed_in(name, served.url, signer, **options) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(2)] == [200, 200]
        for seen in served.requests:
            assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+", seen.field("x-token")[0])
            assert seen.field("Authorization") == []

    @every_client
    def test_another_scheme(self, name: str, signer: Ed25519Signer) -> None:
        """What stands before the token is what was given."""
        with (
            serving_tokens(signer, scheme="JWT") as (_, served),
            signed_in(name, served.url, signer, scheme="JWT") as client,
        ):
            result = client.send("GET", served.url)
        assert (result.status, result.report.scheme) == (200, "JWT")

    @every_client
    @pytest.mark.parametrize("binds", [(True, True), (True, False), (False, True), (False, False)])
    def test_a_second_token_in_a_field_of_its_own(
        self, name: str, binds: tuple[bool, bool], signer: Ed25519Signer
    ) -> None:
        """A request carries both, each with its own claims, header and key; of digests it has one."""
        other_key = Ed25519Signer.generate()
        other = auth_of(
            name,
            "https://ignored.example",
            other_key,
            account="wallet",
            field="X-Wallet-Auth",
            scheme="",
            bind=binds[1],
            header={"kid": None},
            claims={"exp": None},
            fields={"X-More": "1"},
        )
        with (
            serving_tokens(signer, is_bound=binds[0]) as (_, served),
            signed_in(name, served.url, signer, bind=binds[0], also=[other]) as client,
        ):
            assert client.send("PUT", served.url, body=b"whole").status == 200
        (seen,) = served.requests
        (second,) = seen.field("X-Wallet-Auth")
        assert "kid" not in header_of(second)
        assert claims_of(second)["iss"] == "wallet"
        assert "exp" not in claims_of(second)
        assert ("content_digest" in claims_of(second)) == binds[1]
        assert claims_of(second)["aud"] == served.url
        assert len(seen.field("Content-Digest")) == any(binds)
        assert seen.field("X-More") == ["1"]

    @every_client
    def test_a_second_token_goes_to_no_other_origin(self, name: str, signer: Ed25519Signer) -> None:
        """No request of its own takes it along, nor a redirect, but for httpx, as the docs warn."""
        second = auth_of(name, ORIGIN, signer, field="X-Wallet-Auth", fields={"X-More": "1"}, bind=False)
        with (
            serving_tokens(signer) as (_, served),
            lent(echo) as other,
            signed_in(name, served.url, signer, also=[second]) as client,
        ):
            client.send("GET", other.url)
            client.send("GET", f"{served.url}/redirect?status=307&to={other.url}/target")
        along = name.startswith("httpx")
        assert [len(seen.field("X-Wallet-Auth")) for seen in other.requests] == [0, along]

    @every_client
    def test_reused_tokens_side_by_side(self, name: str, signer: Ed25519Signer) -> None:
        """Both tokens are kept, and both are sent each time."""
        how = {"bind": False, "reuse": True}
        second = auth_of(name, ORIGIN, signer, field="X-Wallet-Auth", **how)
        with (
            serving_tokens(signer, **UNBOUND) as (_, served),
            signed_in(name, served.url, signer, also=[second], **how) as client,
        ):
            assert [client.send("GET", served.url).status for _ in range(3)] == [200] * 3
        for key in ("Authorization", "X-Wallet-Auth"):
            values = [seen.field(key) for seen in served.requests]
            assert values == [values[0]] * 3
            assert len(values[0]) == 1


OTHER = SelfSignedTokenAuth(ORIGIN, SIGNER, account=ACCOUNT, field="X-Other")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"account": ""}, "account is"),
        ({"account": None}, "account is"),
        ({"account": b"x"}, "account is"),
        ({"audience": 5}, "audience is"),
        ({"audience": ""}, "audience is"),
        ({"audience": ["a"]}, "audience is"),
        ({"reuse": True}, "pass bind=False"),
        *(
            ({"lifetime": value}, "lifetime")
            for value in (0, -1, "60", None, float("nan"), float("inf"), 1e300)
        ),
        *(({"skew": value}, "skew") for value in (-1, "5", None, float("nan"), float("inf"))),
        ({"claims": 5}, "claims is a mapping"),
        ({"claims": [("a", 1)]}, "claims is a mapping"),
        ({"header": "x"}, "header is a mapping"),
        ({"scheme": "Bear er"}, "token"),
        ({"scheme": None}, "token"),
        ({"field": ""}, "token"),
        ({"field": "X Token"}, "token"),
        ({"field": "X\r\nY"}, "token"),
        ({"field": b"x"}, "token"),
        ({"fields": {"X Y": "z"}}, "token"),
        ({"fields": {"X-Y": "a\r\nb"}}, "visible ASCII"),
        ({"fields": {"X-Y": ""}}, "visible ASCII"),
        ({"fields": {"X-Y": " a"}}, "visible ASCII"),
        ({"fields": {"X-Y": "\u00fc"}}, "visible ASCII"),
        ({"fields": {"X-Y": 5}}, "visible ASCII"),
        ({"fields": {5: "x"}}, "token"),
        ({"fields": [("X-Y", "z")]}, "fields are a mapping"),
        ({"fields": "x"}, "fields are a mapping"),
        ({"fields": {"authorization": "z"}}, "fields are further ones"),
        ({"fields": {"Content-Digest": "z"}}, "fields are further ones"),
        ({"also": OTHER}, "also lists"),
        ({"also": "x"}, "also lists"),
        ({"also": [5]}, "also lists"),
        ({"also": [OTHER, OTHER]}, "also lists"),
        ({"also": [OTHER], "field": "x-other"}, "also lists"),
        (
            {"also": [SelfSignedTokenAuth(ORIGIN, SIGNER, account="a", field="X-Third", also=[OTHER])]},
            "also lists",
        ),
        ({"on_event": "x"}, "on_event is a function"),
        ({"resources": {"spool_kib": 1}}, "resources are Resources"),
        ({"algorithm": "HS256"}, "an algorithm is one of"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    """It is an `ArgumentError` of the constructor that says what to pass."""
    with pytest.raises(ArgumentError, match=said):
        SelfSignedTokenAuth(ORIGIN, SIGNER, **{"account": ACCOUNT, **options})


@pytest.mark.parametrize("origin", [None, [], 5, "api.example.com", f"{ORIGIN}/v1", "http://api.example.com"])
def test_a_wrong_origin_is_refused_at_once(origin: Any) -> None:
    """It is what the other scheme's constructor says."""
    with pytest.raises(ArgumentError):
        SelfSignedTokenAuth(origin, SIGNER, account=ACCOUNT)
    SelfSignedTokenAuth("http://api.example.com", SIGNER, account=ACCOUNT, allow_http=True)


def test_an_auth_object_of_another_library_is_named() -> None:
    """The object of one library in a client of another says which one to import."""
    for_requests: Any = auth_of("requests", ORIGIN, SIGNER)
    with httpx.Client() as client, pytest.raises(ArgumentError, match=r"tuned_digest\.httpx"):
        client.get(ORIGIN, auth=for_requests)


def test_a_repr_says_which_origins_and_account() -> None:
    """Nothing else is shown."""
    assert repr(SelfSignedTokenAuth(ORIGIN, SIGNER, account=ACCOUNT)) == (
        f"SelfSignedTokenAuth({ORIGIN!r}, account={ACCOUNT!r})"
    )
    assert isinstance(auth_of("requests", ORIGIN, SIGNER), requests.auth.AuthBase)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ANYTHING = JSON | st.binary(max_size=8) | st.sets(st.integers(), max_size=3) | st.builds(object)
NAMES = st.sampled_from(["exp", "iat", "aud", "iss", "jti", "kid", "alg", "typ", "htu"]) | st.text(max_size=8)
HUGE = st.sampled_from([10**400, -(10**400), 2**64, -(2**64), 1e308, True, float("-inf")])
MEMBERS = st.dictionaries(
    NAMES | st.integers() | st.none() | st.binary(max_size=3), ANYTHING | HUGE, max_size=4
)


class TestNothingForeign:
    @given(
        MEMBERS,
        MEMBERS,
        st.booleans(),
        st.sampled_from([{}, {"bind": False}, {"bind": False, "reuse": True}]),
    )
    def test_of_claims_and_headers(
        self, claims: Any, header: Any, as_functions: bool, how: dict[str, Any]
    ) -> None:
        """Whatever they hold, a request is signed with it or an `ArgumentError` is raised."""
        options = {"claims": claims, "header": header}
        if as_functions:
            options = {"claims": lambda request: claims, "header": lambda request: header}
        try:
            token = token_of(signed(**options, **how))
        except ArgumentError:
            return
        expected = {json.loads(json.dumps([key]))[0] if isinstance(key, str) else None for key in claims}
        assert {key for key in expected if key and claims.get(key) is not None} <= set(claims_of(token))

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                name: ANYTHING | HUGE | st.text(max_size=5)
                for name in (
                    *("account", "audience", "lifetime", "skew", "algorithm", "claims", "header", "scheme"),
                    *("field", "fields", "also", "on_event", "resources", "bind", "reuse", "allow_http"),
                )
            },
        )
    )
    def test_of_arguments(self, options: dict[str, Any]) -> None:
        """Whatever is passed, an object is made that signs, or an error of this package is raised."""
        try:
            signed(**options)
        except TunedDigestError:
            return

    @given(ANYTHING | st.text(), ANYTHING)
    def test_of_origins_and_signers(self, origin: Any, signer: Any) -> None:
        """The same for what comes first."""
        with pytest.raises(ArgumentError):
            SelfSignedTokenAuth(ORIGIN, signer, account=ACCOUNT)
        try:
            SelfSignedTokenAuth(origin, SIGNER, account=ACCOUNT)
        except ArgumentError:
            return
