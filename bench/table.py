"""What every row needs: printing it, timing a call, and a server in a process of its own."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

held: list[bool] = []


def row(name: str, measured: str, claim: str, holds: bool) -> None:
    """Print one row."""
    held.append(holds)
    print(f"{name:<58} {measured:<42} {claim:<28} {'holds' if holds else 'DOES NOT HOLD'}", flush=True)


def timed(call: Callable[[], object], *, rounds: int, runs: int = 7) -> float:
    """Give the median over several runs of the seconds that one call takes."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        for _ in range(rounds):
            call()
        times.append((time.perf_counter() - started) / rounds)
    return median(times)


@contextmanager
def served(*module: str) -> Iterator[str]:
    """Run a server in a process of its own; the last word of its first line is its URL."""
    command = [sys.executable, "-m", *module]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().rpartition(" ")[2].strip()
        finally:
            server.terminate()


def measured_by(*module: str) -> list[float]:
    """Run a measurement in a process of its own, and give the numbers it prints."""
    command = [sys.executable, "-m", *module]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600).stdout
    return [float(number) for number in printed.split()]
