"""What a server asks and grants, for tests of the client's core."""

from tuned_digest import NextNonce, SearchCost, Terms, Work, proof
from tuned_digest._base64 import encode_base64
from tuned_digest._client.bodies import BytesBody
from tuned_digest._client.exchange import Exchange, Fields, Received
from tuned_digest._wire.challenge import Challenge, write_challenge, write_next_nonce
from tuned_digest._wire.credentials import Credentials, read_credentials
from tuned_digest._wire.grammar import ACTIONS, Dialect
from tuned_digest._wire.work import SCHEMES

from .driving import ACCESS, ORIGIN, Client, authorization_of, fields_of, perform

ARGON, SEARCH = SCHEMES
READ = frozenset({"read"})
REST = frozenset(ACTIONS) - {"create"}


def challenge(nonce: str = "c", work: Work = ACCESS, dialect: Dialect = "deployed") -> Challenge:
    """Make a challenge for reading."""
    return Challenge(work.scheme, nonce, str(work), work, READ, dialect)


def next_nonce(
    nonce: str = "n", *works: Work, scopes: frozenset[str] = REST, dialect: Dialect = "deployed"
) -> NextNonce:
    """Make a next nonce for everything but creating, under both schemes."""
    terms = Terms({work.scheme: work for work in works or (ACCESS, SearchCost(1))}, scopes, dialect)
    return NextNonce(nonce, terms)


def written(*nonces: NextNonce) -> list[tuple[str, str]]:
    """Write next nonces as header fields."""
    return [("Authentication-Info", value) for nonce in nonces for _, value in write_next_nonce(nonce)]


def rejected(exchange: Exchange, *challenges: Challenge | str, reason: str = "") -> Received:
    """Receive a 401 with challenges; a problem is raised."""
    values = [one if isinstance(one, str) else write_challenge(one) for one in challenges]
    received = exchange.receive(401, fields_of([("WWW-Authenticate", value) for value in values]), reason)
    if received.problem is not None:
        raise received.problem
    return received


def answered(
    client: Client, exchange: Exchange, *challenges: Challenge | str, reason: str = ""
) -> Fields | None:
    """Receive a 401 with challenges, and answer."""
    received = rejected(exchange, *challenges, reason=reason)
    assert received.challenge is not None
    return perform(exchange.authorize(received.challenge), client.answer)


def chained(client: Client, method: str, path: str, body: bytes = b"", nonce: str = "n") -> Fields | None:
    """Sign a request under a next nonce."""
    client.cache.remember(ORIGIN, [next_nonce(nonce)])
    return perform(client.exchange(method, path, body).authorize(), client.answer)


def credentials_of(fields: Fields | None) -> Credentials:
    """Read the credentials that are about to be sent."""
    credentials = read_credentials(authorization_of(fields))
    assert credentials is not None
    return credentials


def check_work(credentials: Credentials, work: Work, method: str, path: str, body: bytes = b"") -> None:
    """Check that the work was done over this request string; a `ProofError` where it was not."""
    digest = BytesBody(body).digested()
    assert isinstance(digest, bytes)
    string = f"{credentials.nonce}:{method}:{path}:{encode_base64(digest)}".encode()
    proof.verify(string, work, credentials.response, nonce=credentials.nonce)
