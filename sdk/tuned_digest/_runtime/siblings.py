"""Notice the other workers of the server that runs this process, where the system tells.

The workers of one server are children of one parent, and hold one socket that is bound to a port or a path:
so do those of ``uvicorn --workers``, gunicorn, granian and hypercorn, each before it serves. It is bound and
perhaps not listening yet. On Linux proc(5) shows both; other systems do not, nor does it show the sockets of
another user's processes.
"""

from __future__ import annotations

__all__ = ["has_sibling"]

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_UNNAMED = (0, "", b"")  # the port, or the path, of a socket that is not bound


def has_sibling(proc: Path = _PROC) -> bool:
    """Find out whether another worker of this process's server is there now.

    Args:
        proc: Where the system shows its processes.

    Returns:
        True if one is; False if none is, or the system does not tell.
    """
    bound = {link for number, link in _sockets(proc / "self") if _is_bound(number)}
    return bool(bound) and any(link in bound for sibling in _siblings(proc) for _, link in _sockets(sibling))


def _sockets(process: Path) -> Iterator[tuple[int, str]]:
    """Name the sockets of a process: those it may show, as far as they are still there."""
    with contextlib.suppress(OSError):
        for entry in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                link = str(entry.readlink())
                if link.startswith("socket:"):
                    yield int(entry.name), link


def _is_bound(number: int) -> bool:
    """Tell whether a descriptor is where connections are, or will be, accepted."""
    try:
        with socket.socket(fileno=os.dup(number)) as copy:
            if copy.type != socket.SOCK_STREAM or _name(copy.getsockname()) in _UNNAMED:
                return False
            return not _is_connected(copy)
    except OSError:  # closed meanwhile
        return False


def _name(address: object) -> object:
    return address[1] if isinstance(address, tuple) else address


def _is_connected(copy: socket.socket) -> bool:
    try:
        copy.getpeername()
    except OSError:
        return False
    return True


def _siblings(proc: Path) -> Iterator[Path]:
    """Find the other children of this process's parent."""
    own = _parent(proc / "self")
    itself = str((proc / "self").readlink())  # the id as this proc counts: perhaps another namespace's
    for process in proc.iterdir():
        if process.name.isdecimal() and process.name != itself and _parent(process) == own:
            yield process


def _parent(process: Path) -> str | None:
    """Read a parent's process id: the second field behind the name, which may hold anything (proc(5))."""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
    except (OSError, IndexError):
        return None
