"""The constructor of every leaf's auth object for self-signed tokens."""

from __future__ import annotations

__all__ = ["TokenAuthBase"]

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .. import events
from .._tokens.reading import ALGORITHMS
from .._wire.origins import ServedOrigins
from ..errors import ArgumentError
from ..keys import AsyncSigner, PublicKey, Signer
from .carriage import DIGEST_FIELD, Carriage
from .flow import Messages
from .settings import Resources, check_signer
from .token_flow import TokenFlow
from .token_settings import Members, TokenSettings

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 section 5.6.2
_MOST_SECONDS = 366 * 24 * 3600  # what outlives it is no short-lived token
_VISIBLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # a field's value: RFC 9110 section 5.5, ASCII alone


class TokenAuthBase:
    """Sign every request to the served origins with a short-lived token of its own, in one call each.

    An object is safe to share between threads, tasks, event loops and forks.

    Args:
        origin: The origins to sign for, each a scheme and host; ``"*"`` for any.
        signer: The key; async clients take an `AsyncSigner` too.
        account: The account, as the server named it at registration: ``iss`` and ``sub``.
        audience: What the server calls itself, None for the request's origin.
        lifetime: Seconds until a token ends.
        skew: Seconds that ``iat`` lies back, for servers whose clock is behind.
        bind: Bind each token to its request: method, URL and body.
        reuse: Keep a token until 10 seconds before its end, and send it again. Needs ``bind=False``.
        algorithm: What the header says: ``"EdDSA"`` for servers that know no other name of Ed25519; None for
            the key's own.
        claims: Claims to add or replace; None as a value removes one. A mapping, or a function of a
            `TokenRequest` that gives one.
        header: Header parameters to add, replace or remove, in the same way.
        scheme: What stands before the token; empty for nothing.
        field: The field that carries it.
        allow_http: Also serve plain http beyond loopback.
        on_event: Called with each event.
        fields: Further fields of each request, name to value.
        also: Auth objects whose tokens are sent too, each in a field of its own.
        resources: What this process spends on bodies.

    Raises:
        ArgumentError: If one of these cannot be used, or ``reuse`` is asked for with ``bind``.
        IdentityError: If the key is of a kind that signs no tokens.
        MissingExtraError: If joserfc is not installed.
    """

    def __init__(
        self,
        origin: str | Iterable[str],
        signer: Signer | AsyncSigner,
        *,
        account: str,
        audience: str | None = None,
        lifetime: float = 60,
        skew: float = 5,
        bind: bool = True,
        reuse: bool = False,
        algorithm: str | None = None,
        claims: Members | None = None,
        header: Members | None = None,
        scheme: str = "Bearer",
        field: str = "Authorization",
        allow_http: bool = False,
        on_event: Callable[[events.Event], None] | None = None,
        fields: Mapping[str, str] | None = None,
        also: Sequence[TokenAuthBase] = (),
        resources: Resources = Resources(),
        _clock: Callable[[], float] = time.time,
        _randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        check_signer(signer)
        if not isinstance(account, str) or not account:
            raise ArgumentError("account is the account's name, as the server gave it")
        if audience is not None and not (isinstance(audience, str) and audience):
            raise ArgumentError("audience is text: what the server calls itself; claims can hold a list")
        if reuse and bind:
            raise ArgumentError("a token that is bound fits one request: pass bind=False to reuse one")
        if not _is_seconds(lifetime, 1) or not _is_seconds(skew, 0):
            raise ArgumentError("lifetime is 1 second or more, and skew not negative; a year at most")
        if not isinstance(resources, Resources):
            raise ArgumentError("resources are Resources: pass Resources(spool_kib=...), for instance")
        for name, members in (("claims", claims), ("header", header)):
            if members is not None and not callable(members) and not isinstance(members, Mapping):
                raise ArgumentError(f"{name} is a mapping, or a function of a TokenRequest that gives one")
        if on_event is not None and not callable(on_event):
            raise ArgumentError(f"on_event is a function, unlike {on_event!r}")
        if fields is not None and not isinstance(fields, Mapping):
            raise ArgumentError("fields are a mapping of names to values")
        key = PublicKey.of(signer)
        kept = dict(header) if isinstance(header, Mapping) else {}
        written: dict[str, object] = {
            "alg": _named(key.algorithm, algorithm),
            "typ": "JWT",
            "kid": key.thumbprint,
        }
        self._settings: TokenSettings = TokenSettings(
            origins=ServedOrigins(origin, allow_http=allow_http),
            signer=signer,
            algorithm=key.algorithm,
            header={name: value for name, value in {**written, **kept}.items() if value is not None},
            more_header=header if callable(header) else {},
            account=account,
            audience=audience,
            lifetime=lifetime,
            skew=skew,
            bind=bind,
            reuse=reuse,
            claims=claims or {},
            scheme=_checked_scheme(scheme),
            field=_checked_field(field),
            fields=tuple(
                (_checked_further(name, field), _checked_value(value))
                for name, value in (fields or {}).items()
            ),
            also=_checked_also(also, field),
            on_event=on_event,
            resources=resources,
            clock=_clock,
            randomness=_randomness,
        )

    def _carriage(self) -> Carriage:
        """Make what the messages of one call need to know."""
        sent = set[str]()
        settings = self._settings
        return Carriage(
            settings.resources, settings.clock, sent.__contains__, settings.field, settings.further, sent
        )

    def _flow(
        self, carriage: Carriage, messages: Messages[Any, Any], primer: object = None
    ) -> TokenFlow[Any, Any]:
        """Make the flow of one call."""
        return TokenFlow(self._settings, messages, carriage)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._settings.origins)!r}, account={self._settings.account!r})"


def _named(own: str, algorithm: str | None) -> str:
    if algorithm is None or algorithm == own or (algorithm == "EdDSA" and own == "Ed25519"):
        return algorithm or own
    if algorithm in ALGORITHMS or algorithm == "EdDSA":
        raise ArgumentError(
            f"the key signs by {own}, not by {algorithm}: load a key of that kind; an RSA key has two, and "
            f"PrivateKeySigner.from_file(path, algorithm={algorithm!r}) says which"
        )
    raise ArgumentError(f"an algorithm is one of {', '.join(ALGORITHMS)}, or EdDSA, not {algorithm!r}")


def _checked_field(name: object) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ArgumentError(f"a field's name is a token (RFC 9110 section 5.6.2), unlike {name!r}")
    return name


def _checked_scheme(scheme: object) -> str:
    return "" if scheme == "" else _checked_field(scheme)


def _checked_value(value: object) -> str:
    if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
        raise ArgumentError("a field's value is visible ASCII characters and spaces between them")
    return value


def _checked_further(name: object, field: str) -> str:
    checked = _checked_field(name)
    if checked.lower() in (field.lower(), DIGEST_FIELD.lower()):
        raise ArgumentError(f"{checked} carries what is signed: fields are further ones")
    return checked


def _checked_also(also: object, field: str) -> tuple[TokenSettings, ...]:
    others = tuple(also) if isinstance(also, Sequence) else (None,)
    settings = [other._settings for other in others if isinstance(other, TokenAuthBase)]
    names = {field.lower(), *(other.field.lower() for other in settings)}
    if len(settings) < len(others) or len(names) <= len(others) or any(other.also for other in settings):
        raise ArgumentError(
            "also lists auth objects of this kind, each with a field of its own and none with an also"
        )
    return tuple(settings)


def _is_seconds(value: object, least: float) -> bool:
    return isinstance(value, int | float) and least <= value <= _MOST_SECONDS
