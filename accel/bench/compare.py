"""Measure the module in proportion to what it replaces.

Every figure is a ratio of two minima measured in turn, so that a slow minute of the machine slows both.

    python bench/compare.py                                # the fastest kernel
    TUNED_DIGEST_KERNEL=avx2 python bench/compare.py quick # another one, without the create tuning
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import tuned_digest_native as native

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PASSWORD, SALT = b"n" * 43 + b":GET:/vaults/abc:" + b"d" * 43, b"salt" * 4

# Memory in KiB, passes, lanes, and how often each side is measured.
ACCESS, CREATE = (65536, 3, 8, 10), (262144, 5, 8, 3)
TUNINGS = [(8, 1, 1, 3000), (64, 1, 1, 2000), (1024, 1, 1, 300), (4096, 3, 1, 30), ACCESS, CREATE]

CANDIDATES = 2**20  # as many as a search of cost 20 tries on average
LOOP_CANDIDATES = 50_000
REQUESTS = 8


def seconds(work):
    """Time one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def minima(times, *works):
    """Time several works in turn and keep the least of each, in seconds."""
    return [min(column) for column in zip(*([seconds(w) for w in works] for _ in range(times)), strict=True)]


def ours(memory, passes, lanes):
    """Hash with this module."""
    return native.argon2(
        PASSWORD,
        SALT,
        variant="argon2d",
        memory_kib=memory,
        passes=passes,
        lanes=lanes,
        threads=CORES,
    )


def theirs(memory, passes, lanes):
    """Hash with argon2-cffi, as it is called when nothing is said of threads: one for each lane."""
    return hash_secret_raw(
        PASSWORD, SALT, time_cost=passes, memory_cost=memory, parallelism=lanes, hash_len=32, type=Type.D
    )


def at_once(work, tuning, workers):
    """Do eight requests' hashes on that many threads."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda _: work(*tuning), range(REQUESTS)))


def loop():
    """Search in a Python loop."""
    prefix = blake3(PASSWORD)
    for n in range(LOOP_CANDIDATES):
        attempt = prefix.copy()
        attempt.update(n.to_bytes(4, "little"))
        if attempt.digest(length=4) < bytes(4):
            return


def peak_kib(side):
    """Find the peak memory of eight hashes at once, in a process of its own."""
    command = [sys.executable, __file__, "peak", side]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(side):
    """Do the hashes that `peak_kib` asks about."""
    at_once(*((ours, ACCESS[:3], CORES) if side == "ours" else (theirs, ACCESS[:3], REQUESTS)))
    status = Path("/proc/self/status").read_text(
        encoding="utf-8"
    )  # a child's ru_maxrss begins at its parent's
    print(status.partition("VmHWM:")[2].split()[0])


def main(tunings):
    """Print all figures."""
    print(f"{native.kernel()}, {CORES} cores")
    for memory, passes, lanes, times in tunings:
        tuning = (memory, passes, lanes)
        mine, other = minima(times, lambda t=tuning: ours(*t), lambda t=tuning: theirs(*t))
        print(f"m={memory},t={passes},p={lanes}: {mine * 1e3:.3f} ms, {mine / other:.3f} of argon2-cffi's")
    for tuning in [t[:3] for t in (ACCESS, CREATE) if t in tunings]:
        mine, other = minima(
            2,
            lambda t=tuning: at_once(ours, t, CORES),
            lambda t=tuning: at_once(theirs, t, REQUESTS),
        )
        print(f"{REQUESTS} at once, m={tuning[0]}: {mine * 1e3:.0f} ms, {mine / other:.3f} of argon2-cffi's")
    if sys.platform == "linux":
        print(f"peak of {REQUESTS} at once: {peak_kib('ours') / peak_kib('theirs'):.3f} of argon2-cffi's")
    for threads in sorted({1, CORES}):
        mine, other = minima(
            7,
            lambda threads=threads: native.search(PASSWORD, bits=32, threads=threads, candidates=CANDIDATES),
            loop,
        )
        mine, other = CANDIDATES / mine, LOOP_CANDIDATES / other
        print(f"search on {threads}: {mine / 1e6:.0f} million/s, {mine / other:.0f} times a Python loop")
    key = Ed25519PrivateKey.generate()
    public, signature = key.public_key(), key.sign(SALT)
    held, verified = minima(
        3000, lambda: native.search_holds(PASSWORD, 7, bits=20), lambda: public.verify(signature, SALT)
    )
    print(f"one number verified: {held * 1e6:.2f} us, {held / verified:.4f} of an Ed25519 verification")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        print_peak(sys.argv[2])
    else:
        main([t for t in TUNINGS if sys.argv[1:] != ["quick"] or t is not CREATE])
