"""The training step by the number of rows of its table, and by where its pixels are kept."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from nerfgen.bench.processes import write_training_folder
from nerfgen.bench.timing import Say, median_in_turns
from nerfgen.data import (
    Batch,
    BatchSource,
    PixelTable,
    SamplingPlan,
    gather_batch,
    open_pixel_cache,
    sample_indices,
    separate_rows,
)
from nerfgen.geometry import intrinsic_matrix, turned_camera
from nerfgen.model import Recipe
from nerfgen.model.recipe import FAST
from nerfgen.objectclass import object_class
from nerfgen.optimize import AXIS
from nerfgen.train import Machine, StepInput, StepPlan, make_step
from nerfgen.train.state import OCCUPANCY_SIZE, TERMS, TrainState, initial_state, shard_state

Precision = Literal["auto", "float32", "bfloat16"]
SEED = 0
CLASS = object_class("heads")
# Distance of the cameras and focal length in raster edges, which show the box and a little around it.
DISTANCE, FOCAL = 4.0, 1.8
_STEPS = 10
_PLACEMENTS = ("device", "host", "disk")
_BATCHES = 100


def measure_latents(*, rows: Sequence[int], rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """Seconds of the fast step by the number of rows of its table; batches are of random rows and all alike in size.

    Without local features, whose long codes would fill the memory sooner.

    Args:
        seconds: no round begins after this time; compiling comes before the rounds.
    """
    recipe = replace(FAST, local_size=0, local_channels=0, background_cells=0, background_channels=0)
    steppers = {}
    for count in rows:
        say(f"compiling the step for {count} rows")
        steppers[str(count)] = Stepper(recipe, count)
    tasks = {name: functools.partial(stepper.run, _STEPS) for name, stepper in steppers.items()}
    taken = median_in_turns(tasks, rounds=rounds, seconds=seconds, say=say)
    least, most = min(rows), max(rows)
    return {
        "seconds_per_step": {name: value / _STEPS for name, value in taken.items()},
        f"ratio_k_{short(most)}_over_{short(least)}": taken[str(most)] / taken[str(least)],
        "in_place": all(stepper.in_place for stepper in steppers.values()),
    }


def short(count: int) -> str:
    """1000000 as 1e6."""
    digits = str(count).rstrip("0")
    return f"{digits}e{len(str(count)) - len(digits)}"


def measure_data(*, images: int, size: int, rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """Batches a second, seconds of the fast step and the share of them spent waiting, by where pixels are kept.

    Args:
        size: of the framed images, pixels.
        seconds: no round begins after this time, of batches alone and of steps.
    """
    preset, mesh = replace(FAST, size=size), Machine(devices=1).mesh()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        say(f"making {images} images")
        write_training_folder(folder, images, size)
        files = (folder, folder / "cameras.h5", folder / "masks.h5")
        cache = stack.enter_context(open_pixel_cache(*files, size, object_class=CLASS, inputs=[]))
        plan = SamplingPlan(
            SEED, images, preset.images_per_batch, preset.rays_per_image, preset.foreground_fraction
        )

        def kept(placement: str) -> BatchSource:
            return stack.enter_context(BatchSource(cache, placement, plan, mesh))

        say("batches alone")
        drawers = {place: _Drawer(kept(place), plan) for place in _PLACEMENTS}
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

    def __init__(self, data: BatchSource, plan: SamplingPlan) -> None:
        self._data, self._done = data, 0
        self._drawn = jax.jit(
            lambda pixels, step: gather_batch(pixels, *sample_indices(plan, step), plan.foreground_fraction)
        )
        self()

    def __call__(self) -> None:
        for step in range(self._done, self._done + _BATCHES):
            batch = self._data.batch(step)
            jax.block_until_ready(self._drawn(batch, step) if isinstance(batch, PixelTable) else batch)
        self._done += _BATCHES


class _Waiter:
    """Steps with their data, and the share of their time that they waited for it."""

    def __init__(self, data: BatchSource, preset: Recipe, images: int) -> None:
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


class Stepper:
    """Training on one device, compiled and one step done, from fresh networks and a table of ``rows`` codes.

    Args:
        source: what a step is given, by its number; None for random pixels, some batches over and over.
        streamed: whether that is a :class:`Batch`.

    Attributes:
        first_loss: loss of the first step.
        in_place: whether a step takes over the table's memory.
    """

    def __init__(
        self,
        preset: Recipe,
        rows: int,
        *,
        source: Callable[[int], PixelTable | Batch] | None = None,
        streamed: bool = True,
        precision: Precision = "auto",
    ) -> None:
        mesh, self._step = _step(preset, rows, streamed, precision)
        if source is None:
            batches = jax.device_put(list(random_batches(preset, rows, 8)), NamedSharding(mesh, P(AXIS)))

            def source(step: int) -> Batch:
                return batches[step % len(batches)]

        self._source, self._done = source, 0
        self._state = shard_state(fresh_state(preset, rows), mesh)
        self._row_of_image = jax.device_put(separate_rows(rows).lookup, NamedSharding(mesh, P()))
        before = self._place_of_table()
        self.run(1)
        self.in_place = before == self._place_of_table()
        self.first_loss = float(self._state.totals[TERMS.index("loss")])

    def run(self, steps: int) -> None:
        """Train on; returns when all is computed."""
        for _ in range(steps):
            batch = self._source(self._done)
            given = StepInput(batch, self._row_of_image, np.float32(0))  # type: ignore[arg-type]
            self._state = self._step(self._state, given)
            self._done += 1
        jax.block_until_ready(self._state.totals)

    def _place_of_table(self) -> int:
        return self._state.latents.addressable_data(0).unsafe_buffer_pointer()


@functools.cache
def _step(preset: Recipe, rows: int, streamed: bool, precision: Precision) -> tuple[Mesh, Any]:
    """The step of one device: the same for all that train alike, so that it is compiled once."""
    machine = Machine(devices=1, precision=precision)
    mesh = machine.mesh()
    plan = StepPlan.of_rows(
        preset,
        CLASS.bounds,
        separate_rows(rows),
        SEED,
        np.zeros((0, 3)),
        **machine.execution(preset, mesh),
    )
    return mesh, make_step(plan, mesh, streamed=streamed)


def fresh_state(preset: Recipe, rows: int) -> TrainState:
    """Where a :class:`Stepper` begins."""
    return initial_state(
        preset, CLASS.bounds, separate_rows(rows), SEED, np.ones((OCCUPANCY_SIZE,) * 3, np.float32)
    )


def random_batches(preset: Recipe, rows: int, count: int) -> Iterator[Batch]:
    """Batches of random pixels of random rows, seen from all round."""
    rng = np.random.default_rng(SEED)
    images, shape = preset.images_per_batch, (preset.images_per_batch, preset.rays_per_image)
    center = np.full((images, 2), preset.size / 2)
    for _ in range(count):
        poses = turned_camera(rng.uniform(-180, 180, images), rng.uniform(-30, 30, images), DISTANCE)
        yield Batch(
            images=rng.integers(0, rows, images).astype(np.int32),
            rgb_mask=rng.integers(0, 256, (*shape, 4), np.uint8),
            centers=rng.uniform(0, preset.size, (*shape, 2)).astype(np.float32),
            intrinsics=intrinsic_matrix(np.full(images, FOCAL * preset.size), center).astype(np.float32),
            cam_to_world=poses.astype(np.float32),
        )
