"""One step of the auto-decoder: sample a batch, render, differentiate, update. Pure functions of a state.

A step is one program over a mesh of devices: the images of a batch are divided among them, networks and pixels are on
each, and every device holds a block of the tables' rows. All functions here but :func:`make_step` run inside
:func:`jax.shard_map`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from nerfgen.data import PixelTable, add_patches, gather_batch, sample_corners, sample_indices
from nerfgen.field import radiance_field
from nerfgen.memory import keep_freed_memory
from nerfgen.model import Recipe
from nerfgen.optimize import AXIS, RowGradient, apply_row_update, gather_rows, platform, scatter_rows
from nerfgen.train.gradients import (
    adversarial_gradients,
    batch_gradients,
    gradient_norm,
    own_part,
    patch_gradients,
    step_losses,
    sum_over_devices,
)
from nerfgen.train.quantisation import quantise, updated_codebook, used_entries
from nerfgen.train.state import (
    STATE_SPECS,
    Parameters,
    TrainState,
    moving_average,
    network_optimizer,
    state_formats,
    table_optimizer,
    used_latents,
)
from nerfgen.train.step_plan import Gradients, ImageUnknowns, StepBatch, StepInput, StepPlan
from nerfgen.volume import dilate, update_occupancy

OCCUPANCY_EVERY = 16
_OCCUPANCY_CODES = 8
# Folded into a step's key for the entries of codebooks that restart.
_CODEBOOK = 0x636F6465


def make_step(plan: StepPlan, mesh: Mesh | AbstractMesh, *, streamed: bool) -> Any:
    """The jitted step ``(state, input) -> state``, which reuses the memory of ``state``.

    On a CPU, the process keeps from now on the memory that it frees (:func:`keep_freed_memory`).

    Args:
        mesh: abstract for a step that is lowered for devices that are not here.
        streamed: whether the input's pixels are a :class:`Batch`.
    """
    inputs = StepInput(P(AXIS) if streamed else P(), P(), P(), P())  # type: ignore[arg-type]
    parallel = jax.shard_map(
        partial(step, plan),
        mesh=mesh,
        in_specs=(STATE_SPECS, inputs),
        out_specs=STATE_SPECS,
        check_vma=False,
    )
    if platform(mesh) == "cpu":
        keep_freed_memory()
    places: dict[str, Any] = {}
    if not isinstance(mesh, AbstractMesh):
        formats = state_formats(mesh)
        places = {"in_shardings": (formats, None), "out_shardings": formats}
    return jax.jit(parallel, donate_argnums=0, **places)


def step(plan: StepPlan, state: TrainState, given: StepInput) -> TrainState:
    """One step: batch, gradients, update of networks, table and cameras, now and then of the occupancy."""
    sample_key, occupancy_key = step_keys(plan.seed, state.step)
    with jax.named_scope("sampling"):
        batch = draw_batch(plan, state.step, given, sample_key)
    with jax.named_scope("table"):
        unknowns = image_unknowns(plan, state, batch)
        table_latents, codes = unknowns.latents, None
        if state.codebook is not None:
            codes = quantise(state.codebook, plan.recipe, table_latents, given.fraction)
            unknowns = unknowns._replace(latents=codes.latents)
    gradients, losses = batch_gradients(plan, state, batch, unknowns, given.fraction)
    if plan.patches and plan.recipe.lambda_perceptual > 0:
        of_patches = patch_gradients(plan, plan.patches, state, batch, unknowns, given)
        gradients, losses = jax.tree.map(jnp.add, (gradients, losses), of_patches)
    adversary = state.adversary
    if plan.patches and adversary is not None:
        of_views, adversary = adversarial_gradients(plan, plan.patches, state, batch, unknowns, given)
        gradients, losses = jax.tree.map(jnp.add, (gradients, losses), of_views)
    codebook = state.codebook
    if codebook is not None and codes is not None:
        scale = 1 / plan.recipe.images_per_batch
        pulled = gradients.images._replace(latents=gradients.images.latents + scale * codes.pull)
        gradients = gradients._replace(images=pulled)
        used = used_entries(codebook) / plan.num_devices
        losses = losses + step_losses(commitment=scale * codes.commitment, perplexity=used)
        if not plan.has_known_codes:
            every = jax.lax.all_gather(table_latents, AXIS, tiled=True)
            codebook = updated_codebook(
                codebook, plan.recipe, every, jax.random.fold_in(sample_key, _CODEBOOK)
            )
    gradients, losses = sum_over_devices(plan, gradients, losses, batch)
    if adversary is not None:
        # One bad number would stay in the tables, which are not rolled back.
        finite = jnp.isfinite(gradient_norm(gradients))
        gradients = jax.tree.map(lambda gradient: jnp.where(finite, gradient, 0.0), gradients)
    updated = update_parameters(plan, state, gradients, batch, given.fraction)
    with jax.named_scope("sampling"):
        updated = refresh_occupancy(plan, updated, occupancy_key, given.fraction)
    average = updated.average
    if average is not None:
        average = moving_average(average, updated.networks["field"], plan.recipe.average_decay, state.step)
    latent_norm = jnp.mean(jnp.linalg.norm(unknowns.latents, axis=-1))
    norms = [gradient_norm(gradients), jax.lax.pmean(latent_norm, AXIS)]
    totals = state.totals + jnp.concatenate([losses, jnp.stack(norms)])
    return dataclasses.replace(
        updated, average=average, adversary=adversary, codebook=codebook, totals=totals, step=state.step + 1
    )


def step_keys(seed: int, number: int | Int[Array, ""]) -> tuple[Array, Array]:
    """Random keys of a step: of the samples on its rays, and of the occupancy."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
    return keys[0], keys[1]


def draw_batch(plan: StepPlan, number: Int[Array, ""], given: StepInput, key: Array) -> StepBatch:
    """The images and pixels of a step."""
    if isinstance(given.pixels, PixelTable):
        images, places = sample_indices(plan.sampling, number)
        own_images, own_places = own_part(plan, (images, places))
        own = gather_batch(given.pixels, own_images, own_places, plan.recipe.foreground_fraction)
        corners = own_part(plan, sample_corners(plan.sampling, number))
        own = add_patches(own, given.pixels, corners, plan.patches)
    else:
        images, own = jax.lax.all_gather(given.pixels.images, AXIS, tiled=True), given.pixels
    rows = images if plan.one_image_per_row else given.row_of_image[images]
    keys = jax.random.split(key, plan.recipe.images_per_batch)
    return StepBatch(images, rows, own, own_part(plan, keys))


def image_unknowns(plan: StepPlan, state: TrainState, batch: StepBatch) -> ImageUnknowns:
    """Latent codes and camera corrections of this device's part of the batch.

    The mean of all corrections is subtracted, which fixes the gauge; with a base model its frozen cameras do.
    """
    corrections = scatter_rows(state.cameras, batch.images)
    if not plan.num_base:
        corrections = corrections - state.camera_sum[None] / plan.num_images
    return ImageUnknowns(corrections, scatter_rows(state.latents, batch.rows))


def update_parameters(
    plan: StepPlan, state: TrainState, gradients: Gradients, batch: StepBatch, fraction: Array
) -> TrainState:
    """Adam's step on networks, latent codes and, if they are refined, cameras."""
    rates = learning_rates(plan.recipe, fraction)
    with jax.named_scope("networks"):
        updated = _update_networks(plan, state, gradients.networks, rates)
    with jax.named_scope("table"):
        return _update_tables(plan, updated, gradients.images, batch, rates)


def _update_networks(
    plan: StepPlan, state: TrainState, gradients: Parameters, rates: dict[str, Float[Array, "..."]]
) -> TrainState:
    moves, moments = network_optimizer(plan.recipe).update(gradients, state.network_moments)
    networks = {
        name: jax.tree.map(lambda value, move, rate=rates[name]: value - rate * move, values, moves[name])
        for name, values in state.networks.items()
    }
    return dataclasses.replace(state, networks=networks, network_moments=moments)


def _update_tables(
    plan: StepPlan,
    state: TrainState,
    gradients: ImageUnknowns,
    batch: StepBatch,
    rates: dict[str, Float[Array, "..."]],
) -> TrainState:
    adam = table_optimizer(plan.recipe)
    rows = RowGradient(batch.rows, gradients.latents)
    update, latent_moments = adam.update(rows, state.latent_moments, learning_rate=rates["latents"])
    latents, _ = apply_row_update(state.latents, update)
    updated = dataclasses.replace(state, latents=latents, latent_moments=latent_moments)
    if plan.recipe.camera_learning_rate <= 0:
        return updated
    images = RowGradient(batch.images, gradients.cameras)
    update, camera_moments = adam.update(images, state.camera_moments, learning_rate=rates["cameras"])
    cameras, change = apply_row_update(state.cameras, update)
    return dataclasses.replace(
        updated, cameras=cameras, camera_moments=camera_moments, camera_sum=state.camera_sum + change
    )


def refresh_occupancy(plan: StepPlan, state: TrainState, key: Array, fraction: Array) -> TrainState:
    """Every few steps, the occupancy moves towards the opacity of random rows' objects."""
    if plan.recipe.sampler != "occupancy":
        return state

    def refreshed() -> tuple[Array, Array]:
        row_key, cell_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (_OCCUPANCY_CODES,), 0, plan.num_rows)
        latents = used_latents(state, plan.recipe, gather_rows(state.latents, rows), fraction)
        config = plan.recipe.field_config(plan.bounds)
        field = radiance_field(config, state.networks["field"], latents, precision=plan.precision)
        occupancy = update_occupancy(state.occupancy, field, cell_key, plan.bounds, _OCCUPANCY_CODES)
        return occupancy, dilate(occupancy)

    occupancy, sampling_occupancy = jax.lax.cond(
        state.step % OCCUPANCY_EVERY == OCCUPANCY_EVERY - 1,
        refreshed,
        lambda: (state.occupancy, state.sampling_occupancy),
    )
    return dataclasses.replace(state, occupancy=occupancy, sampling_occupancy=sampling_occupancy)


def learning_rates(recipe: Recipe, fraction: Float[Array, ""]) -> dict[str, Float[Array, ""]]:
    """Adam's rates at a fraction of the run: of the ``field``, ``log_focal``, ``latents`` and ``cameras``."""
    decay = recipe.final_rate**fraction
    started = fraction >= recipe.camera_start
    whole, *local = recipe.field_config((1.0, 1.0, 1.0)).code_parts
    latents = jnp.asarray(
        [recipe.latent_learning_rate] * whole + [recipe.local_learning_rate] * sum(local), jnp.float32
    )
    return {
        "field": recipe.learning_rate * decay,
        "log_focal": recipe.focal_learning_rate * decay * started,
        "latents": latents * decay,
        "cameras": recipe.camera_learning_rate * decay * started,
    }
