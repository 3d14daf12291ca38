"""A bounded pool of nonces, shared out among their holders: whoever has most loses first.

Everything is kept in arrays by number. A nonce has no object of its own but its text, so that a full pool is
small, and Python's collector has nothing to walk through.
"""

from __future__ import annotations

__all__ = ["FairPool"]

import dataclasses
from array import array

from ..grants import Grant

_BITE = 2  # stale nonces dropped for each that is put in: more than come, and never many at once
_MAX_KINDS = 1024  # grants remembered to be shared: a policy has few prices at a time
_HELD, _FREE = 0, 1  # the rings of places by age; the place p is the number p + 2


class FairPool:
    """Keep nonces that live equally long.

    A holder is an identity together with a scope, since clients hardly ever use up all scopes alike. Beyond
    its quota a holder loses its own oldest; a full pool loses the oldest of a holder that has most. All
    operations take constant time.

    Args:
        capacity: Nonces kept.
        quota: Nonces kept for each holder.
        lifetime: Seconds for which a nonce is kept.
    """

    def __init__(self, capacity: int, quota: int, lifetime: float) -> None:
        self._capacity = capacity
        self._quota = quota
        self._lifetime = lifetime
        self._recent: dict[frozenset[str], Grant] = {}  # by scope
        self._kinds: dict[bytes, Grant] = {}
        self._places: dict[str, int] = {}  # by nonce
        self._nonces: list[str] = []  # by place, like the next three
        self._grants: list[Grant | None] = []
        self._expiries = array("d")
        self._holder_at = array("i")
        self._holders: dict[int, int] = {}  # by key, a hash: two of the same would share one quota
        self._keys: list[int] = []  # by holder, like the next one; there are as many holders as places
        self._sizes = array("i")
        self._by_age = _Rings(2)
        self._by_holder = _Rings(0)  # the place p is the number 2p, and the ring of the holder h is 2h + 1
        self._by_size = _Rings(1)  # the holder h is the number 2h + 1, and the ring of the size s is 2s
        self._most = 0

    def __len__(self) -> int:
        """Count the nonces kept."""
        return len(self._places)

    def put(self, nonce: str, grant: Grant, now: float) -> None:
        """Put a nonce in. To make room stale ones go first, then what quota or capacity cost.

        Args:
            nonce: The nonce.
            grant: What it is good for.
            now: Seconds.
        """
        self._drop_stale(now)
        key = hash((grant.identity, grant.scope))
        holder = self._holders.get(key)
        if holder is not None and self._sizes[holder] >= self._quota:  # the usual case: see `Policy.scopes`
            place = self._by_holder.first(2 * holder + 1) // 2
            del self._places[self._nonces[place]]
            self._by_holder.move(2 * place, 2 * holder + 1)
        else:
            if len(self._places) >= self._capacity:
                self._drop_oldest_of(self._by_size.first(2 * self._most) // 2)
            place = self._free_place()
            self._give(place, key)
        self._nonces[place], self._grants[place] = nonce, self._shared(grant)
        self._expiries[place] = now + self._lifetime
        self._places[nonce] = place
        self._by_age.move(place + 2, _HELD)

    def take(self, nonce: str, now: float) -> Grant | None:
        """Take a nonce out.

        Args:
            nonce: The nonce.
            now: Seconds.

        Returns:
            What it is good for, None when it is not there or stale.
        """
        place = self._places.get(nonce)
        if place is None:
            return None
        grant, expiry = self._grants[place], self._expiries[place]
        self._drop(place)
        return grant if expiry > now else None

    def _drop_stale(self, now: float) -> None:
        for _ in range(_BITE):
            oldest = self._by_age.first(_HELD)
            if oldest == _HELD or self._expiries[oldest - 2] > now:
                return
            self._drop(oldest - 2)

    def _drop_oldest_of(self, holder: int) -> None:
        self._drop(self._by_holder.first(2 * holder + 1) // 2)

    def _drop(self, place: int) -> None:
        del self._places[self._nonces[place]]
        self._nonces[place], self._grants[place] = "", None
        self._by_age.move(place + 2, _FREE)
        self._by_holder.move(2 * place, 2 * place)
        holder = self._holder_at[place]
        self._resize(holder, self._sizes[holder] - 1)
        if not self._sizes[holder]:
            del self._holders[self._keys[holder]]

    def _give(self, place: int, key: int) -> None:
        """Let the holder of that key have a place."""
        holder = self._holders.get(key)
        if holder is None:
            holder = self._by_size.first(0) // 2
            self._holders[key] = holder
            self._keys[holder] = key
        self._holder_at[place] = holder
        self._by_holder.move(2 * place, 2 * holder + 1)
        self._resize(holder, self._sizes[holder] + 1)

    def _resize(self, holder: int, size: int) -> None:
        self._sizes[holder] = size
        self._by_size.move(2 * holder + 1, 2 * size)
        if self._by_size.first(2 * self._most) == 2 * self._most:
            self._most -= 1
        self._most = max(self._most, size)

    def _free_place(self) -> int:
        """Find a place that holds nothing; where there is none, make one, and a holder with it."""
        free = self._by_age.first(_FREE)
        if free != _FREE:
            return free - 2
        self._nonces.append("")
        self._grants.append(None)
        self._expiries.append(0)
        self._holder_at.append(0)
        self._keys.append(0)
        self._sizes.append(0)
        self._by_holder.extend(2)
        self._by_size.extend(2)
        self._by_size.move(2 * len(self._keys) - 1, 0)
        self._by_age.extend(1)
        return len(self._nonces) - 1

    def _shared(self, grant: Grant) -> Grant:
        """Give one grant, without its identity, for all that are equal."""
        recent = self._recent.get(grant.scope)
        if recent is not None and recent == grant:  # which takes a tenth of the time of encoding it
            return recent
        encoded = grant.encode()
        shared = self._kinds.get(encoded)
        if shared is None:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            shared = self._kinds[encoded] = dataclasses.replace(grant, identity="")
        self._recent[grant.scope] = shared
        return shared


class _Rings:
    """Link numbers to rings. The number that names a ring is between its last member and its first.

    Args:
        size: How many numbers there are, each in a ring by itself.
    """

    def __init__(self, size: int) -> None:
        self._after = array("i")
        self._before = array("i")
        self.extend(size)

    def extend(self, count: int) -> None:
        """Make further numbers."""
        for number in range(len(self._after), len(self._after) + count):
            self._after.append(number)
            self._before.append(number)

    def first(self, ring: int) -> int:
        """Give the member that joined first; the ring's own number when it has none."""
        return self._after[ring]

    def move(self, number: int, ring: int) -> None:
        """Leave a ring, and join another as its last member."""
        before, after = self._before[number], self._after[number]
        self._after[before], self._before[after] = after, before
        self._after[number] = self._before[number] = number
        last = self._before[ring]
        self._after[last] = self._before[ring] = number
        self._before[number], self._after[number] = last, ring
