"""What a run would need, without training: sizes, memory, time."""

from __future__ import annotations

import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.train.batch import Batch
from nerfgen.train.data import for_class, list_images
from nerfgen.train.execution import Execution, platform
from nerfgen.train.loop import TrainingFiles
from nerfgen.train.preset import Preset
from nerfgen.train.rows import table_rows
from nerfgen.train.source import choose_placement, pixel_bytes
from nerfgen.train.step import OCCUPANCY_SIZE, initial_state, make_step, no_totals, placed
from nerfgen.train.table import AXIS

_TIMED_STEPS = 3
_MEBIBYTE = 1 << 20


def estimate(
    files: TrainingFiles, preset: Preset, *, object_class: ObjectClass | str, execution: Execution
) -> dict[str, Any]:
    """Sizes, memory and time of a run. Compiles the step and takes a few on random pixels; writes nothing.

    Returns:
        images, steps, devices, platform, precision, images_at_a_time, network_parameters, table_parameters,
        data (placement), data_mib, state_mib (parameters and moments, per device), step_mib (what a step needs
        besides), seconds_per_step, rays_per_second and hours of the whole run, None where minutes end it.

    Raises:
        InputError: the files are missing or don't fit.
    """
    described = named_class(object_class)
    preset = for_class(preset, described, with_masks=files.masks is not None)
    listing = list_images(files.data, files.cameras, files.masks)
    rows = table_rows([listing.instance[row] for row in listing.rows])
    count = len(rows.of)
    mesh = execution.mesh()
    bounds = described.bounds
    at_a_time, precision = execution.images_at_a_time(preset, mesh), execution.effective_precision(mesh)
    step = make_step(
        preset,
        bounds,
        rows,
        0,
        mesh,
        images_at_a_time=at_a_time,
        precision=precision,
        rematerialise=execution.rematerialise,
        streamed=True,
    )
    state = placed(initial_state(preset, bounds, rows, 0, np.ones((OCCUPANCY_SIZE,) * 3, np.float32)), mesh)
    totals = no_totals(mesh)
    batch = jax.device_put(_random_batch(preset, count, listing), NamedSharding(mesh, P(AXIS)))
    compiled = step.lower(state, totals, batch, np.float32(0)).compile()
    memory = compiled.memory_analysis()
    networks = sum(array.size for array in jax.tree.leaves(state.networks["field"]))
    tables = count * (preset.latent_size + 6)
    state, totals = compiled(state, totals, batch, np.float32(0))
    jax.block_until_ready(totals)
    began = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        state, totals = compiled(state, totals, batch, np.float32(0))
    jax.block_until_ready(totals)
    seconds = (time.perf_counter() - began) / _TIMED_STEPS
    pixels = pixel_bytes(count, preset.size)
    return {
        "images": count,
        "steps": preset.steps,
        "platform": platform(mesh),
        "devices": mesh.size,
        "cores": os.cpu_count(),
        "precision": precision,
        "images_at_a_time": at_a_time,
        "network_parameters": networks,
        "table_parameters": tables,
        "data": choose_placement(execution.placement, pixels, list(mesh.devices.flat)),
        "data_mib": round(pixels / _MEBIBYTE, 1),
        "state_mib": round((networks + tables / mesh.size) * 3 * 4 / _MEBIBYTE, 1),
        "step_mib": round(memory.temp_size_in_bytes / _MEBIBYTE, 1) if memory else None,
        "seconds_per_step": round(seconds, 4),
        "rays_per_second": round(preset.images_per_batch * preset.rays_per_image / seconds, 1),
        "hours": round(preset.steps * seconds / 3600, 3) if preset.steps else None,
    }


def _random_batch(preset: Preset, count: int, listing: Any) -> Batch:
    rng = np.random.default_rng(0)
    shape = (preset.images_per_batch, preset.rays_per_image)
    images = rng.integers(0, count, preset.images_per_batch).astype(np.int32)
    usable = listing.columns(listing.rows[images])
    return Batch(
        images=jnp.asarray(images),
        rgb_mask=jnp.asarray(rng.integers(0, 256, (*shape, 4), np.uint8)),
        centers=jnp.asarray(rng.uniform(0, usable["image_size"].min(), (*shape, 2)), jnp.float32),
        intrinsics=jnp.asarray(usable["intrinsics"], jnp.float32),
        cam_to_world=jnp.asarray(usable["cam_to_world"], jnp.float32),
    )
