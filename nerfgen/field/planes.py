"""A fast foreground field: three feature planes, linear in the code, and a small modulated network."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nerfgen.field.precision import dense

# The two point coordinates that each plane spans.
PLANE_AXES = ((0, 1), (1, 2), (2, 0))


class PlanesField(nn.Module):
    """Planes P(z) = B0 + z B, sampled bilinearly and summed, then an MLP whose layers z scales and shifts.

    The modulation is FiLM (Perez et al. 2018): h -> (1 + a(z)) h + b(z). Points are expected in the
    cube [-1, 1]^3; outside of it the planes continue with their edge.

    Attributes:
        mirror: the planes hold one half of the object, x and -x see the same features. What one photograph shows of
            one side is so known of the other.
        odd_channels: last channels of a mirrored object's features, which are multiplied by x: what differs
            between the sides, such as the light.
    """

    plane_size: int
    channels: int
    width: int
    depth: int
    precision: str = "float32"
    mirror: bool = False
    odd_channels: int = 0

    def setup(self) -> None:
        self.planes = dense(
            3 * self.plane_size**2 * self.channels,
            self.precision,
            kernel_init=nn.initializers.normal(0.1),
            bias_init=nn.initializers.normal(0.1),
        )
        self.modulation = [dense(2 * self.width, self.precision) for _ in range(self.depth)]
        self.hidden = [dense(self.width, self.precision) for _ in range(self.depth)]
        self.outputs = dense(4, self.precision)

    def condition(self, latents: Float[Array, "images latent"]) -> dict[str, Any]:
        """Planes and modulation (scale, shift) of every image's code."""
        shape = (-1, 3, self.plane_size, self.plane_size, self.channels)
        return {
            "planes": self.planes(latents).reshape(shape),
            "modulation": [jnp.split(layer(latents), 2, axis=-1) for layer in self.modulation],
        }

    def __call__(
        self, condition: dict[str, Any], points: Float[Array, "images points 3"]
    ) -> Float[Array, "images points 4"]:
        """Raw density and raw colour of points, each under its image's code."""
        side = points[..., :1]
        if self.mirror:
            points = jnp.concatenate([2 * jnp.abs(side) - 1, points[..., 1:]], axis=-1)
        hidden = sample_planes(condition["planes"], points)
        if self.mirror:
            odd = jnp.arange(self.channels) >= self.channels - self.odd_channels
            hidden = hidden * jnp.where(odd, side, 1.0)
        for layer, (scale, shift) in zip(self.hidden, condition["modulation"], strict=True):
            hidden = jax.nn.relu(layer(hidden) * (1 + scale[:, None]) + shift[:, None])
        return self.outputs(hidden)


def roughness(
    planes: dict[str, Array], latents: Float[Array, "images latent"], size: int
) -> Float[Array, ""]:
    """Mean squared difference between neighbours in the planes of objects with such codes.

    That is mean |D B0|^2 + sum_d mean(z_d^2) |D B_d|^2, the numbers of a code being taken as independent and of mean 0.
    It is the same whatever the scale of the codes, and does not pull at them.

    Args:
        planes: ``kernel`` B and ``bias`` B0 of the layer.
        size: edge of a plane.
    """

    def of_each(stacked: Array) -> Array:
        stacked = stacked.reshape(len(stacked), 3, size, size, -1)
        down = stacked[:, :, 1:] - stacked[:, :, :-1]
        right = stacked[:, :, :, 1:] - stacked[:, :, :, :-1]
        return 0.5 * (jnp.mean(down**2, axis=(1, 2, 3, 4)) + jnp.mean(right**2, axis=(1, 2, 3, 4)))

    shares = jax.lax.stop_gradient(jnp.mean(latents**2, axis=0))
    return of_each(planes["bias"][None])[0] + jnp.vdot(shares, of_each(planes["kernel"]))


@jax.custom_vjp
def sample_planes(
    planes: Float[Array, "images 3 size size channels"], points: Float[Array, "images points 3"]
) -> Float[Array, "images points channels"]:
    """Sum of the bilinear samples of three planes at points in [-1, 1]^3; a plane's corners lie at -1 and 1.

    The gradient is written by hand: differentiating the twelve gathers one by one, XLA reads and writes
    the planes' gradient many times over.
    """
    return _sampled(planes, points)[0]


_Saved = tuple[list[Array], Array, tuple[int, ...]]


def _sampled(planes: Array, points: Array) -> tuple[Array, _Saved]:
    rows = planes.reshape(-1, planes.shape[-1])
    places, weights = _corners(points, planes.shape)
    found = [rows.at[place].get(mode="promise_in_bounds") for place in places]
    total = sum(value * weight[..., None] for value, weight in zip(found, weights, strict=True))
    return jnp.asarray(total), (found, points, planes.shape)


def _pulled_back(saved: _Saved, gradient: Array) -> tuple[Array, Array]:
    found, points, shape = saved
    size, channels = shape[-2:]
    rows = jnp.zeros((shape[0] * 3 * size * size, channels), gradient.dtype)
    for place, weight in zip(*_corners(points, shape), strict=True):
        rows = rows.at[place].add(gradient * weight[..., None], mode="promise_in_bounds")
    slopes = [jnp.zeros(points.shape[:-1], points.dtype)] * 3
    for plane, (row_axis, column_axis) in enumerate(PLANE_AXES):
        _, row_share = _cell(points[..., row_axis], size)
        _, column_share = _cell(points[..., column_axis], size)
        low, right, below, far = (
            jnp.sum(value * gradient, axis=-1) for value in found[4 * plane : 4 * plane + 4]
        )
        slopes[row_axis] += (below - low) * (1 - column_share) + (far - right) * column_share
        slopes[column_axis] += (right - low) * (1 - row_share) + (far - below) * row_share
    # Where the coordinate is clipped, moving the point changes nothing.
    moves = jnp.stack(slopes, axis=-1) * (0.5 * (size - 1)) * (jnp.abs(points) < 1.0)
    return rows.reshape(shape), moves


sample_planes.defvjp(_sampled, _pulled_back)


def _corners(
    points: Float[Array, "images points 3"], shape: tuple[int, ...]
) -> tuple[list[Int[Array, "images points"]], list[Float[Array, "images points"]]]:
    """Of the four neighbours in each of the three planes: rows of the flattened planes, and weights."""
    images, _, size, _, _ = shape
    places, weights = [], []
    for plane, (row_axis, column_axis) in enumerate(PLANE_AXES):
        row, row_share = _cell(points[..., row_axis], size)
        column, column_share = _cell(points[..., column_axis], size)
        first = ((jnp.arange(images) * 3 + plane)[:, None] * size + row) * size + column
        for down, row_weight in ((0, 1 - row_share), (size, row_share)):
            for right, column_weight in ((0, 1 - column_share), (1, column_share)):
                places.append(first + down + right)
                weights.append(row_weight * column_weight)
    return places, weights


def _cell(coordinate: Array, size: int) -> tuple[Array, Array]:
    """Which of the ``size`` - 1 cells of an axis holds a coordinate in [-1, 1], and how far along it lies."""
    position = (jnp.clip(coordinate, -1.0, 1.0) + 1.0) * (0.5 * (size - 1))
    cell = jnp.clip(jnp.floor(position), 0, size - 2)
    return cell.astype(jnp.int32), position - cell
