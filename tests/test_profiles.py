"""The seam for further profiles: one that is defined here alone is spoken by both ends, on real sockets."""

from collections.abc import Mapping, Sequence

import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest._wire.challenge import NextNonceReader, read_challenges
from tuned_digest._wire.credentials import Credentials
from tuned_digest._wire.profiles import PROFILES, Profile
from tuned_digest._wire.profiles.deployed import Deployed
from tuned_digest._wire.request import FieldValues, SignedRequest
from tuned_digest._wire.work import SCHEMES
from tuned_digest.server.asgi import Application, Receive, Scope, Send

from .clients import CLIENTS, Connect
from .field_server import verified
from .serving import Served, serve

MARK = "X-With-Query"
"""The field that tells this profile's credentials from the deployed one's."""


COVERED = "X-Covered"
"""The field that is worked over where a request has it."""


class QueryProfile:
    """Sign the query too; both schemes are answered, since the signature covers method and target."""

    schemes = SCHEMES

    def __init__(self) -> None:
        self._deployed = Deployed()

    def asked_by(self, parameters: Mapping[str, str]) -> Profile | None:
        """Take what asks with a parameter of its own."""
        return self if parameters.get("withquery") == "1" else None

    def asking(self) -> Mapping[str, str]:
        """Ask with that parameter."""
        return {"withquery": "1"}

    def work_string(self, request: SignedRequest, credentials: Credentials) -> bytes:
        """Put the query, and a header field, behind the deployed profile's request string."""
        covered = ",".join([request.query, *request.values(COVERED)])
        return self._deployed.work_string(request, credentials) + b"?" + covered.encode("ascii")

    def signed_bytes(self, request: SignedRequest, credentials: Credentials) -> bytes:
        """Sign method and target besides the response."""
        return f"{request.method} {request.path}?{request.query} {credentials.response}".encode("ascii")

    def write(self, request: SignedRequest, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """Write the deployed profile's field, and a mark."""
        return (*self._deployed.write(request, credentials), (MARK, "1"))

    def read(self, values: FieldValues) -> Credentials | None:
        """Read what has the mark."""
        return self._deployed.read(values) if values(MARK) else None


BOTH: tuple[Profile, ...] = (QueryProfile(), *PROFILES)


def changing_query(app: Application) -> Application:
    """Put an application behind somebody who changes the query of each request to ``/changed``."""

    async def changing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/changed":
            scope = {**scope, "query_string": scope["query_string"] + b"&admin=1"}
        await app(scope, receive, send)

    return changing


def signed_by(server: Served) -> list[bool]:
    """Say of each signed request so far whether the query was signed."""
    return [bool(seen.field(MARK)) for seen in server.requests if seen.field("Authorization")]


def test_both_ends_speak_a_profile_of_their_own(connect: Connect, signer: Ed25519Signer) -> None:
    """A challenge and next nonces ask for it, and are answered under it, with the query and without."""
    with (
        serve(verified(_profiles=BOTH)) as server,
        connect(server.url, signer, _profiles=BOTH) as client,
    ):
        for method, target in (("GET", "/a?b=c"), ("GET", "/a"), ("PATCH", "/a?b=%20c"), ("DELETE", "/?d")):
            assert client.send(method, f"{server.url}{target}", body=b"x").status == 200
        assert server.statuses == [401, 200, 200, 200, 200]
        assert signed_by(server) == [True] * 4


def test_a_profile_sees_the_header_fields(connect: Connect, signer: Ed25519Signer) -> None:
    """Both ends look a field up alike, and a request without it is signed without."""
    with (
        serve(verified(_profiles=BOTH)) as server,
        connect(server.url, signer, _profiles=BOTH) as client,
    ):
        for headers in ({COVERED: "one"}, {}, {COVERED.lower(): "two"}):
            assert client.send("GET", f"{server.url}/a", headers=headers).status == 200
        assert server.statuses == [401, 200, 200, 200]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_either_scheme_is_answered_under_it(connect: Connect, signer: Ed25519Signer, scheme: str) -> None:
    """What is worked over and what is signed is the profile's, whatever the kind of work."""
    with (
        serve(verified(_profiles=BOTH)) as server,
        connect(server.url, signer, _profiles=BOTH, schemes=[scheme]) as client,
    ):
        for _ in range(2):
            response = client.send("GET", f"{server.url}/a?b=c")
            assert response.status == 200
            assert response.report is not None
            assert response.report.scheme == scheme
        assert signed_by(server) == [True] * 2


@pytest.mark.parametrize("dialect", ["deployed", "list"])
def test_it_is_asked_for_behind_all_other_parameters(signer: Ed25519Signer, dialect: str) -> None:
    """Deployed clients match what comes before, contiguously; the parameter comes after it, in each value."""
    with serve(verified(_profiles=BOTH, dialect=dialect)) as server:
        challenges = httpx.get(server.url).headers.get_list("www-authenticate")
        with CLIENTS["httpx"](server.url, signer, _profiles=BOTH) as client:
            granted = client.send("GET", server.url).raw.headers.get_list("authentication-info")
    ending = ";withquery=1" if dialect == "deployed" else ', withquery="1"'
    assert len(challenges) == 2
    assert len(granted) == 4
    assert [value for value in (*challenges, *granted) if not value.endswith(ending)] == []
    for one in read_challenges(challenges, profiles=BOTH):
        assert one.profile is BOTH[0]
    for one in read_challenges(challenges):
        assert one.profile is PROFILES[-1]
    for profiles in (BOTH, PROFILES):
        found, dropped = NextNonceReader(profiles).read(granted)
        assert dropped == []
        assert {nonce.terms.profile for nonce in found} == {profiles[0]}


@pytest.mark.parametrize("is_chained", [False, True])
def test_a_changed_query_is_refused_under_it(
    connect: Connect, signer: Ed25519Signer, is_chained: bool
) -> None:
    """Whoever sits between cannot change the query, neither under a next nonce nor a challenge's."""
    with (
        serve(changing_query(verified(_profiles=BOTH))) as server,
        connect(server.url, signer, _profiles=BOTH) as client,
    ):
        if is_chained:
            assert client.send("GET", f"{server.url}/a?b=c").status == 200
        refused = client.send("GET", f"{server.url}/changed?b=c")
        assert refused.status == 401
        assert server.statuses == ([401, 200, 401, 401] if is_chained else [401, 401])
        assert signed_by(server) == [True] * (3 if is_chained else 1)
        assert refused.report is not None
        assert refused.report.reason == "signature verification failed"


def test_a_changed_query_passes_under_the_deployed_profile(connect: Connect, signer: Ed25519Signer) -> None:
    """The deployed profile signs no query (section 9), which the one above is there to mend."""
    with (
        serve(changing_query(verified())) as server,
        connect(server.url, signer, _profiles=BOTH) as client,
    ):
        assert client.send("GET", f"{server.url}/changed?b=c").status == 200
        assert server.statuses == [401, 200]
        assert signed_by(server) == [False]


def test_the_deployed_profile_works_beside_it(connect: Connect, signer: Ed25519Signer) -> None:
    """A client of both profiles answers each server in the profile that it asks for, in one session."""
    with serve(verified(_profiles=BOTH)) as server, serve(verified()) as deployed:
        with connect([server.url, deployed.url], signer, _profiles=BOTH) as client:
            for _ in range(2):
                for url in (server.url, deployed.url):
                    assert client.send("GET", f"{url}/a?b=c").status == 200
        assert server.statuses == deployed.statuses == [401, 200, 200]
        assert (signed_by(server), signed_by(deployed)) == ([True, True], [False, False])


def test_a_deployed_client_is_served_beside_it(connect: Connect, signer: Ed25519Signer) -> None:
    """A client that knows nothing of it ignores the parameter, and a server of both takes its answers."""
    with serve(verified(_profiles=BOTH)) as server, connect(server.url, signer) as client:
        for _ in range(2):
            assert client.send("GET", f"{server.url}/a?b=c").status == 200
        assert server.statuses == [401, 200, 200]
        assert signed_by(server) == [False, False]


def test_a_server_of_it_alone_takes_no_deployed_answer(connect: Connect, signer: Ed25519Signer) -> None:
    """Where the deployed profile is not spoken its answers are challenged like no answer at all."""
    with (
        serve(verified(_profiles=(QueryProfile(),))) as server,
        connect(server.url, signer) as client,
    ):
        assert client.send("GET", f"{server.url}/a").status == 401
        assert server.statuses == [401, 401]


def test_a_redirect_is_signed_afresh_under_it(connect: Connect, signer: Ed25519Signer) -> None:
    """Each hop is signed for its own query; what a library forwards is refused, and answered."""
    with (
        serve(verified(_profiles=BOTH)) as server,
        connect(server.url, signer, _profiles=BOTH) as client,
    ):
        assert client.send("GET", f"{server.url}/a?b=c").status == 200
        response = client.send("GET", f"{server.url}/redirect?status=307&to=/b%3Fd=e")
        assert response.status == 200
        assert 307 in server.statuses
        assert server.story[-1] == "GET /b?d=e 200"
        assert signed_by(server)[-1]
