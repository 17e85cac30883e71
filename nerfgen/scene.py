"""What rays see of objects: the generative field, volume-rendered. Joins the rooms ``field`` and ``volume``."""

from __future__ import annotations

from typing import Any, cast

import jax
from jaxtyping import Array, Float

from nerfgen.field import FieldConfig, GenerativeField
from nerfgen.volume import Foreground, RayColors, render_rays


def foreground_of(
    config: FieldConfig,
    parameters: dict[str, Any],
    latents: Float[Array, "images latent"],
    *,
    precision: str = "float32",
    rematerialise: bool = False,
) -> Foreground:
    """Density and colour at points, for a batch of images with a code each; what hangs on the codes is done once.

    Args:
        precision: of the factors of matrix products, ``float32`` or ``bfloat16``.
        rematerialise: compute the network's layers once more for the gradient in place of keeping them.
    """
    condition = condition_of(config, parameters, latents, precision=precision)
    foreground = conditioned(config, parameters, condition, precision=precision)
    return cast(Foreground, jax.checkpoint(foreground) if rematerialise else foreground)


def condition_of(
    config: FieldConfig,
    parameters: dict[str, Any],
    latents: Float[Array, "images latent"],
    *,
    precision: str = "float32",
) -> Any:
    """A tree of arrays: all of the foreground that hangs on the codes alone."""
    return GenerativeField(config, precision).apply({"params": parameters}, latents, method="condition")


def conditioned(
    config: FieldConfig, parameters: dict[str, Any], condition: Any, *, precision: str = "float32"
) -> Foreground:
    """Density and colour at points, from what :func:`condition_of` gave."""
    network = GenerativeField(config, precision)

    def foreground(points: Array) -> Any:
        return network.apply({"params": parameters}, condition, points, method="foreground")

    return foreground


def background_of(
    config: FieldConfig,
    parameters: dict[str, Any],
    latents: Float[Array, "images latent"],
    directions: Float[Array, "images rays 3"],
    *,
    precision: str = "float32",
) -> Float[Array, "images rays 3"]:
    """Colour behind the object along rays of unit direction."""
    network = GenerativeField(config, precision)
    return cast(Array, network.apply({"params": parameters}, latents, directions, method="background"))


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
    precision: str = "float32",
    rematerialise: bool = False,
) -> tuple[RayColors, Float[Array, "images rays 3"]]:
    """Foreground and background colour of every ray, each under its image's code.

    Args:
        directions: unit vectors.
        occupancy: guides the samples; without it they are spread evenly.
        key: draws the samples at random within their intervals, one key for all or one an image; without it
            they lie at the middle.
        precision, rematerialise: see :func:`foreground_of`.
    """
    rays = render_rays(
        foreground_of(config, parameters, latents, precision=precision, rematerialise=rematerialise),
        origins,
        directions,
        half=config.bounds,
        count=samples,
        occupancy=occupancy,
        key=key,
    )
    return rays, background_of(config, parameters, latents, directions, precision=precision)
