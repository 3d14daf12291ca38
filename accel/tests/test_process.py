"""What the module costs a process: threads, memory, import; and that a forked child works."""

import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import tuned_digest_native as native

TUNING = {"variant": "argon2d", "memory_kib": 8192, "passes": 1, "lanes": 2}
EXPECTED = native.argon2(b"password", b"saltsalt", **TUNING, threads=1)
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def run(code, **environment):
    """Run Python code in a process of its own and hand back what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def in_child(work):
    """Do work in a forked child; it succeeds when the work returns True within ten seconds."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


def hashes_well():
    """Hash and search, on threads."""
    hashed = native.argon2(b"password", b"saltsalt", **TUNING, threads=2) == EXPECTED
    found = native.search(b"string", bits=16, threads=2)
    return hashed and native.search_holds(b"string", found, bits=16)


def test_memory_is_kept_and_returned():
    """Memory is kept after a hash, used by the next, and returned when asked."""
    assert native.held_kib() == 0
    for _ in range(3):
        native.argon2(b"password", b"saltsalt", **TUNING, threads=1)
        assert native.held_kib() == 8192
    native.release()
    assert native.held_kib() == 0


def test_small_memory_is_not_kept():
    """Up to 1 MiB is the allocator's."""
    native.argon2(b"password", b"saltsalt", **TUNING | {"memory_kib": 1024}, threads=1)
    assert native.held_kib() == 0


def test_kept_memory_is_bounded():
    """No more than 512 MiB is kept, however many hashes ran at once."""
    hashes = [
        threading.Thread(
            target=native.argon2,
            args=(b"password", b"saltsalt"),
            kwargs={**TUNING, "memory_kib": 200 * 1024, "threads": 1},
        )
        for _ in range(4)
    ]
    for thread in hashes:
        thread.start()
    for thread in hashes:
        thread.join()
    assert 0 < native.held_kib() <= 512 * 1024


def test_idle_memory_is_returned():
    """Memory that nobody uses is returned after a few seconds, and the thread that waited ends."""
    native.argon2(b"password", b"saltsalt", **TUNING, threads=1)
    deadline = time.monotonic() + 8
    while native.held_kib() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert native.held_kib() == 0


@linux
def test_one_thread_starts_none():
    """A hash on one thread, in memory that is not kept, starts no thread; nor does a search."""
    code = """
        import os, tuned_digest_native as native
        tuning = {"variant": "argon2d", "memory_kib": 1024, "passes": 9, "lanes": 4}
        counts = [len(os.listdir("/proc/self/task"))]
        native.argon2(b"password", b"saltsalt", **tuning, threads=1)
        counts.append(len(os.listdir("/proc/self/task")))
        native.search(b"string", bits=20, threads=1)
        counts.append(len(os.listdir("/proc/self/task")))
        print(counts)
    """
    assert run(code) == "[1, 1, 1]"


def test_process_ends_with_memory_kept():
    """The thread that waits with kept memory does not keep a process from ending."""
    code = """
        import tuned_digest_native as native
        tuning = {"variant": "argon2d", "memory_kib": 8192, "passes": 1, "lanes": 1}
        native.argon2(b"password", b"saltsalt", **tuning, threads=1)
        print(native.held_kib())
    """
    begun = time.monotonic()
    assert run(code) == "8192"
    assert time.monotonic() - begun < 2.5  # seconds; memory is kept for 3


@forks
def test_forked_child():
    """A child hashes and searches, after the parent has, and so does its child."""
    assert hashes_well()
    assert in_child(hashes_well)
    assert in_child(lambda: hashes_well() and in_child(hashes_well))
    assert hashes_well()


@forks
def test_child_begins_with_nothing_kept():
    """What the parent keeps is not the child's, and stays the parent's."""
    native.argon2(b"password", b"saltsalt", **TUNING, threads=1)
    assert in_child(lambda: native.held_kib() == 0)
    assert native.held_kib() == 8192


@forks
def test_forked_while_others_hash():
    """A child forked in the midst of other threads' hashes and timers works, every time."""
    stop = threading.Event()

    def hash_on():
        while not stop.is_set():
            native.argon2(b"password", b"saltsalt", **TUNING | {"memory_kib": 2048}, threads=2)
            native.release()

    threads = [threading.Thread(target=hash_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert all(in_child(hashes_well) for _ in range(40))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@linux
@forks
def test_child_gets_no_content():
    """What kept memory holds is not handed to a child."""

    def is_kept_from_children(mapping):
        size = int(mapping.partition("Size:")[2].split()[0])
        return size >= TUNING["memory_kib"] and " wf" in mapping.partition("VmFlags:")[2].partition("\n")[0]

    def mappings():
        return re.split(
            r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE
        )[1:]

    assert not any(map(is_kept_from_children, mappings()))
    native.argon2(b"password", b"saltsalt", **TUNING, threads=1)
    assert any(map(is_kept_from_children, mappings()))


def test_import_is_cheap():
    """The import holds no memory and starts no thread; its time is the bench's to measure."""
    code = """
        import threading, tuned_digest_native as native
        print(native.held_kib(), threading.active_count())
    """
    assert run(code) == "0 1"


KERNELS = ["avx512", "avx2", "sse2", "neon", "portable"]
KERNEL = """
    import tuned_digest_native as native
    tuning = {"variant": "argon2d", "memory_kib": 8192, "passes": 1, "lanes": 2}
    hashed = native.argon2(b"password", b"saltsalt", **tuning, threads=1)
    print(native.kernel(), hashed.hex(), native.search(b"string", bits=16, threads=1))
"""


@pytest.mark.parametrize("name", KERNELS)
def test_forced_kernel(name):
    """A kernel is used when asked for, with the same answers, or refused where the processor lacks it."""
    said = run(KERNEL, TUNED_DIGEST_KERNEL=name)
    if "does not offer it" in said:
        assert said.startswith("ValueError")
        assert name != "portable"
    else:
        assert said == f"{name} {EXPECTED.hex()} {native.search(b'string', bits=16, threads=1)}"


def test_unknown_kernel():
    """A kernel that does not exist is refused, and said to be none."""
    assert "not a kernel" in run(KERNEL, TUNED_DIGEST_KERNEL="mmx")


def test_kernel_is_one_of_them():
    """Without the variable, the fastest kernel is used."""
    assert run(KERNEL, TUNED_DIGEST_KERNEL="").split()[0] in KERNELS
