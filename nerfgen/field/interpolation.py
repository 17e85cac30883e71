"""Bilinear interpolation in grids of features: by gathers, or by matrix products where gathers are slow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def grid_cell(
    coordinate: Float[Array, "*points"], size: int
) -> tuple[Int[Array, "*points"], Float[Array, "*points"]]:
    """The cell, of ``size`` - 1 along an axis, that holds a coordinate in [-1, 1], and the position within it.

    The first and the last of the ``size`` values lie at -1 and 1; coordinates beyond them are clipped.
    """
    position = _position(coordinate, size)
    cell = jnp.clip(jnp.floor(position), 0, size - 2)
    return cell.astype(jnp.int32), position - cell


def interpolate(
    grids: Float[Array, "images size size channels"],
    rows: Float[Array, "images points"],
    columns: Float[Array, "images points"],
) -> Float[Array, "images points channels"]:
    """Bilinear samples of each image's grid at coordinates in [-1, 1], by what suits the device."""
    return jnp.asarray(
        jax.lax.platform_dependent(
            grids, rows, columns, tpu=interpolate_by_products, default=_interpolate_by_gathers
        )
    )


def _interpolate_by_gathers(grids: Array, rows: Array, columns: Array) -> Array:
    """From the four values around each point."""
    images, size, _, channels = grids.shape
    (row, row_fraction), (column, column_fraction) = grid_cell(rows, size), grid_cell(columns, size)
    values = grids.reshape(-1, channels)
    first = (jnp.arange(images)[:, None] * size + row) * size + column

    def between(start: Array) -> Array:
        left, right = (values.at[start + step].get(mode="promise_in_bounds") for step in (0, 1))
        return left + (right - left) * column_fraction[..., None]

    near, far = between(first), between(first + size)
    return near + (far - near) * row_fraction[..., None]


def interpolate_by_products(
    grids: Float[Array, "images size size channels"],
    rows: Float[Array, "images points"],
    columns: Float[Array, "images points"],
) -> Float[Array, "images points channels"]:
    """Bilinear samples by matrices of weights, for TPUs: they gather rows of a few channels one by one.

    A weight is max(0, 1 - |p - i|) for the position p and the grid's row, or column, i. A product sums the rows. The
    columns, whose weights are different for every point, are weighted and summed by a product with a fixed matrix.
    """
    images, size, _, channels = grids.shape
    exact = jax.lax.Precision.HIGHEST
    values = grids.reshape(images, size, -1)
    in_rows = jnp.einsum("npi,nij->npj", _weights(rows, size, np.arange(size)), values, precision=exact)
    weighted = in_rows * _weights(columns, size, np.repeat(np.arange(size), channels))
    channel_sums = np.tile(np.eye(channels, dtype=np.float32), (size, 1))
    return jnp.einsum("npj,jc->npc", weighted, channel_sums, precision=exact)


def _weights(
    coordinate: Float[Array, "images points"], size: int, places: Int[np.ndarray, "places"]
) -> Float[Array, "images points places"]:
    """Weight of some of the grid's rows, or columns, for each coordinate."""
    distance = _position(coordinate, size)[..., None] - places.astype(np.float32)[None, None]
    return jnp.maximum(0.0, 1.0 - jnp.abs(distance))


def _position(coordinate: Float[Array, "*points"], size: int) -> Float[Array, "*points"]:
    return (jnp.clip(coordinate, -1.0, 1.0) + 1.0) * (0.5 * (size - 1))
