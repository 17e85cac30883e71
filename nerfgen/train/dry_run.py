"""What a run would need, without training: sizes, memory, time."""

from __future__ import annotations

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from nerfgen.data import (
    Batch,
    Patches,
    PatchPlan,
    choose_placement,
    list_images,
    pixel_bytes,
    table_rows,
)
from nerfgen.model import Recipe
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.optimize import AXIS, platform
from nerfgen.storage import Record
from nerfgen.train.machine import Machine
from nerfgen.train.setup import effective_recipe, feature_parameters
from nerfgen.train.stage import TrainingFiles
from nerfgen.train.state import OCCUPANCY_SIZE, initial_state, shard_state
from nerfgen.train.step import make_step
from nerfgen.train.step_plan import StepInput, StepPlan

_TIMED_STEPS = 3
_MEBIBYTE = 1 << 20


def estimate_run(
    files: TrainingFiles,
    recipe: Recipe,
    *,
    object_class: ObjectClass | str,
    machine: Machine = Machine(),
    refine_cameras: bool | None = None,
) -> Record:
    """Sizes, memory and time of a run. Compiles the step and runs it on random pixels; writes nothing.

    Returns:
        images, steps, devices, platform, precision, images_at_a_time, network_parameters, table_parameters,
        data (placement), data_mib, state_mib (parameters and moments, per device), step_mib (temporary memory of a
        step), seconds_per_step, rays_per_second, and hours of the whole run, None where minutes end it.

    Raises:
        InputError: the files are missing or don't fit.
    """
    described = named_class(object_class)
    recipe = effective_recipe(
        recipe, described, files.cameras, masks=files.masks, refine_cameras=refine_cameras
    )
    listing = list_images(files.data, files.cameras, files.masks)
    rows = table_rows([listing.instance[row] for row in listing.rows])
    mesh = machine.mesh()
    machine.require_memory(recipe, rows.num_images, mesh)
    plan = StepPlan.of_rows(
        recipe,
        described.bounds,
        rows,
        0,
        listing.canonical["canonical"],
        **machine.execution(recipe, mesh),
    )
    occupancy = np.ones((OCCUPANCY_SIZE,) * 3, np.float32)
    state = shard_state(initial_state(recipe, plan.bounds, rows, 0, occupancy), mesh)
    images = np.random.default_rng(0).integers(0, len(listing.rows), recipe.images_per_batch)
    usable = listing.columns(listing.rows[images])
    size = int(usable["image_size"].min())
    batch = random_batch(recipe, plan.patches, images, usable["intrinsics"], usable["cam_to_world"], size)
    given = StepInput(
        jax.device_put(batch, NamedSharding(mesh, P(AXIS))),
        jnp.asarray(rows.lookup),
        jnp.float32(0),
        feature_parameters(recipe),
    )
    compiled = make_step(plan, mesh, streamed=True).lower(state, given).compile()
    memory = compiled.memory_analysis()
    networks = sum(array.size for array in jax.tree.leaves(state.networks["field"]))
    # Values and Adam's two moments, and the moving average.
    copies = 3 + (recipe.average_decay > 0)
    tables = rows.num_images * (plan.recipe.field_config(plan.bounds).code_size + 6)
    state = jax.block_until_ready(compiled(state, given))
    began = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        state = compiled(state, given)
    jax.block_until_ready(state)
    seconds = (time.perf_counter() - began) / _TIMED_STEPS
    pixels = pixel_bytes(rows.num_images, recipe.size)
    return {
        "images": rows.num_images,
        "steps": recipe.steps,
        "platform": platform(mesh),
        "devices": mesh.size,
        "cores": os.cpu_count(),
        "precision": plan.precision,
        "images_at_a_time": plan.images_per_pass,
        "network_parameters": networks,
        "table_parameters": tables,
        "data": choose_placement(machine.placement, pixels, list(mesh.devices.flat)),
        "data_mib": round(pixels / _MEBIBYTE, 1),
        "state_mib": round(4 * (copies * networks + 3 * tables / mesh.size) / _MEBIBYTE, 1),
        "step_mib": round(memory.temp_size_in_bytes / _MEBIBYTE, 1) if memory else None,
        "seconds_per_step": round(seconds, 4),
        "rays_per_second": round(recipe.rays_per_batch / seconds, 1),
        "hours": round(recipe.steps * seconds / 3600, 3) if recipe.steps else None,
    }


def random_batch(
    recipe: Recipe,
    patches: PatchPlan | None,
    images: Int[np.ndarray, "images"],
    intrinsics: Float[np.ndarray, "images 3 3"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    size: int,
) -> Batch:
    """A batch of random pixels.

    Args:
        images: index of each.
        size: pixels lie in a square of this size.
    """
    rng = np.random.default_rng(0)
    shape = (recipe.images_per_batch, recipe.rays_per_image)
    return Batch(
        images=jnp.asarray(images, jnp.int32),
        rgb_mask=jnp.asarray(rng.integers(0, 256, (*shape, 4), np.uint8)),
        centers=jnp.asarray(rng.uniform(0, size, (*shape, 2)), jnp.float32),
        intrinsics=jnp.asarray(intrinsics, jnp.float32),
        cam_to_world=jnp.asarray(cam_to_world, jnp.float32),
        patches=_random_patches(patches, recipe.patches_per_batch, rng) if patches else None,
    )


def _random_patches(plan: PatchPlan, count: int, rng: np.random.Generator) -> Patches:
    shape = (count, plan.side, plan.side)
    return Patches(
        rgb_mask=jnp.asarray(rng.integers(0, 256, (*shape, 4), np.uint8)),
        corners=jnp.asarray(rng.integers(0, plan.size - plan.side + 1, (count, 2)), jnp.int32),
        valid=jnp.ones(shape, bool),
    )
