"""How a process allocates and frees, where the C library can be told."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="Linux counts page faults, and glibc its arenas"
)


def run(program: str, how: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, whose allocator no other test has set."""
    return subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True)


def numbers(program: str, how: str) -> list[int]:
    """What such a program prints."""
    return [int(word) for word in run(program, how).stdout.split()]


FAULTS = """
import resource, sys
import numpy as np
from nerfgen.memory import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "kept" else False
np.ones(8 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(8 << 20)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_taken_again_without_asking_the_system():
    kept, count = numbers(FAULTS, "kept")
    if not kept:
        pytest.skip("the C library can't be told")
    # 64 MiB are 16,384 pages, or 32 huge ones.
    assert count < 0.5 * numbers(FAULTS, "as always")[1]


ARENAS = """
import ctypes, sys, threading
from nerfgen.memory import share_free_memory

shared = share_free_memory() if sys.argv[1] == "shared" else False
together = threading.Barrier(4)
def allocate():
    together.wait()
    for size in range(600, 4000):
        bytearray(size)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(int(shared), flush=True)
ctypes.CDLL(None).malloc_stats()
"""


def test_threads_share_free_memory():
    def arenas(how):
        done = run(ARENAS, how)
        return int(done.stdout), done.stderr.count("Arena ")

    shared, count = arenas("shared")
    if not shared:
        pytest.skip("the C library can't be told")
    assert count == 1
    assert arenas("as always")[1] > 1


HOLES = """
import sys
from pathlib import Path
from nerfgen.memory import return_free_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])
blocks = [bytes(bytearray([1]) * 100_000) for _ in range(600)]
last = bytes(100_000)
before = resident()
del blocks
returned = return_free_memory() if sys.argv[1] == "returned" else False
print(int(returned), before - resident())
"""


def test_free_memory_returns_to_the_system():
    returned, pages = numbers(HOLES, "returned")
    if not returned:
        pytest.skip("the C library can't be told")
    # 60 MB are 14,648 pages, all of them below the last block.
    assert pages > 12_000
    assert numbers(HOLES, "as always")[1] < 4_000
