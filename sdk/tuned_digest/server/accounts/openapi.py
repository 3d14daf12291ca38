"""What the accounts application says of itself: an OpenAPI 3.1 document."""

from __future__ import annotations

__all__ = ["document"]

from typing import Any

_PROBLEMS = {
    "400": "The request cannot be read: the token's form, the body or the query.",
    "401": "There is no token, or it is not accepted.",
    "403": "The code, the nonce, the account or the key is not good for this.",
    "404": "There is no such candidate or key.",
    "408": "The body comes too slowly.",
    "409": "The key was enrolled before, or it is the last one and no recovery code is left.",
    "413": "The body is larger than 16 KiB.",
    "415": "The Content-Type is not application/json.",
    "429": "Too many codes or keys came from this address, or too many keys wait: see Retry-After.",
    "503": "The server has no room for the request now: see Retry-After.",
}
_ANYBODYS = ("408", "413", "503")
_SIGNED = ("400", "401", *_ANYBODYS)

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_CHALLENGE = {
    "WWW-Authenticate": {"description": "RFC 6750 section 3.", "schema": {"type": "string"}},
}
_FIELDS = {"401": _CHALLENGE, "429": _RETRY_AFTER, "503": _RETRY_AFTER}

_TEXT = {"type": "string"}
_ACCOUNT = {
    "type": "string",
    "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$",
    "description": "The account; `iss` and `sub` of the token are the same.",
}
_LABEL = {
    "type": "string",
    "minLength": 1,
    "maxLength": 64,
    "description": "What the device is called: printable characters.",
}
_THUMBPRINT = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{43}$",
    "description": "SHA-256 thumbprint of the key (RFC 7638).",
}
_FINGERPRINT = {
    "type": "string",
    "pattern": "^[A-Z2-7]{4}(-[A-Z2-7]{4}){3}$",
    "description": "80 bits of the thumbprint, for people to compare.",
}
_NONCE = {"type": "string", "description": "The enrolment nonce."}
_CODE = {"type": "string", "description": "Seven groups of four letters and digits, in any letter case."}
_CODES = {
    "type": "array",
    "items": _CODE,
    "minItems": 10,
    "maxItems": 10,
    "description": "One-time codes, shown this once.",
}
_TIME = {"type": "number", "description": "Seconds since 1970."}
_TIME_OR_NONE = {"type": ["number", "null"], "description": "Seconds since 1970."}
_EXPIRES_IN = {"type": "integer", "description": "Seconds left."}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _schema(name)}


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_SCHEMAS = {
    "Problem": _object(
        {
            "message": {"type": "string", "description": "What is wrong, and what to do."},
            "reason": {"type": "string", "description": "The same in two or three words that do not change."},
        }
    ),
    "NewKey": {
        **_object(
            {
                "account": _ACCOUNT,
                "jwk": {"type": "object", "description": "The public key (RFC 7517), with its `alg`."},
                "label": _LABEL,
            },
            {"invitation": _CODE, "recovery_code": _CODE, "nonce": _NONCE},
        ),
        "description": "At most one of `invitation`, `recovery_code` and `nonce`.",
    },
    "EnrolledKey": _object(
        {"account": _ACCOUNT, "thumbprint": _THUMBPRINT, "label": _LABEL}, {"recovery_codes": _CODES}
    ),
    "WaitingKey": _object(
        {
            "thumbprint": _THUMBPRINT,
            "fingerprint": _FINGERPRINT,
            "nonce": _NONCE,
            "expires_in": _EXPIRES_IN,
        }
    ),
    "Key": _object(
        {
            "thumbprint": _THUMBPRINT,
            "fingerprint": _FINGERPRINT,
            "label": _LABEL,
            "added": _TIME,
            "last_used": _TIME_OR_NONE,
            "revoked": _TIME_OR_NONE,
        }
    ),
    "Keys": _object(
        {
            "account": _ACCOUNT,
            "keys": _list_of("Key"),
            "recovery_codes_left": {"type": "integer"},
            "recoveries": {
                **_list_of("Key"),
                "description": "Those that a recovery code enrolled in the last 30 days.",
            },
        }
    ),
    "Candidates": _object({"candidates": _list_of("Candidate")}),
    "Candidate": _object(
        {
            "thumbprint": _THUMBPRINT,
            "fingerprint": _FINGERPRINT,
            "label": _LABEL,
            "nonce": _NONCE,
            "expires_in": _EXPIRES_IN,
        }
    ),
    "Approval": _object({"account": _ACCOUNT, "thumbprint": _THUMBPRINT, "label": _LABEL, "nonce": _NONCE}),
    "RecoveryCodes": _object({"recovery_codes": _CODES}),
    "Audit": _object({"entries": _list_of("AuditEntry")}),
    "AuditEntry": _object(
        {
            "number": {"type": "integer", "description": "Larger than that of every entry before."},
            "time": _TIME,
            "what": _TEXT,
            "thumbprint": {"type": "string", "description": "The key that it was done to, or empty."},
            "by": {"type": "string", "description": "The thumbprint of the key that did it, or who else."},
            "label": _TEXT,
        }
    ),
}


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _schema(name)}}


def _problem(status: str) -> dict[str, Any]:
    answer = {"description": _PROBLEMS[status], "content": _content("Problem")}
    return {**answer, "headers": _FIELDS[status]} if status in _FIELDS else answer


def _operation(
    summary: str,
    done: dict[str, tuple[str, str]],
    problems: tuple[str, ...] = (),
    *,
    body: str = "",
    is_signed: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """Describe one operation; `done` has a description and a schema for each status that is no problem."""
    operation: dict[str, Any] = {"summary": summary, **more}
    if body:
        operation["requestBody"] = {"required": True, "content": _content(body)}
    operation["security"] = [{"token": []}] if is_signed else []
    operation["responses"] = {
        status: {"description": text, "content": _content(name)} if name else {"description": text}
        for status, (text, name) in done.items()
    }
    for status in sorted({*problems, *(_SIGNED if is_signed else _ANYBODYS)}):
        operation["responses"][status] = _problem(status)
    return operation


_PATHS = {
    "/keys": {
        "post": _operation(
            "Enrol the key that signs the token",
            {
                "201": ("The key is enrolled.", "EnrolledKey"),
                "202": (
                    "The key waits for approval by a key of the account: send the nonce again until 201.",
                    "WaitingKey",
                ),
            },
            ("403", "409", "415", "429"),
            body="NewKey",
            description="The token is verified with the `jwk` of the body, and its `iss` and `sub` are the "
            "account that is asked for. Where registration is not open, 202 does not say that the account "
            "exists.",
        ),
        "get": _operation("List the account's keys", {"200": ("All keys, revoked ones too.", "Keys")}),
    },
    "/keys/{thumbprint}": {
        "delete": _operation(
            "Revoke a key of the account",
            {"204": ("The key is revoked.", "")},
            ("404", "409"),
            description="The last key can be revoked only while recovery codes are left.",
            parameters=[{"name": "thumbprint", "in": "path", "required": True, "schema": _THUMBPRINT}],
        ),
    },
    "/candidates": {
        "get": _operation(
            "List the keys that wait for approval", {"200": ("The keys, oldest first.", "Candidates")}
        ),
    },
    "/approvals": {
        "post": _operation(
            "Approve a key that waits",
            {"204": ("The key is approved: its device can enrol it.", "")},
            ("403", "404", "415"),
            body="Approval",
        ),
    },
    "/recovery-codes": {
        "post": _operation(
            "Replace the recovery codes that are left by ten new ones",
            {"201": ("The codes. They are not shown again.", "RecoveryCodes")},
            ("403", "429"),
        ),
    },
    "/audit": {
        "get": _operation(
            "List what was done",
            {"200": ("The next hundred entries, oldest first.", "Audit")},
            parameters=[
                {
                    "name": "after",
                    "in": "query",
                    "description": "Number of the last entry that is not wanted.",
                    "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1, "default": 0},
                }
            ],
        ),
    },
    "/openapi.json": {
        "get": _operation(
            "Give this document",
            {"200": ("The document.", "Document")},
            is_signed=False,
        ),
    },
}


def document() -> dict[str, Any]:
    """Describe the application.

    Returns:
        The OpenAPI 3.1 document, its paths below the place where the application is mounted.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Keys of an account",
            "version": "1",
            "description": "Devices enrol, approve and revoke public keys. Times are seconds since 1970.",
        },
        "servers": [{"url": "."}],
        "paths": _PATHS,
        "components": {
            "schemas": {**_SCHEMAS, "Document": {"type": "object"}},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A self-signed token, bound to the request and used once.",
                }
            },
        },
    }
