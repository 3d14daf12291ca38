"""Every error this package raises, under one root.

::

    TunedDigestError
    ├── ArgumentError (ValueError)       a constructor or a call was given something unusable
    ├── MissingExtraError (ImportError)  an optional dependency is not installed
    ├── PrivateKeyError                  a private key could not be read
    ├── MalformedFieldError              a header field breaks the grammar of section 2
    ├── UnsupportedAlgorithmError        no challenge on offer can be answered
    ├── LimitExceededError               a server asked for more work than the client's limits
    ├── BodyError                        a request body cannot be digested and sent again
    ├── RefusedError                     an origin keeps refusing answers
    ├── ClockError                       this machine's clock is too far off for a token to be accepted
    ├── NoThreadError                    a thread for the work could not be started
    ├── WorkTimeoutError (TimeoutError)  the work was not done in the time the client allows
    ├── ProofAbandonedError              the work was stopped, since nobody waits for it any more
    ├── ProofNotFoundError               a search ran through all 2**32 candidates
    ├── VerificationError                something presented to a server does not verify
    │   ├── IdentityError                not a usable Ed25519 public key
    │   ├── SignatureError               the signature is not the identity's over these bytes
    │   ├── ProofError                   the response is not the work for this request
    │   └── TokenError                   a token is not one that is accepted for this request
    ├── EnrolmentError                   a key is not enrolled, approved or recovered
    ├── OverloadedError                  a server has no room for a request now
    ├── StoreUnavailableError            a store or a key registry cannot be reached, or has no room
    └── RequestRejectedError             a server's answer to a request it does not accept

An error takes one message and keyword evidence, all of it optional, so that it can be pickled.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "BodyError",
    "ClockError",
    "EnrolmentError",
    "IdentityError",
    "LimitExceededError",
    "MalformedFieldError",
    "MissingExtraError",
    "NoThreadError",
    "OverloadedError",
    "PrivateKeyError",
    "ProofAbandonedError",
    "ProofError",
    "ProofNotFoundError",
    "RefusedError",
    "RequestRejectedError",
    "SignatureError",
    "StoreUnavailableError",
    "TokenError",
    "TunedDigestError",
    "UnsupportedAlgorithmError",
    "VerificationError",
    "WorkTimeoutError",
]


class TunedDigestError(Exception):
    """Stand at the root of every error this package raises.

    Args:
        message: What was wrong and what to do about it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ArgumentError(TunedDigestError, ValueError):
    """Report an argument that cannot be used."""


class MissingExtraError(TunedDigestError, ImportError):
    """Report an optional dependency that is not installed.

    Args:
        message: Which feature needs it.
        extra: The extra of this distribution that installs it.
    """

    def __init__(self, message: str, *, extra: str = "") -> None:
        super().__init__(message)
        self.extra = extra


class PrivateKeyError(TunedDigestError):
    """Report a private key that could not be read.

    Args:
        message: What was found instead, and what to do.
        path: The key file, empty when the key did not come from a file.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class MalformedFieldError(TunedDigestError):
    """Report a header field that breaks the grammar of section 2.

    Args:
        message: What is wrong with it.
        field: The name of the field.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UnsupportedAlgorithmError(TunedDigestError):
    """Report that no challenge on offer can be answered.

    Args:
        message: What was offered.
        algorithm: The algorithm as the server wrote it.
    """

    def __init__(self, message: str, *, algorithm: str = "") -> None:
        super().__init__(message)
        self.algorithm = algorithm


class LimitExceededError(TunedDigestError):
    """Report work beyond the client's limits, before any of it is done.

    Args:
        message: What was asked, what is allowed and how to allow it.
        limit: The name of the field of `Limits` that was exceeded, or ``memory_kib`` of `Resources`.
        asked: What the server asked for, in that field's unit.
        allowed: What the client allows, in that field's unit.
    """

    def __init__(self, message: str, *, limit: str = "", asked: int = 0, allowed: int = 0) -> None:
        super().__init__(message)
        self.limit = limit
        self.asked = asked
        self.allowed = allowed


class BodyError(TunedDigestError):
    """Report a request body that cannot be digested and sent again."""


class RefusedError(TunedDigestError):
    """Report an origin that keeps refusing answers: no more work is done for it for a while.

    Args:
        message: Which origin, how often, and what to do.
        origin: The origin.
        refusals: How many answers it refused in a row.
        reason: The last reason it gave, empty where it gave none.
        seconds: How long no answer is sent.
    """

    def __init__(
        self, message: str, *, origin: str = "", refusals: int = 0, reason: str = "", seconds: float = 0
    ) -> None:
        super().__init__(message)
        self.origin = origin
        self.refusals = refusals
        self.reason = reason
        self.seconds = seconds


class ClockError(TunedDigestError):
    """Report that this machine's clock is too far off for a server to accept a token (tokens.md section 1).

    Args:
        message: How far, and what to do.
        origin: The origin whose Date field says so.
        seconds: How far the server is ahead of this machine; negative where it is behind.
    """

    def __init__(self, message: str, *, origin: str = "", seconds: float = 0) -> None:
        super().__init__(message)
        self.origin = origin
        self.seconds = seconds


class NoThreadError(TunedDigestError):
    """Report that a thread for the work could not be started."""


class WorkTimeoutError(TunedDigestError, TimeoutError):
    """Report work that was not done in the time the client allows.

    Args:
        message: Which work, and how to allow more time.
        seconds: The time allowed.
    """

    def __init__(self, message: str, *, seconds: float = 0) -> None:
        super().__init__(message)
        self.seconds = seconds


class ProofAbandonedError(TunedDigestError):
    """Report work that was stopped, since nobody waits for it any more."""


class ProofNotFoundError(TunedDigestError):
    """Report a search that ran through all 2**32 candidates (section 4)."""


class VerificationError(TunedDigestError):
    """Report something presented to a server that does not verify."""


class IdentityError(VerificationError):
    """Report an identity that is not a canonical Ed25519 point of large order."""


class SignatureError(VerificationError):
    """Report a signature that is not the identity's over these bytes."""


class ProofError(VerificationError):
    """Report a response that is not the work for this request."""


class TokenError(VerificationError):
    """Report a token that is not accepted for a request.

    Args:
        message: Which check failed, in words that say nothing of which accounts and keys exist.
        step: The step of the verification that refuses it, 1 to 7.
        status: The status it is answered with: 401, or 400 where the field cannot be read.
        reason: What the server's log and counters say; the client is not told.
    """

    def __init__(self, message: str, *, step: int = 0, status: int = 401, reason: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.status = status
        self.reason = reason


class EnrolmentError(TunedDigestError):
    """Report that a key is not enrolled, approved or recovered.

    Args:
        message: What was wrong and what to do about it.
        reason: The same in two or three words, such as ``key enrolled`` or ``code refused``.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class OverloadedError(TunedDigestError):
    """Report that a server has no room for a request now: it is answered with 503.

    Args:
        message: What is short.
        retry_after: Seconds after which a client may try again.
    """

    def __init__(self, message: str, *, retry_after: float = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnavailableError(TunedDigestError):
    """Report that a store or a key registry cannot be reached, or has no room: the answer is 503.

    Args:
        message: What the server's log says; the client is not told.
        retry_after: Seconds after which a client may try again.
    """

    def __init__(self, message: str, *, retry_after: float = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestRejectedError(TunedDigestError):
    """Carry a server's answer to a request it does not accept (section 10).

    Args:
        message: The reason sent to the client.
        status: The response's status code.
        fields: The response's header fields, name and value.
        body: The response's content, JSON.
        reason: What the server counts it as.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        fields: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.fields = fields
        self.body = body
