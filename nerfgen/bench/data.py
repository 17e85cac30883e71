"""What it costs to keep the pixels elsewhere than on the device."""

from __future__ import annotations

import functools
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from nerfgen.bench.photographs import CLASS, write_photographs
from nerfgen.bench.stepper import SEED, Stepper
from nerfgen.bench.turns import Say, median_in_turns
from nerfgen.train.batch import Pixels, draw, take
from nerfgen.train.cache import pixel_cache
from nerfgen.train.execution import Execution
from nerfgen.train.preset import FAST, Preset
from nerfgen.train.source import Data

_PLACEMENTS = ("device", "host", "disk")
_STEPS = 10
_BATCHES = 100


def measure_data(*, images: int, size: int, rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """Batches a second, seconds of the fast step and the share of them spent waiting, by where pixels are kept.

    Args:
        size: edge of the framed photographs, pixels.
        seconds: no round begins after this time, of batches alone and of steps.
    """
    preset, mesh = replace(FAST, size=size), Execution(devices=1).mesh()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        say(f"making {images} photographs")
        write_photographs(folder, images, size)
        files = (folder / "pixels.h5", folder, folder / "cameras.h5", folder / "masks.h5")
        cache = pixel_cache(*files, size, object_class=CLASS, inputs=[])

        def kept(placement: str) -> Data:
            data = Data(cache, placement, preset, SEED, mesh)
            stack.callback(data.close)
            return data

        say("batches alone")
        drawers = {place: _Drawer(kept(place), preset, images) for place in _PLACEMENTS}
        reading = median_in_turns(drawers, rounds=rounds, seconds=seconds, say=say)
        say("compiling the step")
        waiters = {place: _Waiter(kept(place), preset, images) for place in _PLACEMENTS}
        taken = median_in_turns(waiters, rounds=rounds, seconds=seconds, say=say)
    return {
        "images": images,
        "size": size,
        "batches_per_second": {place: _BATCHES / value for place, value in reading.items()},
        "seconds_per_step": {place: value / _STEPS for place, value in taken.items()},
        "data_wait_share": {place: waiter.wait_share for place, waiter in waiters.items()},
        "ratio_host_over_device": taken["host"] / taken["device"],
        "ratio_disk_over_device": taken["disk"] / taken["device"],
    }


class _Drawer:
    """Batches on the device, one after the other, with no step between them."""

    def __init__(self, data: Data, preset: Preset, images: int) -> None:
        self._data, self._done = data, 0
        shape = (images, preset.images_per_batch, preset.rays_per_image)
        self._drawn = jax.jit(
            lambda pixels, step: take(pixels, *draw(SEED, step, *shape), preset.foreground_share)
        )
        self()

    def __call__(self) -> None:
        for step in range(self._done, self._done + _BATCHES):
            batch = self._data.batch(step)
            jax.block_until_ready(self._drawn(batch, step) if isinstance(batch, Pixels) else batch)
        self._done += _BATCHES


class _Waiter:
    """Steps with their data, and the share of their time that they waited for it."""

    def __init__(self, data: Data, preset: Preset, images: int) -> None:
        self._data = data
        stepper = Stepper(preset, images, source=data.batch, streamed=data.streamed)
        self._steps = functools.partial(stepper.run, _STEPS)
        self._waited_before, self._seconds = data.waited, 0.0

    def __call__(self) -> None:
        began = time.perf_counter()
        self._steps()
        self._seconds += time.perf_counter() - began

    @property
    def wait_share(self) -> float:
        return (self._data.waited - self._waited_before) / self._seconds
