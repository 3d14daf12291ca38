"""Where the command line finds a key registry."""

from __future__ import annotations

__all__ = ["is_path", "open_registry", "registry_at"]

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from .showing import shown

if TYPE_CHECKING:
    from ..server.accounts.sql import SQLKeyRegistry

_NO_PATH = re.compile(r"|[^/\\]*:[^/\\]*|[A-Za-z][A-Za-z0-9+.-]+:.*", re.DOTALL)  # such as localhost:5432


def is_path(text: str) -> bool:
    """Tell whether a text is the path of a file, and no URL, whole or mistyped.

    Args:
        text: A path or a URL.

    Returns:
        True for a path; one that has a colon has a slash before it.
    """
    return not _NO_PATH.fullmatch(text)


@contextmanager
def open_registry(text: str, *, makes: bool = True) -> Iterator[SQLKeyRegistry]:
    """Open a key registry, ready for use, and close it with the block.

    Args:
        text: The path of an SQLite file, or the URL of a database.
        makes: A file that is not there is made, and standard error says so.

    Yields:
        The registry.

    Raises:
        ArgumentError: If it is neither, or cannot be used.
        MissingExtraError: If SQLAlchemy or the database's driver is not installed.
        StoreUnavailableError: If it cannot be used now.
    """
    is_new = is_path(text) and not Path(text).exists()
    if is_new and not makes:
        raise ArgumentError(f"there is no registry at {text}: see --registry")
    registry = registry_at(text)
    try:
        registry.start()
        if is_new:
            print(f"made a new registry, in the file {shown(text)}", file=sys.stderr)
        yield registry
    finally:
        registry.close()


def registry_at(text: str) -> SQLKeyRegistry:
    """Take a key registry, not started.

    Args:
        text: The path of an SQLite file, or the URL of a database.

    Returns:
        The registry.

    Raises:
        ArgumentError: If it is neither.
        MissingExtraError: If SQLAlchemy or the database's driver is not installed.
    """
    # An extra that other commands do without.
    from ..server.accounts.sql import SQLKeyRegistry  # noqa: PLC0415

    if not is_path(text) and "://" not in text:  # it may hold a password, and is not repeated
        raise ArgumentError(
            "a registry is the path of an SQLite file, or a URL such as postgresql+psycopg://host/name"
        )
    return SQLKeyRegistry(text)
