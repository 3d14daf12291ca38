"""Section 7: origins, and which of them are signed for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError, Origin
from tuned_digest._wire.origins import ServedOrigins

from .strategies import adversarial


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.example.com", Origin("https", "api.example.com", 443)),
        ("HTTPS://API.Example.COM:443/a?b#c", Origin("https", "api.example.com", 443)),
        ("http://h", Origin("http", "h", 80)),
        ("http://h:8080/", Origin("http", "h", 8080)),
        ("https://h:", Origin("https", "h", 443)),
        ("https://user:pass@h", Origin("https", "h", 443)),
        ("https://[::1]:8443", Origin("https", "::1", 8443)),
        ("https://[0:0::0:1]", Origin("https", "::1", 443)),
        ("https://127.0.0.1", Origin("https", "127.0.0.1", 443)),
        ("https://B\u00fccher.example", Origin("https", "xn--bcher-kva.example", 443)),
        ("https://XN--Bcher-Kva.example", Origin("https", "xn--bcher-kva.example", 443)),
    ],
)
def test_spellings_of_one_origin_are_equal(url: str, origin: Origin) -> None:
    """Letter case, default ports, IPv6 forms and IDNA labels are reduced to one spelling."""
    assert Origin.parse(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "//api.example.com",
        "ftp://h",
        "https://",
        "https:///a",
        "https://h:65536",
        "https://h:-1",
        "https://h:x",
        "https://[::1",
        "https://[zz]",
        "https://a b",
        "https://a%41",
        "https://a\\b",
        "https://fa\u00df.example",
        "https://\u03c2.example",
        "https://a\u200db.example",
        "https://\u00e9..example",
        "https://" + "\u00e9" * 70,
        "https://a\u2100b.example",
    ],
)
def test_what_is_no_origin_is_refused(url: str) -> None:
    """Another scheme, no host, an impossible port and ambiguous names are errors of the package."""
    with pytest.raises(ArgumentError):
        Origin.parse(url)


def test_parts_are_reduced_like_urls() -> None:
    """An origin made of parts equals the one of the URL, brackets or not."""
    assert (
        Origin.of("HTTPS", "[::0:1]", None) == Origin.of("https", "::1", 443) == Origin.parse("https://[::1]")
    )


def test_parts_that_make_no_origin_are_known_as_none() -> None:
    """`Origin.known` gives the origin that `Origin.of` gives, and None where that raises."""
    assert Origin.known("HTTPS", "[::0:1]", None) == Origin.of("https", "::1", 443)
    assert Origin.known("unix", "h", None) is None
    assert Origin.known("https", "a b", 1) is None


@pytest.mark.parametrize("scheme", ["", "ftp", "httpss"])
def test_another_scheme_has_no_origin(scheme: str) -> None:
    """Only http and https have origins here."""
    with pytest.raises(ArgumentError, match="begins with https"):
        Origin.of(scheme, "h", 1)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost", True),
        ("http://api.LOCALHOST:80", True),
        ("http://127.0.0.1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]", True),
        ("http://notlocalhost", False),
        ("http://localhost.example", False),
        ("http://10.0.0.1", False),
        ("http://[::2]", False),
    ],
)
def test_loopback_is_recognised(url: str, loopback: bool) -> None:
    """Loopback is the addresses of RFC 6761 and ``localhost`` with its subdomains, and nothing else."""
    assert Origin.parse(url).is_loopback is loopback


@pytest.mark.parametrize(
    "url", ["https://h", "http://h", "https://h:80", "http://h:443", "https://[::1]", "https://[::1]:1"]
)
def test_an_origin_is_written_as_a_url(url: str) -> None:
    """An origin is written without its default port, an IPv6 address in brackets."""
    assert str(Origin.parse(url)) == url


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://h", "h"),
        ("http://h:80", "h"),
        ("https://h:80", "h:80"),
        ("https://[::1]", "[::1]"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("https://B\u00fccher.example:443", "xn--bcher-kva.example"),
    ],
)
def test_an_authority_is_what_a_host_field_has(url: str, authority: str) -> None:
    """An authority is host and port, the port left out where it is the scheme's own."""
    assert Origin.parse(url).authority == authority


@given(adversarial() | adversarial().map(lambda text: f"https://{text}"))
def test_parsing_raises_nothing_foreign(url: str) -> None:
    """No text makes the reader of origins raise anything but the package's error, and results are stable."""
    try:
        origin = Origin.parse(url)
    except ArgumentError:
        return
    assert Origin.parse(str(origin)) == origin


@given(st.text(), st.none() | st.integers(0, 65535))
def test_any_host_is_reduced_or_refused(host: str, port: int | None) -> None:
    """No host makes `Origin.of` raise anything but the package's error, and what it gives is ASCII."""
    try:
        origin = Origin.of("https", host, port)
    except ArgumentError:
        return
    assert origin.host.isascii()
    assert Origin.of("https", origin.host, port) == origin


@pytest.mark.parametrize(
    "text",
    [
        "https://h/a",
        "https://h//",
        "https://h?a",
        "https://h/?a",
        "https://h#a",
        "https://user@h",
        "https://@h",
        "http://h",
        "http://10.0.0.1",
        "h",
    ],
)
def test_what_cannot_be_served_is_refused(text: str) -> None:
    """A served origin is a scheme and a host alone, and not plain http beyond loopback."""
    with pytest.raises(ArgumentError):
        ServedOrigins(text)


def test_no_origin_at_all_is_refused() -> None:
    """An auth object that would sign nothing is an error at once."""
    with pytest.raises(ArgumentError, match="one or several"):
        ServedOrigins([])


@pytest.mark.parametrize("listed", ["https://a", "https://a/", ["https://a"], ("https://a:443", "https://b")])
def test_listed_origins_are_served(listed: str | list[str]) -> None:
    """An origin named by any spelling is served, also after a redirect, and no other is."""
    served = ServedOrigins(listed)
    a, c = Origin.parse("https://a"), Origin.parse("https://c")
    assert served.serves(a, since=a)
    assert served.serves(a, since=c)
    assert not served.serves(c, since=c)
    assert not served.serves(Origin.parse("https://a:8443"), since=a)
    assert not served.serves(Origin.parse("http://a:443"), since=a)


def test_any_origin_does_not_follow_redirects() -> None:
    """``"*"`` serves where a request went first, and not where a redirect took it; listed ones it does."""
    served = ServedOrigins(["*", "https://listed"])
    a, b = Origin.parse("https://a"), Origin.parse("https://b")
    assert served.serves(a, since=a)
    assert not served.serves(b, since=a)
    assert served.serves(Origin.parse("https://listed"), since=a)


def test_any_origin_does_not_follow_redirects_from_no_origin() -> None:
    """Where the first request went to no origin, ``"*"`` serves nothing and listed origins are served."""
    served = ServedOrigins(["*", "https://listed"])
    assert not served.serves(Origin.parse("https://a"), since=None)
    assert served.serves(Origin.parse("https://listed"), since=None)


@pytest.mark.parametrize(("allow_http", "serves"), [(False, False), (True, True)])
def test_plain_http_needs_leave(allow_http: bool, serves: bool) -> None:
    """``"*"`` serves plain http beyond loopback only with ``allow_http``, and loopback always."""
    served = ServedOrigins("*", allow_http=allow_http)
    plain, loopback = Origin.parse("http://a"), Origin.parse("http://localhost:8000")
    assert served.serves(plain, since=plain) is serves
    assert served.serves(loopback, since=loopback)


def test_a_listed_plain_http_origin_is_allowed_by_name() -> None:
    """``allow_http`` lets a plain http origin be listed, and loopback needs no leave."""
    plain = Origin.parse("http://a")
    assert ServedOrigins("http://a", allow_http=True).serves(plain, since=plain)
    assert ServedOrigins("http://127.0.0.1:8000").serves(Origin.parse("http://127.0.0.1:8000"), since=plain)
