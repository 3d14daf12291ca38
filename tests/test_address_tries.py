"""Tries from one address: so many in so long, in bounded memory."""

import tracemalloc

import pytest

from tuned_digest.errors import RequestRejectedError
from tuned_digest.server.accounts.tries import AddressTries

from .clock import Clock


def tries(clock: Clock, **options: int) -> AddressTries:
    """Allow three tries in ten seconds."""
    return AddressTries("codes", 3, 10, clock=clock, **options)


def wait(tried: AddressTries, peer: str, about: str = "") -> str:
    """Try, and give Retry-After; empty where it was allowed."""
    try:
        tried.begin(peer, about)
    except RequestRejectedError as rejection:
        return dict(rejection.fields)["Retry-After"]
    return ""


def test_too_many() -> None:
    """The fourth try is refused until the first is ten seconds old, and then one more is allowed."""
    clock = Clock()
    tried = tries(clock)
    assert [wait(tried, "192.0.2.1") for _ in range(3)] == ["", "", ""]
    clock.now = 4
    assert [wait(tried, "192.0.2.1") for _ in range(3)] == ["6", "6", "6"]
    clock.now = 10
    assert wait(tried, "192.0.2.1") == ""


def test_part_of_a_second() -> None:
    """Retry-After is a whole second at least, and late rather than early."""
    clock = Clock()
    tried = tries(clock)
    for _ in range(3):
        tried.begin("192.0.2.1")
    clock.now = 9.9
    assert wait(tried, "192.0.2.1") == "1"
    clock.now = 8.5
    assert wait(tried, "192.0.2.1") == "2"


def test_each_address() -> None:
    """Each address has its own count, and each thing that is asked for; those of one IPv6 site share one."""
    tried = tries(Clock())
    for _ in range(3):
        tried.begin("2001:db8::1")
    assert wait(tried, "2001:db8::2") != ""
    assert wait(tried, "2001:db8:0:1::1") == ""
    assert wait(tried, "2001:db8::1", "acme") == ""


def test_no_address() -> None:
    """Where the server tells no address, nobody is held back by others."""
    tried = tries(Clock())
    assert [wait(tried, "") for _ in range(10)] == [""] * 10


def test_forgiven() -> None:
    """A try that was good is not counted, and one that nobody made changes nothing."""
    tried = tries(Clock())
    for _ in range(10):
        tried.begin("192.0.2.1")
        tried.forgive("192.0.2.1")
    tried.begin("192.0.2.1")
    tried.begin("192.0.2.1")
    tried.forgive("192.0.2.1")
    tried.forgive("192.0.2.9")
    assert [wait(tried, "192.0.2.1") for _ in range(3)] == ["", "", "10"]


def test_capacity() -> None:
    """When too many addresses are remembered, the one that tried longest ago is forgotten."""
    tried = tries(Clock(), capacity=2)
    for peer in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2", "192.0.2.3"):
        tried.begin(peer)
    assert wait(tried, "192.0.2.2") != ""
    assert wait(tried, "192.0.2.1") == ""


def test_memory() -> None:
    """An address that has made all its tries takes less than 1 KiB."""
    tried = AddressTries("keys", 20, 600, clock=Clock())
    tracemalloc.start()
    try:
        for number in range(1000):
            for _ in range(20):
                tried.begin(f"2001:db8:0:{number:x}::1", "a" * 64 + str(number))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 1000 * 1024


def test_junk() -> None:
    """A peer that is no address is counted like one."""
    tried = tries(Clock())
    for _ in range(3):
        tried.begin("unix:\udc80" * 100)
    with pytest.raises(RequestRejectedError):
        tried.begin("unix:\udc80" * 100)
