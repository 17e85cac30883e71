"""What a training step sees: pixels drawn from the framed photographs.

What is drawn depends on the seed and the number of the step only, and :func:`take` computes alike on the device and on
the host: wherever the pixels are kept, a step sees the same ones.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, UInt8

from nerfgen.geometry.camera import array_namespace

Array = Any  # of JAX or numpy

# Apart from the keys that a step splits from (seed, step) for itself, which are those folded in with 0, 1, 2 ...
_DRAWS = 0x64726177


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pixels:
    """The framed photographs as :func:`take` reads them.

    Attributes:
        pixels: red, green, blue and mask times 255; those inside the dilated mask first, then the others on the
            photograph.
        order: place of each in its raster: row times size plus column.
        inside: how many are inside the dilated mask.
        valid: how many are on the photograph in all, at least one.
        intrinsics, cam_to_world: cameras of the rasters.
    """

    pixels: UInt8[Array, "images pixels 4"]
    order: Int[Array, "images pixels"]
    inside: Int[Array, "images"]
    valid: Int[Array, "images"]
    intrinsics: Float[Array, "images 3 3"]
    cam_to_world: Float[Array, "images 4 4"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        images: rows of the table.
        rgb_mask: colour and mask times 255 of every ray's pixel.
        centers: pixel centres (x, y) in the raster.
        intrinsics, cam_to_world: cameras of the rasters.
    """

    images: Int[Array, "images"]
    rgb_mask: UInt8[Array, "images rays 4"]
    centers: Float[Array, "images rays 2"]
    intrinsics: Float[Array, "images 3 3"]
    cam_to_world: Float[Array, "images 4 4"]


def draw(
    seed: int,
    step: int | Int[jax.Array, ""],
    num_images: int,
    images_per_batch: int,
    rays_per_image: int,
    num_pictures: int = 0,
) -> tuple[Int[jax.Array, "images"], Float[jax.Array, "images rays"]]:
    """The random numbers of a step: images, with replacement, and a place in [0, 1) for each of their rays.

    Args:
        num_pictures: if there are so many pictures of a former model's objects among the images, at their end, every
            second image is one of them.
    """
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), step)
    image_key, place_key = jax.random.split(jax.random.fold_in(key, _DRAWS))
    if num_pictures:
        own = num_images - num_pictures
        picture = jnp.arange(images_per_batch) % 2 == 1
        least, most = jnp.where(picture, own, 0), jnp.where(picture, num_images, own)
        images = jax.random.randint(image_key, (images_per_batch,), least, most, jnp.int32)
    else:
        images = jax.random.randint(image_key, (images_per_batch,), 0, num_images, jnp.int32)
    return images, jax.random.uniform(place_key, (images_per_batch, rays_per_image), jnp.float32)


def take(
    table: Pixels,
    images: Int[Array, "images"],
    places: Float[Array, "images rays"],
    foreground_share: float,
) -> Batch:
    """Gather the drawn pixels; numpy arrays give numpy arrays, those of JAX the same values.

    The first ``foreground_share`` of an image's rays lie inside its dilated mask, if it has one, the rest anywhere
    on the photograph.
    """
    xp = array_namespace(images, places)
    count = places.shape[-1]
    inside, valid = table.inside[images][:, None], table.valid[images][:, None]
    aimed = (xp.arange(count) < round(count * foreground_share)) & (inside > 0)
    limit = xp.where(aimed, inside, valid)
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
