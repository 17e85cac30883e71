"""The published networks: positional encoding, the foreground network and the background network.

Their dense layers have matrix products of a chosen precision.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Largest slope of a direction that the local features of a background distinguish: 45 degrees.
_STEEPEST = 1.0


class _RowsDense(nn.Dense):
    """A dense layer over one matrix of rows: XLA's gradient of a product over several axes is slow on CPUs."""

    def __call__(self, inputs: jax.Array) -> jax.Array:
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return rows.reshape(*inputs.shape[:-1], -1)


def dense(features: int, precision: str, **options: Any) -> nn.Dense:
    """A dense layer with float32 parameters, sums and results.

    Args:
        precision: of the factors. ``float32`` is exactly that on every device: the default precision of JAX would
            round them on TPUs and GPUs. ``bfloat16`` uses the matrix units of these; sums are float32.
    """
    if precision == "float32":
        return _RowsDense(features, precision=jax.lax.Precision.HIGHEST, **options)
    return _RowsDense(features, dot_general=_bfloat16_product, **options)


def _bfloat16_product(left: jax.Array, right: jax.Array, dimensions: Any, **_: object) -> jax.Array:
    return jax.lax.dot_general(
        left.astype(jnp.bfloat16), right.astype(jnp.bfloat16), dimensions, preferred_element_type=jnp.float32
    )


def positional_encoding(
    points: Float[Array, "*batch 3"], frequencies: int
) -> Float[Array, "*batch features"]:
    """gamma_L of NeRF: the point itself, then sin and cos of 2^l pi x for l < ``frequencies``.

    Features: 3 + 6 * ``frequencies``.
    """
    octaves = jnp.expand_dims(jnp.pi * 2.0 ** jnp.arange(frequencies), (*range(points.ndim - 1), -1))
    angles = (points[..., None, :] * octaves).reshape(*points.shape[:-1], -1)
    return jnp.concatenate([points, jnp.sin(angles), jnp.cos(angles)], axis=-1)


class ConcatenatedField(nn.Module):
    """MLP(concat(gamma(x), z)) with a skip that concatenates the same input again half-way.

    A layer on a concatenation is the sum of two layers, W [x; z] = W_x x + W_z z. The term W_z z is the same for all
    samples of an image, so :meth:`condition` computes it once per image.
    """

    width: int
    depth: int
    frequencies: int
    precision: str = "float32"

    def setup(self) -> None:
        self.skip = self.depth // 2
        self.point_layers = [
            dense(self.width, self.precision, name=f"point_{layer}")
            for layer in range(self.depth)
            if layer in (0, self.skip)
        ]
        self.latent_layers = [
            dense(self.width, self.precision, use_bias=False, name=f"latent_{layer}")
            for layer in range(self.depth)
            if layer in (0, self.skip)
        ]
        self.hidden_layers = [
            dense(self.width, self.precision, name=f"hidden_{layer}") for layer in range(1, self.depth)
        ]
        self.output_layer = dense(4, self.precision, name="output")

    def condition(self, latents: Float[Array, "images latent"]) -> list[Float[Array, "images width"]]:
        """The term W_z z of the two layers that the latent code enters."""
        return [layer(latents) for layer in self.latent_layers]

    def __call__(
        self, latent_terms: list[Float[Array, "images width"]], points: Float[Array, "images points 3"]
    ) -> Float[Array, "images points 4"]:
        """Raw density and raw colour of points, with their image's latent code."""
        encoded = positional_encoding(points, self.frequencies)
        inputs = [
            point_layer(encoded) + latent_term[:, None]
            for point_layer, latent_term in zip(self.point_layers, latent_terms, strict=True)
        ]
        hidden = jax.nn.relu(inputs[0])
        for layer, hidden_layer in enumerate(self.hidden_layers, start=1):
            hidden = hidden_layer(hidden)
            if layer == self.skip:
                hidden = hidden + inputs[1]
            hidden = jax.nn.relu(hidden)
        return self.output_layer(hidden)


class BackgroundField(nn.Module):
    """g(d | z): colour of a ray's background from its direction and the latent code, in [0, 1].

    Attributes:
        cells, channels: a latent code brings a grid of ``cells`` x ``cells`` features, sampled bilinearly at the slopes
            (d_x / d_z, d_y / d_z) up to ``_STEEPEST``: what is behind the object has little in common between images.
            0 cells for none.
    """

    width: int
    depth: int
    frequencies: int = 2
    precision: str = "float32"
    cells: int = 0
    channels: int = 0

    @nn.compact
    def __call__(
        self,
        latents: Float[Array, "images latent"],
        local: Float[Array, "images numbers"],
        directions: Float[Array, "images rays 3"],
    ) -> Float[Array, "images rays 3"]:
        # The first layer on concat(direction, z), split as in ConcatenatedField.
        hidden = dense(self.width, self.precision, name="direction_0")(
            positional_encoding(directions, self.frequencies)
        )
        hidden = hidden + dense(self.width, self.precision, use_bias=False, name="latent_0")(latents)[:, None]
        if self.cells:
            features = sample_background(local.reshape(-1, self.cells, self.cells, self.channels), directions)
            hidden = hidden + dense(self.width, self.precision, use_bias=False, name="local_0")(features)
        hidden = jax.nn.relu(hidden)
        for layer in range(1, self.depth):
            hidden = jax.nn.relu(dense(self.width, self.precision, name=f"hidden_{layer}")(hidden))
        return jax.nn.sigmoid(dense(3, self.precision, name="output")(hidden))


def sample_background(
    grids: Float[Array, "images cells cells channels"], directions: Float[Array, "images rays 3"]
) -> Float[Array, "images rays channels"]:
    """Bilinear samples of grids over the slopes of directions, from -``_STEEPEST`` to ``_STEEPEST``."""
    images, cells, _, channels = grids.shape
    ahead = jnp.maximum(jnp.abs(directions[..., 2:]), 1e-6)
    cell, fraction = grid_cell(directions[..., :2] / ahead / _STEEPEST, cells)
    values = grids.reshape(-1, channels)
    first = (jnp.arange(images)[:, None] * cells + cell[..., 0]) * cells + cell[..., 1]

    def row(start: Array) -> Array:
        left, right = (values.at[start + step].get(mode="promise_in_bounds") for step in (0, 1))
        return left + (right - left) * fraction[..., 1:]

    near, far = row(first), row(first + cells)
    return near + (far - near) * fraction[..., :1]


def grid_cell(
    coordinate: Float[Array, "*points"], size: int
) -> tuple[Int[Array, "*points"], Float[Array, "*points"]]:
    """The cell, of ``size`` - 1 along an axis, that holds a coordinate in [-1, 1], and the position within it.

    The first and the last of the ``size`` values lie at -1 and 1; coordinates beyond them are clipped.
    """
    position = (jnp.clip(coordinate, -1.0, 1.0) + 1.0) * (0.5 * (size - 1))
    cell = jnp.clip(jnp.floor(position), 0, size - 2)
    return cell.astype(jnp.int32), position - cell


def softplus_density(raw: Float[Array, "*batch"], scale: float) -> Float[Array, "*batch"]:
    """Density per world unit; the shift makes space nearly empty initially."""
    return scale * jax.nn.softplus(raw - 1.5)
