"""Which action a request is, and what it costs (sections 1, 7 and 10).

To price by route, by load or otherwise, subclass `Policy` and override `action`, `price` and `floor`.
"""

from __future__ import annotations

__all__ = ["Policy", "Prices"]

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

from .._wire.grammar import ACTIONS
from ..errors import ArgumentError
from ..proof import SearchCost, Tuning, Work
from ..proof.argon2 import ACCESS_TUNING, CREATE_TUNING

_ACTIONS_BY_METHOD = {
    "GET": "read",
    "HEAD": "read",
    "OPTIONS": "read",
    "QUERY": "read",
    "PATCH": "update",
    "DELETE": "delete",
    "POST": "create",
}

Prices = Mapping[str, Work]


class Policy:
    """Ask for Argon2 work: little for everyday use, seconds for creating things.

    A search is far cheaper than Argon2 even at high cost, and is offered only at a cost you name. Where the
    cost is what stands between an API and abuse, offer none (section 10). `Policy.deployed` offers what
    existing servers do.

    Args:
        access: The Argon2 work of everything but creating; None offers none.
        create: The Argon2 work of creating; None offers none.
        access_cost: The search cost of everything but creating, bits; None offers none.
        create_cost: The search cost of creating, bits; None offers none.
        exists: Path on the wire to whether a resource is there, sync or async: a PUT to one that is
            there is an update. Without it every PUT is a create. It must not block.
        hide_existence: Ask every PUT for the work of creating, so that a challenge tells nobody whether the
            resource is there.

    Raises:
        ArgumentError: If nothing is offered, a cost is not 1 to 32, or `exists` is no function.
    """

    def __init__(
        self,
        *,
        access: Tuning | None = ACCESS_TUNING,
        create: Tuning | None = CREATE_TUNING,
        access_cost: int | None = None,
        create_cost: int | None = None,
        exists: Callable[[str], bool | Awaitable[bool]] | None = None,
        hide_existence: bool = False,
    ) -> None:
        self._access = _prices(access, access_cost)
        self._create = _prices(create, create_cost)
        if exists is not None and not callable(exists):
            raise ArgumentError("exists is a function of a path: pass container.__contains__ for a container")
        self._exists = exists
        self._hide_existence = hide_existence

    @classmethod
    def deployed(cls, *, exists: Callable[[str], bool | Awaitable[bool]] | None = None) -> Self:
        """Ask for what existing servers of the scheme ask for: a search of one bit beside Argon2.

        One bit is no work, so this discourages nobody from creating things.

        Args:
            exists: Path on the wire to whether a resource is there, see `Policy`.

        Returns:
            The policy.
        """
        return cls(access_cost=1, create_cost=1, exists=exists)

    def select(self, path: str | None, identity: str | None, account: object) -> Policy:
        """Choose the policy that sets the prices of one request, or of one client's next nonces.

        Args:
            path: The request's path on the wire; None for next nonces, which are good for every path.
            identity: Who calls (base64); None where nobody is known to, as in a challenge.
            account: What the identity is registered as; None for a stranger.

        Returns:
            The policy whose `price`, `floor` and `scopes` count: here, this one.
        """
        return self

    def demanded(self, work: Work) -> None:
        """Note that a verified request asks the server to check its work.

        Args:
            work: The work of its nonce.
        """

    def checked(self, work: Work, seconds: float) -> None:
        """Note that the server has checked the work of a request; called in worker threads.

        Args:
            work: The work.
            seconds: What the check took, without the wait for its turn.
        """

    def action(self, method: str, path: str) -> str | Awaitable[str]:
        """Find out which action a request is; an override may be async.

        Args:
            method: Its method.
            path: Its path on the wire.

        Returns:
            The action; ``update`` for a method that is not known.
        """
        if method != "PUT":
            return _ACTIONS_BY_METHOD.get(method, "update")
        found = self._exists(path) if self._exists else False
        return _awaited(found) if inspect.isawaitable(found) else _put(found)

    def priced_as(self, method: str, action: str) -> str:
        """Name the action that a request's nonce has to be good for.

        Args:
            method: Its method.
            action: Its action.

        Returns:
            The action, and ``create`` for every PUT where existence is hidden.
        """
        return "create" if self._hide_existence and method == "PUT" else action

    def challenged_for(self, method: str, action: str) -> frozenset[str]:
        """List the actions that a challenge names.

        Args:
            method: The request's method.
            action: The action its nonce has to be good for.

        Returns:
            That action, and both that a PUT can be where existence is hidden.
        """
        return frozenset({action, "update"} if self._hide_existence and method == "PUT" else {action})

    def price(self, action: str) -> Prices:
        """Set the work a new nonce for an action asks for.

        Args:
            action: The action.

        Returns:
            The work by scheme.
        """
        return self._create if action == "create" else self._access

    def floor(self, action: str) -> Prices:
        """Set the least work that is still accepted for an action.

        A policy whose price follows load lets this lag behind, or every next nonce in clients' hands is
        refused when the price rises.

        Args:
            action: The action.

        Returns:
            The work by scheme: here, the price.
        """
        return self.price(action)

    def scopes(self) -> list[tuple[frozenset[str], Prices]]:
        """Group the actions by price, for next nonces: creating comes last (section 6).

        Returns:
            Each scope with its price.
        """
        groups: list[tuple[set[str], Prices]] = []
        for action in ACTIONS:
            price = self.price(action)
            for actions, of_group in groups:
                if of_group == price and action != "create":
                    actions.add(action)
                    break
            else:
                groups.append(({action}, price))
        return [(frozenset(actions), price) for actions, price in groups]


def _put(found: bool) -> str:
    return "update" if found else "create"


async def _awaited(found: Awaitable[bool]) -> str:
    return _put(await found)


def _prices(tuning: Tuning | None, cost: int | None) -> Prices:
    if tuning is None and cost is None:
        raise ArgumentError("offer a tuning or a search cost: with neither no request could be answered")
    works: list[Work] = []
    if tuning is not None:
        works.append(tuning)
    if cost is not None:
        works.append(SearchCost(cost))
    return {work.scheme: work for work in works}
