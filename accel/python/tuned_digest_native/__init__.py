"""The work of tuned-digest on the fastest kernels the processor offers.

Nothing is allocated and no thread is started before the first call.
"""

from ._native import (
    Cancelled,
    Job,
    __version__,
    argon2,
    held_kib,
    kernel,
    release,
    search,
    search_holds,
)

__all__ = [
    "Cancelled",
    "Job",
    "__version__",
    "argon2",
    "held_kib",
    "kernel",
    "release",
    "search",
    "search_holds",
]
