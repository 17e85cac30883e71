"""The generative model as one module: foreground and background fields of a latent code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from nerfgen.field.mlp import BackgroundField, ConcatenatedField, softplus_density
from nerfgen.field.planes import PlanesField


@dataclass(frozen=True)
class FieldConfig:
    """Sizes of the networks.

    Attributes:
        kind: ``mlp`` is the published network, ``planes`` the fast one.
        latent_size: D, the number of global latent dimensions.
        width, depth: hidden layers of the foreground network.
        frequencies: octaves of the positional encoding (``mlp``).
        plane_size, plane_channels: feature planes (``planes``).
        mirror, odd_channels: symmetry of the object (``planes``), see :class:`PlanesField`.
        local_size, local_channels: grids of local latent features (``planes``), see :class:`PlanesField`; size 0 for
            none.
        background_cells, background_channels: local latent features of the background, see
            :class:`BackgroundField`; 0 cells for none.
        background_width, background_depth: hidden layers of the background network.
        density_scale: density per world unit of a raw output around 1.5.
        bounds: half extents (x, y, z) of the box about the origin that holds the object, world units. Points are
            normalised by it, so that a tight box gives finer planes.
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
    local_size: int = 0
    local_channels: int = 0
    background_cells: int = 0
    background_channels: int = 0

    @property
    def code_parts(self) -> tuple[int, int, int]:
        """Numbers of a latent code by what they act on: all of the object and the background, parts of the object,
        parts of the background."""
        local = 3 * self.local_size**2 * self.local_channels if self.kind == "planes" else 0
        return self.latent_size, local, self.background_cells**2 * self.background_channels

    @property
    def code_size(self) -> int:
        """Length of a latent code."""
        return sum(self.code_parts)


class GenerativeField(nn.Module):
    """density(x | z), color(x | z) and background(d | z), for a batch of images with a latent code each.

    Attributes:
        precision: of the factors of matrix products, ``float32`` or ``bfloat16``; everything else is float32.
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
                config.local_size,
                config.local_channels,
                name="foreground",
            )
        else:
            self.foreground_network = ConcatenatedField(
                config.width, config.depth, config.frequencies, self.precision, name="foreground"
            )
        self.background_network = BackgroundField(
            config.background_width,
            config.background_depth,
            precision=self.precision,
            cells=config.background_cells,
            channels=config.background_channels,
            name="background",
        )

    def condition(self, latents: Float[Array, "images latent"]) -> PyTree:
        """What depends on the latent code alone, computed once per image."""
        whole, local, _ = self._parts(latents)
        if self.config.kind == "planes":
            return self.foreground_network.condition(whole, local)
        return self.foreground_network.condition(whole)

    def foreground(
        self, condition: PyTree, points: Float[Array, "images points 3"]
    ) -> tuple[Float[Array, "images points"], Float[Array, "images points 3"]]:
        """Density per world unit and colour in [0, 1] at world points; density is 0 outside the bounds."""
        local = points / jnp.asarray(self.config.bounds)[None, None]
        raw = self.foreground_network(condition, local)
        inside = jnp.all(jnp.abs(local) <= 1.0, axis=-1)
        density = jnp.where(inside, softplus_density(raw[..., 0], self.config.density_scale), 0.0)
        return density, jax.nn.sigmoid(raw[..., 1:])

    def background(
        self, latents: Float[Array, "images latent"], directions: Float[Array, "images rays 3"]
    ) -> Float[Array, "images rays 3"]:
        """Colour in [0, 1] behind the object, by unit viewing direction."""
        whole, _, local = self._parts(latents)
        return self.background_network(whole, local, directions)

    def _parts(self, latents: Float[Array, "images code"]) -> list[Float[Array, "images _"]]:
        """The parts of latent codes, see :attr:`FieldConfig.code_parts`."""
        first, second, _ = self.config.code_parts
        return jnp.split(latents, [first, first + second], axis=-1)

    def __call__(
        self,
        latents: Float[Array, "images latent"],
        points: Float[Array, "images points 3"],
        directions: Float[Array, "images rays 3"],
    ) -> Any:
        """All of the above, for initialisation."""
        return self.foreground(self.condition(latents), points), self.background(latents, directions)


def parameter_shapes(config: FieldConfig) -> dict[str, PyTree]:
    """The tree of parameters of a field as shapes and dtypes, without arrays.

    Raises:
        ValueError: the sizes are impossible.
    """
    shapes = jax.eval_shape(
        lambda: GenerativeField(config).init(
            jax.random.key(0), jnp.zeros((1, config.code_size)), jnp.zeros((1, 1, 3)), jnp.zeros((1, 1, 3))
        )
    )
    return dict(shapes["params"])


# Layers whose kernels multiply the latent code: everything depends on it linearly.
_LATENT_LAYERS = ("planes", "modulation_", "latent_")


def tunable_parameters(parameters: dict[str, PyTree]) -> dict[str, PyTree]:
    """The tree without the kernels that multiply the latent code: for one latent code they only add to a bias."""
    kept: dict[str, PyTree] = {}
    for name, value in parameters.items():
        if not isinstance(value, dict):
            if not name.startswith(_LATENT_LAYERS):
                kept[name] = value
        elif not name.startswith(_LATENT_LAYERS):
            kept[name] = tunable_parameters(value)
        elif others := {other: array for other, array in value.items() if other != "kernel"}:
            kept[name] = others
    return kept


def add_parameters(parameters: dict[str, PyTree], delta: dict[str, PyTree]) -> dict[str, PyTree]:
    """The sum of a tree of arrays and another one that has some or all of its names."""

    def each(value: Any, change: Any) -> Any:
        return (
            add_parameters(value, change) if isinstance(value, dict) else value + change.astype(value.dtype)
        )

    return parameters | {name: each(parameters[name], change) for name, change in delta.items()}
