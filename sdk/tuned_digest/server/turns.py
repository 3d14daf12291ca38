"""Whose check is next, and whose is refused when too many wait: bookkeeping alone, without threads.

Checks wait in three lines: registered identities, then those that have proved their work lately, then
strangers. In a line peers take turns, and at a peer its identities; an identity has one check under way at a
time. When too many wait, the heaviest identity at the heaviest peer of the last line loses its newest check:
who asks for much takes the room from itself.

Every operation looks at one line, one peer and one identity, never at all that wait.
"""

from __future__ import annotations

__all__ = ["Bounds", "Standing", "Ticket", "Turns", "peer_key"]

import bisect
import enum
import ipaddress
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

_SITE = 64  # bits: a site is given a /64 at least (RFC 6177), so that its addresses are one peer's

_LONGEST_PEER = 64  # characters kept of a peer that is no address


class Standing(enum.IntEnum):
    """Say how well an identity is known: the least first."""

    STRANGER = 0
    PROVED = 1
    """Its latest check found the work done."""
    REGISTERED = 2


@dataclass(frozen=True, slots=True)
class Bounds:
    """Say how much may wait.

    Args:
        count: Checks that wait at once.
        cost: Microseconds of work that may be ahead of a check.
    """

    count: int
    cost: int


@dataclass(slots=True, eq=False)
class Ticket:
    """Stand for one check, from its arrival to its end.

    Args:
        identity: Whose it is.
        peer: Where it came from, a `peer_key`.
        standing: How well the identity is known; a higher one comes first.
        cost: Microseconds that it probably takes.
    """

    identity: str
    peer: Hashable
    standing: Standing
    cost: int
    holder: _Holder | None = field(default=None, init=False, repr=False)


T = TypeVar("T", bound=Ticket)


class _Weighed:
    """Somebody who has checks waiting."""

    def __init__(self) -> None:
        self.count = 0
        self.cost = 0
        self.rank: tuple[int, int] = (0, 0)
        """The weight, and when the newest check came."""


W = TypeVar("W", bound=_Weighed)


class _Ranking(Generic[W]):
    """Those who have checks waiting, the heaviest last; of equals, whoever sent the newest check."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._ranked: list[tuple[tuple[int, int], W]] = []

    def __bool__(self) -> bool:
        return bool(self._ranked)

    def heaviest(self) -> W:
        return self._ranked[-1][1]

    def change(self, one: W, count: int, cost: int, arrival: int) -> None:
        """Count a check in or out. A weight is the larger of the shares that somebody has of the bounds."""
        if one.count:
            del self._ranked[bisect.bisect_left(self._ranked, one.rank, key=_rank)]
        one.count += count
        one.cost += cost
        one.rank = (max(one.count * self._bounds.cost, one.cost * self._bounds.count), arrival)
        if one.count:
            bisect.insort(self._ranked, (one.rank, one), key=_rank)


def _rank(ranked: tuple[tuple[int, int], object]) -> tuple[int, int]:
    return ranked[0]


class _Line:
    """The registered, or the strangers."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.peers: dict[Hashable, _Peer] = {}
        self.ranking: _Ranking[_Peer] = _Ranking(bounds)
        self.ready: OrderedDict[_Peer, None] = OrderedDict()
        """Peers whose turn may come, the next one first."""


class _Peer(_Weighed):
    def __init__(self, key: Hashable, line: _Line) -> None:
        super().__init__()
        self.key = key
        self.line = line
        self.holders = 0
        self.ranking: _Ranking[_Holder] = _Ranking(line.bounds)
        self.ready: OrderedDict[_Holder, None] = OrderedDict()
        """Identities that have a check waiting and none under way, the next one first."""


class _Holder(_Weighed):
    """An identity that has a check waiting or under way.

    It stays with the peer that it first came from until it has neither.
    """

    def __init__(self, identity: str, peer: _Peer) -> None:
        super().__init__()
        self.identity = identity
        self.peer = peer
        self.waiting: dict[Any, None] = {}
        self.is_running = False


class Turns(Generic[T]):
    """Keep the tickets of checks that wait, and count those of checks under way.

    Args:
        bounds: How much may wait.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lines = {standing: _Line(bounds) for standing in Standing}
        self._holders: dict[str, _Holder] = {}
        self._arrivals = 0
        self.waiting = 0
        """Checks that wait."""
        self.running = 0
        """Checks under way."""
        self.cost = 0
        """Microseconds that all of them probably take."""

    def add(self, ticket: T) -> list[T]:
        """Let a check wait, and take out whatever is too much then.

        Args:
            ticket: Its ticket.

        Returns:
            The tickets that are refused; the new one may be among them.
        """
        self._enter(ticket)
        refused: list[T] = []
        while ticket not in refused[-1:] and self._is_too_much(ticket):
            refused.append(self._loser())
            self.remove(refused[-1])
        return refused

    def remove(self, ticket: T) -> None:
        """Take the ticket of a check out that waits; any other is left alone.

        Args:
            ticket: The ticket.
        """
        holder = ticket.holder
        if holder is None or ticket not in holder.waiting:
            return
        self._stop_waiting(holder, ticket)
        self.cost -= ticket.cost
        if not holder.waiting:
            _let_out(holder)
            self._forget_idle(holder)

    def take(self) -> T | None:
        """Take the next ticket out, and count its check as under way.

        Returns:
            The ticket, None where nobody's turn may come.
        """
        peers = next((line.ready for line in reversed(self._lines.values()) if line.ready), None)
        if peers is None:
            return None
        peer = next(iter(peers))
        peers.move_to_end(peer)
        holder = next(iter(peer.ready))
        ticket: T = next(iter(holder.waiting))
        holder.is_running = True
        self.running += 1
        _let_out(holder)
        self._stop_waiting(holder, ticket)
        return ticket

    def end(self, ticket: T) -> None:
        """Note that a check under way has ended.

        Args:
            ticket: Its ticket.
        """
        holder = ticket.holder
        assert holder is not None
        holder.is_running = False
        self.running -= 1
        self.cost -= ticket.cost
        if holder.waiting:
            _let_in(holder)
        self._forget_idle(holder)

    def demote(self, identity: str) -> None:
        """Let the checks of an identity wait with those of strangers.

        Args:
            identity: One that has no check under way.
        """
        holder = self._holders.get(identity)
        tickets: list[T] = list(holder.waiting) if holder else []
        for ticket in tickets:
            self.remove(ticket)
            ticket.standing = Standing.STRANGER
        for ticket in tickets:
            self._enter(ticket)

    def _enter(self, ticket: T) -> None:
        holder = ticket.holder = self._holders.get(ticket.identity) or self._new_holder(ticket)
        holder.waiting[ticket] = None
        self._arrivals += 1
        self.cost += ticket.cost
        self._count(holder, 1, ticket.cost, self._arrivals)
        if not holder.is_running:
            _let_in(holder)

    def _is_too_much(self, ticket: T) -> bool:
        return self.waiting > self._bounds.count or self.cost - ticket.cost > self._bounds.cost

    def _loser(self) -> T:
        peer: _Peer = next(line.ranking for line in self._lines.values() if line.ranking).heaviest()
        newest: T = next(reversed(peer.ranking.heaviest().waiting))
        return newest

    def _new_holder(self, ticket: T) -> _Holder:
        line = self._lines[ticket.standing]
        peer = line.peers.get(ticket.peer)
        if peer is None:
            peer = line.peers[ticket.peer] = _Peer(ticket.peer, line)
        peer.holders += 1
        holder = self._holders[ticket.identity] = _Holder(ticket.identity, peer)
        return holder

    def _forget_idle(self, holder: _Holder) -> None:
        peer = holder.peer
        if not holder.waiting and not holder.is_running:
            del self._holders[holder.identity]
            peer.holders -= 1
            if not peer.holders:
                del peer.line.peers[peer.key]

    def _stop_waiting(self, holder: _Holder, ticket: T) -> None:
        del holder.waiting[ticket]
        self._count(holder, -1, -ticket.cost, None)

    def _count(self, holder: _Holder, count: int, cost: int, arrival: int | None) -> None:
        peer = holder.peer
        self.waiting += count
        peer.ranking.change(holder, count, cost, arrival or holder.rank[1])
        peer.line.ranking.change(peer, count, cost, arrival or peer.rank[1])


def _let_in(holder: _Holder) -> None:
    """Let an identity's turn come; nothing changes where it may already."""
    holder.peer.ready.setdefault(holder)
    holder.peer.line.ready.setdefault(holder.peer)


def _let_out(holder: _Holder) -> None:
    peer = holder.peer
    peer.ready.pop(holder, None)
    if not peer.ready:
        peer.line.ready.pop(peer, None)


def peer_key(address: str) -> Hashable:
    """Tell peers apart: an IPv4 address is one, and a /64 of IPv6.

    Args:
        address: What a server says of the other end of a connection.

    Returns:
        The same for all addresses of one peer. A text that is no address is a peer of its own.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:_LONGEST_PEER]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return 6, int(parsed) >> _SITE
        parsed = parsed.ipv4_mapped
    return 4, int(parsed)
