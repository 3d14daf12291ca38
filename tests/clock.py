"""A clock for tests: it goes on when it is told to, and with each piece of work."""

from typing import Any


class Clock:
    """Give seconds that a test has a say in.

    Args:
        per_work: Seconds that each piece of work seems to take.
    """

    def __init__(self, *, per_work: float = 0.0) -> None:
        self.now = 0.0
        self.works = 0
        """Pieces of work begun so far."""
        self.per_work = per_work

    def __call__(self) -> float:
        """Give the seconds so far."""
        return self.now

    def draw(self, size: int) -> bytes:
        """Give the salt of a piece of work; the time it takes goes by."""
        self.works += 1
        self.now += self.per_work
        return bytes(size)

    @property
    def options(self) -> dict[str, Any]:
        """What makes an auth object live by this clock."""
        return {"_clock": self, "_randomness": self.draw}
