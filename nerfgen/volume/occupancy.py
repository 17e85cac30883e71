"""The class-shared occupancy grid: where objects of the class may have matter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from nerfgen.geometry import project
from nerfgen.volume.compositing import RadianceField
from nerfgen.volume.sampling import HalfExtents, box_corner

DECAY = 0.9


def cell_centers(size: int, half: HalfExtents) -> Float[Array, "cells 3"]:
    """World centres of the grid's cells, in the order of the flattened grid (x slowest)."""
    axis = (jnp.arange(size) + 0.5) / size * 2 - 1
    centers = jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    return centers * box_corner(half, 2)


def visual_hull(
    masks: UInt8[Array, "images size size"],
    intrinsics: Float[Array, "images 3 3"],
    cam_to_world: Float[Array, "images 4 4"],
    grid_size: int,
    half: HalfExtents,
) -> Float[Array, "grid grid grid"]:
    """Soft visual hull of the class: the mean over images of the mask that each cell projects to.

    A cell that projects outside an image has the value of the nearest mask pixel.
    """
    size = masks.shape[-1]
    centers = cell_centers(grid_size, half)

    def add(total: Array, image: tuple[Array, Array, Array]) -> tuple[Array, None]:
        mask, matrix, pose = image
        pixels, _ = project(centers, matrix, pose)
        cell = jnp.clip(jnp.floor(pixels), 0, size - 1).astype(jnp.int32)
        return total + mask[cell[:, 1], cell[:, 0]] / 255.0, None

    total, _ = jax.lax.scan(add, jnp.zeros(len(centers)), (masks, intrinsics, cam_to_world))
    return (total / len(masks)).reshape(grid_size, grid_size, grid_size)


def update_occupancy(
    occupancy: Float[Array, "grid grid grid"],
    foreground: RadianceField,
    key: Array,
    half: HalfExtents,
    images: int,
) -> Float[Array, "grid grid grid"]:
    """Moving average of the opacity of each cell, evaluated at a random point of the cell in a random object.

    Args:
        foreground: field of ``images`` random latent codes; the cells are divided among them.
    """
    size = occupancy.shape[0]
    widths = jnp.broadcast_to(2 * jnp.asarray(half) / size, (3,))
    centers = cell_centers(size, half)
    points = centers + (jax.random.uniform(key, centers.shape) - 0.5) * widths[None]
    # With a stride, every object gets cells from the whole box.
    density, _ = foreground(jnp.swapaxes(points.reshape(-1, images, 3), 0, 1))
    opacity = -jnp.expm1(-jnp.swapaxes(density, 0, 1).reshape(-1) * widths.mean())
    return DECAY * occupancy + (1 - DECAY) * opacity.reshape(occupancy.shape)


def dilate(occupancy: Float[Array, "grid grid grid"]) -> Float[Array, "grid grid grid"]:
    """Maximum over each cell's 3 x 3 x 3 neighbourhood, so that samples reach a little beyond known matter."""
    for window in ((3, 1, 1), (1, 3, 1), (1, 1, 3)):
        occupancy = jax.lax.reduce_window(occupancy, -jnp.inf, jax.lax.max, window, (1, 1, 1), "SAME")
    return occupancy
