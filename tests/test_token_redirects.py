"""Redirects: each target on the origin gets a token of its own, and another origin none of ours."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import requests

from tuned_digest import BodyError, Ed25519Signer
from tuned_digest.events import Report
from tuned_digest.server.asgi import Application

from .field_server import decided
from .field_server import field as echo
from .serving import Served
from .token_serving import every_client, lent, serving_tokens, signed_in

CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)

WAYS: dict[str, dict[str, Any]] = {
    "bound": {},
    "fresh": {"bind": False},
    "reused": {"bind": False, "reuse": True},
}

every_way = pytest.mark.parametrize("how", WAYS)


def lax(how: str) -> dict[str, bool]:
    """Have a server take tokens of one kind."""
    return {"is_bound": how == "bound", "is_single_use": how != "reused"}


def redirecting(*locations: str) -> Application:
    """Redirect the first requests to these places, each by a 307, and accept the rest."""
    left = list(locations)
    return decided(lambda scope, body: (307, [("Location", left.pop(0))], b"") if left else (200, [], b""))


def accepted(served: Served) -> list[str]:
    """Give the requests that were not refused."""
    return [line for line in served.story if not line.endswith(" 401")]


class TestOneOrigin:
    @every_client
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
    @pytest.mark.parametrize("body", ["bytes", "generator"])
    def test_the_target_is_signed_for_what_it_is(
        self, name: str, status: int, method: str, body: str, signer: Ed25519Signer
    ) -> None:
        """A redirect is followed with its target's method and body, bound to them."""
        sent = None if method == "GET" else WHOLE if body == "bytes" else iter(CHUNKS)
        with (
            serving_tokens(signer) as (server, served),
            signed_in(name, served.url, signer) as client,
        ):
            result = client.send(method, f"{served.url}/redirect?status={status}&to=/target?x", body=sent)
        assert result.status == 200
        keeps_method = status in (307, 308) or (status == 301 and method != "POST")
        keeps_body = status in (307, 308) or (keeps_method and client.keeps_body_on_301)
        echoed = json.loads(result.content)
        assert echoed["method"] == (method if keeps_method else "GET")
        arrived = WHOLE if sent is not None and keeps_body else b""
        assert echoed["sha256"] == hashlib.sha256(arrived).hexdigest()
        # Where a library forwards the field by itself, the spent token is refused first.
        assert served.statuses == [status, *([401] if client.forwards_on_redirect else []), 200]
        assert len({claims["jti"] for claims in server.claims}) == 2
        assert result.report == Report(len(served.requests), "Bearer")

    @every_client
    @every_way
    @pytest.mark.parametrize("depth", [1, 3])
    def test_back_and_forth(self, name: str, how: str, depth: int, signer: Ed25519Signer) -> None:
        """A target that redirects lead back to is signed anew each time."""
        with (
            serving_tokens(signer, **lax(how)) as (server, served),
            signed_in(name, served.url, signer, **WAYS[how]) as client,
        ):
            pages = iter(["/page", "/start"] * depth)
            server.after = lambda scope: next(pages, None)
            assert client.send("PUT", f"{served.url}/start", body=WHOLE).status == 200
        walked = ["PUT /start 307", "PUT /page 307"] * depth
        assert accepted(served) == [*walked, "PUT /start 200"]

    @every_client
    @every_way
    def test_to_itself(self, name: str, how: str, signer: Ed25519Signer) -> None:
        """A page that redirects to itself, as those that set a cookie do, is signed anew."""
        with (
            serving_tokens(signer, **lax(how)) as (server, served),
            signed_in(name, served.url, signer, **WAYS[how]) as client,
        ):
            pages = iter(["/start", "/start"])
            server.after = lambda scope: next(pages, None)
            assert client.send("GET", f"{served.url}/start").status == 200
        assert accepted(served) == ["GET /start 307", "GET /start 307", "GET /start 200"]

    @every_client
    def test_a_loop_ends(self, name: str, signer: Ed25519Signer) -> None:
        """A redirect loop ends where the library's own limit is."""
        with (
            serving_tokens(signer) as (server, served),
            signed_in(name, served.url, signer) as client,
        ):
            server.after = lambda scope: "/loop"
            with pytest.raises((httpx.TooManyRedirects, requests.TooManyRedirects)):
                client.send("GET", f"{served.url}/loop")
        assert len(served.requests) <= 50

    @every_client
    @every_way
    def test_a_refusal_at_the_target_is_the_callers(self, name: str, how: str, signer: Ed25519Signer) -> None:
        """A target that accepts nothing gets one token of its own, and its 401 goes to the caller."""
        with (
            serving_tokens(signer, **lax(how)) as (server, served),
            signed_in(name, served.url, signer, **WAYS[how]) as client,
        ):
            refusal = (401, [("WWW-Authenticate", 'Bearer error="invalid_token"')])
            server.script += [(307, [("Location", "/target")]), *[refusal] * 5]
            assert client.send("GET", f"{served.url}/start").status == 401
        assert 2 <= len(served.requests) <= 3

    @every_client
    @every_way
    def test_redirects_that_are_not_followed_are_returned(
        self, name: str, how: str, signer: Ed25519Signer
    ) -> None:
        """With redirects off, the 302 goes to the caller."""
        with (
            serving_tokens(signer, **lax(how)) as (_, served),
            signed_in(name, served.url, signer, **WAYS[how]) as client,
        ):
            url = f"{served.url}/redirect?status=302&to=/target"
            results = [client.send("GET", url, follow=False) for _ in range(2)]
        assert [(result.status, result.report) for result in results] == [(302, Report(1, "Bearer"))] * 2
        assert served.statuses == [302, 302]

    @every_client
    @pytest.mark.parametrize("path", ["/a%2fb", "/a[b]", "/a%c3%bc", "/a%20b|c"])
    def test_the_target_of_a_redirect_is_signed_as_it_is_sent(
        self, name: str, path: str, signer: Ed25519Signer
    ) -> None:
        """What a library makes of a Location is what is signed."""
        with (
            serving_tokens(signer) as (_, served),
            lent(redirecting(f"{served.url}{path}")) as other,
            signed_in(name, served.url, signer) as client,
        ):
            assert client.send("GET", other.url).status == 200


def takes_along(name: str) -> bool:
    """Tell whether a library takes fields to other origins: httpx leaves Authorization alone behind."""
    return name.startswith("httpx")


class TestOtherOrigins:
    @every_client
    @every_way
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_another_origin_gets_nothing_from_us(
        self, name: str, how: str, status: int, signer: Ed25519Signer
    ) -> None:
        """A redirect to another origin carries no token, and a 401 there is left as it is."""
        with (
            serving_tokens(signer, **lax(how)) as (_, served),
            serving_tokens(signer, **lax(how)) as (_, other),
            signed_in(name, served.url, signer, **WAYS[how]) as client,
        ):
            url = f"{served.url}/redirect?status={status}&to={other.url}/target"
            results = [client.send("PATCH", url, body=WHOLE) for _ in range(2)]
        assert [result.status for result in results] == [401, 401]
        assert [seen.field("Authorization") for seen in other.requests] == [[], []]
        assert served.statuses == [status, status]

    @every_client
    @pytest.mark.parametrize("status", [302, 307])
    def test_another_origin_gets_no_digest(self, name: str, status: int, signer: Ed25519Signer) -> None:
        """The Content-Digest that we have set goes no further, but for httpx, which takes it along."""
        with (
            serving_tokens(signer) as (_, served),
            lent(echo) as other,
            signed_in(name, served.url, signer) as client,
        ):
            url = f"{served.url}/redirect?status={status}&to={other.url}/target"
            assert client.send("PATCH", url, body=WHOLE).status == 200
        assert len(other.requests[0].field("Content-Digest")) == takes_along(name)

    @every_client
    @pytest.mark.parametrize("how", WAYS)
    def test_another_origin_gets_nothing_by_another_field(
        self, name: str, how: str, signer: Ed25519Signer
    ) -> None:
        """A token in another field stays at its origin too, but for httpx, as the page on tokens warns."""
        carried = {"carrier": "X-Token", "scheme": ""}
        with (
            serving_tokens(signer, **lax(how), **carried) as (_, served),
            lent(echo) as other,
            signed_in(name, served.url, signer, field="X-Token", scheme="", **WAYS[how]) as client,
        ):
            url = f"{served.url}/redirect?status=307&to={other.url}/target"
            assert [client.send("GET", url).status for _ in range(2)] == [200, 200]
        assert [len(seen.field("X-Token")) for seen in other.requests] == [takes_along(name)] * 2

    @every_client
    @every_way
    def test_any_origin_does_not_mean_wherever_a_redirect_leads(
        self, name: str, how: str, signer: Ed25519Signer
    ) -> None:
        """With "*" a redirect to another origin is not signed; a request of its own there is."""
        with (
            serving_tokens(signer, **lax(how)) as (_, served),
            serving_tokens(signer, **lax(how)) as (_, other),
            signed_in(name, "*", signer, **WAYS[how]) as client,
        ):
            url = f"{served.url}/redirect?status=302&to={other.url}/target"
            assert client.send("GET", url).status == 401
            assert client.send("GET", f"{other.url}/target").status == 200
            assert client.send("GET", url).status == 401

    @every_client
    @every_way
    def test_an_origin_that_is_listed_gets_a_token_of_its_own(
        self, name: str, how: str, signer: Ed25519Signer
    ) -> None:
        """A redirect between two listed origins is signed at both, each time for its own name."""
        with (
            serving_tokens(signer, **lax(how)) as (one, served),
            serving_tokens(signer, **lax(how)) as (two, other),
            signed_in(name, [served.url, other.url], signer, **WAYS[how]) as client,
        ):
            back = f"{served.url}/target"
            url = f"{served.url}/redirect?status=307&to={other.url}/redirect?status=307%26to={back}"
            assert client.send("PUT", url, body=WHOLE).status == 200
        assert {claims["aud"] for claims in one.claims} == {served.url}
        assert {claims["aud"] for claims in two.claims} == {other.url}

    @every_client
    def test_back_from_another_origin(self, name: str, signer: Ed25519Signer) -> None:
        """A chain that leaves the origin and comes back is signed where it comes back."""
        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer) as client,
            lent(redirecting(f"{served.url}/target")) as other,
        ):
            url = f"{served.url}/redirect?status=307&to={other.url}/there"
            assert client.send("PUT", url, body=WHOLE).status == 200
        assert accepted(served)[-1] == "PUT /target 200"
        assert other.requests[0].field("Authorization") == []


class TestBodiesThatWereSentElsewhere:
    @every_client
    @pytest.mark.parametrize("status", [307, 308])
    def test_a_stream_is_not_signed_as_what_is_left_of_it(
        self, name: str, status: int, signer: Ed25519Signer
    ) -> None:
        """A stream that another origin got before its redirect to ours is an error, never an empty body."""
        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer) as client,
            lent(redirecting(f"{served.url}/put")) as other,
        ):
            body: Any = _AsyncChunks() if client.is_async else iter(CHUNKS)
            with pytest.raises(BodyError, match="redirect") as raised:
                client.send("PATCH", other.url, body=body)
            assert isinstance(raised.value, client.library_error)
        assert 200 not in served.statuses

    @every_client
    def test_bytes_are_signed(self, name: str, signer: Ed25519Signer) -> None:
        """Bytes survive a redirect from another origin to ours."""
        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer) as client,
            lent(redirecting(f"{served.url}/put")) as other,
        ):
            result = client.send("PATCH", other.url, body=WHOLE)
        assert json.loads(result.content)["size"] == len(WHOLE)


class TestCallersHooks:
    @pytest.mark.parametrize("changes", ["once", "always"])
    def test_a_hook_that_changes_the_url_does_not_make_a_loop(
        self, changes: str, signer: Ed25519Signer
    ) -> None:
        """What a hook of httpx makes of a request is signed once more, and then its 401 is the caller's."""
        counted: list[int] = []

        def change(request: httpx.Request) -> None:
            counted.append(1)
            number = len(counted) if changes == "always" else 1
            request.url = request.url.copy_with(path=f"/changed{number}")

        with serving_tokens(signer) as (_, served), signed_in("httpx", served.url, signer) as client:
            client.client.event_hooks = {"request": [change]}
            status = client.send("GET", f"{served.url}/x").status
        assert status == (200 if changes == "once" else 401)
        assert len(served.requests) == 2

    @pytest.mark.parametrize("how", WAYS)
    def test_a_hook_that_takes_the_token_off_does_not_make_a_loop(
        self, how: str, signer: Ed25519Signer
    ) -> None:
        """A request that arrives without its token is signed once more, and then its 401 is the caller's."""
        with (
            serving_tokens(signer, **lax(how)) as (_, served),
            signed_in("httpx", served.url, signer, **WAYS[how]) as client,
        ):
            assert client.send("GET", served.url).status == 200

            def strip(request: httpx.Request) -> None:
                del request.headers["Authorization"]

            client.client.event_hooks = {"request": [strip]}
            assert client.send("GET", served.url).status == 401
        assert served.statuses == [200, 401, 401]


class _AsyncChunks:
    """An async iterable that can be read once, and is then empty: httpx knows it for no generator."""

    def __init__(self) -> None:
        self._chunks: Iterator[bytes] = iter(CHUNKS)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration
