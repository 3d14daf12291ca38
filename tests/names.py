"""Servers that clients reach by name, through a proxy, so that names and default ports are real."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tuned_digest.server.asgi import Application

from .certificates import Certificate
from .clients import Transport
from .field_server import verified
from .ledger import Ledger
from .proxy import Proxy, proxy
from .serving import Served, serve


class Names:
    """Servers by name, each started when a test first asks for it.

    Args:
        running: The proxy that knows the names.
        urls: What it knows: the URL for each name and port.
        servers: Where the servers end.
        ledger: What the servers are watched by.
        certificate: What the servers of port 443 show, and clients trust.
    """

    def __init__(
        self,
        running: Proxy,
        urls: dict[str, str],
        servers: ExitStack,
        ledger: Ledger,
        certificate: Certificate,
    ) -> None:
        self.proxy = running
        self.transport = Transport(proxy=running.url, certificate=certificate.path)
        self._urls = urls
        self._servers = servers
        self._ledger = ledger
        self._certificate = certificate

    def serve(self, name: str, app: Application | None = None) -> Served:
        """Serve an application, the verified one by default, under a name and a port."""
        options = {"ssl_certfile": self._certificate.path, "ssl_keyfile": self._certificate.key_path}
        server = serve(app or verified(), **(options if name.endswith(":443") else {}))
        served = self._servers.enter_context(self._ledger.watch(server))
        self._urls[name] = served.url
        return served


@contextmanager
def named(ledger: Ledger, certificate: Certificate) -> Iterator[Names]:
    """Run a proxy, and whatever servers a test asks for."""
    urls: dict[str, str] = {}
    with ExitStack() as servers, proxy(urls) as running:
        yield Names(running, urls, servers, ledger, certificate)


def port_of(url: str) -> str:
    """Write the default port of a URL, or of a scheme, as a name has it."""
    return ":443" if url.startswith("https") else ":80"
