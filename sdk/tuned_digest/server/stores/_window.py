"""The latest numbers of a counter, and which of them were taken."""

from __future__ import annotations

__all__ = ["Window"]


class Window:
    """Know which of the latest numbers were taken, one bit for each; those before are retired.

    Args:
        size: How many numbers it knows.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = bytearray(-(-size // 8))
        self._count = 0

    def add(self) -> None:
        """Add the next number, the first one is 0; the oldest is retired."""
        byte, bit = self._place(self._count)
        self._taken[byte] &= ~(1 << bit)
        self._count += 1

    def take(self, number: int) -> bool:
        """Take a number.

        Args:
            number: One that was added.

        Returns:
            False when it was taken before, or is retired.
        """
        byte, bit = self._place(number)
        if self._count - number > self._size or self._taken[byte] >> bit & 1:
            return False
        self._taken[byte] |= 1 << bit
        return True

    def _place(self, number: int) -> tuple[int, int]:
        return divmod(number % self._size, 8)
