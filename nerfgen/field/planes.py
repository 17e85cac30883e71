"""The fast foreground network: three feature planes, linear in the latent code, and a small modulated network."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from nerfgen.field.interpolation import grid_cell, interpolate_by_products
from nerfgen.field.mlp import dense

# The two point coordinates that each plane spans.
PLANE_AXES = ((0, 1), (1, 2), (2, 0))


class PlanesField(nn.Module):
    """Planes P(z) = B0 + z B, sampled bilinearly and summed, then an MLP whose layers z scales and shifts.

    The modulation is FiLM (Perez et al. 2018): h -> (1 + a(z)) h + b(z). Points are expected in the
    cube [-1, 1]^3; outside of it the planes continue with their border values.

    Attributes:
        mirror: the planes hold one half of the object; x and -x have the same features. An image of one side then
            constrains the other.
        odd_channels: number of trailing channels that are multiplied by x in a mirrored object: they hold differences
            between the sides, such as the light.
        local_size, local_channels: a latent code brings a grid of features for each plane, which is mixed linearly to
            the plane's channels and upsampled bilinearly onto it: detail that the global code is too short for. Size
            0 for none.
    """

    plane_size: int
    channels: int
    width: int
    depth: int
    precision: str = "float32"
    mirror: bool = False
    odd_channels: int = 0
    local_size: int = 0
    local_channels: int = 0

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
        if self.local_size:
            self.latent_mixing = self.param(
                "latent_mixing", nn.initializers.normal(0.1), (3, self.local_channels, self.channels)
            )

    def condition(
        self, latents: Float[Array, "images latent"], local: Float[Array, "images numbers"] | None = None
    ) -> dict[str, PyTree]:
        """Planes and modulation (scale, shift) of every image.

        Args:
            local: local latent features, by plane, row, column and channel; None for none.
        """
        shape = (-1, 3, self.plane_size, self.plane_size, self.channels)
        planes = self.planes(latents).reshape(shape)
        if local is not None and self.local_size:
            grids = local.reshape(-1, 3, self.local_size, self.local_size, self.local_channels)
            planes = planes + self._upsampled(grids)
        return {
            "planes": planes,
            "modulation": [jnp.split(layer(latents), 2, axis=-1) for layer in self.modulation],
        }

    def _upsampled(
        self, grids: Float[Array, "images 3 cells cells features"]
    ) -> Float[Array, "images 3 size size channels"]:
        """Grids of local features, mixed to the planes' channels, at the planes' resolution."""
        weights = jnp.asarray(upsampling_weights(self.local_size, self.plane_size), grids.dtype)
        exact = jax.lax.Precision.HIGHEST
        mixed = jnp.einsum("npijf,pfc->npijc", grids, self.latent_mixing, precision=exact)
        rows = jnp.einsum("ai,npijc->npajc", weights, mixed, precision=exact)
        return jnp.einsum("bj,npajc->npabc", weights, rows, precision=exact)

    def __call__(
        self, condition: dict[str, PyTree], points: Float[Array, "images points 3"]
    ) -> Float[Array, "images points 4"]:
        """Raw density and raw colour of points, with their image's latent code."""
        side = points[..., :1]
        if self.mirror:
            points = jnp.concatenate([2 * jnp.abs(side) - 1, points[..., 1:]], axis=-1)
        hidden = sample_planes(condition["planes"], points)
        if self.mirror:
            odd = jnp.arange(self.channels)[None, None] >= self.channels - self.odd_channels
            hidden = hidden * jnp.where(odd, side, 1.0)
        for layer, (scale, shift) in zip(self.hidden, condition["modulation"], strict=True):
            hidden = jax.nn.relu(layer(hidden) * (1 + scale[:, None]) + shift[:, None])
        return self.outputs(hidden)


def upsampling_weights(cells: int, size: int) -> Float[np.ndarray, "size cells"]:
    """Weights of linear interpolation from ``cells`` values to ``size``; the first and the last coincide."""
    at = np.linspace(0, cells - 1, size)[:, None]
    return np.maximum(0.0, 1 - np.abs(at - np.arange(cells)))


def plane_smoothness(
    planes: dict[str, Array], latents: Float[Array, "images latent"], size: int
) -> Float[Array, ""]:
    """Mean squared difference between neighbouring cells of the planes of objects with such latent codes.

    That is mean |D B0|^2 + sum_d mean(z_d^2) |D B_d|^2, with independent latent dimensions of mean 0. It does not
    depend on the scale of the latent codes, and has no gradient with respect to them.

    Args:
        planes: ``kernel`` B and ``bias`` B0 of the layer.
        size: cells along a side of a plane.
    """

    def differences(stacked: Array) -> Array:
        # Columns and channels stay one axis: few channels as the last one would waste most of a TPU's vectors.
        stacked = stacked.reshape(len(stacked), 3, size, -1)
        channels = stacked.shape[-1] // size
        down = stacked[:, :, 1:] - stacked[:, :, :-1]
        right = stacked[:, :, :, channels:] - stacked[:, :, :, :-channels]
        return 0.5 * (jnp.mean(down**2, axis=(1, 2, 3)) + jnp.mean(right**2, axis=(1, 2, 3)))

    variances = jax.lax.stop_gradient(jnp.mean(latents**2, axis=0))
    varying = jnp.vdot(variances, differences(planes["kernel"]), precision="highest")
    return differences(planes["bias"][None])[0] + varying


@jax.custom_vjp
def sample_planes(
    planes: Float[Array, "images 3 size size channels"], points: Float[Array, "images points 3"]
) -> Float[Array, "images points channels"]:
    """Sum of the bilinear samples of three planes at points in [-1, 1]^3; a plane's corners lie at -1 and 1.

    The gradient is written by hand: for twelve separate gathers, XLA would read and write the planes' gradient many
    times. TPUs, which gather slowly, interpolate by matrix products.
    """
    return _sample_forward(planes, points)[0]


# The values at the corners, the planes and the points.
_Saved = tuple[list[Array], Array, Array]


def _sample_forward(planes: Array, points: Array) -> tuple[Array, _Saved]:
    with jax.named_scope("sampling"):
        total, values = jax.lax.platform_dependent(
            planes, points, tpu=_sample_by_products, default=_sample_by_gathers
        )
    return total, (values, planes, points)


def _sample_backward(saved: _Saved, gradient: Array) -> tuple[Array, Array]:
    with jax.named_scope("sampling"):
        moves: tuple[Array, Array] = jax.lax.platform_dependent(
            *saved, gradient, tpu=_gradient_by_products, default=_gradient_by_gathers
        )
    return moves


sample_planes.defvjp(_sample_forward, _sample_backward)


def _sample_by_gathers(planes: Array, points: Array) -> tuple[Array, list[Array]]:
    """The samples, and the values at the corners."""
    rows = planes.reshape(-1, planes.shape[-1])
    rows_of_corners, weights = _corners(points, planes.shape)
    values = [rows.at[corner].get(mode="promise_in_bounds") for corner in rows_of_corners]
    total = sum(value * weight[..., None] for value, weight in zip(values, weights, strict=True))
    return jnp.asarray(total), values


def _gradient_by_gathers(
    values: list[Array], planes: Array, points: Array, gradient: Array
) -> tuple[Array, Array]:
    size, channels = planes.shape[-2:]
    rows = jnp.zeros((planes.size // channels, channels), gradient.dtype)
    for corner, weight in zip(*_corners(points, planes.shape), strict=True):
        rows = rows.at[corner].add(gradient * weight[..., None], mode="promise_in_bounds")
    slopes = [jnp.zeros(points.shape[:-1], points.dtype)] * 3
    for plane, (row_axis, column_axis) in enumerate(PLANE_AXES):
        _, row_fraction = grid_cell(points[..., row_axis], size)
        _, column_fraction = grid_cell(points[..., column_axis], size)
        low, right, below, far = (
            jnp.sum(value * gradient, axis=-1) for value in values[4 * plane : 4 * plane + 4]
        )
        slopes[row_axis] += (below - low) * (1 - column_fraction) + (far - right) * column_fraction
        slopes[column_axis] += (right - low) * (1 - row_fraction) + (far - below) * row_fraction
    # A clipped coordinate has no gradient.
    moves = jnp.stack(slopes, axis=-1) * (0.5 * (size - 1)) * (jnp.abs(points) < 1.0)
    return rows.reshape(planes.shape), moves


def _sample_by_products(planes: Array, points: Array) -> tuple[Array, list[Array]]:
    """The samples; the corners' values are zero, because the gradient does not need them."""
    unused = jnp.zeros((*points.shape[:-1], planes.shape[-1]), planes.dtype)
    return _products(planes, points), [unused] * (4 * len(PLANE_AXES))


def _gradient_by_products(
    values: list[Array], planes: Array, points: Array, gradient: Array
) -> tuple[Array, Array]:
    _, pull_back = jax.vjp(_products, planes, points)
    moves: tuple[Array, Array] = pull_back(gradient)
    return moves


def _products(planes: Array, points: Array) -> Array:
    samples = [
        interpolate_by_products(planes[:, plane], points[..., row], points[..., column])
        for plane, (row, column) in enumerate(PLANE_AXES)
    ]
    return jnp.asarray(sum(samples))


def _corners(
    points: Float[Array, "images points 3"], shape: tuple[int, ...]
) -> tuple[list[Int[Array, "images points"]], list[Float[Array, "images points"]]]:
    """The four neighbours in each of the three planes: rows of the flattened planes, and weights."""
    images, _, size, _, _ = shape
    rows_of_corners, weights = [], []
    for plane, (row_axis, column_axis) in enumerate(PLANE_AXES):
        row, row_fraction = grid_cell(points[..., row_axis], size)
        column, column_fraction = grid_cell(points[..., column_axis], size)
        first = ((jnp.arange(images) * 3 + plane)[:, None] * size + row) * size + column
        for down, row_weight in ((0, 1 - row_fraction), (size, row_fraction)):
            for right, column_weight in ((0, 1 - column_fraction), (1, column_fraction)):
                rows_of_corners.append(first + down + right)
                weights.append(row_weight * column_weight)
    return rows_of_corners, weights
