"""Pinhole cameras: projection, rays and square windows of an image.

Conventions, everywhere in nerfgen: cameras are OpenCV (x right, y down, z forward);
pixel coordinates are continuous with (0, 0) at the outer corner of the first pixel, so
that pixel centres lie at +0.5; ``cam_to_world`` maps camera to world coordinates; depth
is along the optical axis, in world units.

Every function takes numpy or JAX arrays, with any leading batch axes, and returns the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

Array = Any


# Converts OpenCV camera axes to OpenGL's (x right, y up, z backward) and back: pose @ OPENGL_AXES.
OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


class Cameras(NamedTuple):
    """Pinhole cameras of square images, independent of the images' size.

    Attributes:
        intrinsics: pinhole matrices of images of size 1.
        cam_to_world: poses.
    """

    intrinsics: Float[np.ndarray, "views 3 3"]
    cam_to_world: Float[np.ndarray, "views 4 4"]

    def matrices(self, size: int) -> Float[np.ndarray, "views 3 3"]:
        """Intrinsics of images of ``size`` x ``size`` pixels."""
        return self.intrinsics * np.array([[size], [size], [1.0]])


def array_namespace(*arrays: Array) -> ModuleType:
    """``jax.numpy`` if any argument is a JAX array or tracer, else ``numpy``."""
    for array in arrays:
        if not isinstance(array, np.ndarray) and hasattr(array, "__array_namespace__"):
            return array.__array_namespace__()
    return np


def matmul(
    left: Float[Array, "*#batch rows inner"], right: Float[Array, "*#batch inner columns"]
) -> Float[Array, "*batch rows columns"]:
    """Matrix product at full precision, on every device.

    The default precision of JAX rounds float32 factors to bfloat16 on TPUs and to TF32 on GPUs, which moves rays by
    more than a pixel.
    """
    xp = array_namespace(left, right)
    return left @ right if xp is np else xp.matmul(left, right, precision="highest")


def project(
    points: Float[Array, "*#batch points 3"],
    intrinsics: Float[Array, "*#batch 3 3"],
    cam_to_world: Float[Array, "*#batch 4 4"],
) -> tuple[Float[Array, "*batch points 2"], Float[Array, "*batch points"]]:
    """Pixel coordinates and depth of world points.

    Points at or behind the camera plane have depth <= 0 and meaningless pixels.
    """
    rotation = cam_to_world[..., :3, :3]
    local = matmul(points - cam_to_world[..., None, :3, 3], rotation)
    homogeneous = matmul(local, _transpose(intrinsics))
    return homogeneous[..., :2] / homogeneous[..., 2:], local[..., 2]


def evenly_chosen(
    values: Shaped[np.ndarray, "values *rest"], count: int = 48
) -> Shaped[np.ndarray, "chosen *rest"]:
    """At most ``count`` of the values, evenly spaced in their order; of points, the default determines a pose well."""
    return values[np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).astype(int))]


def keypoint_displacement(
    points: Float[Array, "points 3"],
    intrinsics: Float[Array, "*batch 3 3"],
    before: Float[Array, "*batch 4 4"],
    after: Float[Array, "*batch 4 4"],
) -> Float[Array, "*batch"]:
    """Mean squared displacement of the projections of world points when a camera moves, pixels^2.

    At a minimum of the mean squared reprojection error, this is how much that grows, to second order.
    """
    xp = array_namespace(intrinsics, before, after)
    points = xp.reshape(points, (*(1,) * (intrinsics.ndim - 2), *points.shape))
    (seen, _), (moved, _) = (project(points, intrinsics, pose) for pose in (before, after))
    return xp.mean(xp.sum((moved - seen) ** 2, axis=-1), axis=-1)


def pixel_rays(
    pixels: Float[Array, "*#batch pixels 2"],
    intrinsics: Float[Array, "*#batch 3 3"],
    cam_to_world: Float[Array, "*#batch 4 4"],
) -> tuple[Float[Array, "*batch pixels 3"], Float[Array, "*batch pixels 3"]]:
    """World-space origins and unit directions of the rays through ``pixels``.

    The inverse of :func:`project`: ``origin + t * direction`` projects to its pixel for all t > 0.
    Assumes no skew (intrinsics[0, 1] == 0).
    """
    xp = array_namespace(pixels, intrinsics, cam_to_world)
    focal = xp.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], axis=-1)
    plane = (pixels - intrinsics[..., None, :2, 2]) / focal[..., None, :]
    local = xp.concatenate([plane, xp.ones_like(plane[..., :1])], axis=-1)
    directions = matmul(local, _transpose(cam_to_world[..., :3, :3]))
    directions = directions / xp.linalg.norm(directions, axis=-1, keepdims=True)
    origins = xp.broadcast_to(cam_to_world[..., None, :3, 3], directions.shape)
    return origins, directions


def optical_axis(cam_to_world: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch 3"]:
    """Unit viewing direction in the world; ``depth = t * dot(direction, axis)`` along a ray."""
    return cam_to_world[..., :3, 2]


def pixel_centers(height: int, width: int | None = None) -> Float[np.ndarray, "pixels 2"]:
    """Centres (x, y) of a raster, row by row; square without ``width``."""
    rows, columns = np.mgrid[:height, : height if width is None else width]
    return np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5


def intrinsic_matrix(
    focal: Float[Array, "*batch"] | float, center: Float[Array, "*batch 2"] | Sequence[float]
) -> Float[np.ndarray, "*batch 3 3"]:
    """Pinhole matrix with square pixels; ``focal`` and ``center`` in pixels."""
    focal, center = np.asarray(focal, float), np.asarray(center, float)
    matrix = np.zeros((*focal.shape, 3, 3))
    matrix[..., 0, 0] = matrix[..., 1, 1] = focal
    matrix[..., :2, 2] = center
    matrix[..., 2, 2] = 1.0
    return matrix


def window_intrinsics(
    intrinsics: Float[Array, "*batch 3 3"], window: Float[Array, "*batch 3"], size: int
) -> Float[Array, "*batch 3 3"]:
    """Intrinsics of the ``size`` x ``size`` raster that a square window of an image is resampled to.

    ``window`` is (x0, y0, side) in pixels of the image: corner and side length.
    """
    xp = array_namespace(intrinsics, window)
    scale = size / window[..., 2]
    focal_and_center = (intrinsics[..., :2, :] - _window_shift(xp, window)) * scale[..., None, None]
    return xp.concatenate([focal_and_center, intrinsics[..., 2:, :]], axis=-2)


def sphere_window(
    intrinsics: Float[Array, "*batch 3 3"], cam_to_world: Float[Array, "*batch 4 4"], radius: float = 1.0
) -> Float[Array, "*batch 3"]:
    """The square window (x0, y0, side), in pixels of the image, that shows a sphere about the world origin.

    Centred on the projection of the origin; its half side is that of the sphere's outline on the
    optical axis, focal * r / sqrt(d^2 - r^2), with d the distance of the camera (at least 1.05 r).
    """
    xp = array_namespace(intrinsics, cam_to_world)
    origin = xp.zeros_like(cam_to_world[..., :1, :3])
    center, _ = project(origin, intrinsics, cam_to_world)
    distance = xp.linalg.norm(cam_to_world[..., :3, 3], axis=-1)
    distance = xp.maximum(distance, 1.05 * radius)
    half = intrinsics[..., 0, 0] * radius / xp.sqrt(distance**2 - radius**2)
    return xp.stack([center[..., 0, 0] - half, center[..., 0, 1] - half, 2 * half], axis=-1)


def _window_shift(xp: ModuleType, window: Array) -> Array:
    zero = xp.zeros_like(window[..., 0])
    return xp.stack(
        [xp.stack([zero, zero, window[..., 0]], -1), xp.stack([zero, zero, window[..., 1]], -1)], -2
    )


def _transpose(matrix: Array) -> Array:
    return array_namespace(matrix).swapaxes(matrix, -1, -2)
