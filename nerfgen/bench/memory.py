"""What memory training takes as photographs become larger. Imports no JAX, see :mod:`nerfgen.bench`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerfgen.bench.photographs import CLASS, write_photographs
from nerfgen.bench.turns import Say
from nerfgen.errors import NerfgenError

# Kibibytes on Linux, bytes on macOS.
_UNITS_PER_MEBIBYTE = 1 << (20 if sys.platform == "darwin" else 10)


def measure_memory(*, sizes: Sequence[int], images: int, steps: int, say: Say) -> dict[str, Any]:
    """Peak memory of `nerfgen train --data disk` by the edge of the framed photographs, with the same batch.

    Every point is a process of its own, and framing the photographs is part of it.
    """
    peak = {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch) / str(size)
            folder.mkdir()
            write_photographs(folder, images, size)
            command = [sys.executable, "-m", "nerfgen", "train", str(folder), "--data", "disk", "--quiet"]
            command += ["--no-preview", "--class", CLASS, "--size", str(size), "--steps", str(steps)]
            peak[str(size)] = _peak_of(command)
            say(f"{size} x {size} pixels: {peak[str(size)]:.0f} MiB")
    least, most = str(min(sizes)), str(max(sizes))
    return {
        "images": images,
        "peak_mib": peak,
        f"ratio_{most}_over_{least}": peak[most] / peak[least],
    }


def _peak_of(command: list[str]) -> float:
    """The most memory that a command had, in MiB.

    Raises:
        NerfgenError: it failed.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise NerfgenError(f"`{' '.join(command[2:])}` ended with exit code {process.returncode}; see above")
    return usage.ru_maxrss / _UNITS_PER_MEBIBYTE
