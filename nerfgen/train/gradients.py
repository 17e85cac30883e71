"""Gradients of a training step: of the rays of a batch, of its patches, and of views for the discriminator.

All functions run inside :func:`jax.shard_map`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from nerfgen.data import Batch, Patches, PatchPlan
from nerfgen.field import plane_smoothness, render_rays
from nerfgen.geometry import corrected_cameras, keypoint_displacement, pixel_centers, pixel_rays, with_focal
from nerfgen.model import Recipe
from nerfgen.optimize import AXIS
from nerfgen.pretrained import FeatureParameters, perceptual_distance
from nerfgen.train.adversarial import Adversary, Judged, generator_loss, updated_adversary
from nerfgen.train.state import LOSSES, Parameters, TrainState, active_latents
from nerfgen.train.step_plan import Gradients, ImageUnknowns, StepBatch, StepInput, StepPlan
from nerfgen.volume import RayColors, training_losses

# Folded into an image's key for the samples on the rays of its patch.
_PATCH = 1


def own_part(plan: StepPlan, tree: PyTree) -> PyTree:
    """This device's part of arrays with an entry for each image, or each patch, of the batch."""
    device = jax.lax.axis_index(AXIS)

    def part(array: Array) -> Array:
        own = len(array) // plan.num_devices
        return jax.lax.dynamic_slice_in_dim(array, device * own, own)

    return jax.tree.map(part, tree)


def batch_gradients(
    plan: StepPlan, state: TrainState, batch: StepBatch, unknowns: ImageUnknowns, fraction: Array
) -> tuple[Gradients, Float[Array, "losses"]]:
    """Gradients of the rays of this device's part of the batch, pass by pass, and their losses.

    Gradients of the networks are summed over passes; images have their own.
    """
    own_rays = dataclasses.replace(batch.own, patches=None)
    differentiate = jax.grad(partial(pass_loss, plan), argnums=(0, 1), has_aux=True)
    occupancy = state.sampling_occupancy
    trainable = own_part(plan, batch.rows) >= plan.num_base
    passes = plan.images_per_device // plan.images_per_pass
    if passes == 1:
        (networks, images), losses = differentiate(
            state.networks, unknowns, own_rays, trainable, occupancy, batch.keys, fraction
        )
        return Gradients(networks, images), losses
    parts = jax.tree.map(
        lambda array: array.reshape(passes, plan.images_per_pass, *array.shape[1:]),
        (unknowns, own_rays, trainable, batch.keys),
    )

    def one_pass(sums: PyTree, part: PyTree) -> tuple[PyTree, ImageUnknowns]:
        some, own, own_trainable, keys = part
        (networks, images), losses = differentiate(
            state.networks, some, own, own_trainable, occupancy, keys, fraction
        )
        return jax.tree.map(jnp.add, sums, (networks, losses)), images

    zeros = (jax.tree.map(jnp.zeros_like, state.networks), jnp.zeros(len(LOSSES)))
    (networks, losses), images = jax.lax.scan(one_pass, zeros, parts)
    images = jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), images)
    return Gradients(networks, images), losses


def pass_loss(
    plan: StepPlan,
    networks: Parameters,
    unknowns: ImageUnknowns,
    batch: Batch,
    trainable: Array,
    occupancy: Float[Array, "grid grid grid"],
    keys: Array,
    fraction: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, "losses"]]:
    """The loss of one pass, scaled to its part of the mean over the batch, and all ``LOSSES`` scaled alike.

    Args:
        trainable: False for images of a base model's rows.
    """
    recipe, config = plan.recipe, plan.recipe.field_config(plan.bounds)
    networks = with_frozen_part(networks, recipe)
    latents = active_latents(unknowns.latents, recipe, fraction)
    lines = batch_rays(plan, networks, unknowns.cameras, batch, trainable)
    rays, background = render_batch(plan, networks, latents, lines, occupancy, keys)
    target = batch.rgb_mask / 255.0
    terms = training_losses(rays, background, target[..., :3], target[..., 3], recipe.mask_margin)
    total = recipe.ray_loss(terms)
    if recipe.lambda_camera > 0 and plan.keypoints:
        moved = corrected_cameras(batch.cam_to_world, unknowns.cameras, jnp.zeros(6))
        moves = keypoint_displacement(
            jnp.asarray(plan.keypoints), batch.intrinsics, batch.cam_to_world, moved
        )
        terms["camera"] = jnp.mean(moves) / recipe.size**2
        total = total + recipe.lambda_camera * terms["camera"]
    if config.kind == "planes":
        planes = networks["field"]["foreground"]["planes"]
        terms["smooth"] = plane_smoothness(planes, latents[:, : recipe.latent_size], config.plane_size)
        # It grows with the run: smooth planes from the start would take features for errors of the cameras.
        total = total + recipe.lambda_smooth * fraction * terms["smooth"]
    scale = plan.images_per_pass / recipe.images_per_batch
    return scale * total, scale * step_losses(loss=total, **terms)


def patch_gradients(
    plan: StepPlan,
    patches: PatchPlan,
    state: TrainState,
    batch: StepBatch,
    unknowns: ImageUnknowns,
    given: StepInput,
) -> tuple[Gradients, Float[Array, "losses"]]:
    """Gradients of the perceptual loss of this device's patches, which are one pass, and that loss.

    Those of images without a patch are zero.
    """
    rows = own_part(plan, batch.rows)
    images = (unknowns, dataclasses.replace(batch.own, patches=None), rows >= plan.num_base, batch.keys)
    some, own, trainable, keys = jax.tree.map(lambda array: array[:: patches.every], images)
    (networks, of_some), losses = jax.grad(partial(patch_loss, plan), argnums=(0, 1), has_aux=True)(
        state.networks,
        some,
        own,
        batch.own.patches,
        trainable,
        state.sampling_occupancy,
        keys,
        given.fraction,
        given.features,
    )
    of_images = jax.tree.map(
        lambda all_images, part: jnp.zeros_like(all_images).at[:: patches.every].set(part), unknowns, of_some
    )
    return Gradients(networks, of_images), losses


def patch_loss(
    plan: StepPlan,
    networks: Parameters,
    unknowns: ImageUnknowns,
    batch: Batch,
    patches: Patches,
    trainable: Array,
    occupancy: Float[Array, "grid grid grid"],
    keys: Array,
    fraction: Float[Array, ""],
    features: FeatureParameters,
) -> tuple[Float[Array, ""], Float[Array, "losses"]]:
    """The weighted perceptual loss of a device's patches, scaled to its part of the mean over all, and ``LOSSES``.

    Args:
        batch: the images that have a patch; their cameras are used.
        trainable: False for images of a base model's rows.
    """
    recipe, networks = plan.recipe, with_frozen_part(networks, plan.recipe)
    all_pixels = dataclasses.replace(
        batch,
        rgb_mask=patches.rgb_mask.reshape(len(batch.images), -1, 4),
        centers=patches.corners[:, None] + pixel_centers(recipe.patch_size)[None].astype(np.float32),
    )
    lines = batch_rays(plan, networks, unknowns.cameras, all_pixels, trainable)
    latents = active_latents(unknowns.latents, recipe, fraction)
    keys = jax.vmap(partial(jax.random.fold_in, data=_PATCH))(keys)
    rays, background = render_batch(plan, networks, latents, lines, occupancy, keys)
    rendered = rays.color + (1 - rays.opacity[..., None]) * background
    target = patches.rgb_mask[..., :3] / 255.0
    # Cells of the features also see pixels beyond them: where there is no image, both are the same.
    rendered = jnp.where(patches.valid[..., None], rendered.reshape(target.shape), target)
    with jax.default_matmul_precision("highest" if plan.precision == "float32" else "default"):
        distances = perceptual_distance(features, rendered, target, patches.valid.astype(jnp.float32))
    distance = jnp.mean(distances) / plan.num_devices
    total = recipe.lambda_perceptual * distance
    return total, step_losses(loss=total, perceptual=distance)


def adversarial_gradients(
    plan: StepPlan,
    patches: PatchPlan,
    state: TrainState,
    batch: StepBatch,
    unknowns: ImageUnknowns,
    given: StepInput,
) -> tuple[tuple[Gradients, Float[Array, "losses"]], Adversary]:
    """Gradients of the adversarial loss of this device's views, which are one pass, its losses, and the adversary
    after a step of the discriminator. Cameras have no gradient."""
    own, adversary = batch.own, state.adversary
    assert own.patches is not None
    assert adversary is not None
    assert given.features is not None
    recipe, features = plan.recipe, given.features
    judged = Judged(
        own.patches,
        own.cam_to_world[:: patches.every],
        jnp.roll(own.intrinsics, -1, axis=0)[:: patches.every],
        jnp.roll(own.cam_to_world, -1, axis=0)[:: patches.every],
        batch.keys[:: patches.every],
    )

    def render(networks: Parameters, codes: Array, lines: Any, keys: Array) -> tuple[Array, Array, Array]:
        rays, background = render_batch(plan, networks, codes, lines, state.sampling_occupancy, keys)
        return rays.color + (1 - rays.opacity[..., None]) * background, rays.opacity, rays.distance

    def weighted(networks: Parameters, latents: Array) -> tuple[Array, tuple[Array, Array]]:
        networks = with_frozen_part(networks, recipe)
        latents = active_latents(latents, recipe, given.fraction)
        with jax.default_matmul_precision("highest" if plan.precision == "float32" else "default"):
            loss, views = generator_loss(
                recipe, plan.bounds, networks, latents, judged, adversary, features, render
            )
        loss = loss / plan.num_devices
        return recipe.lambda_adversarial * adversary.strength * loss, (loss, views)

    (networks, latents), (loss, views) = jax.grad(weighted, argnums=(0, 1), has_aux=True)(
        state.networks, unknowns.latents[:: patches.every]
    )
    updated, terms = updated_adversary(recipe, adversary, features, views, own.patches)
    everywhere = jnp.zeros_like(unknowns.latents).at[:: patches.every].set(latents)
    part = jax.tree.map(lambda term: term / plan.num_devices, terms)
    losses = step_losses(adversarial=loss, discriminator=part.loss, real=part.real, fake=part.fake)
    images = ImageUnknowns(jnp.zeros_like(unknowns.cameras), everywhere)
    return (Gradients(networks, images), losses), updated


def step_losses(**values: Array) -> Float[Array, "losses"]:
    """``LOSSES`` in order; those that are not given are 0."""
    return jnp.stack([values.get(name, jnp.zeros(())) for name in LOSSES])


def with_frozen_part(networks: Parameters, recipe: Recipe) -> Parameters:
    """The networks, with no gradient for the one that stays as it is: Adam's step from no moments is then zero."""
    if recipe.freeze == "none":
        return networks
    field = networks["field"]
    return networks | {"field": field | {recipe.freeze: jax.lax.stop_gradient(field[recipe.freeze])}}


def render_batch(
    plan: StepPlan,
    networks: Parameters,
    latents: Float[Array, "images latent"],
    lines: tuple[Float[Array, "images rays 3"], Float[Array, "images rays 3"]],
    occupancy: Float[Array, "grid grid grid"],
    keys: Array,
) -> tuple[RayColors, Float[Array, "images rays 3"]]:
    """Foreground and background colour of rays (origins and directions), as the recipe samples them."""
    recipe = plan.recipe
    return render_rays(
        recipe.field_config(plan.bounds),
        networks["field"],
        latents,
        *lines,
        samples=recipe.samples,
        occupancy=occupancy if recipe.sampler == "occupancy" else None,
        key=keys,
        precision=plan.precision,
        rematerialise=plan.rematerialise,
    )


def batch_rays(
    plan: StepPlan,
    networks: Parameters,
    corrections: Float[Array, "images 6"],
    batch: Batch,
    trainable: Array,
) -> tuple[Float[Array, "images rays 3"], Float[Array, "images rays 3"]]:
    """World rays of a batch's pixels, from the cameras as they are refined; rehearsal renderings keep theirs."""
    intrinsics, poses = batch.intrinsics, batch.cam_to_world
    if plan.recipe.camera_learning_rate > 0:
        poses = corrected_cameras(poses, corrections, jnp.zeros(6))
    if plan.recipe.focal_learning_rate > 0:
        factor = jnp.exp(networks["log_focal"])
        if plan.num_rehearsal:
            factor = jnp.where(trainable, factor, 1.0)[:, None, None]
        intrinsics, poses = with_focal(intrinsics, poses, factor)
    return pixel_rays(batch.centers, intrinsics, poses)


def sum_over_devices(
    plan: StepPlan, gradients: Gradients, losses: Float[Array, "losses"], batch: StepBatch
) -> tuple[Gradients, Float[Array, "losses"]]:
    """Network gradients and losses summed over devices, image gradients of the whole batch; those of a base model's
    rows are zero."""
    networks, losses = jax.lax.psum((gradients.networks, losses), AXIS)
    images = jax.lax.all_gather(gradients.images, AXIS, tiled=True)
    if plan.num_base:
        frozen = (batch.rows < plan.num_base)[:, None]
        images = jax.tree.map(lambda gradient: jnp.where(frozen, 0.0, gradient), images)
    return Gradients(networks, images), losses


def gradient_norm(tree: PyTree) -> Array:
    """The Euclidean norm of all numbers of a tree."""
    return jnp.sqrt(sum(jnp.vdot(array, array, precision="highest") for array in jax.tree.leaves(tree)))
