"""A fast foreground field: three feature planes, linear in the code, and a small modulated network."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# The two point coordinates that each plane spans.
PLANE_AXES = ((0, 1), (1, 2), (2, 0))


class PlanesField(nn.Module):
    """Planes P(z) = B0 + z B, sampled bilinearly and summed, then an MLP whose layers z scales and shifts.

    The modulation is FiLM (Perez et al. 2018): h -> (1 + a(z)) h + b(z). Points are expected in the
    cube [-1, 1]^3; outside of it the planes continue with their edge.
    """

    plane_size: int
    channels: int
    width: int
    depth: int

    def setup(self) -> None:
        self.planes = nn.Dense(
            3 * self.plane_size**2 * self.channels,
            kernel_init=nn.initializers.normal(0.1),
            bias_init=nn.initializers.normal(0.1),
        )
        self.modulation = [nn.Dense(2 * self.width) for _ in range(self.depth)]
        self.hidden = [nn.Dense(self.width) for _ in range(self.depth)]
        self.outputs = nn.Dense(4)

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
        hidden = jnp.zeros(())
        for plane, (row_axis, column_axis) in enumerate(PLANE_AXES):
            hidden = hidden + sample_plane(
                condition["planes"][:, plane], points[..., row_axis], points[..., column_axis]
            )
        for layer, (scale, shift) in zip(self.hidden, condition["modulation"], strict=True):
            hidden = jax.nn.relu(layer(hidden) * (1 + scale[:, None]) + shift[:, None])
        return self.outputs(hidden)


def sample_plane(
    plane: Float[Array, "images size size channels"],
    row: Float[Array, "images points"],
    column: Float[Array, "images points"],
) -> Float[Array, "images points channels"]:
    """Bilinear samples at coordinates in [-1, 1]; the corners of the plane lie at -1 and 1.

    The four neighbours of every cell are laid side by side first, so that a sample gathers (and its
    gradient scatters) one long row in place of four short ones.
    """
    images, size, _, channels = plane.shape
    cells = jnp.concatenate(
        [plane[:, :-1, :-1], plane[:, :-1, 1:], plane[:, 1:, :-1], plane[:, 1:, 1:]], axis=-1
    )
    cells = cells.reshape(images, (size - 1) ** 2, 4 * channels)
    row_cell, row_share = _cell(row, size)
    column_cell, column_share = _cell(column, size)
    found = jax.vmap(lambda table, index: table[index])(cells, row_cell * (size - 1) + column_cell)
    weights = jnp.stack(
        [
            (1 - row_share) * (1 - column_share),
            (1 - row_share) * column_share,
            row_share * (1 - column_share),
            row_share * column_share,
        ],
        axis=-1,
    )
    return jnp.sum(found.reshape(*found.shape[:2], 4, channels) * weights[..., None], axis=-2)


def _cell(coordinate: Array, size: int) -> tuple[Array, Array]:
    """Which of the ``size`` - 1 cells of an axis holds a coordinate in [-1, 1], and how far along it lies."""
    position = (jnp.clip(coordinate, -1.0, 1.0) + 1.0) * (0.5 * (size - 1))
    cell = jnp.clip(jnp.floor(position), 0, size - 2)
    return cell.astype(jnp.int32), position - cell
