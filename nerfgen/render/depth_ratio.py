"""Whether a model learned shapes or billboards: the thickness of the surfaces that turned views show."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.geometry import pixel_centers, pixel_rays, turned_views
from nerfgen.model import Model
from nerfgen.render.views import render_views

# Objects thinner than this fraction of their width are billboards: a head has about 0.35, a car 0.5.
FLAT = 0.12

_ROWS = 6
_YAWS = (-40.0, 0.0, 40.0)
_SIZE = 32


def flatness(model: Model) -> float:
    """Median thickness of some training objects as a fraction of their width; about 0 for billboards.

    Surfaces come from the depth of views turned by up to 40 degrees. An object without a surface counts as 0.
    """
    rows = np.unique(np.linspace(0, len(model.images) - 1, _ROWS).astype(int))
    yaws = np.array(_YAWS)
    intrinsics, poses = turned_views(yaws, np.zeros(len(yaws)), model.distance, _SIZE)
    thicknesses = []
    for row in rows:
        latents = np.repeat(model.latents[row][None], len(yaws), axis=0)
        depth = render_views(model, latents, intrinsics, poses, _SIZE).depth
        points = [surface_points(*view) for view in zip(depth, intrinsics, poses, strict=True)]
        thicknesses.append(thickness(np.concatenate(points)))
    return float(np.median(thicknesses))


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
    """Spread along the narrowest principal axis over that along the widest; 0 for fewer than four points."""
    if len(points) < 4:
        return 0.0
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return float(spread[2] / spread[0])
