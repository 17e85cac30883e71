"""Views of a trained model: any latent code from any camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from nerfgen.errors import InputError
from nerfgen.geometry import optical_axis, pixel_centers, pixel_rays
from nerfgen.memory import require_memory
from nerfgen.model import Model
from nerfgen.parallel import Progress, Steps, in_turns, silent
from nerfgen.render.object_renderer import ObjectRenderer, RayValues
from nerfgen.render.settings import Kind

# Samples of a ray that meets the object. Planes are smooth: 16 come within about 50 dB of the limit of many samples.
# The published network is rough along the ray: 32 are nearer to that limit than 128 evenly spaced ones.
_SAMPLES = {"planes": 16, "mlp": 32}
# Camera and arrays of a view, and the rays that are traced for it.
_BYTES_PER_VIEW, _BYTES_PER_PIXEL, _BYTES_PER_RAY = 200, 80, 150
# Of views that are under way at a time.
_RAYS_TOGETHER = 1 << 17


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

    rgb: UInt8[np.ndarray, "*views height width 3"]
    foreground: Float[np.ndarray, "*views height width 3"]
    opacity: Float[np.ndarray, "*views height width"]
    depth: Float[np.ndarray, "*views height width"]
    normals: Float[np.ndarray, "*views height width 3"] | None = None

    @classmethod
    def empty(cls, count: int, size: int, *, with_normals: bool) -> Views:
        """Square views that show nothing, to be filled."""
        shape = (count, size, size)
        return cls(
            rgb=np.zeros((*shape, 3), np.uint8),
            foreground=np.zeros((*shape, 3), np.float32),
            opacity=np.zeros(shape, np.float32),
            depth=np.zeros(shape, np.float32),
            normals=np.zeros((*shape, 3), np.float32) if with_normals else None,
        )

    @property
    def rgba(self) -> UInt8[np.ndarray, "*views height width 4"]:
        """Straight (not premultiplied) colour of the object alone, and opacity times 255."""
        color = self.foreground / np.maximum(self.opacity, 1e-6)[..., None]
        return to_uint8(np.concatenate([color, self.opacity[..., None]], axis=-1))

    def over(self, colors: Float[np.ndarray, "*#views #height #width 3"]) -> Views:
        """The views with other colours in [0, 1] behind the objects."""
        rgb = to_uint8(self.foreground + (1 - self.opacity[..., None]) * colors)
        return replace(self, rgb=rgb)

    def of_kind(
        self, kind: Kind
    ) -> Shaped[np.ndarray, "*views height width"] | Shaped[np.ndarray, "*views height width channels"]:
        """Values of one kind as files hold them: opacity times 255, all others as they are here.

        Raises:
            InputError: normals, which were not requested.
        """
        if kind == "opacity":
            return to_uint8(self.opacity)
        values = getattr(self, kind)
        if values is None:
            raise InputError("normals were not rendered; render them with `with_normals`")
        return np.asarray(values)


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
        + _BYTES_PER_RAY * max((size * antialias) ** 2, _RAYS_TOGETHER),
        f"{count:,} views of {size:,} x {size:,} pixels (`size`) with {antialias} x {antialias} rays per pixel "
        "(`antialias`)",
    )


def samples_of(model: Model, samples: int | None = None) -> int:
    """Samples of a ray that meets an object of a model: the given number, or by default 16 (32 for the published
    network)."""
    return _SAMPLES[model.config.kind] if samples is None else samples


class Part(NamedTuple):
    """A rectangle of a view, pixels."""

    top: int
    left: int
    height: int
    width: int


def together(rays: int) -> int:
    """How many views of so many rays each may be under way at a time (:func:`nerfgen.parallel.in_turns`)."""
    return max(1, _RAYS_TOGETHER // rays)


def part_steps(
    renderer: ObjectRenderer,
    intrinsics: Float[np.ndarray, "3 3"],
    cam_to_world: Float[np.ndarray, "4 4"],
    part: Part,
    *,
    samples: int,
    antialias: int = 1,
    with_normals: bool = False,
) -> Steps[Views]:
    """Render a rectangle of one view of an object, in steps; all arrays of the result have the axes (line, column).

    Args:
        intrinsics: of the whole view, in its pixels.
        samples, antialias, with_normals: as of :func:`render_views`.

    Raises:
        InputError: ``samples`` or ``antialias`` is out of range.
    """
    if antialias < 1:
        raise InputError(f"`antialias` has to be at least 1, not {antialias}")
    height, width = part.height * antialias, part.width * antialias
    corner = np.array([part.left, part.top]) * antialias
    centers = pixel_centers(height, width) + corner
    fine = intrinsics * np.array([[antialias], [antialias], [1.0]])
    origins, directions = pixel_rays(centers, fine, cam_to_world)
    rays = yield from renderer.trace_steps(origins, directions, samples, with_normals)
    along_axis = (directions @ optical_axis(cam_to_world)).astype(np.float32)
    pixels = _average(rays._replace(distance=rays.distance * along_axis), part, antialias)
    solid = pixels.opacity >= 0.5
    return Views(
        rgb=to_uint8(pixels.color),
        foreground=pixels.foreground,
        opacity=pixels.opacity,
        depth=np.where(solid, pixels.distance, np.float32(0)),
        normals=np.where(solid[..., None], pixels.normals, np.float32(0)) if with_normals else None,
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
        samples: of each ray that meets the object, see :func:`samples_of`.
        antialias: rays per pixel along each axis, which are averaged.
        with_normals: also compute the surface's normals.

    Raises:
        InputError: ``size``, ``samples`` or ``antialias`` is out of range.
    """
    if size < 1:
        raise InputError(f"`size` has to be at least 1 pixel, not {size}")
    count = len(latents)
    require_views(count, size, max(antialias, 1))
    views = Views.empty(count, size, with_normals=with_normals)

    def tasks() -> Iterator[Steps[Views]]:
        for view in range(count):
            if not view or not np.array_equal(latents[view], latents[view - 1]):
                renderer = ObjectRenderer(model, latents[view])
            yield part_steps(
                renderer,
                np.asarray(intrinsics[view]),
                cam_to_world[view],
                Part(0, 0, size, size),
                samples=samples_of(model, samples),
                antialias=antialias,
                with_normals=with_normals,
            )

    for view, rendered in enumerate(in_turns(tasks(), together((size * max(antialias, 1)) ** 2))):
        for name, values in vars(rendered).items():
            if values is not None:
                getattr(views, name)[view] = values
        progress(view + 1, count)
    return views


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
        rays = ObjectRenderer(model, latent).trace(origins, directions, samples=samples_of(model))
        depth = rays.distance * (directions @ optical_axis(cam_to_world[view]))
        depths[view, known] = np.where(rays.opacity >= 0.5, depth, np.nan)
    return depths


def _average(rays: RayValues, part: Part, antialias: int) -> RayValues:
    """A raster of ``antialias`` x ``antialias`` rays per pixel as one of pixels.

    Distances and normals are averaged over the rays that met the object.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        shape = (part.height, antialias, part.width, antialias, *values.shape[1:])
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
