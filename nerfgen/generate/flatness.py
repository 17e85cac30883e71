"""Whether a model learned shapes or billboards: how thick the surfaces are that turned views show."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.field import Model
from nerfgen.generate.views import render_views
from nerfgen.geometry import pixel_centers, pixel_rays, turned_views

# Objects thinner than this share of their width are billboards: a head is about 0.35, a car 0.5.
FLAT = 0.12

_ROWS = 6
_YAWS = (-40.0, 0.0, 40.0)
_SIZE = 32


def flatness(model: Model) -> float:
    """Thickness of some training objects as a share of their width, median; about 0 for billboards.

    Surfaces are taken from the depth of views turned by up to 40 degrees. An object without any counts as 0.
    """
    rows = np.unique(np.linspace(0, len(model.images) - 1, _ROWS).astype(int))
    yaws = np.array(_YAWS)
    intrinsics, poses = turned_views(yaws, np.zeros(len(yaws)), model.distance, _SIZE)
    count = len(rows)
    views = render_views(
        model,
        np.repeat(model.latents[rows], len(yaws), axis=0),
        np.tile(intrinsics, (count, 1, 1)),
        np.tile(poses, (count, 1, 1)),
        _SIZE,
    )
    points = [
        surface_points(depth, *camera)
        for depth, camera in zip(
            views.depth,
            zip(np.tile(intrinsics, (count, 1, 1)), np.tile(poses, (count, 1, 1)), strict=True),
            strict=True,
        )
    ]
    per_object = (np.concatenate(points[k * len(yaws) : (k + 1) * len(yaws)]) for k in range(count))
    return float(np.median([thickness(some) for some in per_object]))


def surface_points(
    depth: Float[np.ndarray, "size size"],
    intrinsics: Float[np.ndarray, "3 3"],
    cam_to_world: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "points 3"]:
    """World points of a depth map (along the optical axis; 0 where there is no surface)."""
    origins, directions = pixel_rays(pixel_centers(len(depth)), intrinsics, cam_to_world)
    along = directions @ cam_to_world[:3, 2]
    points = origins + directions * (depth.reshape(-1) / along)[:, None]
    return points[depth.reshape(-1) > 0]


def thickness(points: Float[np.ndarray, "points 3"]) -> float:
    """Spread of points along their thinnest principal axis over that along the widest; 0 of fewer than four."""
    if len(points) < 4:
        return 0.0
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return float(spread[2] / spread[0])
