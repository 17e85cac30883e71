"""What a training step sees: pixels sampled from the framed images.

Which pixels depends only on the seed and the number of the step, and :func:`gather_batch` and :func:`gather_patches`
compute alike on the device and on the host: a step sees the same pixels wherever they are kept.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Integer, UInt8

from nerfgen.geometry import array_namespace

Array = Any  # of JAX or numpy

# Separate these random numbers from each other and from those that a step derives from (seed, step) for itself.
_SAMPLING = 0x64726177
_PATCHES = 0x70617463


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PixelTable:
    """The framed images as :func:`gather_batch` reads them.

    Attributes:
        pixels: red, green, blue and mask times 255; first those inside the dilated mask, then the others on the
            image.
        order: place of each in its raster: row times size plus column.
        inside: number of pixels inside the dilated mask.
        valid: number of pixels on the image in all, at least one.
        intrinsics, cam_to_world: cameras of the rasters.
    """

    pixels: UInt8[Array, "images pixels 4"]
    order: Integer[Array, "images pixels"]
    inside: Int[Array, "images"]
    valid: Int[Array, "images"]
    intrinsics: Float[Array, "images 3 3"]
    cam_to_world: Float[Array, "images 4 4"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Patches:
    """Squares of neighbouring pixels, one each of some images of a batch.

    Attributes:
        rgb_mask: colour and mask times 255.
        corners: place (column, row) of the first pixel in the raster.
        valid: where a pixel lies on the image.
    """

    rgb_mask: UInt8[Array, "patches side side 4"]
    corners: Int[Array, "patches 2"]
    valid: Bool[Array, "patches side side"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        images: index of each image.
        rgb_mask: colour and mask times 255 of every ray's pixel.
        centers: pixel centres (x, y) in the raster.
        intrinsics, cam_to_world: cameras of the rasters.
        patches: of every ``PatchPlan.every``-th image; None where the step has no loss of patches.
    """

    images: Int[Array, "images"]
    rgb_mask: UInt8[Array, "images rays 4"]
    centers: Float[Array, "images rays 2"]
    intrinsics: Float[Array, "images 3 3"]
    cam_to_world: Float[Array, "images 4 4"]
    patches: Patches | None = None


@dataclasses.dataclass(frozen=True)
class PatchPlan:
    """How the patches of a step are sampled.

    Attributes:
        every: every image of a batch whose place is a multiple of this has a patch: devices that share the batch then
            share the patches too, and have those of the same images whatever their number.
        side: size of a patch, pixels.
        size: size of a raster, pixels.
    """

    every: int
    side: int
    size: int


@dataclasses.dataclass(frozen=True)
class SamplingPlan:
    """How the pixels of a step are sampled.

    Attributes:
        seed: of all random numbers.
        num_images: images in all.
        images_per_batch, rays_per_image: of a step.
        foreground_fraction: fraction of an image's rays inside its dilated mask, if it has one; the others are
            anywhere on the image.
        num_rehearsal: number of trailing images that are rehearsal renderings; every second image of a batch is one
            of them.
        patches: how patches are sampled; None for none.
    """

    seed: int
    num_images: int
    images_per_batch: int
    rays_per_image: int
    foreground_fraction: float
    num_rehearsal: int = 0
    patches: PatchPlan | None = None


def sample_indices(
    plan: SamplingPlan, step: int | Int[jax.Array, ""]
) -> tuple[Int[jax.Array, "images"], Float[jax.Array, "images rays"]]:
    """The random numbers of a step: images, with replacement, and a number in [0, 1) for each ray's pixel."""
    image_key, pixel_key = jax.random.split(_key(plan, step, _SAMPLING))
    shape = (plan.images_per_batch,)
    if plan.num_rehearsal:
        new = plan.num_images - plan.num_rehearsal
        rehearsal = jnp.arange(plan.images_per_batch) % 2 == 1
        least, most = jnp.where(rehearsal, new, 0), jnp.where(rehearsal, plan.num_images, new)
        images = jax.random.randint(image_key, shape, least, most, jnp.int32)
    else:
        images = jax.random.randint(image_key, shape, 0, plan.num_images, jnp.int32)
    return images, jax.random.uniform(pixel_key, (*shape, plan.rays_per_image), jnp.float32)


def sample_corners(plan: SamplingPlan, step: int | Int[jax.Array, ""]) -> Int[jax.Array, "patches 2"] | None:
    """The random numbers of a step's patches: where their first pixels lie in the rasters; None without patches."""
    if plan.patches is None:
        return None
    shape = (plan.images_per_batch // plan.patches.every, 2)
    beyond = plan.patches.size - plan.patches.side + 1
    return jax.random.randint(_key(plan, step, _PATCHES), shape, 0, beyond, jnp.int32)


def gather_batch(
    table: PixelTable,
    images: Int[Array, "images"],
    places: Float[Array, "images rays"],
    foreground_fraction: float,
) -> Batch:
    """Gather the sampled pixels; numpy arrays give numpy arrays, those of JAX the same values.

    Args:
        places: in [0, 1), which of an image's pixels each ray goes through.
        foreground_fraction: see :class:`SamplingPlan`; the first rays of an image are those inside its mask.
    """
    xp = array_namespace(images, places)
    count = places.shape[-1]
    inside, valid = table.inside[images][:, None], table.valid[images][:, None]
    in_mask = (xp.arange(count)[None] < round(count * foreground_fraction)) & (inside > 0)
    limit = xp.where(in_mask, inside, valid)
    # All in 32 bits, as on the device: numpy would go on in 64.
    chosen = xp.floor(places * limit.astype(xp.float32)).astype(xp.int32)
    at = images[:, None], xp.minimum(chosen, limit - 1)
    flat = table.order[at].astype(xp.int32)
    size = math.isqrt(table.pixels.shape[1])
    corners = xp.stack([flat % size, flat // size], axis=-1).astype(xp.float32)
    return Batch(
        images=images,
        rgb_mask=table.pixels[at],
        centers=corners + xp.float32(0.5),
        intrinsics=table.intrinsics[images],
        cam_to_world=table.cam_to_world[images],
    )


def gather_patches(
    table: PixelTable,
    images: Int[Array, "patches"],
    corners: Int[Array, "patches 2"],
    side: int,
) -> Patches:
    """Gather one patch of each image; numpy arrays give numpy arrays, those of JAX the same values.

    Args:
        corners: place (column, row) of a patch's first pixel in the raster.
        side: size of a patch, pixels.
    """
    xp = array_namespace(images, corners)
    count, pixels = len(images), table.pixels.shape[1]
    every_pixel = xp.broadcast_to(xp.arange(pixels)[None], (count, pixels))
    # `order` maps stored pixels to the raster; its inverse finds the pixels of the raster among the stored ones.
    stored = xp.argsort(table.order[images[:, None], every_pixel], axis=1)
    offsets = xp.arange(side)[None]
    columns, rows = corners[:, :1] + offsets, corners[:, 1:] + offsets
    flat = rows[:, :, None] * math.isqrt(pixels) + columns[:, None, :]
    places = xp.take_along_axis(stored, flat.reshape(count, -1), axis=1)
    shape = (count, side, side)
    return Patches(
        rgb_mask=table.pixels[images[:, None], places].reshape(*shape, 4),
        corners=corners,
        valid=(places < table.valid[images][:, None]).reshape(shape),
    )


def add_patches(
    batch: Batch, table: PixelTable, corners: Int[Array, "patches 2"] | None, plan: PatchPlan | None
) -> Batch:
    """The batch with its patches, if there are any to gather."""
    if plan is None or corners is None:
        return batch
    patches = gather_patches(table, batch.images[:: plan.every], corners, plan.side)
    return dataclasses.replace(batch, patches=patches)


def _key(plan: SamplingPlan, step: int | Int[jax.Array, ""], purpose: int) -> jax.Array:
    """The random key of a step for one purpose; its generator is the same wherever JAX runs."""
    key = jax.random.fold_in(jax.random.key(plan.seed, impl="threefry2x32"), step)
    return jax.random.fold_in(key, purpose)
