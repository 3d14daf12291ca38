"""The page on services that ask for self-signed tokens: code that nobody here wrote takes all its tokens.

The page runs as it stands, with the names of the services: a proxy takes them to `Services`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tuned_digest import PrivateKeySigner
from tuned_digest.httpx import SelfSignedTokenAuth

from .certificates import make_certificate
from .jose_library import Jose
from .pages import DOCS, run_blocks
from .proxy import proxy
from .services import JUDGES, Services
from .serving import serve

PAGE = DOCS / "howto-services.md"


@contextmanager
def reachable(services: Services, folder: Path) -> Iterator[None]:
    """Take every request to one of the services to it, over TLS, for the block."""
    certificate = make_certificate(folder, [*JUDGES])
    with (
        serve(services, ssl_certfile=certificate.path, ssl_keyfile=certificate.key_path) as served,
        proxy({f"{host}:443": served.url for host in JUDGES}) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("https_proxy", "HTTPS_PROXY"):
            patch.setenv(name, running.url)
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "")
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            patch.setenv(name, certificate.path)
        yield


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Services:
    """The services, after the page has run."""
    services = Services()
    folder = tmp_path_factory.mktemp("customer")
    services.write_keys(folder)
    with reachable(services, tmp_path_factory.mktemp("services")), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_blocks(PAGE)
    return services


def test_the_page_runs(asked: Services) -> None:
    """Each example's requests are taken: by google-auth those to Google, by PyJWT all others."""
    assert asked.refusals == []
    services = [taken.service for taken in asked.taken]
    assert dict.fromkeys(services) == dict.fromkeys(
        ["GitHub", "Google", "Snowflake", "Coinbase", "Coinbase wallet", "Apple"]
    )


def test_jose_takes_them_too(asked: Services, jose: Jose) -> None:
    """The library jose verifies every token that the page sent."""
    tasks = [
        ("verified", {"token": taken.token, "jwk": taken.jwk, "algorithm": taken.algorithm})
        for taken in asked.taken
    ]
    assert [list(answer) for answer in jose.ask(tasks)] == [["header", "claims"]] * len(asked.taken)


class TestJudges:
    @pytest.mark.parametrize(
        ("host", "key"),
        [
            ("api.github.com", "github-app.pem"),
            ("pubsub.googleapis.com", "github-app.pem"),
            ("acme-prod.snowflakecomputing.com", "rsa_key.p8"),
            ("api.cdp.coinbase.com", "AuthKey_2X9R4HXF34.p8"),
            ("api.appstoreconnect.apple.com", "AuthKey_2X9R4HXF34.p8"),
        ],
    )
    def test_default_tokens_are_refused(self, host: str, key: str, tmp_path: Path) -> None:
        """A token for a server of this package is refused by every service, also under the right key."""
        services = Services()
        services.write_keys(tmp_path)
        auth = SelfSignedTokenAuth(f"https://{host}", PrivateKeySigner.from_file(tmp_path / key), account="a")
        with reachable(services, tmp_path), httpx.Client(auth=auth) as client:
            assert client.get(f"https://{host}/").status_code == 401

    @pytest.mark.parametrize("host", ["api.github.com", "pubsub.googleapis.com"])
    def test_tokens_of_another_key_are_refused(self, host: str, asked: Services, tmp_path: Path) -> None:
        """A token that a service took is refused where its key is another: by PyJWT, and by google-auth."""
        name = "GitHub" if host == "api.github.com" else "Google"
        token = next(taken.token for taken in asked.taken if taken.service == name)
        services = Services()
        with reachable(services, tmp_path), httpx.Client() as client:
            fields = {"Authorization": f"Bearer {token}"}
            assert client.get(f"https://{host}/", headers=fields).status_code == 401
        assert "signature" in services.refusals[0].lower()
