"""What memory training takes as photographs become larger. Imports no JAX, see :mod:`nerfgen.bench`."""

from __future__ import annotations

import json
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
    peak, step = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch) / str(size)
            folder.mkdir()
            write_photographs(folder, images, size)
            command = [sys.executable, "-m", "nerfgen", "train", str(folder), "--class", CLASS, "--json"]
            command += ["--quiet", "--no-preview", "--size", str(size), "--steps", str(steps)]
            estimate, _ = _ran([*command, "--dry-run"])
            step[str(size)] = estimate["step_mib"]
            _, peak[str(size)] = _ran([*command, "--data", "disk"])
            say(f"{size} x {size} pixels: {peak[str(size)]:.0f} MiB")
    least, most = str(min(sizes)), str(max(sizes))
    return {
        "images": images,
        "peak_mib": peak,
        "step_mib": step,
        f"ratio_{most}_over_{least}": peak[most] / peak[least],
    }


def _ran(command: list[str]) -> tuple[dict[str, Any], float]:
    """What a command printed, and the most memory that it had, in MiB.

    Raises:
        NerfgenError: it failed.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise NerfgenError(f"`{' '.join(command[2:])}` ended with exit code {process.returncode}; see above")
    return json.loads(printed), usage.ru_maxrss / _UNITS_PER_MEBIBYTE
