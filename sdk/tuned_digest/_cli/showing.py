"""How the command line shows what others have written, times, and rows of both."""

from __future__ import annotations

__all__ = ["is_written", "print_rows", "shown", "shown_fingerprint", "shown_time"]

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


def shown_time(seconds: float | None, *, to: str = "minutes") -> str:
    """Write a time.

    Args:
        seconds: Seconds since 1970; None where it has not happened.
        to: The last part that is written: ``minutes`` or ``seconds``.

    Returns:
        Date and time in UTC, a dash for None, a question mark for what is no time.
    """
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(" ", to)
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


def is_written(typed: str, thumbprint: str) -> bool:
    """Tell whether a text is the 16 characters of a key, all of them.

    Args:
        typed: A text, in any letter case, with or without dashes and spaces.
        thumbprint: The key's thumbprint.

    Returns:
        True when it is.
    """
    return _bare(typed) == _bare(shown_fingerprint(thumbprint))


def print_rows(*rows: Sequence[str]) -> None:
    """Print rows in columns.

    Args:
        rows: Texts, as many in each row; the first row has the columns' names.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _bare(characters: str) -> str:
    return "".join(character for character in characters.upper() if character.isalnum())
