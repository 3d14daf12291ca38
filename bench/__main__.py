"""The rows: each prints what it measured, the claim beside it, and whether it holds."""

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import httpx
from tests.clients import CLIENTS, Connect, connect_httpx
from tests.serving import QUICK, QUICK_CREATE, serve

from tuned_digest import Ed25519Signer
from tuned_digest._cli.blobs import blobs_application
from tuned_digest._wire.challenge import NextNonceReader, read_challenges
from tuned_digest._wire.credentials import read_credentials
from tuned_digest.errors import MalformedFieldError
from tuned_digest.proof import prove
from tuned_digest.proof.argon2 import ACCESS_TUNING

from . import abuse, cost, crash, field, native, steady, token_server, tokens
from .table import held, measured_by, row, served, timed

SERVER = ("tuned_digest", "serve", "--port", "0")


def round_trips(name: str, connect: Connect) -> None:
    """One round trip: counted by the server, 401s included."""
    with (
        serve(blobs_application(access=QUICK, create=QUICK_CREATE)) as server,
        connect(server.url, Ed25519Signer.generate()) as client,
    ):
        url = f"{server.url}/blobs/welcome"
        client.send("GET", url)
        before = len(server.requests)
        for _ in range(200):
            assert client.send("GET", url).status == 200
        count = len(server.requests) - before
        row(
            f"{name}: 200 sequential requests after the first",
            f"{count} round trips",
            "exactly 200",
            count == 200,
        )

    with (
        serve(blobs_application(access=QUICK, create=QUICK_CREATE)) as server,
        connect(server.url, Ed25519Signer.generate()) as client,
    ):
        url = f"{server.url}/blobs/welcome"

        def work() -> None:
            for _ in range(20):
                assert client.send("GET", url).status == 200

        workers = [threading.Thread(target=work) for _ in range(32)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        count = len(server.requests)
        row(f"{name}: 640 requests by 32 workers", f"{count} round trips", "640 to 672", 640 <= count <= 672)


def stalls() -> None:
    """Event loop free: the largest stall, in fresh processes, first request included."""
    rows = [
        ("access tuning", "tuned-digest-signature", (), 16, 0.05),
        ("search cost 16", "asym-tuned-digest-signature", ("--cost", "16"), 16, 0.05),
        ("access tuning", "tuned-digest-signature", (), 100, 0.03),
    ]
    for name, scheme, options, requests, bound in rows:
        largest, seconds = 0.0, 0.0
        for _ in range(3):
            with served(*SERVER, *options) as url:
                stall, elapsed = measured_by("bench.stall", url, scheme, str(requests))
            largest, seconds = max(largest, stall), max(seconds, elapsed)
        measured = f"{largest * 1000:.1f} ms in {seconds:.1f} s, 3 runs"
        claim = f"under {bound * 1000:.0f} ms"
        row(f"largest stall, {requests} concurrent requests, {name}", measured, claim, largest < bound)


READERS: dict[str, Callable[[str], object]] = {
    "WWW-Authenticate": lambda value: read_challenges([value]),
    "Authentication-Info": lambda value: NextNonceReader().read([value]),
    "Authorization": lambda value: read_credentials([value]),
}

# What a hostile peer would send: each makes some reader look ahead or behind as far as it ever does.
ADVERSARIES: dict[str, str] = {
    "commas": ",",
    "commas and spaces": " , ",
    "spaces": " ",
    "tokens": ",a",
    "schemes": ",a b",
    "equals signs": "=",
    "open quotes": '="',
    "quoted pairs": '="\\"\\',
    "semicolons": ";a=b",
    "spaced equals": "= \t",
}


VALUE_SIZE = 512  # characters of one value: at 16 KiB there are as many as are ever read


def adversarial(unit: str, size: int) -> str:
    """Fill a field with a unit, in values of one size, so that what a value costs grows with the field."""
    head = ",nextnonce=A;argon=B,tuned-digest-signature nonce=A"
    return (head + unit * VALUE_SIZE)[:VALUE_SIZE] * (size // VALUE_SIZE)


def per_byte(read: Callable[[str], object], unit: str, sizes: Sequence[int]) -> list[float]:
    """Time reading at three sizes in turn, so that all see the same machine; the least of many counts."""
    least = [float("inf")] * len(sizes)
    for _ in range(15):
        for index, size in enumerate(sizes):
            read_once = partial(refused, read, adversarial(unit, size))
            least[index] = min(least[index], timed(read_once, rounds=163_840 // size, runs=1) / size)
    return least


def refused(read: Callable[[str], object], value: str) -> None:
    """Read a value that is malformed."""
    with suppress(MalformedFieldError):
        read(value)


def linear_reading() -> None:
    """Linear reading: time per byte grows by half at most, from a quarter of a field's limit to all of it."""
    for name_of_field, read in READERS.items():
        limit = 8192 if name_of_field == "Authorization" else 16384
        growth, culprit = 0.0, ""
        for name, unit in ADVERSARIES.items():
            smallest, *larger = per_byte(read, unit, (limit // 4, limit // 2, limit))
            if max(larger) / smallest > growth:
                growth, culprit = max(larger) / smallest, name
        row(
            f"reading {name_of_field}, time per byte, to {limit // 1024} KiB",
            f"grows {growth:.2f} times ({culprit})",
            "1.5 or less",
            growth <= 1.5,
        )


def whole_requests() -> None:
    """What a signed request takes, to the two hashes and the unsigned request that are in it."""
    with served(*SERVER) as url, connect_httpx(url, Ed25519Signer.generate()) as client:
        target = f"{url}/blobs/welcome"
        client.send("GET", target)
        signed = timed(lambda: client.send("GET", target), rounds=3)
        with httpx.Client() as plain:
            unsigned = timed(lambda: plain.get(target), rounds=20)
        one_hash = timed(lambda: prove(b"x" * 96, ACCESS_TUNING, nonce="A", salt=b"s" * 16), rounds=3)
    ratio = signed / (2 * one_hash + unsigned)
    row(
        "a chained request, to two hashes and a 401",
        f"{signed * 1000:.0f} ms, ratio {ratio:.2f}",
        "1.25 or less",
        ratio <= 1.25,
    )


def main(arguments: Sequence[str]) -> int:
    """Measure all rows, or those whose name holds an argument."""
    rows: dict[str, Callable[[], None]] = {
        "reading": linear_reading,
        "cost": cost.added,
        "tokens": tokens.added,
        "whole requests": whole_requests,
        "stalls": stalls,
        "memory": field.memory,
        "digests": field.digests,
        "overload": field.overload,
        "hostile": field.hostile,
        "conformance": field.conformance,
        "native": native.rows,
        "steady": steady.rows,
        **abuse.ROWS,
        **crash.ROWS,
        **token_server.ROWS,
    }
    for client, connect in CLIENTS.items():
        rows[f"round trips {client}"] = partial(round_trips, client, connect)
    for name, measure in rows.items():
        if not arguments or any(argument in name for argument in arguments):
            measure()
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
