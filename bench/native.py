"""The rows of the native companion, in proportion to what it replaces.

Every figure is a ratio of two minima measured in turn, so that a slow minute of the machine slows both. Each
kernel is measured in a process of its own, which ``TUNED_DIGEST_KERNEL`` tells which one to use. So is each
state of huge pages: the kernel can deny them to one process.
"""

import ctypes
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tuned_digest._runtime.machine import usable_cores
from tuned_digest.proof.argon2 import ACCESS_TUNING, CREATE_TUNING, Tuning

from .table import row

STRING, SALT = b"n" * 43 + b":GET:/vaults/abc:" + b"d" * 43, b"salt" * 4

# What each kernel must reach: Argon2 to argon2-cffi, a search on one core to a Python loop; None: reported.
BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "avx512": (0.45, 60),
    "avx2": (0.65, 25),
    "sse2": (None, None),
    "neon": (None, None),
    "portable": (1.0, None),
}
DEPLOYED = (("access", ACCESS_TUNING, 7), ("create", CREATE_TUNING, 3))  # and the rounds of each
SMALL = [Tuning("argon2d", memory, 1, 1) for memory in (8, 64, 256, 1024)]
REQUESTS = 8  # at once
CANDIDATES = 2**20  # as many as a search of cost 20 tries on average
LOOP_CANDIDATES = 50_000
PR_SET_THP_DISABLE = 41  # prctl(2)


def minima(rounds: int, *calls: Callable[[], object]) -> list[float]:
    """Time several calls in turn, and give the least seconds of each."""
    least = [float("inf")] * len(calls)
    for _ in range(rounds):
        for index, call in enumerate(calls):
            started = time.perf_counter()
            call()
            least[index] = min(least[index], time.perf_counter() - started)
    return least


def ours(tuning: Tuning) -> bytes:
    """Hash with the companion, as the package does."""
    import tuned_digest_native as native  # noqa: PLC0415  # not there in every environment

    digest: bytes = native.argon2(
        STRING,
        SALT,
        variant=tuning.variant,
        memory_kib=tuning.memory_kib,
        passes=tuning.passes,
        lanes=tuning.lanes,
        threads=usable_cores() if tuning.lanes > 1 else 1,
    )
    return digest


def theirs(tuning: Tuning) -> bytes:
    """Hash with argon2-cffi as anyone would call it."""
    return hash_secret_raw(
        STRING, SALT, tuning.passes, tuning.memory_kib, tuning.lanes, hash_len=32, type=Type.D
    )


def at_once(hashing: Callable[[Tuning], bytes], tuning: Tuning, workers: int) -> None:
    """Hash for several requests, so many of them at a time."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda _: hashing(tuning), range(REQUESTS)))


def python_loop() -> None:
    """Search as the package does without the companion, at its plainest."""
    prefix = blake3(STRING)
    for n in range(LOOP_CANDIDATES):
        attempt = prefix.copy()
        attempt.update(n.to_bytes(4, "little"))
        if attempt.digest(length=4) < bytes(4):
            return


def figures() -> dict[str, float]:
    """Measure everything for the kernel in use."""
    import tuned_digest_native as native  # noqa: PLC0415

    found: dict[str, float] = {}
    for name, tuning, rounds in DEPLOYED:
        mine, other = minima(rounds, partial(ours, tuning), partial(theirs, tuning))
        found[f"{name} ms"], found[name] = mine * 1000, mine / other
    for tuning in SMALL:
        mine, other = minima(2000, partial(ours, tuning), partial(theirs, tuning))
        found[f"small m={tuning.memory_kib}"] = mine / other
    for name, tuning, _ in DEPLOYED:
        mine, other = minima(
            3 if name == "access" else 1,
            partial(at_once, ours, tuning, usable_cores()),
            partial(at_once, theirs, tuning, REQUESTS),
        )
        found[f"{name} at once"] = mine / other
    (loop,) = minima(3, python_loop)
    for threads in (1, 2):
        search = partial(native.search, STRING, bits=32, threads=threads, candidates=CANDIDATES)
        (mine,) = minima(5, search)
        found[f"search on {threads} per s"] = CANDIDATES / mine
        found[f"search on {threads}"] = (CANDIDATES / mine) / (LOOP_CANDIDATES / loop)
    key = Ed25519PrivateKey.generate()
    public, signature = key.public_key(), key.sign(SALT)
    mine, other = minima(
        3000,
        lambda: native.search_holds(STRING, 7, bits=20),
        lambda: public.verify(signature, SALT),
    )
    found["verification"] = mine / other
    return found


def deny_huge_pages() -> None:
    """Let the kernel give this process no huge pages from now on."""
    if ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0):
        raise OSError("the kernel cannot deny huge pages")


def states() -> dict[str, float]:
    """Measure how many times argon2-cffi's speed a hash reaches in fresh memory, and in memory kept."""
    import tuned_digest_native as native  # noqa: PLC0415

    found: dict[str, float] = {}
    for name, tuning, rounds in DEPLOYED:
        hashing = partial(ours, tuning)
        _, fresh, kept, other = minima(rounds, native.release, hashing, hashing, partial(theirs, tuning))
        found[f"{name} tuning, fresh memory"] = other / fresh
        found[f"{name} tuning, kept memory"] = other / kept
    ours(ACCESS_TUNING)  # so that memory is kept while its pages are counted
    text = Path("/proc/self/smaps_rollup").read_text()
    found["huge KiB"] = int(text.partition("AnonHugePages:")[2].split()[0])
    return found


def peak_kib() -> int:
    """Tell the most memory this process had resident, KiB; a child's ``ru_maxrss`` begins at its parent's."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def numbers(printed: str) -> dict[str, float]:
    """Read what ``main`` printed."""
    return {name: float(value) for name, value in (line.split("\t") for line in printed.splitlines())}


def in_a_process(*arguments: str, **environment: str) -> str:
    """Run this module for one kernel or one figure; empty where the processor does not offer the kernel."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.native", *arguments],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    return done.stdout


def rows() -> None:
    """Print a row for each kernel and figure."""
    if importlib.util.find_spec("tuned_digest_native") is None:
        row("native companion", "not installed", "not measured", True)
        return
    peaks = [int(in_a_process("peak", side)) for side in ("ours", "theirs")]
    ratio = peaks[0] / peaks[1]
    row("native: peak memory of 8 at once, to argon2-cffi", f"{ratio:.2f}", "a third or less", ratio <= 1 / 3)
    first = [float(number) for number in in_a_process("first").split()]
    measured = f"{first[0]:.1f} ms, {first[1]:.0f} KiB held"
    row("native: first import", measured, "under 5 ms, 0 KiB", first[0] < 5 and not first[1])
    state_rows()
    for kernel, (hashing, searching) in BOUNDS.items():
        printed = in_a_process("figures", TUNED_DIGEST_KERNEL=kernel)
        if not printed:
            row(f"native {kernel}", "not offered by this processor", "not measured", True)
            continue
        found = numbers(printed)
        for name in ("access", "create"):
            _row(f"native {kernel}: {name} tuning, {found[f'{name} ms']:.0f} ms", found[name], hashing)
            _row(f"native {kernel}: {name} tuning, 8 at once", found[f"{name} at once"], hashing)
        worst = max(value for name, value in found.items() if name.startswith("small"))
        _row(f"native {kernel}: tunings of 8 to 1024 KiB, the worst", worst, 1.0)
        for threads in (1, 2):
            bound = None if searching is None else searching * min(threads, usable_cores())
            speed = found[f"search on {threads}"]
            claim = "reported" if bound is None else f"{bound:.0f} times or more"
            measured = f"{speed:.0f} times, {found[f'search on {threads} per s'] / 1e6:.0f} million/s"
            holds = bound is None or speed >= bound
            row(f"native {kernel}: search on {threads}, to a Python loop", measured, claim, holds)
        _row(f"native {kernel}: a search verified, to Ed25519", found["verification"], 1.0)


def state_rows() -> None:
    """Print a row for each state of the memory: huge pages or none, fresh or kept."""
    if sys.platform != "linux":
        row("native: states of the memory", "Linux alone tells", "not measured", True)
        return
    for pages in ("asked for", "denied"):
        found = numbers(in_a_process("states", pages))
        huge = "huge pages" if found.pop("huge KiB") else "no huge pages"
        for name, times in found.items():
            least = 2 if "kept" in name else 1.5
            measured = f"{times:.1f} times, {pages}"
            row(f"native: {name}, {huge}", measured, f"{least} times or more", times >= least)


def _row(name: str, ratio: float, bound: float | None) -> None:
    claim = "reported" if bound is None else f"{bound} or less"
    row(name, f"{ratio:.2f}", claim, bound is None or ratio <= bound)


def main(what: str, side: str = "") -> None:
    """Print what one process of its own measures."""
    if what == "peak":
        hashing, workers = (ours, usable_cores()) if side == "ours" else (theirs, REQUESTS)
        at_once(hashing, ACCESS_TUNING, workers)
        print(peak_kib())
    elif what == "first":
        started = time.perf_counter()
        import tuned_digest_native as native  # noqa: PLC0415

        print((time.perf_counter() - started) * 1000, native.held_kib())
    elif what == "states":
        if side == "denied":
            deny_huge_pages()
        for name, value in states().items():
            print(name, value, sep="\t")
    else:
        import tuned_digest_native as native  # noqa: PLC0415

        try:
            native.kernel()
        except ValueError:
            return
        for name, value in figures().items():
            print(name, value, sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
