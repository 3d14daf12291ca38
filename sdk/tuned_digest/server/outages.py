"""A store or a registry that cannot do its part: the log says so once, clients are to come again."""

from __future__ import annotations

__all__ = ["Outage"]

import logging

from ..errors import RequestRejectedError, StoreUnavailableError
from .refusals import unavailable

_LOG = logging.getLogger(__name__)


class Outage:
    """Know whether something is out of reach.

    Args:
        what: What clients and the log call it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._is_on = False

    def begin(self, error: StoreUnavailableError) -> None:
        """Log that it cannot be reached, the first time.

        Args:
            error: What it said.
        """
        if not self._is_on:
            self._is_on = True
            _LOG.error("requests are answered with 503: %s", error)

    def end(self) -> None:
        """Log that it works again, if it did not."""
        if self._is_on:
            self._is_on = False
            _LOG.warning("the %s works again", self._what)

    def rejection(self, error: StoreUnavailableError) -> RequestRejectedError:
        """Log it, and make the answer to a request that needs it.

        Args:
            error: What it said.

        Returns:
            The error to raise, with a response of status 503.
        """
        self.begin(error)
        return unavailable(f"the {self._what} is unavailable", error.retry_after)
