"""Views of a trained model: any latent code from any camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.errors import InputError
from nerfgen.geometry import optical_axis, pixel_centers, pixel_rays
from nerfgen.memory import require_memory
from nerfgen.model import Model
from nerfgen.parallel import Progress, silent
from nerfgen.render.object_renderer import ObjectRenderer, RayValues

# Samples of a ray that meets the object. Planes are smooth: 16 come within about 50 dB of the limit of many samples.
# The published network is rough along the ray: 32 are nearer to that limit than 128 evenly spaced ones.
_SAMPLES = {"planes": 16, "mlp": 32}
# Camera and arrays of a view, and the rays that are traced for it.
_BYTES_PER_VIEW, _BYTES_PER_PIXEL, _BYTES_PER_RAY = 200, 80, 150


@dataclass(frozen=True)
class Views:
    """Rendered views; of several objects with an axis of objects first.

    Attributes:
        rgb: with background, uint8.
        foreground: colour premultiplied by opacity, in [0, 1].
        opacity: accumulated, in [0, 1].
        depth: expected depth along the optical axis, world units; 0 where opacity is below 0.5.
        normals: unit normals of the surface in the world, towards the camera; 0 where there is no depth. None if they
            were not requested.
    """

    rgb: UInt8[np.ndarray, "*views size size 3"]
    foreground: Float[np.ndarray, "*views size size 3"]
    opacity: Float[np.ndarray, "*views size size"]
    depth: Float[np.ndarray, "*views size size"]
    normals: Float[np.ndarray, "*views size size 3"] | None = None

    @property
    def rgba(self) -> UInt8[np.ndarray, "*views size size 4"]:
        """Straight (not premultiplied) colour of the object alone, and opacity times 255."""
        color = self.foreground / np.maximum(self.opacity, 1e-6)[..., None]
        return to_uint8(np.concatenate([color, self.opacity[..., None]], axis=-1))


def to_uint8(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Values in [0, 1] times 255, rounded; values outside are clipped."""
    return np.round(values.clip(0, 1) * 255).astype(np.uint8)


def require_views(count: int, size: int, antialias: int) -> None:
    """Refuse views of one object that would not fit into the memory together.

    Raises:
        InputError: they would not.
    """
    require_memory(
        _BYTES_PER_VIEW * count
        + _BYTES_PER_PIXEL * count * size**2
        + _BYTES_PER_RAY * (size * antialias) ** 2,
        f"{count:,} views of {size:,} x {size:,} pixels (`size`) with {antialias} x {antialias} rays per pixel "
        "(`antialias`)",
    )


def render_views(
    model: Model,
    latents: Float[np.ndarray, "views latent"],
    intrinsics: Float[np.ndarray, "views 3 3"],
    cam_to_world: Float[np.ndarray, "views 4 4"],
    size: int,
    *,
    samples: int | None = None,
    antialias: int = 1,
    with_normals: bool = False,
    progress: Progress = silent,
) -> Views:
    """Render each latent code from its camera as a view of ``size`` x ``size`` pixels.

    Consecutive views of one latent code share what is computed once per object.

    Args:
        intrinsics: of views of ``size`` pixels.
        samples: of each ray that meets the object; by default 16, or 32 for the published network.
        antialias: rays per pixel along each axis, which are averaged.
        with_normals: also compute the surface's normals.

    Raises:
        InputError: ``size``, ``samples`` or ``antialias`` is out of range.
    """
    if size < 1:
        raise InputError(f"`size` has to be at least 1 pixel, not {size}")
    if antialias < 1:
        raise InputError(f"`antialias` has to be at least 1, not {antialias}")
    count = len(latents)
    require_views(count, size, antialias)
    if samples is None:
        samples = _SAMPLES[model.config.kind]
    centers = pixel_centers(size * antialias)
    fine = np.asarray(intrinsics) * np.array([[antialias], [antialias], [1.0]])
    color, foreground, normals = (np.zeros((count, size, size, 3), np.float32) for _ in range(3))
    opacity, depth = (np.zeros((count, size, size), np.float32) for _ in range(2))
    for view in range(count):
        if not view or not np.array_equal(latents[view], latents[view - 1]):
            renderer = ObjectRenderer(model, latents[view])
        origins, directions = pixel_rays(centers, fine[view], cam_to_world[view])
        rays = renderer.trace(origins, directions, samples=samples, with_normals=with_normals)
        along_axis = (directions @ optical_axis(cam_to_world[view])).astype(np.float32)
        pixels = _average(rays._replace(distance=rays.distance * along_axis), size, antialias)
        color[view], foreground[view], opacity[view], depth[view], normals[view] = pixels
        progress(view + 1, count)
    return Views(
        rgb=to_uint8(color),
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
    """Depth of each object's surface at pixels of its camera.

    Returns:
        Expected depth along the optical axis, world units; NaN where opacity is below 0.5 or the pixel is NaN.
    """
    depths = np.full(pixels.shape[:2], np.nan)
    for view, latent in enumerate(latents):
        known = np.flatnonzero(np.isfinite(pixels[view]).all(-1))
        origins, directions = pixel_rays(pixels[view, known], intrinsics[view], cam_to_world[view])
        rays = ObjectRenderer(model, latent).trace(origins, directions, samples=_SAMPLES[model.config.kind])
        depth = rays.distance * (directions @ optical_axis(cam_to_world[view]))
        depths[view, known] = np.where(rays.opacity >= 0.5, depth, np.nan)
    return depths


def _average(rays: RayValues, size: int, antialias: int) -> RayValues:
    """A raster of ``antialias`` x ``antialias`` rays per pixel as one of pixels.

    Distances and normals are averaged over the rays that met the object.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        shape = (size, antialias, size, antialias, *values.shape[1:])
        return values.reshape(shape).mean(axis=(1, 3))

    opacity = mean(rays.opacity)
    normals = mean(rays.normals)
    return RayValues(
        color=mean(rays.color),
        foreground=mean(rays.foreground),
        opacity=opacity,
        distance=mean(rays.opacity * rays.distance) / np.maximum(opacity, 1e-6),
        normals=normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9),
    )
