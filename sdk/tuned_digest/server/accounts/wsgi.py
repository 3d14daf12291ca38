"""The accounts application for WSGI servers: mount it below a path, beside the application it is for."""

from __future__ import annotations

__all__ = ["AccountsApplication"]

import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from ..._runtime.drivers import run_blocking
from ..._wire.request import split_target
from ...errors import RequestRejectedError
from ..incoming import IncomingRequest
from ..refusals import bad_request, refused
from .application import Accounts
from .contents import BODY_LIMIT, Answer, refusal
from .enrolment import Enrolment

_LENGTH = re.compile(r"[0-9]{1,18}")
_PATH_SAFE = "/:@!$&'()*+,;=~-._"  # RFC 3986 section 3.3

# Where servers tell the target on the wire: Gunicorn and Waitress; uWSGI, mod_wsgi and Werkzeug.
_TARGETS = ("RAW_URI", "REQUEST_URI")


_StartResponse = Callable[[str, list[tuple[str, str]]], object]  # PEP 3333, without what is for errors


class AccountsApplication:
    """Serve the endpoints where devices enrol, approve and revoke keys (WSGI).

    Mount it beside what is protected otherwise, and not inside: it verifies its requests itself, and a token
    is good once. A body is waited for as long as the server waits. Behind a proxy, have the server tell
    clients' addresses.

    Args:
        enrolment: The rules, and the registry.
        audience: What the server calls itself in tokens, usually its origin.
        settings: Those of `Accounts`: ``single_use``, which has to be given and blocks, ``origin``,
            ``max_lifetime``, ``leeway`` and ``on_decision``.

    Raises:
        ArgumentError: If one of these cannot be used.
        MissingExtraError: If joserfc is not installed.
    """

    def __init__(self, enrolment: Enrolment, audience: str, **settings: Any) -> None:
        self._accounts = Accounts(enrolment, audience, **settings)

    def __call__(self, environ: Mapping[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        answer = self._answer(environ)
        fields = list(answer.fields)
        if answer.status != 204:  # RFC 9110 section 8.6
            fields.append(("Content-Length", str(len(answer.body))))
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", fields)
        return [answer.body]

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        try:
            request, content = _incoming(environ), _whole(environ)
        except RequestRejectedError as rejection:
            return refusal(rejection)
        return run_blocking(self._accounts.answer(request, _decoded(environ.get("PATH_INFO", "")), content))


def _incoming(environ: Mapping[str, Any]) -> IncomingRequest:
    target = next((environ[name] for name in _TARGETS if environ.get(name, "").startswith("/")), None)
    if target is None:  # a guess for paths that are not encoded in the usual way: those fail to verify
        octets = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}".encode("latin-1")
        path, query = quote(octets, safe=_PATH_SAFE), environ.get("QUERY_STRING", "")
    else:
        path, query = split_target(target)
    names = [
        name for name in environ if name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}
    ]
    fields = [(name.removeprefix("HTTP_").replace("_", "-"), environ[name]) for name in names]
    return IncomingRequest(
        environ["REQUEST_METHOD"], path or "/", query, fields, environ.get("REMOTE_ADDR", "")
    )


def _decoded(path: str) -> str:
    """Decode a path (PEP 3333: the bytes as Latin-1)."""
    return path.encode("latin-1").decode("utf-8", "replace")


def _whole(environ: Mapping[str, Any]) -> bytes:
    """Read the body, as long as it is not too large."""
    announced = environ.get("CONTENT_LENGTH") or ""
    if not announced and not environ.get("wsgi.input_terminated"):
        return b""  # PEP 3333 knows no body without a length
    if announced and not _LENGTH.fullmatch(announced):
        raise bad_request("the Content-Length is not a number")
    length = int(announced) if announced else BODY_LIMIT + 1
    if announced and length > BODY_LIMIT:
        raise _too_large()
    pieces = b""
    try:
        while len(pieces) < length and (piece := environ["wsgi.input"].read(length - len(pieces))):
            pieces += piece
    except (OSError, ValueError, EOFError):  # as servers have it: too slow, gone, or broken chunks
        raise bad_request("the body could not be read") from None
    if announced and len(pieces) < length:
        raise bad_request("the body is shorter than its Content-Length")
    if len(pieces) > BODY_LIMIT:
        raise _too_large()
    return pieces


def _too_large() -> RequestRejectedError:
    return refused(413, f"the body is larger than {BODY_LIMIT // 1024} KiB", "body too large")
