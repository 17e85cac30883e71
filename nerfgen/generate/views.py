"""Rendering a trained model: any code, any camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from nerfgen.field import FieldConfig, Model
from nerfgen.geometry import optical_axis, pixel_centers, pixel_rays
from nerfgen.parallel import Progress, silent
from nerfgen.scene import see
from nerfgen.volume import widened

# Samples a ray and rays at a time: their product bounds the memory, whatever the size of the picture.
_RAYS = 4096
_FINER = 2


@dataclass(frozen=True)
class Views:
    """Rendered pictures.

    Attributes:
        rgb: with background, uint8.
        foreground: premultiplied by opacity, in [0, 1].
        opacity: accumulated, in [0, 1].
        depth: expected depth along the optical axis, world units; 0 where opacity is below 0.5.
        normals: unit normals of the surface in the world, towards the camera, 0 where there is no depth; None where
            they were not asked for.
    """

    rgb: UInt8[np.ndarray, "views size size 3"]
    foreground: Float[np.ndarray, "views size size 3"]
    opacity: Float[np.ndarray, "views size size"]
    depth: Float[np.ndarray, "views size size"]
    normals: Float[np.ndarray, "views size size 3"] | None = None

    @property
    def rgba(self) -> UInt8[np.ndarray, "views size size 4"]:
        """Colour of the object alone, not multiplied by its opacity, and opacity times 255."""
        color = self.foreground / np.maximum(self.opacity, 1e-6)[..., None]
        return eight_bits(np.concatenate([color, self.opacity[..., None]], axis=-1))


def eight_bits(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Values in [0, 1] times 255, rounded; what lies outside is clipped."""
    return np.round(values.clip(0, 1) * 255).astype(np.uint8)


def render_views(
    model: Model,
    latents: Float[np.ndarray, "views latent"],
    intrinsics: Float[np.ndarray, "views 3 3"],
    cam_to_world: Float[np.ndarray, "views 4 4"],
    size: int,
    *,
    samples: int = 0,
    antialias: int = 1,
    with_normals: bool = False,
    progress: Progress = silent,
) -> Views:
    """Render each code from its camera as a ``size`` x ``size`` picture.

    Args:
        samples: a ray; 0 for twice as many as in training.
        antialias: rays a pixel along either side, which are averaged.
        with_normals: also find the surface's normals.
    """
    samples = samples or _FINER * int(model.preset["samples"])
    guided = model.preset["sampler"] == "guided"
    render = partial(_render_chunk, model.config, samples, guided)
    field = jax.tree.map(jnp.asarray, model.parameters)
    occupancy = jnp.asarray(model.occupancy)
    centers = pixel_centers(size).astype(np.float32)
    rays = min(_RAYS, len(centers))
    # The last chunk is filled up by repetition, so that one shape is compiled.
    chunks = [
        np.resize(np.arange(start, min(start + rays, len(centers))), rays)
        for start in range(0, len(centers), rays)
    ]
    count = len(latents)
    pictures = {"color": np.zeros((count, size * size, 3), np.float32)}
    pictures["foreground"] = np.zeros_like(pictures["color"])
    pictures["opacity"] = np.zeros((count, size * size), np.float32)
    pictures["depth"] = np.zeros((count, size * size), np.float32)
    for view in range(count):
        camera = (jnp.asarray(intrinsics[view], jnp.float32), jnp.asarray(cam_to_world[view], jnp.float32))
        code = jnp.asarray(latents[view], jnp.float32)
        pending = [render(field, occupancy, code, jnp.asarray(centers[chunk]), *camera) for chunk in chunks]
        for chunk, result in zip(chunks, pending, strict=True):
            for name, values in result.items():
                pictures[name][view, chunk] = np.asarray(values)
        progress(view + 1, count)
    shape = (count, size, size)
    opacity = pictures["opacity"].reshape(shape)
    return Views(
        rgb=np.round(pictures["color"].reshape(*shape, 3).clip(0, 1) * 255).astype(np.uint8),
        foreground=pictures["foreground"].reshape(*shape, 3),
        opacity=opacity,
        depth=np.where(opacity >= 0.5, pictures["depth"].reshape(shape), 0.0),
        normals=np.zeros((*shape, 3), np.float32) if with_normals else None,
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _render_chunk(
    config: FieldConfig,
    samples: int,
    guided: bool,
    field: dict[str, Any],
    occupancy: Array,
    code: Array,
    centers: Array,
    intrinsics: Array,
    cam_to_world: Array,
) -> dict[str, Array]:
    origins, directions = pixel_rays(centers, intrinsics, cam_to_world)
    rays, background = see(
        config,
        field,
        code[None],
        origins[None],
        directions[None],
        samples=samples,
        occupancy=widened(occupancy) if guided else None,
    )
    color = rays.color + (1 - rays.opacity[..., None]) * background
    depth = rays.distance * (directions @ optical_axis(cam_to_world))
    return {"color": color[0], "foreground": rays.color[0], "opacity": rays.opacity[0], "depth": depth[0]}
