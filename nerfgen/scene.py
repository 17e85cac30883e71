"""What rays see of objects: the generative field, volume-rendered. Joins the rooms ``field`` and ``volume``."""

from __future__ import annotations

from typing import Any, cast

from jaxtyping import Array, Float

from nerfgen.field import FieldConfig, GenerativeField
from nerfgen.volume import Foreground, RayColors, render_rays


def foreground_of(
    config: FieldConfig, parameters: dict[str, Any], latents: Float[Array, "images latent"]
) -> Foreground:
    """Density and colour at points, for a batch of images with a code each; what hangs on the codes is done once."""
    network, variables = GenerativeField(config), {"params": parameters}
    condition = network.apply(variables, latents, method="condition")
    return lambda points: cast(Any, network.apply(variables, condition, points, method="foreground"))


def see(
    config: FieldConfig,
    parameters: dict[str, Any],
    latents: Float[Array, "images latent"],
    origins: Float[Array, "images rays 3"],
    directions: Float[Array, "images rays 3"],
    *,
    samples: int,
    occupancy: Float[Array, "grid grid grid"] | None = None,
    key: Array | None = None,
) -> tuple[RayColors, Float[Array, "images rays 3"]]:
    """Foreground and background colour of every ray, each under its image's code.

    Args:
        directions: unit vectors.
        occupancy: guides the samples; without it they are spread evenly.
        key: draws the samples at random within their intervals; without it they lie at the middle.
    """
    rays = render_rays(
        foreground_of(config, parameters, latents),
        origins,
        directions,
        half=config.bounds,
        count=samples,
        occupancy=occupancy,
        key=key,
    )
    background = GenerativeField(config).apply(
        {"params": parameters}, latents, directions, method="background"
    )
    return rays, cast(Array, background)
