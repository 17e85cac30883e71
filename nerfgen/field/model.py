"""The generative model as one module: foreground and background fields of a latent code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nerfgen.field.mlp import BackgroundField, ConcatenatedField, softplus_density
from nerfgen.field.planes import PlanesField


@dataclass(frozen=True)
class FieldConfig:
    """Sizes of the networks.

    Attributes:
        kind: ``mlp`` is the published network, ``planes`` the fast one.
        latent_size: D, length of a code.
        width, depth: hidden layers of the foreground network.
        frequencies: octaves of the positional encoding (``mlp``).
        plane_size, plane_channels: feature planes (``planes``).
        mirror, odd_channels: symmetry of the object (``planes``), see :class:`PlanesField`.
        background_width, background_depth: hidden layers of the background network.
        density_scale: density per world unit of a raw output around 1.5.
        bounds: half edges (x, y, z) of the box about the origin that holds the object, world units. The networks
            see points as shares of it, so that a tight box gives finer planes.
    """

    kind: Literal["mlp", "planes"]
    latent_size: int
    width: int
    depth: int
    background_width: int
    background_depth: int
    density_scale: float
    bounds: tuple[float, float, float]
    frequencies: int = 10
    plane_size: int = 32
    plane_channels: int = 8
    mirror: bool = False
    odd_channels: int = 0


class GenerativeField(nn.Module):
    """density(x | z), color(x | z) and background(d | z), for a batch of images with a code each.

    Attributes:
        precision: of the factors of matrix products, ``float32`` or ``bfloat16``; all else is float32.
    """

    config: FieldConfig
    precision: str = "float32"

    def setup(self) -> None:
        config = self.config
        self.foreground_network: Any
        if config.kind == "planes":
            self.foreground_network = PlanesField(
                config.plane_size,
                config.plane_channels,
                config.width,
                config.depth,
                self.precision,
                config.mirror,
                config.odd_channels,
                name="foreground",
            )
        else:
            self.foreground_network = ConcatenatedField(
                config.width, config.depth, config.frequencies, self.precision, name="foreground"
            )
        self.background_network = BackgroundField(
            config.background_width, config.background_depth, precision=self.precision, name="background"
        )

    def condition(self, latents: Float[Array, "images latent"]) -> Any:
        """All that depends on the code alone, computed once per image."""
        return self.foreground_network.condition(latents)

    def foreground(
        self, condition: Any, points: Float[Array, "images points 3"]
    ) -> tuple[Float[Array, "images points"], Float[Array, "images points 3"]]:
        """Density per world unit and colour in [0, 1] at world points; density is 0 outside the bounds."""
        local = points / jnp.asarray(self.config.bounds)
        raw = self.foreground_network(condition, local)
        inside = jnp.all(jnp.abs(local) <= 1.0, axis=-1)
        density = jnp.where(inside, softplus_density(raw[..., 0], self.config.density_scale), 0.0)
        return density, jax.nn.sigmoid(raw[..., 1:])

    def background(
        self, latents: Float[Array, "images latent"], directions: Float[Array, "images rays 3"]
    ) -> Float[Array, "images rays 3"]:
        """Colour in [0, 1] of what lies behind the object, by unit viewing direction."""
        return self.background_network(latents, directions)

    def __call__(
        self,
        latents: Float[Array, "images latent"],
        points: Float[Array, "images points 3"],
        directions: Float[Array, "images rays 3"],
    ) -> Any:
        """All of the above, for initialisation."""
        return self.foreground(self.condition(latents), points), self.background(latents, directions)
