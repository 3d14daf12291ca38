"""Which action a request is, and what it costs (sections 1, 7 and 10).

`Policy` prices by action, by route, by identity and for strangers; `AdaptivePolicy` by load. For anything
else, subclass `Policy` and override `action`, `price` and `floor`.
"""

from __future__ import annotations

__all__ = ["Policy", "Prices", "Scopes"]

import copy
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Self
from urllib.parse import unquote

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

_SLASHES = re.compile("/+")

Prices = Mapping[str, Work]

Scopes = list[tuple[frozenset[str], Prices]]


class Policy:
    """Ask for Argon2 work: little for everyday use, seconds for creating things.

    A search is far cheaper than Argon2 even at high cost, and is offered only at a cost you name. Where the
    cost is what stands between an API and abuse, offer none (section 10). `Policy.deployed` offers what
    existing servers do.

    Other policies can set the prices for some requests. The first that fits counts: that of the identity;
    that for strangers; this one. Then the longest route that fits among the routes of the policy found
    counts, if there is one. Nothing but prices is taken from another policy, and its own identities and
    strangers are ignored.

    Args:
        access: The Argon2 work of everything but creating; None offers none.
        create: The Argon2 work of creating; None offers none.
        access_cost: The search cost of everything but creating, bits; None offers none.
        create_cost: The search cost of creating, bits; None offers none.
        exists: Path on the wire to whether a resource is there, sync or async: a PUT to one that is
            there is an update. Without it every PUT is a create. It must not block.
        hide_existence: Ask every PUT for the work of creating, so that a challenge tells nobody whether the
            resource is there.
        routes: Path to the policy that prices it and what is below it: ``/a`` is also good for ``/a/b``, not
            for ``/ab``. Percent-encoding is decoded before paths are compared. Next nonces are priced
            without a route, so a dearer route refuses them, and challenges at its own price.
        identities: The policy of an identity (base64); a mapping, or a function that returns None for one
            without. It must not block.
        strangers: The policy of identities without an account, and of challenges to nobody known.

    Raises:
        ArgumentError: If nothing is offered, a cost is not 1 to 32, `exists` is no function, or one of the
            last three is of another kind.
    """

    # For subclasses that do not call the constructor.
    _routes: tuple[tuple[str, Policy], ...] = ()
    _identities: Callable[[str], Policy | None] | None = None
    _strangers: Policy | None = None
    _scopes: Scopes | None = None

    def __init__(
        self,
        *,
        access: Tuning | None = ACCESS_TUNING,
        create: Tuning | None = CREATE_TUNING,
        access_cost: int | None = None,
        create_cost: int | None = None,
        exists: Callable[[str], bool | Awaitable[bool]] | None = None,
        hide_existence: bool = False,
        routes: Mapping[str, Policy] | None = None,
        identities: Callable[[str], Policy | None] | Mapping[str, Policy] | None = None,
        strangers: Policy | None = None,
    ) -> None:
        self._access = _prices(access, access_cost)
        self._create = _prices(create, create_cost)
        if exists is not None and not callable(exists):
            raise ArgumentError("exists is a function of a path: pass container.__contains__ for a container")
        self._exists = exists
        self._hide_existence = hide_existence
        self._routes = _routes(routes or {})
        self._identities = _identities(identities)
        if strangers is not None and not isinstance(strangers, Policy):
            raise ArgumentError("strangers is a Policy: pass Policy(...), an object")
        self._strangers = strangers

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
            The policy whose `price`, `floor` and `scopes` count.
        """
        named = self._identities(identity) if self._identities and identity is not None else None
        chosen = named or (self._strangers if account is None else None) or self
        return chosen._routed(path)

    def _routed(self, path: str | None) -> Policy:
        if path is None or not self._routes:
            return self
        # Applications route by the decoded path, and some take several slashes for one: else a client could
        # write a dear path in another way. The verifier refuses dot segments.
        decoded = _SLASHES.sub("/", f"{unquote(path)}/")
        return next((policy for prefix, policy in self._routes if decoded.startswith(prefix)), self)

    def _without_strangers(self) -> Policy:
        """Give this policy, with strangers as anybody else."""
        if self._strangers is None:
            return self
        other = copy.copy(self)
        other._strangers = None
        return other

    def demanded(self, work: Work, *, is_known: bool = True) -> None:
        """Note that a request with a good signature asks the server to check its work.

        Args:
            work: The work of its nonce.
            is_known: Whether the identity is registered, or its latest check found the work done.
        """

    def checked(self, work: Work, seconds: float, *, is_known: bool = True) -> None:
        """Note that the server has checked the work of a request; called in worker threads.

        Args:
            work: The work.
            seconds: What the check took, without the wait for its turn.
            is_known: What `demanded` was told.
        """

    def failed(self, work: Work, *, is_known: bool = True) -> None:
        """Note that a check found the work not done; `checked` is called as well, and in the same thread.

        Args:
            work: The work.
            is_known: What `demanded` was told.
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

    def scopes(self) -> Scopes:
        """Group the actions by price, for next nonces: creating comes last (section 6).

        Returns:
            Each scope with its price.
        """
        if type(self).price is not Policy.price:  # the prices of a subclass may change
            return self._grouped()
        if self._scopes is None:
            self._scopes = self._grouped()
        return list(self._scopes)

    def _grouped(self) -> Scopes:
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


def _routes(routes: Mapping[str, Policy]) -> tuple[tuple[str, Policy], ...]:
    """Sort routes, the longest first; each ends with a slash, so that it ends with a segment."""
    if not isinstance(routes, Mapping) or not all(isinstance(policy, Policy) for policy in routes.values()):
        raise ArgumentError("routes is a mapping of paths to policies")
    if not all(prefix.startswith("/") for prefix in routes):
        raise ArgumentError("a route begins with a slash")
    ended = {f"{unquote(prefix).rstrip('/')}/": policy for prefix, policy in routes.items()}
    return tuple(sorted(ended.items(), key=lambda route: -len(route[0])))


def _identities(
    identities: Callable[[str], Policy | None] | Mapping[str, Policy] | None,
) -> Callable[[str], Policy | None] | None:
    if isinstance(identities, Mapping):
        if not all(isinstance(policy, Policy) for policy in identities.values()):
            raise ArgumentError(
                "identities is a mapping of identities to policies, or a function of an identity"
            )
        return identities.get
    if identities is not None and not callable(identities):
        raise ArgumentError("identities is a mapping of identities to policies, or a function of an identity")
    return identities
