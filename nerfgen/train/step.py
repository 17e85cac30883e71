"""One step of the auto-decoder: sample a batch, render, differentiate, update. Pure functions of a state.

A step is one program over a mesh of devices: the images of a batch are divided among them, networks and pixels are on
each, and every device holds a block of the tables' rows. All functions here but :func:`make_step` run inside
:func:`jax.shard_map`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree

from nerfgen.data import (
    Batch,
    Patches,
    PatchPlan,
    PixelTable,
    SamplingPlan,
    TableRows,
    add_patches,
    gather_batch,
    sample_corners,
    sample_indices,
)
from nerfgen.field import plane_smoothness, radiance_field, render_rays
from nerfgen.geometry import (
    corrected_cameras,
    evenly_chosen,
    keypoint_displacement,
    pixel_centers,
    pixel_rays,
    with_focal,
)
from nerfgen.memory import keep_freed_memory
from nerfgen.model import Recipe
from nerfgen.optimize import AXIS, RowGradient, apply_row_update, gather_rows, platform, scatter_rows
from nerfgen.pretrained import FeatureParameters, perceptual_distance
from nerfgen.train.adversarial import Adversary, Judged, generator_loss, updated_adversary
from nerfgen.train.quantisation import quantise, updated_codebook, used_entries
from nerfgen.train.state import (
    LOSSES,
    STATE_SPECS,
    Parameters,
    TrainState,
    active_latents,
    moving_average,
    network_optimizer,
    state_formats,
    table_optimizer,
    used_latents,
)
from nerfgen.volume import RayColors, dilate, training_losses, update_occupancy

OCCUPANCY_EVERY = 16
_OCCUPANCY_CODES = 8
# Folded into an image's key for the samples on the rays of its patch.
_PATCH = 1
# Folded into a step's key for the entries of codebooks that restart.
_CODEBOOK = 0x636F6465


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """What does not change during a run; hashable, because steps are compiled for it.

    Attributes:
        recipe: the recipe.
        bounds: half edges of the box that holds the object, world units.
        seed: random numbers of a step depend on it and on the step's number only.
        num_images, num_rows: images, and rows of the table.
        num_base, num_rehearsal: rows of a base model and its rehearsal renderings, which both stay as they are.
        one_image_per_row: whether row and image are the same number.
        num_devices: devices that a batch is divided among.
        images_per_pass: images per device in one pass; the gradients of passes add up to those of the batch.
        precision: of the factors of the networks' matrix products, ``float32`` or ``bfloat16``.
        rematerialise: compute the network's layers again for the gradient instead of keeping them.
        keypoints: some of the canonical keypoints that the cameras were fitted to.
    """

    recipe: Recipe
    bounds: tuple[float, float, float]
    seed: int
    num_images: int
    num_rows: int
    num_base: int
    num_rehearsal: int
    one_image_per_row: bool
    num_devices: int
    images_per_pass: int
    precision: str = "float32"
    rematerialise: bool = False
    keypoints: tuple[tuple[float, float, float], ...] = ()

    @classmethod
    def of_rows(
        cls,
        recipe: Recipe,
        bounds: tuple[float, float, float],
        rows: TableRows,
        seed: int,
        canonical: Float[np.ndarray, "points 3"],
        **execution: Any,
    ) -> StepPlan:
        """The plan of a run over these rows.

        Args:
            canonical: keypoints that the cameras were fitted to, if they were.
            execution: the other attributes.
        """
        return cls(
            recipe,
            bounds,
            seed,
            rows.num_images,
            rows.count,
            rows.num_base,
            rows.num_rehearsal,
            rows.one_image_per_row,
            keypoints=tuple((float(x), float(y), float(z)) for x, y, z in evenly_chosen(canonical)),
            **execution,
        )

    @property
    def sampling(self) -> SamplingPlan:
        """How the pixels of a step are sampled."""
        recipe = self.recipe
        return SamplingPlan(
            self.seed,
            self.num_images,
            recipe.images_per_batch,
            recipe.rays_per_image,
            recipe.foreground_fraction,
            self.num_rehearsal,
            self.patches,
        )

    @property
    def has_known_codes(self) -> bool:
        """Whether the codebooks are those of a model that training continues."""
        return self.num_base > 0 or self.recipe.lambda_adversarial > 0

    @property
    def patches(self) -> PatchPlan | None:
        """How the patches of a step are sampled; None where no loss needs them."""
        recipe = self.recipe
        if not recipe.has_patches:
            return None
        every = recipe.images_per_batch // recipe.patches_per_batch
        return PatchPlan(every, recipe.patch_size, recipe.size)

    @property
    def images_per_device(self) -> int:
        """Images of a batch on each device."""
        return self.recipe.images_per_batch // self.num_devices


class StepInput(NamedTuple):
    """What a step reads besides the state.

    Attributes:
        pixels: all pixels, of which the step samples its batch, or a batch.
        row_of_image: row of the table of every image; empty where row and image are the same number.
        fraction: fraction of the run that is done, in [0, 1].
        features: parameters of the feature network; None where no loss needs it.
    """

    pixels: PixelTable | Batch
    row_of_image: Int[Array, "images"]
    fraction: Float[Array, ""]
    features: FeatureParameters | None = None


class StepBatch(NamedTuple):
    """The batch of a step.

    Attributes:
        images, rows: of the whole batch, the same on all devices.
        own: this device's part of it.
        keys: random keys of the device's images, for the samples on their rays.
    """

    images: Int[Array, "batch"]
    rows: Int[Array, "batch"]
    own: Batch
    keys: Array


class ImageUnknowns(NamedTuple):
    """What is learned of each image of a batch: the correction of its camera, and its latent code."""

    cameras: Float[Array, "images 6"]
    latents: Float[Array, "images latent"]


class Gradients(NamedTuple):
    """Gradients of a loss: of the networks, and of each image's unknowns."""

    networks: Parameters
    images: ImageUnknowns


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
        losses = losses + _losses(commitment=scale * codes.commitment, perplexity=used)
        if not plan.has_known_codes:
            every = jax.lax.all_gather(table_latents, AXIS, tiled=True)
            codebook = updated_codebook(
                codebook, plan.recipe, every, jax.random.fold_in(sample_key, _CODEBOOK)
            )
    gradients, losses = sum_over_devices(plan, gradients, losses, batch)
    if adversary is not None:
        # One bad number would stay in the tables, which are not rolled back.
        finite = jnp.isfinite(_norm(gradients))
        gradients = jax.tree.map(lambda gradient: jnp.where(finite, gradient, 0.0), gradients)
    updated = update_parameters(plan, state, gradients, batch, given.fraction)
    with jax.named_scope("sampling"):
        updated = refresh_occupancy(plan, updated, occupancy_key, given.fraction)
    average = updated.average
    if average is not None:
        average = moving_average(average, updated.networks["field"], plan.recipe.average_decay, state.step)
    latent_norm = jnp.mean(jnp.linalg.norm(unknowns.latents, axis=-1))
    norms = [_norm(gradients), jax.lax.pmean(latent_norm, AXIS)]
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
    return scale * total, scale * _losses(loss=total, **terms)


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
    return total, _losses(loss=total, perceptual=distance)


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
    losses = _losses(adversarial=loss, discriminator=part.loss, real=part.real, fake=part.fake)
    images = ImageUnknowns(jnp.zeros_like(unknowns.cameras), everywhere)
    return (Gradients(networks, images), losses), updated


def _losses(**values: Array) -> Float[Array, "losses"]:
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


def _norm(tree: PyTree) -> Array:
    return jnp.sqrt(sum(jnp.vdot(array, array, precision="highest") for array in jax.tree.leaves(tree)))
