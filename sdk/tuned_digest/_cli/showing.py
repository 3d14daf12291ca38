"""How the command line shows what others have written, times, and rows of both."""

from __future__ import annotations

__all__ = ["print_rows", "shown", "shown_fingerprint", "shown_time"]

from collections.abc import Sequence
from datetime import UTC, datetime

from ..keys import PublicKey

_LONGEST = 300  # characters of one text


def shown(text: object) -> str:
    """Make a text fit for a terminal: what is not printable could move the cursor or hide what follows.

    Args:
        text: A text, as anybody may have written it.

    Returns:
        At most 300 characters of it, each printable.
    """
    return "".join(character if character.isprintable() else "?" for character in str(text)[:_LONGEST])


def shown_time(seconds: float | None) -> str:
    """Write a time.

    Args:
        seconds: Seconds since 1970; None where it has not happened.

    Returns:
        Date, hour and minute in UTC, a dash for None, a question mark for what is no time.
    """
    if seconds is None:
        return "-"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return "?"


def shown_fingerprint(thumbprint: str) -> str:
    """Write the 16 characters of a key for people to compare, from its thumbprint alone.

    Args:
        thumbprint: RFC 7638 thumbprint, 43 characters of base64url.

    Returns:
        Four groups of four characters.
    """
    return PublicKey("", "", thumbprint, "", None).fingerprint


def print_rows(*rows: Sequence[str]) -> None:
    """Print rows in columns.

    Args:
        rows: Texts, as many in each row; the first row has the columns' names.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
