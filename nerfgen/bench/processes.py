"""Whole commands, each in a process of its own: their memory, and how quickly they start. Imports no JAX."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from nerfgen import storage
from nerfgen.bench.timing import Say
from nerfgen.compilation_cache import VARIABLE
from nerfgen.errors import NerfgenError
from nerfgen.geometry import intrinsic_matrix, sphere_window, turned_camera
from nerfgen.image import find_images

# Kibibytes on Linux, bytes on macOS.
_UNITS_PER_MEBIBYTE = 1 << (20 if sys.platform == "darwin" else 10)
_CLASS = "heads"
_DISTANCE, _FOCAL = 4.0, 1.8
# How the model looks does not matter here: few heads, few steps.
_HEADS, _TRAINING_STEPS = 24, 20


def measure_memory(*, sizes: Sequence[int], images: int, steps: int, say: Say) -> dict[str, Any]:
    """Peak memory of `nerfgen train --data disk` by the size of the framed images, with the same batch.

    Every point is a process of its own, and framing the images is part of it.
    """
    peak = {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch) / str(size)
            folder.mkdir()
            write_training_folder(folder, images, size)
            command = [sys.executable, "-m", "nerfgen", "train", str(folder), "--data", "disk", "--quiet"]
            command += ["--no-preview", "--class", _CLASS, "--size", str(size), "--steps", str(steps)]
            peak[str(size)] = _run(command).peak / _UNITS_PER_MEBIBYTE
            say(f"{size} x {size} pixels: {peak[str(size)]:.0f} MiB")
    least, most = str(min(sizes)), str(max(sizes))
    return {
        "images": images,
        "peak_mib": peak,
        f"ratio_{most}_over_{least}": peak[most] / peak[least],
    }


def measure_stages(data: Path, *, images: int, say: Say) -> dict[str, Any]:
    """What each further image takes in the commands before training: milliseconds of one core, and bytes of the file.

    Every command runs on a quarter of the images, then on all. The difference is that of an image, without what a
    command takes to start.

    Args:
        data: folder of face images.
        images: to take of it.
    """
    counts = images // 4, images
    used: dict[str, list[tuple[float, int]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            folder = Path(scratch) / str(count)
            for path in find_images(data)[:count]:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(data / path, folder / path)
            for stage in ("landmark", "fit-cameras", "segment", "frame"):
                say(f"{stage}, {count} images")
                before = set(folder.glob("*.h5"))
                usage = _run([sys.executable, "-m", "nerfgen", stage, str(folder), "--quiet"])
                (made,) = set(folder.glob("*.h5")) - before
                used.setdefault(stage, []).append((usage.cpu_seconds, made.stat().st_size))
    further = counts[1] - counts[0]
    return {
        "images": images,
        "core_ms": {stage: 1e3 * (most[0] - least[0]) / further for stage, (least, most) in used.items()},
        "bytes": {stage: (most[1] - least[1]) / further for stage, (least, most) in used.items()},
    }


def measure_startup(model: Path | None, image: Path | None, *, rounds: int, say: Say) -> dict[str, Any]:
    """Seconds of commands in which starting and compiling take most of the time.

    Each runs once with an empty compilation cache, and then ``rounds`` times more with what it has left there.

    Args:
        model: a model file; None makes a small one of synthetic heads.
        image: a new image of the model's class; None makes one of a synthetic head. Without the networks that find its
            landmarks, its figures are None.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if model is None or image is None:
            say(f"making {_HEADS} synthetic heads" + ("" if model else " and a model of them"))
            made = _make_heads(folder, with_model=model is None)
            model, image = model or made.model, image or made.image
        program, shown = (
            [sys.executable, "-m", "nerfgen"],
            ["-o", str(folder / "views.h5"), "--overwrite", "--quiet"],
        )
        commands = {
            "import": [sys.executable, "-c", "import nerfgen"],
            "help": [*program, "--help"],
            "info": [*program, "info", str(model)],
            "render_row": [*program, "render", str(model), "--rows", "0", *shown],
            "sample_4": [*program, "sample", str(model), "-n", "4", *shown],
            "render_image": [*program, "render", str(model), "--image", str(image), *shown],
        }
        result: dict[str, Any] = {}
        for name, command in commands.items():
            cache = folder / "compiled"
            shutil.rmtree(cache, ignore_errors=True)
            environment = {VARIABLE: str(cache)}
            try:
                first = _run(command, environment)
                later = [_run(command, environment) for _ in range(rounds)]
            except NerfgenError as error:
                say(f"{name} failed, so its figures are null: {error}")
                result[name] = None
                continue
            result[name] = {
                "first_seconds": first.seconds,
                "first_cpu_seconds": first.cpu_seconds,
                "seconds": statistics.median(each.seconds for each in later),
                "cpu_seconds": statistics.median(each.cpu_seconds for each in later),
            }
            say(f"{name}: {first.seconds:.2f} s, then {result[name]['seconds']:.2f} s")
    return result


class _Made(NamedTuple):
    model: Path
    image: Path


def _make_heads(folder: Path, *, with_model: bool) -> _Made:
    """A new image of a head and, if asked for, a model of other heads."""
    seen, new = folder / "heads", folder / "new"
    synth = [sys.executable, "-m", "nerfgen", "synth", "heads"]
    plain = ["--views", "0", "--quiet"]
    _run([*synth, str(new), "-n", "1", "--size", "128", "--seed", "1", *plain])
    if with_model:
        truth = str(seen / "truth.h5")
        _run([*synth, str(seen), "-n", str(_HEADS), "--size", "64", *plain])
        train = [sys.executable, "-m", "nerfgen", "train", str(seen), "--cameras", truth, "--masks", truth]
        _run([*train, "--steps", str(_TRAINING_STEPS), "--no-preview", "--quiet"])
    return _Made(seen / "model.h5", new / "000000.png")


class _Usage(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak: int


def _run(command: list[str], environment: dict[str, str] | None = None) -> _Usage:
    """Run a command.

    Raises:
        NerfgenError: it failed.
    """
    began = time.perf_counter()
    settings = {**os.environ, **(environment or {})}
    if environment:
        settings.pop("JAX_COMPILATION_CACHE_DIR", None)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=settings)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise NerfgenError(f"`{' '.join(command[2:])}` ended with exit code {process.returncode}; see above")
    return _Usage(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


def write_training_folder(folder: Path, count: int, size: int) -> None:
    """Images of one ball on random backgrounds, with ``cameras.h5`` and ``masks.h5``, made in no time."""
    rng = np.random.default_rng(0)
    names = [f"{index:06d}.jpg" for index in range(count)]
    across = (np.arange(size) + 0.5) / size * 2 - 1
    ball = np.hypot(*np.meshgrid(across, across)) < 0.6
    for name in names:
        pixels = np.where(ball[..., None], rng.integers(0, 256, 3), rng.integers(0, 256, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    poses = turned_camera(rng.uniform(-60, 60, count), rng.uniform(-20, 20, count), _DISTANCE)
    intrinsics = intrinsic_matrix(np.full(count, _FOCAL * size), np.full((count, 2), size / 2))
    window = sphere_window(intrinsics, poses)
    cameras = {"intrinsics": intrinsics, "cam_to_world": poses, "window": window}
    mask = np.broadcast_to(255 * ball.astype(np.uint8), (count, size, size))
    masks = {"mask": mask, "mask_window": np.tile([0.0, 0.0, float(size)], (count, 1))}
    shared = {"image": names, "status": ["ok"] * count, "image_size": np.full((count, 2), size)}
    for kind, values in (("cameras", cameras), ("masks", masks)):
        with storage.Stage(folder / f"{kind}.h5", f"{kind}/1", _CLASS).create() as file:
            for name, value in (shared | values).items():
                storage.put(file, name, value)
