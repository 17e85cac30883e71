"""The training step itself, ready to be timed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from nerfgen.geometry import intrinsic_matrix, turned_camera
from nerfgen.objectclass import object_class
from nerfgen.train.batch import Batch, Pixels
from nerfgen.train.execution import Execution
from nerfgen.train.preset import Preset
from nerfgen.train.rows import separate_rows
from nerfgen.train.step import OCCUPANCY_SIZE, TERMS, State, initial_state, make_step, no_totals, placed
from nerfgen.train.table import AXIS

SEED = 0
CLASS = object_class("heads")
# Distance of the cameras and focal length in raster edges, which show the box and a little around it.
DISTANCE, FOCAL = 4.0, 1.8


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
        preset: Preset,
        rows: int,
        *,
        source: Callable[[int], Pixels | Batch] | None = None,
        streamed: bool = True,
        precision: str = "auto",
    ) -> None:
        mesh, self._step = _step(preset, rows, streamed, precision)
        if source is None:
            batches = jax.device_put(list(random_batches(preset, rows, 8)), NamedSharding(mesh, P(AXIS)))

            def source(step: int) -> Batch:
                return batches[step % len(batches)]

        self._source, self._done = source, 0
        self._state = placed(fresh_state(preset, rows), mesh)
        self._totals = no_totals(mesh)
        before = self._place_of_table()
        self.run(1)
        self.in_place = before == self._place_of_table()
        self.first_loss = float(self._totals[TERMS.index("loss")])

    def run(self, steps: int) -> None:
        """Train on; returns when all is computed."""
        for _ in range(steps):
            batch = self._source(self._done)
            self._state, self._totals = self._step(self._state, self._totals, batch, np.float32(0))
            self._done += 1
        jax.block_until_ready(self._totals)

    def _place_of_table(self) -> int:
        return self._state.latents.values.addressable_data(0).unsafe_buffer_pointer()


@functools.cache
def _step(preset: Preset, rows: int, streamed: bool, precision: str) -> tuple[Mesh, Any]:
    """The step of one device: the same for all that train alike, so that it is compiled once."""
    execution = Execution(devices=1, precision=precision)
    mesh = execution.mesh()
    step = make_step(
        preset,
        CLASS.bounds,
        separate_rows(rows),
        SEED,
        mesh,
        images_at_a_time=execution.images_at_a_time(preset, mesh),
        precision=execution.effective_precision(mesh),
        streamed=streamed,
    )
    return mesh, step


def fresh_state(preset: Preset, rows: int) -> State:
    """Where a :class:`Stepper` begins."""
    return initial_state(
        preset, CLASS.bounds, separate_rows(rows), SEED, np.ones((OCCUPANCY_SIZE,) * 3, np.float32)
    )


def random_batches(preset: Preset, rows: int, count: int) -> Iterator[Batch]:
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
