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


def training_non_flatness(model: Model) -> float:
    """Median :func:`non_flatness` of six training objects."""
    rows = np.unique(np.linspace(0, len(model.images) - 1, _ROWS).astype(int))
    return float(np.median(non_flatness(model, model.latents[rows])))


def non_flatness(model: Model, latents: Float[np.ndarray, "objects latent"]) -> Float[np.ndarray, "objects"]:
    """Thickness of each object as a fraction of its width: 0 for a plane, 0.5 for the visible half of a sphere.

    It is the :func:`thickness` of the surfaces that the depth of three views shows, turned by 40 degrees to either side
    and not. A tilted plane has none; an object without a surface counts as 0.
    """
    intrinsics, poses = turned_views(np.array(_YAWS), np.zeros(len(_YAWS)), model.distance, _SIZE)
    depth = render_views(
        model,
        np.repeat(latents, len(_YAWS), axis=0),
        np.tile(intrinsics, (len(latents), 1, 1)),
        np.tile(poses, (len(latents), 1, 1)),
        _SIZE,
    ).depth.reshape(len(latents), len(_YAWS), _SIZE, _SIZE)
    found = np.zeros(len(latents))
    for number, views in enumerate(depth):
        points = [surface_points(*view) for view in zip(views, intrinsics, poses, strict=True)]
        found[number] = thickness(np.concatenate(points))
    return found


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
