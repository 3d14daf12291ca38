"""The rows of a client in the field: bodies, overload and hostile servers."""

import os
import random
import re
import subprocess
import sys
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable

from blake3 import blake3
from tests.clients import CLIENTS

from tuned_digest import Limits
from tuned_digest._client.bodies import BytesBody, RepeatableBody, SpooledBody, file_chunks
from tuned_digest._runtime.steps import Step
from tuned_digest._wire.challenge import read_challenges
from tuned_digest.errors import LimitExceededError
from tuned_digest.proof.argon2 import ACCESS_TUNING

from .table import measured_by, row, served, timed

MIB = 2**20
SMALL_TUNING = "$argon2d$v=19$m=64,t=1,p=1"  # where a hash's own memory is not what is measured
HOSTILE_CHALLENGES = 10_000


def memory() -> None:
    """What a large upload adds to the same upload unsigned: resident memory, and what lies in tmpfs."""
    with served("bench.drain", SMALL_TUNING) as url:
        for client in ("httpx", "httpx-asyncio", "requests"):
            for source in ("file", "generator"):
                (plain,) = measured_by("bench.upload", client, url, source, "unsigned")
                (signed,) = measured_by("bench.upload", client, url, source, "signed")
                added = (signed - plain) / MIB
                row(
                    f"{client}: memory of 1 GiB from a {source}",
                    f"{added:.1f} MiB",
                    "32 MiB or less",
                    added <= 32,
                )


def digests() -> None:
    """What digesting a body takes, to what BLAKE3 takes for it."""
    content = os.urandom(MIB) * 256
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        file.write(content)
        file.flush()

        def mapped() -> bytes:
            return blake3(max_threads=1).update_mmap(file.name).digest()

        def from_file() -> bytes:
            with open(file.name, "rb") as opened:  # noqa: PTH123  # as callers do
                return RepeatableBody(file_chunks(opened)).digest()

        def from_generator() -> bytes:
            pieces = (content[start : start + MIB] for start in range(0, len(content), MIB))
            return SpooledBody(pieces, memory_kib=8192, directory=None).digest()

        def from_bytes() -> object:
            step = BytesBody(content).digested()
            assert isinstance(step, Step)  # so many are digested off an event loop
            return step.blocking()

        alone = timed(lambda: blake3(content).digest(), rounds=1)
        in_memory = timed(from_bytes, rounds=1) / alone
        in_file = timed(from_file, rounds=1) / timed(mapped, rounds=1)
        spooled = timed(from_generator, rounds=1) / alone
    row("digest of bytes, to BLAKE3 alone", f"{in_memory:.2f}", "1.1 or less", in_memory <= 1.1)
    row(
        "digest of a file, to BLAKE3 on a mapping, one thread",
        f"{in_file:.2f}",
        "1.5 or less",
        in_file <= 1.5,
    )
    row("digest of a generator, spooled, to BLAKE3 alone", f"{spooled:.2f}", "reported", True)


def overload() -> None:
    """64 requests at once at the access tuning: as many hashes as cores, and as many as requests."""
    with served("bench.drain", str(ACCESS_TUNING)) as url:
        bounded, unbounded = [
            [measured_by("bench.overload", url, mode) for _ in range(3)] for mode in ("bounded", "unbounded")
        ]
    (seconds, peak), (other_seconds, other_peak) = min(bounded), min(unbounded)
    ratio = other_seconds / seconds
    row(
        "64 requests at once: throughput, to unlimited threads",
        f"{64 / seconds:.1f} to {64 / other_seconds:.1f} a second, ratio {ratio:.2f}",
        "1.0 or more",
        ratio >= 1,
    )
    row(
        "64 requests at once: peak memory, to unlimited threads",
        f"{peak / MIB:.0f} to {other_peak / MIB:.0f} MiB, ratio {peak / other_peak:.2f}",
        "a fraction",
        peak < other_peak / 2,
    )


# How a hostile server exceeds each limit, as the text of a tuning.
EXCESSES: list[Callable[[random.Random, Limits], str]] = [
    lambda draw, limits: f"$argon2d$v=19$m={_beyond(draw, limits.max_memory_kib)},t=1,p=1",
    lambda draw, limits: f"$argon2id$v=19$m=1024,t={_beyond(draw, limits.max_passes)},p=1",
    lambda draw, limits: f"$argon2i$v=19$m=524288,t=1,p={draw.randint(limits.max_lanes + 1, 65536)}",
    lambda draw, limits: f"$argon2d$v=19$m={draw.randint(470_000, 524_288)},t={draw.randint(9, 16)},p=8",
    lambda draw, limits: f"blake3${draw.randint(limits.max_search_bits + 1, 32)}",
]


def _beyond(draw: random.Random, limit: int) -> int:
    return draw.randint(limit + 1, 2**32 - 1)


def hostile() -> None:
    """Challenges beyond the limits: how many are refused, and the most memory that takes."""
    draw, limits = random.Random(3), Limits()
    refused, largest = 0, 0
    tracemalloc.start()
    for number in range(HOSTILE_CHALLENGES):
        algorithm = draw.choice(EXCESSES)(draw, limits)
        scheme = ("asym-" if algorithm.startswith("blake3") else "") + "tuned-digest-signature"
        value = f"{scheme} nonce=n{number};algorithm={algorithm};actions=read"
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        (challenge,) = read_challenges([value])
        assert challenge.work is not None
        try:
            limits.check(challenge.work)
        except LimitExceededError:
            refused += 1
        largest = max(largest, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    row(
        f"{HOSTILE_CHALLENGES} challenges beyond the limits",
        f"{refused} refused, {largest / 1024:.0f} KiB at most",
        "all refused",
        refused == HOSTILE_CHALLENGES,
    )


def conformance() -> None:
    """The cases that every adapter has to pass, counted as pytest collects them."""
    command = [sys.executable, "-m", "pytest", "tests", "--collect-only", "-q", "-p", "no:randomly"]
    collected = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    adapters = Counter(adapter for line in collected for adapter in CLIENTS if _is_of(adapter, line))
    counts = ", ".join(f"{adapter} {adapters[adapter]}" for adapter in CLIENTS)
    row("conformance cases", counts, "reported", True)


def _is_of(adapter: str, case: str) -> bool:
    longer = "|".join(other.removeprefix(adapter) for other in CLIENTS if other.startswith(f"{adapter}-"))
    return re.search(rf"[\[-]{adapter}{f'(?!{longer})' if longer else ''}[-\]]", case) is not None
