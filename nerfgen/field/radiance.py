"""The generative field, volume-rendered: from latent codes and rays to colours."""

from __future__ import annotations

from typing import Any, cast

import jax
from jaxtyping import Array, Float, PyTree

from nerfgen.field.generative import FieldConfig, GenerativeField
from nerfgen.volume import RadianceField, RayColors, volume_render


def radiance_field(
    config: FieldConfig,
    parameters: dict[str, PyTree],
    latents: Float[Array, "images latent"],
    *,
    precision: str = "float32",
    rematerialise: bool = False,
) -> RadianceField:
    """Density and colour at points, for a batch of images with a latent code each.

    What depends on the latent codes alone is computed once.

    Args:
        precision: of the factors of matrix products, ``float32`` or ``bfloat16``.
        rematerialise: recompute the activations for the gradient instead of keeping them.
    """
    condition = latent_condition(config, parameters, latents, precision=precision)
    foreground = conditioned_field(config, parameters, condition, precision=precision)
    return cast(RadianceField, jax.checkpoint(foreground) if rematerialise else foreground)


def latent_condition(
    config: FieldConfig,
    parameters: dict[str, PyTree],
    latents: Float[Array, "images latent"],
    *,
    precision: str = "float32",
) -> Any:
    """The part of the foreground that depends on the latent codes alone, as a tree of arrays."""
    return GenerativeField(config, precision).apply({"params": parameters}, latents, method="condition")


def conditioned_field(
    config: FieldConfig, parameters: dict[str, PyTree], condition: PyTree, *, precision: str = "float32"
) -> RadianceField:
    """Density and colour at points, from the result of :func:`latent_condition`."""
    network = GenerativeField(config, precision)

    def foreground(points: Array) -> Any:
        return network.apply({"params": parameters}, condition, points, method="foreground")

    return foreground


def background_color(
    config: FieldConfig,
    parameters: dict[str, PyTree],
    latents: Float[Array, "images latent"],
    directions: Float[Array, "images rays 3"],
    *,
    precision: str = "float32",
) -> Float[Array, "images rays 3"]:
    """Colour behind the object along rays of unit direction."""
    network = GenerativeField(config, precision)
    return cast(Array, network.apply({"params": parameters}, latents, directions, method="background"))


def render_rays(
    config: FieldConfig,
    parameters: dict[str, PyTree],
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
    """Foreground and background colour of every ray, with its image's latent code.

    Args:
        directions: unit vectors.
        occupancy: guides sample placement; None for stratified samples.
        key: random positions of the samples within their intervals, one key for all images or one per image; None for
            the middle.
        precision, rematerialise: see :func:`radiance_field`.
    """
    rays = volume_render(
        radiance_field(config, parameters, latents, precision=precision, rematerialise=rematerialise),
        origins,
        directions,
        half=config.bounds,
        count=samples,
        occupancy=occupancy,
        key=key,
    )
    return rays, background_color(config, parameters, latents, directions, precision=precision)
