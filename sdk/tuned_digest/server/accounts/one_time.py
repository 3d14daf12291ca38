"""The one-time codes of accounts: invitations and recovery codes, made and checked (tokens.md section 3).

Hashing takes about 25 ms, and ten hashes 250 ms: it runs in two threads at most, in turn with everybody
else's, and never on an event loop. So much waits, and what is more is refused with an `OverloadedError`.
"""

from __future__ import annotations

__all__ = ["OneTimeCodes"]

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..._runtime.steps import Step, Steps
from ...errors import EnrolmentError, OverloadedError, StoreUnavailableError
from ..checks import Check, CheckQueue
from .codes import HASHING, UNKNOWN_HASH, check_secret, hash_secret, make_code, read_code
from .devices import Asker
from .registry import MOST_TRIES, Code, KeyRegistry
from .tries import AddressTries

T = TypeVar("T")

_RECOVERY_CODES = 10  # tokens.md section 3
_TRY_WINDOW = 600.0  # seconds in which an address has as many wrong tries as a code

# Hashes under way take 38 MiB; the last of those that wait has its turn after 0.8 s.
_HASHES_AT_ONCE = 2
_HASHES_WAITING = 64


class OneTimeCodes:
    """Make and check the codes of one registry.

    Args:
        registry: Where their names and hashes are kept.
        step: Makes the step that calls the registry.
        takes_invitations: Whether invitations are good here.
        clock: Gives seconds since 1970.
        monotonic: Gives seconds, never going back.
        randomness: Gives that many random bytes.
    """

    def __init__(
        self,
        registry: KeyRegistry,
        step: Callable[[Callable[[], object]], Step],
        *,
        takes_invitations: bool,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        randomness: Callable[[int], bytes],
    ) -> None:
        self._registry = registry
        self._step = step
        self._kinds = ("recovery", "invitation") if takes_invitations else ("recovery",)
        self._clock = clock
        self._randomness = randomness
        self._hashing = CheckQueue(capacity=_HASHES_WAITING, places=_HASHES_AT_ONCE)
        self._tries = AddressTries("codes", MOST_TRIES, _TRY_WINDOW, clock=monotonic)

    def invitation(self, account: str, lifetime: float) -> tuple[str, Code]:
        """Make an invitation; this blocks for one hash.

        Args:
            account: The account.
            lifetime: Seconds it is good for.

        Returns:
            The code to show once, and what is kept of it.
        """
        written = make_code(self._randomness)
        hashed, now = hash_secret(written.secret), self._clock()
        return written.text, Code(written.name, "invitation", account, hashed, now, now + lifetime)

    def recovery_codes(self, account: str, asker: Asker) -> Steps[tuple[Sequence[str], Sequence[Code]]]:
        """Make ten recovery codes.

        Args:
            account: The account.
            asker: For whom.

        Returns:
            The codes to show once, and what is kept of them.
        """
        written = [make_code(self._randomness) for _ in range(_RECOVERY_CODES)]
        hashes = yield from self._hash(
            lambda: [hash_secret(code.secret) for code in written],
            asker,
            times=_RECOVERY_CODES,
        )
        now = self._clock()
        codes = [
            Code(code.name, "recovery", account, hashed, now)
            for code, hashed in zip(written, hashes, strict=True)
        ]
        return [code.text for code in written], codes

    def check(self, text: str, kind: str, account: str, asker: Asker) -> Steps[str]:
        """Check a code; whatever is wrong with it is answered alike, and after the same work.

        The registry checks once more, when the code is used, that it is good.

        Args:
            text: The code as typed.
            kind: ``invitation`` or ``recovery``.
            account: The account that it is used for.
            asker: Who uses it.

        Returns:
            Its name.

        Raises:
            EnrolmentError: With reason ``code refused``, or ``bad request`` where it cannot be one.
            RequestRejectedError: With status 429, after five wrong codes from this address in ten minutes.
            OverloadedError: If too many codes wait to be hashed.
        """
        written = read_code(text)
        self._tries.begin(asker.peer)
        try:
            code: Code | None = yield self._step(lambda: self._registry.find_code(written.name))
            hashed = UNKNOWN_HASH if code is None else code.hash
            yield from self._hash(lambda: check_secret(hashed, written.secret), asker)
            if code is None or not self._is_good(code, kind, account):
                raise _refused()
        except EnrolmentError:
            yield self._step(lambda: self._registry.count_try(written.name))
            raise _refused() from None
        except (OverloadedError, StoreUnavailableError):  # nothing was tried
            self._tries.forgive(asker.peer)
            raise
        self._tries.forgive(asker.peer)
        return written.name

    def recovery_left(self, account: str) -> int:
        """Count the recovery codes that are good; this calls the registry."""
        return sum(map(self._is_open, self._registry.codes(account, "recovery")))

    def is_invited(self, account: str) -> bool:
        """Tell whether somebody holds an invitation for an account; this calls the registry."""
        return any(map(self._is_open, self._registry.codes(account, "invitation")))

    def _is_good(self, code: Code, kind: str, account: str) -> bool:
        return code.kind == kind and kind in self._kinds and code.account == account and self._is_open(code)

    def _is_open(self, code: Code) -> bool:
        is_fresh = code.expires is None or self._clock() < code.expires
        return is_fresh and code.used is None and code.tries < MOST_TRIES

    def _hash(self, run: Callable[[], T], asker: Asker, *, times: int = 1) -> Steps[T]:
        answers: list[T] = []
        check = Check(
            lambda: answers.append(run()),
            HASHING.scaled(times),
            asker.thumbprint,
            asker.peer,
            is_registered=True,  # all wait in one line: whoever makes codes does not come before who uses one
        )
        yield self._hashing.step(check, asker.gone)
        return answers[0]


def _refused() -> EnrolmentError:
    return EnrolmentError(
        "the code is not good: it is another one, was used, has expired, or is for another account",
        reason="code refused",
    )
