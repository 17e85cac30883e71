"""Rendering a trained model: any code, any camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.field import Model
from nerfgen.generate.rays import ObjectRays, RayValues
from nerfgen.geometry import optical_axis, pixel_centers, pixel_rays
from nerfgen.parallel import Progress, silent

# Samples of a ray that meets the object. Planes are smooth: 16 are about 50 dB from the picture of very many. The
# published field is rough along the ray: 32 are nearer to that picture than 128 even ones.
_SAMPLES = {"planes": 16, "mlp": 32}


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

    Views of one code that follow each other share what is computed once for an object.

    Args:
        samples: of a ray that meets the object; 0 for 16, or 32 with the published field.
        antialias: rays a pixel along either side, which are averaged.
        with_normals: also find the surface's normals.
    """
    count, samples = len(latents), samples or _SAMPLES[model.config.kind]
    centers = pixel_centers(size * antialias)
    fine = np.asarray(intrinsics) * np.array([[antialias], [antialias], [1.0]])
    pictures: list[RayValues] = []
    for view in range(count):
        if not view or not np.array_equal(latents[view], latents[view - 1]):
            rays = ObjectRays(model, latents[view])
        origins, directions = pixel_rays(centers, fine[view], cam_to_world[view])
        seen = rays.look(origins, directions, samples=samples, with_normals=with_normals)
        depth = seen.distance * (directions @ optical_axis(cam_to_world[view])).astype(np.float32)
        pictures.append(_averaged(seen._replace(distance=depth), size, antialias))
        progress(view + 1, count)
    color, foreground, opacity, depth, normals = (np.stack(values) for values in zip(*pictures, strict=True))
    return Views(
        rgb=eight_bits(color),
        foreground=foreground,
        opacity=opacity,
        depth=np.where(opacity >= 0.5, depth, np.float32(0)),
        normals=np.where(opacity[..., None] >= 0.5, normals, np.float32(0)) if with_normals else None,
    )


def surface_depths(
    model: Model,
    latents: Float[np.ndarray, "views latent"],
    pixels: Float[np.ndarray, "views points 2"],
    intrinsics: Float[np.ndarray, "views 3 3"],
    cam_to_world: Float[np.ndarray, "views 4 4"],
) -> Float[np.ndarray, "views points"]:
    """Expected depth along the optical axis, world units, of what each code shows at pixels of its camera, by the rays
    through them; NaN where opacity is below 0.5 or the pixel is NaN."""
    depths = np.full(pixels.shape[:2], np.nan)
    for view, latent in enumerate(latents):
        there = np.flatnonzero(np.isfinite(pixels[view]).all(-1))
        origins, directions = pixel_rays(pixels[view, there], intrinsics[view], cam_to_world[view])
        seen = ObjectRays(model, latent).look(origins, directions, samples=_SAMPLES[model.config.kind])
        depth = seen.distance * (directions @ optical_axis(cam_to_world[view]))
        depths[view, there] = np.where(seen.opacity >= 0.5, depth, np.nan)
    return depths


def _averaged(seen: RayValues, size: int, antialias: int) -> RayValues:
    """A raster of so many rays a pixel as pictures of ``size`` x ``size`` pixels: distance and normals are those of the
    rays that met something."""

    def blocks(values: np.ndarray) -> np.ndarray:
        shape = (size, antialias, size, antialias, *values.shape[1:])
        return values.reshape(shape).mean(axis=(1, 3))

    opacity = blocks(seen.opacity)
    normals = blocks(seen.normals)
    return RayValues(
        color=blocks(seen.color),
        foreground=blocks(seen.foreground),
        opacity=opacity,
        distance=blocks(seen.opacity * seen.distance) / np.maximum(opacity, 1e-6),
        normals=normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9),
    )
