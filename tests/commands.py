"""``tuned-digest serve`` as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command that serves.

    Args:
        url: The address that it printed.
        process: Its process.
    """

    url: str
    process: "subprocess.Popen[str]"


@contextmanager
def commanded(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Command]:
    """Run ``tuned-digest serve``, and end it with the block."""
    command = [sys.executable, "-m", "tuned_digest", "serve", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            yield Command(process.stdout.readline().strip().removeprefix("serving on "), process)
        finally:
            process.terminate()
            process.communicate(timeout=60)  # until its workers have ended too


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Run ``tuned-digest serve``, and give the address it prints."""
    with commanded(*arguments) as command:
        yield command.url
