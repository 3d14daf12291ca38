"""Make a core error one of a client library's own as well: here, and nowhere else."""

from __future__ import annotations

__all__ = ["as_library_error"]

import functools
from collections.abc import Callable
from typing import Any, cast

from ..errors import TunedDigestError


class _LibraryError(TunedDigestError):
    """Make a core error one of a client library's own as well; see `as_library_error`."""

    _core: type[TunedDigestError]
    _family: type[Exception]

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[object, ...]]:
        evidence = {name: value for name, value in vars(self).items() if name not in _EXCHANGED}
        return _restore, (self._core, self._family, str(self), evidence)


# What a client library hangs on its errors: its requests hold streams and hooks, and are not pickled.
_EXCHANGED = frozenset({"request", "response", "_request"})


def as_library_error(error: TunedDigestError, family: type[Exception], **exchanged: object) -> Exception:
    """Make an error that ``except`` clauses for a client library catch as well.

    Args:
        error: A core error.
        family: The library's own class of request errors.
        exchanged: The ``request`` and, where there is one, the ``response`` it is about.

    Returns:
        An error of a class with the core error's name, of both families; the core error itself where no
        class can be of both.
    """
    try:
        joined = _restore(type(error), family, str(error), vars(error))
    except TypeError:  # a class that cannot be joined, as ImportError and OSError, or one of a caller's own
        return error
    for name, value in exchanged.items():
        setattr(joined, name, value)
    return joined


def _restore(
    core: type[TunedDigestError], family: type[Exception], message: str, evidence: dict[str, Any]
) -> Exception:
    error = _joined_class(core, family)(message)  # type: ignore[arg-type]  # a class is hashable
    vars(error).update(evidence)
    return error


@functools.cache
def _joined_class(core: type[TunedDigestError], family: type[Exception]) -> type[Exception]:
    namespace = {"_core": core, "_family": family, "__module__": core.__module__, "__doc__": core.__doc__}
    return cast("type[Exception]", type(core.__name__, (_LibraryError, core, family), namespace))
